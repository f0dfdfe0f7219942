//! Failed tasks: the halt on too many failures, and redispatch.

use std::collections::BTreeMap;

use super::blocked::at_rest;
use super::decider::Decider;
use crate::domain::event::{Halt, TaskEventKind};
use crate::domain::id::TaskId;
use crate::domain::retry::{Policy, RetryReason, Share};
use crate::domain::session::Class;
use crate::domain::state::{Phase, RunPhase, RunState, TaskState};

/// The number of failures with the same cause that halts a run in which no task has landed.
const PATTERN_FAILURES: usize = 3;

/// Failed tasks with the same cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureGroup {
    /// The cause: failed checks, or a session class.
    pub cause: String,
    /// The tasks, in plan order.
    pub tasks: Vec<TaskId>,
}

/// Returns the failed tasks grouped by cause, the largest group first.
pub fn failure_groups(state: &RunState) -> Vec<FailureGroup> {
    let mut groups: BTreeMap<&str, Vec<TaskId>> = BTreeMap::new();
    for (task, s) in state.tasks.in_phase(&Phase::Failed) {
        let cause = s.cause.as_deref().unwrap_or("of an unknown kind");
        groups.entry(cause).or_default().push(task.clone());
    }
    let group = |(cause, tasks): (&str, _)| FailureGroup { cause: cause.to_owned(), tasks };
    let mut groups: Vec<FailureGroup> = groups.into_iter().map(group).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.tasks.len()));
    groups
}

/// Returns the failed tasks that the outer layer redispatches: those with redispatches and budget
/// left, once no task is under way or can start, if only a small share of the tasks has failed.
pub(super) fn redispatchable<'a>(
    state: &'a RunState,
    policy: &'a Policy,
) -> impl Iterator<Item = &'a TaskId> {
    let (failed, done) = (state.count(&Phase::Failed), state.count(&Phase::Done));
    let due = state.phase == RunPhase::Active
        && failed > 0
        && at_rest(state, policy)
        && !policy.redispatch_below.exceeded(failed, done + failed);
    // A task that exceeds the context window would exceed it again.
    let hopeless = Class::ContextExceeded.as_str();
    let worthwhile = move |s: &TaskState| {
        s.redispatches < policy.redispatch
            && s.cause.as_deref() != Some(hopeless)
            && policy.over_task_budget(&s.charged()).is_none()
    };
    let failed = due.then(|| state.tasks.in_phase(&Phase::Failed)).into_iter().flatten();
    failed.filter(move |(task, s)| policy.chooses(task) && worthwhile(s)).map(|(task, _)| task)
}

impl Decider<'_> {
    /// Fails a task. Halts the run if this is one failure too many.
    pub(super) fn fail_task(&mut self, task: &TaskId, reason: String, cause: String) {
        self.emit_task(
            task,
            TaskEventKind::Failed { reason: reason.clone(), cause: cause.clone() },
        );
        // A limit of 100 % turns the halt off. A run without other open tasks has nothing to stop.
        let may_halt = self.policy.halt_above < Share(1_000_000);
        let this = self.state.tasks.get(task).is_some_and(|s| !s.phase.ended());
        let open = self.state.tasks.len() - self.state.tasks.count_ended() > usize::from(this);
        if may_halt
            && open
            && self.state.phase == RunPhase::Active
            && let Some(reason) = self.too_many_failures(task, &reason, &cause)
        {
            self.halt(Halt::Failures, reason);
        }
    }

    /// Returns the reason to halt, if the failure of `task` is one too many.
    fn too_many_failures(&self, task: &TaskId, reason: &str, cause: &str) -> Option<String> {
        let state = self.state;
        let baseline = state.baseline;
        let done = state.count(&Phase::Done).saturating_sub(baseline.done as usize);
        let failed = (state.count(&Phase::Failed) + 1).saturating_sub(baseline.failed as usize);
        if state.canary && done == 0 {
            let task = state.tasks.label(task);
            return Some(format!("the task that went first failed, too ({task}): {reason}"));
        }
        let same_cause = state.tasks.failed_by(cause) + 1;
        if done == 0 && failed >= PATTERN_FAILURES && baseline.failed == 0 && same_cause == failed {
            return Some(format!(
                "the first {failed} tasks that ended all failed in the same way ({cause})"
            ));
        }
        let ended = done + failed;
        (ended >= self.policy.halt_after && self.policy.halt_above.exceeded(failed, ended)).then(
            || {
                let task = state.tasks.label(task);
                format!("{failed} of {ended} tasks that ended have failed, last {task}: {reason}")
            },
        )
    }

    pub(super) fn redispatch_failed(&mut self) {
        for task in redispatchable(self.state, self.policy) {
            self.retry(task, RetryReason::Redispatch, self.now, None);
        }
    }
}
