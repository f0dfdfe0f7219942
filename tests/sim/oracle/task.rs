//! The oracle for a task: how an observation changes the task.

use std::collections::BTreeSet;

use git_harness::domain::id::{Oid, TaskId, Timestamp};
use git_harness::domain::retry::Policy;
use git_harness::domain::session::{Class, SessionReport};
use git_harness::domain::state::{Phase, TaskState};
use git_harness::domain::termination::Termination;
use git_harness::domain::verdict::{Candidate, CheckReport, Objection, Verdict};

use super::OracleContext;
use super::budget::BudgetOracle;

/// The stage of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum OracleStage {
    #[default]
    Waiting,
    Running,
    /// The candidate is with the task checks.
    Verifying(Candidate),
    /// The candidate is with the evaluator.
    Evaluating(Candidate),
    /// The candidate is with a person.
    Reviewing(Candidate),
    /// The candidate waits to land.
    Queued(Candidate),
    Landed,
    Failed,
    Skipped,
}

/// An agent session and the worktree, machine and base that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OracleSession {
    pub id: String,
    pub worktree: String,
    pub owner: String,
    pub base: Oid,
}

/// The state of a task.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskOracle {
    pub stage: OracleStage,
    /// The number of the last attempt.
    pub attempt: u32,
    /// The start of the last attempt.
    pub started: Timestamp,
    /// The session of the running attempt. A skipped task keeps it, because the attempt runs on
    /// and its end is still recorded.
    pub running: Option<OracleSession>,
    /// True if the service has answered an agent of this task.
    pub answered: bool,
    /// True if the service has answered an evaluator of this task.
    pub evaluator_answered: bool,
    /// True if the id of the running session is known.
    pub session_known: bool,
    /// The session that the next attempt resumes.
    pub session: Option<OracleSession>,
    pub rejections: u32,
    pub conflicts: u32,
    pub faults: u32,
    pub resumes: u32,
    pub redispatches: u32,
    pub budget: BudgetOracle,
    /// The candidate whose evaluation has no verdict yet.
    pub under_evaluation: Option<Candidate>,
    /// The number of objections since the last reset, and the digest of the last objection.
    pub objections: (u32, Option<String>),
    /// The commit that a person approved, and true if a person made the candidate.
    pub review: (Option<Oid>, bool),
    /// The use of the evaluator's sessions.
    pub evaluator_budget: BudgetOracle,
    /// The cause of the failure. The oracle uses its own texts: only their equality counts.
    pub cause: String,
    /// True if the last agent exited without an error.
    pub exited_cleanly: bool,
    /// The number of times that a person had failed work verified again since the last reset.
    pub reconsidered: u32,
    /// The time before which nothing starts and no verdict is valid.
    pub not_before: Timestamp,
    /// The candidate of the last attempt. A person may have it verified again.
    pub candidate: Option<Candidate>,
    /// All candidates that have passed.
    pub passed_commits: BTreeSet<Oid>,
}

/// The consequence that the end of an attempt or of an evaluation has for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunConsequence {
    None,
    /// The session's report tells the state of the account.
    ServiceReported,
    /// No agent can work until a person has changed something.
    AgentUnusable,
    /// The task must be split.
    Split,
}

impl TaskOracle {
    /// Returns the phase that the machine must give the task.
    pub(crate) fn phase(&self) -> Phase {
        match self.stage {
            OracleStage::Waiting => Phase::Todo,
            OracleStage::Running => Phase::Running,
            OracleStage::Verifying(_) | OracleStage::Evaluating(_) => Phase::Verifying,
            OracleStage::Reviewing(_) => Phase::Reviewing,
            OracleStage::Queued(_) => Phase::Queued,
            OracleStage::Landed => Phase::Done,
            OracleStage::Failed => Phase::Failed,
            OracleStage::Skipped => Phase::Skipped,
        }
    }

    /// Fails the task.
    pub(crate) fn fail(&mut self, cause: &str) {
        self.stage = OracleStage::Failed;
        cause.clone_into(&mut self.cause);
    }

    /// Schedules another attempt. Returns false if the budget is exhausted.
    fn schedule_attempt(&mut self, context: OracleContext<'_>, at: Timestamp) -> bool {
        if self.budget.exhausted(context.policy) {
            self.fail("budget");
            return false;
        }
        self.stage = OracleStage::Waiting;
        self.not_before = at;
        true
    }

