//! Retry reasons, and the policy that decisions depend on.

use std::collections::BTreeSet;
use std::fmt;

use super::account::AgentName;
use super::id::TaskId;
use super::session::{Cost, Spend};

/// The reason why a task gets another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// The middle layer: a new attempt from a clean start, with every finding so far. Charged to
    /// the task.
    Feedback,
    /// The inner layer: the same session resumes in the same worktree, with its changes.
    Resume,
    /// The session is lost, or its id is in use: a new session from a clean start. Counted like a
    /// resume.
    Restart,
    /// The account is closed or overloaded. Not charged to the task. The same session resumes if
    /// the session exists.
    Account,
    /// The outer layer: a failed task starts from scratch. Happens when every task has ended and
    /// few have failed.
    Redispatch,
    /// An infrastructure fault. The attempt is repeated with back-off. Not charged to the task.
    Infra,
    /// The attempt was stopped or never began. Neither charged nor delayed.
    Interrupted,
    /// A person asked for a retry (`git harness retry`). All budgets are reset.
    Manual,
}

impl RetryReason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Feedback,
        Self::Resume,
        Self::Restart,
        Self::Account,
        Self::Redispatch,
        Self::Infra,
        Self::Interrupted,
        Self::Manual,
    ];

    /// Returns true if the next attempt resumes the last attempt's session, if there is one.
    pub fn keeps_session(self) -> bool {
        match self {
            Self::Resume | Self::Account | Self::Interrupted => true,
            Self::Feedback | Self::Restart | Self::Redispatch | Self::Infra | Self::Manual => false,
        }
    }

    /// Returns the word used in refs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Feedback => "feedback",
            Self::Resume => "resume",
            Self::Restart => "restart",
            Self::Account => "account",
            Self::Redispatch => "redispatch",
            Self::Infra => "infra",
            Self::Interrupted => "interrupted",
            Self::Manual => "manual",
        }
    }
}

impl fmt::Display for RetryReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A share of a whole, in millionths. Integers compare without rounding errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl Share {
    /// Returns true if `part` of `whole` is more than this share.
    pub fn exceeded(self, part: usize, whole: usize) -> bool {
        part as u128 * 1_000_000 > whole as u128 * u128::from(self.0)
    }
}

/// The settings that decisions depend on, from the job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The maximum number of concurrent agents.
    pub jobs: usize,
    /// The maximum number of concurrent verifications.
    pub verifications: usize,
    /// True if the agent can resume a session.
    pub resumable: bool,
    /// True if the first agent starts alone, to prove that the account works.
    pub probe: bool,
    /// The number of session resumes after a crash or a timeout, per task (`[retry] resume`).
    pub resume: u32,
    /// The number of new attempts with findings, per task (`[retry] feedback`).
    pub feedback: u32,
    /// True if these attempts may start from the rejected candidate (`[retry] from`).
    pub from_candidate: bool,
    /// The number of consecutive infrastructure faults that a task survives (`[retry] infra`). The
    /// next fault fails the task.
    pub infra: u32,
    /// The number of redispatches, per task (`[retry] redispatch`).
    pub redispatch: u32,
    /// Failed tasks are redispatched unless more than this share of the ended tasks has failed
    /// (`[retry] redispatch-below`).
    pub redispatch_below: Share,
    /// The run halts if more than this share of the ended tasks has failed (`[retry] halt-above`).
    pub halt_above: Share,
    /// The number of ended tasks from which on `halt_above` applies (`[retry] halt-after`).
    pub halt_after: usize,
    /// The run's budget of tokens (`[limits] tokens`).
    pub tokens: Option<u64>,
    /// A task's budget of tokens (`[limits] tokens-per-task`).
    pub tokens_per_task: Option<u64>,
    /// The run's budget of money (`[limits] cost-usd`).
    pub cost: Option<Cost>,
    /// A task's budget of money (`[limits] cost-per-task`).
    pub cost_per_task: Option<Cost>,
    /// True if an attempt may change nothing (`[agent] allow-empty`).
    pub allow_empty: bool,
    /// True if the run halts when its base fails a landing check (`[job] base-check`).
    pub base_must_pass: bool,
    /// True if tasks hand in an output file. Nothing lands: an accepted output ends the task.
    pub report: bool,
    /// True if a task starts even though a dependency failed or was skipped.
    pub keep_going: bool,
    /// The tasks that get attempts and evaluators (`start --only`). Empty for all tasks.
    pub only: BTreeSet<TaskId>,
    /// True if an evaluator gives a verdict on candidates that passed the checks.
    pub evaluates: bool,
    /// The number of failed evaluations after which the task fails (`[evaluate] rounds`).
    pub rounds: u32,
    /// True if a person has to approve candidates (`[queue] review`).
    pub review: bool,
    /// True if the evaluators use the agents' account.
    pub shared_account: bool,
    /// The agents' program and model.
    pub agent: AgentName,
    /// The evaluators' program and model.
    pub evaluator: AgentName,
}

