//! Carrying out what is owed of trains: building them, having them judged, and telling who leaves.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::judge::{self, Case, Judged};
use super::{FAULTS, Flight, News, Question, Told, Worker, request};
use crate::ambient;
use crate::domain::id::Oid;
use crate::domain::queue::{
    Conflict, EjectReason, EntryId, EntryStatus, QueueInput, TrainId, TrainKind,
};
use crate::domain::verdict::{CheckReport, Verdict};
use crate::engine::effects::catch_panic;
use crate::landing::{BuiltTrain, CarRequest};
use crate::store::layout;
use crate::store::notes::NoteLines;
use crate::verify;
use crate::wire::facts::WireResult;
use crate::wire::queue::{self, QueueEvent};

/// How long nothing is begun after the first verification that could not be run. Each further one doubles it.
const BACK_OFF: Duration = Duration::from_secs(1);

impl Worker<'_> {
    pub(super) fn build(
        &mut self,
        train: TrainId,
        onto: &Oid,
        entries: &[(EntryId, Oid)],
    ) -> Result<bool> {
        let requests: Vec<CarRequest<'_>> = entries
            .iter()
            .map(|(entry, candidate)| request(&self.rules, entry, candidate))
            .collect();
        let built = match self.builder().build(onto, &requests, &self.history) {
            Ok(built) => built,
            // One of them cannot be merged at all: each by itself tells which.
            Err(_) => self.build_one_by_one(onto, requests)?,
        };
        let BuiltTrain { cars, conflicts } = built;
        self.queue.apply(QueueInput::Built { train, cars, conflicts });
        Ok(true)
    }

    fn build_one_by_one(&self, onto: &Oid, requests: Vec<CarRequest<'_>>) -> Result<BuiltTrain> {
        let mut good = Vec::new();
        let mut clashes = Vec::new();
        for one in requests {
            match self.builder().build(onto, std::slice::from_ref(&one), &self.history) {
                Ok(_) => good.push(one),
                Err(error) => clashes.push(Conflict {
                    entry: one.entry.clone(),
                    paths: vec![format!("{error:#}")],
                    with_base: true,
                }),
            }
        }
        let mut built = self.builder().build(onto, &good, &self.history)?;
        built.conflicts.extend(clashes);
        Ok(built)
    }

    /// The branches in a prefix of a train that are not on the target yet.
    fn in_prefix(&self, train: TrainId, prefix: usize) -> Vec<EntryId> {
        let found = self.queue.trains().find(|(id, _)| *id == train);
        let landed = |entry: &EntryId| {
            self.queue.item(entry).is_some_and(|item| item.status == EntryStatus::Landed)
        };
        let entries = found.map(|(_, train)| train.entries().take(prefix)).into_iter().flatten();
        entries.filter(|entry| !landed(entry)).cloned().collect()
    }

    pub(super) fn verify(
        &mut self,
        question: Question,
        kind: TrainKind,
        commit: Oid,
        tree: Oid,
    ) -> Result<bool> {
        let same = |flight: &Flight| flight.question == question || flight.case.tree == tree;
        if self.flights.values().any(same) {
            return Ok(false);
        }
        let case = Case { commit, tree, tip: self.queue.tip().clone() };
        let again = kind == TrainKind::Confirm;
        let Some(worktree) = self.free_worktree() else { return Ok(false) };
        let steps = judge::steps(&self.desk, &self.rules, &case, &worktree, &self.vouched, again)?;
        if let Some(verdict) = verify::known_verdict(&steps) {
            self.ruled(question, &verdict);
            return Ok(true);
        }
        if self.pauses() {
            return Ok(false);
        }
        let (train, prefix, _) = question;
        let entries = self.in_prefix(train, prefix);
        self.settle()?;
        (self.report)(Told::Verifies(kind, &entries));
        let (since, rules) = (ambient::instant(), Arc::clone(&self.rules));
        let flight = Flight { question, kind, case, entries, worktree, since, rules };
        self.flights.insert(question, flight.clone());
        self.show();
        let desk = Arc::clone(&self.desk);
        self.spawn(flight, move |flight| {
            judge::judge(&desk, &flight.rules, &flight.case, &steps, &flight.worktree)
        });
        Ok(true)
    }

    #[expect(clippy::disallowed_methods, reason = "the engine is the module with threads")]
    fn spawn(&self, flight: Flight, work: impl FnOnce(&Flight) -> Result<Judged> + Send + 'static) {
        let tell = self.news.0.clone();
        std::thread::spawn(move || {
            let judged = catch_panic(|| work(&flight));
            tell.send(News::Judged(Box::new(flight), judged)).ok();
        });
    }

    /// The free place with the lowest number: the one that is most likely to be there and warm already.
    fn free_worktree(&self) -> Option<String> {
        let names = (1..=self.rules.job.queue.ahead).map(|n| format!("q{n:02}"));
        let busy = |name: &String| self.flights.values().any(|flight| flight.worktree == *name);
        names.into_iter().find(|name| !busy(name))
    }

    /// Writes down what was said of a tree, and acts on it then.
    pub(super) fn judged(&mut self, flight: &Flight, judged: Result<Judged>) -> Result<()> {
        let judged = judged.unwrap_or_else(|error| {
            let verdict = Verdict::Errored(format!("{error:#}"));
            Judged { verdict: CheckReport { verdict, results: Vec::new() }, lines: Vec::new() }
        });
        let (verdict, tree) = (judged.verdict, &flight.case.tree);
        if let Verdict::Errored(fault) = &verdict.verdict {
            let (times, _) = self.faults;
            let pause = BACK_OFF * 2u32.saturating_pow(times.min(6));
            self.faults = (times + 1, Some(ambient::instant() + pause));
            let entries: Vec<&str> = flight.entries.iter().map(EntryId::as_str).collect();
            let entries = entries.join(", ");
            self.note(format!(
                "{entries}: the checks could not be run, which is held against nobody: {fault}"
            ));
            if times + 1 >= FAULTS {
                self.person = Some(format!(
                    "the checks could not be run {FAULTS} times in a row, the last time for {entries}: {fault}"
                ));
            }
        } else {
            self.faults = (0, None);
            let store = &self.desk.store;
            store.add_notes(layout::VERDICTS, &NoteLines::from([(tree.clone(), judged.lines)]))?;
            let event = QueueEvent::Verified {
                commit: flight.case.commit.clone(),
                tree: tree.clone(),
                entries: flight.entries.iter().map(ToString::to_string).collect(),
                passed: verdict.verdict == Verdict::Passed,
                results: verdict.results.iter().map(WireResult::from).collect(),
                ms: u64::try_from(flight.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            };
            // Durable before anything lands because of it; if it is lost until then, the tree is judged again.
            store.append_queue_log(&self.desk.target, &[event])?;
            self.read_book(true)?;
        }
        if Arc::ptr_eq(&flight.rules, &self.rules) {
            self.ruled(flight.question, &verdict);
            if verdict.verdict == Verdict::Passed {
                // Also if nobody asks any more: another train may come to the same tree.
                self.queue.apply(QueueInput::TreePassed(tree.clone()));
            }
        }
        Ok(())
    }

    fn ruled(&mut self, (train, prefix, attempt): Question, verdict: &CheckReport) {
        let ruling = match &verdict.verdict {
            Verdict::Passed => Verdict::Passed,
            Verdict::Failed(findings) => {
                let said = findings.iter().map(|f| format!("check `{}`: {}", f.check, f.text));
                Verdict::Failed(said.collect::<Vec<_>>().join("\n"))
            }
            Verdict::Errored(fault) => Verdict::Errored(fault.clone()),
        };
        self.queue.apply(QueueInput::Verified { train, prefix, attempt, verdict: ruling });
    }

    pub(super) fn eject(
        &mut self,
        entry: &EntryId,
        candidate: &Oid,
        why: &EjectReason,
    ) -> Result<bool> {
        let why = match why {
            EjectReason::Rejected { finding } => {
                queue::Ejection::Rejected { finding: finding.clone() }
            }
            EjectReason::Conflict { paths } => {
                queue::Ejection::Conflict { sides: self.sides(entry, candidate, paths)? }
            }
            EjectReason::Blocked { by } => queue::Ejection::Blocked { by: by.to_string() },
        };
        let candidate = queue::EntryCommit { entry: entry.to_string(), commit: candidate.clone() };
        self.write(&[QueueEvent::Ejected { candidate, reason: why }])?;
        Ok(true)
    }
}
