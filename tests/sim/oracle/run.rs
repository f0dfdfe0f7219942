//! The oracle for a run: which observations change the state, and how.

use std::collections::{BTreeMap, BTreeSet};

use git_harness::domain::event::Halt;
use git_harness::domain::id::TaskId;
use git_harness::domain::machine::{Observation, Request};
use git_harness::domain::plan::{Plan, Task};
use git_harness::domain::retry::Policy;
use git_harness::domain::session::{Class, SessionReport};
use git_harness::domain::state::{RunPhase, RunState};
use git_harness::domain::verdict::{CheckReport, Verdict};

use super::OracleContext;
use super::account::AccountOracle;
use super::failures::FailureOracle;
use super::task::{OracleStage, RunConsequence, TaskOracle};

/// The number of consecutive refusals of the service that a run tolerates.
const MAX_REFUSALS: u32 = 20;

/// A task of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedTask {
    pub id: TaskId,
    pub files: Vec<String>,
    pub after: BTreeSet<TaskId>,
}

impl PlannedTask {
    fn new(task: &Task) -> Self {
        Self {
            id: task.id.clone(),
            files: task.files.clone(),
            after: task.after.iter().cloned().collect(),
        }
    }
}

/// The state of a run.
#[derive(Debug, Clone)]
pub(crate) struct RunOracle {
    pub plan: Vec<PlannedTask>,
    pub tasks: BTreeMap<TaskId, TaskOracle>,
    /// The tasks that were split, with their parts.
    pub split_tasks: BTreeMap<TaskId, [TaskId; 2]>,
    pub account: AccountOracle,
    pub failures: FailureOracle,
    pub phase: RunPhase,
    /// The reason why the run halted by itself.
    pub halt: Option<Halt>,
    /// The verdict on the base, if there is one.
    pub base_passed: Option<bool>,
}

impl RunOracle {
    pub(crate) fn new(plan: &Plan, paused: bool, policy: &Policy) -> Self {
        Self {
            plan: plan.tasks.iter().map(PlannedTask::new).collect(),
            tasks: plan.tasks.iter().map(|t| (t.id.clone(), TaskOracle::default())).collect(),
            split_tasks: BTreeMap::new(),
            account: AccountOracle::new(policy),
            failures: FailureOracle::default(),
            phase: if paused { RunPhase::Paused } else { RunPhase::Active },
            halt: None,
            base_passed: None,
        }
    }

    /// Returns the number of tasks in a stage.
    pub(super) fn count(&self, stage: &OracleStage) -> usize {
        self.tasks.values().filter(|task| task.stage == *stage).count()
    }

    /// Returns true if all tasks have ended.
    pub(crate) fn all_ended(&self) -> bool {
        self.tasks.values().all(|task| task.phase().ended())
    }