impl Policy {
    /// Returns true if the task gets attempts and evaluators.
    pub fn chooses(&self, task: &TaskId) -> bool {
        self.only.is_empty() || self.only.contains(task)
    }

    /// Describes the first budget of the run that is used up. Returns `None` if no budget is.
    pub fn over_budget(&self, spend: &Spend) -> Option<String> {
        let tokens = spend.tokens.total();
        if let Some(limit) = self.tokens.filter(|limit| tokens >= *limit) {
            return Some(format!("the budget of {limit} tokens is used up ({tokens} used)"));
        }
        let limit = self.cost.filter(|limit| spend.cost >= *limit)?;
        Some(format!("the budget of {limit} is used up ({} used)", spend.cost))
    }

    /// Returns the maximum cost of the next session: what is left of the run's budget or of the
    /// task's budget, whichever is less. `run` and `task` are the spends charged so far. `task` is
    /// `None` for a session that belongs to no task's budget.
    pub fn money_left(&self, run: &Spend, task: Option<&Spend>) -> Option<Cost> {
        let left = |limit: Option<Cost>, used: Cost| Some(Cost(limit?.0.saturating_sub(used.0)));
        let task_left = task.and_then(|task| left(self.cost_per_task, task.cost));
        [task_left, left(self.cost, run.cost)].into_iter().flatten().min()
    }

    /// Describes the first budget of a task that is used up. Returns `None` if no budget is.
    pub fn over_task_budget(&self, spend: &Spend) -> Option<String> {
        let task =
            Self { tokens: self.tokens_per_task, cost: self.cost_per_task, ..Self::default() };
        task.over_budget(spend)
    }
}

impl Default for Policy {
    /// Returns the policy of a job file that sets nothing.
    fn default() -> Self {
        Self {
            jobs: 4,
            verifications: 4,
            resumable: false,
            probe: false,
            resume: 2,
            feedback: 3,
            from_candidate: false,
            infra: 5,
            redispatch: 1,
            redispatch_below: Share(50_000),
            halt_above: Share(100_000),
            halt_after: 20,
            tokens: None,
            tokens_per_task: None,
            cost: None,
            cost_per_task: None,
            allow_empty: false,
            base_must_pass: true,
            report: false,
            keep_going: false,
            only: BTreeSet::new(),
            evaluates: false,
            rounds: 3,
            shared_account: true,
            agent: AgentName::default(),
            evaluator: AgentName::default(),
            review: false,
        }
    }
}

/// The first pause after an infrastructure fault, in milliseconds.
const BACKOFF_FIRST_MS: u64 = 1_000;
/// The longest pause, in milliseconds.
const BACKOFF_LONGEST_MS: u64 = 60_000;

/// Returns the pause after the `fault`-th consecutive infrastructure fault, counted from 1, in
/// milliseconds. The pause doubles from one second to one minute.
pub fn backoff_ms(fault: u32) -> u64 {
    let doublings = fault.saturating_sub(1).min(16);
    (BACKOFF_FIRST_MS << doublings).min(BACKOFF_LONGEST_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_budget_is_the_smaller_remainder_of_run_and_task_budget() {
        let spent = |cost| Spend { cost: Cost(cost), ..Spend::default() };
        let policy =
            Policy { cost: Some(Cost(100)), cost_per_task: Some(Cost(30)), ..Policy::default() };
        assert_eq!(policy.money_left(&spent(60), Some(&spent(10))), Some(Cost(20)));
        assert_eq!(policy.money_left(&spent(95), Some(&spent(10))), Some(Cost(5)));
        assert_eq!(policy.money_left(&spent(60), Some(&spent(31))), Some(Cost(0)));
        assert_eq!(policy.money_left(&spent(60), None), Some(Cost(40)));
        assert_eq!(Policy::default().money_left(&spent(60), Some(&spent(10))), None);
    }
}
