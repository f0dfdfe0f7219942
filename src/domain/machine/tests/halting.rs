//! When failures stop a run, how it goes on, and what the outer layer tries again.

use super::*;
use crate::domain::machine::failure_groups;
use crate::domain::retry::Share;

/// One attempt a task.
fn strict() -> Policy {
    Policy { feedback: 0, infra: 0, redispatch: 0, jobs: 30, ..Policy::default() }
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("t{n:02}")).collect()
}

fn bench(tasks: usize, policy: Policy) -> (Vec<String>, Bench) {
    let names = names(tasks);
    let bench = Bench::new(&names.iter().map(String::as_str).collect::<Vec<_>>(), policy);
    (names, bench)
}

#[test]
fn the_first_three_alike_are_a_pattern() {
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
fn three_of_different_kinds_or_beside_a_success_are_none() {
    let (names, mut of_two_kinds) = bench(9, strict());
    for (name, check) in names.iter().zip(["tests", "tests", "lint", "tests"]) {
        of_two_kinds.fail(name, check);
    }
    assert_eq!(of_two_kinds.state.phase, RunPhase::Active);
    let (names, mut beside) = bench(9, strict());
    beside.land(&names[8]);
    for name in &names[..4] {
        beside.fail(name, "tests");
    }
    assert_eq!(beside.state.phase, RunPhase::Active);
}

#[test]
fn more_than_the_share_of_enough_tasks_halts_and_just_the_share_does_not() {
    let policy = Policy { halt_above: Share(100_000), halt_after: 20, ..strict() };
    let (names, mut bench) = bench(40, policy);
    for name in &names[..17] {
        bench.land(name);
    }
    // 1 of 18, 2 of 19: more than a tenth, but too early to tell. 2 of 20 is just a tenth, 3 of 23 is more.
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
    assert!(reason.contains("bad line"), "the telling line: {reason}");
}

#[test]
fn a_job_that_does_not_want_to_be_asked_is_not() {
    let (names, mut bench) = bench(9, Policy { halt_above: Share(1_000_000), ..strict() });
    for name in &names[..8] {
        bench.fail(name, "tests");
    }
    assert_eq!(bench.state.phase, RunPhase::Active);
}

#[test]
fn with_nothing_left_there_is_nothing_to_stop() {
    let (names, mut bench) = bench(3, strict());
    for name in &names {
        bench.fail(name, "tests");
    }
    assert_eq!((&bench.state.phase, bench.state.ended()), (&RunPhase::Active, true));
}

#[test]
fn what_ends_while_the_run_is_stopped_halts_nothing() {
    let (names, mut bench) = bench(9, strict());
    for name in &names[..4] {
        assert!(bench.start(name));
        bench.end(name, None);
    }
    bench.tell(Observation::Requested(Request::Stop("enough".into())));
    for name in &names[..4] {
        let finding = Finding { attempt: 1, check: "tests".into(), text: "no".into() };
        bench.judge(name, Verdict::Failed(vec![finding]));
    }
    assert_eq!((&bench.state.phase, bench.state.halt), (&RunPhase::Paused, None));
}

/// A run that was halted by a pattern and let go on.
fn let_go_on() -> (Vec<String>, Bench) {
    let (names, mut bench) = bench(12, strict());
    for name in &names[..3] {
        bench.fail(name, "tests");
    }
    bench.resume();
    (names, bench)
}

#[test]
fn after_that_one_task_goes_first() {
    let (names, mut bench) = let_go_on();
    assert_eq!(bench.startable(), [names[3].clone()]);
    assert!(bench.start(&names[3]));
    assert_eq!(bench.startable(), [""; 0]);
    bench.end(&names[3], None);
    assert_eq!(bench.startable(), [""; 0], "it is judged");
    bench.judge(&names[3], Verdict::Passed);
    assert_eq!(bench.startable(), [""; 0], "it waits to land");
    let (task, commit) = (id(&names[3]), oid('e'));
    bench.tell(Observation::Landed { task, commit, results: Vec::new() });
    assert_eq!(bench.startable().len(), 8);
    // What had failed before is forgiven: one more is one of two, and too early to tell.
    bench.fail(&names[4], "tests");
    assert_eq!(bench.state.phase, RunPhase::Active);
}

#[test]
fn if_that_one_fails_the_run_halts_again() {
    let (names, mut bench) = let_go_on();
    bench.fail(&names[3], "lint");
    assert_eq!(bench.state.halt, Some(Halt::Failures));
    assert!(bench.state.reason.clone().unwrap().contains("went first"));
}

#[test]
fn another_halt_between_does_not_let_all_of_them_go() {
    let (names, mut bench) = let_go_on();
    bench.meet(&names[3], Class::Auth);
    assert_eq!(bench.state.halt, Some(Halt::Agent));
    bench.resume();
    assert_eq!(bench.startable(), [names[3].clone()]);
}

#[test]
fn few_failures_are_tried_from_scratch_when_all_have_ended() {
    let share = |below| Policy { redispatch: 1, redispatch_below: Share(below), ..strict() };
    for (below, again) in [(100_000, true), (99_999, false)] {
        let (names, mut bench) = bench(10, share(below));
        bench.fail(&names[0], "tests");
        for name in &names[1..9] {
            bench.land(name);
        }
        assert_eq!(bench.tell(Observation::RedispatchDue), [], "one has not ended");
        bench.land(&names[9]);
        let due = owed(&bench.state, bench.now, &bench.policy);
        assert_eq!(due, if again { vec![Effect::Redispatch] } else { Vec::new() });
        bench.tell(Observation::RedispatchDue);
        let task = bench.task(&names[0]);
        assert_eq!(task.phase == Phase::Todo, again);
        if again {
            assert_eq!((task.rejections, task.redispatches, &task.session), (0, 1, &None));
            bench.fail(&names[0], "tests");
            assert_eq!(owed(&bench.state, bench.now, &bench.policy), [], "once is enough");
        }
    }
}

#[test]
fn what_does_not_fit_the_model_is_not_tried_again() {
    let mut bench = Bench::new(
        &["one"],
        Policy { redispatch: 1, redispatch_below: Share(1_000_000), ..strict() },
    );
    bench.state.plan.tasks[0].files.truncate(1);
    bench.meet("one", Class::ContextExceeded);
    assert_eq!(bench.task("one").phase, Phase::Failed);
    assert_eq!(owed(&bench.state, bench.now, &bench.policy), []);
}

#[test]
fn failures_are_grouped_by_what_they_have_in_common_the_largest_first() {
    let (names, mut bench) = bench(9, Policy { halt_above: Share(1_000_000), ..strict() });
    for (name, check) in names.iter().zip(["lint", "tests", "tests"]) {
        bench.fail(name, check);
    }
    let groups: Vec<_> =
        failure_groups(&bench.state).into_iter().map(|g| (g.cause, g.tasks)).collect();
    let tests = ("`tests`".to_owned(), vec![id(&names[1]), id(&names[2])]);
    assert_eq!(groups, [tests, ("`lint`".to_owned(), vec![id(&names[0])])]);
}
