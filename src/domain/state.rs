//! The state of a run, folded from the events of its chains.

use std::collections::BTreeMap;

use super::account::Account;
use super::event::{Halt, RunEvent, RunEventKind, TaskEvent};
use super::id::{RunId, TaskId};
pub use super::phase::Phase;
use super::plan::{DROPPED, Plan};
use super::retry::Policy;
use super::session::Spend;
pub use super::task_state::TaskState;
use super::task_table::TaskTable;

/// The phase of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RunPhase {
    /// Tasks are dispatched.
    #[default]
    Active,
    /// Nothing new starts until a person resumes the run.
    Paused,
    /// The run stopped by itself and needs a person.
    Halted,
    /// The run was given up.
    Cancelled,
}

/// The numbers of ended tasks that the halt on failures does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FailureBaseline {
    /// Tasks that were done.
    pub done: u32,
    /// Tasks that had failed.
    pub failed: u32,
}

/// The state of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunState {
    /// The run's id.
    pub id: RunId,
    /// The phase.
    pub phase: RunPhase,
    /// True while the run is paused since its creation. The next supervisor may resume it.
    pub waits_to_begin: bool,
    /// The reason why the run is paused or halted.
    pub reason: Option<String>,
    /// The kind of trouble that halted the run.
    pub halt: Option<Halt>,
    /// The state of the agents' account.
    pub account: Account,
    /// The state of the evaluators' account, if they have their own.
    pub evaluator: Account,
    /// The numbers of ended tasks when a person last resumed the run after a halt on failures.
    pub baseline: FailureBaseline,
    /// True if, since that resume, one task has to land before the others start.
    pub canary: bool,
    /// Tasks that were replaced by parts, with the parts.
    pub split: BTreeMap<TaskId, Vec<TaskId>>,
    /// True if the landing checks passed on the base; `None` before they ran.
    pub base_passed: Option<bool>,
    /// The plan, and the states of its tasks.
    pub tasks: TaskTable,
}

impl RunState {
    /// Creates the state of a run without events.
    pub fn new(id: RunId, plan: Plan) -> Self {
        Self {
            id,
            phase: RunPhase::Active,
            waits_to_begin: false,
            reason: None,
            halt: None,
            account: Account::default(),
            evaluator: Account::default(),
            baseline: FailureBaseline::default(),
            canary: false,
            split: BTreeMap::new(),
            base_passed: None,
            tasks: TaskTable::new(plan),
        }
    }

    /// Folds an event of the run's chain.
    pub fn apply_run(&mut self, event: &RunEvent) {
        self.waits_to_begin = false;
        self.tasks.advance(event.at);
        match &event.kind {
            RunEventKind::Created { paused } => {
                if *paused {
                    self.waits_to_begin = true;
                    self.phase = RunPhase::Paused;
                    self.reason = Some("made with `--paused`".into());
                }
            }
            RunEventKind::BaseVerified { passed, .. } => self.base_passed = Some(*passed),
            RunEventKind::Paused(reason) => {
                self.phase = RunPhase::Paused;
                self.reason = Some(reason.clone());
            }
            RunEventKind::Resumed { done, failed, canary } => {
                let baseline = FailureBaseline { done: *done, failed: *failed };
                self.apply_resumed(baseline, *canary);
            }
            RunEventKind::Halted { halt, reason } => {
                self.phase = RunPhase::Halted;
                self.halt = Some(*halt);
                self.reason = Some(reason.clone());
            }
            RunEventKind::Account(account) => self.account = account.clone(),
            RunEventKind::EvaluatorAccount(account) => self.evaluator = account.clone(),
            RunEventKind::Split { task, parts } => {
                if self.tasks.split(task, parts, event.at) {
                    let ids = parts.iter().map(|(id, _)| id.clone()).collect();
                    self.split.insert(task.clone(), ids);
                }
            }
            // The event does not carry the new plan, which is pinned beside the chain. A process
            // that changes the plan loads the run again.
            RunEventKind::Replanned { base, .. } => {
                if base.is_some() {
                    self.base_passed = None;
                }
            }
            RunEventKind::JobChanged(_) => {}
            RunEventKind::Cancelled => {
                self.phase = RunPhase::Cancelled;
                self.reason = None;
            }
        }
    }

    fn apply_resumed(&mut self, baseline: FailureBaseline, canary: bool) {
        self.phase = RunPhase::Active;
        self.reason = None;
        let halt = self.halt.take();
        // A resume after another kind of halt forgives no failures and ends no canary.
        if halt == Some(Halt::Failures) {
            self.baseline = baseline;
            self.canary = canary;
        }
        if halt.is_some() {
            for account in [&mut self.account, &mut self.evaluator] {
                account.proven = false;
                account.strikes = 0;
            }
        }
        // A resume after a failed base verifies the base again.
        if self.base_passed == Some(false) {
            self.base_passed = None;
        }
    }

    /// Folds an event of a task's chain. Ignores a task that is not in the plan.
    pub fn apply_task(&mut self, task: &TaskId, event: &TaskEvent) {
        self.tasks.apply(task, event);
    }

    /// Returns the spend of all attempts.
    pub fn spend(&self) -> Spend {
        self.tasks.spend()
    }

    /// Returns the spend of all evaluators.
    pub fn evaluation_spend(&self) -> Spend {
        self.tasks.evaluation_spend()
    }

    /// Returns the spend that counts against the run's budgets: attempts and evaluators.
    pub fn all_spend(&self) -> Spend {
        self.spend().plus(self.evaluation_spend())
    }

    /// Returns the account that evaluators use.
    pub fn evaluators_account(&self, policy: &Policy) -> &Account {
        if policy.shared_account { &self.account } else { &self.evaluator }
    }

    /// Returns true if every task has ended.
    pub fn ended(&self) -> bool {
        self.tasks.count_ended() == self.tasks.len()
    }

    /// Returns the number of tasks in a phase.
    pub fn count(&self, phase: &Phase) -> usize {
        self.tasks.count(phase)
    }

    /// Returns true if the task is only history: parts replaced it, or a new plan dropped it.
    pub fn is_replaced(&self, task: &TaskId) -> bool {
        let skipped = self.tasks.get(task).filter(|s| s.phase == Phase::Skipped);
        let dropped = skipped.is_some_and(|s| s.reason.as_deref() == Some(DROPPED));
        dropped || self.split.contains_key(task)
    }

    /// Returns the number of tasks that are only history.
    pub fn count_replaced(&self) -> usize {
        self.tasks.in_phase(&Phase::Skipped).filter(|(task, _)| self.is_replaced(task)).count()
    }

    /// Returns the share of the tasks that are done, in per cent. Skipped tasks do not count.
    pub fn percent_done(&self) -> Option<f64> {
        let counted = self.tasks.len() - self.count(&Phase::Skipped);
        (counted > 0).then(|| self.count(&Phase::Done) as f64 * 100.0 / counted as f64)
    }

    /// Returns true if all these tasks are done.
    pub fn all_done(&self, after: &[TaskId]) -> bool {
        after.iter().all(|t| self.tasks.get(t).is_some_and(|s| s.phase == Phase::Done))
    }
}
