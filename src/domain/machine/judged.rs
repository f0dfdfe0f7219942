//! What was said of a candidate, by checks, by the merge and by an evaluator, and what follows.

use super::{Decider, Phase, TaskEventKind};
use crate::domain::account::STRIKES;
use crate::domain::event::{Halt, TaskEvent};
use crate::domain::id::{Oid, TaskId, Timestamp};
use crate::domain::retry::RetryReason;
use crate::domain::review::Approval;
use crate::domain::session::{Class, SessionReport};
use crate::domain::state::{RunPhase, TaskState};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Candidate, CheckReport, CheckResult, Finding, Objection, Verdict};

/// What an evaluator left.
pub(super) struct EvaluatorReport {
    pub tree: Oid,
    pub began: Timestamp,
    pub termination: Termination,
    pub verdict: Verdict<Objection>,
    pub report: Option<Box<SessionReport>>,
}

/// What a person said of a candidate.
pub(super) enum ReviewDecision {
    /// The candidate may land.
    Approve { by: String },
    /// A new attempt has to address the message.
    RequestChanges { by: String, message: String },
    /// The reviewer committed on the task's branch. This is the candidate now.
    Revise(Candidate),
}

/// What findings of an evaluator are filed under.
const EVALUATE: &str = "evaluate";

