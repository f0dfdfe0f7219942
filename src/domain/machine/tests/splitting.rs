//! A task that does not fit the model is done in two parts.

use super::*;

fn plan(bench: &Bench) -> Vec<(String, Vec<String>, Vec<String>)> {
    let names = |ids: &[TaskId]| ids.iter().map(TaskId::to_string).collect();
    let tasks = bench.state.plan.tasks.iter();
    tasks.map(|t| (t.id.to_string(), t.files.clone(), names(&t.after))).collect()
}

#[test]
fn the_parts_take_its_place_and_whoever_waited_for_it_waits_for_them() {
    let mut bench = Bench::new(&["one", "two", "three"], lenient());
    bench.state.plan.tasks[1].after = vec![id("one")];
    bench.state.plan.tasks[0].files.push("one.c".into());
    bench.meet("one", Class::ContextExceeded);
    let text = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        plan(&bench)[1..4],
        [
            ("one_part_1".to_owned(), text(&["one.a", "one.b"]), text(&[])),
            ("one_part_2".to_owned(), text(&["one.c"]), text(&[])),
            ("two".to_owned(), text(&["two.a", "two.b"]), text(&["one_part_1", "one_part_2"])),
        ]
    );
    assert_eq!(bench.startable(), ["one_part_1", "one_part_2", "three"]);
    bench.land("one_part_1");
    assert_eq!(bench.startable(), ["one_part_2", "three"]);
    bench.land("one_part_2");
    assert_eq!(bench.startable(), ["two", "three"]);
}

#[test]
fn what_was_split_never_runs_again() {
    let mut bench = Bench::new(&["one"], lenient());
    bench.meet("one", Class::ContextExceeded);
    assert_eq!(bench.tell(Observation::Requested(Request::Retry(id("one")))), []);
    assert_eq!(bench.tell(Observation::Requested(Request::Reconsider(id("one")))), []);
    assert_eq!(bench.startable(), ["one_part_1", "one_part_2"]);
}

#[test]
fn a_part_that_does_not_fit_is_split_and_a_file_is_not() {
    let mut bench = Bench::new(&["one"], lenient());
    bench.state.plan.tasks[0].files = ["a", "b", "c"].map(str::to_owned).to_vec();
    bench.meet("one", Class::ContextExceeded);
    bench.meet("one_part_1", Class::ContextExceeded);
    assert_eq!(bench.startable(), ["one_part_1_part_1", "one_part_1_part_2", "one_part_2"]);
    bench.meet("one_part_2", Class::ContextExceeded);
    let task = bench.task("one_part_2");
    let reason = task.reason.clone().unwrap();
    assert_eq!((&task.phase, task.cause.as_deref()), (&Phase::Failed, Some("context_exceeded")));
    assert!(reason.contains("one file in c") && reason.contains("so it said"), "{reason}");
}

#[test]
fn names_that_are_taken_are_passed_over_and_long_ones_end_in_words() {
    let mut bench = Bench::new(&["one", "one_part_1", "one_part_3"], lenient());
    bench.meet("one", Class::ContextExceeded);
    let parts: Vec<_> = bench.state.split[&id("one")].iter().map(TaskId::to_string).collect();
    assert_eq!(parts, ["one_part_2", "one_part_4"]);
    let long = (1..).map(|n| "x".repeat(n)).take_while(|n| TaskId::parse(n).is_ok()).last();
    let long = long.unwrap();
    let mut bench = Bench::new(&[&long], lenient());
    bench.meet(&long, Class::ContextExceeded);
    assert_eq!(bench.task(&long).phase, Phase::Failed);
    assert_eq!(bench.state.plan.tasks.len(), 1);
}

#[test]
fn a_supervisor_that_died_between_the_chains_does_not_split_twice() {
    let mut bench = Bench::new(&["one"], lenient());
    assert!(bench.start("one"));
    let before = bench.state.tasks.clone();
    bench.end("one", Some(report(Class::ContextExceeded)));
    // The run's chain has moved, the task's has not.
    bench.state.tasks.extend(before);
    let decisions = bench.end("one", Some(report(Class::ContextExceeded)));
    assert!(!told(&decisions, |_| true), "{decisions:?}");
    assert_eq!((&bench.task("one").phase, bench.state.tasks.len()), (&Phase::Skipped, 3));
    assert!(bench.task("one").reason.clone().unwrap().contains("one_part_1 and one_part_2"));
}

#[test]
fn not_even_when_its_attempt_is_not_found_any_more() {
    let mut bench = Bench::new(&["one"], lenient());
    assert!(bench.start("one"));
    let before = bench.state.tasks.clone();
    bench.end("one", Some(report(Class::ContextExceeded)));
    bench.state.tasks.extend(before);
    bench.tell(Observation::NeverStarted { task: id("one"), attempt: 1 });
    assert_eq!(bench.task("one").phase, Phase::Skipped);
}
