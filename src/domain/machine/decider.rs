//! The context of one decision: the state, the policy, and the events decided so far.

use crate::domain::event::{Halt, RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use crate::domain::id::{Oid, TaskId, Timestamp};
use crate::domain::retry::{Policy, RetryReason, backoff_ms};
use crate::domain::state::{Phase, RunPhase, RunState, TaskState};

/// An event with the chain that it belongs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// An event for the run's chain.
    Run(RunEvent),
    /// An event for a task's chain.
    Task(TaskId, TaskEvent),
}

/// The context of one call of [`decide`](super::decide).
pub(super) struct Decider<'a> {
    pub state: &'a RunState,
    pub now: Timestamp,
    pub policy: &'a Policy,
    pub decisions: Vec<Decision>,
}

impl Decider<'_> {
    pub(super) fn emit_task(&mut self, task: &TaskId, kind: TaskEventKind) {
        self.decisions.push(Decision::Task(task.clone(), TaskEvent { at: self.now, kind }));
    }

    pub(super) fn emit_run(&mut self, kind: RunEventKind) {
        self.decisions.push(Decision::Run(RunEvent { at: self.now, kind }));
    }

    pub(super) fn halt(&mut self, halt: Halt, reason: String) {
        self.emit_run(RunEventKind::Halted { halt, reason });
    }

    /// Returns the task's state if this attempt is running.
    pub(super) fn running(&self, task: &TaskId, attempt: u32) -> Option<TaskState> {
        let state = self.state.tasks.get(task)?;
        (state.phase == Phase::Running && state.attempt == attempt).then(|| state.clone())
    }

    /// Returns the task's state if this candidate waits to land.
    pub(super) fn queued(&self, task: &TaskId, candidate: &Oid) -> Option<TaskState> {
        let state = self.state.tasks.get(task)?;
        let same = state.candidate.as_ref().is_some_and(|c| c.commit == *candidate);
        (state.phase == Phase::Queued && same).then(|| state.clone())
    }

    /// Returns true if a verdict may count now. Nothing is verified during the pause after a fault,
    /// so a verdict that arrives then is older than the fault.
    pub(super) fn due(&self, state: &TaskState) -> bool {
        state.not_before <= self.now
    }

    /// Schedules another try. The task's budget is not checked.
    pub(super) fn retry(
        &mut self,
        task: &TaskId,
        reason: RetryReason,
        not_before: Timestamp,
        because: Option<String>,
    ) {
        self.emit_task(task, TaskEventKind::Retried { reason, not_before, because });
    }

    /// Schedules another try if the task's budget allows one. Fails the task otherwise.
    pub(super) fn next_try(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        reason: RetryReason,
        not_before: Timestamp,
        because: Option<String>,
    ) {
        match self.policy.over_task_budget(&state.charged()) {
            None => self.retry(task, reason, not_before, because),
            Some(over) => {
                let reason = match because {
                    None => over,
                    Some(because) => format!("{over}, and the task needs another try: {because}"),
                };
                self.fail_task(task, reason, "over its budget".into());
            }
        }
    }

    /// Handles an infrastructure fault: repeats the verification or the attempt after a pause.
    /// Fails the task after too many consecutive faults.
    pub(super) fn fault(&mut self, task: &TaskId, state: &TaskState, because: &str) {
        let fault = state.faults + 1;
        if fault > self.policy.infra {
            let reason = match fault {
                1 => format!("infrastructure: {because}"),
                _ => format!("infrastructure, {fault} times in a row: {because}"),
            };
            self.fail_task(task, reason, "infrastructure".into());
            return;
        }
        let not_before = self.now.after_ms(backoff_ms(fault));
        let because = Some(because.to_owned());
        match state.phase {
            // A repeated verification costs no session.
            Phase::Verifying | Phase::Queued => {
                self.retry(task, RetryReason::Infra, not_before, because);
            }
            Phase::Todo
            | Phase::Running
            | Phase::Reviewing
            | Phase::Done
            | Phase::Failed
            | Phase::Skipped => {
                self.next_try(task, state, RetryReason::Infra, not_before, because);
            }
        }
    }

    /// Halts the run if the session that just ended used up a budget of the run. `after` is the
    /// task's state after the session.
    pub(super) fn enforce_budget(&mut self, task: &TaskId, after: &TaskState) {
        let over = self.policy.over_budget(&self.state.tasks.spend_with(task, after));
        if let (Some(over), RunPhase::Active) = (over, &self.state.phase) {
            self.halt(Halt::Budget, budget_reason(&over));
        }
    }
}

/// Returns the reason for a halt on a used-up budget.
pub(super) fn budget_reason(over: &str) -> String {
    format!("{over}; raise it in the job file and `git harness start` again")
}

/// Adds the last lines of an agent's standard error to the text of a finding.
pub(super) fn with_stderr(text: String, stderr: Option<&str>) -> String {
    match stderr {
        Some(lines) => format!("{text}\n\nThe last lines of its standard error:\n{lines}"),
        None => text,
    }
}
