//! The state machine: what an observation means, and what is owed next.
//!
//! Observations may be late, doubled or stale; `decide` looks at the state again and gives no events for what no longer
//! matters. `owed` is level-triggered: it depends on the state alone, so recovery is calling it again.

mod attempt;
mod blocked;
mod failing;
mod judged;
mod owed;
#[cfg(test)]
mod tests;

use self::judged::ReviewDecision;
use super::event::{Halt, RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use super::id::{Oid, TaskId, Timestamp};
use super::retry::{Policy, RetryReason};
use super::session::SessionReport;
use super::state::{Phase, RunPhase, RunState, TaskState};
use super::verdict::{Candidate, CheckReport, CheckResult, Objection, Verdict};
use crate::domain::termination::Termination;

pub use self::blocked::{at_rest, awaits_review, blocked, stalled};
pub use self::failing::{FailureGroup, failure_groups};
use self::owed::owed_start;
pub use self::owed::{evaluators, held_back, next_wake, owed};

/// Something that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The landing checks were run on the base.
    BaseVerified(CheckReport),
    /// A slot is ready to be claimed for a task's next attempt.
    Dispatched {
        /// The task.
        task: TaskId,
        /// Its next attempt's number.
        attempt: u32,
        /// The target's tip.
        base: Oid,
        /// The slot.
        worktree: String,
        /// The repository and machine.
        owner: String,
        /// The id that its session is given, if the program gives one.
        session: Option<String>,
        /// Whether it goes on with the session that the task has.
        resumed: bool,
    },
    /// A running attempt has got an answer from its service.
    ServiceAnswered {
        /// The task.
        task: TaskId,
        /// Which attempt.
        attempt: u32,
    },
    /// An attempt is over.
    AttemptEnded {
        /// The task.
        task: TaskId,
        /// Which attempt.
        attempt: u32,
        /// How.
        termination: Termination,
        /// What it left, as a commit.
        candidate: Option<Candidate>,
        /// Whether that differs from the base.
        changed: bool,
        /// What its session said of itself.
        report: Option<Box<SessionReport>>,
    },
    /// An attempt never began: no supervisor got as far as starting its keeper.
    NeverStarted {
        /// The task.
        task: TaskId,
        /// Which attempt.
        attempt: u32,
    },
    /// The candidate's own tree was judged.
    Verified {
        /// The task.
        task: TaskId,
        /// Whose work.
        attempt: u32,
        /// The tree.
        tree: Oid,
        /// What was said.
        checks: CheckReport,
    },
    /// The candidate does not merge.
    LandingConflict {
        /// The task.
        task: TaskId,
        /// The candidate commit.
        candidate: Oid,
        /// The target's tip.
        onto: Oid,
        /// The paths in conflict.
        paths: Vec<String>,
        /// The same as a list for the agent, with what each side has and who landed what; empty where only the paths are known.
        told: String,
    },
    /// The tree that would land was judged.
    LandingVerified {
        /// The task.
        task: TaskId,
        /// The candidate commit.
        candidate: Oid,
        /// The merged tree.
        tree: Oid,
        /// What was said.
        checks: CheckReport,
    },
    /// An evaluator has ended.
    Evaluated {
        /// The task.
        task: TaskId,
        /// Its attempt.
        attempt: u32,
        /// The tree that it was shown.
        tree: Oid,
        /// When it began.
        began: Timestamp,
        /// How its process ended.
        termination: Termination,
        /// What it said.
        verdict: Verdict<Objection>,
        /// What its session said of itself.
        report: Option<Box<SessionReport>>,
    },
    /// Somebody has committed on the branch of a task that waits for a person, or to land.
    BranchMoved {
        /// The task.
        task: TaskId,
        /// The work as it is there.
        candidate: Candidate,
    },
    /// The target contains the task's work.
    Landed {
        /// The task.
        task: TaskId,
        /// The commit on the target.
        commit: Oid,
        /// Results earned on its tree.
        results: Vec<CheckResult>,
    },
    /// Every task has ended, and some that failed may be tried once more.
    RedispatchDue,
    /// The job file has changed in these sections, and the run goes on with it.
    JobChanged(Vec<String>),
    /// A person asked for something.
    Requested(Request),
}

