//! Waiting entries, in the order in which they are taken.
//!
//! The score of an entry is its priority plus one point for every `ageing` milliseconds of waiting.
//! All scores grow at the same rate, so their order never changes and no clock is needed. The order
//! is the order of `since - priority * ageing`.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, EntryStatus, QueueItem};
use super::id::{EntryId, TrainId};
use crate::domain::id::Timestamp;

/// The waiting entries, by score and by age.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct WaitingEntries {
    by_score: BTreeSet<(i128, u64, EntryId)>,
    by_age: BTreeSet<(u64, u64, EntryId)>,
}

/// Returns the sort key of an entry from its age and priority. Lower keys are taken first. `ageing`
/// is as in [`QueueSettings`](super::state::QueueSettings).
fn rank(since: Timestamp, priority: i64, ageing: u64) -> i128 {
    i128::from(since.0) - i128::from(priority) * i128::from(ageing.max(1))
}

/// Returns the entries in the order in which they land if all of them pass: in trains of `size`
/// entries, each with the oldest entry first and then the others by score. Entries that wait for an
/// approval, or for an entry that is not among `entries`, come last.
pub fn landing_order(entries: Vec<Entry>, size: usize, ageing: u64) -> Vec<EntryId> {
    let mut waiting = WaitingEntries::default();
    let mut items = BTreeMap::new();
    for (seq, entry) in (0..).zip(entries) {
        let status = EntryStatus::Waiting;
        let item = QueueItem { entry, status, flaky_failures: 0, seq, conflicted: None };
        waiting.insert(&item, ageing);
        items.insert(item.entry.id.clone(), item);
    }
    let mut order = Vec::with_capacity(items.len());
    loop {
        let train = waiting.pick(&items, &BTreeMap::<TrainId, ()>::new(), size.max(1));
        if train.is_empty() {
            break;
        }
        for id in &train {
            if let Some(item) = items.get_mut(id) {
                waiting.remove(item, ageing);
                item.status = EntryStatus::Landed;
            }
        }
        order.extend(train);
    }
    order.extend(waiting.ids().cloned());
    order
}

impl WaitingEntries {
    fn score(entry: &Entry, ageing: u64) -> i128 {
        rank(entry.since, entry.priority, ageing)
    }

    pub(super) fn insert(&mut self, item: &QueueItem, ageing: u64) {
        let (entry, seq) = (&item.entry, item.seq);
        self.by_score.insert((Self::score(entry, ageing), seq, entry.id.clone()));
        self.by_age.insert((entry.since.0, seq, entry.id.clone()));
    }

    pub(super) fn remove(&mut self, item: &QueueItem, ageing: u64) {
        let (entry, seq) = (&item.entry, item.seq);
        self.by_score.remove(&(Self::score(entry, ageing), seq, entry.id.clone()));
        self.by_age.remove(&(entry.since.0, seq, entry.id.clone()));
    }

    /// Returns the entries in the order in which they are taken.
    pub(super) fn ids(&self) -> impl Iterator<Item = &EntryId> {
        self.by_score.iter().map(|(_, _, id)| id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_score.is_empty()
    }

    /// Picks a group of at most `size` entries: the oldest entry first, the others by score. Every
    /// dependency of a picked entry has landed or precedes the entry in the group.
    pub(super) fn pick<T>(
        &self,
        items: &BTreeMap<EntryId, QueueItem>,
        trains: &BTreeMap<TrainId, T>,
        size: usize,
    ) -> Vec<EntryId> {
        let mut picking = GroupBuilder {
            items,
            size,
            group: Vec::new(),
            blocked: BTreeSet::new(),
            train_exists: &|id| trains.contains_key(&id),
        };
        for (_, _, id) in &self.by_age {
            picking.take(id);
            if !picking.group.is_empty() {
                break;
            }
        }
        for id in self.ids() {
            if picking.group.len() >= size {
                break;
            }
            picking.take(id);
        }
        picking.group
    }
}

/// A group that is being picked.
struct GroupBuilder<'a> {
    items: &'a BTreeMap<EntryId, QueueItem>,
    size: usize,
    group: Vec<EntryId>,
    /// Entries that cannot be taken now.
    blocked: BTreeSet<&'a EntryId>,
    train_exists: &'a dyn Fn(TrainId) -> bool,
}

impl<'a> GroupBuilder<'a> {
    fn free(&self, item: &QueueItem) -> bool {
        let conflicted = item.conflicted.is_some_and(|train| (self.train_exists)(train));
        item.status == EntryStatus::Waiting && !item.entry.held && !conflicted
    }

    /// Takes an entry and its dependencies, if all of them can be taken and there is room.
    fn take(&mut self, id: &'a EntryId) {
        if self.group.contains(id) {
            return;
        }
        let room = self.size.saturating_sub(self.group.len());
        let Some(mut chain) = self.chain(id, room) else { return };
        if chain.len() > room && !self.group.is_empty() {
            return;
        }
        chain.truncate(room);
        self.group.append(&mut chain);
    }

