//! The retry layers and what is left of each.

use std::fmt;

use super::session::{Cost, Spend};

/// Why a task gets another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// The middle layer: a new attempt from a clean start, told every finding so far. Charged to the task.
    Feedback,
    /// The inner layer: the same session goes on, in the same place, with what it had changed.
    Resume,
    /// The session is gone, or its id is taken: a new one from a clean start. Counted like a resume.
    Restart,
    /// The account is closed or overloaded. Not charged; the same session goes on where it can.
    Account,
    /// The outer layer: from scratch, when the first pass is over and few have failed.
    Redispatch,
    /// A fault of the infrastructure. Not charged to the task; repeated with back-off.
    Infra,
    /// Somebody stopped the attempt, or it never began. Neither charged nor delayed.
    Interrupted,
    /// A person asked for it (`git harness retry`): all budgets start anew.
    Manual,
}

impl RetryReason {
    /// All of them.
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

    /// Whether the attempt that follows goes on with the session of the last one, if there is one.
    pub fn keeps_session(self) -> bool {
        match self {
            Self::Resume | Self::Account | Self::Interrupted => true,
            Self::Feedback | Self::Restart | Self::Redispatch | Self::Infra | Self::Manual => false,
        }
    }

    /// The word used in refs and JSON.
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

/// A share of a whole, in millionths: whole numbers compare without error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl Share {
    /// Whether `part` of `whole` is more than this share.
    pub fn exceeded(self, part: usize, whole: usize) -> bool {
        part as u128 * 1_000_000 > whole as u128 * u128::from(self.0)
    }
}

/// All the numbers that decisions depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Agents at a time.
    pub jobs: usize,
    /// Verifications at a time.
    pub verifications: usize,
    /// Whether the agent can go on with a session.
    pub resumable: bool,
    /// Whether one agent goes first to find out whether the account is good.
    pub probe: bool,
    /// How often a session goes on after a crash or a time-out, per task (`[retry] resume`).
    pub resume: u32,
    /// New attempts with findings, per task (`[retry] feedback`).
    pub feedback: u32,
    /// Repetitions after infrastructure faults, per task (`[retry] infra`).
    pub infra: u32,
    /// How often failed tasks are done from scratch when all have ended (`[retry] redispatch`).
    pub redispatch: u32,
    /// Only if at most this share failed (`[retry] redispatch-below`).
    pub redispatch_below: Share,
    /// More failures than this share halt the run (`[retry] halt-above`).
    pub halt_above: Share,
    /// But not before so many tasks have ended (`[retry] halt-after`).
    pub halt_after: usize,
    /// Tokens for the run (`[limits] tokens`).
    pub tokens: Option<u64>,
    /// Tokens for a task (`[limits] tokens-per-task`).
    pub tokens_per_task: Option<u64>,
    /// Money for the run (`[limits] cost-usd`).
    pub cost: Option<Cost>,
    /// Money for a task (`[limits] cost-per-task`).
    pub cost_per_task: Option<Cost>,
    /// Whether an attempt may leave everything as it was (`[agent] allow-empty`).
    pub allow_empty: bool,
    /// Whether a landing check that fails on the base stops the run (`[job] base-check`).
    pub base_must_pass: bool,
    /// Whether tasks hand in a report, which is done when it is accepted, and no change that has to land.
    pub report: bool,
    /// Whether a task is tried although one that it waits for has failed or was skipped.
    pub keep_going: bool,
    /// Whether an evaluator is asked about what the checks have accepted.
    pub evaluates: bool,
    /// How many opinions with findings a task may get (`[evaluate] rounds`); the last of them fails it.
    pub rounds: u32,
    /// Whether a person has to approve what lands (`[queue] review`).
    pub review: bool,
    /// Whether evaluators use the account that the agents use.
    pub one_account: bool,
}

impl Policy {
    /// Which budget of the run is used up, in words.
    pub fn over_budget(&self, spend: &Spend) -> Option<String> {
        let tokens = spend.tokens.total();
        if let Some(limit) = self.tokens.filter(|limit| tokens >= *limit) {
            return Some(format!("the budget of {limit} tokens is used up ({tokens} used)"));
        }
        let over = self.cost.filter(|limit| spend.cost >= *limit)?;
        let (limit, used) = (over.usd(), spend.cost.usd());
        Some(format!("the budget of ${limit:.2} is used up (${used:.2} used)"))
    }

    /// The most that a session may cost: what is left of the run's budget, and of the task's if it is one of a task's own, after what
    /// each is charged with.
    pub fn money_left(&self, run: &Spend, task: Option<&Spend>) -> Option<Cost> {
        let left = |limit: Option<Cost>, used: Cost| Some(Cost(limit?.0.saturating_sub(used.0)));
        let of_task = task.and_then(|task| left(self.cost_per_task, task.cost));
        [of_task, left(self.cost, run.cost)].into_iter().flatten().min()
    }

    /// Which budget of a task is used up, in words.
    pub fn over_task_budget(&self, spend: &Spend) -> Option<String> {
        let task =
            Self { tokens: self.tokens_per_task, cost: self.cost_per_task, ..Self::default() };
        task.over_budget(spend)
    }
}

impl Default for Policy {
    /// What a job that says nothing gets.
    fn default() -> Self {
        Self {
            jobs: 4,
            verifications: 4,
            resumable: false,
            probe: false,
            resume: 2,
            feedback: 3,
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
            evaluates: false,
            rounds: 3,
            one_account: true,
            review: false,
        }
    }
}

/// The first pause after an infrastructure fault, in milliseconds.
const BACKOFF_FIRST_MS: u64 = 1_000;
/// The longest pause, in milliseconds.
const BACKOFF_LONGEST_MS: u64 = 60_000;

/// How long to wait after the `fault`-th infrastructure fault in a row (counted from 1), in milliseconds: doubling from
/// one second to one minute.
pub fn backoff_ms(fault: u32) -> u64 {
    let doublings = fault.saturating_sub(1).min(16);
    (BACKOFF_FIRST_MS << doublings).min(BACKOFF_LONGEST_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_gets_what_is_left_of_both_budgets() {
        let used = |cost| Spend { cost: Cost(cost), ..Spend::default() };
        let policy =
            Policy { cost: Some(Cost(100)), cost_per_task: Some(Cost(30)), ..Policy::default() };
        assert_eq!(policy.money_left(&used(60), Some(&used(10))), Some(Cost(20)));
        assert_eq!(policy.money_left(&used(95), Some(&used(10))), Some(Cost(5)));
        assert_eq!(policy.money_left(&used(60), Some(&used(31))), Some(Cost(0)));
        assert_eq!(policy.money_left(&used(60), None), Some(Cost(40)));
        assert_eq!(Policy::default().money_left(&used(60), Some(&used(10))), None);
    }
}
