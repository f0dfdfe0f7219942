//! The state machine: what an observation means, and what is owed next.
//!
//! Observations may be late, doubled or stale; `decide` looks at the state again and gives no events for what no longer
//! matters. `owed` is level-triggered: it depends on the state alone, so recovery is calling it again.

use super::event::{Ending, RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use super::id::{Oid, TaskId, Timestamp};
use super::retry::{Layer, Policy, backoff_ms};
use super::state::{Phase, RunPhase, RunState, TaskState};
use super::verdict::{Candidate, CheckResult, Finding, Judgement, Verdict};

/// Something that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The landing checks were run on the base.
    BaseJudged(Verdict),
    /// A slot is ready to be claimed for a task's next attempt.
    Dispatched {
        /// The task.
        task: TaskId,
        /// Its next attempt's number.
        attempt: u32,
        /// The target's tip.
        base: Oid,
        /// The slot.
        place: String,
        /// The repository and machine.
        owner: String,
    },
    /// An attempt is over.
    AttemptEnded {
        /// The task.
        task: TaskId,
        /// Which attempt.
        attempt: u32,
        /// How.
        ending: Ending,
        /// What it left, as a commit.
        candidate: Option<Candidate>,
        /// Whether that differs from the base.
        changed: bool,
    },
    /// An attempt never began: no supervisor got as far as starting its keeper.
    NeverBegan {
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
        verdict: Verdict,
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
    },
    /// The tree that would land was judged.
    LandingJudged {
        /// The task.
        task: TaskId,
        /// The candidate commit.
        candidate: Oid,
        /// The merged tree.
        tree: Oid,
        /// What was said.
        verdict: Verdict,
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
    /// A person asked for something.
    Asked(Request),
}

/// What a person can ask of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Dispatch a failed or skipped task again, with all budgets new.
    Retry(TaskId),
    /// Take a task out.
    Skip(TaskId, String),
    /// A person had the checks of an ended task's candidate run again, and they passed: take it up once more.
    Reconsider(TaskId),
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
    JudgeBase,
    /// Find out what becomes of a running attempt.
    Await(TaskId, u32),
    /// Judge a candidate.
    Verify(TaskId, u32),
    /// Bring an accepted candidate onto the target.
    Land(TaskId),
    /// Begin a new attempt with this number.
    Start(TaskId, u32),
}

struct Decider<'a> {
    state: &'a RunState,
    now: Timestamp,
    policy: &'a Policy,
    decisions: Vec<Decision>,
}

