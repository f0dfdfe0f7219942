//! What others do: those who write into the book, move the target, commit on branches or remove them.

use std::collections::HashSet;

use anyhow::Result;
use rayon::prelude::*;

use super::{HELD, Told, Worker, request};
use crate::ambient;
use crate::domain::id::{Oid, Timestamp};
use crate::domain::queue::{Entry, EntryId, EntryStatus, QueueInput};
use crate::landing;
use crate::repo;
use crate::store::queue_log::QueueLogEntry;
use crate::wire::queue::{ConflictedPath, Ejection, EntryCommit, QueueEvent};

/// How often the branches are looked at.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

impl Worker<'_> {
    /// Writes into the book and takes up what it says since it was read last. It is durable then.
    pub(super) fn write(&mut self, events: &[QueueEvent]) -> Result<()> {
        self.desk.store.append_queue_log(&self.desk.target, events)?;
        self.desk.store.barrier()?;
        self.tell_untold();
        self.read_book(true)
    }

    /// Waits until everything written is on the disk, if something has landed of which nobody was told.
    pub(super) fn settle(&mut self) -> Result<()> {
        if !self.untold.is_empty() {
            self.desk.store.barrier()?;
            self.tell_untold();
        }
        Ok(())
    }

    /// Tells what is on the disk now.
    pub(super) fn tell_untold(&mut self) {
        for event in std::mem::take(&mut self.untold) {
            (self.report)(Told::Book(&event));
        }
    }

    /// Takes up what the book says since it was read last, and tells it if that is news.
    pub(super) fn read_book(&mut self, tell: bool) -> Result<()> {
        let (tip, written) = self.desk.store.queue_log(&self.desk.target, self.book.as_ref())?;
        self.book = tip;
        let mut added = Vec::new();
        for QueueLogEntry { at, event } in written {
            if let (true, QueueEvent::Landed { .. }) = (tell, &event) {
                self.untold.push(event.clone());
            } else if tell {
                (self.report)(Told::Book(&event));
            }
            if let QueueEvent::Added { .. } = &event {
                added.extend(self.entry(at, event)?);
                continue;
            }
            // Those that were added one after the other can share a train.
            if !added.is_empty() {
                self.queue.fold(QueueInput::Added(std::mem::take(&mut added)));
            }
            self.fold(event)?;
        }
        if !added.is_empty() {
            self.queue.fold(QueueInput::Added(added));
        }
        // Only now: trains are made of all that is known.
        self.queue.settle();
        Ok(())
    }

    fn entry(&mut self, since: Timestamp, event: QueueEvent) -> Result<Option<Entry>> {
        let QueueEvent::Added { candidate, priority, after, tip, .. } = event else {
            return Ok(None);
        };
        let id = EntryId::parse(&candidate.entry)?;
        self.added_on.insert(id.clone(), tip);
        let after = after.iter().map(|name| EntryId::parse(name)).collect::<Result<_, _>>()?;
        // Added again while it waits, it keeps its age, and what was said of it.
        let live = self.queue.item(&id).filter(|item| !item.status.ended());
        let since = live.map_or(since, |item| item.entry.since);
        let same = live.filter(|item| item.entry.candidate == candidate.commit);
        let held = same.map_or(self.rules.job.queue.review, |item| item.entry.held);
        Ok(Some(Entry { id, priority, after, since, candidate: candidate.commit, held }))
    }

    fn fold(&mut self, event: QueueEvent) -> Result<()> {
        let seen = match event {
            QueueEvent::Added { .. } => return Ok(()),
            QueueEvent::Replaced(c) => {
                let entry = EntryId::parse(&c.entry)?;
                let replaced = QueueInput::Replaced { entry: entry.clone(), candidate: c.commit };
                if self.rules.job.queue.review {
                    // What was approved was another commit.
                    self.queue.fold(replaced);
                    QueueInput::Held(entry)
                } else {
                    replaced
                }
            }
            QueueEvent::Approved { candidate, .. } => {
                let entry = EntryId::parse(&candidate.entry)?;
                let item = self.queue.item(&entry);
                if item.is_none_or(|item| item.entry.candidate != candidate.commit) {
                    return Ok(());
                }
                QueueInput::Released(entry)
            }
            QueueEvent::Removed { entry, .. } => QueueInput::Removed(EntryId::parse(&entry)?),
            QueueEvent::Paused { .. } => QueueInput::Paused,
            QueueEvent::Resumed { .. } => QueueInput::Resumed,
            QueueEvent::Verified { results, .. } => {
                self.vouched.extend(results.into_iter().map(|r| r.id));
                return Ok(());
            }
            QueueEvent::Landed { old, new, entries } => {
                self.last_landing = Some((old, new.clone()));
                let tree = self.desk.store.repo().tree_of(&new)?;
                let mut landed = Vec::with_capacity(entries.len());
                for EntryCommit { entry, commit } in entries {
                    landed.push((EntryId::parse(&entry)?, commit));
                }
                QueueInput::Landed { tip: new, tree, entries: landed }
            }
            QueueEvent::Ejected { candidate, reason: why } => {
                let entry = EntryId::parse(&candidate.entry)?;
                let live = self.queue.item(&entry).is_some_and(|item| !item.status.ended());
                // QueueEffect by this process, it is over there already.
                match (live, why) {
                    (false, _) => QueueInput::Ejected { entry, candidate: candidate.commit },
                    (true, Ejection::Rejected { .. }) => QueueInput::Rejected(entry),
                    (
                        true,
                        Ejection::Conflict { .. }
                        | Ejection::ChangesRequested { .. }
                        | Ejection::Blocked { .. },
                    ) => QueueInput::Removed(entry),
                }
            }
        };
        self.queue.fold(seen);
        Ok(())
    }

    /// What a process that was killed has left: landings of which only the target knows, work trees that did not follow.
    pub(super) fn recover(&mut self) -> Result<()> {
        let target = self.desk.target.clone();
        self.meet_target()?;
        if let Some((old, new)) = self.last_landing.clone()
            && new == *self.queue.tip()
        {
            let behind = self.desk.store.follow(&target, &old, &new)?;
            self.tell_behind(&behind, &new);
        }
        Ok(())
    }

    /// Looks at the book, the target and the branches.
    pub(super) fn look_around(&mut self) -> Result<()> {
        self.read_book(true)?;
        self.meet_target()?;
        if self.held.as_ref().is_some_and(|(_, since)| since.elapsed() >= HELD) {
            self.held = None;
        }
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.looked = Some(ambient::instant());
            let live: Vec<EntryId> = self.live().into_iter().map(|(entry, _)| entry).collect();
            self.meet_branches(&live)?;
        }
        Ok(())
    }

    fn live(&self) -> Vec<(EntryId, Oid)> {
        let live = self.queue.items().filter(|item| !item.status.ended());
        live.map(|item| (item.entry.id.clone(), item.entry.candidate.clone())).collect()
    }

    /// Looks whether branches still are what they were. Says whether they are.
    pub(super) fn meet_branches(&mut self, entries: &[EntryId]) -> Result<bool> {
        let mut events = Vec::new();
        for entry in entries {
            let Some(item) = self.queue.item(entry) else { continue };
            match self.desk.store.read(&format!("refs/heads/{entry}"))? {
                Some(commit) if commit == item.entry.candidate => {}
                Some(commit) => {
                    events.push(QueueEvent::Replaced(EntryCommit {
                        entry: entry.to_string(),
                        commit,
                    }));
                }
                None => {
                    let why = "its branch was deleted".to_owned();
                    events.push(QueueEvent::Removed { entry: entry.to_string(), why });
                }
            }
        }
        if !events.is_empty() {
            self.write(&events)?;
        }
        Ok(events.is_empty())
    }

    /// Looks where the target is. What has landed without the book knowing is written there.
    pub(super) fn meet_target(&mut self) -> Result<()> {
        let tip = self.desk.tip()?;
        if self.history.contains(&tip) && tip == *self.queue.tip() {
            return Ok(());
        }
        let before = self.queue.tip().clone();
        self.take_rules(&tip)?;
        self.history.update(self.desk.store.repo(), &tip, None)?;
        let tree = self.desk.store.repo().tree_of(&tip)?;
        self.queue.apply(QueueInput::TargetMoved { tip: tip.clone(), tree });
        // Merged by a person, or by a process that was killed before it could say so.
        let contained = |(entry, commit): (EntryId, Oid)| -> Result<Option<EntryCommit>> {
            let since = self.added_on.get(&entry);
            let here = self.history.has_landed_since(&entry, &commit, since)
                || self.desk.store.repo().is_ancestor(&commit, &tip)?;
            Ok(here.then(|| EntryCommit { entry: entry.to_string(), commit }))
        };
        let entries = self.live().into_iter().map(contained).collect::<Result<Vec<_>>>()?;
        let entries: Vec<EntryCommit> = entries.into_iter().flatten().collect();
        if !entries.is_empty() {
            self.write(&[QueueEvent::Landed { old: tip.clone(), new: tip, entries }])?;
        }
        self.find_conflicts(&before)
    }

    /// Merges the waiting branches that touch what has landed with the target's tip, in memory: who conflicts hears of it at once.
    /// What is not seen by the paths alone, as where something was renamed, is found when its train is built.
    pub(super) fn find_conflicts(&mut self, old: &Oid) -> Result<()> {
        let tip = self.queue.tip().clone();
        let changes = repo::changed_paths(self.desk.store.repo(), old, &tip)?;
        let landed: HashSet<String> = changes.into_iter().map(|change| change.path).collect();
        let waiting: Vec<(EntryId, Oid)> = self
            .queue
            .waiting()
            .filter(|item| item.status == EntryStatus::Waiting)
            .map(|item| (item.entry.id.clone(), item.entry.candidate.clone()))
            .collect();
        let (builder, rules) = (self.builder(), &self.rules);
        let unknown = waiting.par_iter().filter(|(_, commit)| !self.touched.contains_key(commit));
        let touched: Vec<(Oid, Vec<String>)> = unknown
            .map(|(entry, commit)| {
                (
                    commit.clone(),
                    builder.changed_paths(&tip, &request(rules, entry, commit), &self.history),
                )
            })
            .collect();
        self.touched.extend(touched);
        let (builder, rules) = (self.builder(), &self.rules);
        let meets = |commit: &Oid| {
            self.touched.get(commit).is_some_and(|paths| paths.iter().any(|p| landed.contains(p)))
        };
        let found: Vec<(EntryId, Oid, Vec<String>)> = waiting
            .into_par_iter()
            .filter(|(_, commit)| meets(commit))
            .filter_map(|(entry, commit)| {
                // What cannot be merged for another reason says so when its train is built.
                let paths = builder
                    .conflict(&tip, &request(rules, &entry, &commit), &self.history)
                    .ok()??;
                Some((entry, commit, paths))
            })
            .collect();
        for (entry, candidate, paths) in found {
            let tip = tip.clone();
            self.queue.apply(QueueInput::ConflictFound { entry, candidate, tip, paths });
        }
        Ok(())
    }

    /// What each side has at paths in conflict, and which commits of the target touched them since the two parted.
    pub(super) fn sides(
        &self,
        entry: &EntryId,
        candidate: &Oid,
        paths: &[String],
    ) -> Result<Vec<ConflictedPath>> {
        let tip = self.queue.tip();
        let request = request(&self.rules, entry, candidate);
        let base = self.builder().base(tip, &request, &self.history).ok();
        landing::sides::conflict_versions(
            self.desk.store.repo(),
            base.as_ref(),
            tip,
            candidate,
            paths,
        )
    }
}
