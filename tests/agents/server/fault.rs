//! What the server does instead of answering as it should, and when.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One way for a request not to be answered as it should be.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// 429: nothing for anybody until the limit lifts.
    Limited(Limit),
    /// 529, or what the protocol has for it.
    Overloaded,
    /// 401.
    Unauthorized,
    /// 400: the prompt is too long.
    ContextExceeded,
    /// The connection ends in the middle of the answer.
    Dropped,
    /// Nothing more comes, from the middle of the answer on.
    HangMidway,
    /// Not even the headers come.
    HangAtOnce,
    /// The answer comes late.
    Slow(Duration),
}

impl Fault {
    /// Its name in the log.
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

    /// Whether the model's answer gets through nevertheless, and is paid for.
    pub(super) fn answers(&self) -> bool {
        matches!(self, Self::Slow(_))
    }
}

/// A limit of the account that lifts by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// When.
    pub(crate) until: Instant,
    /// Whether it is told as a window of a subscription, and not just as seconds to wait.
    pub(crate) window: bool,
}

impl Limit {
    /// A limit from now on.
    pub(crate) fn lifting_in(time: Duration, window: bool) -> Self {
        Self { until: Instant::now() + time, window }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Rounded up: a client that waits as long is not too early.
    pub(super) fn seconds_left(&self) -> u64 {
        self.left().as_secs() + 1
    }

    /// The moment as seconds since 1970, rounded up.
    pub(super) fn resets_at(&self) -> u64 {
        let at = SystemTime::now() + self.left();
        at.duration_since(UNIX_EPOCH).unwrap().as_secs() + 1
    }
}
