//! The partner of a joint failure: an entry that fails on the target may pass without what has
//! landed since its fork point. Whoever reads the rejection learns with which landing it fails.

use anyhow::Result;

use super::host::{
    QueueHost, QueueReport, QueuedEntry, TrainVerdict, TrainVerification, VerificationId,
    VerificationStart,
};
use super::worker::{QueueWorker, RunningVerification};
use crate::domain::id::Oid;
use crate::domain::queue::{Car, EntryId, JointSearch, JointStep, TrainId, TrainKind};
use crate::domain::verdict::Verdict;
use crate::wire::queue::{JointPartner, ObjectId};

/// The train of all verifications of a search. No train of the queue has this id.
const SEARCH: TrainId = TrainId(u64::MAX);

/// A search under way.
#[derive(Debug)]
pub(super) struct PartnerSearch {
    candidate: Oid,
    /// The entries that waited when the search began. They go first.
    ahead: Vec<EntryId>,
    /// The target's line from the fork point to the commit on which the entry failed.
    line: Vec<Oid>,
    /// `None` if the partner cannot be found.
    search: Option<JointSearch>,
    /// The verification under way, with the position of its commit.
    running: Option<(VerificationId, usize)>,
}

/// The result of a search so far.
#[derive(Debug)]
pub(super) enum PartnerResult {
    /// A verification is under way, or waits for a check worktree.
    Pending,
    /// The search has ended. `None` if the entry fails alone, or if nothing can be said.
    Ended(Option<JointPartner>),
}

/// Returns true if a verification belongs to a search.
pub(super) fn is_search(id: &VerificationId) -> bool {
    id.train == SEARCH
}

impl<H: QueueHost> QueueWorker<H> {
    /// Returns true if the search for the partner of a rejected entry waits for other entries.
    /// Later entries do not delay the search, so a rejection is reported under a constant load.
    pub(super) fn search_waits(&self, id: &EntryId, candidate: &Oid) -> bool {
        let search = self.searches.get(id).filter(|search| search.candidate == *candidate);
        let is_live = |entry: &EntryId| {
            self.queue.item(entry).is_some_and(|item| !item.status.ended() && !item.entry.held)
        };
        search.is_none_or(|search| search.ahead.iter().any(is_live))
    }

    /// Looks for the landing with which a rejected entry fails. Recorded verdicts are used first.
    pub(super) fn find_partner(&mut self, entry: &QueuedEntry) -> Result<PartnerResult> {
        let known = self.searches.get(&entry.id);
        if known.is_none_or(|search| search.candidate != entry.candidate) {
            let search = self.new_search(entry)?;
            self.searches.insert(entry.id.clone(), search);
        }
        let result = self.advance_search(entry)?;
        if let PartnerResult::Ended(_) = result {
            self.searches.remove(&entry.id);
        }
        Ok(result)
    }

    fn new_search(&mut self, entry: &QueuedEntry) -> Result<PartnerSearch> {
        // The line ends where the entry failed. The target may have moved on since.
        let failed_on = self.rejections.get(&entry.id).and_then(|failure| failure.onto.clone());
        let line = match failed_on {
            Some(onto) => self.host.line_since_fork(&onto, entry)?,
            None => Vec::new(),
        };
        let search = (line.len() > 1).then(|| JointSearch::new(line.len() - 1));
        let ahead = self.live().into_iter().map(|entry| entry.id).collect();
        let candidate = entry.candidate.clone();
        Ok(PartnerSearch { candidate, ahead, line, search, running: None })
    }

    fn car_on(&mut self, onto: &Oid, entry: &QueuedEntry) -> Result<Option<Car>> {
        let build = self.host.build(onto, std::slice::from_ref(entry))?;
        Ok(build.cars.into_iter().next())
    }

