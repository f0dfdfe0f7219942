//! Decisions on verifications: of the base, of candidates and of trees that would land.

use super::decider::{Decider, with_stderr};
use crate::domain::event::{Halt, RunEventKind, TaskEventKind};
use crate::domain::id::{Oid, TaskId};
use crate::domain::retry::RetryReason;
use crate::domain::state::{Phase, RunPhase, TaskState};
use crate::domain::verdict::{CheckReport, CheckResult, Finding, Verdict};

/// A failed verification.
pub(super) struct Rejection {
    pub tree: Oid,
    pub findings: Vec<Finding>,
    pub results: Vec<CheckResult>,
    /// True for the tree that would land; false for the candidate's own tree.
    pub landing: bool,
}

impl Decider<'_> {
    pub(super) fn base_verified(&mut self, checks: CheckReport) {
        if self.state.base_passed.is_some() || self.state.phase == RunPhase::Cancelled {
            return;
        }
        let (passed, problem) = match checks.verdict {
            Verdict::Passed => (true, None),
            Verdict::Failed(findings) => {
                let first = findings.first();
                let check = first.map_or("a check", |f| f.check.as_str());
                let words = first.and_then(Finding::in_words);
                let words = words.map_or_else(String::new, |words| format!(": {words}"));
                let problem =
                    format!("the landing check `{check}` already fails on the base{words}");
                (false, Some(problem))
            }
            Verdict::Errored(why) => {
                let reason = format!("the landing checks could not run on the base: {why}");
                self.halt(Halt::Base, reason);
                return;
            }
        };
        self.emit_run(RunEventKind::BaseVerified { passed, results: checks.results });
        if let (Some(problem), true) = (problem, self.policy.base_must_pass) {
            self.halt(Halt::Base, problem);
        }
    }

    /// Returns the task's state if a verdict on this tree of this attempt is due.
    pub(super) fn verifying(&self, task: &TaskId, attempt: u32, tree: &Oid) -> Option<TaskState> {
        let state = self.state.tasks.get(task)?;
        let same = state.candidate.as_ref().is_some_and(|c| c.tree == *tree);
        let verifying =
            state.phase == Phase::Verifying && !(state.evaluation.waiting && self.policy.evaluates);
        (verifying && state.attempt == attempt && same && self.due(state)).then(|| state.clone())
    }

    /// Handles the checks' verdict on the candidate's own tree.
    pub(super) fn candidate_verified(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        tree: Oid,
        checks: CheckReport,
        stderr: Option<&str>,
    ) {
        let CheckReport { verdict, results } = checks;
        match verdict {
            Verdict::Passed => {
                self.passed(task, state, tree, results, false);
                if self.policy.evaluates {
                    self.emit_task(task, TaskEventKind::EvaluationRequested);
                } else {
                    self.accepted(task);
                }
            }
            Verdict::Failed(mut findings) => {
                if let Some(termination) = &state.termination
                    && !termination.succeeded()
                {
                    let text = format!(
                        "The agent of this attempt did not end by itself with success: {termination}."
                    );
                    let text = with_stderr(text, stderr);
                    let agent = Finding { attempt: state.attempt, check: "agent".into(), text };
                    findings.insert(0, agent);
                }
                self.rejected(task, state, Rejection { tree, findings, results, landing: false });
            }
            Verdict::Errored(why) => self.fault(task, state, &why),
        }
    }

    /// Handles the checks' verdict on the tree that would land.
    pub(super) fn landing_verified(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        tree: Oid,
        checks: CheckReport,
    ) {
        let CheckReport { verdict, results } = checks;
        match verdict {
            Verdict::Passed => self.passed(task, state, tree, results, true),
            Verdict::Failed(findings) => {
                self.rejected(task, state, Rejection { tree, findings, results, landing: true });
            }
            Verdict::Errored(why) => self.fault(task, state, &why),
        }
    }

    fn passed(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        tree: Oid,
        results: Vec<CheckResult>,
        landing: bool,
    ) {
        let (attempt, findings) = (state.attempt, None);
        self.emit_task(task, TaskEventKind::Verified { attempt, tree, findings, results, landing });
    }

    /// Advances a candidate that the checks and, if there is one, the evaluator accepted.
    pub(super) fn accepted(&mut self, task: &TaskId) {
        if self.policy.report {
            self.emit_task(task, TaskEventKind::OutputAccepted);
        } else if self.policy.review {
            self.emit_task(task, TaskEventKind::ReviewRequested);
        }
    }

    /// Records a failed verification. Starts another attempt, or fails the task.
    pub(super) fn rejected(&mut self, task: &TaskId, state: &TaskState, rejection: Rejection) {
        let Rejection { tree, findings, results, landing } = rejection;
        let names = rejecting_checks(&findings);
        let words = findings.last().and_then(Finding::in_words);
        let words = words.map_or_else(String::new, |words| format!(": {words}"));
        let (attempt, findings) = (state.attempt, Some(findings));
        self.emit_task(task, TaskEventKind::Verified { attempt, tree, findings, results, landing });
        if state.rejections + 1 > self.policy.feedback {
            let reason = format!("{names} not passed in the last attempt{words}");
            self.fail_task(task, reason, names);
        } else {
            let because = format!("{names} not passed{words}");
            self.next_try(task, state, RetryReason::Feedback, self.now, Some(because));
        }
    }

    /// Records a conflict with the target. Starts another attempt, or fails the task.
    pub(super) fn conflicted(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        onto: Oid,
        paths: &[String],
        description: String,
    ) {
        let list = if description.is_empty() {
            paths.iter().map(|path| format!("- `{path}`\n")).collect()
        } else {
            description
        };
        let text = format!(
            "The work of this attempt conflicts with what has landed meanwhile, in these paths:\n{list}Start again from \
             the files as they are now."
        );
        let finding = Finding { attempt: state.attempt, check: "merge".into(), text };
        self.emit_task(task, TaskEventKind::Conflicted { onto, finding });
        // Conflicts are not the task's fault, so they have a bound of their own.
        if state.conflicts + 1 > self.policy.feedback.max(1) {
            let reason =
                format!("conflicts with the target in every attempt, last in {}", paths.join(", "));
            self.fail_task(task, reason, "conflicts with the target".into());
        } else {
            let because = format!("conflicts with the target in {}", paths.join(", "));
            self.next_try(task, state, RetryReason::Feedback, self.now, Some(because));
        }
    }
}

/// Returns the names of the checks that rejected a candidate, each once.
fn rejecting_checks(findings: &[Finding]) -> String {
    let mut names: Vec<String> = Vec::new();
    for finding in findings {
        let name = format!("`{}`", finding.check);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}
