//! Transitions of entries. Each entry is in exactly one place at a time.

use std::collections::BTreeSet;

use super::entry::{EjectReason, Entry, EntryStatus, QueueItem};
use super::id::{EntryId, TrainId};
use super::state::{Queue, Suspect};
use super::types::TrainKind;
use crate::domain::id::Oid;

impl Queue {
    pub(super) fn added(&mut self, entries: Vec<Entry>) {
        let mut new = Vec::new();
        for entry in entries {
            let id = entry.id.clone();
            let (mut seq, mut flaky_failures) = (self.next_seq, 0);
            if let Some(item) = self.items.get(&id) {
                let same = item.entry.candidate == entry.candidate;
                if !item.status.ended() {
                    (seq, flaky_failures) = (item.seq, item.flaky_failures);
                    if !same || item.entry.after != entry.after || item.entry.held != entry.held {
                        self.remove_from_place(&id);
                    } else {
                        self.update_priority(&id, &entry);
                        continue;
                    }
                }
            }
            self.next_seq += u64::from(seq == self.next_seq);
            self.unrecorded_ejections.remove(&id);
            let item = QueueItem {
                entry,
                status: EntryStatus::Waiting,
                flaky_failures,
                seq,
                conflicted: None,
            };
            self.waiting.insert(&item, self.settings.ageing);
            self.items.insert(id.clone(), item);
            new.push(id);
        }
        self.recall_dependents(&new.iter().collect());
        for id in new {
            if let Some(by) = self.blocking_dependency(&id) {
                self.eject(&id, EjectReason::Blocked { by });
            }
        }
    }

    /// Takes entries out of their trains if a dependency was added again: an entry must not land
    /// before its dependencies.
    fn recall_dependents(&mut self, new: &BTreeSet<&EntryId>) {
        let under_way = |item: &&QueueItem| {
            item.entry.after.iter().any(|dep| new.contains(dep))
                && matches!(item.status, EntryStatus::Integrating(_) | EntryStatus::Confirming(_))
        };
        let behind = self.items.values().filter(under_way).map(|i| i.entry.id.clone());
        for other in behind.collect::<Vec<_>>() {
            self.remove_from_place(&other);
            self.put_back(&other);
        }
    }

    /// Updates the priority and age of an entry. The status stays.
    fn update_priority(&mut self, id: &EntryId, entry: &Entry) {
        let ageing = self.settings.ageing;
        let Some(item) = self.items.get_mut(id) else { return };
        let waits = item.status == EntryStatus::Waiting;
        if waits {
            self.waiting.remove(item, ageing);
        }
        (item.entry.priority, item.entry.since) = (entry.priority, entry.since);
        if waits {
            self.waiting.insert(item, ageing);
        }
    }

    /// Returns the dependency because of which an entry can never land: an ejected entry, or an
    /// entry that in turn depends on the entry `id`.
    fn blocking_dependency(&self, id: &EntryId) -> Option<EntryId> {
        let item = self.items.get(id)?;
        let left = |dep: &&EntryId| {
            let gone = |i: &QueueItem| matches!(i.status, EntryStatus::Ejected(_));
            self.items.get(*dep).is_some_and(gone)
        };
        if let Some(by) = item.entry.after.iter().find(left) {
            return Some(by.clone());
        }
        for first in &item.entry.after {
            let (mut open, mut seen) = (vec![first], BTreeSet::new());
            while let Some(dep) = open.pop() {
                if dep == id {
                    return Some(first.clone());
                }
                let Some(item) = self.items.get(dep).filter(|i| !i.status.ended()) else {
                    continue;
                };
                open.extend(item.entry.after.iter().filter(|next| seen.insert(*next)));
            }
        }
        None
    }

    pub(super) fn removed(&mut self, id: &EntryId) {
        if self.is_live(id) {
            self.remove_from_place(id);
            self.items.remove(id);
        }
    }

    /// Removes an entry that an earlier worker process rejected.
    pub(super) fn rejected(&mut self, id: &EntryId) {
        if self.is_live(id) {
            self.rate.record_rejection();
            self.remove_from_place(id);
            self.items.remove(id);
        }
    }

    /// Ejects an entry that cannot land.
    pub(super) fn refused(&mut self, id: &EntryId, candidate: &Oid, reason: String) {
        if self.items.get(id).is_some_and(|item| item.entry.candidate == *candidate) {
            self.eject(id, EjectReason::Refused { reason });
        }
    }

    /// Ejects a waiting entry that conflicts with the tip. Conflicts of entries in a train are
    /// reported by the train's build.
    pub(super) fn eject_conflicting(
        &mut self,
        id: &EntryId,
        candidate: &Oid,
        tip: &Oid,
        paths: Vec<String>,
    ) {
        let Some(item) = self.items.get(id) else { return };
        let ready = item.entry.after.iter().all(|dep| self.has_landed(dep));
        let same = item.entry.candidate == *candidate && *tip == self.tip;
        if ready && same && item.status == EntryStatus::Waiting {
            self.eject(id, EjectReason::Conflict { paths });
        }
    }

    pub(super) fn replaced(&mut self, id: &EntryId, candidate: Oid) {
        let differs = self.items.get(id).is_some_and(|i| i.entry.candidate != candidate);
        if self.is_live(id) && differs {
            self.remove_from_place(id);
            if let Some(item) = self.items.get_mut(id) {
                (item.entry.candidate, item.conflicted) = (candidate, None);
            }
            self.put_back(id);
        }
    }

    pub(super) fn set_held(&mut self, id: &EntryId, held: bool) {
        if self.is_live(id) && self.items.get(id).is_some_and(|i| i.entry.held != held) {
            self.remove_from_place(id);
            if let Some(item) = self.items.get_mut(id) {
                item.entry.held = held;
            }
            self.put_back(id);
        }
    }

