//! Faults of the model server.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A fault of one response.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// 429 for every request until the limit lifts.
    Limited(Limit),
    /// 529, or the protocol's equivalent.
    Overloaded,
    /// 401.
    Unauthorized,
    /// 400: the prompt is too long.
    ContextExceeded,
    /// The connection closes in the middle of the answer.
    Dropped,
    /// The answer stops in the middle, and the connection stays open.
    HangMidway,
    /// No byte of the response arrives.
    HangAtOnce,
    /// The answer is late.
    Slow(Duration),
}

impl Fault {
    /// Returns the fault's name in the log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Limited(_) => "limited",
            Self::Overloaded => "overloaded",
            Self::Unauthorized => "unauthorized",
            Self::ContextExceeded => "context-exceeded",
            Self::Dropped => "dropped",
            Self::HangMidway => "hang-midway",
            Self::HangAtOnce => "hang-at-once",
            Self::Slow(_) => "slow",
        }
    }

    /// Returns true if the answer arrives and is paid for all the same.
    pub(super) fn answers(&self) -> bool {
        matches!(self, Self::Slow(_))
    }
}

/// A rate limit of the account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// The reset time.
    pub(crate) until: Instant,
    /// True for the window of a subscription, false for seconds to wait.
    pub(crate) window: bool,
}

impl Limit {
    /// Creates a limit that starts now.
    pub(crate) fn lifting_in(time: Duration, window: bool) -> Self {
        Self { until: Instant::now() + time, window }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Returns the seconds until the reset, rounded up so that a client is never early.
    pub(super) fn seconds_left(&self) -> u64 {
        self.left().as_secs() + 1
    }

    /// Returns the reset time in seconds since 1970, rounded up.
    pub(super) fn resets_at(&self) -> u64 {
        let at = SystemTime::now() + self.left();
        at.duration_since(UNIX_EPOCH).unwrap().as_secs() + 1
    }
}
