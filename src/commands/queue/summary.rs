//! The state of a queue, read from its log, for people.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::events;
use crate::domain::id::{Oid, Timestamp};
use crate::domain::queue::{Entry, EntryId, FailureRate, QueueSettings, landing_order};
use crate::process::Lock;
use crate::store::queue_log::QueueLogEntry;
use crate::store::{Store, layout};
use crate::ui::human;
use crate::wire::queue::{Ejection, JointPartner, QueueEvent};

/// The state of a branch.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum BranchState {
    /// The branch waits to land.
    Waiting,
    /// The branch has landed as this commit. `None` if the target had its content already.
    Landed(Option<Oid>),
    /// The queue has ejected the branch.
    Ejected(Ejection),
    /// A person has removed the branch from the queue, or has deleted it.
    Removed(String),
}

/// A branch that is or was in the queue.
#[derive(Debug, Clone)]
pub(super) struct BranchRow {
    /// The number of additions before this branch was added.
    pub(super) seq: usize,
    pub(super) commit: Oid,
    pub(super) priority: i64,
    pub(super) after: Vec<String>,
    pub(super) since: Timestamp,
    /// The commit of the last approval.
    pub(super) approved: Option<Oid>,
    pub(super) state: BranchState,
}

impl BranchRow {
    pub(super) fn is_waiting(&self) -> bool {
        self.state == BranchState::Waiting
    }
}

/// The place of a waiting task among all entries.
#[derive(Debug)]
struct WaitingTaskRow {
    seq: usize,
    commit: Oid,
    priority: i64,
    after: Vec<String>,
    since: Timestamp,
}

/// Counts of what has happened in a queue.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct QueueTally {
    landed: usize,
    /// Branches that left without landing: ejected, removed, renamed or deleted.
    not_landed: usize,
    verified: usize,
}

impl QueueTally {
    /// Returns the counts since an earlier tally.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            landed: self.landed - before.landed,
            not_landed: self.not_landed.saturating_sub(before.not_landed),
            verified: self.verified - before.verified,
        }
    }

    /// Returns true if no counted branch has left without landing.
    pub(super) fn all_landed(self) -> bool {
        self.not_landed == 0
    }

    /// Formats the counts for people.
    pub(super) fn text(self) -> String {
        let Self { landed, not_landed, verified } = self;
        let verified = human::number(verified, "verification");
        format!("{landed} landed, {not_landed} did not, {verified}")
    }
}

/// The state of a queue.
#[derive(Debug)]
pub(in crate::commands) struct QueueSummary {
    pub(super) branches: BTreeMap<String, BranchRow>,
    /// The tasks of runs that are or were in the queue, as `RUN/TASK`. Summaries leave them out,
    /// since `status` of their runs shows them.
    tasks: BTreeSet<String>,
    /// The tasks that wait, with their places in the queue.
    waiting_tasks: BTreeMap<String, WaitingTaskRow>,
    /// The rejected entries that fail only together with a landed entry, by name.
    joint: BTreeMap<String, (Oid, JointPartner)>,
    pub(super) paused: bool,
    /// Durations of the verifications in milliseconds, oldest first.
    pub(super) verification_ms: Vec<u64>,
    /// The failure rate of the branches, on which the length of trains depends.
    pub(super) rate: FailureRate,
    /// The number of additions so far.
    added: usize,
    landed: usize,
    not_landed: usize,
    /// True if a `queue run` works on the queue now.
    pub(super) running: bool,
}

impl QueueSummary {
    /// Reads the log of a target's queue.
    pub(in crate::commands) fn read(store: &Store, target: &str) -> Result<Self> {
        let lock = store.local().integrator_lock(&layout::target_key(target));
        let mut summary = Self {
            branches: BTreeMap::new(),
            tasks: BTreeSet::new(),
            waiting_tasks: BTreeMap::new(),
            joint: BTreeMap::new(),
            paused: false,
            verification_ms: Vec::new(),
            rate: FailureRate::default(),
            added: 0,
            landed: 0,
            not_landed: 0,
            running: lock.is_file() && Lock::is_held(&lock)?,
        };
        for entry in store.queue_log(target, None)?.1 {
            summary.fold(entry);
        }
        Ok(summary)
    }

