//! The phases of a task.

/// The phase of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Phase {
    /// The task waits for an attempt.
    #[default]
    Todo,
    /// An attempt is running, or its end has not been observed yet.
    Running,
    /// A candidate waits for its checks or its evaluator, or they are running.
    Verifying,
    /// The candidate was accepted and waits for a review.
    Reviewing,
    /// The candidate was accepted and waits to land.
    Queued,
    /// The work is on the target branch, or its output was accepted.
    Done,
    /// The task has no try left.
    Failed,
    /// A person skipped the task, or its parts replaced it.
    Skipped,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Self; 8] = [
        Self::Todo,
        Self::Running,
        Self::Verifying,
        Self::Reviewing,
        Self::Queued,
        Self::Done,
        Self::Failed,
        Self::Skipped,
    ];

    /// Returns the position in [`ALL`](Self::ALL).
    pub(super) fn number(&self) -> usize {
        match self {
            Self::Todo => 0,
            Self::Running => 1,
            Self::Verifying => 2,
            Self::Reviewing => 3,
            Self::Queued => 4,
            Self::Done => 5,
            Self::Failed => 6,
            Self::Skipped => 7,
        }
    }

    /// Returns true if the task is done, failed or skipped.
    pub fn ended(&self) -> bool {
        match self {
            Self::Done | Self::Failed | Self::Skipped => true,
            Self::Todo | Self::Running | Self::Verifying | Self::Reviewing | Self::Queued => false,
        }
    }

    /// Parses the word of a phase.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == word)
    }

    /// Returns the word that users see.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Todo => "todo",
            Self::Running => "running",
            Self::Verifying => "verifying",
            Self::Reviewing => "reviewing",
            Self::Queued => "queued",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}
