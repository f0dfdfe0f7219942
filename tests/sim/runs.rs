//! Whole runs: whatever the world does, they come to an end and keep their promises.

use std::collections::BTreeMap;

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

use crate::script::{MOODS, Mood, Program};
use crate::tape::Tape;
use crate::world::World;

/// More steps than any run of this size may need once the world is calm.
const BOUND: usize = 6_000;
/// How often a person lets a run go on whose agent or account is refused.
const PATIENCE: u32 = 3;

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

/// Neither halts nor an outer layer.
fn quiet() -> Policy {
    Policy { redispatch: 0, halt_above: Share(1_000_000), ..Policy::default() }
}

fn policy() -> impl Strategy<Value = Policy> {
    let numbers = (1usize..5, 0u32..4, 0u32..4, 0u32..3, 0u32..3);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0u8..4);
    let jury = (any::<bool>(), 1u32..4, any::<bool>());
    let some = |most: u64| proptest::option::of(1..most);
    let budgets = (some(300), some(60), some(600), some(150));
    let shares = (0u32..=10, 0u32..=10, 1usize..6);
    (numbers, flags, budgets, shares, jury).prop_map(|(numbers, flags, budgets, shares, jury)| {
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
            infra,
            redispatch,
            redispatch_below: Share(below * 100_000),
            halt_above: Share(above * 100_000),
            halt_after,
            tokens,
            tokens_per_task,
            cost: cost.map(Cost),
            cost_per_task: cost_per_task.map(Cost),
            // A report that may be nothing is none.
            allow_empty: allow_empty && report > 0,
            base_must_pass,
            report: report == 0,
            keep_going,
            evaluates: jury.0,
            rounds: jury.1,
            one_account: true,
            review: jury.2,
        }
    })
}

fn program() -> impl Strategy<Value = Program> {
    (0u8..8).prop_map(|n| Program { talks: n > 0, takes_ids: n % 2 == 0, cumulative: n % 4 > 1 })
}

fn carry_out(world: &mut World) {
    let (mut calm, mut asked) = (0, 0);
    loop {
        let more = world.step();
        if world.calm() {
            calm += 1;
            assert!(calm < BOUND, "the run does not end: {:?}", world.state);
        }
        if more || !world.calm() {
            continue;
        }
        // In the end a person reads what waits for that, and lets a run go on that waits for one.
        if world.state.tasks.values().any(|t| t.phase == Phase::Reviewing) && world.review() {
            continue;
        }
        if matches!(world.state.phase, RunPhase::Paused | RunPhase::Halted) {
            world.check_end();
            // Where nothing is ever put right, they give up.
            let in_vain = matches!(world.state.halt, Some(Halt::Agent | Halt::Account));
            asked += u32::from(in_vain);
            if asked > PATIENCE {
                break;
            }
            world.raise_budgets();
            assert!(world.tell(Observation::Requested(Request::Resume)));
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
    fn every_run_ends_and_keeps_its_promises(
        numbers in proptest::collection::vec(any::<u16>(), 0..260),
        tasks in 1usize..9,
        chained in any::<bool>(),
        paused in any::<bool>(),
        mood in 0usize..MOODS.len(),
        policy in policy(),
        program in program(),
    ) {
        let tape = Tape::new(numbers);
        let plan = plan(tasks, chained);
        let mut world = World::with(plan, policy, paused, (MOODS[mood], program), tape);
        carry_out(&mut world);
    }
}

/// What the worlds above go through, so that no promise is kept only because nothing happens.
#[test]
fn the_simulated_worlds_have_everything_in_them() {
    let numbers = proptest::collection::vec(any::<u16>(), 0..260);
    let worlds = (numbers, 1usize..9, any::<bool>(), 0..MOODS.len(), policy(), program());
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::new();
    for _ in 0..500 {
        let tree = worlds.new_tree(&mut runner).unwrap();
        let (numbers, tasks, chained, mood, policy, program) = tree.current();
        let (plan, tape) = (plan(tasks, chained), Tape::new(numbers));
        let mut world = World::with(plan, policy, false, (MOODS[mood], program), tape);
        carry_out(&mut world);
        for word in world.happened() {
            *seen.entry(word).or_insert(0) += 1;
        }
    }
    let layers = RetryReason::ALL.map(|reason| format!("again: {reason}"));
    let classes = Class::ALL.map(|class| format!("ended: {class}"));
    let halts = Halt::ALL.map(|halt| format!("halted: {}", halt.as_str()));
    let others = [
        "goes on with its session",
        "one first after failures",
        "fewer slots",
        "an answer proves the account",
        "split",
        "split again",
        "half written",
        "taken out while under way",
        "over its budget",
        "the job has changed",
        "the evaluator is content",
        "the evaluator objects",
        "the evaluator is silent",
        "approved",
        "sent back",
        "revised",
    ];
    let others = others.map(str::to_owned);
    for word in layers.iter().chain(&classes).chain(&halts).chain(&others) {
        let times = seen.get(word).copied().unwrap_or(0);
        assert!(times >= 5, "`{word}` in {times} of 500 worlds: {seen:#?}");
    }
}

/// In a calm and kind world, every task lands at its first attempt.
#[test]
fn in_a_kind_world_everything_lands_at_once() {
    let policy = Policy {
        jobs: 2,
        verifications: 2,
        feedback: 0,
        infra: 0,
        allow_empty: false,
        base_must_pass: true,
        ..quiet()
    };
    let mut world = World::new(plan(7, true), policy, false, Mood::Kind, Tape::new(Vec::new()));
    carry_out(&mut world);
    assert!(world.state.tasks.values().all(|t| t.attempt == 1 && t.landed.is_some()));
}

/// Nothing starts on a base that must pass and does not, even if nobody has halted the run.
#[test]
fn a_base_that_fails_keeps_everything_from_starting() {
    let policy = |base_must_pass| Policy {
        jobs: 2,
        verifications: 2,
        feedback: 0,
        infra: 0,
        allow_empty: false,
        base_must_pass,
        ..quiet()
    };
    let mut state = RunState::new(RunId::parse("sim-1").unwrap(), plan(2, false));
    state.base_passed = Some(false);
    assert_eq!(owed(&state, Timestamp(0), &policy(true)), []);
    assert_eq!(owed(&state, Timestamp(0), &policy(false)).len(), 2);
}

/// What is given up stays so, whatever is still said about its base.
#[test]
fn a_late_word_on_the_base_does_not_revive_a_run() {
    let policy = Policy {
        jobs: 1,
        verifications: 1,
        feedback: 0,
        infra: 0,
        allow_empty: false,
        base_must_pass: true,
        ..quiet()
    };
    let mut world = World::new(plan(1, false), policy, false, Mood::Kind, Tape::new(Vec::new()));
    assert!(world.tell(Observation::Requested(Request::Cancel)));
    let verdict = Verdict::Errored("too late".into());
    let checks = CheckReport { verdict, results: Vec::new() };
    assert!(!world.tell(Observation::BaseVerified(checks)));
    carry_out(&mut world);
}
