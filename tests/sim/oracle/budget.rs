//! The oracle for budgets: the tokens and the cost that sessions reported.

use std::collections::BTreeMap;

use git_harness::domain::retry::Policy;
use git_harness::domain::session::{Cost, SessionReport, Spend, Tokens};

/// Counts of input, output, cache-read and cache-write tokens.
type TokenCounts = [u64; 4];

fn token_counts(tokens: Tokens) -> TokenCounts {
    [tokens.input, tokens.output, tokens.cache_read, tokens.cache_write]
}

/// The use of one task's sessions.
///
/// An agent may report cumulative use. Then only the last report of a session counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct BudgetOracle {
    /// Tokens of reports that are not cumulative.
    tokens: Vec<TokenCounts>,
    /// Costs of reports that are not cumulative.
    costs: Vec<u64>,
    /// The last cumulative tokens of each session.
    session_tokens: BTreeMap<String, TokenCounts>,
    /// The last cumulative cost of each session.
    session_costs: BTreeMap<String, u64>,
    /// Numbers of sessions with tokens, without tokens, with a cost, and without a cost.
    session_counts: [u32; 4],
    /// The tokens and the cost that a person has written off.
    written_off: (u64, u64),
}

impl BudgetOracle {
    /// Records the last report of a session, if any. `session` is the session's id, if known.
    pub(crate) fn record_session(&mut self, report: Option<&SessionReport>, session: Option<&str>) {
        let tokens = report.and_then(|r| r.usage.tokens).map(token_counts);
        let cost = report.and_then(|r| r.usage.cost).map(|c| c.0);
        let session = session.filter(|_| report.is_some_and(|r| r.cumulative)).map(str::to_owned);
        self.session_counts[usize::from(tokens.is_none())] += 1;
        self.session_counts[2 + usize::from(cost.is_none())] += 1;
        match (tokens, session.clone()) {
            (Some(tokens), Some(session)) => drop(self.session_tokens.insert(session, tokens)),
            (Some(tokens), None) => self.tokens.push(tokens),
            (None, _) => {}
        }
        match (cost, session) {
            (Some(cost), Some(session)) => drop(self.session_costs.insert(session, cost)),
            (Some(cost), None) => self.costs.push(cost),
            (None, _) => {}
        }
    }

    fn total_tokens(&self) -> TokenCounts {
        let all = self.tokens.iter().chain(self.session_tokens.values());
        all.fold([0; 4], |sum, counts| std::array::from_fn(|n| sum[n] + counts[n]))
    }

    /// Returns the sum of all tokens and the total cost.
    fn totals(&self) -> (u64, u64) {
        let cost = self.costs.iter().chain(self.session_costs.values()).sum();
        (self.total_tokens().iter().sum(), cost)
    }

    /// Writes off the use so far: a person has retried the task.
    pub(crate) fn write_off(&mut self) {
        self.written_off = self.totals();
    }

    /// Returns true if the task's budget is exhausted.
    pub(crate) fn exhausted(&self, policy: &Policy) -> bool {
        let (tokens, cost) = self.totals();
        policy.tokens_per_task.is_some_and(|limit| tokens - self.written_off.0 >= limit)
            || policy.cost_per_task.is_some_and(|limit| cost - self.written_off.1 >= limit.0)
    }

    /// Compares this state with the machine's.
    pub(crate) fn compare(&self, spend: Spend) {
        assert_eq!(
            (token_counts(spend.tokens), spend.cost),
            (self.total_tokens(), Cost(self.totals().1)),
            "tokens, cost"
        );
        let session_counts = [
            spend.sessions_with_tokens,
            spend.sessions_without_tokens,
            spend.sessions_with_cost,
            spend.sessions_without_cost,
        ];
        assert_eq!(session_counts, self.session_counts, "sessions with and without reports");
    }
}

/// Returns true if the budgets together exhaust the run's budget.
pub(crate) fn run_budget_exhausted<'a>(
    budgets: impl Iterator<Item = &'a BudgetOracle>,
    policy: &Policy,
) -> bool {
    let (tokens, cost) =
        budgets.map(BudgetOracle::totals).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    policy.tokens.is_some_and(|limit| tokens >= limit)
        || policy.cost.is_some_and(|limit| cost >= limit.0)
}
