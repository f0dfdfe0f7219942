//! Decisions on evaluations.

use super::decider::Decider;
use crate::domain::account::{AgentName, MAX_STRIKES};
use crate::domain::event::{Halt, TaskEvent, TaskEventKind};
use crate::domain::id::{Oid, TaskId, Timestamp};
use crate::domain::retry::RetryReason;
use crate::domain::session::{Class, SessionReport};
use crate::domain::state::{Phase, RunPhase, TaskState};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Finding, Objection, Verdict};

/// The outcome of an evaluator's session.
pub(super) struct EvaluatorReport {
    pub tree: Oid,
    pub began: Timestamp,
    pub termination: Termination,
    pub verdict: Verdict<Objection>,
    pub report: Option<Box<SessionReport>>,
}

/// The check name in the findings of evaluators.
const EVALUATE: &str = "evaluate";

impl Decider<'_> {
    /// Returns the task's state if an evaluator works on this tree of this attempt. The task may
    /// have been skipped meanwhile: the evaluator's usage must still be recorded.
    pub(super) fn evaluating(&self, task: &TaskId, attempt: u32, tree: &Oid) -> Option<TaskState> {
        let state = self.state.tasks.get(task)?;
        let same = state.candidate.as_ref().is_some_and(|c| c.tree == *tree);
        let open = state.phase == Phase::Verifying || state.phase.ended();
        (open && state.evaluation.waiting && state.attempt == attempt && same)
            .then(|| state.clone())
    }

    pub(super) fn evaluated(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        evaluation: EvaluatorReport,
    ) {
        let EvaluatorReport { tree, began, termination, verdict, report } = evaluation;
        let attempt = state.attempt;
        let event = TaskEventKind::Evaluated {
            attempt,
            tree,
            verdict: verdict.clone(),
            report: report.clone(),
        };
        self.emit_task(task, event.clone());
        let mut after = state.clone();
        after.apply(&TaskEvent { at: self.now, kind: event });
        self.enforce_budget(task, &after);
        if after.phase.ended() {
            return;
        }
        match &verdict {
            Verdict::Errored(_) => {}
            Verdict::Passed | Verdict::Failed(_) => {
                let account = self.state.evaluators_account(self.policy);
                self.set_evaluators_account(&account.served(began, self.policy.jobs));
            }
        }
        match verdict {
            Verdict::Passed => self.accepted(task),
            Verdict::Failed(Objection { findings, digest }) => {
                let line = findings.iter().find_map(Finding::summary_line).unwrap_or_default();
                let rounds = after.evaluation.rounds;
                let end = if state.evaluation.objection.as_ref() == Some(&digest) {
                    "the evaluator reported the same findings twice in a row".to_owned()
                } else if rounds >= self.policy.rounds {
                    format!(
                        "the evaluator rejected the work in {rounds} {}",
                        if rounds == 1 { "round" } else { "rounds" }
                    )
                } else {
                    let because = Some(format!("the evaluator rejected the work: {line}"));
                    self.next_try(task, &after, RetryReason::Feedback, self.now, because);
                    return;
                };
                self.fail_task(task, format!("{end}: {line}"), format!("`{EVALUATE}`"));
            }
            Verdict::Errored(why) => {
                self.evaluation_errored(task, &after, &termination, report.as_deref(), began, &why);
            }
        }
    }

    /// Handles an evaluation without a verdict. The candidate stays, and the evaluation is
    /// repeated.
    fn evaluation_errored(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        termination: &Termination,
        report: Option<&SessionReport>,
        began: Timestamp,
        why: &str,
    ) {
        if *termination == Termination::Stopped {
            self.retry(task, RetryReason::Interrupted, self.now, None);
            return;
        }
        let Some(report) = report else {
            self.fault(task, state, &format!("the evaluator gave no answer: {why}"));
            return;
        };
        let class = report.class;
        match class {
            Class::RateLimited | Class::Overloaded => {
                self.evaluator_turned_away(task, report, began, why);
            }
            // An earlier answer proves the account and the command line: the fault is this
            // session's alone.
            Class::Auth | Class::BadInput if self.evaluator_has_answered(report) => {
                self.fault(task, state, &format!("the evaluator gave no answer: {why}"));
            }
            Class::Auth | Class::BadInput => {
                self.retry(task, RetryReason::Interrupted, self.now, Some(why.to_owned()));
                if self.state.phase == RunPhase::Active {
                    let what = if class == Class::Auth {
                        "the evaluator's account is not accepted"
                    } else {
                        "the evaluator refused its command line or its working directory"
                    };
                    let reason = format!(
                        "{what} ({task}, attempt {}): {why}; fix it, then run `git harness start` again",
                        state.attempt
                    );
                    self.halt(Halt::Agent, reason);
                }
            }
            Class::ContextExceeded => {
                let reason =
                    format!("the work exceeds the context window of the evaluator's model: {why}");
                self.fail_task(task, reason, format!("evaluator, {class}"));
            }
            Class::Ok
            | Class::Crashed
            | Class::TimedOut
            | Class::Limit
            | Class::Refused
            | Class::Blocked
            | Class::SessionLost
            | Class::SessionInUse => {
                self.fault(task, state, &format!("the evaluator gave no answer: {why}"));
            }
        }
    }

    /// Returns true if the service has answered an evaluator of this run.
    fn evaluator_has_answered(&self, report: &SessionReport) -> bool {
        report.answered() || self.state.tasks.any_evaluator_answered()
    }

    /// Handles a refusal for lack of quota or for overload: closes the evaluators' account for a
    /// while.
    fn evaluator_turned_away(
        &mut self,
        task: &TaskId,
        report: &SessionReport,
        began: Timestamp,
        why: &str,
    ) {
        let class = report.class;
        let because = format!("evaluator, {class}: {why}");
        self.retry(task, RetryReason::Account, self.now, Some(because.clone()));
        let account = self.state.evaluators_account(self.policy);
        let mut account = if class == Class::RateLimited {
            account.limited(began, self.now, report.resets_at)
        } else {
            account.overloaded(began, self.now, self.policy.jobs)
        };
        account.because = Some(because);
        let model = report.limited_model.clone();
        account.closed_for = Some(AgentName { model, ..self.policy.evaluator.clone() });
        let strikes = account.strikes;
        self.set_evaluators_account(&account);
        if strikes > MAX_STRIKES && self.state.phase == RunPhase::Active {
            let reason = format!(
                "the evaluator's account was {class} {strikes} times in a row, last: {why}"
            );
            self.halt(Halt::Account, reason);
        }
    }
}
