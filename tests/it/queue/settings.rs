//! Settings of a queue: merge style, `each`, lanes, reviews, pauses, hooks.

use super::QueueSandbox;
use crate::screens::screen;

#[test]
fn merge_style_keeps_branch_commits() {
    let queue = QueueSandbox::new("merge = \"merge\"");
    queue.good(2);
    queue.branch("two", "main", &[("f1", "first\n")]);
    queue.branch("two", "two", &[("f2", "second\n")]);
    queue.add(&["b0", "two", "b1"]);
    let output = queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["b0", "two", "b1"], "{output}");
    for name in ["b0", "b1", "two"] {
        queue.sandbox.git(&["merge-base", "--is-ancestor", name, "main"]);
    }
    let subjects = queue.sandbox.git(&["log", "--first-parent", "-3", "--format=%s", "main"]);
    assert_eq!(subjects, "Merge branch 'b1'\nMerge branch 'two'\nMerge branch 'b0'");
    // A branch that a person has merged counts as landed.
    queue.branch("mine", "main", &[("f4", "fine\n")]);
    queue.add(&["mine"]);
    queue.sandbox.git(&["merge", "--quiet", "--no-edit", "--no-ff", "mine"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.states()["mine"], "landed");
    queue.holds();
    queue.left_alone();
}

