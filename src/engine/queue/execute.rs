//! The execution of owed effects other than landings: trains are built and verified, and entries
//! are ejected.

use std::collections::BTreeSet;

use anyhow::Result;

use super::host::{
    QueueHost, QueueReport, QueuedEntry, TrainBuild, TrainVerdict, TrainVerification,
    VerificationId, VerificationStart,
};
use super::joint::{PartnerResult, is_search};
use super::worker::{Faults, LoneFailure, QueueWorker, RunningVerification};
use crate::domain::id::{Oid, Timestamp};
use crate::domain::queue::{EjectReason, EntryId, EntryStatus, QueueInput, TrainId, TrainKind};
use crate::domain::verdict::{Finding, Verdict};
use crate::wire::facts::{WireFinding, WireResult};
use crate::wire::queue::{Ejection, EntryCommit, JointPartner, LandedEntry, ObjectId, QueueEvent};

/// The pause in milliseconds after a verification of entries that could not run.
const PAUSE_MS: u64 = 200;
/// The back-off in milliseconds after a verification of the tip that could not run. Doubles each
/// time.
const BACK_OFF_MS: u64 = 1_000;
/// The number of consecutive faults of the target's tip after which a person is needed. An entry
/// that cannot be verified leads to a verification of the tip, so faults of entries need no limit.
const MAX_FAULTS: u32 = 5;

impl<H: QueueHost> QueueWorker<H> {
    pub(super) fn build(
        &mut self,
        train: TrainId,
        onto: &Oid,
        entries: &[(EntryId, Oid)],
    ) -> Result<bool> {
        let queued: Vec<QueuedEntry> =
            entries.iter().map(|(id, candidate)| self.entry(id, candidate)).collect();
        let TrainBuild { cars, conflicts, contained, refused } = self.host.build(onto, &queued)?;
        let candidate = |id: &EntryId| {
            let entry = entries.iter().find(|(entry, _)| entry == id);
            entry.map(|(_, candidate)| candidate.clone())
        };
        for (entry, reason) in refused {
            if let Some(candidate) = candidate(&entry) {
                self.queue.fold(QueueInput::Refused { entry, candidate, reason });
            }
        }
        // What the tip has already lands without a commit. An entry whose content another car or
        // an older tip has waits for the next train.
        if *onto == *self.queue.tip() {
            let landed = |id: EntryId| {
                let (entry, landed_as, results) = (id.to_string(), None, Vec::new());
                Some(LandedEntry { entry, commit: candidate(&id)?, landed_as, results })
            };
            let entries: Vec<LandedEntry> = contained.into_iter().filter_map(landed).collect();
            if !entries.is_empty() {
                let (old, new) = (onto.clone(), onto.clone());
                self.write(&[QueueEvent::Landed { old, new, entries }])?;
            }
        }
        // A train that has lost an entry is gone, and is formed again.
        self.queue.apply(QueueInput::Built { train, cars, conflicts });
        Ok(true)
    }

    /// Returns the entries of a train's prefix that are not on the target yet.
    fn prefix_entries(&self, train: TrainId, prefix: usize) -> Vec<QueuedEntry> {
        let cars = self.cars(train).iter().take(prefix);
        let items = cars.filter_map(|car| self.queue.item(&car.entry));
        let open = items.filter(|item| item.status != EntryStatus::Landed);
        open.map(|item| self.entry(&item.entry.id, &item.entry.candidate)).collect()
    }

    /// Returns what the log says of a tree: the number of failures since the first entry of the
    /// train was added, and the results of earlier workers since all entries were added.
    fn logged(
        &self,
        tree: &Oid,
        entries: &[QueuedEntry],
        first: Option<&QueuedEntry>,
    ) -> (usize, BTreeSet<String>) {
        let added = |entry: &QueuedEntry| self.origins.get(&entry.id).map_or(0, |o| o.position);
        let since_first = first.map_or(0, added);
        let since_all = entries.iter().chain(first).map(added).max().unwrap_or(0);
        let logged = || self.verifications.iter().filter(|logged| logged.tree == *tree);
        let failures = logged().filter(|v| !v.passed && v.position > since_first).count();
        let earlier = logged().filter(|v| v.by_earlier_worker && v.position > since_all);
        (failures, earlier.flat_map(|v| v.results.iter().cloned()).collect())
    }

