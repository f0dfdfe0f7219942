//! What sessions used, added up in the book's own way: the last word of every thread that counts on, and all other words.

use std::collections::BTreeMap;

use git_harness::domain::retry::Policy;
use git_harness::domain::session::{Cost, SessionReport, Spend, Tokens};

type Four = [u64; 4];

fn four(t: Tokens) -> Four {
    [t.input, t.output, t.cache_read, t.cache_write]
}

/// What the sessions of one task used.
#[derive(Debug, Clone, Default)]
pub(crate) struct Purse {
    tokens: Vec<Four>,
    cost: Vec<u64>,
    thread_tokens: BTreeMap<String, Four>,
    thread_cost: BTreeMap<String, u64>,
    /// Sessions that said so of tokens, that did not, that said so of a cost, that did not.
    words: [u32; 4],
    /// What a person has excused: tokens and cost.
    written_off: (u64, u64),
}

impl Purse {
    /// A session's last word; `thread` is the one it went on with, as far as that is known.
    pub(crate) fn pay(&mut self, report: Option<&SessionReport>, thread: Option<&str>) {
        let tokens = report.and_then(|r| r.usage.tokens).map(four);
        let cost = report.and_then(|r| r.usage.cost).map(|c| c.0);
        let thread = thread.filter(|_| report.is_some_and(|r| r.cumulative)).map(str::to_owned);
        self.words[usize::from(tokens.is_none())] += 1;
        self.words[2 + usize::from(cost.is_none())] += 1;
        match (tokens, thread.clone()) {
            (Some(tokens), Some(thread)) => drop(self.thread_tokens.insert(thread, tokens)),
            (Some(tokens), None) => self.tokens.push(tokens),
            (None, _) => {}
        }
        match (cost, thread) {
            (Some(cost), Some(thread)) => drop(self.thread_cost.insert(thread, cost)),
            (Some(cost), None) => self.cost.push(cost),
            (None, _) => {}
        }
    }

    fn tokens(&self) -> Four {
        let all = self.tokens.iter().chain(self.thread_tokens.values());
        all.fold([0; 4], |sum, t| std::array::from_fn(|n| sum[n] + t[n]))
    }

    fn sums(&self) -> (u64, u64) {
        let cost = self.cost.iter().chain(self.thread_cost.values()).sum();
        (self.tokens().iter().sum(), cost)
    }

    pub(crate) fn excuse(&mut self) {
        self.written_off = self.sums();
    }

    /// Whether the task's budget is used up.
    pub(crate) fn empty(&self, policy: &Policy) -> bool {
        let (tokens, cost) = self.sums();
        policy.tokens_per_task.is_some_and(|limit| tokens - self.written_off.0 >= limit)
            || policy.cost_per_task.is_some_and(|limit| cost - self.written_off.1 >= limit.0)
    }

    pub(crate) fn compare(&self, spend: Spend) {
        assert_eq!((four(spend.tokens), spend.cost), (self.tokens(), Cost(self.sums().1)));
        let words = [
            spend.sessions_with_tokens,
            spend.sessions_without_tokens,
            spend.sessions_with_cost,
            spend.sessions_without_cost,
        ];
        assert_eq!(words, self.words);
    }
}

/// Whether all purses together have used up the run's budget.
pub(crate) fn all_empty<'a>(purses: impl Iterator<Item = &'a Purse>, policy: &Policy) -> bool {
    let (tokens, cost) = purses.map(Purse::sums).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    policy.tokens.is_some_and(|limit| tokens >= limit)
        || policy.cost.is_some_and(|limit| cost >= limit.0)
}
