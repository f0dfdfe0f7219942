//! Whole runs in simulated worlds: every run ends, and every invariant holds at every step.

use std::collections::{BTreeMap, BTreeSet};

use git_harness::domain::account::AgentName;
use git_harness::domain::event::Halt;
use git_harness::domain::id::{RunId, TaskId, Timestamp};
use git_harness::domain::machine::{Observation, Request, owed};
use git_harness::domain::plan::{Plan, Task};
use git_harness::domain::retry::{Policy, RetryReason, Share};
use git_harness::domain::session::{Class, Cost};
use git_harness::domain::state::{Phase, RunPhase, RunState};
use git_harness::domain::verdict::{CheckReport, Verdict};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::choices::Choices;
use crate::outcomes::{DEFAULT_OUTCOMES, DefaultOutcome, SimulatedAgent};
use crate::world::RunWorld;

/// An upper limit of steps after the disturbances have ended.
const MAX_CALM_STEPS: usize = 6_000;
/// The number of times that a person resumes a run whose agent or account fails.
const MAX_RESUMES: u32 = 3;

fn plan(tasks: usize, chained: bool) -> Plan {
    let name = |n: usize| TaskId::parse(&format!("t{n}")).unwrap();
    let task = |n: usize| Task {
        id: name(n),
        files: (0..=n % 4).map(|part| format!("src/{n}.{part}.txt")).collect(),
        after: match (chained, n) {
            (true, 5) => vec![name(3), name(4)],
            (true, n) if n % 3 == 2 => vec![name(n - 1)],
            (true, 3) => vec![name(2)],
            (_, _) => Vec::new(),
        },
        lines: 1,
        tokens: 1,
        level: 0,
        vars: String::new(),
    };
    Plan { tasks: (0..tasks).map(task).collect() }
}

/// A policy without a limit on failures and without redispatches.
fn without_outer_layer() -> Policy {
    Policy { redispatch: 0, halt_above: Share(1_000_000), ..Policy::default() }
}

fn policy() -> impl Strategy<Value = Policy> {
    let numbers = (1usize..5, 0u32..4, 0u32..4, 0u32..3, 0u32..3);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0u8..4);
    let evaluation = (any::<bool>(), 1u32..4, any::<bool>());
    let limit = |most: u64| proptest::option::of(1..most);
    let budgets = (limit(300), limit(60), limit(600), limit(150));
    let shares = (0u32..=10, 0u32..=10, 1usize..6);
    (numbers, flags, budgets, shares, evaluation).prop_map(
        |(numbers, flags, budgets, shares, evaluation)| {
            let (jobs, feedback, infra, resume, redispatch) = numbers;
            let (allow_empty, base_must_pass, resumable, probe, keep_going, report) = flags;
            let (tokens, tokens_per_task, cost, cost_per_task) = budgets;
            let (below, above, halt_after) = shares;
            Policy {
                jobs,
                verifications: jobs,
                resumable,
                probe,
                resume,
                feedback,
                from_candidate: infra % 2 == 0,
                infra,
                redispatch,
                redispatch_below: Share(below * 100_000),
                halt_above: Share(above * 100_000),
                halt_after,
                tokens,
                tokens_per_task,
                cost: cost.map(Cost),
                cost_per_task: cost_per_task.map(Cost),
                // An empty report is not allowed.
                allow_empty: allow_empty && report > 0,
                base_must_pass,
                report: report == 0,
                keep_going,
                only: BTreeSet::new(),
                evaluates: evaluation.0,
                rounds: evaluation.1,
                shared_account: true,
                agent: AgentName::default(),
                evaluator: AgentName::default(),
                review: evaluation.2,
            }
        },
    )
}

fn agent() -> impl Strategy<Value = SimulatedAgent> {
    (0u8..8).prop_map(|n| SimulatedAgent {
        reports: n > 0,
        takes_session_ids: n % 2 == 0,
        cumulative: n % 4 > 1,
    })
}