    /// Records an observation. Returns true if the machine must record an event for it, and `None`
    /// if the oracle does not decide that. The simulated world itself checks dispatches.
    ///
    /// `actual` is the machine's state after the observation.
    pub(crate) fn observe(
        &mut self,
        observation: &Observation,
        context: OracleContext<'_>,
        actual: &RunState,
    ) -> Option<bool> {
        match observation {
            Observation::Dispatched { .. } => None,
            Observation::BaseVerified(checks) => Some(self.base_verified(checks, context.policy)),
            Observation::JobChanged(_) => Some(true),
            Observation::RedispatchDue => {
                let due = self.due_redispatches(context.policy);
                for id in &due {
                    let task = self.tasks.get_mut(id).unwrap();
                    task.reset(context);
                    task.redispatches += 1;
                }
                Some(!due.is_empty())
            }
            Observation::ServiceAnswered { task, attempt } => {
                let task = self.tasks.get(task)?;
                let runs = task.stage == OracleStage::Running && task.attempt == *attempt;
                Some(runs && self.account.answered_while_running(task.started))
            }
            Observation::Requested(Request::Stop(_)) => {
                let stops = self.phase == RunPhase::Active && !self.all_ended();
                if stops {
                    self.phase = RunPhase::Paused;
                }
                Some(stops)
            }
            Observation::Requested(Request::Resume) => self.resume(context.policy),
            Observation::Requested(Request::OpenAccount(_)) => Some(false),
            Observation::Requested(Request::Cancel) => {
                let changes = self.phase != RunPhase::Cancelled;
                self.phase = RunPhase::Cancelled;
                Some(changes)
            }
            Observation::AttemptEnded { task, .. }
            | Observation::NeverStarted { task, .. }
            | Observation::Verified { task, .. }
            | Observation::Evaluated { task, .. }
            | Observation::BranchMoved { task, .. }
            | Observation::LandingConflict { task, .. }
            | Observation::LandingVerified { task, .. }
            | Observation::Landed { task, .. }
            | Observation::Requested(
                Request::Retry(task)
                | Request::Reconsider(task)
                | Request::Skip { task, .. }
                | Request::Approve { task, .. }
                | Request::RequestChanges { task, .. },
            ) => {
                let before = self.tasks.get(task)?.stage.clone();
                let mut halts = Vec::new();
                let changes = self.observe_task(task, observation, context, actual, &mut halts);
                if before != OracleStage::Failed && self.tasks[task].stage == OracleStage::Failed {
                    let index = usize::from(halts.first() == Some(&Halt::Budget));
                    halts.splice(index..index, self.failure_halt(task, context.policy));
                }
                if let (Some(halt), RunPhase::Active) = (halts.last(), &self.phase) {
                    (self.phase, self.halt) = (RunPhase::Halted, Some(*halt));
                }
                Some(changes)
            }
        }
    }

    /// Returns the halt that the newly failed task causes, if it exceeds the limit on failures.
    fn failure_halt(&self, task: &TaskId, policy: &Policy) -> Option<Halt> {
        let failed: Vec<_> =
            self.tasks.values().filter(|other| other.stage == OracleStage::Failed).collect();
        let same_cause = failed.iter().all(|other| other.cause == self.tasks[task].cause);
        let landed = self.count(&OracleStage::Landed);
        let exceeded = self.failures.exceeded(landed, failed.len(), same_cause, policy);
        (exceeded && !self.all_ended()).then_some(Halt::Failures)
    }

    /// Records the verdict on the base. Returns true if the machine must record it too.
    fn base_verified(&mut self, checks: &CheckReport, policy: &Policy) -> bool {
        if self.base_passed.is_some() || self.phase == RunPhase::Cancelled {
            return false;
        }
        let halts = match checks.verdict {
            Verdict::Passed => false,
            Verdict::Failed(_) => policy.base_must_pass,
            Verdict::Errored(_) => true,
        };
        self.base_passed = match checks.verdict {
            Verdict::Passed => Some(true),
            Verdict::Failed(_) => Some(false),
            Verdict::Errored(_) => None,
        };
        if halts {
            (self.phase, self.halt) = (RunPhase::Halted, Some(Halt::Base));
        }
        true
    }

    /// Records a request to resume the run. A base that failed is verified again.
    ///
    /// Returns true if the machine must record an event, and `None` if the oracle does not know.
    fn resume(&mut self, policy: &Policy) -> Option<bool> {
        if self.phase == RunPhase::Cancelled {
            return Some(false);
        }
        if self.budget_exhausted(policy) {
            let failures = self.halt == Some(Halt::Failures);
            let halt = if failures { Halt::Failures } else { Halt::Budget };
            (self.phase, self.halt) = (RunPhase::Halted, Some(halt));
            // The machine records another halt only if the reason has changed.
            return None;
        }
        if self.phase == RunPhase::Active {
            return Some(false);
        }
        self.phase = RunPhase::Active;
        let halt = self.halt.take();
        if halt == Some(Halt::Failures) {
            self.failures
                .resumed(self.count(&OracleStage::Landed), self.count(&OracleStage::Failed));
        }
        if halt.is_some() {
            self.account.resumed();
        }
        self.base_passed = self.base_passed.filter(|passed| *passed);
        Some(true)
    }