    /// Charges an infrastructure fault, either to the attempt or to its verification.
    fn charge_fault(&mut self, context: OracleContext<'_>, in_verification: bool) {
        if self.faults == context.policy.infra {
            self.fail("infrastructure");
            return;
        }
        let at = context.after_pause(self.faults + 1);
        if in_verification {
            self.not_before = at;
        } else if !self.schedule_attempt(context, at) {
            return;
        }
        self.session = None;
        self.faults += 1;
    }

    /// Records a failed verdict: retries with feedback, or fails the task.
    fn reject(&mut self, context: OracleContext<'_>, cause: &str) {
        self.rejections += 1;
        self.faults = 0;
        if self.rejections > context.policy.feedback {
            self.fail(cause);
        } else {
            self.start_over(context);
        }
    }

    /// Schedules an attempt with a new session.
    fn start_over(&mut self, context: OracleContext<'_>) {
        if self.schedule_attempt(context, context.now) {
            self.session = None;
            self.resumes = 0;
        }
    }

    /// Records that the candidate does not merge.
    pub(crate) fn conflict(&mut self, context: OracleContext<'_>) {
        self.conflicts += 1;
        if self.conflicts > context.policy.feedback.max(1) {
            self.fail("conflict");
        } else {
            self.start_over(context);
        }
    }

    /// Resets all counters: a person has retried the task, or it is redispatched.
    pub(crate) fn reset(&mut self, context: OracleContext<'_>) {
        (self.rejections, self.conflicts, self.faults, self.reconsidered, self.resumes) =
            (0, 0, 0, 0, 0);
        (self.stage, self.not_before, self.candidate) = (OracleStage::Waiting, context.now, None);
        (self.session, self.running) = (None, None);
        (self.under_evaluation, self.objections) = (None, (0, None));
    }

    /// Records that a person requested changes.
    pub(crate) fn changes_requested(&mut self, context: OracleContext<'_>) {
        self.review = (None, false);
        self.start_over(context);
    }

    /// Records that a person changed the candidate.
    pub(crate) fn revise(&mut self, candidate: &Candidate) {
        self.stage = OracleStage::Verifying(candidate.clone());
        (self.candidate, self.under_evaluation) = (Some(candidate.clone()), None);
        self.review = (None, true);
    }

    /// Records what an ended attempt left, also if its task was skipped meanwhile.
    pub(crate) fn close_attempt(
        &mut self,
        termination: &Termination,
        candidate: Option<&Candidate>,
        report: Option<&SessionReport>,
    ) {
        self.candidate = candidate.cloned();
        (self.under_evaluation, self.review) = (None, (None, false));
        self.exited_cleanly = matches!(termination, Termination::Exited(0) | Termination::Lingered);
        self.answered |= report.is_some_and(SessionReport::answered);
        let Some(session) = self.running.take() else { return };
        let id = report.and_then(|r| r.session.clone());
        let id = id.or_else(|| self.session_known.then(|| session.id.clone()));
        if report.is_some() || !matches!(termination, Termination::NotStarted(_)) {
            self.budget.record_session(report, id.as_deref());
        }
        if let (Some(id), true) = (id, report.is_some()) {
            self.session = Some(OracleSession { id, ..session });
        }
    }

    /// Returns true if an agent's work on this task has reached the checks.
    pub(crate) fn shows_work(&self) -> bool {
        let waiting = matches!(
            self.stage,
            OracleStage::Waiting
                | OracleStage::Running
                | OracleStage::Failed
                | OracleStage::Skipped
        );
        !waiting || self.rejections > 0
    }