    fn fold(&mut self, QueueLogEntry { at, event }: QueueLogEntry) {
        if let QueueEvent::Added { candidate, .. } = &event {
            self.joint.remove(&candidate.entry);
        }
        match event {
            QueueEvent::Added { candidate, attempt: Some(_), priority, after, .. } => {
                self.tasks.insert(candidate.entry.clone());
                let old = self.waiting_tasks.get(&candidate.entry);
                let seq = old.map_or(self.added, |place| place.seq);
                let since = old.map_or(at, |place| place.since);
                let row = WaitingTaskRow { seq, commit: candidate.commit, priority, after, since };
                self.waiting_tasks.insert(candidate.entry, row);
                self.added += 1;
            }
            QueueEvent::Added { candidate: added, priority, after, .. } => {
                self.tasks.remove(&added.entry);
                self.waiting_tasks.remove(&added.entry);
                // A branch that is added again while it waits keeps its waiting time and its
                // approval.
                let old = self.branches.get(&added.entry).filter(|row| row.is_waiting());
                let approved = old.and_then(|row| row.approved.clone());
                let since = old.map_or(at, |row| row.since);
                let seq = old.map_or(self.added, |row| row.seq);
                self.added += 1;
                let (commit, state) = (added.commit, BranchState::Waiting);
                let row = BranchRow { seq, commit, priority, after, since, approved, state };
                self.branches.insert(added.entry, row);
            }
            QueueEvent::Replaced(replaced) => {
                if let Some(row) = self.branches.get_mut(&replaced.entry) {
                    row.commit = replaced.commit;
                }
            }
            QueueEvent::Approved { candidate: approved, .. } => {
                if let Some(row) = self.branches.get_mut(&approved.entry) {
                    row.approved = Some(approved.commit);
                }
            }
            QueueEvent::Removed { entry, why } => {
                self.waiting_tasks.remove(&entry);
                self.not_landed += usize::from(self.is_waiting(&entry));
                self.set_state(&entry, BranchState::Removed(why));
            }
            QueueEvent::Ejected { candidate, reason } => {
                match &reason {
                    Ejection::Rejected { partner, .. } => {
                        self.rate.record_rejection();
                        let partner = partner.clone().map(|p| (candidate.commit.clone(), p));
                        self.joint.extend(partner.map(|p| (candidate.entry.clone(), p)));
                    }
                    Ejection::Conflict { .. }
                    | Ejection::ChangesRequested { .. }
                    | Ejection::Blocked { .. } => {}
                }
                if self.tasks.contains(&candidate.entry) {
                    self.waiting_tasks.remove(&candidate.entry);
                    return;
                }
                self.not_landed += 1;
                self.set_state(&candidate.entry, BranchState::Ejected(reason));
            }
            QueueEvent::Landed { entries, .. } => {
                for landed in &entries {
                    self.rate.record_landing();
                    self.landed += 1;
                    if self.tasks.contains(&landed.entry) {
                        self.waiting_tasks.remove(&landed.entry);
                        continue;
                    }
                    let commit = landed.landed_as.as_ref().map(|commit| commit.0.clone());
                    // The branch was removed while its landing was being pushed, but has landed all
                    // the same.
                    if self.is_removed(&landed.entry) {
                        self.not_landed = self.not_landed.saturating_sub(1);
                    }
                    self.set_state(&landed.entry, BranchState::Landed(commit));
                }
            }
            QueueEvent::Paused { .. } => self.paused = true,
            QueueEvent::Resumed { .. } => self.paused = false,
            QueueEvent::Verified { ms, .. } => self.verification_ms.push(ms),
        }
    }

    fn set_state(&mut self, entry: &str, state: BranchState) {
        if let Some(row) = self.branches.get_mut(entry) {
            row.state = state;
        }
    }

    /// Returns the entries whose candidate is `commit` and that have not landed it, each with the
    /// reason.
    pub(in crate::commands) fn unlanded(&self, commit: &Oid) -> Vec<(&str, String)> {
        let mut found = Vec::new();
        let size = self.train_size(QueueSettings::default().batch);
        let ordered = self.ordered(size, &|_, _| false);
        for (position, (entry, row)) in ordered.into_iter().enumerate() {
            let why = match &row.state {
                BranchState::Waiting => format!("{entry}: waits in the queue, at {}", position + 1),
                BranchState::Ejected(reason) => events::ejection(entry, reason).join("\n"),
                BranchState::Removed(why) => format!("{entry}: {why}"),
                BranchState::Landed(None) => events::nothing_landed(entry),
                BranchState::Landed(Some(_)) => continue,
            };
            if row.commit == *commit {
                found.push((entry, why));
            }
        }
        found
    }

