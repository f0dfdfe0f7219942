//! Tasks of runs that wait to land on the target of a queue. The supervisor of a run lands its
//! tasks.

use std::collections::HashSet;

use anyhow::Result;

use crate::ambient;
use crate::commands::workspace;
use crate::domain::id::{Oid, RunId, TaskId, Timestamp};
use crate::domain::shell::shell_quote;
use crate::domain::state::Phase;
use crate::engine::queue::status::ActiveVerification;
use crate::store::Store;
use crate::ui::human;
use crate::wire::cli;

/// A task that waits to land.
#[derive(Debug)]
pub(super) struct WaitingTask {
    run: RunId,
    task: TaskId,
    /// The task's name for people.
    label: String,
    /// True if the task waits for a review.
    reviewing: bool,
    /// True if a keeper verifies the task on the merged tree.
    verifying: bool,
    commit: Oid,
    since: Timestamp,
    /// The run's supervisor, as `host/pid`.
    driver: Option<String>,
}

/// Returns the tasks that wait for a target, by run and then by the start of their wait.
pub(super) fn waiting(
    store: &Store,
    target: &str,
    active: &[ActiveVerification],
) -> Result<Vec<WaitingTask>> {
    let verifying: HashSet<&str> =
        active.iter().flat_map(|work| &work.tasks).map(String::as_str).collect();
    let mut waiting = Vec::new();
    for run in store.runs()? {
        if store.manifest(&run)?.is_none_or(|(manifest, _)| manifest.target != target) {
            continue;
        }
        let Some(loaded) = store.load_cached(&run)? else { continue };
        let driver = workspace::supervisor_of(store, &run);
        let mut of_run: Vec<WaitingTask> = Vec::new();
        for (task, state) in loaded.ledger.state.tasks.iter() {
            let waits = matches!(state.phase, Phase::Queued | Phase::Reviewing);
            if let Some(candidate) = state.candidate.as_ref().filter(|_| waits) {
                of_run.push(WaitingTask {
                    run: run.clone(),
                    task: task.clone(),
                    label: loaded.ledger.state.tasks.label(task),
                    reviewing: state.phase == Phase::Reviewing,
                    verifying: verifying.contains(format!("{run}/{task}").as_str()),
                    commit: candidate.commit.clone(),
                    since: state.at,
                    driver: driver.clone(),
                });
            }
        }
        of_run.sort_by_key(|task| task.since);
        waiting.extend(of_run);
    }
    Ok(waiting)
}

impl WaitingTask {
    fn state(&self) -> &'static str {
        match (self.reviewing, self.verifying) {
            (true, _) => Phase::Reviewing.as_str(),
            (false, true) => Phase::Verifying.as_str(),
            (false, false) => Phase::Queued.as_str(),
        }
    }

    /// Returns the next command that helps: a review, a supervisor, or a look at the run.
    pub(super) fn next(&self) -> (&'static str, String) {
        match (self.reviewing, &self.driver) {
            (true, _) => {
                let name = shell_quote(&format!("{}/{}", self.run, self.label));
                ("review", format!("git harness review {name}"))
            }
            (false, None) => ("start", format!("git harness start --run {}", self.run)),
            (false, Some(_)) => ("watch", format!("git harness status --watch {}", self.run)),
        }
    }

    /// Converts the task for `--json`.
    pub(super) fn wire(&self) -> cli::QueuedTask<'_> {
        cli::QueuedTask {
            run: self.run.as_str(),
            task: self.task.as_str(),
            state: self.state(),
            commit: self.commit.as_str(),
            since: self.since.0,
            driver: self.driver.as_deref(),
        }
    }

    /// Returns the task's row in the table.
    pub(super) fn cells(&self) -> Vec<String> {
        vec![
            String::new(),
            format!("{}/{}", self.run, self.label),
            self.commit.short().to_owned(),
            self.state().to_owned(),
            human::duration(ambient::now().since_ms(self.since)),
            String::new(),
            String::new(),
        ]
    }
}

/// Returns a line for each run: the number of waiting tasks, and the supervisor that lands them.
pub(super) fn summary_lines(waiting: &[WaitingTask]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut runs: Vec<&RunId> = waiting.iter().map(|task| &task.run).collect();
    runs.dedup();
    for run in runs {
        let of_run = || waiting.iter().filter(|task| task.run == *run);
        let tasks = human::number(of_run().count(), "task");
        lines.push(match of_run().find_map(|task| task.driver.as_ref()) {
            Some(driver) => format!("{tasks} of the run `{run}`, landed by its supervisor {driver}"),
            None => {
                format!(
                    "{tasks} of the run `{run}`, which has no supervisor: `git harness start` continues it"
                )
            }
        });
    }
    lines
}