    /// Starts a verification, or applies the verdict if it is known.
    pub(super) fn verify(
        &mut self,
        id: VerificationId,
        kind: TrainKind,
        onto: Oid,
        commit: Oid,
        tree: Oid,
    ) -> Result<bool> {
        let same = |(other, running): (&VerificationId, &RunningVerification)| {
            *other == id || running.verification.tree == tree
        };
        let backs_off = self.host.now() < self.faults.not_before;
        if self.running.iter().chain(&self.unattended).any(same) || backs_off {
            return Ok(false);
        }
        let first = self.prefix_entries(id.train, usize::MAX).into_iter().next();
        let entries = self.prefix_entries(id.train, id.prefix);
        let (failures, logged_results) = self.logged(&tree, &entries, first.as_ref());
        let verification = TrainVerification {
            id,
            kind,
            commit,
            tree,
            onto,
            entries,
            first,
            failures,
            logged_results,
            must_run: id.prefix == 0 && self.faults.count > 0,
        };
        // People learn of a landing before the next verification keeps everybody waiting.
        self.flush()?;
        match self.host.verify(&verification)? {
            VerificationStart::Known(verdict) => {
                self.apply_verdict(&verification, verdict);
                Ok(true)
            }
            VerificationStart::Started => {
                self.host.report(QueueReport::Verifying(kind, &verification.entries));
                let (since, rules) = (self.host.now(), self.rules.digest.clone());
                self.running.insert(id, RunningVerification { verification, since, rules });
                Ok(false)
            }
            VerificationStart::Busy => Ok(false),
            VerificationStart::Held(reason) => {
                self.hold_landing(reason.into());
                Ok(false)
            }
        }
    }

    /// Records the outcome of a verification and acts on it. `None` means that a keeper still runs
    /// and nobody waits for it.
    pub fn finish(
        &mut self,
        id: VerificationId,
        outcome: Result<Option<TrainVerdict>>,
    ) -> Result<()> {
        let Some(running) = self.running.remove(&id) else { return Ok(()) };
        let verdict = match outcome {
            Ok(Some(verdict)) => verdict,
            Ok(None) => {
                self.unattended.insert(id, running);
                return Ok(());
            }
            Err(error) => TrainVerdict::without_results(Verdict::Errored(format!("{error:#}"))),
        };
        let RunningVerification { verification, since, rules } = running;
        if let Verdict::Errored(fault) = &verdict.report.verdict {
            if !is_search(&id) {
                self.record_fault(&verification, fault);
            }
        } else {
            self.faults = Faults::default();
            self.host.note_verdict(&verification.tree, verdict.note_lines.clone())?;
            let ms = self.host.now().since_ms(since);
            // Durable before anything lands because of it. If a crash loses it, the tree is
            // verified again.
            let logged = self.verifications.len();
            self.host.append_log(&[verified_event(&verification, &verdict, ms)])?;
            self.read_log()?;
            if rules != self.rules.digest {
                self.verifications.truncate(logged);
            }
        }
        if is_search(&id) {
            self.end_search_step(&id, &verdict);
        } else if rules == self.rules.digest {
            self.apply_verdict(&verification, verdict);
        }
        Ok(())
    }

    fn record_fault(&mut self, verification: &TrainVerification, fault: &str) {
        let of_tip = verification.id.prefix == 0;
        let names: Vec<&str> = verification.entries.iter().map(|e| e.id.as_str()).collect();
        let names = if of_tip { "the target's tip".to_owned() } else { names.join(", ") };
        let pause = if of_tip { BACK_OFF_MS << self.faults.of_tip } else { PAUSE_MS };
        self.faults.count += 1;
        self.faults.of_tip += u32::from(of_tip);
        self.faults.not_before = Timestamp(self.host.now().0 + pause);
        self.note(format!("{names}: the checks could not run: {fault}"));
        if self.faults.of_tip >= MAX_FAULTS {
            self.person = Some(format!(
                "the checks could not run on the target's tip {MAX_FAULTS} times in a row: {fault}"
            ));
        }
    }

