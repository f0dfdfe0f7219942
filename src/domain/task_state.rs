//! The state of one task, folded from the events of its chain.

use super::evaluation::Evaluation;
use super::event::{TaskEvent, TaskEventKind};
use super::id::{Oid, Timestamp};
use super::phase::Phase;
use super::retry::{Policy, RetryReason};
use super::review::Review;
use super::session::{Class, Session, SessionProgress, SessionReport, Spend, Usage};
use super::termination::Termination;
use super::verdict::{Candidate, Verdict};

/// The state of a task, as the tip of its chain records it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskState {
    /// The phase.
    pub phase: Phase,
    /// The number of events so far.
    pub seq: u64,
    /// The number of the last attempt that started; 0 before the first.
    pub attempt: u32,
    /// The name of the running attempt's worktree.
    pub worktree: Option<String>,
    /// The repository and machine that run the attempt.
    pub owner: Option<String>,
    /// The commit that the last attempt started from.
    pub base: Option<Oid>,
    /// The way in which the last attempt's process ended.
    pub termination: Option<Termination>,
    /// The class of the last attempt's session.
    pub class: Option<Class>,
    /// True if the service has answered a session of this task.
    pub answered: bool,
    /// The ending and the last line of the last attempt, if its session printed no event and
    /// changed nothing.
    pub silent_ending: Option<String>,
    /// The last attempt's session, while it may be resumed.
    pub session: Option<Session>,
    /// The number of session resumes since the budgets were last reset.
    pub resumes: u32,
    /// The number of redispatches in the outer layer.
    pub redispatches: u32,
    /// The usage of all attempts.
    pub spend: Spend,
    /// The part of `spend` that counts against no budget, because a person asked for a retry.
    pub written_off: Usage,
    /// The candidate of the last attempt.
    pub candidate: Option<Candidate>,
    /// The number of attempts charged to the task since its budgets were last reset.
    pub rejections: u32,
    /// The number of conflicts with the target since the budgets were last reset. Conflicts are not
    /// the task's fault but have a limit.
    pub conflicts: u32,
    /// The number of consecutive infrastructure faults.
    pub faults: u32,
    /// The task owes no effect before this time.
    pub not_before: Timestamp,
    /// The state of the evaluation.
    pub evaluation: Evaluation,
    /// The state of the review.
    pub review: Review,
    /// The commit on the target.
    pub landed: Option<Oid>,
    /// The reason why the task failed, was skipped, or waits.
    pub reason: Option<String>,
    /// The key by which similar failures are grouped.
    pub cause: Option<String>,
    /// The time of the last event.
    pub at: Timestamp,
}

/// Returns the ending and the last line of a session that printed no event and changed nothing.
fn silent_ending(termination: &Termination, report: &SessionReport) -> Option<String> {
    let is_silent = report.progress == SessionProgress::Silent && report.class == Class::Crashed;
    let line = report.detail.as_deref().filter(|_| is_silent && !termination.cut_off())?;
    let words: Vec<&str> = line.split_whitespace().collect();
    Some(format!("{termination}: {}", words.join(" ")))
}

