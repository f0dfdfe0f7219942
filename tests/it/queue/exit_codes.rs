//! Exit codes of `queue run`: 0 all landed, 1 a branch did not land, 3 a person is needed.

use super::QueueSandbox;

/// Runs the queue with `b0` and `b1`, and lets `meddle` act while both are being verified.
fn run_while(meddle: impl Fn(&QueueSandbox)) -> (QueueSandbox, i32) {
    let line = QueueSandbox::new("");
    line.good(2);
    line.add(&["b0", "b1"]);
    line.sandbox.give_sign("held");
    let run = line.sandbox.spawn(&["queue", "run"]);
    line.sandbox.await_sign("waiting");
    meddle(&line);
    std::fs::remove_file(line.sandbox.sign("held")).unwrap();
    let code = run.wait().code;
    (line, code)
}

#[test]
fn queue_run_exits_0_when_all_landed_or_were_on_the_target() {
    let line = QueueSandbox::new("");
    line.good(2);
    line.sandbox.run(&["queue", "run"]).exits(0);
    line.add(&["b0", "b1"]);
    // Somebody merges b1 by hand: the queue finds it on the target.
    line.sandbox.git(&["merge", "--quiet", "--no-edit", "b1"]);
    line.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(line.states()["b1"], "landed");
    line.holds();
}

#[test]
fn queue_run_exits_1_when_a_branch_is_rejected() {
    let line = QueueSandbox::new("");
    line.good(1);
    line.branch("bad", "main", &[("f3", "BAD\n")]);
    line.add(&["b0", "bad"]);
    line.sandbox.run(&["queue", "run"]).exits(1);
    assert_eq!(line.states()["bad"], "rejected");
    assert_eq!(line.landed(), ["b0"]);
}

#[test]
fn queue_run_exits_1_when_a_branch_conflicts() {
    let line = QueueSandbox::new("");
    line.branch("one", "main", &[("shared", "1\n")]);
    line.branch("two", "main", &[("shared", "2\n")]);
    line.add(&["one", "two"]);
    line.sandbox.run(&["queue", "run"]).exits(1);
    assert_eq!(line.states()["two"], "conflict");
    assert_eq!(line.landed(), ["one"]);
}

#[test]
fn queue_run_exits_1_when_a_waiting_branch_is_removed() {
    let (line, code) = run_while(|line| {
        line.sandbox.run(&["queue", "remove", "b1"]).exits(0);
    });
    assert_eq!((code, line.landed()), (1, vec!["b0".to_owned()]));
    assert_eq!(line.states()["b1"], "removed");
}

#[test]
fn queue_run_exits_1_when_a_waiting_branch_is_renamed() {
    let (line, code) = run_while(|line| {
        line.sandbox.git(&["branch", "--move", "b1", "other"]);
    });
    assert_eq!((code, line.landed()), (1, vec!["b0".to_owned()]));
}

#[test]
fn queue_run_exits_1_when_a_waiting_branch_is_deleted() {
    let (line, code) = run_while(|line| {
        line.sandbox.git(&["branch", "-D", "b1"]);
    });
    assert_eq!((code, line.landed()), (1, vec!["b0".to_owned()]));
}

#[test]
fn queue_run_exits_3_when_paused_or_waiting_for_an_approval() {
    let line = QueueSandbox::new("review = \"required\"");
    line.good(1);
    line.add(&["b0"]);
    line.sandbox.run(&["queue", "run"]).exits(3);
    assert_eq!(line.states()["b0"], "reviewing");
    line.sandbox.run(&["queue", "approve", "b0"]).exits(0);
    line.sandbox.run(&["queue", "pause"]).exits(0);
    assert_eq!(line.list()["paused"], true);
    line.sandbox.run(&["queue", "run"]).exits(3);
    assert_eq!(line.states()["b0"], "queued");
    line.sandbox.run(&["queue", "resume"]).exits(0);
    line.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(line.landed(), ["b0"]);
}

#[test]
fn queue_run_exits_3_when_a_hook_holds_the_landing() {
    let line = QueueSandbox::new("pre-land = [\"false\"]");
    line.good(1);
    line.add(&["b0"]);
    line.sandbox.run(&["queue", "run"]).exits(3);
    assert_eq!((line.runs(), line.states()["b0"].as_str()), (1, "queued"));
    assert!(line.landed().is_empty());
}

#[test]
fn queue_run_exits_3_when_the_targets_tip_fails() {
    let line = QueueSandbox::new("");
    line.good(1);
    line.sandbox.write("f7", "BAD\n");
    line.sandbox.git(&["commit", "--quiet", "--message", "broken", "f7"]);
    line.add(&["b0"]);
    line.sandbox.run(&["queue", "run"]).exits(3);
    assert_eq!(line.states()["b0"], "queued");
}
