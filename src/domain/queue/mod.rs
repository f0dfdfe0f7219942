//! The merge queue of one target. The queue decides which entries form a train, land, or are
//! ejected.
//!
//! The state is a fold over inputs, and the owed effects are a function of the state alone.
//! Recovery is therefore a replay of the inputs. Waiting entries are grouped; each group is built
//! into a `train`, and prefixes of the train are verified.
//!
//! - With a concurrency of 1, the train stands on the target's tip. A train that passes lands. A
//!   train that fails is bisected, left half first. The longest prefix that passes lands. The entry
//!   behind this prefix makes the train fail and is verified alone on the tip. The later entries
//!   return to the queue, because no verdict covers them.
//! - With a higher concurrency, all verifications but one belong to lanes. A lane screens a group
//!   in the same way but lands nothing. The integrator merges the groups that have passed, verifies
//!   the union on the real tip and lands it. If the union fails, prefixes of whole groups are
//!   verified. The longest prefix that passes lands. The group behind this prefix goes to a lane as
//!   a known failure, and the remaining groups are integrated again.
//!
//! The landing rule: only a prefix of a train that stands on the target's tip lands, and only with
//! a passed verdict for its tree. An entry is rejected only if it fails alone on the tip and the
//! tip itself passes, or if it conflicts with the tip. Lanes and groups only save time: the rule
//! holds even if their verdicts are wrong.

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
pub use self::types::{Car, Conflict, QueueEffect, QueueInput, StopReason, TrainKind};
pub use self::waiting::rank;

/// The number of a train, unique within a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrainId(pub u64);

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
        Self { batch: 8, concurrency: 1, verify_each: false, ageing: 3_600_000 }
    }
}

/// An entry to be verified alone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Suspect {
    entry: EntryId,
    /// The entries that preceded the suspect in the failed train. The failure may depend on one of
    /// these entries, so the suspect is verified after they have landed or failed.
    predecessors: Vec<EntryId>,
}

/// The queue of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    settings: QueueSettings,
    tip: Oid,
    tree: Oid,
    items: BTreeMap<EntryId, QueueItem>,
    waiting: WaitingEntries,
    /// Groups that passed in a lane, and entries that passed alone on the tip, oldest first.
    passed_groups: VecDeque<Vec<EntryId>>,
    suspects: VecDeque<Suspect>,
    trains: BTreeMap<TrainId, Train>,
    /// Trees with a passed verdict.
    passing_trees: BTreeSet<Oid>,
    rate: FailureRate,
    /// The largest number of entries that are integrated together. The window doubles after a
    /// success and halves after a failed union.
    window: usize,
    /// Ejected entries whose ejection is not recorded yet.
    unrecorded_ejections: BTreeSet<EntryId>,
    last_train: u64,
    next_seq: u64,
    stop: Option<StopReason>,
}

impl Queue {
    /// Creates an empty queue for a target with the given tip and tree.
    pub fn new(settings: QueueSettings, tip: Oid, tree: Oid) -> Self {
        let batch = settings.batch.clamp(1, LARGEST_GROUP);
        let settings =
            QueueSettings { batch, concurrency: settings.concurrency.max(1), ..settings };
        let mut queue = Self {
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
            window: 0,
            unrecorded_ejections: BTreeSet::new(),
            last_train: 0,
            next_seq: 0,
            stop: None,
        };
        queue.window = queue.max_window();
        queue
    }

    /// Folds an input and draws all conclusions. Every input is accepted: a late or repeated input
    /// has no effect, except for landings.
    pub fn apply(&mut self, input: QueueInput) {
        self.fold(input);
        self.settle();
    }

    /// Folds an input without drawing conclusions. For batches of inputs; call [`Queue::settle`]
    /// afterwards.
    pub fn fold(&mut self, input: QueueInput) {
        match input {
            QueueInput::Added(entries) => self.added(entries),
            QueueInput::Removed(entry) => self.removed(&entry),
            QueueInput::Replaced { entry, candidate } => self.replaced(&entry, candidate),
            QueueInput::Held(entry) => self.set_held(&entry, true),
            QueueInput::Released(entry) => self.set_held(&entry, false),
            QueueInput::Built { train, cars, conflicts } => self.built(train, cars, conflicts),
            QueueInput::Verified { train, prefix, attempt, verdict } => {
                self.record_verdict(train, prefix, attempt, verdict);
            }
            QueueInput::TreePassed(tree) => self.tree_passed(tree),
            QueueInput::Landed { tip, tree, entries } => self.landed(tip, tree, &entries),
            QueueInput::TargetMoved { tip, tree } => self.target_moved(tip, tree),
            QueueInput::ConflictFound { entry, candidate, tip, paths } => {
                self.eject_conflicting(&entry, &candidate, &tip, paths);
            }
            QueueInput::Rejected(entry) => self.rejected(&entry),
            QueueInput::Ejected { entry, candidate } => {
                if self.items.get(&entry).is_some_and(|i| i.entry.candidate == candidate) {
                    self.unrecorded_ejections.remove(&entry);
                }
            }
            QueueInput::Paused => self.stop = Some(StopReason::Paused),
            QueueInput::Resumed => self.stop = None,
        }
    }

    /// Returns the owed effects: landings first, then ejections, builds and verifications.
    pub fn owed(&self) -> Vec<QueueEffect> {
        let stopped = self.stop.is_some();
        let trains = || self.trains.iter().filter(|_| !stopped);
        let mut owed: Vec<QueueEffect> =
            trains().filter_map(|(id, train)| self.owed_landing(*id, train)).collect();
        owed.extend(self.unrecorded_ejections.iter().filter_map(|id| self.owed_ejection(id)));
        owed.extend(trains().filter(|(_, train)| !train.is_built()).map(|(id, train)| {
            QueueEffect::Build { train: *id, onto: train.onto.clone(), entries: train.plan.clone() }
        }));
        for (id, train) in trains() {
            owed.extend(train.running.iter().filter_map(|(prefix, attempt)| {
                let (commit, tree) = train.prefix_end(*prefix)?;
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
        let lands = train.landed..train.passed;
        if train.kind != TrainKind::Integrate || lands.is_empty() || *train.base() != self.tip {
            return None;
        }
        let (commit, tree) = train.prefix_end(train.passed)?;
        let cars = train.cars().get(lands.clone())?;
        // The last landing car's tree needs a passed verdict. With `verify_each`, every landing
        // car's tree does.
        let proven = |car: &Car| self.passing_trees.contains(&car.tree);
        let whole = !self.settings.verify_each || cars.iter().all(proven);
        if !whole || !self.passing_trees.contains(tree) {
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
    fn integrates_directly(&self) -> bool {
        self.settings.concurrency == 1 || self.settings.verify_each
    }

    /// Returns the upper limit of the window.
    fn max_window(&self) -> usize {
        2 * self.settings.concurrency * self.settings.batch
    }
}
