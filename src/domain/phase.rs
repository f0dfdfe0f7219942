//! Where a task stands.

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Phase {
    /// Waiting for an attempt.
    #[default]
    Todo,
    /// An attempt is under way (or its end has not been seen yet).
    Running,
    /// A candidate waits for its checks, or is being checked.
    Verifying,
    /// Accepted; waits for a person to approve it.
    Reviewing,
    /// Accepted; waits to land.
    Queued,
    /// On the target branch.
    Done,
    /// No try is left.
    Failed,
    /// Taken out by a person.
    Skipped,
}

impl Phase {
    /// All of them.
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

    /// Whether nothing more will happen to the task by itself.
    pub fn ended(&self) -> bool {
        match self {
            Self::Done | Self::Failed | Self::Skipped => true,
            Self::Todo | Self::Running | Self::Verifying | Self::Reviewing | Self::Queued => false,
        }
    }

    /// The phase with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == word)
    }

    /// The word that users see.
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
