//! The halt on failures, the resume after it, and redispatch.

use super::*;
use crate::domain::machine::failure_groups;
use crate::domain::retry::Share;

/// Returns a policy with one attempt for each task.
fn strict() -> Policy {
    Policy { feedback: 0, infra: 0, redispatch: 0, jobs: 30, ..Policy::default() }
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("t{n:02}")).collect()
}

fn bench(tasks: usize, policy: Policy) -> (Vec<String>, MachineBench) {
    let names = names(tasks);
    let bench = MachineBench::new(&names.iter().map(String::as_str).collect::<Vec<_>>(), policy);
    (names, bench)
}

#[test]
fn run_halts_when_the_first_three_tasks_fail_with_the_same_cause() {
    let (names, mut bench) = bench(9, strict());
    for name in &names[..2] {
        bench.fail(name, "tests");
        assert_eq!(bench.state.phase, RunPhase::Active);
    }
    bench.fail(&names[2], "tests");
    assert_eq!((&bench.state.phase, bench.state.halt), (&RunPhase::Halted, Some(Halt::Failures)));
    let reason = bench.state.reason.clone().unwrap();
    assert!(reason.contains("first 3 tasks") && reason.contains("`tests`"), "{reason}");
    assert_eq!(bench.startable(), [""; 0]);
}

#[test]
fn run_does_not_halt_on_three_failures_with_different_causes_or_a_landed_task() {
    let (names, mut two_causes) = bench(9, strict());
    for (name, check) in names.iter().zip(["tests", "tests", "lint", "tests"]) {
        two_causes.fail(name, check);
    }
    assert_eq!(two_causes.state.phase, RunPhase::Active);
    let (names, mut one_landed) = bench(9, strict());
    one_landed.land(&names[8]);
    for name in &names[..4] {
        one_landed.fail(name, "tests");
    }
    assert_eq!(one_landed.state.phase, RunPhase::Active);
}

#[test]
fn run_halts_when_failures_exceed_halt_above_after_halt_after_tasks() {
    let policy = Policy { halt_above: Share(100_000), halt_after: 20, ..strict() };
    let (names, mut bench) = bench(40, policy);
    for name in &names[..17] {
        bench.land(name);
    }
    // 1 of 18 and 2 of 19 exceed a tenth, but fewer than 20 tasks have ended. 2 of 20 is exactly a
    // tenth, 3 of 23 is more.
    bench.fail(&names[17], "a");
    bench.fail(&names[18], "b");
    bench.land(&names[19]);
    assert_eq!(bench.state.phase, RunPhase::Active);
    bench.land(&names[20]);
    bench.land(&names[21]);
    bench.fail(&names[22], "c");
    assert_eq!((&bench.state.phase, bench.state.halt), (&RunPhase::Halted, Some(Halt::Failures)));
    let reason = bench.state.reason.clone().unwrap();
    assert!(reason.starts_with("3 of 23 tasks"), "{reason}");
    assert!(reason.contains("bad line"), "the summary line: {reason}");
}

#[test]
fn halt_above_of_100_percent_never_halts() {
    let (names, mut bench) = bench(9, Policy { halt_above: Share(1_000_000), ..strict() });
    for name in &names[..8] {
        bench.fail(name, "tests");
    }
    assert_eq!(bench.state.phase, RunPhase::Active);
}

#[test]
fn run_does_not_halt_when_the_last_task_fails() {
    let (names, mut bench) = bench(3, strict());
    for name in &names {
        bench.fail(name, "tests");
    }
    assert_eq!((&bench.state.phase, bench.state.ended()), (&RunPhase::Active, true));
}

#[test]
fn paused_run_does_not_halt_on_failures() {
    let (names, mut bench) = bench(9, strict());
    for name in &names[..4] {
        assert!(bench.start(name));
        bench.end(name, None);
    }
    bench.observe(Observation::Requested(Request::Stop("enough".into())));
    for name in &names[..4] {
        let finding = Finding { attempt: 1, check: "tests".into(), text: "no".into() };
        bench.verify(name, Verdict::Failed(vec![finding]));
    }
    assert_eq!((&bench.state.phase, bench.state.halt), (&RunPhase::Paused, None));
}