impl TaskState {
    /// Folds an event into the state. Never fails: an event is a fact.
    pub fn apply(&mut self, event: &TaskEvent) {
        self.seq += 1;
        self.at = event.at;
        match &event.kind {
            TaskEventKind::Created => {}
            TaskEventKind::Started { attempt, base, worktree, owner, session, resumed, .. } => {
                self.attempt = *attempt;
                self.base = Some(base.clone());
                self.apply_started(worktree, owner, session.as_deref(), *resumed);
            }
            TaskEventKind::Ended { attempt, termination, candidate, report } => {
                self.attempt = *attempt;
                self.apply_ended(termination, candidate.as_ref(), report.as_deref());
            }
            TaskEventKind::Verified { findings, landing, .. } => {
                self.apply_verified(findings.is_none(), *landing);
            }
            TaskEventKind::EvaluationRequested => {
                self.phase = Phase::Verifying;
                self.evaluation.waiting = true;
            }
            TaskEventKind::Evaluated { verdict, report, .. } => {
                let usage = report.as_ref().map(|report| report.usage).unwrap_or_default();
                self.evaluation.spend.add(usage);
                self.evaluation.answered |= report.as_deref().is_some_and(SessionReport::answered);
                if self.evaluation.apply(verdict) && !self.phase.ended() {
                    self.faults = 0;
                    self.reason = None;
                    let passed = *verdict == Verdict::Passed;
                    self.phase = if passed { Phase::Queued } else { Phase::Todo };
                }
            }
            TaskEventKind::ReviewRequested => self.phase = Phase::Reviewing,
            TaskEventKind::Approved(approval) => {
                self.phase = Phase::Queued;
                self.review.approval = Some(approval.clone());
            }
            TaskEventKind::ChangesRequested { .. } => {
                self.phase = Phase::Todo;
                self.review = Review::default();
            }
            TaskEventKind::Revised { candidate } => {
                self.phase = Phase::Verifying;
                self.candidate = Some(candidate.clone());
                self.evaluation.stop_waiting();
                self.review = Review { approval: None, revised: true };
            }
            TaskEventKind::Conflicted { .. } => {
                self.conflicts += 1;
                self.phase = Phase::Todo;
            }
            TaskEventKind::Retried { reason, not_before, because } => {
                self.not_before = *not_before;
                self.reason.clone_from(because);
                self.apply_retried(*reason);
            }
            TaskEventKind::Landed { commit, .. } => {
                self.phase = Phase::Done;
                self.landed = Some(commit.clone());
                self.reason = None;
            }
            TaskEventKind::OutputAccepted => {
                self.phase = Phase::Done;
                self.reason = None;
            }
            TaskEventKind::Failed { reason, cause } => {
                self.phase = Phase::Failed;
                self.reason = Some(reason.clone());
                self.cause = Some(cause.clone());
            }
            TaskEventKind::Skipped { message } => {
                self.phase = Phase::Skipped;
                self.reason = Some(message.clone());
            }
        }
    }

    fn apply_started(&mut self, worktree: &str, owner: &str, session: Option<&str>, resumed: bool) {
        self.phase = Phase::Running;
        self.worktree = Some(worktree.to_owned());
        self.owner = Some(owner.to_owned());
        self.termination = None;
        self.class = None;
        self.reason = None;
        self.evaluation.stop_waiting();
        self.review = Review::default();
        // A resumed attempt continues with the last attempt's changes and session, so both stay
        // recorded.
        if !resumed {
            self.candidate = None;
            self.session = session.map(|id| Session {
                id: id.to_owned(),
                worktree: worktree.to_owned(),
                owner: owner.to_owned(),
                counted: Usage::default(),
            });
        }
    }

    fn apply_ended(
        &mut self,
        termination: &Termination,
        candidate: Option<&Candidate>,
        report: Option<&SessionReport>,
    ) {
        // Interrupted work is kept on the chain but not verified. Checks that pass on an untouched
        // tree would land a task for which nothing was done.
        let complete = candidate.is_some() && !termination.cut_off();
        // A task that was skipped meanwhile stays skipped. The usage of its attempt still counts.
        let taken_out = matches!(self.phase, Phase::Done | Phase::Skipped);
        if !taken_out {
            self.phase = if complete { Phase::Verifying } else { Phase::Todo };
        }
        self.evaluation.stop_waiting();
        self.review = Review::default();
        // Without a worktree no attempt was running: a person asked to verify the candidate again.
        if self.worktree.is_some() {
            self.add_report(report, termination.began());
        }
        self.answered |= report.is_some_and(SessionReport::answered);
        self.silent_ending = report.and_then(|report| silent_ending(termination, report));
        self.worktree = None;
        self.owner = None;
        self.termination = Some(termination.clone());
        self.candidate = candidate.cloned();
    }

    fn apply_verified(&mut self, passed: bool, landing: bool) {
        // A verdict was reached, so the infrastructure works.
        self.faults = 0;
        self.evaluation.stop_waiting();
        if passed {
            if !landing {
                self.phase = Phase::Queued;
            }
            self.reason = None;
        } else {
            self.rejections += 1;
            self.phase = Phase::Todo;
        }
    }

