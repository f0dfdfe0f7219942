//! Decisions on the requests of people.

use super::decider::{Decider, budget_reason};
use super::observation::Request;
use super::review::ReviewDecision;
use crate::domain::account::{Account, AgentName};
use crate::domain::event::{Halt, RunEventKind, TaskEventKind};
use crate::domain::id::TaskId;
use crate::domain::retry::RetryReason;
use crate::domain::state::{Phase, RunPhase};
use crate::domain::termination::Termination;

impl Decider<'_> {
    pub(super) fn requested(&mut self, request: Request) {
        let cancelled = self.state.phase == RunPhase::Cancelled;
        match request {
            Request::Retry(task) => {
                let phase = self.state.tasks.get(&task).map(|s| s.phase.clone());
                let ended = matches!(phase, Some(Phase::Failed | Phase::Skipped));
                if !cancelled && ended && !self.was_split(&task) {
                    self.retry(&task, RetryReason::Manual, self.now, None);
                }
            }
            Request::Reconsider(task) => {
                if !cancelled {
                    self.reconsider(&task);
                }
            }
            Request::Skip { task, message } => {
                if let Some(state) = self.state.tasks.get(&task) {
                    match state.phase {
                        Phase::Todo
                        | Phase::Running
                        | Phase::Verifying
                        | Phase::Reviewing
                        | Phase::Queued
                        | Phase::Failed => {
                            self.emit_task(&task, TaskEventKind::Skipped { message });
                        }
                        Phase::Done | Phase::Skipped => {}
                    }
                }
            }
            Request::Approve { task, commit, by } => {
                if let Some(state) = self.reviewable(&task, Some(&commit))
                    && state.phase == Phase::Reviewing
                    && !cancelled
                {
                    self.reviewed(&task, &state, ReviewDecision::Approve { by });
                }
            }
            Request::RequestChanges { task, commit, by, message } => {
                if let Some(state) = self.reviewable(&task, Some(&commit))
                    && !cancelled
                {
                    let decision = ReviewDecision::RequestChanges { by, message };
                    self.reviewed(&task, &state, decision);
                }
            }
            Request::Stop(reason) => {
                if self.state.phase == RunPhase::Active && !self.state.ended() {
                    self.emit_run(RunEventKind::Paused(reason));
                }
            }
            Request::OpenAccount(name) => {
                if !cancelled {
                    self.open_accounts(|closed| closed.covers(&name) || name.covers(closed));
                }
            }
            Request::Resume => {
                if !cancelled {
                    self.forget_closings_of_other_agents();
                    self.resume_run();
                }
            }
            Request::Cancel => {
                if !cancelled {
                    self.emit_run(RunEventKind::Cancelled);
                }
            }
        }
    }

    /// Opens the closed accounts whose name matches.
    fn open_accounts(&mut self, matches: impl Fn(&AgentName) -> bool) {
        let (agent, evaluator) = (&self.state.account, &self.state.evaluator);
        let name = |account: &Account, current: &AgentName| {
            account.closed_for.clone().unwrap_or_else(|| current.clone())
        };
        if !agent.open_at(self.now) && matches(&name(agent, &self.policy.agent)) {
            self.set_account(&agent.reopened(self.now));
        }
        if !evaluator.open_at(self.now) && matches(&name(evaluator, &self.policy.evaluator)) {
            self.emit_run(RunEventKind::EvaluatorAccount(evaluator.reopened(self.now)));
        }
    }

    /// Forgets closings that do not apply to the present agents: the job has since changed to
    /// another preset or model.
    fn forget_closings_of_other_agents(&mut self) {
        if !self.state.account.concerns(&self.policy.agent) {
            self.set_account(&Account::default());
        }
        if !self.state.evaluator.concerns(&self.policy.evaluator) {
            self.emit_run(RunEventKind::EvaluatorAccount(Account::default()));
        }
    }

    /// Sends the candidate of a failed task back to the checks.
    fn reconsider(&mut self, task: &TaskId) {
        let Some(state) = self.state.tasks.get(task) else { return };
        if let (Phase::Failed, Some(candidate)) = (&state.phase, &state.candidate) {
            let ended = TaskEventKind::Ended {
                attempt: state.attempt,
                termination: Termination::Exited(0),
                candidate: Some(candidate.clone()),
                report: None,
            };
            self.emit_task(task, ended);
        }
    }

    /// Resumes the run. After a halt on failures, one task runs first.
    ///
    /// The run stays halted while a budget is used up. Otherwise nothing could start, and a caller
    /// that waits for the run would wait forever.
    fn resume_run(&mut self) {
        let state = self.state;
        let failures = state.halt == Some(Halt::Failures);
        if let Some(over) = self.policy.over_budget(&state.all_spend()) {
            let reason = budget_reason(&over);
            if state.reason.as_ref() != Some(&reason) {
                self.halt(if failures { Halt::Failures } else { Halt::Budget }, reason);
            }
            return;
        }
        if state.phase == RunPhase::Active {
            return;
        }
        let count = |phase| u32::try_from(state.count(&phase)).unwrap_or(u32::MAX);
        let (done, failed) = (count(Phase::Done), count(Phase::Failed));
        self.emit_run(RunEventKind::Resumed { done, failed, canary: failures });
    }
}
