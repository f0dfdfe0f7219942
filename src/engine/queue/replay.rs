//! The queue log as inputs of the queue.

use anyhow::Result;

use super::host::{QueueHost, QueueReport, QueuedEntry};
use super::worker::{EntryOrigin, LoggedVerification, QueueWorker};
use crate::domain::id::{Oid, Timestamp};
use crate::domain::queue::{Entry, EntryId, Queue, QueueInput};
use crate::store::queue_log::QueueLogEntry;
use crate::wire::queue::{Ejection, QueueEvent};

impl<H: QueueHost> QueueWorker<H> {
    /// Folds the whole log from the start. Forms no trains: the caller settles the queue.
    pub(super) fn replay(&mut self) -> Result<()> {
        let (tip, tree) = self.host.target()?;
        self.queue = Queue::new(self.rules.settings, tip, tree);
        self.position = 0;
        self.verifications.clear();
        self.passed.clear();
        self.rejections.clear();
        self.searches.clear();
        let (log_tip, entries) = self.host.read_log(None)?;
        self.log_tip = log_tip;
        self.fold(entries)
    }

    /// Appends events to the log, makes them durable, and folds what the log has gained.
    pub(super) fn write(&mut self, events: &[QueueEvent]) -> Result<()> {
        self.host.append_log(events)?;
        self.host.sync()?;
        self.report_synced();
        self.read_log()
    }

    /// Folds and reports what the log has gained.
    pub(super) fn read_log(&mut self) -> Result<()> {
        let (tip, entries) = self.host.read_log(self.log_tip.as_ref())?;
        self.log_tip = tip;
        if entries.is_empty() {
            return Ok(());
        }
        for QueueLogEntry { event, .. } in &entries {
            // The transaction of a landing is not synced yet.
            if matches!(event, QueueEvent::Landed { .. }) {
                self.unsynced.push(event.clone());
            } else {
                self.host.report(QueueReport::Event(event));
            }
        }
        self.fold(entries)?;
        // Trains are formed from all that is known.
        self.queue.settle();
        Ok(())
    }

    /// Reports the events that the last sync made durable.
    pub(super) fn report_synced(&mut self) {
        for event in std::mem::take(&mut self.unsynced) {
            self.host.report(QueueReport::Event(&event));
        }
    }

    fn fold(&mut self, entries: Vec<QueueLogEntry>) -> Result<()> {
        // Entries that are added one after the other can share a train.
        let mut added = Vec::new();
        for QueueLogEntry { at, event } in entries {
            self.position += 1;
            if let QueueEvent::Added { .. } = &event {
                added.extend(self.added(at, event)?);
                continue;
            }
            if !added.is_empty() {
                self.queue.fold(QueueInput::Added(std::mem::take(&mut added)));
            }
            for input in self.inputs(event)? {
                self.queue.fold(input);
            }
        }
        if !added.is_empty() {
            self.queue.fold(QueueInput::Added(added));
        }
        Ok(())
    }

    fn added(&mut self, since: Timestamp, event: QueueEvent) -> Result<Option<Entry>> {
        let QueueEvent::Added { candidate, attempt, priority, after, tip, .. } = event else {
            return Ok(None);
        };
        let id = EntryId::parse(&candidate.entry)?;
        self.origins
            .insert(id.clone(), EntryOrigin { attempt, added_on: tip, position: self.position });
        let after = after.iter().map(|name| EntryId::parse(name)).collect::<Result<_, _>>()?;
        // An entry that is added again while it waits keeps its age and its approval.
        let live = self.queue.item(&id).filter(|item| !item.status.ended());
        let since = live.map_or(since, |item| item.entry.since);
        let same = live.filter(|item| item.entry.candidate == candidate.commit);
        let held = match (attempt, same.map(|item| item.entry.held)) {
            (Some(_), _) => false,
            (None, Some(held)) => held,
            (None, None) => self.branch_waits(&id, &candidate.commit)?,
        };
        Ok(Some(Entry { id, priority, after, since, candidate: candidate.commit, held }))
    }

    /// Returns true if a branch that was added waits for a person.
    fn branch_waits(&mut self, id: &EntryId, candidate: &Oid) -> Result<bool> {
        if self.rules.review || self.rules.branches_wait.is_some() {
            return Ok(true);
        }
        let (id, candidate) = (id.clone(), candidate.clone());
        self.host.needs_review(&QueuedEntry { id, candidate, attempt: None })
    }

    fn inputs(&mut self, event: QueueEvent) -> Result<Vec<QueueInput>> {
        let input = match event {
            QueueEvent::Added { .. } => return Ok(Vec::new()),
            QueueEvent::Replaced(replaced) => {
                let entry = EntryId::parse(&replaced.entry)?;
                let candidate = replaced.commit;
                let waits = self.branch_waits(&entry, &candidate)?;
                let input = QueueInput::Replaced { entry: entry.clone(), candidate };
                // An approval is for one commit, and so is the need for one.
                let hold =
                    if waits { QueueInput::Held(entry) } else { QueueInput::Released(entry) };
                return Ok(vec![input, hold]);
            }
            QueueEvent::Approved { candidate, .. } => {
                let entry = EntryId::parse(&candidate.entry)?;
                let item = self.queue.item(&entry);
                let other = item.is_none_or(|item| item.entry.candidate != candidate.commit);
                if other || self.rules.branches_wait.is_some() {
                    return Ok(Vec::new());
                }
                QueueInput::Released(entry)
            }
            QueueEvent::Removed { entry, .. } => QueueInput::Removed(EntryId::parse(&entry)?),
            QueueEvent::Paused { .. } => QueueInput::Paused,
            QueueEvent::Resumed { .. } => QueueInput::Resumed,
            QueueEvent::Verified { tree, entries, passed, results, .. } => {
                let results: Vec<String> = results.into_iter().map(|result| result.id).collect();
                self.host.vouch(results.clone());
                let (position, by_earlier_worker) = (self.position, false);
                self.verifications.push(LoggedVerification {
                    position,
                    tree,
                    entries,
                    passed,
                    results,
                    by_earlier_worker,
                });
                return Ok(Vec::new());
            }
            QueueEvent::Landed { old, new, entries } => {
                self.last_landing = Some((old, new.clone()));
                let tree = self.host.tree_of(&new)?;
                let mut landed = Vec::with_capacity(entries.len());
                for entry in entries {
                    landed.push((EntryId::parse(&entry.entry)?, entry.commit));
                }
                QueueInput::Landed { tip: new, tree, entries: landed }
            }
            QueueEvent::Ejected { candidate, reason } => {
                let entry = EntryId::parse(&candidate.entry)?;
                let live = self.queue.item(&entry).is_some_and(|item| !item.status.ended());
                match (live, reason) {
                    // This worker ejected the entry, so the queue knows already.
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
        Ok(vec![input])
    }
}
