//! What threads bring back becomes events; landings happen here, on the one thread that moves refs.

use anyhow::Result;

use super::dispatcher::{Engine, FinishedEffect, Message};
use super::landings;
use super::requests;
use super::work::attempt;
use super::work::verification::{self, VerificationAssignment, VerificationResult};
use super::{RunReport, recover};
use crate::ambient;
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::{Decision, Effect, Observation};
use crate::domain::state::Phase;
use crate::domain::termination::Termination;
use crate::domain::verdict::{CheckReport, Verdict};
use crate::failpoint;
use crate::repo;
use crate::store::codec;
use crate::store::journal::LandingRecord;
use crate::store::{Expected, RefMove, layout};
use crate::wire::request::{RequestAnswer, WireRequest};

/// What is journaled and waits for a barrier.
#[derive(Debug)]
pub(super) struct AwaitingSync {
    /// The barrier's number.
    pub number: u64,
    /// Events, to be told.
    pub decisions: Vec<Decision>,
    /// Published attempts, to be dropped.
    pub published: Vec<RefMove>,
}

impl Engine<'_> {
    pub(super) fn handle(&mut self, news: Message) -> Result<()> {
        let (effect, seen) = match news {
            Message::Signal(signal) => {
                self.signal(signal);
                return Ok(());
            }
            Message::Durable(number, result) => {
                result?;
                return self.durable(number);
            }
            Message::Done(effect, seen) => (effect, *seen),
        };
        let worktree = self.in_flight.remove(&effect).flatten();
        let under_way = match seen {
            Ok(FinishedEffect::Attempt(seen)) => self.attempt(&effect, seen)?,
            Ok(FinishedEffect::Verified(case, judged)) => self.judged(&effect, &case, judged)?,
            Ok(FinishedEffect::Evaluated(seen)) => {
                self.evaluated(&effect, seen.map(|seen| *seen))?
            }
            Ok(FinishedEffect::OutOfScope(candidate, finding)) => {
                self.out_of_scope(&effect, candidate.tree, finding);
                false
            }
            Err(error) => {
                self.broken(&effect, &format!("{error:#}"));
                false
            }
        };
        if under_way {
            self.not_awaited.insert(effect);
        } else if let Some(worktree) = worktree {
            self.slots.free(&worktree);
        }
        Ok(())
    }

    /// Says whether the attempt is still under way.
    fn attempt(&mut self, effect: &Effect, seen: attempt::AttemptOutcome) -> Result<bool> {
        let Effect::Await(task, attempt) = effect else { return Ok(false) };
        let Some(observation) = seen.observation else { return Ok(true) };
        if let Some(note) = seen.note {
            (self.report)(RunReport::Note(note));
        }
        let candidate = if let Observation::AttemptEnded { candidate, .. } = &observation {
            candidate.clone()
        } else {
            None
        };
        let decisions = self.observe(observation);
        if !decisions.is_empty()
            && let Some(payload) = seen.payload
        {
            self.batch.payloads.entry(task.clone()).or_default().push(payload);
        }
        if let Some(published) = seen.published {
            let name = self.ctx.attempt_ref(task, *attempt);
            self.published.push(RefMove::delete(name, published));
        }
        if let (Some(candidate), false) = (candidate, decisions.is_empty()) {
            self.show_candidate(task, &candidate.commit)?;
        }
        failpoint::hit("attempt.seen");
        self.record()?;
        failpoint::hit("attempt.recorded");
        // Its files are on the chain, or are worth nothing.
        self.stale_folders.push(self.ctx.attempt_dir(task, *attempt));
        Ok(false)
    }

    /// The task's branch shows the candidate to people. What counts is on the chain, so this may come to nothing.
    fn show_candidate(&mut self, task: &TaskId, commit: &Oid) -> Result<()> {
        if self.ctx.job.output.is_some() {
            return Ok(());
        }
        let branch = layout::branch(&self.ctx.run, task);
        let old = self.ctx.store.read(&branch)?;
        if old.as_ref() != Some(commit) {
            let expected = Expected::from_read(old);
            self.batch.extras.push(RefMove::to(branch, commit.clone(), expected));
        }
        Ok(())
    }

    /// Says whether a keeper is still at it.
    fn judged(
        &mut self,
        effect: &Effect,
        case: &VerificationAssignment,
        judged: Option<VerificationResult>,
    ) -> Result<bool> {
        let Some(judged) = judged else { return Ok(true) };
        if let Effect::Land(task) = effect {
            self.car_judged(task, case, judged)?;
            return Ok(false);
        }
        if *effect == Effect::VerifyBase && self.ledger.state.base_passed.is_some() {
            self.tip_judged(case, &judged.report);
            self.discard_folder(verification::folder(&self.ctx, case));
            return Ok(false);
        }
        self.note_verdict(&case.tree, judged.lines);
        let observation = match &case.task {
            None => {
                self.tell_findings("the base", &judged.report);
                Observation::BaseVerified(judged.report)
            }
            Some((task, attempt)) => Observation::Verified {
                task: task.clone(),
                attempt: *attempt,
                tree: case.tree.clone(),
                checks: judged.report,
            },
        };
        self.observe(observation);
        self.record()?;
        failpoint::hit("verify.recorded");
        self.discard_folder(verification::folder(&self.ctx, case));
        Ok(false)
    }

    /// A base or a tip that fails is for a person to mend: the whole output is told at once.
    pub(super) fn tell_findings(&mut self, of: &str, report: &CheckReport) {
        if let Verdict::Failed(findings) = &report.verdict {
            for finding in findings {
                let text = format!("on {of}, `{}` fails: {}", finding.check, finding.text);
                (self.report)(RunReport::Note(text));
            }
        }
    }

    /// The note goes with the event that vouches for it.
    pub(super) fn note_verdict(&mut self, tree: &Oid, lines: Vec<String>) {
        if !lines.is_empty() {
            self.tree_notes.entry(tree.clone()).or_default().extend(lines);
        }
    }

    fn out_of_scope(
        &mut self,
        effect: &Effect,
        tree: Oid,
        finding: crate::domain::verdict::Finding,
    ) {
        let Effect::Verify(task, attempt) = effect else { return };
        let verdict = Verdict::Failed(vec![finding]);
        let verdict = CheckReport { verdict, results: Vec::new() };
        let (task, attempt) = (task.clone(), *attempt);
        self.observe(Observation::Verified { task, attempt, tree, checks: verdict });
    }

    /// An effect that could not be carried out is a fault of the infrastructure.
    pub(super) fn broken(&mut self, effect: &Effect, why: &str) {
        let inconclusive =
            || CheckReport { verdict: Verdict::Errored(why.to_owned()), results: Vec::new() };
        match effect {
            Effect::VerifyBase if self.ledger.state.base_passed.is_some() => self.tips.give_up(),
            Effect::VerifyBase => {
                self.observe(Observation::BaseVerified(inconclusive()));
            }
            Effect::Await(task, attempt) => {
                let termination = Termination::NotStarted(why.to_owned());
                let (task, attempt) = (task.clone(), *attempt);
                let candidate = None;
                self.observe(Observation::AttemptEnded {
                    task,
                    attempt,
                    termination,
                    candidate,
                    changed: false,
                    report: None,
                });
            }
            Effect::Verify(task, attempt) => {
                let candidate = self.ledger.state.tasks.get(task).and_then(|s| s.candidate.clone());
                if let Some(candidate) = candidate {
                    let (task, attempt) = (task.clone(), *attempt);
                    let (tree, verdict) = (candidate.tree, inconclusive());
                    self.observe(Observation::Verified { task, attempt, tree, checks: verdict });
                }
            }
            Effect::Evaluate(task, attempt) => {
                let candidate = self.ledger.state.tasks.get(task).and_then(|s| s.candidate.clone());
                if let Some(candidate) = candidate {
                    self.observe(Observation::Evaluated {
                        task: task.clone(),
                        attempt: *attempt,
                        tree: candidate.tree,
                        began: ambient::now(),
                        termination: Termination::NotStarted(why.to_owned()),
                        verdict: Verdict::Errored(why.to_owned()),
                        report: None,
                    });
                }
            }
            Effect::Land(_) => self.hold_landing(format!("landing does not work: {why}")),
            Effect::Start(..) | Effect::Redispatch => {}
        }
    }

    /// Notes, the tasks' chains and the journal follow a target that has moved. Also what recovery does.
    pub(super) fn landed(
        &mut self,
        queue: &crate::store::journal::TargetProof,
        landings: &[LandingRecord],
    ) -> Result<()> {
        let ctx = std::sync::Arc::clone(&self.ctx);
        for behind in landings::follow(&ctx, landings)? {
            (self.report)(RunReport::Note(behind));
        }
        let Some(last) = landings.last() else { return Ok(()) };
        for landing in landings {
            let proof = if ctx.job.queue.each { landing } else { last };
            self.note_landing(landing, proof)?;
            self.drop_branch(landing)?;
            self.observe(Observation::Landed {
                task: landing.task.clone(),
                commit: landing.new.clone(),
                results: landing.results.clone(),
            });
            if last == landing {
                // For all of them: until then recovery finds each.
                self.batch.moves.push(ctx.store.settle(queue, landing, true)?);
            }
            // One by one: what an event means depends on those before it.
            self.record()?;
        }
        failpoint::hit("land.recorded");
        if let Some(why) = self.hook(ctx.job.queue.post_land.as_deref(), landings) {
            (self.report)(RunReport::Note(format!("after the landing: {why}")));
        }
        Ok(())
    }

    fn note_landing(&mut self, landing: &LandingRecord, proof: &LandingRecord) -> Result<()> {
        if let Some(tip) = self.ledger.tips.get(&landing.task) {
            let state = self.ledger.state.tasks.get(&landing.task);
            let approval = state.and_then(|s| s.review.approval.as_ref());
            let line = landings::provenance(&self.ctx, landing, &tip.tree, approval, proof)?;
            self.commit_notes.entry(landing.new.clone()).or_default().push(line);
        }
        Ok(())
    }

    /// The branch of what has landed goes, unless the job says that it stays.
    fn drop_branch(&mut self, landing: &LandingRecord) -> Result<()> {
        let ctx = std::sync::Arc::clone(&self.ctx);
        let branch = layout::branch(&ctx.run, &landing.task);
        // Only a branch whose work the chain keeps: it can be behind the candidate when a supervisor was killed
        // before it showed the candidate there, and a person may have committed on it.
        if !ctx.job.queue.keep_branches
            && let Some(tip) = ctx.store.read(&branch)?
            && ctx.store.repo().is_ancestor(&tip, &landing.candidate)?
        {
            self.batch.extras.push(RefMove::delete(branch, tip));
        }
        Ok(())
    }

    /// A task that the target contains, of which nothing else may tell that it has landed: a copy of the repository can have been
    /// made between the two.
    pub(super) fn found_landed(&mut self, task: TaskId, commit: Oid) -> Result<()> {
        let ctx = std::sync::Arc::clone(&self.ctx);
        let state = self.ledger.state.tasks.get(&task).filter(|s| s.phase != Phase::Done);
        let Some(state) = state else { return Ok(()) };
        let (repo, attempt) = (ctx.store.repo(), state.attempt);
        let info = repo::commit_info(repo, &commit)?;
        let same =
            codec::trailers(&info.message).get("Harness-Attempt") == Some(&&*attempt.to_string());
        if let (true, Some(candidate), Some(old)) =
            (same, state.candidate.as_ref(), info.parents.first())
        {
            let landing = LandingRecord {
                run: ctx.run.clone(),
                task: task.clone(),
                attempt,
                candidate: candidate.commit.clone(),
                old: old.clone(),
                new: commit.clone(),
                tree: repo.tree_of(&commit)?,
                results: Vec::new(),
            };
            if ctx.store.note(layout::NOTES, &commit)?.is_none() {
                self.note_landing(&landing, &landing)?;
            }
            self.drop_branch(&landing)?;
        }
        self.observe(Observation::Landed { task, commit, results: Vec::new() });
        Ok(())
    }

    /// Published attempts go when their events are durable.
    pub(super) fn drop_published(&mut self, moves: &[RefMove]) {
        if moves.is_empty() {
            return;
        }
        failpoint::hit("attempt.before-drop");
        if let Err(error) = self.ctx.store.transact_in_bulk(moves) {
            // They are only in the way: the events are on the chains.
            (self.report)(RunReport::Note(format!(
                "published attempts could not be dropped: {error:#}"
            )));
        }
        failpoint::hit("attempt.dropped");
    }

    /// Carries out what people asked for, and answers.
    pub(super) fn apply_requests(&mut self) -> Result<()> {
        let mut applied = Vec::new();
        for waiting in requests::pending(&self.ctx.store, &self.ctx.run) {
            match waiting.wire.request() {
                Err(error) => {
                    requests::answer(
                        &waiting,
                        &RequestAnswer { done: false, message: error.to_string() },
                    )?;
                }
                Ok(request) => {
                    let decisions = self.observe(Observation::Requested(request));
                    // One by one: what a request means depends on those before it.
                    self.record()?;
                    let message = said(&waiting.wire, &decisions);
                    applied.push((waiting, RequestAnswer { done: !decisions.is_empty(), message }));
                }
            }
        }
        if applied.is_empty() {
            return Ok(());
        }
        // Whoever asked is told only what is durable. One barrier serves all.
        self.settle()?;
        failpoint::hit("request.applied");
        for (waiting, answer) in applied {
            self.follow_request(&waiting.wire);
            requests::answer(&waiting, &answer)?;
        }
        Ok(())
    }

    fn follow_request(&mut self, wire: &WireRequest) {
        match wire {
            WireRequest::Stop { now: true } | WireRequest::Cancel => {
                recover::stop_keepers(&self.ctx, None);
            }
            WireRequest::Skip { task, .. } => {
                recover::stop_keepers(&self.ctx, Some(task.as_str()));
            }
            WireRequest::Retry { .. }
            | WireRequest::Reconsider { .. }
            | WireRequest::Approve { .. }
            | WireRequest::RequestChanges { .. }
            | WireRequest::OpenAccount { .. }
            | WireRequest::Stop { now: false } => {}
        }
    }
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

