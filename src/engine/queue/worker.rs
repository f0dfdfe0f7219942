//! The merge queue worker of one target: the state, and the step from the state to actions.
//!
//! The queue log is the durable state. It is folded into [`Queue`], which owes effects. An event is
//! written to the log first and comes back by being read from there, in the order of the log,
//! whoever wrote it. Trains are not logged: after a crash they are formed again, and verdicts on
//! their trees are known.
//!
//! The worker has no thread, clock or process of its own: all of that is behind [`QueueHost`].

use std::collections::BTreeMap;

use anyhow::Result;

use super::host::{
    QueueHost, QueueReport, QueueRules, QueuedEntry, TrainVerdict, TrainVerification,
    VerificationId,
};
use super::joint::PartnerSearch;
use crate::domain::id::{Oid, Timestamp};
use crate::domain::queue::{EjectReason, EntryId, Queue, QueueEffect, StopReason, TrainId};
use crate::store::LandingObstacle;
use crate::wire::queue::QueueEvent;

/// The time in milliseconds after which a landing on hold is tried again.
pub(super) const HOLD_MS: u64 = 2_000;

/// The time in milliseconds for which a lock of another git process is waited for, before a person
/// is asked to look at it.
const LOCK_PATIENCE_MS: u64 = 60_000;

/// The reason why a worker ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueExit {
    /// No entry waits.
    Empty,
    /// The waiting entries wait for something that does not happen here.
    Waiting(String),
    /// A person must act, for this reason.
    NeedsPerson(String),
    /// Keepers verify trains, and nobody waits for them (`poll`).
    Later,
    /// A signal with this number.
    Interrupted(i32),
}

/// The origin of an entry, as the queue log has it.
#[derive(Debug, Clone)]
pub(super) struct EntryOrigin {
    /// The attempt of a task's candidate. `None` for a branch.
    pub attempt: Option<u32>,
    /// The target's tip when the entry was added.
    pub added_on: Oid,
    /// The position in the log at which the entry was added.
    pub position: usize,
}

/// A logged verification.
#[derive(Debug, Clone)]
pub(super) struct LoggedVerification {
    /// The position in the log.
    pub position: usize,
    pub tree: Oid,
    /// The entries that the tree contains and the target does not.
    pub entries: Vec<String>,
    pub passed: bool,
    /// The ids of the results.
    pub results: Vec<String>,
    /// True if an earlier worker logged the verification.
    pub by_earlier_worker: bool,
}

/// The last failed verdict on an entry alone.
#[derive(Debug, Clone)]
pub(super) struct LoneFailure {
    pub tree: Oid,
    /// The commit of the target on which the entry failed. `None` if it is not known.
    pub onto: Option<Oid>,
    pub verdict: TrainVerdict,
}

/// A verification under way.
#[derive(Debug, Clone)]
pub(super) struct RunningVerification {
    pub verification: TrainVerification,
    pub since: Timestamp,
    /// The rules under which the verification started.
    pub rules: String,
}

/// A landing that waits.
#[derive(Debug, Clone)]
pub(super) struct LandingHold {
    pub reason: String,
    pub until: Timestamp,
    /// True if a lock of another git process is in the way, and not for long.
    pub is_brief: bool,
}

/// Consecutive verifications that could not run.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    pub count: u32,
    /// The number of those that were verifications of the target's tip.
    pub of_tip: u32,
    /// The time before which no verification starts.
    pub not_before: Timestamp,
}

/// The merge queue worker of one target.
#[derive(Debug)]
pub struct QueueWorker<H> {
    pub(super) host: H,
    pub(super) queue: Queue,
    pub(super) rules: QueueRules,
    /// The commit of the queue log up to which the log is folded.
    pub(super) log_tip: Option<Oid>,
    pub(super) origins: BTreeMap<EntryId, EntryOrigin>,
    /// The number of events that are folded.
    pub(super) position: usize,
    pub(super) verifications: Vec<LoggedVerification>,
    /// The last landing of the log: the tips before and after it.
    pub(super) last_landing: Option<(Oid, Oid)>,
    /// The tip up to which the target's history was read.
    pub(super) read_tip: Option<Oid>,
    pub(super) running: BTreeMap<VerificationId, RunningVerification>,
    /// Verifications whose keepers nobody waits for.
    pub(super) unattended: BTreeMap<VerificationId, RunningVerification>,
    pub(super) faults: Faults,
    pub(super) hold: Option<LandingHold>,
    /// The time since which a lock of another git process is in the way of landings.
    pub(super) locked_since: Option<Timestamp>,
    pub(super) candidates_read: Option<Timestamp>,
    /// Logged events that are reported after the next sync.
    pub(super) unsynced: Vec<QueueEvent>,
    /// Verdicts on trees that pass.
    pub(super) passed: BTreeMap<Oid, TrainVerdict>,
    /// The last failed verdict on each entry alone.
    pub(super) rejections: BTreeMap<EntryId, LoneFailure>,
    /// Searches for the partners of rejected entries.
    pub(super) searches: BTreeMap<EntryId, PartnerSearch>,
    /// The number of verifications that searches have started.
    pub(super) search_steps: u32,
    pub(super) person: Option<String>,
    /// The verifications and the problem that were shown last.
    shown: Option<(Vec<VerificationId>, Option<String>)>,
}

