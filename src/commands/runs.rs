//! `runs`: list the runs of the repository, the newest last.

use std::path::Path;

use anyhow::Result;

use super::workspace;
use crate::ambient;
use crate::cli::RunsArgs;
use crate::domain::id::{RunId, Timestamp};
use crate::domain::state::{Phase, RunState};
use crate::error;
use crate::store::{Store, layout};
use crate::ui::{Ui, human, printable, table};
use crate::wire::cli;

/// A run of the list.
struct ListedRun {
    job: String,
    target: String,
    created_at: Timestamp,
    /// The supervisor, as `host/pid`.
    driver: Option<String>,
    state: RunState,
}

/// `git harness runs`
pub(super) fn run(here: &Path, args: &RunsArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_read_only(here)?;
    let mut runs = Vec::new();
    for run in store.runs()? {
        runs.extend(ListedRun::read(&store, &run)?);
    }
    runs.sort_by_key(|run| run.created_at);
    if args.json {
        let runs = runs.iter().map(ListedRun::wire).collect();
        ui.json(&cli::RunList { v: cli::Version, runs })?;
    } else if args.porcelain {
        ui.result(&runs.iter().map(ListedRun::porcelain).collect::<String>());
    } else if runs.is_empty() {
        ui.status("no run yet: `git harness start` makes one");
    } else {
        let header = ["RUN", "STATE", "DONE", "FAILED", "AGE", "TARGET", "SUPERVISOR"];
        let mut rows = vec![header.map(String::from).to_vec()];
        rows.extend(runs.iter().map(ListedRun::cells));
        ui.result(&printable(&table::columns(&rows)));
    }
    Ok(error::OK)
}

impl ListedRun {
    fn read(store: &Store, run: &RunId) -> Result<Option<Self>> {
        let Some(loaded) = store.load_cached(run)? else { return Ok(None) };
        Ok(Some(Self {
            job: loaded.manifest.job,
            target: loaded.manifest.target,
            created_at: store.run_created(run)?,
            driver: workspace::supervisor_of(store, run),
            state: loaded.ledger.state,
        }))
    }

    /// Converts the run for `--json`.
    fn wire(&self) -> cli::RunLine<'_> {
        cli::RunLine {
            run: self.state.id.as_str(),
            job: &self.job,
            state: self.state.summary(),
            driver: self.driver.as_deref(),
            target: &self.target,
            created_at: self.created_at.0,
            tasks: self.state.tasks.len(),
            done: self.state.count(&Phase::Done),
            failed: self.state.count(&Phase::Failed),
            skipped: self.state.count(&Phase::Skipped),
        }
    }

    /// Formats the run in the stable format for scripts.
    fn porcelain(&self) -> String {
        let line = self.wire();
        let (run, state, target) = (line.run, line.state, line.target);
        format!("{run} {state} {} {} {target}\n", line.done, line.tasks)
    }

    /// Returns the run's row in the table.
    fn cells(&self) -> Vec<String> {
        let line = self.wire();
        vec![
            line.run.to_owned(),
            line.state.to_owned(),
            format!("{}/{}", line.done, line.tasks),
            line.failed.to_string(),
            human::duration(ambient::now().since_ms(self.created_at)),
            layout::short(line.target).to_owned(),
            line.driver.unwrap_or("-").to_owned(),
        ]
    }
}