/// Runs a world until nothing is left to do, and checks the end.
fn run_to_end(world: &mut RunWorld) {
    let (mut calm_steps, mut resumes) = (0, 0);
    loop {
        let more = world.step();
        if world.is_calm() {
            calm_steps += 1;
            assert!(calm_steps < MAX_CALM_STEPS, "the run does not end: {:?}", world.state);
        }
        if more || !world.is_calm() {
            continue;
        }
        // A person reviews the waiting candidates and resumes a stopped run.
        if world.state.tasks.values().any(|t| t.phase == Phase::Reviewing) && world.review() {
            continue;
        }
        if matches!(world.state.phase, RunPhase::Paused | RunPhase::Halted) {
            world.check_end();
            // A run whose agent or account never works is abandoned.
            let is_hopeless = matches!(world.state.halt, Some(Halt::Agent | Halt::Account));
            resumes += u32::from(is_hopeless);
            if resumes > MAX_RESUMES {
                break;
            }
            world.raise_budgets();
            assert!(world.observe(Observation::Requested(Request::Resume)));
            continue;
        }
        break;
    }
    world.check_end();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_run_ends_and_keeps_the_invariants(
        numbers in proptest::collection::vec(any::<u16>(), 0..260),
        tasks in 1usize..9,
        chained in any::<bool>(),
        paused in any::<bool>(),
        default in 0usize..DEFAULT_OUTCOMES.len(),
        policy in policy(),
        agent in agent(),
    ) {
        let choices = Choices::new(numbers);
        let plan = plan(tasks, chained);
        let defaults = (DEFAULT_OUTCOMES[default], agent);
        let mut world = RunWorld::with(plan, policy, paused, defaults, choices);
        run_to_end(&mut world);
    }
}

/// The invariants are worth nothing in worlds where nothing happens.
#[test]
fn simulated_worlds_cover_all_retries_halts_and_session_classes() {
    let numbers = proptest::collection::vec(any::<u16>(), 0..260);
    let worlds = (numbers, 1usize..9, any::<bool>(), 0..DEFAULT_OUTCOMES.len(), policy(), agent());
    let mut runner = TestRunner::deterministic();
    let mut times_by_situation = BTreeMap::new();
    for _ in 0..500 {
        let tree = worlds.new_tree(&mut runner).unwrap();
        let (numbers, tasks, chained, default, policy, agent) = tree.current();
        let (plan, choices) = (plan(tasks, chained), Choices::new(numbers));
        let mut world =
            RunWorld::with(plan, policy, false, (DEFAULT_OUTCOMES[default], agent), choices);
        run_to_end(&mut world);
        for situation in world.coverage() {
            *times_by_situation.entry(situation).or_insert(0) += 1;
        }
    }
    let retries = RetryReason::ALL.map(|reason| format!("retried: {reason}"));
    let classes = Class::ALL.map(|class| format!("ended: {class}"));
    let halts = Halt::ALL.map(|halt| format!("halted: {}", halt.as_str()));
    let others = [
        "session resumed",
        "canary after failures",
        "fewer slots",
        "account proven by an answer",
        "split",
        "split again",
        "torn write",
        "skipped while running",
        "over its budget",
        "job changed",
        "evaluation passed",
        "evaluation failed",
        "evaluation errored",
        "approved",
        "changes requested",
        "revised",
    ];
    let others = others.map(str::to_owned);
    for situation in retries.iter().chain(&classes).chain(&halts).chain(&others) {
        let times = times_by_situation.get(situation).copied().unwrap_or(0);
        assert!(times >= 5, "`{situation}` in {times} of 500 worlds: {times_by_situation:#?}");
    }
}

#[test]
fn every_task_lands_at_its_first_attempt_without_disturbances() {
    let policy = Policy {
        jobs: 2,
        verifications: 2,
        feedback: 0,
        infra: 0,
        allow_empty: false,
        base_must_pass: true,
        ..without_outer_layer()
    };
    let mut world = RunWorld::new(
        plan(7, true),
        policy,
        false,
        DefaultOutcome::Success,
        Choices::new(Vec::new()),
    );
    run_to_end(&mut world);
    assert!(world.state.tasks.values().all(|t| t.attempt == 1 && t.landed.is_some()));
}

#[test]
fn failing_base_that_must_pass_prevents_starts() {
    let policy = |base_must_pass| Policy {
        jobs: 2,
        verifications: 2,
        feedback: 0,
        infra: 0,
        allow_empty: false,
        base_must_pass,
        ..without_outer_layer()
    };
    let mut state = RunState::new(RunId::parse("sim-1").unwrap(), plan(2, false));
    state.base_passed = Some(false);
    assert_eq!(owed(&state, Timestamp(0), &policy(true)), []);
    assert_eq!(owed(&state, Timestamp(0), &policy(false)).len(), 2);
}

#[test]
fn late_base_verdict_does_not_resume_a_cancelled_run() {
    let policy = Policy {
        jobs: 1,
        verifications: 1,
        feedback: 0,
        infra: 0,
        allow_empty: false,
        base_must_pass: true,
        ..without_outer_layer()
    };
    let mut world = RunWorld::new(
        plan(1, false),
        policy,
        false,
        DefaultOutcome::Success,
        Choices::new(Vec::new()),
    );
    assert!(world.observe(Observation::Requested(Request::Cancel)));
    let verdict = Verdict::Errored("too late".into());
    let checks = CheckReport { verdict, results: Vec::new() };
    assert!(!world.observe(Observation::BaseVerified(checks)));
    run_to_end(&mut world);
}