#[test]
fn each_records_a_verdict_for_every_landed_commit() {
    let queue = QueueSandbox::new("each = true");
    queue.good(3);
    queue.add(&["b0", "b1", "b2"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    for commit in ["main", "main~1", "main~2"] {
        let tree = queue.sandbox.git(&["rev-parse", &format!("{commit}^{{tree}}")]);
        let note = queue.sandbox.git(&["notes", "--ref=harness-verdicts", "show", &tree]);
        assert!(note.contains("\"pass\":true"), "{note}");
    }
    assert_eq!(queue.runs(), 3);
    queue.holds();
}

#[test]
fn lanes_screen_groups_in_parallel() {
    let queue = QueueSandbox::new("ahead = 3\nbatch = 2");
    let names = queue.good(8);
    queue.branch("bad", "main", &[("f3", "BAD\n")]);
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.insert(3, "bad");
    queue.add(&all);
    queue.sandbox.give_sign("held");
    let run = queue.sandbox.spawn(&["queue", "run"]);
    // Two groups are screened while the first train is verified on the tip.
    let kinds = || -> Vec<String> {
        let list = queue.list();
        let verifying = list["verifying"].as_array().unwrap().iter();
        verifying.map(|train| train["what"].as_str().unwrap().to_owned()).collect()
    };
    queue
        .sandbox
        .await_that("two lanes", || kinds().iter().filter(|what| *what == "screen").count() == 2);
    std::fs::remove_file(queue.sandbox.sign("held")).unwrap();
    run.wait().exits(1).says("screening");
    let mut landed = queue.landed();
    landed.sort();
    assert_eq!((landed, queue.states()["bad"].as_str()), (names, "rejected"));
    queue.holds();
}

#[test]
fn required_review_holds_branches_until_approved() {
    let queue = QueueSandbox::new("review = \"required\"");
    queue.good(2);
    queue.add(&["b0", "b1"]);
    screen(&queue.sandbox, "queue_run_reviews_waiting", &["queue", "run"]);
    assert_eq!(queue.states()["b0"], "reviewing");
    screen(&queue.sandbox, "queue_approve", &["queue", "approve", "b0", "b1"]);
    // A second `add` keeps the approval.
    queue.add(&["b0", "b1"]);
    assert_eq!(queue.states()["b0"], "queued");
    queue.branch("b1", "b1", &[("f5", "after the approval\n")]);
    queue.sandbox.run(&["queue", "run"]).exits(3);
    assert_eq!(queue.landed(), ["b0"]);
    assert_eq!(queue.states()["b1"], "reviewing");
    queue.sandbox.run(&["queue", "reject", "b1", "-m", "name it\nplainly"]).exits(0);
    assert_eq!(queue.states()["b1"], "sent back");
    screen(&queue.sandbox, "queue_list_changes_requested", &["queue", "list", "--all"]);
    queue.branch("b1", "b1", &[("f5", "plain\n")]);
    queue.add(&["b1"]);
    queue.sandbox.run(&["queue", "approve", "b1"]).exits(0);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["b0", "b1"]);
    queue.holds();
}

#[test]
fn paused_queue_starts_no_verification() {
    let queue = QueueSandbox::new("");
    queue.good(2);
    queue.add(&["b0", "b1"]);
    queue.sandbox.run(&["queue", "pause"]).exits(0);
    screen(&queue.sandbox, "queue_paused", &["queue"]);
    screen(&queue.sandbox, "queue_run_paused", &["queue", "run"]);
    assert_eq!(queue.runs(), 0);
    screen(&queue.sandbox, "queue_remove", &["queue", "remove", "b1"]);
    queue.sandbox.run(&["queue", "resume"]).exits(0);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["b0"]);
    assert!(queue.sandbox.git(&["worktree", "list"]).contains("q01"));
    screen(&queue.sandbox, "queue_sweep", &["queue", "sweep"]);
    assert_eq!(queue.sandbox.git(&["worktree", "list"]).lines().count(), 1);
    queue.add(&["b1"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["b0", "b1"]);
}

#[test]
fn run_and_queue_share_one_target() {
    let queue = QueueSandbox::new("batch = 2");
    let names = queue.good(6);
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let text = std::fs::read_to_string(queue.sandbox.repo.join("harness.toml")).unwrap();
    let text = text.replace("name = \"job\"", "name = \"job\"\ntarget = \"main\"");
    queue.sandbox.write(
        "harness.toml",
        &text.replace("include = [\"alpha\"]", "include = [\"alpha\", \"f*\"]"),
    );
    queue.sandbox.git(&["commit", "--quiet", "--message", "onto main", "harness.toml"]);
    queue.add(&all);
    let start = queue.sandbox.spawn(&["start"]);
    let queue_run = queue.sandbox.spawn(&["queue", "run"]);
    queue_run.wait().exits(0);
    start.wait().exits(0);
    let mut landed = queue.landed();
    landed.sort();
    assert_eq!(landed, names);
    let format = "--format=%(trailers:key=Harness-Task,valueonly,separator=)";
    let log = queue.sandbox.git(&["log", "--first-parent", format, "main"]);
    let mut tasks: Vec<&str> = log.lines().filter(|l| !l.is_empty()).collect();
    tasks.sort_unstable();
    assert_eq!(tasks.len(), 11, "{tasks:?}");
    tasks.dedup();
    assert_eq!(tasks.len(), 11, "{tasks:?}");
    queue.holds();
    queue.left_alone();
}

#[test]
fn mirror_resumes_the_queue() {
    let queue = QueueSandbox::new("batch = 2");
    let names = queue.good(5);
    queue.branch("bad", "main", &[("f3", "BAD\n")]);
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.push("bad");
    queue.add(&all);
    queue.sandbox.give_sign("held");
    let run = queue.sandbox.spawn(&["queue", "run"]);
    queue.sandbox.await_sign("waiting");
    let mirror = queue.sandbox.root().join("mirror.git");
    queue.sandbox.git(&["clone", "--quiet", "--mirror", ".", mirror.to_str().unwrap()]);
    std::fs::remove_file(queue.sandbox.sign("held")).unwrap();
    run.wait().exits(1);
    queue.sandbox.run_in(&mirror, &["queue", "run"], &[]).exits(1);
    let mut landed = queue.landed();
    landed.sort();
    assert_eq!(landed, names);
    let tree =
        |dir: &std::path::Path| queue.sandbox.try_git(dir, &["rev-parse", "main^{tree}"]).stdout;
    assert_eq!(tree(&mirror), tree(&queue.sandbox.repo));
    queue.holds();
}

#[test]
fn pre_land_hook_of_the_tip_holds_and_post_land_hook_reports() {
    let before = r#"if [ ! -e "$HOME/open" ]; then echo closed today >&2; exit 1; fi"#;
    let after = r#"echo "$HARNESS_TARGET $HARNESS_LANDS $(git rev-parse main)" >>"$HOME/told""#;
    let hook = |script| serde_json::to_string(&["sh", "-c", script]).unwrap();
    let queue =
        QueueSandbox::new(&format!("pre-land = {}\npost-land = {}", hook(before), hook(after)));
    queue.good(2);
    queue.add(&["b0", "b1"]);
    screen(&queue.sandbox, "queue_run_hook_holds", &["queue", "run"]);
    queue.sandbox.give_sign("open");
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["b0", "b1"]);
    queue.holds();
    queue.left_alone();
    let told = std::fs::read_to_string(queue.sandbox.sign("told")).unwrap();
    assert_eq!(
        told,
        format!("refs/heads/main b0 b1 {}\n", queue.sandbox.git(&["rev-parse", "main"]))
    );
}

#[test]
fn trains_get_longer_with_the_landings_of_earlier_processes() {
    let queue = QueueSandbox::new("");
    let mut runs = Vec::new();
    // Without history a train has 8 branches, and after 8 landings 14.
    for (letter, count) in [("a", 8), ("b", 14)] {
        let names: Vec<String> = (0..count).map(|n| format!("{letter}{n}")).collect();
        for name in &names {
            queue.branch(name, "main", &[(&format!("new-{name}"), "more\n")]);
        }
        queue.add(&names.iter().map(String::as_str).collect::<Vec<_>>());
        queue.sandbox.run(&["queue", "run"]).exits(0);
        runs.push(queue.runs());
    }
    assert_eq!(runs, [1, 2]);
    assert_eq!(queue.landed().len(), 22);
}
