//! Failed tasks: when they halt the run, and which of them are redispatched.

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
    if state.count(&Phase::Failed) == 0 {
        return Vec::new();
    }
    for task in &state.plan.tasks {
        if let Some(s) = state.tasks.get(&task.id).filter(|s| s.phase == Phase::Failed) {
            let cause = s.cause.as_deref().unwrap_or("of an unknown kind");
            groups.entry(cause).or_default().push(task.id.clone());
        }
    }
    let group = |(cause, tasks): (&str, _)| FailureGroup { cause: cause.to_owned(), tasks };
    let mut groups: Vec<FailureGroup> = groups.into_iter().map(group).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.tasks.len()));
    groups
}

/// Returns the failed tasks that the outer layer redispatches. Tasks are redispatched once no task
/// is under way or can start, if only a small share has failed and they have redispatches and
/// budget left.
pub(super) fn redispatchable(state: &RunState, policy: &Policy) -> Vec<TaskId> {
    if state.phase != RunPhase::Active || !at_rest(state, policy, &|_| true) {
        return Vec::new();
    }
    let failed: Vec<_> = state.tasks.iter().filter(|(_, s)| s.phase == Phase::Failed).collect();
    let ended = state.count(&Phase::Done) + failed.len();
    if policy.redispatch_below.exceeded(failed.len(), ended) {
        return Vec::new();
    }
    // A task that exceeds the context window would exceed it again.
    let hopeless = Class::ContextExceeded.as_str();
    let worthwhile = |s: &TaskState| {
        s.redispatches < policy.redispatch
            && s.cause.as_deref() != Some(hopeless)
            && policy.over_task_budget(&s.charged()).is_none()
    };
    failed.into_iter().filter(|(_, s)| worthwhile(s)).map(|(task, _)| task.clone()).collect()
}

impl Decider<'_> {
    /// Fails a task. Halts the run if this is one failure too many.
    pub(super) fn failed(&mut self, task: &TaskId, reason: String, cause: String) {
        self.task(task, TaskEventKind::Failed { reason: reason.clone(), cause: cause.clone() });
        // A limit of 100 % turns the halt off. A run without open tasks has nothing to stop.
        let may_halt = self.policy.halt_above < Share(1_000_000);
        let open = self.state.tasks.iter().any(|(other, s)| other != task && !s.phase.ended());
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
            return Some(format!("the task that went first failed, too ({task}): {reason}"));
        }
        let others = state.tasks.values().filter(|s| s.phase == Phase::Failed);
        let same_cause = others.filter(|s| s.cause.as_deref() == Some(cause)).count() + 1;
        if done == 0 && failed >= PATTERN_FAILURES && baseline.failed == 0 && same_cause == failed {
            return Some(format!(
                "the first {failed} tasks that ended all failed in the same way ({cause})"
            ));
        }
        let ended = done + failed;
        (ended >= self.policy.halt_after && self.policy.halt_above.exceeded(failed, ended)).then(
            || format!("{failed} of {ended} tasks that ended have failed, last {task}: {reason}"),
        )
    }

    pub(super) fn redispatch_failed(&mut self) {
        for task in redispatchable(self.state, self.policy) {
            self.retry(&task, RetryReason::Redispatch, self.now, None);
        }
    }
}