    /// Records the end of an attempt whose task is still wanted.
    ///
    /// `no_work_yet` means that no agent's work has reached the checks in this run. `answered`
    /// means that the service has answered an agent of this run.
    pub(crate) fn attempt_ended(
        &mut self,
        termination: &Termination,
        changed: bool,
        report: Option<&SessionReport>,
        (no_work_yet, answered): (bool, bool),
        context: OracleContext<'_>,
    ) -> RunConsequence {
        let resumable = context.policy.resumable && self.session.is_some();
        let may_resume = resumable && self.resumes < context.policy.resume;
        match (termination, report.map(|r| r.class)) {
            (Termination::Stopped, _) => drop(self.schedule_attempt(context, context.now)),
            (Termination::NotStarted(_), Some(Class::ContextExceeded)) => {
                return RunConsequence::Split;
            }
            (Termination::NotStarted(_), Some(Class::BadInput)) if no_work_yet => {
                self.schedule_attempt(context, context.now);
                return RunConsequence::AgentUnusable;
            }
            (Termination::NotStarted(_), _) => self.charge_fault(context, false),
            (Termination::Lost, _) | (_, Some(Class::Crashed | Class::TimedOut)) if may_resume => {
                self.resume_later(context);
            }
            (Termination::Lost, _) => self.charge_fault(context, false),
            (_, Some(Class::RateLimited | Class::Overloaded)) => {
                self.schedule_attempt(context, context.now);
                return RunConsequence::ServiceReported;
            }
            (_, Some(Class::Auth | Class::BadInput)) if answered => {
                if self.candidate.is_some() {
                    self.reject(context, "unchanged");
                } else {
                    self.charge_fault(context, false);
                }
            }
            (_, Some(Class::Auth | Class::BadInput)) => {
                self.schedule_attempt(context, context.now);
                return RunConsequence::AgentUnusable;
            }
            (_, Some(Class::ContextExceeded)) => return RunConsequence::Split,
            (_, Some(class @ (Class::SessionLost | Class::SessionInUse))) => {
                if self.resumes >= context.policy.resume.max(1) + context.policy.infra {
                    self.fail(class.as_str());
                } else if self.resume_later(context) {
                    self.session = None;
                }
            }
            (_, class) => {
                match self.candidate.clone() {
                    None => self.charge_fault(context, false),
                    Some(_) if !changed && !context.policy.allow_empty => {
                        self.reject(context, "unchanged");
                    }
                    Some(candidate) => self.stage = OracleStage::Verifying(candidate),
                }
                if class.is_some() {
                    return RunConsequence::ServiceReported;
                }
            }
        }
        RunConsequence::None
    }

    /// Schedules an attempt that resumes the session. Returns false if the budget is exhausted.
    fn resume_later(&mut self, context: OracleContext<'_>) -> bool {
        let scheduled = self.schedule_attempt(context, context.after_pause(self.resumes + 1));
        self.resumes += u32::from(scheduled);
        scheduled
    }

    /// Records the verdict of the task checks or of the landing checks.
    pub(crate) fn verified(
        &mut self,
        candidate: &Candidate,
        checks: &CheckReport,
        landing: bool,
        context: OracleContext<'_>,
    ) {
        match &checks.verdict {
            Verdict::Passed => {
                self.faults = 0;
                if !landing && context.policy.evaluates {
                    self.stage = OracleStage::Evaluating(candidate.clone());
                    self.under_evaluation = Some(candidate.clone());
                } else if !landing {
                    self.accept(candidate, context);
                }
            }
            Verdict::Failed(findings) => {
                let prefix =
                    if landing || self.exited_cleanly { "" } else { "exited with an error, " };
                self.reject(context, &format!("{prefix}{}", findings[0].check));
            }
            Verdict::Errored(_) => self.charge_fault(context, true),
        }
    }

    /// Records that the candidate has passed the checks and the evaluator.
    fn accept(&mut self, candidate: &Candidate, context: OracleContext<'_>) {
        self.passed_commits.insert(candidate.commit.clone());
        // A report is complete without a landing.
        self.stage = match (context.policy.report, context.policy.review) {
            (true, _) => OracleStage::Landed,
            (false, true) => OracleStage::Reviewing(candidate.clone()),
            (false, false) => OracleStage::Queued(candidate.clone()),
        };
    }

