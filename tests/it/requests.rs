//! Requests to a run with a supervisor: a second supervisor, skip, retry, cancel, signals, kills.

use rustix::process::Signal;

use crate::command::RunningCommand;
use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::screen;

/// Starts a run whose agents wait for the sign `go`.
fn waiting(job: TestJob) -> (Sandbox, RunningCommand) {
    let sandbox = Sandbox::new(job);
    sandbox.script("default", WAITS);
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("alpha.up");
    (sandbox, start)
}

const WAITS: &str =
    ": >\"$HOME/$HARNESS_TASK.up\"; wait_for \"$HOME/go\"; edit \"$HARNESS_TASK\" done";

fn one_at_a_time() -> TestJob {
    TestJob::new(&["alpha", "beta", "gamma"]).set("limits", "jobs = 1").set("retry", "feedback = 0")
}

#[test]
fn second_supervisor_is_refused_with_the_holder() {
    let (sandbox, start) = waiting(one_at_a_time());
    let refs = sandbox.git(&["for-each-ref"]);
    let driver = sandbox.status()["driver"].as_str().unwrap().to_owned();
    assert!(driver.ends_with(&format!("/{}", start.pid())), "{driver}");
    sandbox.run(&["start"]).exits(128);
    screen(&sandbox, "poll_while_running", &["poll"]);
    assert_eq!(refs, sandbox.git(&["for-each-ref"]), "the second one wrote something");
    sandbox.give_sign("go");
    start.wait().exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn stop_drains_and_start_resumes() {
    let (sandbox, mut start) = waiting(one_at_a_time());
    sandbox.run(&["stop"]).exits(0);
    assert!(!start.has_ended(), "it did not wait for the running agent");
    assert_eq!(sandbox.status()["state"], "draining");
    sandbox.give_sign("go");
    start.wait().exits(3);
    assert_eq!(sandbox.task("alpha")["state"], "done");
    assert_eq!(sandbox.task("beta")["attempts"], 0);
    assert_eq!(sandbox.status()["state"], "paused");
    sandbox.run(&["poll"]).exits(3);
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn stop_now_kills_agents_and_charges_no_task() {
    let (sandbox, start) = waiting(one_at_a_time());
    sandbox.run(&["stop", "--now"]).exits(0);
    start.wait().exits(3);
    assert!(sandbox.processes().is_empty(), "{:?}", sandbox.processes());
    assert_eq!(sandbox.task("alpha")["state"], "todo");
    sandbox.give_sign("go");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn skip_retry_and_cancel_reach_the_running_supervisor() {
    let (sandbox, start) = waiting(one_at_a_time());
    sandbox.run(&["skip", "beta", "-m", "not this one"]).exits(0);
    assert_eq!(sandbox.task("beta")["state"], "skipped");
    sandbox.run(&["skip", "alpha", "--message", "nor the running one"]).exits(0);
    assert_eq!(sandbox.task("alpha")["state"], "skipped");
    sandbox.run(&["retry", "job-1/beta"]).exits(0);
    assert_eq!(sandbox.task("beta")["state"], "todo");
    sandbox.run(&["retry", "beta"]).exits(1);
    sandbox.run(&["cancel"]).exits(0);
    sandbox.give_sign("go");
    start.wait().exits(3).says("the run is cancelled");
    assert_eq!(sandbox.status()["state"], "cancelled");
    screen(&sandbox, "start_after_cancel", &["start"]);
    let landed: Vec<&str> = Vec::new();
    Claim::all(&sandbox).landed(&landed).holds();
}

#[test]
fn skip_and_retry_work_without_a_supervisor() {
    let sandbox =
        Sandbox::new(TestJob::new(&["alpha", "beta", "gamma"]).set("retry", "feedback = 0"));
    sandbox.script("alpha", "edit alpha BAD");
    sandbox.run(&["start", "--paused"]).exits(0);
    sandbox.run(&["skip", "beta", "-m", "a person does it"]).exits(0);
    screen(&sandbox, "skip_unknown_task", &["skip", "delta", "-m", "x"]);
    sandbox.run(&["start"]).exits(1);
    assert_eq!(sandbox.task("alpha")["state"], "failed");
    assert_eq!(sandbox.task("beta")["reason"], "a person does it");
    screen(&sandbox, "retry_failed", &["retry", "--failed"]);
    assert_eq!(sandbox.task("alpha")["state"], "todo");
    sandbox.script("alpha", "edit alpha good");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).landed(&["alpha", "gamma"]).holds();
    sandbox.run(&["retry", "gamma"]).exits(1);
    Claim::all(&sandbox).landed(&["alpha", "gamma"]).holds();
}

#[test]
fn verify_requeues_a_failed_task_that_passes_now() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    let job = TestJob::new(&["alpha"])
        .check(
            "flag",
            &["test", "-e", &sandbox.sign("flag").to_string_lossy()],
            "when = [\"task\"]",
        )
        .set("retry", "feedback = 0");
    sandbox.write("other.toml", &job.text(&sandbox.root().join("scripts").to_string_lossy()));
    sandbox.remember();
    sandbox.run(&["start", "other.toml"]).exits(1);
    screen(&sandbox, "verify_failed", &["verify", "alpha"]);
    let alpha = sandbox.task("alpha");
    assert_eq!((&alpha["state"], &alpha["cause"]), (&"failed".into(), &"`flag`".into()));
    sandbox.give_sign("flag");
    screen(&sandbox, "verify_passed_now", &["verify", "alpha"]);
    sandbox.run(&["start", "other.toml"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.task("alpha")["attempts"], 1, "the work that was there is what landed");
}

#[test]
fn first_ctrl_c_drains() {
    let (sandbox, mut start) = waiting(one_at_a_time());
    start.signal(Signal::INT);
    sandbox.await_that("a word", || start.stderr().contains("starting nothing new"));
    assert!(!start.has_ended());
    sandbox.give_sign("go");
    start.wait().exits(130);
    assert_eq!(sandbox.task("beta")["attempts"], 0);
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.task("alpha")["attempts"], 1);
}

#[test]
fn second_ctrl_c_kills_agents() {
    let (sandbox, start) = waiting(one_at_a_time());
    start.signal(Signal::INT);
    sandbox.await_that("a word", || start.stderr().contains("starting nothing new"));
    // Two signals within half a second count as one Ctrl-C: git passes on the signal that the
    // terminal sends to both processes.
    std::thread::sleep(std::time::Duration::from_millis(700));
    start.signal(Signal::INT);
    start.wait().exits(130);
    assert!(sandbox.processes().is_empty(), "{:?}", sandbox.processes());
    sandbox.give_sign("go");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn repeated_signal_within_a_moment_counts_once() {
    let (sandbox, mut start) = waiting(one_at_a_time());
    start.signal(Signal::INT);
    sandbox.await_that("a word", || start.stderr().contains("starting nothing new"));
    start.signal(Signal::INT);
    sandbox.give_sign("go");
    sandbox.await_that("the end", || start.has_ended());
    start.wait().exits(130);
    assert_eq!(sandbox.task("alpha")["state"], "done", "its agent was stopped");
}

#[test]
fn sigterm_after_ctrl_c_counts_at_once() {
    let (sandbox, start) = waiting(one_at_a_time());
    start.signal(Signal::INT);
    sandbox.await_that("a word", || start.stderr().contains("starting nothing new"));
    start.signal(Signal::TERM);
    start.wait().exits(143);
    assert!(sandbox.processes().is_empty(), "{:?}", sandbox.processes());
    assert_eq!(sandbox.task("alpha")["state"], "todo");
}

#[test]
fn sigterm_kills_agents() {
    let (sandbox, start) = waiting(one_at_a_time());
    start.signal(Signal::TERM);
    start.wait().exits(143);
    assert!(sandbox.processes().is_empty(), "{:?}", sandbox.processes());
    sandbox.give_sign("go");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn resume_after_sigkill_waits_for_surviving_keepers() {
    let (sandbox, start) = waiting(TestJob::new(&["alpha", "beta"]));
    sandbox.await_sign("beta.up");
    start.signal(Signal::KILL);
    start.wait().exits(137);
    // The idle keeper of the base's checks ends when its supervisor is gone.
    sandbox.await_that("two keepers", || sandbox.keepers().len() == 2);
    assert!(sandbox.status()["driver"].is_null());
    let again = sandbox.spawn(&["start"]);
    sandbox.await_that("the new holder", || sandbox.status()["driver"].is_string());
    sandbox.give_sign("go");
    again.wait().exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.task("alpha")["attempts"], 1, "the attempt was begun again");
}

#[test]
fn resume_after_sigkill_takes_finished_attempts() {
    let (sandbox, start) = waiting(TestJob::new(&["alpha", "beta"]));
    sandbox.await_sign("beta.up");
    start.signal(Signal::KILL);
    start.wait().exits(137);
    sandbox.give_sign("go");
    sandbox.await_that("the keepers' end", || sandbox.processes().is_empty());
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.task("beta")["attempts"], 1, "the attempt was begun again");
}

#[test]
fn agent_of_a_killed_keeper_is_killed_and_its_work_kept() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]).set("retry", "feedback = 0\ninfra = 1"));
    sandbox.script("alpha.1", "edit alpha 'half done'; : >\"$HOME/alpha.up\"; hang");
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("alpha.up");
    for pid in sandbox.keepers() {
        crate::command::send(pid, Signal::KILL);
    }
    start.wait().exits(0).says("keeper of attempt 1 died");
    screen(&sandbox, "log_keeper_killed", &["log", "alpha"]);
    Claim::all(&sandbox).holds();
    let chain = sandbox.git(&["rev-list", "refs/harness/tasks/job-1/alpha"]);
    let kept = chain.lines().any(|commit| {
        sandbox.try_git(&sandbox.repo, &["show", &format!("{commit}:alpha")]).stdout
            == "half done\n"
    });
    assert!(kept, "what the agent had done is lost");
}
