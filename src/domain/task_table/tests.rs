//! The table against small plans. The simulation compares it with a recomputation at every step.

use super::*;
use crate::domain::event::TaskEventKind;
use crate::domain::retry::RetryReason;
use crate::domain::session::{Cost, Session, Tokens, Usage};

fn id(name: &str) -> TaskId {
    TaskId::parse(name).unwrap()
}

/// Builds a table from tasks and their dependencies, as in `a b>a c>a,b`.
fn table(text: &str) -> TaskTable {
    let task = |word: &str| {
        let (name, after) = word.split_once('>').unwrap_or((word, ""));
        let after = after.split(',').filter(|a| !a.is_empty()).map(id).collect();
        let files = ["x", "y", "z"].map(|file| format!("{name}.{file}")).to_vec();
        Task { id: id(name), files, after, lines: 30, tokens: 300, level: 1, vars: "v".into() }
    };
    TaskTable::new(Plan { tasks: text.split(' ').map(task).collect() })
}

impl TaskTable {
    /// Folds an event at a time, and checks the index.
    fn fold(&mut self, at: u64, task: &str, kind: TaskEventKind) {
        self.apply(&id(task), &TaskEvent { at: Timestamp(at), kind });
        assert!(*self == self.recomputed(), "{self:#?}");
    }

    fn fail(&mut self, at: u64, task: &str, cause: &str) {
        let (reason, cause) = ("no".into(), cause.into());
        self.fold(at, task, TaskEventKind::Failed { reason, cause });
    }

    fn pause(&mut self, at: u64, task: &str, until: u64) {
        let (reason, not_before) = (RetryReason::Infra, Timestamp(until));
        self.fold(at, task, TaskEventKind::Retried { reason, not_before, because: None });
    }

    fn starts(&self, keep_going: bool, now: u64, limit: usize) -> String {
        let starts = self.next_starts((keep_going, true), Timestamp(now), |_| true, limit);
        starts.map(|(task, _)| task.as_str()).collect::<Vec<_>>().join(" ")
    }
}

fn split(table: &mut TaskTable, task: &str, parts: [(&str, &[&str]); 2]) -> bool {
    let files = |files: &[&str]| files.iter().map(|file| (*file).to_owned()).collect();
    let parts = parts.map(|(part, list)| (id(part), files(list)));
    let was_split = table.split(&id(task), &parts, Timestamp(7));
    assert!(*table == table.recomputed(), "{table:#?}");
    was_split
}

