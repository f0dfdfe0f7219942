//! Settings of a queue: merge style, `each`, lanes, reviews, pauses, hooks.

use super::QueueSandbox;

#[test]
fn merge_style_keeps_branch_commits() {
    let line = QueueSandbox::new("merge = \"merge\"");
    line.good(2);
    line.branch("two", "main", &[("f1", "first\n")]);
    line.branch("two", "two", &[("f2", "second\n")]);
    line.add(&["b0", "two", "b1"]);
    let output = line.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(line.landed(), ["b0", "two", "b1"], "{output}");
    for name in ["b0", "b1", "two"] {
        line.sandbox.git(&["merge-base", "--is-ancestor", name, "main"]);
    }
    let subjects = line.sandbox.git(&["log", "--first-parent", "-3", "--format=%s", "main"]);
    assert_eq!(subjects, "Merge branch 'b1'\nMerge branch 'two'\nMerge branch 'b0'");
    // A branch that a person has merged counts as landed.
    line.branch("mine", "main", &[("f4", "fine\n")]);
    line.add(&["mine"]);
    line.sandbox.git(&["merge", "--quiet", "--no-edit", "--no-ff", "mine"]);
    line.sandbox.run(&["queue", "run"]).exits(0).says("landed: mine");
    line.holds();
    line.left_alone();
}

#[test]
fn each_records_a_verdict_for_every_landed_commit() {
    let line = QueueSandbox::new("each = true");
    line.good(3);
    line.add(&["b0", "b1", "b2"]);
    line.sandbox.run(&["queue", "run"]).exits(0);
    for commit in ["main", "main~1", "main~2"] {
        let tree = line.sandbox.git(&["rev-parse", &format!("{commit}^{{tree}}")]);
        let note = line.sandbox.git(&["notes", "--ref=harness-verdicts", "show", &tree]);
        assert!(note.contains("\"pass\":true"), "{note}");
    }
    assert_eq!(line.runs(), 3);
    line.holds();
}

#[test]
fn lanes_screen_groups_in_parallel() {
    let line = QueueSandbox::new("ahead = 3\nbatch = 2");
    let names = line.good(8);
    line.branch("bad", "main", &[("f3", "BAD\n")]);
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.insert(3, "bad");
    line.add(&all);
    line.sandbox.run(&["queue", "run"]).exits(1).says("screening").says("8 landed, 1 did not");
    line.holds();
}

#[test]
fn required_review_holds_branches_until_approved() {
    let line = QueueSandbox::new("review = \"required\"");
    line.good(2);
    line.add(&["b0", "b1"]);
    line.sandbox.run(&["queue", "run"]).exits(3).says("wait for an approval");
    assert_eq!(line.states()["b0"], "reviewing");
    line.sandbox.run(&["queue", "approve", "b0", "b1"]).exits(0).says("b0: approved at");
    // A second `add` keeps the approval.
    line.add(&["b0", "b1"]);
    assert_eq!(line.states()["b0"], "queued");
    line.branch("b1", "b1", &[("f5", "after the approval\n")]);
    line.sandbox.run(&["queue", "run"]).exits(3).says("landed: b0");
    assert_eq!(line.landed(), ["b0"]);
    assert_eq!(line.states()["b1"], "reviewing");
    line.sandbox.run(&["queue", "reject", "b1", "-m", "name it\nplainly"]).exits(0);
    assert_eq!(line.states()["b1"], "sent back");
    line.sandbox
        .run(&["queue", "list", "--all"])
        .exits(0)
        .says("changes requested by")
        .says("    plainly");
    line.branch("b1", "b1", &[("f5", "plain\n")]);
    line.add(&["b1"]);
    line.sandbox.run(&["queue", "approve", "b1"]).exits(0);
    line.sandbox.run(&["queue", "run"]).exits(0).says("landed: b1");
    line.holds();
}

