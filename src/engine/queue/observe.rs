//! Observation of the world outside the worker: the queue log, the target, and the branches and
//! tasks of entries.

use anyhow::Result;

use super::host::{CandidateState, QueueHost, QueuedEntry};
use super::worker::QueueWorker;
use crate::domain::id::{Oid, Timestamp};
use crate::domain::queue::{EntryId, EntryStatus, QueueInput};
use crate::wire::queue::{EntryCommit, LandedEntry, ObjectId, QueueEvent};

/// The interval in milliseconds at which the branches of waiting entries are read.
const CANDIDATE_INTERVAL_MS: u64 = 1_000;

impl<H: QueueHost> QueueWorker<H> {
    /// Observes the queue log, the target, and the branches of waiting entries.
    pub fn observe(&mut self) -> Result<()> {
        self.read_log()?;
        self.observe_target()?;
        let now = self.host.now();
        self.hold.take_if(|hold| hold.until <= now);
        let due = |read: Timestamp| now.since_ms(read) >= CANDIDATE_INTERVAL_MS;
        if self.candidates_read.is_none_or(due) {
            self.candidates_read = Some(now);
            // Supervisors log the changes of their tasks themselves.
            let branches = self.live().into_iter().filter(|entry| entry.attempt.is_none());
            self.observe_candidates(&branches.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Observes the tip of the target. Entries that the target contains, but that have not landed
    /// according to the log, are logged as landed: a person merged them, or a worker was killed
    /// before it logged them.
    pub(super) fn observe_target(&mut self) -> Result<()> {
        let (tip, tree) = self.host.target()?;
        if self.read_tip.as_ref() == Some(&tip) && tip == *self.queue.tip() {
            return Ok(());
        }
        let before = self.queue.tip().clone();
        self.refresh_rules(&tip)?;
        let live = self.live();
        let added_on = |entry: QueuedEntry| {
            let tip = self.origins.get(&entry.id).map(|origin| origin.added_on.clone());
            Some((entry, tip?))
        };
        let added: Vec<_> = live.into_iter().filter_map(added_on).collect();
        let landed = self.host.contained(&tip, &added)?;
        self.read_tip = Some(tip.clone());
        self.queue.apply(QueueInput::TargetMoved { tip: tip.clone(), tree });
        let mut entries = Vec::with_capacity(landed.len());
        for (id, landed_as) in landed {
            let Some(item) = self.queue.item(&id) else { continue };
            let (entry, commit) = (id.to_string(), item.entry.candidate.clone());
            let landed_as = landed_as.map(ObjectId);
            entries.push(LandedEntry { entry, commit, landed_as, results: Vec::new() });
        }
        if !entries.is_empty() {
            self.write(&[QueueEvent::Landed { old: tip.clone(), new: tip, entries }])?;
        }
        self.find_conflicts(&before)
    }

    /// Compares candidates with the branches and tasks that they come from, and logs the changes.
    /// Returns true if nothing has changed.
    pub(super) fn observe_candidates(&mut self, entries: &[QueuedEntry]) -> Result<bool> {
        let mut events = Vec::new();
        for entry in entries {
            let name = entry.id.to_string();
            match self.host.candidate_state(entry)? {
                CandidateState::Current => {}
                CandidateState::Moved(commit) => {
                    events.push(QueueEvent::Replaced(EntryCommit { entry: name, commit }));
                }
                CandidateState::Gone(why) => {
                    events.push(QueueEvent::Removed { entry: name, why });
                }
            }
        }
        if !events.is_empty() {
            self.write(&events)?;
        }
        Ok(events.is_empty())
    }

    /// Finds the waiting entries that conflict with what landed after `old`. Such an entry is
    /// ejected at once, not when its train is built. Conflicts that the changed paths do not show,
    /// for example after a rename, are found when the train is built.
    pub(super) fn find_conflicts(&mut self, old: &Oid) -> Result<()> {
        let tip = self.queue.tip().clone();
        let waiting = self.queue.waiting().filter(|item| item.status == EntryStatus::Waiting);
        let waiting: Vec<QueuedEntry> =
            waiting.map(|item| self.entry(&item.entry.id, &item.entry.candidate)).collect();
        if *old == tip || waiting.is_empty() {
            return Ok(());
        }
        for (entry, paths) in self.host.find_conflicts(old, &tip, &waiting)? {
            let (entry, candidate, tip) = (entry.id, entry.candidate, tip.clone());
            self.queue.apply(QueueInput::ConflictFound { entry, candidate, tip, paths });
        }
        Ok(())
    }

    /// Reads the rules of the target's tip. If they have changed, all verdicts are void and the
    /// queue is folded again.
    pub(super) fn refresh_rules(&mut self, tip: &Oid) -> Result<()> {
        let live = self.live();
        let rules = self.host.rules(tip, &live)?;
        if rules != self.rules {
            self.rules = rules;
            self.replay()?;
            // The verdicts are void.
            self.verifications.clear();
            self.queue.settle();
        }
        Ok(())
    }

    /// Updates the target's checkouts to the last landing. An earlier worker may have been killed
    /// between the landing and the update.
    pub(super) fn follow_last_landing(&mut self) -> Result<()> {
        if let Some((old, new)) = self.last_landing.clone()
            && new == *self.queue.tip()
        {
            for note in self.host.follow(&old, &new)? {
                self.note(note);
            }
        }
        Ok(())
    }

    /// Forms a train again that an earlier worker was verifying, so that the verdicts of that
    /// worker's keepers are used. Of several interrupted verifications, the one with the most
    /// entries is taken: while a train is bisected, the others cover shorter prefixes of it.
    pub(super) fn regroup(&mut self) -> Result<()> {
        let trains = self.host.interrupted_trains()?;
        let waits = |id: &EntryId| {
            let item = self.queue.item(id);
            item.is_some_and(|item| item.status == EntryStatus::Waiting && !item.entry.held)
        };
        let whole = trains.into_iter().filter(|train| train.iter().all(waits));
        let Some(train) = whole.max_by_key(Vec::len).filter(|train| !train.is_empty()) else {
            self.queue.settle();
            return Ok(());
        };
        let waiting = self.queue.waiting().filter(|item| !item.entry.held);
        let others: Vec<EntryId> =
            waiting.map(|item| item.entry.id.clone()).filter(|id| !train.contains(id)).collect();
        for id in &others {
            self.queue.fold(QueueInput::Held(id.clone()));
        }
        self.queue.settle();
        for id in others {
            self.queue.fold(QueueInput::Released(id));
        }
        self.queue.settle();
        Ok(())
    }
}