    /// Records the end of an evaluation, also if its task has ended meanwhile.
    pub(crate) fn evaluated(
        &mut self,
        verdict: &Verdict<Objection>,
        termination: &Termination,
        report: Option<&SessionReport>,
        answered: bool,
        context: OracleContext<'_>,
    ) -> RunConsequence {
        self.evaluator_answered |= report.is_some_and(SessionReport::answered);
        self.evaluator_budget.record_session(report, None);
        let wanted = matches!(self.stage, OracleStage::Evaluating(_));
        let Some(candidate) = self.under_evaluation.clone() else { return RunConsequence::None };
        if !matches!(verdict, Verdict::Errored(_)) {
            self.under_evaluation = None;
            self.faults = if wanted { 0 } else { self.faults };
        }
        let previous = self.objections.1.clone();
        if let Verdict::Failed(Objection { digest, .. }) = verdict {
            self.objections = (self.objections.0 + 1, Some(digest.clone()));
        }
        match (verdict, termination, report.map(|r| r.class)) {
            _ if !wanted => return RunConsequence::None,
            (Verdict::Passed, _, _) => {
                self.accept(&candidate, context);
                return RunConsequence::ServiceReported;
            }
            (Verdict::Failed(_), _, _) => {
                if previous == self.objections.1 || self.objections.0 >= context.policy.rounds {
                    self.fail("evaluator");
                } else {
                    self.start_over(context);
                }
                return RunConsequence::ServiceReported;
            }
            (_, Termination::Stopped, _) => self.not_before = context.now,
            (_, _, Some(Class::RateLimited | Class::Overloaded)) => {
                self.not_before = context.now;
                return RunConsequence::ServiceReported;
            }
            (_, _, Some(Class::Auth | Class::BadInput)) if !answered => {
                self.not_before = context.now;
                return RunConsequence::AgentUnusable;
            }
            (_, _, Some(Class::ContextExceeded)) => self.fail("evaluator: context exceeded"),
            (_, _, _) => self.charge_fault(context, true),
        }
        RunConsequence::None
    }

    /// Compares this state with the machine's.
    pub(crate) fn compare(&self, task: &TaskId, state: &TaskState, policy: &Policy) {
        assert_eq!(self.phase(), state.phase, "{task}: {self:?}\n{state:?}");
        assert_eq!(self.attempt, state.attempt, "{task}: number of the last attempt");
        assert_eq!(
            (state.rejections, state.conflicts, state.faults),
            (self.rejections, self.conflicts, self.faults),
            "{task}: rejections, conflicts, faults"
        );
        assert_eq!(
            (state.resumes, state.redispatches),
            (self.resumes, self.redispatches),
            "{task}: resumes, redispatches"
        );
        assert!(self.rejections <= policy.feedback + 1 + self.reconsidered, "{task}: {self:?}");
        assert!(
            self.conflicts <= policy.feedback.max(1) + 1 + self.reconsidered,
            "{task}: {self:?}"
        );
        assert!(self.faults <= policy.infra, "{task}: {self:?}");
        assert!(self.resumes <= policy.resume.max(1) + policy.infra, "{task}: {self:?}");
        assert!(self.redispatches <= policy.redispatch, "{task}: {self:?}");
        // The attempt of a skipped task keeps its worktree until it ends.
        let worktree = self.running.as_ref().map(|session| &session.worktree);
        assert_eq!(state.worktree.as_ref(), worktree, "{task}: worktree of the running attempt");
        assert_eq!(
            state.owner.is_some(),
            self.running.is_some(),
            "{task}: owner of the running attempt"
        );
        assert_eq!(state.candidate, self.candidate, "{task}: candidate of the last attempt");
        let needs_candidate =
            matches!(state.phase, Phase::Verifying | Phase::Reviewing | Phase::Queued);
        assert!(!needs_candidate || state.candidate.is_some(), "{task}: no candidate");
        let expected = self.session.as_ref().map(|s| (&s.id, &s.worktree, &s.owner));
        let session = state.session.as_ref().map(|s| (&s.id, &s.worktree, &s.owner));
        assert_eq!(session, expected, "{task}: session to resume");
        self.budget.compare(state.spend);
        let approved = state.review.approval.as_ref().map(|a| a.commit.clone());
        assert_eq!((approved, state.review.revised), self.review, "{task}: approved, revised");
        let evaluation = &state.evaluation;
        assert_eq!(
            evaluation.waiting,
            self.under_evaluation.is_some(),
            "{task}: waits for the evaluator"
        );
        assert_eq!(
            (evaluation.rounds, evaluation.objection.clone()),
            self.objections,
            "{task}: objections of the evaluator"
        );
        assert!(self.objections.0 <= policy.rounds + self.reconsidered, "{task}: {self:?}");
        self.evaluator_budget.compare(evaluation.spend);
    }
}
