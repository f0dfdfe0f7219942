//! The state of a queue.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::entry::QueueItem;
use super::id::{EntryId, TrainId};
use super::rate::{FailureRate, LARGEST_GROUP};
use super::train::Train;
use super::types::StopReason;
use super::waiting::WaitingEntries;
use crate::domain::id::Oid;

/// The size of a long group. Longer groups do not widen the window, because large unions fail too
/// often on semantic conflicts, and idle lanes help to bisect them.
pub(super) const LONG_GROUP: usize = 16;
/// The smallest size to which failed unions shrink the groups of lanes.
const LEAST_LANE: usize = 8;

/// The limits of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    /// The largest size of a group, 1 to [`LARGEST_GROUP`].
    pub batch: usize,
    /// The number of verifications that may run at the same time.
    pub concurrency: usize,
    /// True if every landing commit needs a verdict, not only the last commit of a train.
    pub verify_each: bool,
    /// Milliseconds of waiting that are worth one point of priority.
    pub ageing: u64,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { batch: LARGEST_GROUP, concurrency: 1, verify_each: false, ageing: 3_600_000 }
    }
}

/// An entry to be verified alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) entry: EntryId,
    /// The entries that preceded the suspect in the failed train. The failure may depend on one of
    /// these entries, so the suspect is verified after they have landed or failed.
    pub(super) predecessors: Vec<EntryId>,
}

/// The queue of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    pub(super) settings: QueueSettings,
    pub(super) tip: Oid,
    pub(super) tree: Oid,
    pub(super) items: BTreeMap<EntryId, QueueItem>,
    pub(super) waiting: WaitingEntries,
    /// Groups that passed in a lane, and entries that passed alone on the tip, oldest first.
    pub(super) passed_groups: VecDeque<Vec<EntryId>>,
    pub(super) suspects: VecDeque<Suspect>,
    pub(super) trains: BTreeMap<TrainId, Train>,
    /// Trees with a passed verdict.
    pub(super) passing_trees: BTreeSet<Oid>,
    pub(super) rate: FailureRate,
    /// The limit on the entries that are integrated together. It is not effective until a union
    /// fails, halves after a failed union and doubles after a success.
    pub(super) window: usize,
    /// Ejected entries whose ejection is not recorded yet.
    pub(super) unrecorded_ejections: BTreeSet<EntryId>,
    pub(super) last_train: u64,
    pub(super) next_seq: u64,
    pub(super) stop: Option<StopReason>,
}

impl Queue {
    /// Creates an empty queue for a target with the given tip and tree.
    pub fn new(settings: QueueSettings, tip: Oid, tree: Oid) -> Self {
        let batch = settings.batch.clamp(1, LARGEST_GROUP);
        let settings =
            QueueSettings { batch, concurrency: settings.concurrency.max(1), ..settings };
        Self {
            settings,
            tip,
            tree,
            items: BTreeMap::new(),
            waiting: WaitingEntries::default(),
            passed_groups: VecDeque::new(),
            suspects: VecDeque::new(),
            trains: BTreeMap::new(),
            passing_trees: BTreeSet::new(),
            rate: FailureRate::default(),
            window: usize::MAX,
            unrecorded_ejections: BTreeSet::new(),
            last_train: 0,
            next_seq: 0,
            stop: None,
        }
    }

    /// Returns the target's tip.
    pub fn tip(&self) -> &Oid {
        &self.tip
    }

    /// Returns an entry, ended or not.
    pub fn item(&self, id: &EntryId) -> Option<&QueueItem> {
        self.items.get(id)
    }

    /// Returns all entries, ended or not, by name.
    pub fn items(&self) -> impl Iterator<Item = &QueueItem> {
        self.items.values()
    }

    /// Returns the trains, oldest first.
    pub fn trains(&self) -> impl Iterator<Item = (TrainId, &Train)> {
        self.trains.iter().map(|(id, train)| (*id, train))
    }

    /// Returns the entries that are in no train, in the order in which they will be taken.
    pub fn waiting(&self) -> impl Iterator<Item = &QueueItem> {
        self.waiting.ids().filter_map(|id| self.items.get(id))
    }

    /// Returns the reason why the queue is stopped, if it is.
    pub fn stopped(&self) -> Option<StopReason> {
        self.stop
    }

    /// Returns true if every entry has landed or was ejected.
    pub fn is_empty(&self) -> bool {
        self.unrecorded_ejections.is_empty() && self.items.values().all(|i| i.status.ended())
    }

    /// Returns true if there are no lanes: the integrator takes entries directly.
    pub(super) fn integrates_directly(&self) -> bool {
        self.settings.concurrency == 1 || self.settings.verify_each
    }

    /// Returns the number of entries that the next train takes.
    pub fn train_size(&self) -> usize {
        let batch = self.settings.batch;
        // With `verify_each`, a failure costs a long train no more than a short train.
        if self.settings.verify_each {
            return batch;
        }
        let size = self.rate.group_size(batch);
        if self.integrates_directly() {
            return size;
        }
        // Failed unions are a sign of semantic conflicts, which no lane can find. With smaller
        // groups, the group that the integrator finds to be the culprit is smaller.
        (size * self.window() / self.max_window()).max(size.min(LEAST_LANE))
    }

    /// Returns the number of entries that are integrated together, at most.
    pub(super) fn window(&self) -> usize {
        self.window.min(self.max_window())
    }

    /// Returns the lower limit of the window.
    pub(super) fn min_window(&self) -> usize {
        self.rate.group_size(self.settings.batch).min(LONG_GROUP)
    }

    /// Returns the upper limit of the window.
    pub(super) fn max_window(&self) -> usize {
        2 * self.settings.concurrency * self.min_window()
    }
}
