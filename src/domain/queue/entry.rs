//! What waits in a queue: entries, and where each of them stands.

use std::fmt;

use super::TrainId;
use crate::domain::id::{BadName, Oid, Timestamp};

/// The name of an entry: a branch, or `RUN/TASK`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(Box<str>);

impl EntryId {
    /// Accepts what a branch can be called. Whether there is one is not asked here.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(BadName(format!("not the name of a branch or task: {text:?}")));
        }
        Ok(Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that wants to land.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: EntryId,
    /// Higher goes first.
    pub priority: i64,
    /// What has to land before it.
    pub after: Vec<EntryId>,
    /// Since when it waits: what has waited long goes before what has not.
    pub since: Timestamp,
    /// The commit that wants to land.
    pub candidate: Oid,
    /// Whether it waits for a person's approval.
    pub held: bool,
}

/// Why an entry leaves without having landed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EjectReason {
    /// Alone on the target's tip it does not pass.
    Rejected {
        /// Where it is told what was found.
        finding: String,
    },
    /// It does not merge with the target's tip.
    Conflict {
        /// In these paths.
        paths: Vec<String>,
    },
    /// What it comes after will not land.
    Blocked {
        /// That one.
        by: EntryId,
    },
}

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryStatus {
    /// In no train.
    Waiting,
    /// In a lane's train, and not passed yet.
    Screening(TrainId),
    /// Passed in a lane; waits for the integrator.
    Screened,
    /// In the integrator's train.
    Integrating(TrainId),
    /// A train fails as soon as this is in it; to be tried alone.
    Suspected,
    /// Tried alone on the target's tip.
    Confirming(TrainId),
    /// On the target.
    Landed,
    /// It has left.
    Ejected(EjectReason),
}

impl EntryStatus {
    /// Whether it is over.
    pub fn ended(&self) -> bool {
        match self {
            Self::Landed | Self::Ejected(_) => true,
            Self::Waiting
            | Self::Screening(_)
            | Self::Screened
            | Self::Integrating(_)
            | Self::Suspected
            | Self::Confirming(_) => false,
        }
    }
}

/// What the queue knows of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueItem {
    /// As it was added; the candidate is the newest one.
    pub entry: Entry,
    /// Where it stands.
    pub status: EntryStatus,
    /// How often it was suspected and then passed alone on the tip: checks that do not say the same twice.
    pub flakes: u32,
    /// The order of arrival.
    pub(super) seq: u64,
    /// It does not merge with what this train held before it, and waits until that is over.
    pub(super) conflicted: Option<TrainId>,
}
