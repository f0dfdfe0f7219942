//! The split of a task that exceeds the context window.

use super::*;

fn planned(bench: &MachineBench) -> Vec<(String, Vec<String>, Vec<String>)> {
    let names = |ids: &[TaskId]| ids.iter().map(TaskId::to_string).collect();
    let tasks = bench.state.tasks.planned();
    tasks.map(|t| (t.id.to_string(), t.files.clone(), names(&t.after))).collect()
}

#[test]
fn split_inserts_the_parts_and_redirects_dependencies_to_them() {
    let mut plan = plan(&["one", "two", "three"]);
    plan.tasks[1].after = vec![id("one")];
    plan.tasks[0].files.push("one.c".into());
    let mut bench = MachineBench::with_plan(plan, lenient());
    bench.run_attempt("one", Class::ContextExceeded);
    let text = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        planned(&bench)[1..4],
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
fn split_task_is_never_retried() {
    let mut bench = MachineBench::new(&["one"], lenient());
    bench.run_attempt("one", Class::ContextExceeded);
    assert_eq!(bench.observe(Observation::Requested(Request::Retry(id("one")))), []);
    assert_eq!(bench.observe(Observation::Requested(Request::Reconsider(id("one")))), []);
    assert_eq!(bench.startable(), ["one_part_1", "one_part_2"]);
}

#[test]
fn split_of_a_part_succeeds_and_of_a_single_file_fails() {
    let mut plan = plan(&["one"]);
    plan.tasks[0].files = ["a", "b", "c"].map(str::to_owned).to_vec();
    let mut bench = MachineBench::with_plan(plan, lenient());
    bench.run_attempt("one", Class::ContextExceeded);
    bench.run_attempt("one_part_1", Class::ContextExceeded);
    assert_eq!(bench.startable(), ["one_part_1_part_1", "one_part_1_part_2", "one_part_2"]);
    bench.run_attempt("one_part_2", Class::ContextExceeded);
    let task = bench.task("one_part_2");
    let reason = task.reason.clone().unwrap();
    assert_eq!((&task.phase, task.cause.as_deref()), (&Phase::Failed, Some("context_exceeded")));
    assert!(reason.contains("one file in c") && reason.contains("so it said"), "{reason}");
}

#[test]
fn split_skips_names_in_use_and_fails_on_a_name_that_is_too_long() {
    let mut bench = MachineBench::new(&["one", "one_part_1", "one_part_3"], lenient());
    bench.run_attempt("one", Class::ContextExceeded);
    let parts: Vec<_> = bench.state.split[&id("one")].iter().map(TaskId::to_string).collect();
    assert_eq!(parts, ["one_part_2", "one_part_4"]);
    let long = (1..).map(|n| "x".repeat(n)).take_while(|n| TaskId::parse(n).is_ok()).last();
    let long = long.unwrap();
    let mut bench = MachineBench::new(&[&long], lenient());
    bench.run_attempt(&long, Class::ContextExceeded);
    assert_eq!(bench.task(&long).phase, Phase::Failed);
    assert_eq!(bench.state.tasks.len(), 1);
}

#[test]
fn split_is_not_repeated_after_a_crash_between_the_chains() {
    let mut bench = MachineBench::new(&["one"], lenient());
    assert!(bench.start("one"));
    let before = bench.task("one").clone();
    bench.end("one", Some(report(Class::ContextExceeded)));
    // The crash came after the write to the run's chain and before the write to the task's chain.
    bench.state.tasks.set(&id("one"), before);
    let decisions = bench.end("one", Some(report(Class::ContextExceeded)));
    assert!(!has_run_event(&decisions, |_| true), "{decisions:?}");
    assert_eq!((&bench.task("one").phase, bench.state.tasks.len()), (&Phase::Skipped, 3));
    assert!(bench.task("one").reason.clone().unwrap().contains("one_part_1 and one_part_2"));
}

#[test]
fn split_is_not_repeated_when_the_attempt_never_started() {
    let mut bench = MachineBench::new(&["one"], lenient());
    assert!(bench.start("one"));
    let before = bench.task("one").clone();
    bench.end("one", Some(report(Class::ContextExceeded)));
    bench.state.tasks.set(&id("one"), before);
    bench.observe(Observation::NeverStarted { task: id("one"), attempt: 1 });
    assert_eq!(bench.task("one").phase, Phase::Skipped);
}