    /// Returns the dependencies of an entry that have not landed, in landing order, and then the
    /// entry. Returns `None` if one of these entries cannot be taken. May stop early if the result
    /// would not fit anyway.
    fn chain(&mut self, id: &'a EntryId, room: usize) -> Option<Vec<EntryId>> {
        let mut chain: Vec<EntryId> = Vec::new();
        let mut done: BTreeSet<&EntryId> = BTreeSet::new();
        // The current path of the depth-first search; each entry with the number of dependencies
        // already visited.
        let mut path: Vec<(&'a EntryId, usize)> = vec![(id, 0)];
        let mut on_path: BTreeSet<&EntryId> = BTreeSet::from([id]);
        while let Some((top, seen)) = path.pop() {
            let item = self.items.get(top).filter(|item| self.free(item));
            let (Some(item), false) = (item, self.blocked.contains(top)) else {
                self.blocked.insert(top);
                self.blocked.extend(path.iter().map(|(id, _)| *id));
                return None;
            };
            let Some(dep) = item.entry.after.get(seen) else {
                on_path.remove(top);
                done.insert(top);
                chain.push(top.clone());
                continue;
            };
            path.push((top, seen + 1));
            let landed = self.items.get(dep).is_some_and(|d| d.status == EntryStatus::Landed);
            if landed || done.contains(dep) || self.group.contains(dep) {
                continue;
            }
            if !on_path.insert(dep) {
                // A cycle of dependencies.
                self.blocked.extend(path.iter().map(|(id, _)| *id));
                return None;
            }
            path.push((dep, 0));
            if path.len() > room && !self.group.is_empty() {
                return None;
            }
        }
        Some(chain)
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{Queue, QueueSettings};
    use super::super::types::{Car, QueueEffect, QueueInput};
    use super::landing_order;
    use crate::domain::id::{Oid, Timestamp};
    use crate::domain::queue::{Entry, EntryId};
    use crate::domain::verdict::Verdict;

    const AGEING: u64 = 100;

    fn oid(number: usize) -> Oid {
        Oid::parse(&format!("{number:040x}")).unwrap()
    }

    fn id(number: usize) -> EntryId {
        EntryId::parse(&format!("e{number}")).unwrap()
    }

    /// Returns the order in which a queue lands entries that pass.
    fn landed(entries: Vec<Entry>, batch: usize) -> Vec<EntryId> {
        let settings = QueueSettings { batch, ageing: AGEING, ..QueueSettings::default() };
        let mut queue = Queue::new(settings, oid(1), oid(1));
        let mut commits = 1_000;
        let mut order = Vec::new();
        queue.apply(QueueInput::Added(entries));
        while let Some(effect) = queue.owed().into_iter().next() {
            match effect {
                QueueEffect::Build { train, entries, .. } => {
                    let car = |(entry, _)| {
                        commits += 1;
                        Car { entry, commit: oid(commits), tree: oid(commits) }
                    };
                    let (cars, conflicts) = (entries.into_iter().map(car).collect(), Vec::new());
                    queue.apply(QueueInput::Built { train, cars, conflicts });
                }
                QueueEffect::Verify { train, prefix, attempt, .. } => {
                    let verdict = Verdict::Passed;
                    queue.apply(QueueInput::Verified { train, prefix, attempt, verdict });
                }
                QueueEffect::Land { commit, tree, entries, .. } => {
                    order.extend(entries.iter().map(|(entry, _)| entry.clone()));
                    queue.apply(QueueInput::Landed { tip: commit, tree, entries });
                }
                QueueEffect::Eject { entry, .. } => panic!("{entry} is ejected"),
            }
        }
        order
    }

    #[test]
    fn landing_order_is_the_order_in_which_the_queue_lands() {
        for seed in 0..300_usize {
            let random = |n: usize, below: usize| (seed * 7919 + n * 104_729) / 13 % below;
            let count = 1 + random(0, 9);
            let entry = |n: usize| Entry {
                id: id(n),
                priority: i64::try_from(random(n + 1, 5)).unwrap(),
                after: (n > 0 && random(n + 2, 4) == 0)
                    .then(|| id(random(n + 3, n)))
                    .into_iter()
                    .collect(),
                since: Timestamp(u64::try_from(random(n + 4, 400)).unwrap()),
                candidate: oid(n + 2),
                held: random(n + 5, 8) == 0,
            };
            let entries: Vec<Entry> = (0..count).map(entry).collect();
            let batch = 1 + random(99, 4);
            let landed = landed(entries.clone(), batch);
            let order = landing_order(entries, batch, AGEING);
            assert_eq!(order[..landed.len()], landed, "seed {seed}");
            assert_eq!(order.len(), count);
        }
    }
}