/// What a person can ask of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Dispatch a failed or skipped task again, with all budgets new.
    Retry(TaskId),
    /// Take a task out.
    Skip {
        /// The task.
        task: TaskId,
        /// The reason.
        message: String,
    },
    /// A person had the checks of an ended task's candidate run again, and they passed: take it up once more.
    Reconsider(TaskId),
    /// This candidate may land, says somebody.
    Approve {
        /// The task.
        task: TaskId,
        /// The candidate's commit.
        commit: Oid,
        /// The reviewer: name and address.
        by: String,
    },
    /// Somebody wants this candidate done anew; why.
    RequestChanges {
        /// The task.
        task: TaskId,
        /// The candidate's commit.
        commit: Oid,
        /// The reviewer: name and address.
        by: String,
        /// The changes that the reviewer asks for.
        message: String,
    },
    /// Start nothing new.
    Stop(String),
    /// Go on.
    Resume,
    /// Give the run up.
    Cancel,
}

/// An event with the chain it belongs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// For the run's chain.
    Run(RunEvent),
    /// For a task's chain.
    Task(TaskId, TaskEvent),
}

/// Something to do, derived and never stored. Done twice is done once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Run the landing checks on the base.
    VerifyBase,
    /// Find out what becomes of a running attempt.
    Await(TaskId, u32),
    /// Judge a candidate.
    Verify(TaskId, u32),
    /// Ask an evaluator about a candidate that the checks have accepted.
    Evaluate(TaskId, u32),
    /// Bring an accepted candidate onto the target.
    Land(TaskId),
    /// Begin a new attempt with this number.
    Start(TaskId, u32),
    /// Try those that failed from scratch.
    Redispatch,
}

struct Decider<'a> {
    state: &'a RunState,
    now: Timestamp,
    policy: &'a Policy,
    decisions: Vec<Decision>,
}

/// What an observation means in a state: the events to journal, possibly none.
pub fn decide(
    state: &RunState,
    observation: Observation,
    now: Timestamp,
    policy: &Policy,
) -> Vec<Decision> {
    let mut decider = Decider { state, now, policy, decisions: Vec::new() };
    decider.observe(observation);
    decider.decisions
}