impl<H: QueueHost> QueueWorker<H> {
    /// Reads the queue log and the target. Repairs what a killed worker left behind.
    pub fn new(mut host: H) -> Result<Self> {
        let (tip, tree) = host.target()?;
        let (_, log) = host.read_log(None)?;
        let rules = host.rules(&tip, &live_entries(&log))?;
        let mut worker = Self {
            queue: Queue::new(rules.settings, tip, tree),
            host,
            rules,
            log_tip: None,
            origins: BTreeMap::new(),
            position: 0,
            verifications: Vec::new(),
            last_landing: None,
            read_tip: None,
            running: BTreeMap::new(),
            unattended: BTreeMap::new(),
            faults: Faults::default(),
            hold: None,
            locked_since: None,
            candidates_read: None,
            unsynced: Vec::new(),
            passed: BTreeMap::new(),
            rejections: BTreeMap::new(),
            searches: BTreeMap::new(),
            search_steps: 0,
            person: None,
            shown: None,
        };
        worker.replay()?;
        worker.verifications.iter_mut().for_each(|logged| logged.by_earlier_worker = true);
        // The run of a task may be gone. Then its entry would keep every train from being built.
        let tasks = worker.live().into_iter().filter(|entry| entry.attempt.is_some());
        worker.observe_candidates(&tasks.collect::<Vec<_>>())?;
        worker.regroup()?;
        worker.observe_target()?;
        worker.follow_last_landing()?;
        worker.person = worker.host.pull()?;
        Ok(worker)
    }

