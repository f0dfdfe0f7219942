//! `status` in each state of a run.

use crate::job::TestJob;

use super::{screen, screen_without_progress, script, sequential};

#[test]
fn status_of_a_paused_run() {
    let sandbox = sequential(TestJob::new(&["alpha", "beta"]));
    screen(&sandbox, "start_paused", &["start", "--paused"]);
    screen(&sandbox, "status_paused", &["status"]);
    screen(&sandbox, "status_paused_porcelain", &["status", "--porcelain"]);
}

#[test]
fn status_of_a_running_run() {
    let sandbox = sequential(TestJob::new(&["alpha", "beta", "gamma"]));
    script(
        &sandbox,
        "beta",
        "settled; touch \"$HOME/started\"; wait_for \"$HOME/go\"; edit beta good",
    );
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("started");
    screen(&sandbox, "status_running", &["status"]);
    sandbox.give_sign("go");
    start.wait().exits(0);
}

#[test]
fn status_of_a_halted_run() {
    let tasks = ["t1", "t2", "t3", "t4", "t5", "t6"];
    let sandbox = sequential(TestJob::new(&tasks).set("retry", "feedback = 0\ninfra = 0"));
    script(&sandbox, "default", "settled; edit \"$HARNESS_TASK\" BAD");
    screen(&sandbox, "start_halted_by_failures", &["start"]);
    screen(&sandbox, "status_halted", &["status"]);
    screen(&sandbox, "start_again_after_halt", &["start"]);
    screen(&sandbox, "poll_halted", &["poll"]);
    screen(&sandbox, "retry_halted", &["retry", "t1"]);
    screen(&sandbox, "start_force_canary_fails", &["start", "--force"]);
}

#[test]
fn status_of_a_run_that_waits_for_reviews() {
    let job = TestJob::new(&["alpha", "beta"]).set("queue", "review = \"required\"");
    let sandbox = sequential(job);
    script(&sandbox, "default", "settled 'started|exit'; edit \"$HARNESS_TASK\" done");
    screen(&sandbox, "start_reviews_waiting", &["start"]);
    screen(&sandbox, "status_reviews_waiting", &["status"]);
}

#[test]
fn status_of_a_run_with_failed_and_blocked_tasks() {
    let order = "order = \"dependency\"\n\
                 edges = [\"printf\", '{\"beta\": [\"alpha\"], \"gamma\": [\"beta\"]}']";
    let job = TestJob::new(&["alpha", "beta", "gamma", "zeta"])
        .set("plan", order)
        .set("retry", "feedback = 1\nredispatch = 0");
    let sandbox = sequential(job);
    script(&sandbox, "alpha", "settled; edit alpha BAD");
    screen_without_progress(&sandbox, "start_some_failed", &["start"]);
    screen(&sandbox, "status_failed_and_blocked", &["status"]);
    screen(&sandbox, "status_exit_code", &["status", "--exit-code"]);
    screen(&sandbox, "skip", &["skip", "alpha", "-m", "not needed"]);
    screen(&sandbox, "cancel", &["cancel"]);
    screen(&sandbox, "status_cancelled", &["status"]);
}

#[test]
fn status_of_a_run_that_has_ended_well() {
    let sandbox = sequential(TestJob::new(&["alpha", "beta"]));
    screen(&sandbox, "start_all_landed", &["start"]);
    screen(&sandbox, "status_all_landed", &["status"]);
    screen(&sandbox, "status_all_landed_json", &["status", "--json"]);
    screen(&sandbox, "start_again_all_landed", &["start"]);
    screen(&sandbox, "sweep", &["sweep"]);
    screen(&sandbox, "sweep_json", &["sweep", "--json"]);
}
