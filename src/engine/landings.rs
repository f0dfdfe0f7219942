//! The run's landings: candidates go to the merge queue, and the queue's answers become events.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;

use super::RunReport;
use super::dispatcher::{Engine, Message};
use super::queue::client::{LandingRequest, QueueAnswer, QueueOutcome, WorkerView};
use super::queue::{QueueService, provenance};
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::Observation;
use crate::domain::queue::TrainId;
use crate::domain::state::Phase;
use crate::domain::verdict::CheckResult;
use crate::engine::queue::host::{LandingCar, QueuedEntry, TrainLanding, task_entry};
use crate::failpoint;
use crate::repo;
use crate::store::codec;
use crate::store::{RefMove, layout};

impl Engine<'_> {
    /// Starts the merge queue worker, unless the run lands nothing.
    pub(super) fn start_queue(&mut self) -> Result<()> {
        if self.ctx.job.output.is_some() {
            return Ok(());
        }
        let (ctx, sender) = (Arc::clone(&self.ctx), self.sender.clone());
        let (queue, open) = (Arc::clone(&ctx.queue), ctx.open_run.clone());
        let wait = self.options.keeper_wait();
        let notify = move |notice| {
            sender.send(Message::Queue(notice)).ok();
        };
        self.queue.connect(QueueService::start(queue, ctx, open, wait, notify)?);
        Ok(())
    }

    /// Exchanges candidates and answers with the merge queue. Returns true if an answer arrived.
    /// `due` are the tasks that want to land.
    pub(super) fn exchange(&mut self, due: &[TaskId]) -> Result<bool> {
        if self.ctx.job.output.is_some() || (due.is_empty() && self.queue.is_empty()) {
            return Ok(false);
        }
        let answered = self.read_answers()?;
        let requests: Vec<LandingRequest> =
            due.iter().filter_map(|task| self.landing_request(task)).collect();
        let ctx = Arc::clone(&self.ctx);
        self.queue.reconcile(&ctx, &requests)?;
        Ok(answered)
    }

    fn landing_request(&self, task: &TaskId) -> Option<LandingRequest> {
        let state = self.journal.state().tasks.get(task).filter(|s| s.phase == Phase::Queued)?;
        let candidate = state.candidate.as_ref()?.commit.clone();
        Some(LandingRequest { task: task.clone(), attempt: state.attempt, candidate })
    }

    /// Turns the answers of the merge queue into events. Returns true if there was one.
    pub(super) fn read_answers(&mut self) -> Result<bool> {
        let ctx = Arc::clone(&self.ctx);
        let answers = self.queue.read(&ctx)?;
        let any = !answers.is_empty();
        for answer in answers {
            self.answered(answer)?;
        }
        Ok(any)
    }

    fn answered(&mut self, answer: QueueAnswer) -> Result<()> {
        let QueueAnswer { task, candidate, at, outcome } = answer;
        // A supervisor that starts reads old answers again. An answer from before the task's last
        // event is recorded, and a person may have sent the same candidate to the queue since.
        let Some(state) = self.journal.state().tasks.get(&task) else { return Ok(()) };
        let recorded = state.at > at;
        let waits = state.phase == Phase::Queued
            && state.candidate.as_ref().is_some_and(|c| c.commit == candidate);
        match outcome {
            QueueOutcome::Landed { .. } if recorded && !waits => {}
            QueueOutcome::Landed { commit, results } => {
                self.record_landing(&task, &candidate, commit, results)?;
            }
            QueueOutcome::Rejected { .. } | QueueOutcome::Conflict { .. } if recorded => {}
            QueueOutcome::Rejected { tree, checks } => {
                self.observe(Observation::LandingVerified { task, candidate, tree, checks });
                self.record()?;
            }
            QueueOutcome::Conflict { onto, paths, description } => {
                self.observe(Observation::LandingConflict {
                    task,
                    candidate,
                    onto,
                    paths,
                    description,
                });
                self.record()?;
            }
        }
        Ok(())
    }

    /// Records that the queue landed a task.
    fn record_landing(
        &mut self,
        task: &TaskId,
        candidate: &Oid,
        commit: Oid,
        results: Vec<CheckResult>,
    ) -> Result<()> {
        let done = self.journal.state().tasks.get(task).is_none_or(|s| s.phase == Phase::Done);
        if done {
            return Ok(());
        }
        self.restore_note(task, candidate, &commit, results.clone())?;
        self.drop_branch(task, candidate)?;
        self.observe(Observation::Landed { task: task.clone(), commit, results });
        // One by one: the meaning of an event depends on the events before it.
        self.record()?;
        failpoint::hit("land.recorded");
        Ok(())
    }

    /// Writes the provenance note on a landed commit, if the copy of the repository lacks it.
    fn restore_note(
        &mut self,
        task: &TaskId,
        candidate: &Oid,
        commit: &Oid,
        results: Vec<CheckResult>,
    ) -> Result<()> {
        let ctx = Arc::clone(&self.ctx);
        let (repo, new) = (ctx.store.repo(), commit.clone());
        let parents = repo::commit_info(repo, commit)?.parents;
        let (Some(state), Some(old)) = (self.journal.state().tasks.get(task), parents.first())
        else {
            return Ok(());
        };
        if ctx.store.note(layout::NOTES, commit)?.is_some() {
            return Ok(());
        }
        let (id, candidate) = (task_entry(&ctx.run, task)?, candidate.clone());
        let entry = QueuedEntry { id, candidate, attempt: Some(state.attempt) };
        let tree = repo.tree_of(commit)?;
        let car = LandingCar { entry, commit: new.clone(), tree: tree.clone(), results };
        let (old, cars) = (old.clone(), vec![car.clone()]);
        let landing = TrainLanding { train: TrainId(0), old, new, tree, cars };
        let line = provenance::task_note(&ctx, &car, &landing)?;
        self.journal.note_commit(commit, line);
        Ok(())
    }

    /// Drops the branch of a landed task, unless the job keeps branches.
    fn drop_branch(&mut self, task: &TaskId, candidate: &Oid) -> Result<()> {
        let ctx = Arc::clone(&self.ctx);
        let branch = layout::branch(&ctx.run, task);
        // The chain keeps the candidate. A branch that has other commits stays: it can be behind
        // the candidate after a kill, and a person may have committed on it.
        if !ctx.job.queue.keep_branches
            && let Some(tip) = ctx.store.read(&branch)?
            && ctx.store.repo().is_ancestor(&tip, candidate)?
        {
            self.journal.move_branch_for_people(RefMove::delete(branch, tip));
        }
        Ok(())
    }

    /// Records the landing of a task that the target contains and no log records: a copy of the
    /// repository may have been made between the move of the target and the record.
    pub(super) fn found_landed(&mut self, task: TaskId, commit: Oid) -> Result<()> {
        let ctx = Arc::clone(&self.ctx);
        let state = self.journal.state().tasks.get(&task).filter(|s| s.phase != Phase::Done);
        let Some(state) = state else { return Ok(()) };
        let (repo, attempt) = (ctx.store.repo(), state.attempt);
        let info = repo::commit_info(repo, &commit)?;
        let same =
            codec::trailers(&info.message).get("Harness-Attempt") == Some(&&*attempt.to_string());
        if let (true, Some(candidate)) = (same, state.candidate.clone()) {
            self.restore_note(&task, &candidate.commit, &commit, Vec::new())?;
            self.drop_branch(&task, &candidate.commit)?;
        }
        self.observe(Observation::Landed { task, commit, results: Vec::new() });
        Ok(())
    }

    /// Takes tasks out of the merge queue before a request changes them. A task that has landed
    /// meanwhile is recorded as landed.
    pub(super) fn withdraw(&mut self, tasks: &BTreeSet<TaskId>) -> Result<()> {
        let ctx = Arc::clone(&self.ctx);
        if self.queue.withdraw(&ctx, tasks)? {
            self.read_answers()?;
        }
        Ok(())
    }

    /// Returns the reason why nothing lands, if a person must act.
    pub(super) fn landing_problem(&self) -> Option<String> {
        match self.queue.view(&self.ctx) {
            WorkerView::Busy => None,
            WorkerView::Waiting(state) => state.problem,
            WorkerView::Other { problem } => problem,
        }
    }

    /// Tells people once that another process works on the queue.
    pub(super) fn note_other_worker(&mut self) {
        if let Some(holder) = self.queue.new_holder() {
            let target = layout::short(&self.ctx.manifest.target);
            (self.report)(RunReport::Note(format!(
                "another process works on the merge queue of `{target}` ({holder}): it lands this run's tasks"
            )));
        }
    }
}
