//! What waits, in the order in which it is taken.
//!
//! The score of an entry is its priority and a point for every so many milliseconds of waiting. All grow at the same pace,
//! so the order among them never changes: it is that of `since - priority * ageing`, and no clock is needed.

use std::collections::{BTreeMap, BTreeSet};

use super::TrainId;
use super::entry::{Entry, EntryId, EntryStatus, QueueItem};
use crate::domain::id::Timestamp;

/// The waiting entries, by score and by age.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct WaitingEntries {
    by_score: BTreeSet<(i128, u64, EntryId)>,
    by_age: BTreeSet<(u64, u64, EntryId)>,
}

/// The less, the earlier it is taken: an entry's age and priority in one number. `ageing` is as in [`super::QueueSettings`].
pub fn rank(since: Timestamp, priority: i64, ageing: u64) -> i128 {
    i128::from(since.0) - i128::from(priority) * i128::from(ageing.max(1))
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

    /// In the order in which they are taken.
    pub(super) fn ids(&self) -> impl Iterator<Item = &EntryId> {
        self.by_score.iter().map(|(_, _, id)| id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_score.is_empty()
    }

    /// A group of at most `size`: first the one that waits longest, then by score; what an entry comes after is either on
    /// the target or stands before it in the group.
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
            hopeless: BTreeSet::new(),
            under_way: &|id| trains.contains_key(&id),
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

/// A group in the making.
struct GroupBuilder<'a> {
    items: &'a BTreeMap<EntryId, QueueItem>,
    size: usize,
    group: Vec<EntryId>,
    /// What cannot be taken now.
    hopeless: BTreeSet<&'a EntryId>,
    under_way: &'a dyn Fn(TrainId) -> bool,
}

impl<'a> GroupBuilder<'a> {
    fn free(&self, item: &QueueItem) -> bool {
        let conflicted = item.conflicted.is_some_and(|train| (self.under_way)(train));
        item.status == EntryStatus::Waiting && !item.entry.held && !conflicted
    }

    /// Takes an entry and what it comes after, if all of it can be taken and there is room.
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

    /// An entry behind all that it comes after and that has not landed, in an order that keeps to that. `None` if
    /// something of it cannot be taken; cut short where it is longer than there is room for anyway.
    fn chain(&mut self, id: &'a EntryId, room: usize) -> Option<Vec<EntryId>> {
        let mut chain: Vec<EntryId> = Vec::new();
        let mut done: BTreeSet<&EntryId> = BTreeSet::new();
        // Entries that are gone into, each with the number of its dependencies that have been seen to.
        let mut path: Vec<(&'a EntryId, usize)> = vec![(id, 0)];
        let mut on_path: BTreeSet<&EntryId> = BTreeSet::from([id]);
        while let Some((top, seen)) = path.pop() {
            let item = self.items.get(top).filter(|item| self.free(item));
            let (Some(item), false) = (item, self.hopeless.contains(top)) else {
                self.hopeless.insert(top);
                self.hopeless.extend(path.iter().map(|(id, _)| *id));
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
                // A circle. It has no beginning.
                self.hopeless.extend(path.iter().map(|(id, _)| *id));
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