    /// Records an observation of one task. Adds the halts that follow to `halts`. Returns true if
    /// the machine must record an event for the observation.
    fn observe_task(
        &mut self,
        id: &TaskId,
        observation: &Observation,
        context: OracleContext<'_>,
        actual: &RunState,
        halts: &mut Vec<Halt>,
    ) -> bool {
        let cancelled = self.phase == RunPhase::Cancelled;
        let split = self.split_tasks.contains_key(id);
        let no_work_yet = !self.tasks.values().any(TaskOracle::shows_work);
        let report_answers = |report: &Option<Box<SessionReport>>| {
            report.as_deref().is_some_and(SessionReport::answered)
        };
        let agent_answered = self.account.proven || self.tasks.values().any(|t| t.answered);
        let evaluator_answered = self.tasks.values().any(|t| t.evaluator_answered);
        let Some(task) = self.tasks.get_mut(id) else { return false };
        let stage = task.stage.clone();
        let due = task.not_before <= context.now;
        match (observation, &stage) {
            (
                Observation::AttemptEnded {
                    attempt, termination, candidate, changed, report, ..
                },
                stage,
            ) if *attempt == task.attempt && task.running.is_some() => {
                let answered = agent_answered || report_answers(report);
                let (report, started) = (report.as_deref(), task.started);
                task.close_attempt(termination, candidate.as_ref(), report);
                let mut consequence = RunConsequence::None;
                if *stage == OracleStage::Running && split {
                    task.stage = OracleStage::Skipped;
                } else if *stage == OracleStage::Running {
                    consequence = task.attempt_ended(
                        termination,
                        *changed,
                        report,
                        (no_work_yet, answered),
                        context,
                    );
                }
                if self.budget_exhausted(context.policy) {
                    halts.push(Halt::Budget);
                }
                match consequence {
                    RunConsequence::None => {}
                    RunConsequence::ServiceReported => {
                        let OracleContext { policy, now } = context;
                        let report = report.unwrap();
                        self.account.observe_report(report, started, now, policy, &actual.account);
                        let refused =
                            matches!(report.class, Class::RateLimited | Class::Overloaded);
                        if refused && self.account.refusals > MAX_REFUSALS {
                            halts.push(Halt::Account);
                        }
                    }
                    RunConsequence::AgentUnusable => halts.push(Halt::Agent),
                    RunConsequence::Split => self.split(id),
                }
                true
            }
            (Observation::NeverStarted { attempt, .. }, OracleStage::Running)
                if *attempt == task.attempt =>
            {
                if split {
                    task.stage = OracleStage::Skipped;
                } else {
                    (task.stage, task.running, task.not_before) =
                        (OracleStage::Waiting, None, context.now);
                }
                true
            }
            (
                Observation::Verified { attempt, tree, checks, .. },
                OracleStage::Verifying(candidate),
            ) if *attempt == task.attempt && *tree == candidate.tree && due => {
                task.verified(candidate, checks, false, context);
                true
            }
            (
                Observation::Evaluated {
                    attempt, tree, began, termination, verdict, report, ..
                },
                stage,
            ) if *attempt == task.attempt
                && task.under_evaluation.as_ref().is_some_and(|c| c.tree == *tree)
                && (matches!(stage, OracleStage::Evaluating(_)) || task.phase().ended()) =>
            {
                let answered = evaluator_answered || report_answers(report);
                let report = report.as_deref();
                let consequence = task.evaluated(verdict, termination, report, answered, context);
                if self.budget_exhausted(context.policy) {
                    halts.push(Halt::Budget);
                }
                let OracleContext { policy, now } = context;
                match (consequence, report) {
                    (RunConsequence::AgentUnusable, _) => halts.push(Halt::Agent),
                    (RunConsequence::ServiceReported, Some(report))
                        if matches!(verdict, Verdict::Errored(_)) =>
                    {
                        self.account.observe_report(report, *began, now, policy, &actual.account);
                        if self.account.refusals > MAX_REFUSALS {
                            halts.push(Halt::Account);
                        }
                    }
                    (RunConsequence::ServiceReported, _) => {
                        self.account.observe_answer(*began, policy);
                    }
                    (_, _) => {}
                }
                true
            }
            (
                Observation::LandingVerified { candidate: commit, checks, .. },
                OracleStage::Queued(candidate),
            ) if *commit == candidate.commit && due => {
                task.verified(candidate, checks, true, context);
                true
            }
            (
                Observation::LandingConflict { candidate: commit, .. },
                OracleStage::Queued(candidate),
            ) if *commit == candidate.commit => {
                task.conflict(context);
                true
            }
            (Observation::Landed { .. }, stage) if *stage != OracleStage::Landed => {
                task.stage = OracleStage::Landed;
                true
            }
            (
                Observation::Requested(Request::Approve { commit, .. }),
                OracleStage::Reviewing(candidate),
            ) if !cancelled && *commit == candidate.commit => {
                task.stage = OracleStage::Queued(candidate.clone());
                task.review.0 = Some(commit.clone());
                true
            }
            (
                Observation::Requested(Request::RequestChanges { commit, .. }),
                OracleStage::Reviewing(candidate) | OracleStage::Queued(candidate),
            ) if !cancelled && context.policy.review && *commit == candidate.commit => {
                task.changes_requested(context);
                true
            }
            (
                Observation::BranchMoved { candidate: new, .. },
                OracleStage::Reviewing(candidate) | OracleStage::Queued(candidate),
            ) if context.policy.review && new != candidate => {
                task.revise(new);
                true
            }
            (
                Observation::Requested(Request::Retry(_)),
                OracleStage::Failed | OracleStage::Skipped,
            ) if !cancelled && !split => {
                task.reset(context);
                task.budget.write_off();
                task.redispatches = 0;
                true
            }
            (Observation::Requested(Request::Reconsider(_)), OracleStage::Failed) if !cancelled => {
                let Some(candidate) = task.candidate.clone() else { return false };
                task.reconsidered += 1;
                (task.under_evaluation, task.review) = (None, (None, false));
                task.exited_cleanly = true;
                task.stage = OracleStage::Verifying(candidate);
                true
            }
            (Observation::Requested(Request::Skip { .. }), stage)
                if !matches!(stage, OracleStage::Landed | OracleStage::Skipped) =>
            {
                task.stage = OracleStage::Skipped;
                true
            }
            _ => false,
        }
    }