impl Decider<'_> {
    pub(super) fn judged(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        tree: Oid,
        checks: CheckReport,
        landing: bool,
    ) {
        let CheckReport { verdict, results } = checks;
        match verdict {
            Verdict::Passed => {
                let attempt = state.attempt;
                let findings = None;
                let judged = TaskEventKind::Verified { attempt, tree, findings, results, landing };
                self.task(task, judged);
                if self.policy.evaluates && !landing {
                    self.task(task, TaskEventKind::EvaluationRequested);
                } else if !landing {
                    self.accepted(task);
                }
            }
            Verdict::Failed(mut findings) => {
                if let Some(termination) = &state.termination
                    && !landing
                    && !termination.succeeded()
                {
                    let text = format!(
                        "The agent of this attempt did not end by itself with success: {termination}."
                    );
                    let agent = Finding { attempt: state.attempt, check: "agent".into(), text };
                    findings.insert(0, agent);
                }
                self.rejected(task, state, tree, findings, results, landing);
            }
            Verdict::Errored(why) => self.fault(task, state, &why),
        }
    }

    /// Nothing has anything against the candidate any more.
    fn accepted(&mut self, task: &TaskId) {
        if self.policy.report {
            self.task(task, TaskEventKind::OutputAccepted);
        } else if self.policy.review {
            self.task(task, TaskEventKind::ReviewRequested);
        }
    }

    /// A person has said something of a candidate, or has made another of it.
    pub(super) fn reviewed(&mut self, task: &TaskId, state: &TaskState, decision: ReviewDecision) {
        match decision {
            ReviewDecision::Approve { by } => {
                let Some(candidate) = &state.candidate else { return };
                let (commit, tree) = (candidate.commit.clone(), candidate.tree.clone());
                self.task(
                    task,
                    TaskEventKind::Approved(Approval { by, at: self.now, commit, tree }),
                );
            }
            ReviewDecision::RequestChanges { by, message } => {
                let finding = Finding {
                    attempt: state.attempt,
                    check: "review".into(),
                    text: format!("{by} has read the work and wants it done otherwise:\n{message}"),
                };
                self.task(task, TaskEventKind::ChangesRequested { by, finding });
                self.next_try(task, state, RetryReason::Feedback, self.now, None);
            }
            ReviewDecision::Revise(candidate) => {
                self.task(task, TaskEventKind::Revised { candidate });
            }
        }
    }

    pub(super) fn rejected(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        tree: Oid,
        findings: Vec<Finding>,
        results: Vec<CheckResult>,
        landing: bool,
    ) {
        let names: Vec<_> = findings.iter().map(|f| format!("`{}`", f.check)).collect();
        let said = findings.last().and_then(Finding::telling_line).map(|line| format!(": {line}"));
        let attempt = state.attempt;
        let findings = Some(findings);
        self.task(task, TaskEventKind::Verified { attempt, tree, findings, results, landing });
        if state.rejections + 1 > self.policy.feedback {
            let said = said.unwrap_or_default();
            let reason = format!("{} not passed in the last attempt{said}", names.join(", "));
            self.failed(task, reason, names.join(", "));
        } else {
            self.next_try(task, state, RetryReason::Feedback, self.now, None);
        }
    }

    pub(super) fn conflicted(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        onto: Oid,
        paths: &[String],
        told: String,
    ) {
        let list = match told.is_empty() {
            true => paths.iter().map(|p| format!("- `{p}`\n")).collect(),
            false => told,
        };
        let text = format!(
            "The work of this attempt conflicts with what has landed meanwhile, in these paths:\n{list}Start again from \
             the files as they are now."
        );
        let finding = Finding { attempt: state.attempt, check: "merge".into(), text };
        self.task(task, TaskEventKind::Conflicted { onto, finding });
        // A conflict is nobody's fault, so it has a count of its own; it is bounded all the same.
        if state.conflicts + 1 > self.policy.feedback.max(1) {
            let reason =
                format!("conflicts with the target every time, last in {}", paths.join(", "));
            self.failed(task, reason, "conflicts with the target".into());
        } else {
            self.next_try(task, state, RetryReason::Feedback, self.now, None);
        }
    }

    /// The task, if its candidate is with the evaluator, or was when somebody took the task out: what that used is news.
    pub(super) fn presented(&self, task: &TaskId, attempt: u32, tree: &Oid) -> Option<TaskState> {
        let state = self.state.tasks.get(task)?;
        let same = state.candidate.as_ref().is_some_and(|c| c.tree == *tree);
        let open = state.phase == Phase::Verifying || state.phase.ended();
        (open && state.evaluation.waiting && state.attempt == attempt && same)
            .then(|| state.clone())
    }

    pub(super) fn evaluated(&mut self, task: &TaskId, state: &TaskState, told: EvaluatorReport) {
        let EvaluatorReport { tree, began, termination, verdict, report } = told;
        let attempt = state.attempt;
        let session = report.as_deref().cloned();
        let said = verdict.clone();
        let event = TaskEventKind::Evaluated { attempt, tree, verdict, report };
        self.task(task, event.clone());
        let mut after = state.clone();
        after.apply(&TaskEvent { at: self.now, kind: event });
        self.watch_budget(task, &after);
        if after.phase.ended() {
            return;
        }
        if !matches!(said, Verdict::Errored(_)) {
            let account = self.state.evaluators_account(self.policy);
            self.evaluators_account(&account.served(began, self.policy.jobs));
        }
        match said {
            Verdict::Passed => self.accepted(task),
            Verdict::Failed(Objection { findings, digest }) => {
                let line = findings.iter().find_map(Finding::telling_line).unwrap_or_default();
                let rounds = after.evaluation.rounds;
                let end = if state.evaluation.objection.as_ref() == Some(&digest) {
                    "the evaluator found the same twice in a row".to_owned()
                } else if rounds >= self.policy.rounds {
                    format!("the evaluator was not content in any of {rounds} rounds")
                } else {
                    self.next_try(task, &after, RetryReason::Feedback, self.now, None);
                    return;
                };
                self.failed(task, format!("{end}: {line}"), format!("`{EVALUATE}`"));
            }
            Verdict::Errored(why) => {
                self.unanswered(task, &after, &termination, session, began, &why);
            }
        }
    }

    /// There is no opinion. The candidate stays as it is, and an evaluator is asked once more.
    fn unanswered(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        termination: &Termination,
        session: Option<SessionReport>,
        began: Timestamp,
        why: &str,
    ) {
        if *termination == Termination::Stopped {
            self.retry(task, RetryReason::Interrupted, self.now, None);
            return;
        }
        let Some(report) = session else {
            self.fault(task, state, &format!("the evaluator gave no answer: {why}"));
            return;
        };
        let class = report.class;
        match class {
            Class::RateLimited | Class::Overloaded => {
                let because = format!("evaluator, {class}: {why}");
                self.retry(task, RetryReason::Account, self.now, Some(because.clone()));
                let account = self.state.evaluators_account(self.policy);
                let mut account = if class == Class::RateLimited {
                    account.limited(began, self.now, report.resets_at)
                } else {
                    account.overloaded(began, self.now, self.policy.jobs)
                };
                account.because = Some(because);
                let strikes = account.strikes;
                self.evaluators_account(&account);
                if strikes > STRIKES && self.state.phase == RunPhase::Active {
                    let reason = format!(
                        "the evaluator's account was {class} {strikes} times in a row, last: {why}"
                    );
                    self.halt(Halt::Account, reason);
                }
            }
            Class::Auth | Class::BadInput => {
                self.retry(task, RetryReason::Interrupted, self.now, Some(why.to_owned()));
                if self.state.phase == RunPhase::Active {
                    let what = if class == Class::Auth {
                        "the evaluator's account is not accepted"
                    } else {
                        "the evaluator does not accept how or where it is called"
                    };
                    let reason = format!(
                        "{what} ({task}, attempt {}): {why}. Put it right, then `git harness start` goes on",
                        state.attempt
                    );
                    self.halt(Halt::Agent, reason);
                }
            }
            Class::ContextExceeded => {
                let reason = format!(
                    "what it did does not fit the context window of the evaluator's model: {why}"
                );
                self.failed(task, reason, format!("evaluator, {class}"));
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
}
