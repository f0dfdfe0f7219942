//! The results of threads become events.

use std::collections::BTreeSet;

use anyhow::Result;

use super::dispatcher::{Engine, FinishedWork, Message};
use super::in_flight::WorkId;
use super::queue::WorkerNotice;
use super::requests;
use super::work::attempt;
use super::work::verification::{self, VerificationAssignment, VerificationResult};
use super::{RunReport, recover};
use crate::agent::classify::last_lines;
use crate::ambient;
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::{Decision, Observation, Request, decide};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Candidate, CheckReport, Finding, Verdict};
use crate::failpoint;
use crate::keeper::files;
use crate::store::{Expected, RefMove, layout};
use crate::verify::scope;
use crate::wire::request::{RequestAnswer, WireRequest};

impl Engine<'_> {
    pub(super) fn handle(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Signal(signal) => {
                self.signal(signal);
                Ok(())
            }
            Message::Durable(number, result) => {
                result?;
                let durable = self.journal.durable_at(number);
                self.report_durable(durable);
                Ok(())
            }
            Message::Queue(WorkerNotice::Changed) => {
                self.note_other_worker();
                Ok(())
            }
            Message::Queue(WorkerNotice::Note(text)) => {
                (self.report)(RunReport::Note(text));
                Ok(())
            }
            Message::Done(work, result) => self.finished(work, *result),
        }
    }

    fn finished(&mut self, work: WorkId, result: Result<FinishedWork>) -> Result<()> {
        let worktree = self.in_flight.finish(&work);
        let still_running = match result {
            Ok(FinishedWork::Attempt(outcome)) => self.attempt_finished(&work, *outcome)?,
            Ok(FinishedWork::Verified(assignment, result)) => {
                self.verified(&work, &assignment, result)?
            }
            Ok(FinishedWork::Evaluated(result)) => {
                self.evaluated(&work, result.map(|result| *result))?
            }
            Ok(FinishedWork::OutOfScope(candidate, findings)) => {
                self.out_of_scope(&work, candidate, findings);
                false
            }
            Err(error) => {
                let notes = self.stash.restore(&self.ctx, &work);
                self.report_notes(notes);
                self.work_failed(&work, &format!("{error:#}"));
                false
            }
        };
        if still_running {
            self.in_flight.leave(work);
        } else if let Some(worktree) = worktree {
            self.slots.free(&worktree);
        }
        Ok(())
    }

    /// Handles the outcome of an attempt. Returns true if the attempt is still running.
    fn attempt_finished(
        &mut self,
        work: &WorkId,
        mut outcome: attempt::AttemptOutcome,
    ) -> Result<bool> {
        let WorkId::Attempt(task, attempt) = work else { return Ok(false) };
        if outcome.observation.is_some() {
            let attempt = (task, *attempt);
            let notes = self.stash.restore_after_attempt(&self.ctx, attempt, &mut outcome)?;
            self.report_notes(notes);
        }
        let Some(observation) = outcome.observation else { return Ok(true) };
        let observation = match self.ctx.store.changed_settings() {
            Some(why) if self.ctx.store.is_unsandboxed() => self.distrust(observation, &why),
            Some(_) | None => observation,
        };
        for note in outcome.notes {
            (self.report)(RunReport::Note(note));
        }
        if let Some(finding) = scope::secrets(&outcome.withheld, *attempt) {
            self.refusals.entry((task.clone(), *attempt)).or_default().push(finding);
        }
        let candidate = if let Observation::AttemptEnded { candidate, .. } = &observation {
            candidate.clone()
        } else {
            None
        };
        let decisions = self.observe(observation);
        if !decisions.is_empty()
            && let Some(payload) = outcome.payload
        {
            self.journal.add_payload(task, payload);
        }
        if let Some(published) = outcome.published {
            let name = self.ctx.attempt_ref(task, *attempt);
            self.journal.delete_when_durable(RefMove::delete(name, published));
        }
        if let (Some(candidate), false) = (candidate, decisions.is_empty()) {
            self.show_candidate(task, &candidate.commit)?;
        }
        failpoint::hit("attempt.seen");
        self.record()?;
        failpoint::hit("attempt.recorded");
        if let Some((worktree, content)) = outcome.rescued {
            worktree.mark_saved(&content)?;
        }
        // The files of the attempt are on the chain, or are worth nothing.
        self.folders.discard_unique(self.ctx.attempt_dir(task, *attempt));
        Ok(false)
    }

    /// Returns the observation of an attempt during which the repository was changed: it has no
    /// candidate, and is charged to nobody. The chain keeps its commit.
    fn distrust(&mut self, mut observation: Observation, why: &str) -> Observation {
        if let Observation::AttemptEnded { task, candidate, termination, changed, .. } =
            &mut observation
        {
            if let Some(candidate) = candidate.take() {
                self.journal.keep_commit(task, candidate.commit);
            }
            (*termination, *changed) = (Termination::Stopped, false);
            let task = self.ctx.label(task);
            (self.report)(RunReport::Note(format!("{task}: the attempt does not count: {why}")));
        }
        observation
    }

    /// Points the task's branch to the candidate, for people. The chain keeps the candidate, so a
    /// failure is ignored.
    fn show_candidate(&mut self, task: &TaskId, commit: &Oid) -> Result<()> {
        if self.ctx.job.output.is_some() {
            return Ok(());
        }
        let branch = layout::branch(&self.ctx.run, task);
        let old = self.ctx.store.read(&branch)?;
        if old.as_ref() != Some(commit) {
            let expected = Expected::from_read(old);
            self.journal.move_branch_for_people(RefMove::to(branch, commit.clone(), expected));
        }
        Ok(())
    }

    /// Handles the result of a verification. Returns true if the keeper is still running.
    fn verified(
        &mut self,
        work: &WorkId,
        assignment: &VerificationAssignment,
        result: Option<VerificationResult>,
    ) -> Result<bool> {
        let Some(result) = result else { return Ok(true) };
        if let WorkId::TargetTip(tip) = work {
            self.tip_verified(tip, &result.report);
            self.folders.discard(verification::folder(&self.ctx, assignment));
            return Ok(false);
        }
        if self.ctx.store.changed_settings().is_some() {
            // No verdict, and nobody's fault: the tree is verified again after the person has
            // looked.
            self.folders.discard(verification::folder(&self.ctx, assignment));
            return Ok(false);
        }
        self.journal.note_tree(&assignment.tree, result.lines);
        let observation = match &assignment.task {
            None => {
                self.report_findings("the base", &result.report);
                Observation::BaseVerified(result.report)
            }
            Some((task, attempt)) => Observation::Verified {
                stderr: self.stderr_of(task, *attempt)?,
                task: task.clone(),
                attempt: *attempt,
                tree: assignment.tree.clone(),
                checks: result.report,
            },
        };
        self.observe(observation);
        self.record()?;
        failpoint::hit("verify.recorded");
        self.folders.discard(verification::folder(&self.ctx, assignment));
        Ok(false)
    }

    /// Returns the last lines of the standard error of an attempt whose chain holds its files.
    fn stderr_of(&self, task: &TaskId, attempt: u32) -> Result<Option<String>> {
        let Some(tip) = self.journal.tip(task) else { return Ok(None) };
        let path = format!("attempts/{attempt}/{}", files::STDERR);
        let bytes = self.ctx.store.repo().read_blob_at(&tip.tree, &path)?;
        Ok(bytes.and_then(|bytes| last_lines(&bytes)))
    }

    /// Reports the whole output of failed checks: a person has to fix a base or a tip that fails.
    pub(super) fn report_findings(&mut self, subject: &str, report: &CheckReport) {
        if let Verdict::Failed(findings) = &report.verdict {
            for finding in findings {
                let text = format!("on {subject}, `{}` fails: {}", finding.check, finding.text);
                (self.report)(RunReport::Note(text));
            }
        }
    }

    fn out_of_scope(&mut self, work: &WorkId, candidate: Candidate, findings: Vec<Finding>) {
        let WorkId::Verification(task, attempt) = work else { return };
        let verdict = Verdict::Failed(findings);
        let checks = CheckReport { verdict, results: Vec::new() };
        let (task, attempt, tree) = (task.clone(), *attempt, candidate.tree);
        // Without a readable file, the words of the agent are lost, but the verdict counts.
        let stderr = self.stderr_of(&task, attempt).ok().flatten();
        self.observe(Observation::Verified { task, attempt, tree, checks, stderr });
    }

    /// Handles work that could not be carried out: a fault of the infrastructure.
    pub(super) fn work_failed(&mut self, work: &WorkId, why: &str) {
        let checks =
            || CheckReport { verdict: Verdict::Errored(why.to_owned()), results: Vec::new() };
        let candidate = |task: &TaskId| {
            self.journal.state().tasks.get(task).and_then(|state| state.candidate.clone())
        };
        match work {
            WorkId::TargetTip(tip) => {
                self.health.record(tip, &checks().verdict);
            }
            WorkId::Base => {
                self.observe(Observation::BaseVerified(checks()));
            }
            WorkId::Attempt(task, attempt) => {
                let termination = Termination::NotStarted(why.to_owned());
                let (task, attempt) = (task.clone(), *attempt);
                self.observe(Observation::AttemptEnded {
                    task,
                    attempt,
                    termination,
                    candidate: None,
                    changed: false,
                    report: None,
                    stderr: None,
                });
            }
            WorkId::Verification(task, attempt) => {
                if let Some(Candidate { tree, .. }) = candidate(task) {
                    let (task, attempt, checks) = (task.clone(), *attempt, checks());
                    let stderr = None;
                    self.observe(Observation::Verified { task, attempt, tree, checks, stderr });
                }
            }
            WorkId::Evaluation(task, attempt) => {
                if let Some(Candidate { tree, .. }) = candidate(task) {
                    self.observe(Observation::Evaluated {
                        task: task.clone(),
                        attempt: *attempt,
                        tree,
                        began: ambient::now(),
                        termination: Termination::NotStarted(why.to_owned()),
                        verdict: Verdict::Errored(why.to_owned()),
                        report: None,
                    });
                }
            }
        }
    }

    /// Deletes the refs of published attempts whose events are durable.
    pub(super) fn drop_published(&mut self, moves: &[RefMove]) {
        if moves.is_empty() {
            return;
        }
        failpoint::hit("attempt.before-drop");
        if let Err(error) = self.ctx.store.transact_in_bulk(moves) {
            // The refs do no harm: the events are on the chains.
            (self.report)(RunReport::Note(format!(
                "the refs of published attempts could not be deleted: {error:#}"
            )));
        }
        failpoint::hit("attempt.dropped");
    }

    /// Applies the requests of people, and answers them.
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
                    // A task must not land after the answer says that it will not.
                    self.withdraw(&self.tasks_changed_by(&request))?;
                    let decisions = self.observe(Observation::Requested(request));
                    // One by one: the meaning of a request depends on the requests before it.
                    self.record()?;
                    let tasks = &self.journal.state().tasks;
                    let label = |task: &str| {
                        TaskId::parse(task)
                            .map_or_else(|_| task.to_owned(), |task| tasks.label(&task))
                    };
                    let message = answer_text(&waiting.wire, &decisions, &label);
                    applied.push((waiting, RequestAnswer { done: !decisions.is_empty(), message }));
                }
            }
        }
        if applied.is_empty() {
            return Ok(());
        }
        // An answer means that the change is durable. One barrier serves all answers.
        self.settle()?;
        failpoint::hit("request.applied");
        for (waiting, answer) in applied {
            self.follow_request(&waiting.wire);
            requests::answer(&waiting, &answer)?;
        }
        Ok(())
    }

    /// Returns the tasks in the merge queue that a request would change.
    fn tasks_changed_by(&self, request: &Request) -> BTreeSet<TaskId> {
        let state = self.journal.state();
        if *request == Request::Cancel {
            return state.tasks.keys().filter(|task| self.queue.has(task)).cloned().collect();
        }
        let observation = Observation::Requested(request.clone());
        let decisions = decide(state, observation, ambient::now(), &self.policy);
        let task = |decision| match decision {
            Decision::Task(task, _) => Some(task),
            Decision::Run(_) => None,
        };
        decisions.into_iter().filter_map(task).filter(|task| self.queue.has(task)).collect()
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

/// Returns the answer to a request. `label` returns the name of a task for people.
fn answer_text(
    wire: &WireRequest,
    decisions: &[Decision],
    label: &dyn Fn(&str) -> String,
) -> String {
    let task = match wire {
        WireRequest::Retry { task }
        | WireRequest::Skip { task, .. }
        | WireRequest::Reconsider { task }
        | WireRequest::Approve { task, .. }
        | WireRequest::RequestChanges { task, .. } => label(task),
        WireRequest::Stop { .. } | WireRequest::OpenAccount { .. } | WireRequest::Cancel => {
            String::new()
        }
    };
    let (yes, no) = match wire {
        WireRequest::Retry { .. } => (
            format!("{task} will be tried again"),
            format!("{task} is not failed or skipped, there is nothing to retry"),
        ),
        WireRequest::Skip { .. } => {
            (format!("{task} is skipped"), format!("{task} has ended already"))
        }
        WireRequest::Reconsider { .. } => {
            (format!("{task} is taken up again"), format!("{task} has not failed"))
        }
        WireRequest::Approve { commit, .. } => (
            format!("{task} is approved"),
            format!("{task} does not wait for a review of {}: look at it again", short(commit)),
        ),
        WireRequest::RequestChanges { commit, .. } => (
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
