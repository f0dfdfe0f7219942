//! `start`, `poll` and `stop`: how they begin and end.

use rustix::process::Signal;

use crate::job::TestJob;
use crate::sandbox::Sandbox;

use super::{compare, screen, script, sequential};

#[test]
fn start_dry_run() {
    let sandbox = sequential(TestJob::new(&["alpha", "beta"]));
    screen(&sandbox, "start_dry_run", &["start", "--dry-run"]);
}

#[test]
fn start_with_a_failing_base_halts() {
    let job =
        TestJob::bare(&["alpha"]).check("tests", &["sh", "-c", "echo it is broken; exit 1"], "");
    let sandbox = Sandbox::new(job);
    screen(&sandbox, "start_base_fails", &["start"]);
    screen(&sandbox, "status_base_fails", &["status"]);
}

#[test]
fn start_with_a_used_up_budget_halts() {
    let job = TestJob::new(&["alpha", "beta"])
        .set("agent", "preset = \"codex\"")
        .set("limits", "tokens = 100");
    let sandbox = sequential(job);
    let events = r#"
echo '{"type":"thread.started","thread_id":"thread-1"}'
echo '{"type":"turn.started"}'
echo '{"type":"turn.completed","usage":{"input_tokens":90,"cached_input_tokens":0,"output_tokens":20}}'
"#;
    script(&sandbox, "default", &format!("settled; edit \"$HARNESS_TASK\" done\n{events}"));
    screen(&sandbox, "start_budget_used_up", &["start"]);
    screen(&sandbox, "status_budget_used_up", &["status"]);
}

#[test]
fn start_stopped_by_a_signal() {
    let sandbox = sequential(TestJob::new(&["alpha", "beta"]));
    script(
        &sandbox,
        "alpha",
        "settled; touch \"$HOME/started\"; wait_for \"$HOME/go\"; edit alpha good",
    );
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("started");
    start.signal(Signal::INT);
    sandbox.await_that("the answer", || start.stderr().contains("again"));
    sandbox.give_sign("go");
    compare(&sandbox, "start_interrupted", &["start"], &start.wait());
}

#[test]
fn start_stopped_by_stop() {
    let sandbox = sequential(TestJob::new(&["alpha", "beta"]));
    script(
        &sandbox,
        "alpha",
        "settled; touch \"$HOME/started\"; wait_for \"$HOME/go\"; edit alpha good",
    );
    screen(&sandbox, "stop_without_run", &["stop"]);
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("started");
    screen(&sandbox, "start_while_running", &["start"]);
    screen(&sandbox, "stop", &["stop"]);
    sandbox.give_sign("go");
    compare(&sandbox, "start_stopped", &["start"], &start.wait());
    screen(&sandbox, "stop_ended", &["stop"]);
}

#[test]
fn poll_until_the_run_has_ended() {
    let sandbox = sequential(TestJob::new(&["alpha"]));
    screen(&sandbox, "poll_without_run", &["poll"]);
    sandbox.run(&["start", "--paused"]).exits(0);
    screen(&sandbox, "poll_first", &["poll"]);
    sandbox.await_that("the end", || sandbox.run(&["poll"]).code == 2);
    screen(&sandbox, "poll_ended", &["poll"]);
}
