//! The fold: what is so, from what happened.

use std::collections::BTreeMap;

use super::account::Account;
use super::evaluation::Evaluation;
use super::event::{Halt, RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use super::id::{Oid, RunId, TaskId, Timestamp};
pub use super::phase::Phase;
use super::plan::{Plan, Task};
use super::retry::RetryReason;
use super::review::Review;
use super::session::{Class, Session, SessionReport, Spend, Usage};
use super::termination::Termination;
use super::verdict::{Candidate, Verdict};

/// Everything that a task's tip says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskState {
    /// Where it stands.
    pub phase: Phase,
    /// Events so far.
    pub seq: u64,
    /// The number of the last attempt that started; 0 before the first.
    pub attempt: u32,
    /// Where the running attempt works.
    pub worktree: Option<String>,
    /// On which repository and machine the running attempt was started.
    pub owner: Option<String>,
    /// From where the last attempt started.
    pub base: Option<Oid>,
    /// How the last attempt ended, as a short phrase.
    pub termination: Option<Termination>,
    /// How its session ended, in the agent's own terms.
    pub class: Option<Class>,
    /// The session of the last attempt, while it may be gone on with.
    pub session: Option<Session>,
    /// How often a session was gone on with since the budgets were last made new.
    pub resumes: u32,
    /// How often it was dispatched from scratch in the outer layer.
    pub redispatches: u32,
    /// What all its attempts used.
    pub spend: Spend,
    /// What of that no budget is charged with, since a person had the task tried again.
    pub written_off: Usage,
    /// What the last attempt proposes.
    pub candidate: Option<Candidate>,
    /// Attempts charged to the task since its budgets were last made new.
    pub rejections: u32,
    /// Conflicts with the target since then; not the task's fault, but bounded.
    pub conflicts: u32,
    /// Infrastructure faults in a row.
    pub faults: u32,
    /// No effect is owed before this moment.
    pub not_before: Timestamp,
    /// Where it stands with its evaluator.
    pub evaluation: Evaluation,
    /// Where it stands with its reviewers.
    pub review: Review,
    /// The commit on the target.
    pub landed: Option<Oid>,
    /// Why it failed, was skipped, or waits.
    pub reason: Option<String>,
    /// What a failure has in common with others.
    pub cause: Option<String>,
    /// When the last event happened.
    pub at: Timestamp,
}

