//! Whole runs: whatever the world does, they come to an end and keep their promises.

use git_harness::domain::id::{RunId, TaskId, Timestamp};
use git_harness::domain::machine::{Observation, Request, owed};
use git_harness::domain::plan::{Plan, Task};
use git_harness::domain::retry::{Policy, Share};
use git_harness::domain::state::{RunPhase, RunState};
use git_harness::domain::verdict::{Judgement, Verdict};
use proptest::prelude::*;

use crate::script::{MOODS, Mood};
use crate::tape::Tape;
use crate::world::World;

/// More steps than any run of this size may need once the world is calm.
const BOUND: usize = 3_000;

fn plan(tasks: usize, chained: bool) -> Plan {
    let name = |n: usize| TaskId::parse(&format!("t{n}")).unwrap();
    let task = |n: usize| Task {
        id: name(n),
        files: vec![format!("src/{n}.txt")],
        after: if chained && n % 3 == 2 { vec![name(n - 1)] } else { Vec::new() },
        lines: 1,
        tokens: 1,
        level: 0,
    };
    Plan { tasks: (0..tasks).map(task).collect() }
}

/// Neither halts nor an outer layer.
fn quiet() -> Policy {
    Policy { redispatch: 0, halt_above: Share(1_000_000), ..Policy::default() }
}

fn policy() -> impl Strategy<Value = Policy> {
    (1usize..4, 0u32..4, 0u32..4, any::<bool>(), any::<bool>()).prop_map(
        |(jobs, feedback, infra, allow_empty, base_must_pass)| Policy {
            jobs,
            verifications: jobs,
            feedback,
            infra,
            allow_empty,
            base_must_pass,
            ..quiet()
        },
    )
}

fn carry_out(world: &mut World) {
    let mut calm = 0;
    loop {
        let more = world.step();
        if world.calm() {
            calm += 1;
            assert!(calm < BOUND, "the run does not end: {:?}", world.state);
        }
        if more || !world.calm() {
            continue;
        }
        // In the end a person lets a run go on that waits for one.
        if matches!(world.state.phase, RunPhase::Paused | RunPhase::Halted) {
            world.check_end();
            assert!(world.tell(Observation::Asked(Request::Resume)));
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
        tasks in 1usize..6,
        chained in any::<bool>(),
        paused in any::<bool>(),
        mood in 0usize..MOODS.len(),
        policy in policy(),
    ) {
        let tape = Tape::new(numbers);
        let mut world = World::new(plan(tasks, chained), policy, paused, MOODS[mood], tape);
        carry_out(&mut world);
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
    assert!(world.tell(Observation::Asked(Request::Cancel)));
    let judgement = Judgement::Inconclusive("too late".into());
    let verdict = Verdict { judgement, results: Vec::new() };
    assert!(!world.tell(Observation::BaseJudged(verdict)));
    carry_out(&mut world);
}
