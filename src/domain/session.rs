//! Session reports: the class of an agent's session, and its usage.

use std::fmt;

use super::id::Timestamp;

/// The class of a session: the way in which it ended.
///
/// The class is derived from the agent's output, the changes and the exit code, in this order of
/// weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The agent reported success. The checks decide about its work.
    Ok,
    /// The agent ended without a report: killed, out of memory, or truncated output.
    Crashed,
    /// A timeout ended the session.
    TimedOut,
    /// The account's quota or rate limit is used up.
    RateLimited,
    /// The service is unreachable or overloaded. The condition is temporary.
    Overloaded,
    /// The account is unknown, not allowed or not paid for. The condition is permanent.
    Auth,
    /// The task exceeds the model's context window.
    ContextExceeded,
    /// A limit on turns, budget or output was reached.
    Limit,
    /// The model refused the task.
    Refused,
    /// Tools were denied or the worktree was removed, so that the agent could not work.
    Blocked,
    /// The session to resume does not exist.
    SessionLost,
    /// The session to create exists already.
    SessionInUse,
    /// The agent refused its command line or its working directory.
    BadInput,
}

impl Class {
    /// All classes.
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

    /// Returns the word used in refs, presets and JSON.
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

    /// Parses the word of a class.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The progress of a session, whatever its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionProgress {
    /// The program printed no event and changed nothing.
    Silent,
    /// The program started. Its output does not show that the service answered.
    #[default]
    Started,
    /// The service answered.
    Answered,
}

/// Numbers of tokens, as the agent reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Input tokens that were neither read from the cache nor written to it.
    pub input: u64,
    /// Output tokens, with the model's reasoning.
    pub output: u64,
    /// Input tokens that were read from the cache.
    pub cache_read: u64,
    /// Input tokens that were written to the cache.
    pub cache_write: u64,
}

impl Tokens {
    /// Returns the sum, which counts against a budget.
    pub fn total(self) -> u64 {
        [self.input, self.output, self.cache_read, self.cache_write]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Returns the sum of both counts.
    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
        }
    }

    /// Returns the increase since an earlier count of the same session; at least zero.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            input: self.input.saturating_sub(earlier.input),
            output: self.output.saturating_sub(earlier.output),
            cache_read: self.cache_read.saturating_sub(earlier.cache_read),
            cache_write: self.cache_write.saturating_sub(earlier.cache_write),
        }
    }
}

/// Money in billionths of a US dollar. Integers add up without rounding errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cost(pub u64);

impl Cost {
    /// Converts dollars. Returns `None` for a number that is no valid amount.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked first"
    )]
    pub fn from_usd(usd: f64) -> Option<Self> {
        (usd.is_finite() && (0.0..=1e9).contains(&usd)).then(|| Self((usd * 1e9).round() as u64))
    }

    /// The smallest amount that two decimal places show, one cent.
    const CENT: u64 = 10_000_000;

    /// Returns the amount in dollars.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people and JSON; sums use integers")]
    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl fmt::Display for Cost {
    /// Formats the amount with its currency. An amount below a cent has two significant digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = match self.0 {
            0 | Self::CENT.. => 2,
            // Nine places are billionths; the last of `ilog10 + 1` digits has place nine.
            below => (9 - below.ilog10() + 1).min(9) as usize,
        };
        write!(f, "${:.places$}", self.usd())
    }
}

/// The usage of one session. `None` means unknown, which is not the same as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The tokens.
    pub tokens: Option<Tokens>,
    /// The cost.
    pub cost: Option<Cost>,
}

impl Usage {
    /// Returns the increase since an earlier count of the same session.
    pub fn since(self, earlier: Self) -> Self {
        let minus = |now: Cost, then: Cost| Cost(now.0.saturating_sub(then.0));
        Self {
            tokens: self.tokens.map(|now| earlier.tokens.map_or(now, |then| now.since(then))),
            cost: self.cost.map(|now| earlier.cost.map_or(now, |then| minus(now, then))),
        }
    }

    /// Returns this usage, with unknown numbers filled in from an earlier count.
    pub fn or(self, earlier: Self) -> Self {
        Self { tokens: self.tokens.or(earlier.tokens), cost: self.cost.or(earlier.cost) }
    }
}

