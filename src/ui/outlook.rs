//! The wait of a run and the next command that helps, for people and for `--json`.

use super::human;
use crate::ambient;
use crate::domain::id::TaskId;
use crate::domain::run_wait::{NextStep, RunFacts, RunWait, next_step, run_wait};
use crate::domain::shell::shell_quote;
use crate::domain::state::RunState;
use crate::store::layout;
use crate::wire::cli;

/// Facts that decide how a command has to name a run and its target.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunNaming {
    /// True if the repository has no other run, so that commands need not name this one.
    pub is_only_run: bool,
    /// True if `git harness start` without a job continues the run.
    pub is_default_job: bool,
    /// The full name of the target.
    pub target: String,
    /// True if the run created its target, which then waits to be merged.
    pub owns_target: bool,
    /// True if the tasks hand in files.
    pub hands_in: bool,
}

/// The wait of a run, and the next command.
#[derive(Debug)]
pub(crate) struct Outlook {
    pub wait: RunWait,
    /// The wait, as one line.
    pub line: String,
    /// The word for the next command in JSON.
    pub code: &'static str,
    pub command: String,
}

impl Outlook {
    /// Describes a run.
    pub(crate) fn new(state: &RunState, facts: &RunFacts, naming: &RunNaming) -> Self {
        let wait = run_wait(state, facts);
        let step = next_step(state, &wait, facts);
        let (code, command) = naming.command(state, &step);
        Self { line: line(&wait), wait, code, command }
    }

    /// Returns the last line for people.
    pub(crate) fn next(&self) -> String {
        format!("next: {}", self.command)
    }

    /// Returns the reason why a person is needed, for JSON.
    pub(crate) fn reason<'a>(&'a self, state: &'a RunState) -> Option<&'a str> {
        match self.wait {
            RunWait::Review { .. }
            | RunWait::Blocked { .. }
            | RunWait::Landing { .. }
            | RunWait::Disk { .. } => Some(&self.line),
            RunWait::Cancelled { .. }
            | RunWait::Ended { .. }
            | RunWait::Halted { .. }
            | RunWait::Paused { .. }
            | RunWait::Draining { .. }
            | RunWait::Account { .. }
            | RunWait::Supervisor { .. }
            | RunWait::Poll { .. }
            | RunWait::Canary
            | RunWait::Work => state.reason.as_deref(),
        }
    }

    /// Converts the wait for `--json`.
    pub(crate) fn waits_for(&self) -> cli::WaitsFor<'_> {
        cli::WaitsFor { code: self.wait.code(), text: &self.line }
    }

    /// Converts the next command for `--json`.
    pub(crate) fn next_action(&self) -> cli::NextAction<'_> {
        cli::NextAction { code: self.code, command: &self.command }
    }
}

/// Describes a wait on one line.
fn line(wait: &RunWait) -> String {
    let attempts = |n: usize| human::number(n, "attempt");
    match wait {
        RunWait::Cancelled { running: 0 } => "cancelled; nothing starts any more".into(),
        RunWait::Cancelled { running } => {
            format!("cancelled; {} still running", attempts(*running))
        }
        RunWait::Ended { failed: 0 } => "every task has ended".into(),
        RunWait::Ended { failed } => {
            format!("every task has ended; {} failed", human::number(*failed, "task"))
        }
        RunWait::Halted { reason, .. } => format!("halted: {reason}"),
        RunWait::Paused { begun: false, .. } => "not begun: made with `--paused`".into(),
        RunWait::Paused { begun: true, reason } => format!("paused by {reason}"),
        RunWait::Draining { running } => {
            format!("stopping after {}; nothing new starts", attempts(*running))
        }
        RunWait::Review { candidates: 1 } => "1 candidate waits for a review".into(),
        RunWait::Review { candidates } => format!("{candidates} candidates wait for a review"),
        RunWait::Blocked { tasks, causes } => format!(
            "{} blocked by {} that failed or {} skipped",
            human::number(*tasks, "task"),
            human::number(*causes, "task"),
            if *causes == 1 { "was" } else { "were" }
        ),
        RunWait::Landing { reason } | RunWait::Disk { reason } => reason.clone(),
        RunWait::Account { until, because } => {
            let left = human::duration(until.since_ms(ambient::now()));
            let until = human::moment(*until);
            format!("no agent starts before {until} UTC (in {left}): {because}")
        }
        RunWait::Supervisor { running: 0 } => "no supervisor works on the run".into(),
        RunWait::Supervisor { running } => {
            format!("no supervisor works on the run; {} may still run", attempts(*running))
        }
        RunWait::Poll { last } => {
            format!("last polled {} ago", human::duration(ambient::now().since_ms(*last)))
        }
        RunWait::Canary => "one task runs first; the others start when it lands".into(),
        RunWait::Work => "work is under way".into(),
    }
}

impl RunNaming {
    /// Returns the command for a step, with its word in JSON.
    fn command(&self, state: &RunState, step: &NextStep) -> (&'static str, String) {
        let run = |before: &str| match self.is_only_run {
            true => String::new(),
            false => format!(" {before}{}", state.id),
        };
        let start = || match self.is_only_run && self.is_default_job {
            true => String::new(),
            false => format!(" --run {}", state.id),
        };
        let task = |task: &TaskId| {
            let label = state.tasks.label(task);
            let prefix = if self.is_only_run { String::new() } else { format!("{}/", state.id) };
            shell_quote(&format!("{prefix}{label}"))
        };
        let target = layout::short(&self.target);
        let (code, arguments) = match step {
            NextStep::Review(None) => ("review", format!("review{}", run("--run "))),
            NextStep::Review(Some(id)) => ("review", format!("review {}", task(id))),
            NextStep::Show(id) => ("show", format!("show {}", task(id))),
            NextStep::Start => ("start", format!("start{}", start())),
            NextStep::KeepGoing => ("keep-going", format!("start{} --keep-going", start())),
            NextStep::RetryFailed => ("retry", format!("retry --failed{}", run("--run "))),
            NextStep::ResumeQueue => {
                ("resume-queue", format!("queue resume --target {}", shell_quote(target)))
            }
            NextStep::Accounts => ("accounts", "accounts".to_owned()),
            NextStep::Poll => ("poll", format!("poll{}", run(""))),
            NextStep::Watch => ("watch", format!("status --watch{}", run(""))),
            NextStep::Finish if self.hands_in => ("collect", format!("collect{}", run(""))),
            NextStep::Finish if self.owns_target => {
                return ("merge", format!("git merge {}", shell_quote(target)));
            }
            NextStep::Sweep | NextStep::Finish => ("sweep", format!("sweep{}", run(""))),
        };
        (code, format!("git harness {arguments}"))
    }
}