impl Decider<'_> {
    fn task(&mut self, task: &TaskId, kind: TaskEventKind) {
        self.decisions.push(Decision::Task(task.clone(), TaskEvent { at: self.now, kind }));
    }

    fn run(&mut self, kind: RunEventKind) {
        self.decisions.push(Decision::Run(RunEvent { at: self.now, kind }));
    }

    fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::BaseVerified(verdict) => self.base_judged(verdict),
            Observation::Dispatched { task, attempt, base, worktree, owner, session, resumed } => {
                let Some(state) = self.state.tasks.get(&task) else { return };
                let due = owed_start(self.state, self.policy, self.now);
                let due = due.contains(&(task.clone(), attempt));
                let kind =
                    TaskEventKind::Started { attempt, base, worktree, owner, session, resumed };
                if due && (!resumed || self.goes_on(state, &kind)) {
                    self.task(&task, kind);
                }
            }
            Observation::ServiceAnswered { task, attempt } => {
                if let Some(state) = self.running(&task, attempt) {
                    self.account(&self.state.account.answered(state.at));
                }
            }
            Observation::AttemptEnded {
                task,
                attempt,
                termination,
                candidate,
                changed,
                report,
            } => {
                let open = self.running(&task, attempt).or_else(|| self.taken_out(&task, attempt));
                if let Some(state) = open {
                    self.attempt_ended(&task, &state, termination, candidate, changed, report);
                }
            }
            Observation::NeverStarted { task, attempt } => {
                if self.running(&task, attempt).is_some() {
                    if self.was_split(&task) {
                        self.skip_split(&task);
                    } else {
                        self.retry(&task, RetryReason::Interrupted, self.now, None);
                    }
                }
            }
            Observation::Verified { task, attempt, tree, checks } => {
                let Some(state) = self.state.tasks.get(&task).cloned() else { return };
                let same = state.candidate.as_ref().is_some_and(|c| c.tree == tree);
                if state.phase == Phase::Verifying
                    && !(state.evaluation.waiting && self.policy.evaluates)
                    && state.attempt == attempt
                    && same
                    && self.due(&state)
                {
                    self.judged(&task, &state, tree, checks, false);
                }
            }
            Observation::Evaluated { task, attempt, tree, began, termination, verdict, report } => {
                if let Some(state) = self.presented(&task, attempt, &tree) {
                    let told =
                        judged::EvaluatorReport { tree, began, termination, verdict, report };
                    self.evaluated(&task, &state, told);
                }
            }
            Observation::BranchMoved { task, candidate } => {
                if let Some(state) = self.reviewable(&task, None)
                    && state.candidate.as_ref() != Some(&candidate)
                {
                    self.reviewed(&task, &state, ReviewDecision::Revise(candidate));
                }
            }
            Observation::LandingConflict { task, candidate, onto, paths, told } => {
                if let Some(state) = self.queued(&task, &candidate) {
                    self.conflicted(&task, &state, onto, &paths, told);
                }
            }
            Observation::LandingVerified { task, candidate, tree, checks } => {
                if let Some(state) = self.queued(&task, &candidate).filter(|s| self.due(s)) {
                    self.judged(&task, &state, tree, checks, true);
                }
            }
            Observation::Landed { task, commit, results } => {
                let done = self.state.tasks.get(&task).is_none_or(|s| s.phase == Phase::Done);
                if !done {
                    self.task(&task, TaskEventKind::Landed { commit, results });
                }
            }
            Observation::RedispatchDue => self.pass_over(),
            Observation::JobChanged(sections) => self.run(RunEventKind::JobChanged(sections)),
            Observation::Requested(request) => self.asked(request),
        }
    }

    fn running(&self, task: &TaskId, attempt: u32) -> Option<TaskState> {
        let state = self.state.tasks.get(task)?;
        (state.phase == Phase::Running && state.attempt == attempt).then(|| state.clone())
    }

    /// A task that was taken out while its attempt was under way: what that used and left is still news.
    fn taken_out(&self, task: &TaskId, attempt: u32) -> Option<TaskState> {
        let state = self.state.tasks.get(task)?;
        let out = matches!(state.phase, Phase::Skipped | Phase::Done);
        (out && state.attempt == attempt && state.worktree.is_some()).then(|| state.clone())
    }

    /// Whether an attempt goes on with just the session that the task has: in its place, and from its base.
    fn goes_on(&self, state: &TaskState, started: &TaskEventKind) -> bool {
        let Some(kept) = state.session.as_ref().filter(|_| self.policy.resumable) else {
            return false;
        };
        match started {
            TaskEventKind::Started { base, worktree, owner, session, .. } => {
                state.base.as_ref() == Some(base)
                    && (worktree, owner, session.as_ref())
                        == (&kept.worktree, &kept.owner, Some(&kept.id))
            }
            TaskEventKind::Created
            | TaskEventKind::Ended { .. }
            | TaskEventKind::Verified { .. }
            | TaskEventKind::EvaluationRequested
            | TaskEventKind::ReviewRequested
            | TaskEventKind::Approved(_)
            | TaskEventKind::ChangesRequested { .. }
            | TaskEventKind::Revised { .. }
            | TaskEventKind::Evaluated { .. }
            | TaskEventKind::Conflicted { .. }
            | TaskEventKind::Retried { .. }
            | TaskEventKind::Landed { .. }
            | TaskEventKind::OutputAccepted
            | TaskEventKind::Failed { .. }
            | TaskEventKind::Skipped { .. } => false,
        }
    }

    fn queued(&self, task: &TaskId, candidate: &Oid) -> Option<TaskState> {
        let state = self.state.tasks.get(task)?;
        let same = state.candidate.as_ref().is_some_and(|c| c.commit == *candidate);
        (state.phase == Phase::Queued && same).then(|| state.clone())
    }

    /// The task, if a person may say something of its candidate: of this one, where it is named.
    fn reviewable(&self, task: &TaskId, commit: Option<&Oid>) -> Option<TaskState> {
        let state = self.state.tasks.get(task)?;
        let waits = matches!(state.phase, Phase::Reviewing | Phase::Queued) && self.policy.review;
        let same = commit.is_none() || state.candidate.as_ref().map(|c| &c.commit) == commit;
        (waits && same).then(|| state.clone())
    }

    /// Whether a judgement can be news. During a pause after a fault nobody judges: what comes then was said before it.
    fn due(&self, state: &TaskState) -> bool {
        state.not_before <= self.now
    }

    fn base_judged(&mut self, checks: CheckReport) {
        if self.state.base_passed.is_some() || self.state.phase == RunPhase::Cancelled {
            return;
        }
        let (passed, problem) = match checks.verdict {
            Verdict::Passed => (true, None),
            Verdict::Failed(findings) => {
                let first = findings.first().map_or("a check", |f| f.check.as_str());
                (false, Some(format!("the landing check `{first}` already fails on the base")))
            }
            Verdict::Errored(why) => {
                let reason = format!("nothing can be judged, so nothing is begun: {why}");
                self.halt(Halt::Base, reason);
                return;
            }
        };
        self.run(RunEventKind::BaseVerified { passed, results: checks.results });
        if let (Some(problem), true) = (problem, self.policy.base_must_pass) {
            self.halt(Halt::Base, problem);
        }
    }

    fn halt(&mut self, halt: Halt, reason: String) {
        self.run(RunEventKind::Halted { halt, reason });
    }

    fn asked(&mut self, request: Request) {
        let active = self.state.phase != RunPhase::Cancelled;
        match request {
            Request::Retry(task) => {
                let phase = self.state.tasks.get(&task).map(|s| s.phase.clone());
                let whole = !self.state.split.contains_key(&task);
                if active && whole && matches!(phase, Some(Phase::Failed | Phase::Skipped)) {
                    self.retry(&task, RetryReason::Manual, self.now, None);
                }
            }
            Request::Reconsider(task) => {
                let Some(state) = self.state.tasks.get(&task).cloned() else { return };
                if let (true, Phase::Failed, Some(candidate)) =
                    (active, &state.phase, state.candidate.clone())
                {
                    let attempt = state.attempt;
                    let termination = Termination::Exited(0);
                    self.task(
                        &task,
                        TaskEventKind::Ended {
                            attempt,
                            termination,
                            candidate: Some(candidate),
                            report: None,
                        },
                    );
                }
            }
            Request::Skip { task, message } => {
                if self.state.tasks.get(&task).is_some_and(|s| {
                    matches!(
                        s.phase,
                        Phase::Todo
                            | Phase::Running
                            | Phase::Verifying
                            | Phase::Reviewing
                            | Phase::Queued
                            | Phase::Failed
                    )
                }) {
                    self.task(&task, TaskEventKind::Skipped { message });
                }
            }
            Request::Approve { task, commit, by } => {
                let state = self.reviewable(&task, Some(&commit));
                if let Some(state) = state.filter(|s| active && s.phase == Phase::Reviewing) {
                    self.reviewed(&task, &state, ReviewDecision::Approve { by });
                }
            }
            Request::RequestChanges { task, commit, by, message } => {
                if let Some(state) = self.reviewable(&task, Some(&commit)).filter(|_| active) {
                    self.reviewed(&task, &state, ReviewDecision::RequestChanges { by, message });
                }
            }
            Request::Stop(reason) => {
                if self.state.phase == RunPhase::Active && !self.state.ended() {
                    self.run(RunEventKind::Paused(reason));
                }
            }
            Request::Resume => {
                if active {
                    self.resumed();
                }
            }
            Request::Cancel => {
                if active {
                    self.run(RunEventKind::Cancelled);
                }
            }
        }
    }
}
