//! The tasks of runs that wait to land on a target beside its branches. Who drives their run lands them.

use std::collections::HashSet;

use anyhow::Result;
use serde_json::{Value, json};

use crate::ambient;
use crate::commands::workspace;
use crate::domain::id::{Oid, RunId, TaskId, Timestamp};
use crate::domain::state::Phase;
use crate::engine::queue::{Now, now_of_run};
use crate::store::Store;
use crate::ui::human;

/// One of them.
#[derive(Debug)]
pub(super) struct WaitingTask {
    run: RunId,
    task: TaskId,
    /// Whether it is not for the checks but for a person.
    reviewing: bool,
    /// Whether a keeper is judging it as it would land.
    verifying: bool,
    commit: Oid,
    since: Timestamp,
    /// Who drives the run.
    driver: Option<String>,
}

/// All of a target, run by run, in the order in which they came; and what is being verified of that.
pub(super) fn waiting(store: &Store, target: &str) -> Result<(Vec<WaitingTask>, Vec<Now>)> {
    let (mut found, mut now) = (Vec::new(), Vec::new());
    for run in store.runs()? {
        if store.manifest(&run)?.is_none_or(|(manifest, _)| manifest.target != target) {
            continue;
        }
        let Some(loaded) = store.load_cached(&run)? else { continue };
        let driver = workspace::driver(store, &run);
        let at_work = now_of_run(store, &run);
        let verifying: HashSet<&str> =
            at_work.iter().flat_map(|now| &now.entries).map(String::as_str).collect();
        let mut of_run: Vec<WaitingTask> = Vec::new();
        for (task, state) in &loaded.ledger.state.tasks {
            let waits = matches!(state.phase, Phase::Queued | Phase::Reviewing);
            if let Some(candidate) = state.candidate.as_ref().filter(|_| waits) {
                of_run.push(WaitingTask {
                    run: run.clone(),
                    task: task.clone(),
                    reviewing: state.phase == Phase::Reviewing,
                    verifying: verifying.contains(format!("{run}/{task}").as_str()),
                    commit: candidate.commit.clone(),
                    since: state.at,
                    driver: driver.clone(),
                });
            }
        }
        of_run.sort_by_key(|one| one.since);
        found.extend(of_run);
        now.extend(at_work);
    }
    Ok((found, now))
}

impl WaitingTask {
    fn state(&self) -> &'static str {
        match (self.reviewing, self.verifying) {
            (true, _) => Phase::Reviewing.as_str(),
            (false, true) => Phase::Verifying.as_str(),
            (false, false) => Phase::Queued.as_str(),
        }
    }

    /// For `--json`.
    pub(super) fn json(&self) -> Value {
        json!({
            "run": self.run.as_str(), "task": self.task.as_str(), "state": self.state(), "commit": self.commit.as_str(),
            "since": self.since.0, "driver": self.driver,
        })
    }

    /// A row of the table.
    pub(super) fn cells(&self) -> Vec<String> {
        vec![
            String::new(),
            format!("{}/{}", self.run, self.task),
            self.commit.short().to_owned(),
            self.state().to_owned(),
            human::duration(ambient::now().since_ms(self.since)),
            String::new(),
            String::new(),
        ]
    }
}

/// How many wait, and what to do where nobody lands them.
pub(super) fn summary_lines(waiting: &[WaitingTask]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut runs: Vec<&RunId> = waiting.iter().map(|one| &one.run).collect();
    runs.dedup();
    for run in runs {
        let of_run = || waiting.iter().filter(|one| one.run == *run);
        let tasks = human::number(of_run().count(), "task");
        lines.push(match of_run().find_map(|one| one.driver.as_ref()) {
            Some(driver) => format!("{tasks} of the run `{run}`, which {driver} lands"),
            None => {
                format!(
                    "{tasks} of the run `{run}`, which nobody drives: `git harness start` goes on"
                )
            }
        });
    }
    lines
}
