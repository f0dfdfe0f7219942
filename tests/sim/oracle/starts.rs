//! The oracle for the effects that a run owes: starts, evaluations and redispatches.

use git_harness::domain::id::{TaskId, Timestamp};
use git_harness::domain::retry::Policy;
use git_harness::domain::state::RunPhase;

use super::run::{PlannedTask, RunOracle};
use super::task::{OracleStage, TaskOracle};
use super::{OracleContext, budget};

impl RunOracle {
    /// Returns true if the task's dependencies have landed, or have ended and the run keeps going.
    pub(crate) fn dependencies_allow(&self, planned: &PlannedTask, policy: &Policy) -> bool {
        let landed = |id: &TaskId| self.tasks[id].stage == OracleStage::Landed;
        let ended = |id: &TaskId| self.tasks[id].phase().ended();
        planned.after.iter().all(landed) || (policy.keep_going && planned.after.iter().all(ended))
    }

    /// Returns true if every task has ended or waits for a dependency that can no longer land.
    fn no_task_can_progress(&self, policy: &Policy) -> bool {
        self.plan.iter().all(|planned| match self.tasks[&planned.id].stage {
            OracleStage::Waiting => !self.dependencies_allow(planned, policy),
            _ => self.tasks[&planned.id].phase().ended(),
        })
    }

    /// Returns true if the sessions of all tasks and evaluators exhaust the run's budget.
    pub(crate) fn budget_exhausted(&self, policy: &Policy) -> bool {
        let budgets = self.tasks.values().flat_map(|task| [&task.budget, &task.evaluator_budget]);
        budget::run_budget_exhausted(budgets, policy)
    }

    /// Returns the attempts whose evaluation is due.
    pub(crate) fn due_evaluations(&self, context: OracleContext<'_>) -> Vec<(TaskId, u32)> {
        let closed = self.phase != RunPhase::Active || context.now < self.account.closed_until;
        if closed || self.budget_exhausted(context.policy) {
            return Vec::new();
        }
        let due = |task: &TaskOracle| {
            matches!(task.stage, OracleStage::Evaluating(_)) && task.not_before <= context.now
        };
        let all = self.plan.iter().map(|planned| (&planned.id, &self.tasks[&planned.id]));
        all.filter(|(_, task)| due(task)).map(|(id, task)| (id.clone(), task.attempt)).collect()
    }

    /// Returns true if tasks run one at a time, because no task has landed since a person resumed
    /// the run in spite of its failures.
    pub(crate) fn canary_only(&self) -> bool {
        self.failures.canary && self.count(&OracleStage::Landed) <= self.failures.baseline.0
    }

    /// Returns the attempts that start now, as far as slots are free. Tasks that resume a session
    /// come first.
    pub(crate) fn due_starts(&self, context: OracleContext<'_>) -> Vec<(TaskId, u32)> {
        let OracleContext { policy, now } = context;
        let base_allows = self.base_passed.is_some_and(|passed| passed || !policy.base_must_pass);
        let closed = now < self.account.closed_until;
        if self.phase != RunPhase::Active || !base_allows || closed || self.budget_exhausted(policy)
        {
            return Vec::new();
        }
        let tasks = self.tasks.values();
        let running: Vec<_> = tasks.filter(|task| task.stage == OracleStage::Running).collect();
        let evaluations = self.due_evaluations(context).len();
        let slots = self.account.slots.min(policy.jobs);
        let mut free = slots.saturating_sub(running.len() + evaluations);
        if evaluations > 0 && self.account.has_refused && !self.account.proven {
            return Vec::new();
        }
        if self.canary_only() {
            let in_progress = |task: &TaskOracle| {
                !matches!(task.stage, OracleStage::Waiting) && !task.phase().ended()
            };
            free = free.min(usize::from(!self.tasks.values().any(in_progress)));
        }
        if self.account.needs_probe(policy) {
            let probing = running.iter().any(|task| task.started >= self.account.closed_until);
            free = free.min(usize::from(!probing));
        }
        let due = |planned: &&PlannedTask| {
            let task = &self.tasks[&planned.id];
            task.stage == OracleStage::Waiting
                && task.not_before <= now
                && self.dependencies_allow(planned, policy)
        };
        let (resumed, fresh): (Vec<_>, Vec<_>) = self
            .plan
            .iter()
            .filter(due)
            .partition(|planned| policy.resumable && self.tasks[&planned.id].session.is_some());
        let all = resumed.into_iter().chain(fresh).take(free);
        all.map(|planned| (planned.id.clone(), self.tasks[&planned.id].attempt + 1)).collect()
    }

    /// Returns the failed tasks that the outer retry layer starts again: no other task can
    /// progress, and few have failed.
    pub(crate) fn due_redispatches(&self, policy: &Policy) -> Vec<TaskId> {
        let is_failed = |task: &TaskOracle| task.stage == OracleStage::Failed;
        let failed: Vec<_> = self.tasks.iter().filter(|(_, task)| is_failed(task)).collect();
        let all = failed.len() + self.count(&OracleStage::Landed);
        let few =
            failed.len() as u64 * 1_000_000 <= u64::from(policy.redispatch_below.0) * all as u64;
        if self.phase != RunPhase::Active || !self.no_task_can_progress(policy) || !few {
            return Vec::new();
        }
        let may_retry = |task: &TaskOracle| {
            task.cause != "context_exceeded"
                && task.redispatches < policy.redispatch
                && !task.budget.exhausted(policy)
        };
        failed.into_iter().filter(|(_, task)| may_retry(task)).map(|(id, _)| id.clone()).collect()
    }

    /// Returns the next time at which a pause ends.
    pub(crate) fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        let open = self.tasks.values().filter(|task| !task.phase().ended());
        let pauses = open.map(|task| task.not_before);
        pauses.chain([self.account.closed_until]).filter(|time| *time > now).min()
    }
}
