//! Starting evaluations, and their results.

use anyhow::Result;

use super::dispatcher::{Engine, FinishedWork};
use super::in_flight::WorkId;
use super::work::evaluation::{self, EvaluationAssignment, EvaluationResult};
use super::work::slots::EVALUATIONS;
use crate::domain::id::TaskId;
use crate::domain::machine::evaluator_slots;
use crate::failpoint;
use crate::store::chain::findings;

impl Engine<'_> {
    /// Starts an evaluation if the limits permit it. Returns true if the evaluation was started.
    pub(super) fn evaluate(&mut self, task: &TaskId, attempt: u32, work: WorkId) -> Result<bool> {
        if self.interrupts.signal().is_some() {
            return Ok(false);
        }
        let running = self.in_flight.count(|work| matches!(work, WorkId::Evaluation(..)));
        if running >= evaluator_slots(self.journal.state(), &self.policy) {
            return Ok(false);
        }
        let state = self.journal.state().tasks.get(task);
        let (Some(candidate), Some(tip)) =
            (state.and_then(|s| s.candidate.clone()), self.journal.tip(task))
        else {
            return Ok(false);
        };
        let assignment = EvaluationAssignment {
            task: task.clone(),
            attempt,
            candidate,
            findings: findings(&self.ctx.store, &tip.tree)?,
            budget: self.policy.money_left(&self.journal.state().all_spend(), None),
        };
        let worktree = match self.folders.take_adopted(&evaluation::folder_name(task, attempt)) {
            Some(worktree) => worktree,
            None => self.slots.take(EVALUATIONS),
        };
        let wait = self.options.keeper_wait();
        let notes = self.stash.begin(&self.ctx, self.in_flight.has_agents());
        self.report_notes(notes);
        Ok(self.spawn(work, Some(worktree.clone()), move |ctx| {
            Ok(FinishedWork::Evaluated(
                evaluation::evaluate(ctx, &assignment, &worktree, wait)?.map(Box::new),
            ))
        }))
    }

    /// Handles the result of an evaluation. Returns true if the evaluator is still running.
    pub(super) fn evaluated(
        &mut self,
        work: &WorkId,
        result: Option<EvaluationResult>,
    ) -> Result<bool> {
        let WorkId::Evaluation(task, attempt) = work else { return Ok(false) };
        let Some(result) = result else { return Ok(true) };
        let notes = self.stash.restore(&self.ctx, work);
        self.report_notes(notes);
        let decisions = self.observe(result.observation);
        if let (Some(payload), false) = (result.payload, decisions.is_empty()) {
            self.journal.add_payload(task, payload);
        }
        self.record()?;
        failpoint::hit("evaluation.recorded");
        // After an errored evaluation, the next evaluator uses the same folder, which must be
        // empty.
        evaluation::remove_folder(&self.ctx, task, *attempt)?;
        Ok(false)
    }
}