    /// Performs one owed effect. Returns true if the state may have changed, so that the caller
    /// should call again.
    pub fn step(&mut self) -> Result<bool> {
        if self.person.is_some() {
            return Ok(false);
        }
        let owed = self.queue.owed().into_iter();
        let (last, first): (Vec<_>, Vec<_>) = owed.partition(|effect| self.comes_last(effect));
        for effect in first.into_iter().chain(last) {
            let changed = match effect {
                QueueEffect::Build { train, onto, entries } => {
                    self.build(train, &onto, &entries)?
                }
                QueueEffect::Verify { train, prefix, attempt, kind, onto, commit, tree } => {
                    let id = VerificationId { train, prefix, attempt };
                    self.verify(id, kind, onto, commit, tree)?
                }
                QueueEffect::Land { train, onto, commit, tree, entries } => {
                    self.land(train, onto, commit, tree, &entries)?
                }
                QueueEffect::Eject { entry, candidate, reason } => {
                    self.eject(&entry, candidate, &reason)?
                }
            };
            if changed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns true if an effect waits for all others: the search for a partner costs
    /// verifications, and other entries wait for theirs.
    fn comes_last(&self, effect: &QueueEffect) -> bool {
        match effect {
            QueueEffect::Eject { entry, candidate, reason: EjectReason::Rejected { .. } } => {
                self.search_waits(entry, candidate)
            }
            QueueEffect::Eject {
                reason:
                    EjectReason::Refused { .. }
                    | EjectReason::Conflict { .. }
                    | EjectReason::Blocked { .. },
                ..
            }
            | QueueEffect::Build { .. }
            | QueueEffect::Verify { .. }
            | QueueEffect::Land { .. } => false,
        }
    }

    /// Makes all logged events durable, reports them, and shows the state to whoever lists the
    /// queue.
    pub fn flush(&mut self) -> Result<()> {
        self.show();
        if !self.unsynced.is_empty() {
            self.host.sync()?;
            self.report_synced();
        }
        Ok(())
    }

    /// Returns the reason to end, if there is one.
    pub fn exit(&self) -> Option<QueueExit> {
        if let Some(reason) = &self.person {
            return Some(QueueExit::NeedsPerson(reason.clone()));
        }
        if !self.running.is_empty() {
            return None;
        }
        if self.queue.is_empty() {
            return Some(QueueExit::Empty);
        }
        if let Some(problem) = self.problem() {
            return Some(match self.queue.stopped() {
                Some(StopReason::Paused) => QueueExit::Waiting(problem),
                Some(StopReason::TipFails) | None => QueueExit::NeedsPerson(problem),
            });
        }
        if !self.unattended.is_empty() {
            return Some(QueueExit::Later);
        }
        if !self.queue.owed().is_empty() {
            return None;
        }
        let reason = "the remaining entries wait for an approval or for other entries: `git harness queue` shows them";
        let reason = self.rules.branches_wait.clone().unwrap_or_else(|| reason.to_owned());
        Some(QueueExit::Waiting(reason))
    }

    /// Returns the reason why nothing lands, if there is one that a person can remove.
    pub fn problem(&self) -> Option<String> {
        if let Some(reason) = &self.person {
            return Some(reason.clone());
        }
        let target = self.host.target_name();
        match self.queue.stopped() {
            Some(StopReason::Paused) => Some(format!(
                "the queue of `{target}` is paused: `git harness queue resume` continues it"
            )),
            Some(StopReason::TipFails) => Some(format!(
                "`{target}` fails its own checks at {}; fix it there and the queue continues",
                self.queue.tip().short()
            )),
            None => {
                let hold = self.hold.as_ref().filter(|hold| !hold.is_brief);
                hold.map(|hold| format!("landing waits: {}", hold.reason))
            }
        }
    }

    /// Returns the target's tip, if it fails its own checks.
    pub fn failing_tip(&self) -> Option<Oid> {
        let fails = self.queue.stopped() == Some(StopReason::TipFails);
        fails.then(|| self.queue.tip().clone())
    }

    /// Returns true if nothing goes on until a person acts.
    pub fn needs_person(&self) -> bool {
        self.person.is_some()
    }

    /// Returns the commit of the queue log up to which the log is folded.
    pub fn log_tip(&self) -> Option<&Oid> {
        self.log_tip.as_ref()
    }

    /// Returns the number of verifications that the host will report.
    pub fn awaited(&self) -> usize {
        self.running.len()
    }

    /// Returns the number of verifications under way.
    pub fn verifying(&self) -> usize {
        self.running.len() + self.unattended.len()
    }

    /// Returns the folded queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Returns the host.
    pub fn host(&mut self) -> &mut H {
        &mut self.host
    }

    /// Returns the entry with the candidate that the queue has.
    pub(super) fn entry(&self, id: &EntryId, candidate: &Oid) -> QueuedEntry {
        let attempt = self.origins.get(id).and_then(|origin| origin.attempt);
        QueuedEntry { id: id.clone(), candidate: candidate.clone(), attempt }
    }

    /// Returns the entries that have neither landed nor left.
    pub(super) fn live(&self) -> Vec<QueuedEntry> {
        let live = self.queue.items().filter(|item| !item.status.ended());
        live.map(|item| self.entry(&item.entry.id, &item.entry.candidate)).collect()
    }

    /// Returns the cars of a train.
    pub(super) fn cars(&self, train: TrainId) -> &[crate::domain::queue::Car] {
        let mut trains = self.queue.trains();
        trains.find(|(id, _)| *id == train).map_or(&[], |(_, train)| train.cars())
    }

    pub(super) fn note(&mut self, text: String) {
        self.host.report(QueueReport::Note(text));
    }

    /// Puts landings on hold, and reports a new reason.
    pub(super) fn hold_landing(&mut self, obstacle: LandingObstacle) {
        let LandingObstacle { reason, is_lock } = obstacle;
        let now = self.host.now();
        // The text about a lock has its age, which changes.
        let known = match is_lock {
            true => self.locked_since.is_some(),
            false => self.hold.as_ref().is_some_and(|hold| hold.reason == reason),
        };
        self.locked_since = is_lock.then(|| self.locked_since.unwrap_or(now));
        let is_brief =
            self.locked_since.is_some_and(|since| now.since_ms(since) < LOCK_PATIENCE_MS);
        let until = Timestamp(now.0 + HOLD_MS);
        self.hold = Some(LandingHold { reason: reason.clone(), until, is_brief });
        if !known {
            self.note(format!("landing waits: {reason}"));
        }
    }

    fn show(&mut self) {
        let problem = self.problem();
        let state = (self.running.keys().copied().collect(), problem.clone());
        if self.shown.as_ref() != Some(&state) {
            let running = self.running.values();
            let running: Vec<_> = running.map(|r| (r.verification.clone(), r.since)).collect();
            self.host.show(&running, problem.as_deref());
            self.shown = Some(state);
        }
    }
}

/// Returns the entries of a log that have neither landed nor left.
pub(crate) fn live_entries(log: &[crate::store::queue_log::QueueLogEntry]) -> Vec<QueuedEntry> {
    let mut live: BTreeMap<&str, (&Oid, Option<u32>)> = BTreeMap::new();
    for entry in log {
        match &entry.event {
            QueueEvent::Added { candidate, attempt, .. } => {
                live.insert(&candidate.entry, (&candidate.commit, *attempt));
            }
            QueueEvent::Replaced(replaced) => {
                if let Some((commit, _)) = live.get_mut(replaced.entry.as_str()) {
                    *commit = &replaced.commit;
                }
            }
            QueueEvent::Removed { entry, .. } => {
                live.remove(entry.as_str());
            }
            QueueEvent::Ejected { candidate, .. } => {
                live.remove(candidate.entry.as_str());
            }
            QueueEvent::Landed { entries, .. } => {
                for entry in entries {
                    live.remove(entry.entry.as_str());
                }
            }
            QueueEvent::Approved { .. }
            | QueueEvent::Paused { .. }
            | QueueEvent::Resumed { .. }
            | QueueEvent::Verified { .. } => {}
        }
    }
    let parse = |(name, (commit, attempt)): (&str, (&Oid, Option<u32>))| {
        let id = EntryId::parse(name).ok()?;
        Some(QueuedEntry { id, candidate: commit.clone(), attempt })
    };
    live.into_iter().filter_map(parse).collect()
}
