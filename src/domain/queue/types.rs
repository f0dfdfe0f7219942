//! What a queue is told, and what it owes.

use super::TrainId;
use super::entry::{EjectReason, Entry, EntryId};
use crate::domain::id::Oid;

/// What a train is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainKind {
    /// It screens, beside others. What passes here is still to be integrated.
    Lane,
    /// It decides, on the real tip. What passes here lands.
    Integrate,
    /// One entry alone on the real tip: what fails here, too, is rejected.
    Confirm,
}

impl TrainKind {
    /// The word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lane => "screen",
            Self::Integrate => "integrate",
            Self::Confirm => "confirm",
        }
    }
}

/// One commit of a train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Car {
    /// Whose change it is.
    pub entry: EntryId,
    /// The commit; its parent is that of the car before.
    pub commit: Oid,
    /// Its tree.
    pub tree: Oid,
}

/// An entry that could not be merged into a train; it was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Which one.
    pub entry: EntryId,
    /// The paths in conflict.
    pub paths: Vec<String>,
    /// Whether it conflicts with the commit on which the train stands, and not only with those before it in the train.
    pub alone: bool,
}

/// What was said of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// It passes.
    Green,
    /// It does not; where to read reason.
    Red(String),
    /// The checks could not be run. Nobody in the train is to blame.
    Broken(String),
}

/// Something that was seen. What comes late, twice or for a train that is no more changes nothing, except for landings:
/// those are facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueInput {
    /// These want to land. Together in one word, so that they can share a train.
    Added(Vec<Entry>),
    /// A person takes it out.
    Removed(EntryId),
    /// The branch has another tip.
    Replaced {
        /// Which entry.
        entry: EntryId,
        /// What wants to land now.
        candidate: Oid,
    },
    /// It waits for an approval.
    Held(EntryId),
    /// It is approved.
    Released(EntryId),
    /// A train was built, with whatever could be merged.
    Built {
        /// Which train.
        train: TrainId,
        /// Its commits, in order.
        cars: Vec<Car>,
        /// Those that are left out.
        conflicts: Vec<Conflict>,
    },
    /// A verification that was owed is over.
    Verified {
        /// Which train.
        train: TrainId,
        /// How many of its cars.
        prefix: usize,
        /// Which time, as it was asked.
        attempt: u32,
        /// What was said.
        ruling: Ruling,
    },
    /// A verdict of somebody else: this tree passes.
    TreePassed(Oid),
    /// The target has these candidates on it, whoever brought them there.
    Landed {
        /// The target's tip now.
        tip: Oid,
        /// Its tree.
        tree: Oid,
        /// What has landed: entries with the candidates that they had.
        entries: Vec<(EntryId, Oid)>,
    },
    /// Somebody else moved the target.
    TargetMoved {
        /// To here.
        tip: Oid,
        /// Its tree.
        tree: Oid,
    },
    /// It does not merge with the target's tip, as was found while it waited.
    ConflictFound {
        /// Which entry.
        entry: EntryId,
        /// The candidate that was tried.
        candidate: Oid,
        /// The tip on which it was tried.
        tip: Oid,
        /// In these paths.
        paths: Vec<String>,
    },
    /// An earlier process has rejected it, of which this is all that is known. A fact, like a landing.
    Rejected(EntryId),
    /// An entry's leaving has been told and written.
    Ejected {
        /// Which one.
        entry: EntryId,
        /// The candidate that it had.
        candidate: Oid,
    },
    /// A person stops the queue.
    Paused,
    /// It goes on.
    Resumed,
}

/// Something that is owed. It stays owed until the answer is seen; to do it twice is to do it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueEffect {
    /// Merge these, one after the other, in memory. Answer: [`QueueInput::Built`].
    Build {
        /// Which train.
        train: TrainId,
        /// The commit on which it stands.
        onto: Oid,
        /// Entries with their candidates.
        entries: Vec<(EntryId, Oid)>,
    },
    /// Run the checks. Answer: [`QueueInput::Verified`]. What is no longer owed may be ended before its time.
    Verify {
        /// Which train.
        train: TrainId,
        /// How many of its cars; 0 is the commit on which it stands.
        prefix: usize,
        /// Which time.
        attempt: u32,
        /// What for.
        kind: TrainKind,
        /// The commit of the prefix's last car.
        commit: Oid,
        /// Its tree.
        tree: Oid,
    },
    /// Move the target, by compare-and-swap. Answer: [`QueueInput::Landed`] or [`QueueInput::TargetMoved`].
    Land {
        /// Which train.
        train: TrainId,
        /// The tip as it has to be.
        onto: Oid,
        /// The tip as it is to be.
        commit: Oid,
        /// Its tree, which passed.
        tree: Oid,
        /// What lands, in order.
        entries: Vec<(EntryId, Oid)>,
    },
    /// Tell and write that an entry has left. Answer: [`QueueInput::Ejected`].
    Eject {
        /// Which one.
        entry: EntryId,
        /// Its candidate.
        candidate: Oid,
        /// EjectReason.
        reason: EjectReason,
    },
}

/// Why nothing is owed although entries wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A person said so.
    Paused,
    /// The target's own tip does not pass, so nothing can be said of what is put on top of it.
    TipFails,
}