    pub(super) fn is_live(&self, id: &EntryId) -> bool {
        self.items.get(id).is_some_and(|i| !i.status.ended())
    }

    pub(super) fn has_landed(&self, id: &EntryId) -> bool {
        self.items.get(id).is_some_and(|i| i.status == EntryStatus::Landed)
    }

    /// Puts an entry back among the waiting entries, with its old order of arrival.
    pub(super) fn put_back(&mut self, id: &EntryId) {
        if let Some(item) = self.items.get_mut(id) {
            item.status = EntryStatus::Waiting;
            self.waiting.insert(item, self.settings.ageing);
        }
    }

    pub(super) fn set_status(&mut self, id: &EntryId, status: EntryStatus) {
        if let Some(item) = self.items.get_mut(id) {
            if item.status == EntryStatus::Waiting {
                self.waiting.remove(item, self.settings.ageing);
            }
            item.status = status;
        }
    }

    /// Queues a group that has passed for the integrator.
    pub(super) fn queue_passed_group(&mut self, group: Vec<EntryId>) {
        for id in &group {
            self.set_status(id, EntryStatus::Screened);
        }
        if !group.is_empty() {
            self.passed_groups.push_back(group);
        }
    }

    pub(super) fn add_suspect(&mut self, entry: EntryId, predecessors: Vec<EntryId>) {
        self.set_status(&entry, EntryStatus::Suspected);
        self.suspects.push_back(Suspect { entry, predecessors });
    }

    /// Removes a live entry from its place. The other entries of its train return to their earlier
    /// status, because no verdict on the whole train is valid any more. The caller sets the entry's
    /// new status.
    pub(super) fn remove_from_place(&mut self, id: &EntryId) {
        let Some(status) = self.items.get(id).map(|i| i.status.clone()) else { return };
        match status {
            EntryStatus::Waiting => {
                if let Some(item) = self.items.get(id) {
                    self.waiting.remove(item, self.settings.ageing);
                }
            }
            EntryStatus::Screening(train) | EntryStatus::Integrating(train) => {
                self.dissolve(train);
                // The entry is now waiting or screened.
                let now = self.items.get(id).map(|i| i.status.clone());
                if !matches!(now, Some(EntryStatus::Screening(_) | EntryStatus::Integrating(_))) {
                    self.remove_from_place(id);
                }
            }
            EntryStatus::Confirming(train) => {
                self.trains.remove(&train);
            }
            EntryStatus::Screened => {
                self.passed_groups.iter_mut().for_each(|group| group.retain(|other| other != id));
                self.passed_groups.retain(|group| !group.is_empty());
            }
            EntryStatus::Suspected => self.suspects.retain(|suspect| suspect.entry != *id),
            EntryStatus::Landed | EntryStatus::Ejected(_) => {}
        }
    }

    /// Dissolves a train. Its entries return to their earlier status.
    pub(super) fn dissolve(&mut self, id: TrainId) {
        let Some(train) = self.trains.remove(&id) else { return };
        let own = match train.kind {
            TrainKind::Lane => EntryStatus::Screening(id),
            TrainKind::Integrate => EntryStatus::Integrating(id),
            TrainKind::Confirm => EntryStatus::Confirming(id),
        };
        let mine = |entry: &&EntryId| self.items.get(*entry).is_some_and(|i| i.status == own);
        let entries: Vec<&EntryId> = train.entries().collect();
        let mut start = 0;
        let mut groups = Vec::new();
        for end in &train.bounds {
            let group = entries.get(start..*end).unwrap_or_default().iter().copied();
            groups.push(group.filter(mine).cloned().collect::<Vec<_>>());
            start = *end;
        }
        match train.kind {
            TrainKind::Lane => groups.iter().flatten().for_each(|entry| self.put_back(entry)),
            TrainKind::Confirm => {
                groups.iter().flatten().for_each(|entry| self.requeue_suspect(entry));
            }
            TrainKind::Integrate => self.return_groups(groups),
        }
    }

    pub(super) fn requeue_suspect(&mut self, id: &EntryId) {
        self.set_status(id, EntryStatus::Suspected);
        self.suspects.push_front(Suspect { entry: id.clone(), predecessors: Vec::new() });
    }

    /// Puts back groups that the integrator did not land: among the passed groups, or among the
    /// waiting entries if there are no lanes.
    pub(super) fn return_groups(&mut self, groups: Vec<Vec<EntryId>>) {
        let direct = self.integrates_directly();
        for group in groups.into_iter().rev().filter(|group| !group.is_empty()) {
            for id in &group {
                if direct {
                    self.put_back(id);
                } else {
                    self.set_status(id, EntryStatus::Screened);
                }
            }
            if !direct {
                self.passed_groups.push_front(group);
            }
        }
    }

    /// Ejects an entry and every entry that depends on it.
    pub(super) fn eject(&mut self, id: &EntryId, reason: EjectReason) {
        let mut leaving = vec![(id.clone(), reason)];
        while let Some((id, reason)) = leaving.pop() {
            if !self.is_live(&id) {
                continue;
            }
            self.remove_from_place(&id);
            if let Some(item) = self.items.get_mut(&id) {
                item.status = EntryStatus::Ejected(reason);
            }
            let behind = self.items.values().filter(|item| item.entry.after.contains(&id));
            let blocked =
                behind.map(|i| (i.entry.id.clone(), EjectReason::Blocked { by: id.clone() }));
            leaving.extend(blocked);
            self.unrecorded_ejections.insert(id);
        }
    }
}