    fn apply_retried(&mut self, reason: RetryReason) {
        if !reason.keeps_session() {
            self.session = None;
        }
        // If only an evaluation was interrupted, only the evaluation is repeated.
        let evaluating = self.phase == Phase::Verifying && self.evaluation.waiting;
        match reason {
            RetryReason::Account | RetryReason::Interrupted if evaluating => {}
            RetryReason::Feedback => {
                self.resumes = 0;
                self.phase = Phase::Todo;
            }
            RetryReason::Resume | RetryReason::Restart => {
                self.resumes += 1;
                self.phase = Phase::Todo;
            }
            RetryReason::Redispatch => {
                self.reset_budgets();
                self.redispatches += 1;
                self.phase = Phase::Todo;
            }
            RetryReason::Account | RetryReason::Interrupted => self.phase = Phase::Todo,
            RetryReason::Infra => {
                self.faults += 1;
                if !self.repeats_verification() {
                    self.phase = Phase::Todo;
                }
            }
            RetryReason::Manual => {
                self.reset_budgets();
                self.redispatches = 0;
                let Spend { tokens, cost, .. } = self.spend;
                self.written_off = Usage { tokens: Some(tokens), cost: Some(cost) };
                self.phase = Phase::Todo;
            }
        }
        if self.phase == Phase::Todo {
            self.worktree = None;
            self.owner = None;
        }
    }

    /// Returns true if an infrastructure fault repeats the verification. Otherwise the fault leads
    /// to a new attempt.
    fn repeats_verification(&self) -> bool {
        match self.phase {
            Phase::Verifying | Phase::Queued => self.candidate.is_some(),
            Phase::Todo
            | Phase::Running
            | Phase::Reviewing
            | Phase::Done
            | Phase::Failed
            | Phase::Skipped => false,
        }
    }

    /// Adds the report of the last attempt's session: class, usage and session id.
    fn add_report(&mut self, report: Option<&SessionReport>, began: bool) {
        self.class = report.map(|report| report.class);
        let Some(report) = report else {
            if began {
                self.spend.add(Usage::default());
            }
            return;
        };
        let reported_id = report.session.as_ref();
        let same_session =
            self.session.as_ref().filter(|s| reported_id.is_none_or(|id| *id == s.id));
        let before =
            same_session.filter(|_| report.cumulative).map(|s| s.counted).unwrap_or_default();
        self.spend.add(report.usage.since(before));
        let counted = if report.cumulative { report.usage.or(before) } else { Usage::default() };
        // The reported id wins. An agent may use several ids, and the given id may be one of them.
        let id = reported_id.cloned().or_else(|| self.session.as_ref().map(|s| s.id.clone()));
        if let (Some(id), Some(worktree), Some(owner)) = (id, &self.worktree, &self.owner) {
            self.session =
                Some(Session { id, worktree: worktree.clone(), owner: owner.clone(), counted });
        }
    }

    /// Returns the rejected candidate that the next attempt may start from. Returns `None` if the
    /// attempt starts from the base. The last attempt always does: a wrong approach must not spoil
    /// all attempts.
    pub fn candidate_to_continue(&self, policy: &Policy) -> Option<&Candidate> {
        let is_complete =
            self.termination.as_ref().is_some_and(|termination| !termination.cut_off());
        // False for the classes after which no checks run on the candidate.
        let is_judged = match self.class {
            None
            | Some(
                Class::Ok
                | Class::Crashed
                | Class::TimedOut
                | Class::ContextExceeded
                | Class::Limit
                | Class::Refused
                | Class::Blocked,
            ) => true,
            Some(
                Class::RateLimited
                | Class::Overloaded
                | Class::Auth
                | Class::SessionLost
                | Class::SessionInUse
                | Class::BadInput,
            ) => false,
        };
        let continues = policy.from_candidate
            && !policy.report
            && self.phase == Phase::Todo
            && self.session.is_none()
            && self.faults == 0
            && self.rejections < policy.feedback;
        self.candidate.as_ref().filter(|_| continues && is_complete && is_judged)
    }

    /// Returns the spend that counts against the task's budget.
    pub fn charged(&self) -> Spend {
        self.spend.beyond(self.written_off)
    }

    fn reset_budgets(&mut self) {
        self.rejections = 0;
        self.conflicts = 0;
        self.faults = 0;
        self.resumes = 0;
        self.evaluation.reset_rounds();
        self.candidate = None;
        self.cause = None;
    }
}