    fn apply_verdict(&mut self, verification: &TrainVerification, verdict: TrainVerdict) {
        let VerificationId { train, prefix, attempt } = verification.id;
        let outcome = match &verdict.report.verdict {
            Verdict::Passed => Verdict::Passed,
            Verdict::Failed(findings) => Verdict::Failed(finding_text(findings)),
            Verdict::Errored(fault) => Verdict::Errored(fault.clone()),
        };
        let passes = outcome == Verdict::Passed;
        let tree = verification.tree.clone();
        match (verification.entries.as_slice(), &verdict.report.verdict) {
            (_, Verdict::Passed) => {
                self.passed.insert(tree.clone(), verdict);
            }
            ([alone], Verdict::Failed(_)) => {
                let onto = (prefix == 1).then(|| verification.onto.clone());
                let failure = LoneFailure { tree: tree.clone(), onto, verdict };
                self.rejections.insert(alone.id.clone(), failure);
            }
            ([], Verdict::Failed(findings)) if attempt > 1 => {
                let (target, tip) = (self.host.target_name(), verification.onto.short());
                for finding in findings {
                    let Finding { check, text, .. } = finding;
                    self.note(format!("on `{target}` at {tip}, `{check}` fails: {text}"));
                }
            }
            (_, Verdict::Failed(_) | Verdict::Errored(_)) => {}
        }
        self.queue.apply(QueueInput::Verified { train, prefix, attempt, verdict: outcome });
        if passes {
            // Another train may have the same tree.
            self.queue.apply(QueueInput::TreePassed(tree));
        }
    }

    /// Logs that an entry leaves the queue without having landed.
    pub(super) fn eject(
        &mut self,
        id: &EntryId,
        candidate: Oid,
        reason: &EjectReason,
    ) -> Result<bool> {
        let entry = self.entry(id, &candidate);
        let reason = match reason {
            EjectReason::Rejected { finding } => match self.find_partner(&entry)? {
                PartnerResult::Pending => return Ok(false),
                PartnerResult::Ended(partner) => self.rejection(&entry, finding, (false, partner)),
            },
            EjectReason::Refused { reason } => self.rejection(&entry, reason, (true, None)),
            EjectReason::Conflict { paths } => {
                let tip = self.queue.tip().clone();
                let sides = self.host.conflict_sides(&tip, &entry, paths)?;
                Ejection::Conflict { sides, onto: Some(ObjectId(tip)) }
            }
            EjectReason::Blocked { by } => Ejection::Blocked { by: by.to_string() },
        };
        let candidate = EntryCommit { entry: id.to_string(), commit: candidate };
        self.write(&[QueueEvent::Ejected { candidate, reason }])?;
        Ok(true)
    }

    /// Returns the reason for a rejection. A task's next attempt gets the findings. `refused` is
    /// true if no check was run.
    fn rejection(
        &mut self,
        entry: &QueuedEntry,
        finding: &str,
        (refused, partner): (bool, Option<JointPartner>),
    ) -> Ejection {
        let finding = finding.to_owned();
        let recorded = self.rejections.remove(&entry.id);
        let Some(attempt) = entry.attempt else {
            let (findings, results, tree) = (Vec::new(), Vec::new(), None);
            return Ejection::Rejected { finding, findings, results, tree, refused, partner };
        };
        let (tree, report) = match recorded {
            Some(LoneFailure { tree, verdict, .. }) => (Some(ObjectId(tree)), verdict.report),
            None => {
                let text = finding.clone();
                let findings = vec![Finding { attempt, check: "landing".into(), text }];
                (None, TrainVerdict::without_results(Verdict::Failed(findings)).report)
            }
        };
        // Only failed verdicts are recorded as rejections.
        let joint = partner.as_ref().map(ToString::to_string);
        let joint = joint.map(|text| Finding { attempt, check: "landing".into(), text });
        let findings = joint.iter().chain(report.findings());
        Ejection::Rejected {
            finding,
            findings: findings.map(WireFinding::from).collect(),
            results: report.results.iter().map(WireResult::from).collect(),
            refused,
            tree,
            partner,
        }
    }
}

fn finding_text(findings: &[Finding]) -> String {
    let lines = findings.iter().map(|f| format!("check `{}`: {}", f.check, f.text));
    lines.collect::<Vec<_>>().join("\n")
}

fn verified_event(verification: &TrainVerification, verdict: &TrainVerdict, ms: u64) -> QueueEvent {
    QueueEvent::Verified {
        commit: verification.commit.clone(),
        tree: verification.tree.clone(),
        entries: verification.entries.iter().map(|entry| entry.id.to_string()).collect(),
        passed: verdict.report.verdict == Verdict::Passed,
        results: verdict.report.results.iter().map(WireResult::from).collect(),
        ms,
    }
}
