//! The merge queue of one target: what is tried with what, what lands, and what leaves.
//!
//! A fold over what was seen, and what is owed is a function of the state alone, so recovery is folding again and asking
//! again. Entries wait in the `pool`; groups of them are built into a `train` each and verified.
//!
//! - With one place, a train stands on the target's tip. Green: it lands. Red: it is bisected, left half first; the
//!   prefix that passes lands, the first entry behind it that makes it fail is tried once more alone on the tip, and what
//!   is behind that goes back, because nothing is known of it.
//! - With more, all but one of the places are lanes, which screen groups beside each other in the same way but land
//!   nothing. The integrator puts together what has passed, verifies the union on the real tip and lands it. Red: it is
//!   asked for prefixes that end with groups; the longest that passes lands, the group behind it goes to a lane, known to
//!   fail, and the rest is put together anew.
//!
//! The gate: what lands is a prefix of a train that stands on the target's tip, and its tree has passed. Only what
//! fails alone on the tip, or does not merge with it, is to blame, and only if the tip itself passes. Everything else,
//! from lanes to groups, is there to find out fast and may be wrong.

mod check;
mod entry;
mod outcome;
mod rate;
mod schedule;
#[cfg(test)]
mod tests;
mod train;
mod transitions;
mod types;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::waiting::WaitingEntries;
use super::id::Oid;

pub use self::entry::{EjectReason, Entry, EntryId, EntryStatus, QueueItem};
pub use self::rate::{FailureRate, LARGEST_GROUP};
pub use self::train::{FailedPrefix, Train};
pub use self::types::{Car, Conflict, QueueEffect, QueueInput, Ruling, StopReason, TrainKind};
pub use self::waiting::rank;

/// The number of a train. It is never given twice in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrainId(pub u64);

/// How a queue works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    /// The most entries in a group, 1 to [`LARGEST_GROUP`].
    pub batch: usize,
    /// How many verifications may be under way.
    pub concurrency: usize,
    /// Whether every commit that lands needs a verdict, and not only a train's last one.
    pub verify_each: bool,
    /// Waiting for so many milliseconds is worth one point of priority.
    pub ageing: u64,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { batch: 8, concurrency: 1, verify_each: false, ageing: 3_600_000 }
    }
}

/// An entry that is to be tried alone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Suspect {
    entry: EntryId,
    /// What was before it in the train that failed with it. It may be only together with these that it fails, so it is
    /// tried when they have landed or failed.
    company: Vec<EntryId>,
}

/// The queue of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    settings: QueueSettings,
    tip: Oid,
    tree: Oid,
    items: BTreeMap<EntryId, QueueItem>,
    pool: WaitingEntries,
    /// Groups that have passed in a lane, or entries alone on the tip, oldest first.
    green: VecDeque<Vec<EntryId>>,
    suspects: VecDeque<Suspect>,
    trains: BTreeMap<TrainId, Train>,
    /// Trees that pass.
    known: BTreeSet<Oid>,
    rate: FailureRate,
    /// The most entries that are integrated at a time: less after a union that failed.
    window: usize,
    /// Entries that have left, and nobody was told.
    leaving: BTreeSet<EntryId>,
    trains_made: u64,
    items_made: u64,
    stop: Option<StopReason>,
}

impl Queue {
    /// An empty queue before a target, given by its tip and that commit's tree.
    pub fn new(settings: QueueSettings, tip: Oid, tree: Oid) -> Self {
        let batch = settings.batch.clamp(1, LARGEST_GROUP);
        let settings =
            QueueSettings { batch, concurrency: settings.concurrency.max(1), ..settings };
        let mut queue = Self {
            settings,
            tip,
            tree,
            items: BTreeMap::new(),
            pool: WaitingEntries::default(),
            green: VecDeque::new(),
            suspects: VecDeque::new(),
            trains: BTreeMap::new(),
            known: BTreeSet::new(),
            rate: FailureRate::default(),
            window: 0,
            leaving: BTreeSet::new(),
            trains_made: 0,
            items_made: 0,
            stop: None,
        };
        queue.window = queue.widest();
        queue
    }

    /// Folds what was seen. Total: whatever comes, and however late, has a meaning or none.
    pub fn apply(&mut self, seen: QueueInput) {
        self.absorb(seen);
        self.settle();
    }

