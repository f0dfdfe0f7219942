//! How an agent's session ended in the agent's own terms, and what it used.

use std::fmt;

use super::id::Timestamp;

/// How a session ended, told from what the agent printed, what changed, and its exit code, in this order of weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It says that it did its work. Whether that is true is for the checks.
    Ok,
    /// It ended without saying how: killed, out of memory, a truncated or garbled stream.
    Crashed,
    /// A timer of ours ran out.
    TimedOut,
    /// The account's quota or rate is used up.
    RateLimited,
    /// The service cannot be reached or cannot keep up; it will pass.
    Overloaded,
    /// The account is not known, not allowed or not paid for; it will not pass.
    Auth,
    /// The task does not fit the model's context window.
    ContextExceeded,
    /// A cap on turns, budget or output was reached.
    Limit,
    /// The model declined.
    Refused,
    /// Tools were denied, so that nothing could be done.
    Blocked,
    /// The session to be resumed is not there.
    SessionLost,
    /// The session to be begun is there already.
    SessionInUse,
    /// The agent does not accept how it was called, or where.
    BadInput,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Ok,
        Self::Crashed,
        Self::TimedOut,
        Self::RateLimited,
        Self::Overloaded,
        Self::Auth,
        Self::ContextExceeded,
        Self::Limit,
        Self::Refused,
        Self::Blocked,
        Self::SessionLost,
        Self::SessionInUse,
        Self::BadInput,
    ];

    /// Returns true if the session broke off, so that it proves nothing about the account.
    pub fn broke_off(self) -> bool {
        match self {
            Self::Crashed | Self::TimedOut => true,
            Self::Ok
            | Self::RateLimited
            | Self::Overloaded
            | Self::Auth
            | Self::ContextExceeded
            | Self::Limit
            | Self::Refused
            | Self::Blocked
            | Self::SessionLost
            | Self::SessionInUse
            | Self::BadInput => false,
        }
    }

    /// The word used in refs, presets and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Crashed => "crashed",
            Self::TimedOut => "timed_out",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Auth => "auth",
            Self::ContextExceeded => "context_exceeded",
            Self::Limit => "limit",
            Self::Refused => "refused",
            Self::Blocked => "blocked",
            Self::SessionLost => "session_lost",
            Self::SessionInUse => "session_in_use",
            Self::BadInput => "bad_input",
        }
    }

    /// The class with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Tokens, as the agent's own report counts them. `input` is what was not read from a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Read by the model, and neither from the cache nor written to it.
    pub input: u64,
    /// Written by the model, with its reasoning.
    pub output: u64,
    /// Read from the cache.
    pub cache_read: u64,
    /// Written to the cache.
    pub cache_write: u64,
}

impl Tokens {
    /// All of them, for a budget.
    pub fn total(self) -> u64 {
        [self.input, self.output, self.cache_read, self.cache_write]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// With those of another session.
    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
        }
    }

    /// What came on top of an earlier count of the same thread; nothing is ever below zero.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            input: self.input.saturating_sub(earlier.input),
            output: self.output.saturating_sub(earlier.output),
            cache_read: self.cache_read.saturating_sub(earlier.cache_read),
            cache_write: self.cache_write.saturating_sub(earlier.cache_write),
        }
    }
}

/// Money in billionths of a US dollar: whole numbers add up without error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cost(pub u64);

impl Cost {
    /// From dollars; `None` for what is no amount.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is looked at first"
    )]
    pub fn from_usd(usd: f64) -> Option<Self> {
        (usd.is_finite() && (0.0..=1e9).contains(&usd)).then(|| Self((usd * 1e9).round() as u64))
    }

    /// In dollars.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "for people and JSON; sums are made of whole numbers"
    )]
    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// What one session, or several, used. `None` is unknown, which is not nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens.
    pub tokens: Option<Tokens>,
    /// Money.
    pub cost: Option<Cost>,
}

impl Usage {
    /// What came on top of an earlier count of the same thread.
    pub fn since(self, earlier: Self) -> Self {
        let less = |now: Cost, then: Cost| Cost(now.0.saturating_sub(then.0));
        Self {
            tokens: self.tokens.map(|now| earlier.tokens.map_or(now, |then| now.since(then))),
            cost: self.cost.map(|now| earlier.cost.map_or(now, |then| less(now, then))),
        }
    }

    /// This, and where it says nothing, what was said earlier.
    pub fn or(self, earlier: Self) -> Self {
        Self { tokens: self.tokens.or(earlier.tokens), cost: self.cost.or(earlier.cost) }
    }
}