fn said(wire: &WireRequest, decisions: &[Decision]) -> String {
    let (yes, no) = match wire {
        WireRequest::Retry { task } => (
            format!("{task} will be tried again"),
            format!("{task} is not failed or skipped, there is nothing to retry"),
        ),
        WireRequest::Skip { task, .. } => {
            (format!("{task} is skipped"), format!("{task} has ended already"))
        }
        WireRequest::Reconsider { task } => {
            (format!("{task} is taken up again"), format!("{task} has not failed"))
        }
        WireRequest::Approve { task, commit, .. } => (
            format!("{task} is approved"),
            format!("{task} does not wait for a review of {}: look at it again", short(commit)),
        ),
        WireRequest::RequestChanges { task, commit, .. } => (
            format!("{task} is sent back"),
            format!("{task} does not wait for a review of {}: look at it again", short(commit)),
        ),
        WireRequest::Stop { now } => (
            if *now { "stopping the agents" } else { "starting nothing new" }.to_owned(),
            "the run is not active".to_owned(),
        ),
        WireRequest::OpenAccount { name } => (
            format!("the account of `{name}` is open"),
            format!("no account of `{name}` is closed"),
        ),
        WireRequest::Cancel => {
            ("the run is cancelled".to_owned(), "the run is cancelled already".to_owned())
        }
    };
    if decisions.is_empty() { no } else { yes }
}