    /// The same without what follows from it: for much that was seen at once, of which [`Queue::settle`] draws the sum.
    pub fn absorb(&mut self, seen: QueueInput) {
        match seen {
            QueueInput::Added(entries) => self.added(entries),
            QueueInput::Removed(entry) => self.removed(&entry),
            QueueInput::Replaced { entry, candidate } => self.replaced(&entry, candidate),
            QueueInput::Held(entry) => self.held(&entry, true),
            QueueInput::Released(entry) => self.held(&entry, false),
            QueueInput::Built { train, cars, conflicts } => self.built(train, cars, conflicts),
            QueueInput::Verified { train, prefix, attempt, ruling } => {
                self.judged(train, prefix, attempt, ruling);
            }
            QueueInput::TreePassed(tree) => self.learn(tree),
            QueueInput::Landed { tip, tree, entries } => self.landed(tip, tree, &entries),
            QueueInput::TargetMoved { tip, tree } => self.target_moved(tip, tree),
            QueueInput::ConflictFound { entry, candidate, tip, paths } => {
                self.conflicts(&entry, &candidate, &tip, paths);
            }
            QueueInput::Rejected(entry) => self.rejected(&entry),
            QueueInput::Ejected { entry, candidate } => {
                if self.items.get(&entry).is_some_and(|i| i.entry.candidate == candidate) {
                    self.leaving.remove(&entry);
                }
            }
            QueueInput::Paused => self.stop = Some(StopReason::Paused),
            QueueInput::Resumed => self.stop = None,
        }
    }

    /// What is owed, what frees most first.
    pub fn owed(&self) -> Vec<QueueEffect> {
        let stopped = self.stop.is_some();
        let trains = || self.trains.iter().filter(|_| !stopped);
        let mut owed: Vec<QueueEffect> =
            trains().filter_map(|(id, train)| self.owed_landing(*id, train)).collect();
        owed.extend(self.leaving.iter().filter_map(|id| self.owed_ejection(id)));
        owed.extend(trains().filter(|(_, train)| !train.built()).map(|(id, train)| {
            QueueEffect::Build { train: *id, onto: train.onto.clone(), entries: train.plan.clone() }
        }));
        for (id, train) in trains() {
            owed.extend(train.running.iter().filter_map(|(prefix, attempt)| {
                let (commit, tree) = train.at(*prefix)?;
                Some(QueueEffect::Verify {
                    train: *id,
                    prefix: *prefix,
                    attempt: *attempt,
                    kind: train.kind,
                    commit: commit.clone(),
                    tree: tree.clone(),
                })
            }));
        }
        owed
    }

    fn owed_landing(&self, id: TrainId, train: &Train) -> Option<QueueEffect> {
        let lands = train.landed..train.good;
        if train.kind != TrainKind::Integrate || lands.is_empty() || *train.base() != self.tip {
            return None;
        }
        let (commit, tree) = train.at(train.good)?;
        let cars = train.cars().get(lands.clone())?;
        // Never without a verdict for just this tree, whatever led here.
        let proven = |car: &Car| self.known.contains(&car.tree);
        let whole = !self.settings.verify_each || cars.iter().all(proven);
        if !whole || !self.known.contains(tree) {
            return None;
        }
        let candidates = train.candidates.get(lands)?;
        let entries = cars.iter().map(|s| s.entry.clone()).zip(candidates.iter().cloned());
        Some(QueueEffect::Land {
            train: id,
            onto: self.tip.clone(),
            commit: commit.clone(),
            tree: tree.clone(),
            entries: entries.collect(),
        })
    }

    fn owed_ejection(&self, id: &EntryId) -> Option<QueueEffect> {
        let item = self.items.get(id)?;
        match &item.status {
            EntryStatus::Ejected(reason) => Some(QueueEffect::Eject {
                entry: id.clone(),
                candidate: item.entry.candidate.clone(),
                reason: reason.clone(),
            }),
            EntryStatus::Waiting
            | EntryStatus::Screening(_)
            | EntryStatus::Screened
            | EntryStatus::Integrating(_)
            | EntryStatus::Suspected
            | EntryStatus::Confirming(_)
            | EntryStatus::Landed => None,
        }
    }

    /// The target's tip.
    pub fn tip(&self) -> &Oid {
        &self.tip
    }

    /// An entry, also when it is over.
    pub fn item(&self, id: &EntryId) -> Option<&QueueItem> {
        self.items.get(id)
    }

    /// All entries, also those that are over, by name.
    pub fn items(&self) -> impl Iterator<Item = &QueueItem> {
        self.items.values()
    }

    /// The trains that there are, oldest first.
    pub fn trains(&self) -> impl Iterator<Item = (TrainId, &Train)> {
        self.trains.iter().map(|(id, train)| (*id, train))
    }

    /// The entries that are in no train, in the order in which they will be taken.
    pub fn waiting(&self) -> impl Iterator<Item = &QueueItem> {
        self.pool.ids().filter_map(|id| self.items.get(id))
    }

    /// Why nothing happens, if something keeps it from happening.
    pub fn stopped(&self) -> Option<StopReason> {
        self.stop
    }

    /// Whether every entry has landed or left.
    pub fn is_empty(&self) -> bool {
        self.leaving.is_empty() && self.items.values().all(|i| i.status.ended())
    }

    /// Whether the integrator takes entries as they come, because there are no lanes.
    fn direct(&self) -> bool {
        self.settings.concurrency == 1 || self.settings.verify_each
    }

    /// The most entries that are ever integrated at a time.
    fn widest(&self) -> usize {
        2 * self.settings.concurrency * self.settings.batch
    }
}
