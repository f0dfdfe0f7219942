//! Queue entries and their status.

use super::id::{EntryId, TrainId};
use crate::domain::id::{Oid, Timestamp};

/// A branch or task that wants to land.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The entry's name.
    pub id: EntryId,
    /// The priority. Higher lands first.
    pub priority: i64,
    /// Entries that have to land first.
    pub after: Vec<EntryId>,
    /// The time at which the entry began to wait. Among equal priorities, older entries go first.
    pub since: Timestamp,
    /// The commit to land.
    pub candidate: Oid,
    /// True if the entry waits for a person's approval.
    pub held: bool,
}

/// The reason why an entry was ejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EjectReason {
    /// The entry fails alone on the target's tip.
    Rejected {
        /// The place where the findings can be read.
        finding: String,
    },
    /// The entry cannot land, whatever its checks say.
    Refused {
        /// The reason.
        reason: String,
    },
    /// The entry conflicts with the target's tip.
    Conflict {
        /// The paths in conflict.
        paths: Vec<String>,
    },
    /// An entry that has to land first will not land.
    Blocked {
        /// The entry that will not land.
        by: EntryId,
    },
}

/// The status of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryStatus {
    /// The entry is in no train.
    Waiting,
    /// The entry is in a lane's train and has not passed yet.
    Screening(TrainId),
    /// The entry passed in a lane and waits for the integrator.
    Screened,
    /// The entry is in the integrator's train.
    Integrating(TrainId),
    /// A train fails from this entry on. The entry waits to be verified alone.
    Suspected,
    /// The entry is verified alone on the target's tip.
    Confirming(TrainId),
    /// The entry is on the target.
    Landed,
    /// The entry was ejected.
    Ejected(EjectReason),
}

impl EntryStatus {
    /// Returns true if the entry has landed or was ejected.
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

/// An entry with its state in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueItem {
    /// The entry as added, with the newest candidate.
    pub entry: Entry,
    /// The status.
    pub status: EntryStatus,
    /// The number of times the entry was suspected and then passed alone on the tip: a sign of
    /// flaky checks.
    pub flaky_failures: u32,
    /// The order of arrival.
    pub(super) seq: u64,
    /// The train in which the entry conflicts with a car before it. The entry waits until the train
    /// is gone.
    pub(super) conflicted: Option<TrainId>,
}