    fn advance_search(&mut self, entry: &QueuedEntry) -> Result<PartnerResult> {
        loop {
            let Some(PartnerSearch { line, search: Some(search), running, .. }) =
                self.searches.get(&entry.id)
            else {
                return Ok(PartnerResult::Ended(None));
            };
            if let Some((id, _)) = running
                && (self.running.contains_key(id) || self.unattended.contains_key(id))
            {
                return Ok(PartnerResult::Pending);
            }
            let position = match search.next_step() {
                JointStep::FailsAlone => return Ok(PartnerResult::Ended(None)),
                JointStep::Found(position) => {
                    let Some(commit) = line.get(position).cloned() else {
                        return Ok(PartnerResult::Ended(None));
                    };
                    let entry = self.host.landed_entry(&commit)?;
                    let commit = ObjectId(commit);
                    return Ok(PartnerResult::Ended(Some(JointPartner { entry, commit })));
                }
                JointStep::Verify(position) => position,
            };
            let Some(onto) = line.get(position).cloned() else {
                return Ok(PartnerResult::Ended(None));
            };
            if !self.may_search() {
                return Ok(PartnerResult::Pending);
            }
            let Some(car) = self.car_on(&onto, entry)? else {
                return Ok(PartnerResult::Ended(None));
            };
            let verdict = match self.logged_verdict(entry, &car.tree) {
                Some(passed) => Some(passed),
                None => match self.start_search_step(entry, (position, onto), car)? {
                    VerificationStart::Known(verdict) => verdict_of(&verdict),
                    VerificationStart::Started | VerificationStart::Busy => {
                        return Ok(PartnerResult::Pending);
                    }
                    VerificationStart::Held(_) => None,
                },
            };
            self.record_search_step(entry, position, verdict);
        }
    }

    /// Returns true if a search may start a verification: nobody has paused the queue, and no other
    /// verification is under way that leaves no room.
    fn may_search(&mut self) -> bool {
        let busy = self.running.len() + self.unattended.len();
        self.queue.stopped().is_none()
            && busy < self.rules.settings.concurrency.max(1)
            && self.host.now() >= self.faults.not_before
    }

    /// Returns the last verdict of this worker on a tree with the entry, if there is one. Verdicts
    /// of earlier workers are on other rules, perhaps; the host knows those that still hold.
    fn logged_verdict(&self, entry: &QueuedEntry, tree: &Oid) -> Option<bool> {
        let mut logged = self.verifications.iter().rev().filter(|v| !v.by_earlier_worker);
        let name = entry.id.as_str();
        let last = logged.find(|v| v.tree == *tree && v.entries.iter().any(|other| other == name));
        last.map(|logged| logged.passed)
    }

    fn start_search_step(
        &mut self,
        entry: &QueuedEntry,
        (position, onto): (usize, Oid),
        car: Car,
    ) -> Result<VerificationStart> {
        let same = |running: &RunningVerification| running.verification.tree == car.tree;
        if self.running.values().chain(self.unattended.values()).any(same) {
            return Ok(VerificationStart::Busy);
        }
        self.search_steps += 1;
        let id = VerificationId { train: SEARCH, prefix: 1, attempt: self.search_steps };
        let verification = TrainVerification {
            id,
            // A recorded failure counts.
            kind: TrainKind::Lane,
            commit: car.commit,
            tree: car.tree,
            onto,
            entries: vec![entry.clone()],
            first: Some(entry.clone()),
            failures: 0,
            logged_results: Default::default(),
            must_run: false,
        };
        self.flush()?;
        let start = self.host.verify(&verification)?;
        if let VerificationStart::Started = start {
            if position == 0 {
                let text = format!(
                    "{} fails on `{}`: does it fail alone, or with what has landed since?",
                    entry.id,
                    self.host.target_name()
                );
                self.note(text);
            }
            let entries = &verification.entries;
            self.host.report(QueueReport::Verifying(verification.kind, entries));
            let (since, rules) = (self.host.now(), self.rules.digest.clone());
            self.running.insert(id, RunningVerification { verification, since, rules });
            if let Some(search) = self.searches.get_mut(&entry.id) {
                search.running = Some((id, position));
            }
        }
        Ok(start)
    }

    /// Records the outcome of a verification of a search.
    pub(super) fn end_search_step(&mut self, id: &VerificationId, verdict: &TrainVerdict) {
        let found = self.searches.iter().find_map(|(entry, search)| {
            let (running, position) = search.running?;
            (running == *id).then(|| (entry.clone(), search.candidate.clone(), position))
        });
        if let Some((entry, candidate, position)) = found {
            let entry = self.entry(&entry, &candidate);
            self.record_search_step(&entry, position, verdict_of(verdict));
        }
    }

    /// Records a verdict. Without one, the search ends.
    fn record_search_step(&mut self, entry: &QueuedEntry, position: usize, passed: Option<bool>) {
        let Some(search) = self.searches.get_mut(&entry.id) else { return };
        search.running = None;
        match (&mut search.search, passed) {
            (Some(search), Some(passed)) => search.record(position, passed),
            (_, None) => search.search = None,
            (None, Some(_)) => {}
        }
    }
}

/// Returns true if a verdict is passed, and `None` if it is none.
fn verdict_of(verdict: &TrainVerdict) -> Option<bool> {
    match verdict.report.verdict {
        Verdict::Passed => Some(true),
        Verdict::Failed(_) => Some(false),
        Verdict::Errored(_) => None,
    }
}