fn planned(table: &TaskTable) -> String {
    let words = table.planned().map(|task| {
        let after: Vec<_> = task.after.iter().map(TaskId::as_str).collect();
        let mark = if after.is_empty() { "" } else { ">" };
        format!("{}{mark}{}", task.id, after.join(","))
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn task_starts_when_its_last_dependency_is_done() {
    let mut table = table("c>a,b a b");
    assert_eq!(table.starts(false, 1, 9), "a b");
    table.fold(1, "a", TaskEventKind::OutputAccepted);
    assert_eq!(table.starts(false, 1, 9), "b");
    table.fold(2, "b", TaskEventKind::OutputAccepted);
    assert_eq!(table.starts(false, 2, 9), "c");
    assert_eq!((table.count(&Phase::Done), table.count_ended(), table.len()), (2, 2, 3));
}

#[test]
fn dependents_of_a_failed_task_start_with_keep_going_until_it_is_retried() {
    let mut table = table("a b>a c>b");
    table.fail(1, "a", "x");
    assert_eq!((table.starts(false, 1, 9), table.starts(true, 1, 9)), (String::new(), "b".into()));
    assert_eq!(table.startable(true).collect::<Vec<_>>(), [&id("b")]);
    assert_eq!(table.startable(false).count(), 0);
    table.pause(2, "a", 0);
    assert_eq!((table.starts(false, 2, 9), table.starts(true, 2, 9)), ("a".into(), "a".into()));
}

#[test]
fn dependency_that_is_not_in_the_plan_never_ends() {
    let table = table("a>gone b");
    assert_eq!((table.starts(true, 1, 9), table.startable(true).count()), ("b".into(), 1));
}

#[test]
fn pause_delays_the_start_in_plan_order_and_wakes_the_caller() {
    let mut table = table("a b c");
    table.pause(1, "a", 5);
    table.pause(1, "c", 9);
    assert_eq!(
        (table.starts(false, 4, 9), table.next_wake(Timestamp(4))),
        ("b".into(), Some(Timestamp(5)))
    );
    assert_eq!(table.startable(false).count(), 3, "also the tasks that wait for a time");
    assert_eq!(
        (table.starts(false, 5, 9), table.next_wake(Timestamp(5))),
        ("a b".into(), Some(Timestamp(9)))
    );
    assert_eq!(table.starts(false, 5, 1), "a", "the limit counts in plan order");
    table.advance(Timestamp(9));
    assert!(table == table.recomputed());
    assert_eq!((table.starts(false, 9, 9), table.next_wake(Timestamp(9))), ("a b c".into(), None));
    assert_eq!(table.starts(false, 4, 9), "b", "the clock ran backwards");
    assert_eq!(table.next_wake(Timestamp(4)), Some(Timestamp(5)));
    table.fail(10, "c", "x");
    assert_eq!(table.next_wake(Timestamp(5)), None, "an ended task wakes nobody");
}

#[test]
fn task_with_a_session_starts_first_also_after_a_pause() {
    let mut table = table("a b c d");
    let worktree = "p".to_owned();
    let session =
        Session { id: "s".into(), worktree, owner: "o".into(), counted: Usage::default() };
    let state = |not_before| TaskState {
        session: Some(session.clone()),
        not_before: Timestamp(not_before),
        ..TaskState::default()
    };
    table.set(&id("d"), state(0));
    table.set(&id("c"), state(3));
    assert_eq!(
        (table.starts(false, 2, 3), table.starts(false, 3, 3)),
        ("d a b".into(), "c d a".into())
    );
    let unordered = table.next_starts((false, false), Timestamp(3), |_| true, 3);
    assert_eq!(unordered.map(|(task, _)| task.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(table.with_sessions().map(|(t, _)| t.as_str()).collect::<Vec<_>>(), ["c", "d"]);
    table.set(&id("d"), TaskState::default());
    assert!(table == table.recomputed());
    assert_eq!(table.with_sessions().count(), 1);
}

#[test]
fn split_inserts_parts_after_the_task_and_redirects_its_dependents() {
    let mut table = table("a b>a c>b,a d");
    table.fold(1, "a", TaskEventKind::OutputAccepted);
    assert!(split(&mut table, "b", [("b1", &["b.x", "b.y"]), ("b2", &["b.z"])]));
    assert_eq!(planned(&table), "a b>a b1>a b2>a c>a,b1,b2 d");
    let part = table.planned_task(&id("b1")).unwrap();
    assert_eq!((part.lines, part.tokens, part.level, part.vars.as_str()), (20, 200, 1, "v"));
    assert_eq!((table[&id("b1")].seq, table[&id("b1")].at), (1, Timestamp(7)));
    table.fold(8, "b", TaskEventKind::Skipped { message: "split".into() });
    assert_eq!(table.starts(false, 8, 9), "b1 b2 d");
    assert!(split(&mut table, "b1", [("b11", &["b.x"]), ("b12", &["b.y"])]));
    assert_eq!(planned(&table), "a b>a b1>a b11>a b12>a b2>a c>a,b2,b11,b12 d");
    table.fold(8, "b1", TaskEventKind::Skipped { message: "split".into() });
    for part in ["b11", "b12", "b2"] {
        assert_eq!(table.starts(false, 8, 1), part);
        table.fold(9, part, TaskEventKind::OutputAccepted);
    }
    assert_eq!(table.starts(false, 9, 9), "c d");
    assert!(!split(&mut table, "gone", [("g1", &[]), ("g2", &[])]));
    assert_eq!(table.len(), 8);
}

#[test]
fn loaded_table_equals_the_table_that_was_kept() {
    let mut kept = table("a b>a c d>b");
    let loaded = |kept: &TaskTable| {
        let mut loaded = table("a b>a c d>b");
        split(&mut loaded, "b", [("b1", &["b.x"]), ("b2", &["b.y"])]);
        loaded.restore(kept.iter().map(|(task, state)| (task.clone(), state.clone())));
        loaded
    };
    split(&mut kept, "b", [("b1", &["b.x"]), ("b2", &["b.y"])]);
    kept.fold(8, "a", TaskEventKind::OutputAccepted);
    kept.fail(9, "b1", "x");
    kept.pause(10, "c", 60);
    assert!(loaded(&kept) == kept);
    kept.pause(70, "b2", 71);
    kept.restore([(id("gone"), TaskState::default())]);
    assert!(loaded(&kept) == kept);
}

#[test]
fn spend_counts_attempts_and_evaluations_of_all_tasks() {
    let mut table = table("a b");
    let tokens = |input| Tokens { input, output: 20, cache_read: 300, cache_write: 4_000 };
    let usage = |input| Usage { tokens: Some(tokens(input)), cost: Some(Cost(input)) };
    let mut state = TaskState::default();
    state.spend.add(usage(1));
    state.spend.add(Usage::default());
    state.evaluation.spend.add(usage(5));
    table.set(&id("a"), state.clone());
    table.set(&id("b"), state.clone());
    assert_eq!(table.spend(), state.spend.plus(state.spend));
    assert_eq!(table.evaluation_spend(), state.evaluation.spend.plus(state.evaluation.spend));
    let mut other = TaskState::default();
    other.spend.add(usage(7));
    other.evaluation.spend.add(Usage::default());
    let expected = state.spend.plus(state.evaluation.spend);
    let expected = expected.plus(other.spend).plus(other.evaluation.spend);
    assert_eq!(table.spend_with(&id("a"), &other), expected);
    let huge = Tokens { input: u64::MAX, ..Tokens::default() };
    let spend = Spend { tokens: huge, sessions_with_tokens: u32::MAX, ..Spend::default() };
    table.set(&id("b"), TaskState { spend, ..TaskState::default() });
    assert_eq!(table.spend(), spend.plus(state.spend), "saturated");
    table.set(&id("b"), TaskState::default());
    assert_eq!(table.spend(), state.spend, "not saturated any more");
}

#[test]
fn failures_are_counted_by_cause_and_landings_by_commit() {
    let mut table = table("a b c");
    for task in ["a", "b"] {
        table.fail(1, task, "tests");
    }
    assert_eq!((table.failed_by("tests"), table.failed_by("lint")), (2, 0));
    table.fail(2, "a", "lint");
    table.pause(3, "b", 0);
    assert_eq!((table.failed_by("tests"), table.failed_by("lint")), (0, 1));
    let commit = Oid::parse(&"c".repeat(40)).unwrap();
    assert!(!table.has_landed(&commit));
    table.fold(4, "c", TaskEventKind::Landed { commit: commit.clone(), results: Vec::new() });
    assert!(table.has_landed(&commit));
    assert!(!table.any_rejected());
    table.set(&id("b"), TaskState { rejections: 2, ..TaskState::default() });
    assert!(table.any_rejected());
    table.set(&id("b"), TaskState::default());
    assert!(!table.any_rejected() && table == table.recomputed());
}

#[test]
fn answers_and_silent_endings_are_forgotten_with_the_state_that_holds_them() {
    let mut table = table("a b");
    let mut state = TaskState { answered: true, ..TaskState::default() };
    table.set(&id("a"), state.clone());
    assert!(table.any_answered() && !table.any_evaluator_answered());
    state.answered = false;
    state.evaluation.answered = true;
    state.silent_ending = Some("exit code 1: no display".into());
    table.set(&id("a"), state.clone());
    table.set(&id("b"), state);
    assert!(!table.any_answered() && table.any_evaluator_answered());
    for task in ["a", "b"] {
        assert!(table.has_silent_ending("exit code 1: no display"), "{task}");
        assert!(!table.has_silent_ending("exit code 2: no display"));
        table.set(&id(task), TaskState::default());
        assert!(table == table.recomputed());
    }
    assert!(!table.any_evaluator_answered());
    assert!(!table.has_silent_ending("exit code 1: no display"));
}

#[test]
fn phases_and_dependents_are_listed_in_plan_order() {
    let mut table = table("z y>z x>z w");
    table.fail(1, "w", "x");
    table.fold(1, "z", TaskEventKind::Skipped { message: "no".into() });
    let names = |tasks: &mut dyn Iterator<Item = (&TaskId, &TaskState)>| {
        tasks.map(|(task, _)| task.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&mut table.in_phase(&Phase::Todo)), "y x");
    assert_eq!(names(&mut table.in_either(&Phase::Failed, &Phase::Skipped)), "z w");
    assert_eq!(names(&mut table.dependents(&id("z"))), "y x");
    assert_eq!(names(&mut table.iter()), "w x y z");
    assert_eq!(table.values().count(), 4);
    assert!(!table.is_empty() && table.contains_key(&id("z")) && !table.contains_key(&id("q")));
    assert!(TaskTable::new(Plan::default()).is_empty());
}
