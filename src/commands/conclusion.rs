//! The end of `start`: prints why the run stopped and what helps next.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::domain::event::Halt;
use crate::domain::id::TaskId;
use crate::domain::machine::blocked;
use crate::domain::run_wait::{RunFacts, RunWait};
use crate::domain::state::{Phase, RunState};
use crate::engine::RunExit;
use crate::error;
use crate::store::Store;
use crate::ui::outlook::{Outlook, RunNaming};
use crate::ui::{Ui, human};

/// The number of failed tasks that are listed when a run ends.
const LISTED_FAILURES: usize = 10;

/// Returns the facts about a run that has just stopped.
pub(super) fn facts(
    store: &Store,
    state: &RunState,
    naming: &RunNaming,
    stopped: &RunExit,
) -> Result<RunFacts> {
    let mut facts = RunFacts::default();
    if let RunExit::Person(why) = stopped
        && state.count(&Phase::Queued) > 0
    {
        let problem = super::queue::problem(store, &naming.target)?;
        facts.queue_paused = problem.is_some_and(|problem| problem.paused);
        facts.landing = Some(why.clone());
    }
    Ok(facts)
}

/// The end of a supervisor's work on a run.
#[derive(Debug)]
pub(super) struct RunConclusion<'a> {
    pub state: &'a RunState,
    pub facts: &'a RunFacts,
    pub naming: &'a RunNaming,
}

impl RunConclusion<'_> {
    fn outlook(&self) -> Outlook {
        Outlook::new(self.state, self.facts, self.naming)
    }

    /// Prints why the run stopped and returns the exit code. With `only`, the run stops when these
    /// tasks have ended.
    pub(super) fn conclude(&self, stopped: &RunExit, only: &BTreeSet<TaskId>, ui: &Ui) -> u8 {
        let (state, run) = (self.state, &self.state.id);
        ui.message(&format!("run {run}: {}", human::counts(state)));
        match stopped {
            RunExit::Ended => {
                for (task, s) in state.tasks.in_phase(&Phase::Failed).take(LISTED_FAILURES) {
                    let reason = s.reason.as_deref().unwrap_or("");
                    ui.message(&format!("failed: {}: {reason}", state.tasks.label(task)));
                }
                if state.count(&Phase::Failed) > 0 {
                    ui.message(&format!("hint: see why with `git harness show {run}/TASK`"));
                }
                if state.ended() {
                    ui.message(&self.outlook().next());
                }
                let chosen = |task: &TaskId| only.is_empty() || only.contains(task);
                let failed = state.tasks.in_phase(&Phase::Failed).any(|(task, _)| chosen(task));
                if failed { error::INCOMPLETE } else { error::OK }
            }
            RunExit::Blocked => {
                for line in human::blocked(state) {
                    ui.message(&line);
                }
                if blocked(state).is_empty() {
                    ui.message("the remaining tasks wait for tasks that `--only` leaves out");
                } else {
                    ui.message(
                        "hint: `git harness start --keep-going` starts the blocked tasks anyway",
                    );
                    ui.message(&self.outlook().next());
                }
                error::INCOMPLETE
            }
            RunExit::Person(why) => self.report_needs_person(why, ui),
            RunExit::Later => error::NEEDS_PERSON,
            RunExit::Interrupted(signal) => {
                ui.message("interrupted; `git harness start` continues the run");
                error::interrupted(*signal)
            }
        }
    }

    /// Prints why the run needs a person. `why` is the reason of the supervisor.
    pub(super) fn report_needs_person(&self, why: &str, ui: &Ui) -> u8 {
        let outlook = self.outlook();
        ui.message(&match outlook.wait {
            RunWait::Paused { .. } => outlook.line.clone(),
            RunWait::Review { .. } => format!("stopped for a person: {}", outlook.line),
            RunWait::Cancelled { .. }
            | RunWait::Ended { .. }
            | RunWait::Halted { .. }
            | RunWait::Draining { .. }
            | RunWait::Blocked { .. }
            | RunWait::Landing { .. }
            | RunWait::Disk { .. }
            | RunWait::Account { .. }
            | RunWait::Supervisor { .. }
            | RunWait::Poll { .. }
            | RunWait::Canary
            | RunWait::Work => format!("stopped for a person: {why}"),
        });
        if self.state.halt == Some(Halt::Failures) {
            for line in human::failures(self.state) {
                ui.message(&line);
            }
            ui.message(
                "hint: change the job and run `git harness start`, or run `git harness start --force`; one task is tried \
                 first",
            );
        }
        ui.message(&outlook.next());
        error::NEEDS_PERSON
    }
}