#[test]
fn paused_queue_starts_no_verification() {
    let line = QueueSandbox::new("");
    line.good(2);
    line.add(&["b0", "b1"]);
    line.sandbox.run(&["queue", "pause"]).exits(0);
    line.sandbox.run(&["queue"]).exits(0).says("paused");
    line.sandbox.run(&["queue", "run"]).exits(3).says("queue resume");
    line.sandbox.run(&["queue", "remove", "b1"]).exits(0).says("the branch stays");
    line.sandbox.run(&["queue", "resume"]).exits(0);
    line.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(line.landed(), ["b0"]);
    assert!(line.sandbox.git(&["worktree", "list"]).contains("q01"));
    line.sandbox.run(&["queue", "sweep"]).exits(0).says("removed 1 worktree");
    assert_eq!(line.sandbox.git(&["worktree", "list"]).lines().count(), 1);
    line.add(&["b1"]);
    line.sandbox.run(&["queue", "run"]).exits(0).says("landed: b1");
}

#[test]
fn run_and_queue_share_one_target() {
    let line = QueueSandbox::new("batch = 2");
    let names = line.good(6);
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let text = std::fs::read_to_string(line.sandbox.repo.join("harness.toml")).unwrap();
    let text = text.replace("name = \"job\"", "name = \"job\"\ntarget = \"main\"");
    line.sandbox.write(
        "harness.toml",
        &text.replace("include = [\"alpha\"]", "include = [\"alpha\", \"f*\"]"),
    );
    line.sandbox.git(&["commit", "--quiet", "--message", "onto main", "harness.toml"]);
    line.add(&all);
    let start = line.sandbox.spawn(&["start"]);
    let queue = line.sandbox.spawn(&["queue", "run"]);
    queue.wait().exits(0);
    start.wait().exits(0);
    let mut landed = line.landed();
    landed.sort();
    assert_eq!(landed, names);
    let format = "--format=%(trailers:key=Harness-Task,valueonly,separator=)";
    let log = line.sandbox.git(&["log", "--first-parent", format, "main"]);
    let mut tasks: Vec<&str> = log.lines().filter(|l| !l.is_empty()).collect();
    tasks.sort_unstable();
    assert_eq!(tasks.len(), 11, "{tasks:?}");
    tasks.dedup();
    assert_eq!(tasks.len(), 11, "{tasks:?}");
    line.holds();
    line.left_alone();
}

#[test]
fn mirror_resumes_the_queue() {
    let line = QueueSandbox::new("batch = 2");
    let names = line.good(5);
    line.branch("bad", "main", &[("f3", "BAD\n")]);
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.push("bad");
    line.add(&all);
    line.sandbox.give_sign("held");
    let run = line.sandbox.spawn(&["queue", "run"]);
    line.sandbox.await_sign("waiting");
    let mirror = line.sandbox.root().join("mirror.git");
    line.sandbox.git(&["clone", "--quiet", "--mirror", ".", mirror.to_str().unwrap()]);
    std::fs::remove_file(line.sandbox.sign("held")).unwrap();
    run.wait().exits(1);
    line.sandbox.run_in(&mirror, &["queue", "run"], &[]).exits(1).says("5 landed, 1 did not");
    let tree =
        |dir: &std::path::Path| line.sandbox.try_git(dir, &["rev-parse", "main^{tree}"]).stdout;
    assert_eq!(tree(&mirror), tree(&line.sandbox.repo));
    line.holds();
}

#[test]
fn pre_land_hook_of_the_tip_holds_and_post_land_hook_reports() {
    let before = r#"if [ ! -e "$HOME/open" ]; then echo closed today >&2; exit 1; fi"#;
    let after = r#"echo "$HARNESS_TARGET $HARNESS_LANDS $(git rev-parse main)" >>"$HOME/told""#;
    let hook = |script| serde_json::to_string(&["sh", "-c", script]).unwrap();
    let line =
        QueueSandbox::new(&format!("pre-land = {}\npost-land = {}", hook(before), hook(after)));
    line.good(2);
    line.add(&["b0", "b1"]);
    line.sandbox.run(&["queue", "run"]).exits(3).says("landing waits: ").says("closed today");
    line.sandbox.give_sign("open");
    line.sandbox.run(&["queue", "run"]).exits(0).says("landed: b0, b1");
    line.holds();
    line.left_alone();
    let told = std::fs::read_to_string(line.sandbox.sign("told")).unwrap();
    assert_eq!(
        told,
        format!("refs/heads/main b0 b1 {}\n", line.sandbox.git(&["rev-parse", "main"]))
    );
}