/// The summed usage of several sessions, with the numbers of sessions that did and did not report
/// tokens and cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spend {
    /// The reported tokens.
    pub tokens: Tokens,
    /// The reported cost.
    pub cost: Cost,
    /// The number of sessions that reported tokens.
    pub sessions_with_tokens: u32,
    /// The number of sessions that reported no tokens.
    pub sessions_without_tokens: u32,
    /// The number of sessions that reported a cost.
    pub sessions_with_cost: u32,
    /// The number of sessions that reported no cost.
    pub sessions_without_cost: u32,
}

impl Spend {
    /// Adds the usage of one session.
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

    /// Returns the sum of both spends.
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

    /// Returns the spend without the usage that was written off.
    pub fn beyond(self, written_off: Usage) -> Self {
        let charged = Usage { tokens: Some(self.tokens), cost: Some(self.cost) }.since(written_off);
        Self {
            tokens: charged.tokens.unwrap_or_default(),
            cost: charged.cost.unwrap_or_default(),
            ..self
        }
    }

    /// Returns the tokens; `None` if sessions ended and none of them reported tokens.
    pub fn known_tokens(self) -> Option<Tokens> {
        (self.sessions_with_tokens > 0 || self.sessions_without_tokens == 0).then_some(self.tokens)
    }

    /// Returns the cost; `None` if no session reported a cost.
    pub fn known_cost(self) -> Option<Cost> {
        (self.sessions_with_cost > 0).then_some(self.cost)
    }
}

/// A session that may be resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The session id.
    pub id: String,
    /// The name of the session's worktree. Some agents find a session only in its worktree.
    pub worktree: String,
    /// The repository and machine that hold the session.
    pub owner: String,
    /// The part of a cumulative usage that is already in the task's spend.
    pub counted: Usage,
}

/// The report of a session, as far as its output reveals it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionReport {
    /// The class.
    pub class: Class,
    /// The words of the agent that justify the class, on one line.
    pub detail: Option<String>,
    /// The session id.
    pub session: Option<String>,
    /// The usage.
    pub usage: Usage,
    /// True if `usage` counts from the start of the session and not from the start of this
    /// invocation.
    pub cumulative: bool,
    /// The time at which a limit is lifted, if it was reported.
    pub resets_at: Option<Timestamp>,
    /// The model that a limit applies to, if the service named the model.
    pub limited_model: Option<String>,
    /// The number of denied tool calls.
    pub denials: u32,
    /// The progress of the session.
    pub progress: SessionProgress,
}

impl SessionReport {
    /// Returns true if the service answered the session.
    pub fn answered(&self) -> bool {
        self.progress == SessionProgress::Answered
    }

    /// Returns the report of a session that was not started: the task exceeds the context window,
    /// or the agent cannot be run. Its usage is zero.
    pub fn not_started(class: Class, why: String) -> Self {
        Self {
            class,
            detail: Some(why),
            session: None,
            usage: Usage { tokens: Some(Tokens::default()), cost: Some(Cost(0)) },
            cumulative: false,
            resets_at: None,
            limited_model: None,
            denials: 0,
            progress: SessionProgress::Started,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, Cost, Tokens};

    #[test]
    fn class_is_parsed_from_its_word() {
        for class in Class::ALL {
            assert_eq!(Class::parse(class.as_str()), Some(class));
        }
        assert_eq!(Class::parse("fine"), None);
    }

    #[test]
    fn cost_from_usd_refuses_invalid_amounts() {
        assert_eq!(Cost::from_usd(0.000_123_456), Some(Cost(123_456)));
        for invalid in [f64::NAN, f64::INFINITY, -0.01, 1e10] {
            assert_eq!(Cost::from_usd(invalid), None);
        }
    }

    #[test]
    fn amount_below_a_cent_is_shown_with_two_digits() {
        let shown = [0, 420, 4_200_000, 9_999_999, 10_000_000, 12_345_000_000];
        let texts = shown.map(|billionths| Cost(billionths).to_string());
        assert_eq!(texts, ["$0.00", "$0.00000042", "$0.0042", "$0.0100", "$0.01", "$12.35"]);
    }

    #[test]
    fn cumulative_tokens_are_subtracted_and_never_negative() {
        let first = Tokens { input: 130, output: 7, cache_read: 0, cache_write: 0 };
        let second = Tokens { input: 390, output: 21, cache_read: 5, cache_write: 0 };
        let since = second.since(first);
        assert_eq!((since.input, since.output, since.cache_read), (260, 14, 5));
        assert_eq!(first.since(second).total(), 0);
    }
}