/// What an observation means in a state: the events to journal, possibly none.
#[must_use]
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
            Observation::BaseJudged(verdict) => self.base_judged(verdict),
            Observation::Dispatched { task, attempt, base, place, owner } => {
                let Some(state) = self.state.tasks.get(&task) else { return };
                let due = owed_start(self.state, self.policy, self.now);
                if state.attempt + 1 == attempt && due.contains(&(task.clone(), attempt)) {
                    self.task(&task, TaskEventKind::Started { attempt, base, place, owner });
                }
            }
            Observation::AttemptEnded { task, attempt, ending, candidate, changed } => {
                if let Some(state) = self.running(&task, attempt) {
                    self.attempt_ended(&task, &state, ending, candidate, changed);
                }
            }
            Observation::NeverBegan { task, attempt } => {
                if self.running(&task, attempt).is_some() {
                    self.retry(&task, Layer::Interrupted, self.now, None);
                }
            }
            Observation::Verified { task, attempt, tree, verdict } => {
                let Some(state) = self.state.tasks.get(&task).cloned() else { return };
                let same = state.candidate.as_ref().is_some_and(|c| c.tree == tree);
                if state.phase == Phase::Verifying
                    && state.attempt == attempt
                    && same
                    && self.due(&state)
                {
                    self.judged(&task, &state, tree, verdict, false);
                }
            }
            Observation::LandingConflict { task, candidate, onto, paths } => {
                if let Some(state) = self.queued(&task, &candidate) {
                    self.conflicted(&task, &state, onto, &paths);
                }
            }
            Observation::LandingJudged { task, candidate, tree, verdict } => {
                if let Some(state) = self.queued(&task, &candidate).filter(|s| self.due(s)) {
                    self.judged(&task, &state, tree, verdict, true);
                }
            }
            Observation::Landed { task, commit, results } => {
                let done = self.state.tasks.get(&task).is_none_or(|s| s.phase == Phase::Done);
                if !done {
                    self.task(&task, TaskEventKind::Landed { commit, results });
                }
            }
            Observation::Asked(request) => self.asked(request),
        }
    }

    fn running(&self, task: &TaskId, attempt: u32) -> Option<TaskState> {
        let state = self.state.tasks.get(task)?;
        (state.phase == Phase::Running && state.attempt == attempt).then(|| state.clone())
    }

    fn queued(&self, task: &TaskId, candidate: &Oid) -> Option<TaskState> {
        let state = self.state.tasks.get(task)?;
        let same = state.candidate.as_ref().is_some_and(|c| c.commit == *candidate);
        (state.phase == Phase::Queued && same).then(|| state.clone())
    }

    /// Whether a judgement can be news. During a pause after a fault nobody judges: what comes then was said before it.
    fn due(&self, state: &TaskState) -> bool {
        state.not_before <= self.now
    }

    fn base_judged(&mut self, verdict: Verdict) {
        if self.state.base_passed.is_some() || self.state.phase == RunPhase::Cancelled {
            return;
        }
        let (passed, problem) = match verdict.judgement {
            Judgement::Accepted => (true, None),
            Judgement::Rejected(findings) => {
                let first = findings.first().map_or("a check", |f| f.check.as_str());
                (false, Some(format!("the landing check `{first}` already fails on the base")))
            }
            Judgement::Inconclusive(why) => {
                self.run(RunEventKind::Halted(format!(
                    "the landing checks could not be run on the base: {why}"
                )));
                return;
            }
        };
        self.run(RunEventKind::BaseJudged { passed, results: verdict.results });
        if let (Some(problem), true) = (problem, self.policy.base_must_pass) {
            self.run(RunEventKind::Halted(problem));
        }
    }

    fn attempt_ended(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        ending: Ending,
        candidate: Option<Candidate>,
        changed: bool,
    ) {
        let attempt = state.attempt;
        let tree = candidate.as_ref().map(|c| c.tree.clone());
        self.task(task, TaskEventKind::Ended { attempt, ending: ending.clone(), candidate });
        match (&ending, tree) {
            (Ending::Stopped, _) => self.retry(task, Layer::Interrupted, self.now, None),
            (Ending::NotStarted(why), _) => self.fault(task, state, why),
            (Ending::Lost, _) => self.fault(task, state, "the keeper of the attempt died"),
            (_, None) => self.fault(task, state, "what the attempt left could not be saved"),
            (_, Some(tree)) if !changed && !self.policy.allow_empty => {
                let text = format!(
                    "The attempt changed nothing (its agent ended with: {ending}). Doing nothing is not success: \
                     the task asks for a change in its files."
                );
                let finding = Finding { attempt, check: "agent".into(), text };
                self.rejected(task, state, tree, vec![finding], Vec::new(), false);
            }
            // How the process ended decides nothing more: the checks do.
            (_, Some(_)) => {}
        }
    }

    fn judged(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        tree: Oid,
        verdict: Verdict,
        landing: bool,
    ) {
        let results = verdict.results;
        match verdict.judgement {
            Judgement::Accepted => self.task(
                task,
                TaskEventKind::Judged {
                    attempt: state.attempt,
                    tree,
                    findings: None,
                    results,
                    landing,
                },
            ),
            Judgement::Rejected(mut findings) => {
                let smooth = state.ending.as_deref().is_none_or(|e| e == "exit 0");
                if let (false, false, Some(ending)) = (landing, smooth, &state.ending) {
                    let text = format!(
                        "The agent of this attempt did not end by itself with success: {ending}."
                    );
                    let agent = Finding { attempt: state.attempt, check: "agent".into(), text };
                    findings.insert(0, agent);
                }
                self.rejected(task, state, tree, findings, results, landing);
            }
            Judgement::Inconclusive(why) => self.fault(task, state, &why),
        }
    }

    fn rejected(
        &mut self,
        task: &TaskId,
        state: &TaskState,
        tree: Oid,
        findings: Vec<Finding>,
        results: Vec<CheckResult>,
        landing: bool,
    ) {
        let names: Vec<_> = findings.iter().map(|f| format!("`{}`", f.check)).collect();
        let attempt = state.attempt;
        let findings = Some(findings);
        self.task(task, TaskEventKind::Judged { attempt, tree, findings, results, landing });
        if state.rejections + 1 > self.policy.feedback {
            let reason = format!("{} not passed in the last attempt", names.join(", "));
            self.task(task, TaskEventKind::Failed { reason });
        } else {
            self.retry(task, Layer::Feedback, self.now, None);
        }
    }

    fn conflicted(&mut self, task: &TaskId, state: &TaskState, onto: Oid, paths: &[String]) {
        let list: String = paths.iter().map(|p| format!("- `{p}`\n")).collect();
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
            self.task(task, TaskEventKind::Failed { reason });
        } else {
            self.retry(task, Layer::Feedback, self.now, None);
        }
    }

    fn fault(&mut self, task: &TaskId, state: &TaskState, because: &str) {
        let fault = state.faults + 1;
        if fault > self.policy.infra {
            let reason = format!("infrastructure, {fault} times in a row: {because}");
            self.task(task, TaskEventKind::Failed { reason });
        } else {
            let not_before = self.now.after_ms(backoff_ms(fault));
            self.retry(task, Layer::Infra, not_before, Some(because.to_owned()));
        }
    }

    fn retry(&mut self, task: &TaskId, layer: Layer, not_before: Timestamp, why: Option<String>) {
        self.task(task, TaskEventKind::Retried { layer, not_before, because: why });
    }

    fn asked(&mut self, request: Request) {
        let active = self.state.phase != RunPhase::Cancelled;
        match request {
            Request::Retry(task) => {
                let phase = self.state.tasks.get(&task).map(|s| s.phase.clone());
                if active && matches!(phase, Some(Phase::Failed | Phase::Skipped)) {
                    self.retry(&task, Layer::Manual, self.now, None);
                }
            }
            Request::Reconsider(task) => {
                let Some(state) = self.state.tasks.get(&task).cloned() else { return };
                if let (true, Phase::Failed, Some(candidate)) =
                    (active, &state.phase, state.candidate.clone())
                {
                    let attempt = state.attempt;
                    let ending = Ending::Exited(0);
                    let candidate = Some(candidate);
                    self.task(&task, TaskEventKind::Ended { attempt, ending, candidate });
                }
            }
            Request::Skip(task, message) => {
                if self.state.tasks.get(&task).is_some_and(|s| {
                    matches!(
                        s.phase,
                        Phase::Todo
                            | Phase::Running
                            | Phase::Verifying
                            | Phase::Queued
                            | Phase::Failed
                    )
                }) {
                    self.task(&task, TaskEventKind::Skipped { message });
                }
            }
            Request::Stop(reason) => {
                if self.state.phase == RunPhase::Active && !self.state.ended() {
                    self.run(RunEventKind::Paused(reason));
                }
            }
            Request::Resume => {
                if matches!(self.state.phase, RunPhase::Paused | RunPhase::Halted) {
                    self.run(RunEventKind::Resumed);
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

/// The attempts that may begin now, in plan order, as many as there are free slots.
fn owed_start(state: &RunState, policy: &Policy, now: Timestamp) -> Vec<(TaskId, u32)> {
    let base_ready = match state.base_passed {
        None => false,
        Some(passed) => passed || !policy.base_must_pass,
    };
    if state.phase != RunPhase::Active || !base_ready {
        return Vec::new();
    }
    let free = policy.jobs.saturating_sub(state.count(&Phase::Running));
    let due = |task: &&super::plan::Task| {
        state.tasks.get(&task.id).is_some_and(|s| {
            s.phase == Phase::Todo && s.not_before <= now && state.unblocked(&task.after)
        })
    };
    let number = |task: &super::plan::Task| {
        let last = state.tasks.get(&task.id).map_or(0, |s| s.attempt);
        (task.id.clone(), last + 1)
    };
    state.plan.tasks.iter().filter(due).take(free).map(number).collect()
}

/// Everything that is owed in a state, in the order in which it should be begun: what frees resources first.
#[must_use]
pub fn owed(state: &RunState, now: Timestamp, policy: &Policy) -> Vec<Effect> {
    let mut effects = Vec::new();
    let cancelled = state.phase == RunPhase::Cancelled;
    if state.base_passed.is_none() && state.phase == RunPhase::Active && !state.ended() {
        effects.push(Effect::JudgeBase);
    }
    let mut verify = Vec::new();
    for task in &state.plan.tasks {
        let Some(s) = state.tasks.get(&task.id) else { continue };
        let due = s.not_before <= now && !cancelled;
        match s.phase {
            Phase::Running => effects.push(Effect::Await(task.id.clone(), s.attempt)),
            Phase::Queued if due => effects.push(Effect::Land(task.id.clone())),
            Phase::Verifying if due => verify.push(Effect::Verify(task.id.clone(), s.attempt)),
            Phase::Queued | Phase::Verifying => {}
            Phase::Todo | Phase::Done | Phase::Failed | Phase::Skipped => {}
        }
    }
    effects.extend(verify);
    let start = owed_start(state, policy, now);
    effects.extend(start.into_iter().map(|(task, attempt)| Effect::Start(task, attempt)));
    effects
}

/// The earliest moment after `now` at which more may be owed without anything being seen.
#[must_use]
pub fn next_wake(state: &RunState, now: Timestamp) -> Option<Timestamp> {
    let waits = |s: &&TaskState| !s.phase.ended() && s.not_before > now;
    state.tasks.values().filter(waits).map(|s| s.not_before).min()
}
