//! Inputs and effects of a merge queue.

use super::entry::{EjectReason, Entry};
use super::id::{EntryId, TrainId};
use crate::domain::id::Oid;
use crate::domain::verdict::Verdict;

/// The purpose of a train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainKind {
    /// Screens a group in parallel with other lanes. Entries that pass still have to be integrated.
    Lane,
    /// Verifies groups on the real tip. Entries that pass land.
    Integrate,
    /// Verifies one suspect alone on the real tip. An entry that fails here is rejected.
    Confirm,
}

impl TrainKind {
    /// Returns the word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lane => "screen",
            Self::Integrate => "integrate",
            Self::Confirm => "confirm",
        }
    }
}

/// A commit of a train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Car {
    /// The entry whose change the commit contains.
    pub entry: EntryId,
    /// The commit. Its parent is the commit of the car before.
    pub commit: Oid,
    /// The commit's tree.
    pub tree: Oid,
}

/// An entry that was left out of a train because it conflicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The entry.
    pub entry: EntryId,
    /// The paths in conflict.
    pub paths: Vec<String>,
    /// True if the entry conflicts with the train's base, not only with cars before it.
    pub with_base: bool,
}

/// An input of the queue. Late or repeated inputs and inputs for a train that no longer exists have
/// no effect, except for landings, which are facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueInput {
    /// Entries want to land. One input holds several entries so that the entries can share a train.
    Added(Vec<Entry>),
    /// A person removed the entry.
    Removed(EntryId),
    /// The entry has a new candidate.
    Replaced {
        /// The entry.
        entry: EntryId,
        /// The new candidate.
        candidate: Oid,
    },
    /// The entry waits for an approval.
    Held(EntryId),
    /// The entry is approved.
    Released(EntryId),
    /// A train was built from the entries that could be merged.
    Built {
        /// The train.
        train: TrainId,
        /// The commits, in order.
        cars: Vec<Car>,
        /// The entries that were left out.
        conflicts: Vec<Conflict>,
    },
    /// An owed verification has ended.
    Verified {
        /// The train.
        train: TrainId,
        /// The number of verified cars.
        prefix: usize,
        /// The number of the attempt, as in [`QueueEffect::Verify`].
        attempt: u32,
        /// The verdict.
        verdict: Verdict<String>,
    },
    /// A verification passed on this tree. Other trains with the same tree need none of their own.
    TreePassed(Oid),
    /// The target contains these candidates. Any process may have landed them.
    Landed {
        /// The target's new tip.
        tip: Oid,
        /// The tip's tree.
        tree: Oid,
        /// The landed entries, each with the candidate that landed.
        entries: Vec<(EntryId, Oid)>,
    },
    /// Another process moved the target.
    TargetMoved {
        /// The new tip.
        tip: Oid,
        /// The tip's tree.
        tree: Oid,
    },
    /// A waiting entry conflicts with the target's tip.
    ConflictFound {
        /// The entry.
        entry: EntryId,
        /// The candidate that was merged.
        candidate: Oid,
        /// The tip onto which the candidate was merged.
        tip: Oid,
        /// The paths in conflict.
        paths: Vec<String>,
    },
    /// An entry cannot land, whatever its checks say.
    Refused {
        /// The entry.
        entry: EntryId,
        /// The refused candidate.
        candidate: Oid,
        /// The reason.
        reason: String,
    },
    /// An earlier worker process rejected the entry; the finding is not known. Like a landing, this
    /// input is a fact.
    Rejected(EntryId),
    /// The ejection of an entry was recorded and reported.
    Ejected {
        /// The entry.
        entry: EntryId,
        /// The candidate that was ejected.
        candidate: Oid,
    },
    /// A person paused the queue.
    Paused,
    /// A person resumed the queue.
    Resumed,
}

/// An owed effect. An effect stays owed until its answer arrives. Effects are idempotent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueEffect {
    /// Merge the entries one after the other, in memory. Answer: [`QueueInput::Built`].
    Build {
        /// The train.
        train: TrainId,
        /// The train's base.
        onto: Oid,
        /// The entries with their candidates, in order.
        entries: Vec<(EntryId, Oid)>,
    },
    /// Run the checks. Answer: [`QueueInput::Verified`]. A verification that is no longer owed may
    /// be stopped.
    Verify {
        /// The train.
        train: TrainId,
        /// The number of cars to verify. 0 means the train's base.
        prefix: usize,
        /// The number of the attempt.
        attempt: u32,
        /// The purpose of the train.
        kind: TrainKind,
        /// The commit on which the train stands.
        onto: Oid,
        /// The commit of the prefix's last car.
        commit: Oid,
        /// The commit's tree.
        tree: Oid,
    },
    /// Move the target by compare-and-swap. Answer: [`QueueInput::Landed`] or
    /// [`QueueInput::TargetMoved`].
    Land {
        /// The train.
        train: TrainId,
        /// The expected tip.
        onto: Oid,
        /// The new tip.
        commit: Oid,
        /// The new tip's tree, which has passed.
        tree: Oid,
        /// The landing entries, in order.
        entries: Vec<(EntryId, Oid)>,
    },
    /// Record and report that an entry is ejected. Answer: [`QueueInput::Ejected`].
    Eject {
        /// The entry.
        entry: EntryId,
        /// The entry's candidate.
        candidate: Oid,
        /// The reason for the ejection.
        reason: EjectReason,
    },
}

/// The reason why a queue with waiting entries owes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A person paused the queue.
    Paused,
    /// The target's tip fails its own checks, so no verdict on a train would mean anything.
    TipFails,
}