impl TaskState {
    /// Folds one event. Total: a fact is never refused.
    pub fn apply(&mut self, event: &TaskEvent) {
        self.seq += 1;
        self.at = event.at;
        match &event.kind {
            TaskEventKind::Created => {}
            TaskEventKind::Started { attempt, base, worktree, owner, session, resumed } => {
                self.phase = Phase::Running;
                self.attempt = *attempt;
                self.base = Some(base.clone());
                self.worktree = Some(worktree.clone());
                self.owner = Some(owner.clone());
                self.termination = None;
                self.class = None;
                self.reason = None;
                self.evaluation.rest();
                self.review = Review::default();
                if !resumed {
                    // A session that goes on does so with what it had changed, also if it is lost once more.
                    self.candidate = None;
                    self.session = session.as_ref().map(|id| Session {
                        id: id.clone(),
                        worktree: worktree.clone(),
                        owner: owner.clone(),
                        counted: Usage::default(),
                    });
                }
            }
            TaskEventKind::Ended { attempt, termination, candidate, report } => {
                // What was cut off is kept on the chain, but nobody judges it: checks that pass on an untouched tree would
                // land a task for which nothing was done.
                let whole = candidate.is_some() && !termination.cut_off();
                // What was taken out meanwhile stays so; its attempt is still accounted for.
                let out = matches!(self.phase, Phase::Done | Phase::Skipped);
                if !out {
                    self.phase = if whole { Phase::Verifying } else { Phase::Todo };
                }
                self.evaluation.rest();
                self.review = Review::default();
                self.attempt = *attempt;
                // Without a place no attempt was under way: a person has work judged once more.
                if self.worktree.is_some() {
                    self.read(report.as_deref(), !termination.began());
                }
                self.worktree = None;
                self.owner = None;
                self.termination = Some(termination.clone());
                self.candidate.clone_from(candidate);
            }
            TaskEventKind::Verified { findings, landing, .. } => {
                // It could be judged, so the infrastructure works.
                self.faults = 0;
                self.evaluation.rest();
                if findings.is_some() {
                    self.rejections += 1;
                    self.phase = Phase::Todo;
                } else {
                    if !landing {
                        self.phase = Phase::Queued;
                    }
                    self.reason = None;
                }
            }
            TaskEventKind::EvaluationRequested => {
                self.phase = Phase::Verifying;
                self.evaluation.waiting = true;
            }
            TaskEventKind::Evaluated { verdict, report, .. } => {
                let used = report.as_ref().map(|r| r.usage).unwrap_or_default();
                self.evaluation.spend.add(used);
                if self.evaluation.apply(verdict) && !self.phase.ended() {
                    self.faults = 0;
                    self.reason = None;
                    let good = *verdict == Verdict::Passed;
                    self.phase = if good { Phase::Queued } else { Phase::Todo };
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
                self.evaluation.rest();
                self.review = Review { approval: None, revised: true };
            }
            TaskEventKind::Conflicted { .. } => {
                self.conflicts += 1;
                self.phase = Phase::Todo;
            }
            TaskEventKind::Retried { reason, not_before, because } => {
                self.not_before = *not_before;
                self.reason.clone_from(because);
                if !reason.keeps_session() {
                    self.session = None;
                }
                // An evaluator is asked once more; nothing that the task did is in question.
                let asks = self.phase == Phase::Verifying && self.evaluation.waiting;
                match reason {
                    RetryReason::Account | RetryReason::Interrupted if asks => {}
                    RetryReason::Feedback => {
                        self.resumes = 0;
                        self.phase = Phase::Todo;
                    }
                    RetryReason::Resume | RetryReason::Restart => {
                        self.resumes += 1;
                        self.phase = Phase::Todo;
                    }
                    RetryReason::Redispatch => {
                        self.renew();
                        self.redispatches += 1;
                        self.phase = Phase::Todo;
                    }
                    RetryReason::Account => self.phase = Phase::Todo,
                    RetryReason::Infra => {
                        self.faults += 1;
                        // A verification that could not be run is repeated; an attempt that broke starts anew.
                        let repeats_verification = match self.phase {
                            Phase::Verifying | Phase::Queued => self.candidate.is_some(),
                            Phase::Todo
                            | Phase::Running
                            | Phase::Reviewing
                            | Phase::Done
                            | Phase::Failed
                            | Phase::Skipped => false,
                        };
                        if !repeats_verification {
                            self.phase = Phase::Todo;
                        }
                    }
                    RetryReason::Interrupted => self.phase = Phase::Todo,
                    RetryReason::Manual => {
                        self.renew();
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

    /// What the last attempt's session said of itself.
    fn read(&mut self, report: Option<&SessionReport>, never_began: bool) {
        self.class = report.map(|r| r.class);
        let Some(report) = report else {
            if !never_began {
                self.spend.add(Usage::default());
            }
            return;
        };
        let named = report.session.as_ref();
        let same = self.session.as_ref().filter(|s| named.is_none_or(|id| *id == s.id));
        let before = same.filter(|_| report.cumulative).map(|s| s.counted).unwrap_or_default();
        self.spend.add(report.usage.since(before));
        let counted = if report.cumulative { report.usage.or(before) } else { Usage::default() };
        // The agent's word counts, where it has one: the id that it was given may be one of several.
        let id = named.cloned().or_else(|| self.session.as_ref().map(|s| s.id.clone()));
        if let (Some(id), Some(worktree), Some(owner)) = (id, &self.worktree, &self.owner) {
            self.session =
                Some(Session { id, worktree: worktree.clone(), owner: owner.clone(), counted });
        }
    }

    /// What the task's budget is charged with.
    pub fn charged(&self) -> Spend {
        self.spend.beyond(self.written_off)
    }

    /// New budgets, from a clean start.
    fn renew(&mut self) {
        self.rejections = 0;
        self.conflicts = 0;
        self.faults = 0;
        self.resumes = 0;
        self.evaluation.renew();
        self.candidate = None;
        self.cause = None;
    }
}

/// Whether the run as a whole goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RunPhase {
    /// Tasks are dispatched.
    #[default]
    Active,
    /// Nothing new starts until somebody says `start`.
    Paused,
    /// It stopped by itself and wants a person.
    Halted,
    /// Given up.
    Cancelled,
}

/// The numbers of ended tasks that the halt on failures does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FailureBaseline {
    /// Tasks that were done.
    pub done: u32,
    /// Tasks that had failed.
    pub failed: u32,
}

/// What is so in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunState {
    /// The run.
    pub id: RunId,
    /// Its plan, pinned.
    pub plan: Plan,
    /// Whether it goes on.
    pub phase: RunPhase,
    /// Whether it has waited since it was made, and nobody has asked it to stop: whoever drives it next may go on.
    pub waits_to_begin: bool,
    /// Why it is paused or halted.
    pub reason: Option<String>,
    /// What kind of trouble halted it.
    pub halt: Option<Halt>,
    /// The standing of the account in whose name its agents work.
    pub account: Account,
    /// The standing of the account of its evaluators, where that is another one.
    pub evaluator: Account,
    /// The numbers of ended tasks when a person last resumed the run in spite of failures.
    pub baseline: FailureBaseline,
    /// Whether since then one task goes first.
    pub canary: bool,
    /// Tasks that were replaced by parts of them.
    pub split: BTreeMap<TaskId, Vec<TaskId>>,
    /// What the landing checks said of the base; `None` before they were run.
    pub base_passed: Option<bool>,
    /// Every task of the plan.
    pub tasks: BTreeMap<TaskId, TaskState>,
}

impl RunState {
    /// A run in which nothing has happened yet.
    pub fn new(id: RunId, plan: Plan) -> Self {
        let tasks = plan.tasks.iter().map(|t| (t.id.clone(), TaskState::default())).collect();
        Self {
            id,
            plan,
            phase: RunPhase::Active,
            waits_to_begin: false,
            reason: None,
            halt: None,
            account: Account::default(),
            evaluator: Account::default(),
            baseline: FailureBaseline::default(),
            canary: false,
            split: BTreeMap::new(),
            base_passed: None,
            tasks,
        }
    }

    /// Folds an event of the run's chain.
    pub fn apply_run(&mut self, event: &RunEvent) {
        self.waits_to_begin = false;
        match &event.kind {
            RunEventKind::Created { paused } => {
                if *paused {
                    self.waits_to_begin = true;
                    self.phase = RunPhase::Paused;
                    self.reason = Some("made with `--paused`".into());
                }
            }
            RunEventKind::BaseVerified { passed, .. } => self.base_passed = Some(*passed),
            RunEventKind::Paused(reason) => {
                self.phase = RunPhase::Paused;
                self.reason = Some(reason.clone());
            }
            RunEventKind::Resumed { done, failed, canary } => {
                self.phase = RunPhase::Active;
                self.reason = None;
                let halt = self.halt.take();
                // Who mends something else has not looked at the failures, and has seen no task go first.
                if halt == Some(Halt::Failures) {
                    self.baseline = FailureBaseline { done: *done, failed: *failed };
                    self.canary = *canary;
                }
                if halt.is_some() {
                    for account in [&mut self.account, &mut self.evaluator] {
                        account.proven = false;
                        account.strikes = 0;
                    }
                }
                // Whoever resumes after a base that failed wants it looked at again.
                if self.base_passed == Some(false) {
                    self.base_passed = None;
                }
            }
            RunEventKind::Halted { halt, reason } => {
                self.phase = RunPhase::Halted;
                self.halt = Some(*halt);
                self.reason = Some(reason.clone());
            }
            RunEventKind::Account(account) => self.account = account.clone(),
            RunEventKind::EvaluatorAccount(account) => self.evaluator = account.clone(),
            RunEventKind::Split { task, parts } => self.replace(task, parts, event.at),
            // The plan itself is pinned beside the chain: whoever has made it anew loads the run again.
            RunEventKind::Replanned { base, .. } => {
                if base.is_some() {
                    self.base_passed = None;
                }
            }
            RunEventKind::JobChanged(_) => {}
            RunEventKind::Cancelled => {
                self.phase = RunPhase::Cancelled;
                self.reason = None;
            }
        }
    }

    /// Puts parts of a task where it was in the plan. Its own line stays, for those that look at what it has done.
    fn replace(&mut self, task: &TaskId, parts: &[(TaskId, Vec<String>)], at: Timestamp) {
        let Some(index) = self.plan.tasks.iter().position(|t| t.id == *task) else { return };
        let whole = self.plan.tasks[index].clone();
        let share =
            |n: u64, part: &[String]| n * part.len() as u64 / whole.files.len().max(1) as u64;
        let ids: Vec<TaskId> = parts.iter().map(|(id, _)| id.clone()).collect();
        for other in self.plan.tasks.iter_mut().filter(|t| t.after.contains(task)) {
            other.after.retain(|t| t != task);
            other.after.extend(ids.iter().cloned());
        }
        let new = parts.iter().map(|(id, files)| Task {
            id: id.clone(),
            files: files.clone(),
            after: whole.after.clone(),
            lines: share(whole.lines, files),
            tokens: share(whole.tokens, files),
            level: whole.level,
            vars: whole.vars.clone(),
        });
        self.plan.tasks.splice(index + 1..index + 1, new);
        let begun = TaskState { seq: 1, at, ..TaskState::default() };
        self.tasks.extend(ids.iter().map(|id| (id.clone(), begun.clone())));
        self.split.insert(task.clone(), ids);
    }

    /// What all attempts used.
    pub fn spend(&self) -> Spend {
        self.tasks.values().fold(Spend::default(), |sum, t| sum.plus(t.spend))
    }

    /// What agents and evaluators used: what the run's budgets are charged with.
    pub fn all_spend(&self) -> Spend {
        self.spend().plus(self.evaluation_spend())
    }

    /// Folds an event of a task's chain; an unknown task is left alone.
    pub fn apply_task(&mut self, task: &TaskId, event: &TaskEvent) {
        if let Some(state) = self.tasks.get_mut(task) {
            state.apply(event);
        }
    }

    /// Whether every task has ended.
    pub fn ended(&self) -> bool {
        self.tasks.values().all(|t| t.phase.ended())
    }

    /// How many tasks are in a phase.
    pub fn count(&self, phase: &Phase) -> usize {
        self.tasks.values().filter(|t| t.phase == *phase).count()
    }

    /// The word that `status` shows for the run.
    pub fn summary(&self) -> &'static str {
        match self.phase {
            RunPhase::Cancelled => "cancelled",
            RunPhase::Active | RunPhase::Paused | RunPhase::Halted if self.ended() => "ended",
            RunPhase::Paused if self.count(&Phase::Running) > 0 => "draining",
            // Nobody need say so: what is left cannot begin.
            RunPhase::Active if super::machine::stalled(self) => "halted",
            RunPhase::Active => "active",
            RunPhase::Paused => "paused",
            RunPhase::Halted => "halted",
        }
    }

    /// Whether everything a task waits for is done.
    pub fn unblocked(&self, after: &[TaskId]) -> bool {
        after.iter().all(|t| self.tasks.get(t).is_some_and(|s| s.phase == Phase::Done))
    }
}
