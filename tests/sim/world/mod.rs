//! A simulated world for a run: keepers that outlive the supervisor, checks, a target branch,
//! people and crashes.

mod coverage;
mod disturbances;
mod effects;
mod invariants;

use std::collections::{BTreeMap, BTreeSet};

use git_harness::domain::event::{RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use git_harness::domain::id::{Oid, RunId, TaskId, Timestamp};
use git_harness::domain::machine::{Decision, Effect, Observation, decide};
use git_harness::domain::plan::Plan;
use git_harness::domain::retry::Policy;
use git_harness::domain::state::RunState;
use git_harness::domain::verdict::Candidate;

use crate::chains::SimulatedChains;
use crate::choices::Choices;
use crate::oracle::OracleContext;
use crate::oracle::run::RunOracle;
use crate::outcomes::{self, DefaultOutcome, SimulatedAgent, UsageTotal};

/// A commit on the target.
#[derive(Debug, Clone)]
struct SimulatedCommit {
    id: Oid,
    /// The task that the commit lands, or `None` for a commit of somebody else.
    task: Option<TaskId>,
}

/// The world and the state of the machine and of the oracle in it.
pub(crate) struct RunWorld {
    choices: Choices,
    default_outcome: DefaultOutcome,
    policy: Policy,
    pub state: RunState,
    now: Timestamp,
    chains: SimulatedChains,
    oracle: RunOracle,
    /// The plan at the creation of the run.
    plan: Plan,
    agent: SimulatedAgent,
    /// The computer that the supervisor runs on.
    owner: String,
    /// The session of every attempt, if the harness assigned one.
    attempt_sessions: BTreeMap<(TaskId, u32), Option<String>>,
    /// The total use of every session.
    session_usage: BTreeMap<String, UsageTotal>,
    /// Attempts whose session the service answered before its end.
    answered: BTreeSet<(TaskId, u32)>,
    /// The start of every task's last evaluation.
    evaluation_starts: BTreeMap<TaskId, Timestamp>,
    /// True if the decisions on the last observation were only partly written.
    torn_write: bool,
    /// True if a write was ever torn.
    had_torn_write: bool,
    /// The effects that the supervisor carries out. A crash forgets them.
    in_flight: BTreeSet<Effect>,
    /// Every attempt that ever started, with the observation that its keeper published.
    published: BTreeMap<(TaskId, u32), Option<Observation>>,
    /// All observations so far.
    observations: Vec<Observation>,
    /// All candidates: task, attempt, candidate, and true if the candidate changes files.
    candidates: Vec<(TaskId, u32, Candidate, bool)>,
    target: Vec<SimulatedCommit>,
    /// Trees that have passed the landing checks.
    passed_trees: BTreeSet<Oid>,
    ids: u64,
    step_count: usize,
}

impl RunWorld {
    pub(crate) fn new(
        plan: Plan,
        policy: Policy,
        paused: bool,
        default: DefaultOutcome,
        choices: Choices,
    ) -> Self {
        let agent = SimulatedAgent { reports: true, takes_session_ids: true, cumulative: false };
        Self::with(plan, policy, paused, (default, agent), choices)
    }

    pub(crate) fn with(
        plan: Plan,
        policy: Policy,
        paused: bool,
        (default, agent): (DefaultOutcome, SimulatedAgent),
        choices: Choices,
    ) -> Self {
        let id = RunId::parse("sim-1").unwrap();
        let oracle = RunOracle::new(&plan, paused, &policy);
        let state = RunState::new(id, plan.clone());
        let mut world = Self {
            choices,
            default_outcome: default,
            policy,
            state,
            now: Timestamp(1_000_000),
            chains: SimulatedChains::default(),
            oracle,
            plan: plan.clone(),
            agent,
            owner: "here".into(),
            attempt_sessions: BTreeMap::new(),
            session_usage: BTreeMap::new(),
            answered: BTreeSet::new(),
            evaluation_starts: BTreeMap::new(),
            torn_write: false,
            had_torn_write: false,
            in_flight: BTreeSet::new(),
            published: BTreeMap::new(),
            observations: Vec::new(),
            candidates: Vec::new(),
            target: Vec::new(),
            passed_trees: BTreeSet::new(),
            ids: 0,
            step_count: 0,
        };
        let at = world.now;
        world.write(&Decision::Run(RunEvent { at, kind: RunEventKind::Created { paused } }));
        for task in &plan.tasks {
            let event = TaskEvent { at, kind: TaskEventKind::Created };
            world.write(&Decision::Task(task.id.clone(), event));
        }
        let base = world.oid();
        world.target.push(SimulatedCommit { id: base, task: None });
        world
    }

    fn write(&mut self, decision: &Decision) {
        self.chains.write(&mut self.state, decision);
    }

    /// Returns a new object id.
    fn oid(&mut self) -> Oid {
        self.ids += 1;
        Oid::parse(&format!("{:040x}", self.ids)).unwrap()
    }

    /// Lifts the run's budgets, as a person may.
    pub(crate) fn raise_budgets(&mut self) {
        (self.policy.tokens, self.policy.cost) = (None, None);
        self.observe(Observation::JobChanged(vec!["[limits]".into()]));
    }

    fn tip(&self) -> Oid {
        self.target.last().unwrap().id.clone()
    }

    /// Gives an observation to the machine and compares the decisions with the oracle. Returns true
    /// if the observation was recorded.
    pub(crate) fn observe(&mut self, observation: Observation) -> bool {
        let decisions = decide(&self.state, observation.clone(), self.now, &self.policy);
        let recorded = !decisions.is_empty();
        let before = self.state.clone();
        let torn = self.choose_torn_write(&decisions);
        for decision in &decisions {
            if !torn || matches!(decision, Decision::Run(_)) {
                self.write(decision);
            }
        }
        let tasks = torn.then(|| self.oracle.tasks.clone());
        let context = OracleContext { policy: &self.policy, now: self.now };
        if let Some(expected) = self.oracle.observe(&observation, context, &self.state) {
            assert_eq!(
                recorded, expected,
                "is it recorded: {observation:?}\nin {before:?}\n{decisions:?}"
            );
        }
        if let (Observation::Dispatched { .. }, true) = (&observation, recorded) {
            self.check_dispatch(&observation);
        }
        self.observations.push(observation);
        if let Some(tasks) = tasks {
            self.oracle.tasks.extend(tasks);
            self.crash();
            (self.torn_write, self.had_torn_write) = (true, true);
        }
        self.oracle.compare(&self.state, &self.policy);
        self.check_index();
        self.check_owed();
        recorded && !torn
    }

    /// Chooses whether the computer loses power after the run's chain has moved and before the
    /// task's chain moves. Git updates the refs of one transaction one after the other.
    fn choose_torn_write(&mut self, decisions: &[Decision]) -> bool {
        let of_run = decisions.iter().filter(|d| matches!(d, Decision::Run(_))).count();
        let both = of_run > 0 && of_run < decisions.len();
        self.torn_write = false;
        both && !self.choices.exhausted() && self.choices.below(6) == 5
    }

    /// Takes one step. Returns false if nothing is left to do.
    pub(crate) fn step(&mut self) -> bool {
        self.step_count += 1;
        let action = if self.choices.exhausted() { 0 } else { self.choices.below(20) };
        match action {
            // Skip to the end of a pause while agents still run.
            12 => self.now = self.oracle.next_wake(self.now).unwrap_or(self.now),
            13 => {
                let sections = vec![outcomes::text(&mut self.choices)];
                self.observe(Observation::JobChanged(sections));
            }
            14 => self.crash(),
            15 => self.repeat_observation(),
            16 => self.inject_stale_observation(),
            17 | 18 => self.act_as_person(),
            19 => self.now = self.now.after_ms(700),
            _ => return self.carry_out_effect(),
        }
        true
    }

    /// Simulates a crash: a new supervisor loads the chains and observes the target.
    fn crash(&mut self) {
        self.in_flight.clear();
        self.chains.compare(&self.state, &self.plan);
        self.state = self.chains.reload(&self.state.id, &self.plan);
        if !self.choices.exhausted() && self.choices.below(4) == 3 {
            // A clone of the repository on another computer takes over.
            self.owner = if self.owner == "here" { "there" } else { "here" }.into();
        }
        let contained: Vec<_> =
            self.target.iter().filter_map(|c| Some((c.task.clone()?, c.id.clone()))).collect();
        for (task, commit) in contained {
            self.observe(Observation::Landed { task, commit, results: Vec::new() });
        }
    }

    /// Returns true if the disturbances have ended.
    pub(crate) fn is_calm(&self) -> bool {
        self.choices.exhausted()
    }
}