/// What several sessions used in sum, and how many of them did not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spend {
    /// The tokens that were reported.
    pub tokens: Tokens,
    /// The money that was reported.
    pub cost: Cost,
    /// Sessions that reported tokens.
    pub sessions_with_tokens: u32,
    /// Sessions that did not.
    pub sessions_without_tokens: u32,
    /// Sessions that reported a cost.
    pub sessions_with_cost: u32,
    /// Sessions that did not.
    pub sessions_without_cost: u32,
}

impl Spend {
    /// Adds what a session used.
    pub fn add(&mut self, usage: Usage) {
        match usage.tokens {
            None => self.sessions_without_tokens += 1,
            Some(tokens) => {
                self.sessions_with_tokens += 1;
                self.tokens = self.tokens.plus(tokens);
            }
        }
        match usage.cost {
            None => self.sessions_without_cost += 1,
            Some(cost) => {
                self.sessions_with_cost += 1;
                self.cost = Cost(self.cost.0.saturating_add(cost.0));
            }
        }
    }

    /// With what others used.
    pub fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.plus(other.tokens),
            cost: Cost(self.cost.0.saturating_add(other.cost.0)),
            sessions_with_tokens: self
                .sessions_with_tokens
                .saturating_add(other.sessions_with_tokens),
            sessions_without_tokens: self
                .sessions_without_tokens
                .saturating_add(other.sessions_without_tokens),
            sessions_with_cost: self.sessions_with_cost.saturating_add(other.sessions_with_cost),
            sessions_without_cost: self
                .sessions_without_cost
                .saturating_add(other.sessions_without_cost),
        }
    }

    /// What came on top of what was excused.
    pub fn beyond(self, written_off: Usage) -> Self {
        let told = Usage { tokens: Some(self.tokens), cost: Some(self.cost) }.since(written_off);
        Self {
            tokens: told.tokens.unwrap_or_default(),
            cost: told.cost.unwrap_or_default(),
            ..self
        }
    }

    /// The tokens; `None` when sessions ended and none of them said.
    pub fn known_tokens(self) -> Option<Tokens> {
        (self.sessions_with_tokens > 0 || self.sessions_without_tokens == 0).then_some(self.tokens)
    }

    /// The money; `None` when no session has said.
    pub fn known_cost(self) -> Option<Cost> {
        (self.sessions_with_cost > 0).then_some(self.cost)
    }
}

/// A session that may be gone on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// The place in which it worked: some agents find a session again only there.
    pub worktree: String,
    /// On which repository and machine: it is nowhere else.
    pub owner: String,
    /// What of a count that goes on over the whole thread has been added up already.
    pub counted: Usage,
}

/// What can be told of a session from what it left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionReport {
    /// How it ended.
    pub class: Class,
    /// The words that say so, on one line: for findings and for people.
    pub detail: Option<String>,
    /// The session's id.
    pub session: Option<String>,
    /// What this invocation used; of a thread that counts on over several, see `cumulative`.
    pub usage: Usage,
    /// Whether `usage` counts everything since the thread began and not since this invocation did.
    pub cumulative: bool,
    /// When a limit lifts, if it was said.
    pub resets_at: Option<Timestamp>,
    /// Tools that were denied.
    pub denials: u32,
}

impl SessionReport {
    /// Of a session that was not even begun, since the task does not fit the model or there is no such agent: it used nothing.
    pub fn not_started(class: Class, why: String) -> Self {
        Self {
            class,
            detail: Some(why),
            session: None,
            usage: Usage { tokens: Some(Tokens::default()), cost: Some(Cost(0)) },
            cumulative: false,
            resets_at: None,
            denials: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, Cost, Tokens};

    #[test]
    fn every_class_is_found_by_its_word() {
        for class in Class::ALL {
            assert_eq!(Class::parse(class.as_str()), Some(class));
        }
        assert_eq!(Class::parse("fine"), None);
    }

    #[test]
    fn money_adds_up_and_nonsense_is_no_amount() {
        assert_eq!(Cost::from_usd(0.000_123_456), Some(Cost(123_456)));
        for nonsense in [f64::NAN, f64::INFINITY, -0.01, 1e10] {
            assert_eq!(Cost::from_usd(nonsense), None);
        }
    }

    #[test]
    fn a_thread_that_counts_on_is_subtracted() {
        let first = Tokens { input: 130, output: 7, cache_read: 0, cache_write: 0 };
        let second = Tokens { input: 390, output: 21, cache_read: 5, cache_write: 0 };
        let since = second.since(first);
        assert_eq!((since.input, since.output, since.cache_read), (260, 14, 5));
        assert_eq!(first.since(second).total(), 0);
    }
}
