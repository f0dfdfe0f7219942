//! Failures: when a task has no try left, when so many have failed that a person is asked, and which are tried again.

use std::collections::BTreeMap;

use super::blocked::at_rest;
use super::{Decider, Phase, TaskEventKind};
use crate::domain::event::{Halt, RunEventKind};
use crate::domain::id::TaskId;
use crate::domain::retry::{Policy, RetryReason, Share};
use crate::domain::session::Class;
use crate::domain::state::{RunPhase, RunState};

/// How many tasks that fail in the same way, with none beside them that landed, are a pattern.
const PATTERN: usize = 3;

/// Failed tasks that have something in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureGroup {
    /// What: a check, or the class of an ending.
    pub cause: String,
    /// The tasks, in the plan's order.
    pub tasks: Vec<TaskId>,
}

/// The failed tasks by what they have in common, the largest group first.
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
    let mut groups: Vec<FailureGroup> = groups
        .into_iter()
        .map(|(cause, tasks)| FailureGroup { cause: cause.to_owned(), tasks })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.tasks.len()));
    groups
}

/// The failed tasks that the outer layer tries again: nothing else is left to do, few have failed, and rounds are left.
pub(super) fn again(state: &RunState, policy: &Policy) -> Vec<TaskId> {
    if state.phase != RunPhase::Active || !at_rest(state, policy, &|_| true) {
        return Vec::new();
    }
    let failed: Vec<_> = state.tasks.iter().filter(|(_, s)| s.phase == Phase::Failed).collect();
    let ended = state.count(&Phase::Done) + failed.len();
    if policy.redispatch_below.exceeded(failed.len(), ended) {
        return Vec::new();
    }
    // What does not fit the model does not fit it tomorrow.
    let hopeless = Class::ContextExceeded.as_str();
    let worth = |s: &crate::domain::state::TaskState| {
        s.redispatches < policy.redispatch
            && s.cause.as_deref() != Some(hopeless)
            && policy.over_task_budget(&s.charged()).is_none()
    };
    failed.into_iter().filter(|(_, s)| worth(s)).map(|(task, _)| task.clone()).collect()
}

/// What a person is told of a budget that is used up.
pub(super) fn used_up(over: &str) -> String {
    format!("{over}; raise it in the job file and `git harness start` again")
}

impl Decider<'_> {
    /// The task has no try left. That may be one failure too many.
    pub(super) fn failed(&mut self, task: &TaskId, reason: String, cause: String) {
        self.task(task, TaskEventKind::Failed { reason: reason.clone(), cause: cause.clone() });
        // All of them are never too many: this job does not want to be asked. And with nothing left there is nothing to
        // stop.
        let asks = self.policy.halt_above < Share(1_000_000);
        let left = self.state.tasks.iter().any(|(other, s)| other != task && !s.phase.ended());
        if asks
            && left
            && self.state.phase == RunPhase::Active
            && let Some(reason) = self.too_many(task, &reason, &cause)
        {
            self.halt(Halt::Failures, reason);
        }
    }

    fn too_many(&self, task: &TaskId, reason: &str, cause: &str) -> Option<String> {
        let state = self.state;
        let done = state.count(&Phase::Done).saturating_sub(state.baseline.done as usize);
        let failed =
            (state.count(&Phase::Failed) + 1).saturating_sub(state.baseline.failed as usize);
        if state.canary && done == 0 {
            return Some(format!("the task that went first failed, too ({task}): {reason}"));
        }
        let others = state.tasks.values().filter(|s| s.phase == Phase::Failed);
        let same = others.filter(|s| s.cause.as_deref() == Some(cause)).count() + 1;
        if done == 0 && failed >= PATTERN && state.baseline.failed == 0 && same == failed {
            return Some(format!(
                "the first {failed} tasks that ended all failed in the same way ({cause})"
            ));
        }
        let ended = done + failed;
        (ended >= self.policy.halt_after && self.policy.halt_above.exceeded(failed, ended)).then(
            || format!("{failed} of {ended} tasks that ended have failed, last {task}: {reason}"),
        )
    }

    /// From scratch, for those that are worth it.
    pub(super) fn pass_over(&mut self) {
        for task in again(self.state, self.policy) {
            self.retry(&task, RetryReason::Redispatch, self.now, None);
        }
    }

    /// A person lets the run go on; after too many failures, with one task first. Not while a budget is used up: then
    /// nothing could start, and whoever waits for it would wait for ever.
    pub(super) fn resumed(&mut self) {
        let state = self.state;
        if let Some(over) = self.policy.over_budget(&state.all_spend()) {
            let reason = used_up(&over);
            if state.reason.as_ref() != Some(&reason) {
                let failures = state.halt == Some(Halt::Failures);
                self.halt(if failures { Halt::Failures } else { Halt::Budget }, reason);
            }
            return;
        }
        if state.phase == RunPhase::Active {
            return;
        }
        let count = |phase| u32::try_from(state.count(&phase)).unwrap_or(u32::MAX);
        let (done, failed) = (count(Phase::Done), count(Phase::Failed));
        let canary = state.halt == Some(Halt::Failures);
        self.run(RunEventKind::Resumed { done, failed, canary });
    }
}