    /// Splits a task in two: its dependents then depend on both parts. A task of one file fails
    /// instead.
    fn split(&mut self, id: &TaskId) {
        let index = self.plan.iter().position(|task| task.id == *id).unwrap();
        let whole = self.plan[index].clone();
        if whole.files.len() < 2 {
            self.tasks.get_mut(id).unwrap().fail("context_exceeded");
            return;
        }
        let names = (1..).map(|n| TaskId::parse(&format!("{id}_part_{n}")).unwrap());
        let mut free = names.filter(|name| !self.tasks.contains_key(name));
        let part_ids = [free.next().unwrap(), free.next().unwrap()];
        for other in &mut self.plan {
            if other.after.remove(id) {
                other.after.extend(part_ids.clone());
            }
        }
        let half = whole.files.len() - whole.files.len() / 2;
        let (first, second) = whole.files.split_at(half);
        for (n, (id, files)) in part_ids.iter().zip([first, second]).enumerate() {
            let (id, files) = (id.clone(), files.to_vec());
            self.tasks.insert(id.clone(), TaskOracle::default());
            self.plan.insert(index + 1 + n, PlannedTask { id, files, after: whole.after.clone() });
        }
        self.split_tasks.insert(id.clone(), part_ids);
        self.tasks.get_mut(id).unwrap().stage = OracleStage::Skipped;
    }

    /// Compares this state with the machine's.
    pub(crate) fn compare(&self, state: &RunState, policy: &Policy) {
        assert_eq!(state.phase, self.phase, "{:?}", state.reason);
        assert_eq!(state.base_passed, self.base_passed);
        if self.phase == RunPhase::Halted {
            assert_eq!(state.halt, self.halt, "{:?}", state.reason);
        }
        self.account.compare(&state.account, policy);
        let plan: Vec<_> = state.tasks.planned().map(PlannedTask::new).collect();
        assert_eq!(plan, self.plan);
        assert_eq!(state.tasks.len(), self.tasks.len());
        for (id, task) in &self.tasks {
            task.compare(id, &state.tasks[id], policy);
        }
    }
}