/// Returns a run that was halted on its first failures and resumed.
fn resumed_after_failures() -> (Vec<String>, MachineBench) {
    let (names, mut bench) = bench(12, strict());
    for name in &names[..3] {
        bench.fail(name, "tests");
    }
    bench.resume();
    (names, bench)
}

#[test]
fn resume_after_a_halt_on_failures_starts_one_canary_task() {
    let (names, mut bench) = resumed_after_failures();
    assert_eq!(bench.startable(), [names[3].clone()]);
    assert!(bench.start(&names[3]));
    assert_eq!(bench.startable(), [""; 0]);
    bench.end(&names[3], None);
    assert_eq!(bench.startable(), [""; 0], "it is verified");
    bench.verify(&names[3], Verdict::Passed);
    assert_eq!(bench.startable(), [""; 0], "it waits to land");
    let (task, commit) = (id(&names[3]), oid('e'));
    bench.observe(Observation::Landed { task, commit, results: Vec::new() });
    assert_eq!(bench.startable().len(), 8);
    // Earlier failures no longer count. Two ended tasks are too few for a halt.
    bench.fail(&names[4], "tests");
    assert_eq!(bench.state.phase, RunPhase::Active);
}

#[test]
fn run_halts_again_when_the_canary_task_fails() {
    let (names, mut bench) = resumed_after_failures();
    bench.fail(&names[3], "lint");
    assert_eq!(bench.state.halt, Some(Halt::Failures));
    assert!(bench.state.reason.clone().unwrap().contains("went first"));
}

#[test]
fn canary_survives_another_halt() {
    let (names, mut bench) = resumed_after_failures();
    bench.run_attempt(&names[3], Class::Auth);
    assert_eq!(bench.state.halt, Some(Halt::Agent));
    bench.resume();
    assert_eq!(bench.startable(), [names[3].clone()]);
}

#[test]
fn failed_tasks_are_redispatched_once_if_their_share_is_small() {
    let share = |below| Policy { redispatch: 1, redispatch_below: Share(below), ..strict() };
    for (below, again) in [(100_000, true), (99_999, false)] {
        let (names, mut bench) = bench(10, share(below));
        bench.fail(&names[0], "tests");
        for name in &names[1..9] {
            bench.land(name);
        }
        assert_eq!(bench.observe(Observation::RedispatchDue), [], "one task has not ended");
        bench.land(&names[9]);
        let due = owed(&bench.state, bench.now, &bench.policy);
        assert_eq!(due, if again { vec![Effect::Redispatch] } else { Vec::new() });
        bench.observe(Observation::RedispatchDue);
        let task = bench.task(&names[0]);
        assert_eq!(task.phase == Phase::Todo, again);
        if again {
            assert_eq!((task.rejections, task.redispatches, &task.session), (0, 1, &None));
            bench.fail(&names[0], "tests");
            assert_eq!(
                owed(&bench.state, bench.now, &bench.policy),
                [],
                "one redispatch is the limit"
            );
        }
    }
}

#[test]
fn task_that_exceeds_the_context_window_is_not_redispatched() {
    let mut plan = plan(&["one"]);
    plan.tasks[0].files.truncate(1);
    let policy = Policy { redispatch: 1, redispatch_below: Share(1_000_000), ..strict() };
    let mut bench = MachineBench::with_plan(plan, policy);
    bench.run_attempt("one", Class::ContextExceeded);
    assert_eq!(bench.task("one").phase, Phase::Failed);
    assert_eq!(owed(&bench.state, bench.now, &bench.policy), []);
}

#[test]
fn failure_groups_are_sorted_by_size() {
    let (names, mut bench) = bench(9, Policy { halt_above: Share(1_000_000), ..strict() });
    for (name, check) in names.iter().zip(["lint", "tests", "tests"]) {
        bench.fail(name, check);
    }
    let groups: Vec<_> =
        failure_groups(&bench.state).into_iter().map(|g| (g.cause, g.tasks)).collect();
    let tests = ("`tests`".to_owned(), vec![id(&names[1]), id(&names[2])]);
    assert_eq!(groups, [tests, ("`lint`".to_owned(), vec![id(&names[0])])]);
}