    /// Returns the joint failures: rejected entries, each with its candidate and with the landing
    /// without which it passes.
    pub(in crate::commands) fn joint_failures(
        &self,
    ) -> impl Iterator<Item = (&str, &Oid, &JointPartner)> {
        self.joint.iter().map(|(entry, (candidate, partner))| (entry.as_str(), candidate, partner))
    }

    /// Returns the joint failures in which an entry was rejected or had landed. Each is given as
    /// the other entry and the other entry's commit.
    pub(super) fn joint_failures_of(&self, entry: &str) -> Vec<(Option<&str>, &Oid)> {
        let mut found = Vec::new();
        for (rejected, candidate, partner) in self.joint_failures() {
            if rejected == entry {
                found.push((partner.entry.as_deref(), &partner.commit.0));
            } else if partner.entry.as_deref() == Some(entry) {
                found.push((Some(rejected), candidate));
            }
        }
        found
    }

    /// Returns true if the entry is a task of a run.
    pub(super) fn is_task(&self, entry: &str) -> bool {
        self.tasks.contains(entry)
    }

    /// Returns true if the branch waits to land.
    pub(super) fn is_waiting(&self, entry: &str) -> bool {
        self.branches.get(entry).is_some_and(BranchRow::is_waiting)
    }

    fn is_removed(&self, entry: &str) -> bool {
        let row = self.branches.get(entry);
        row.is_some_and(|row| matches!(row.state, BranchState::Removed(_)))
    }

    /// Returns true if the branch has landed.
    pub(super) fn has_landed(&self, entry: &str) -> bool {
        let row = self.branches.get(entry);
        row.is_some_and(|row| matches!(row.state, BranchState::Landed(_)))
    }

    /// Returns true if no branch waits.
    pub(super) fn is_empty(&self) -> bool {
        !self.branches.values().any(BranchRow::is_waiting)
    }

    /// Returns the counts of the whole log.
    pub(super) fn tally(&self) -> QueueTally {
        let verified = self.verification_ms.len();
        QueueTally { landed: self.landed, not_landed: self.not_landed, verified }
    }

    /// Returns the number of entries that the next train takes. `batch` is the longest train.
    pub(super) fn train_size(&self, batch: usize) -> usize {
        self.rate.group_size(batch)
    }

    /// Returns the branches in the order in which they land if all entries pass, in trains of
    /// `size` entries. Branches for which `held` returns true wait for an approval, and land later.
    /// Branches that do not wait come last.
    pub(super) fn ordered(
        &self,
        size: usize,
        held: &dyn Fn(&str, &BranchRow) -> bool,
    ) -> Vec<(&str, &BranchRow)> {
        let id_of = |name: &String| EntryId::parse(name).ok();
        // Every dependency that does not wait has landed.
        let waits =
            |name: &&String| self.is_waiting(name) || self.waiting_tasks.contains_key(*name);
        let mut entries: Vec<(usize, Entry)> = Vec::new();
        for (name, row) in self.branches.iter().filter(|(_, row)| row.is_waiting()) {
            let Some(id) = id_of(name) else { continue };
            let BranchRow { seq, commit, priority, after, since, .. } = row;
            let after = after.iter().filter(waits).filter_map(id_of).collect();
            let (candidate, held) = (commit.clone(), held(name, row));
            let entry = Entry { id, priority: *priority, after, since: *since, candidate, held };
            entries.push((*seq, entry));
        }
        for (name, row) in &self.waiting_tasks {
            let Some(id) = id_of(name) else { continue };
            let WaitingTaskRow { seq, commit, priority, after, since } = row;
            let after = after.iter().filter(waits).filter_map(id_of).collect();
            let (candidate, held) = (commit.clone(), false);
            let entry = Entry { id, priority: *priority, after, since: *since, candidate, held };
            entries.push((*seq, entry));
        }
        entries.sort_by_key(|(seq, _)| *seq);
        let entries = entries.into_iter().map(|(_, entry)| entry).collect();
        let order = landing_order(entries, size, QueueSettings::default().ageing);
        let waiting = order.iter().filter_map(|id| self.branches.get_key_value(id.as_str()));
        let mut ended: Vec<_> = self.branches.iter().filter(|(_, row)| !row.is_waiting()).collect();
        ended.sort_by_key(|(_, row)| (row.since, row.seq));
        waiting.chain(ended).map(|(entry, row)| (entry.as_str(), row)).collect()
    }
}
