//! Halts and retries: repeated failures, redispatch, jobs that change during a run.

use rustix::process::Signal;

use crate::invariants::Claim;
use crate::job::{NO_BAD, TestJob};
use crate::sandbox::Sandbox;
use crate::screens::{screen, screen_without_progress};

const TASKS: [&str; 9] = ["t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"];

/// Nine tasks of one attempt each.
fn nine() -> TestJob {
    TestJob::new(&TASKS).set("retry", "feedback = 0\ninfra = 0").set("limits", "jobs = 2")
}

/// Returns the times of all events of a kind on the chains of tasks or runs, in milliseconds.
fn moments(sandbox: &Sandbox, chains: &str, event: &str) -> Vec<u64> {
    let only = |key: &str| format!("%(trailers:key=Harness-{key},valueonly,separator=%x2c)");
    let format = format!("--format={} {}", only("Event"), only("At"));
    let glob = format!("--glob=refs/harness/{chains}");
    let text = sandbox.git(&["log", &format, &glob]);
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let mut found: Vec<u64> =
        lines.filter(|(e, _)| *e == event).map(|(_, at)| at.parse().unwrap()).collect();
    found.sort_unstable();
    found
}

fn started(sandbox: &Sandbox) -> Vec<u64> {
    moments(sandbox, "tasks/job-1", "started")
}

fn change_job(sandbox: &Sandbox, job: &TestJob) {
    sandbox.write("harness.toml", &job.text(&sandbox.root().join("scripts").to_string_lossy()));
    sandbox.remember();
}

/// Runs nine tasks; the first three failures halt the run.
fn halted() -> Sandbox {
    let sandbox = Sandbox::new(nine());
    // The later tasks are running when the run halts.
    for first in ["t1", "t2", "t3"] {
        sandbox.script(first, &format!("edit {first} BAD"));
    }
    sandbox.script("default", "edit \"$HARNESS_TASK\" BAD; wait_for \"$HOME/halted\"");
    let start = sandbox.spawn(&["start"]);
    sandbox.await_that("the halt", || start.stderr().contains("halted: "));
    sandbox.give_sign("halted");
    start.wait().exits(3);
    sandbox
}

#[test]
fn three_failures_of_one_cause_halt_the_run() {
    let sandbox = halted();
    let stop = moments(&sandbox, "runs/job-*", "halted");
    let begun = started(&sandbox);
    assert_eq!(stop.len(), 1);
    assert!(begun.iter().all(|at| *at <= stop[0]), "{begun:?} after {stop:?}");
    // The first three, and at most two that were running.
    assert!((3..=5).contains(&begun.len()), "{begun:?}");
    let status = sandbox.status();
    assert_eq!((&status["state"], &status["halt"]), (&"halted".into(), &"failures".into()));
    let group = &status["failures"][0];
    assert_eq!(group["cause"], format!("`{NO_BAD}`"));
    assert_eq!(group["tasks"].as_array().unwrap().len(), begun.len());
    assert_eq!(sandbox.task("t1")["cause"], format!("`{NO_BAD}`"));
    for _ in 0..2 {
        sandbox.run(&["start"]).exits(3);
    }
    sandbox.run(&["poll"]).exits(3);
    sandbox.run(&["retry", "t1"]).exits(0);
    sandbox.run(&["start"]).exits(3);
    assert_eq!(started(&sandbox), begun);
    Claim::all(&sandbox).landed(&[]).holds();
}

#[test]
fn force_resumes_a_halted_run_with_one_canary_task() {
    let sandbox = halted();
    let before = started(&sandbox).len();
    sandbox.run(&["start", "--force"]).exits(3);
    assert_eq!(started(&sandbox).len(), before + 1);

    sandbox.script("default", "edit \"$HARNESS_TASK\" good");
    sandbox.run(&["start", "--force"]).exits(1);
    let landed = moments(&sandbox, "tasks/job-1", "landed");
    let begun = started(&sandbox);
    assert!(begun[before + 2..].iter().all(|at| *at >= landed[0]), "{begun:?}, {landed:?}");
    assert_eq!(begun.len(), TASKS.len());
    let good = &TASKS[before + 1..];
    Claim::all(&sandbox).landed(good).holds();
}

#[test]
fn changed_job_resumes_a_halted_run_with_one_canary_task() {
    let sandbox = halted();
    let before = started(&sandbox).len();
    let words = sandbox.job.clone().set("job", "# A comment is no change.");
    change_job(&sandbox, &words);
    sandbox.run(&["start"]).exits(3).says("wording only");
    assert_eq!(started(&sandbox).len(), before);

    sandbox.script("default", "expect_brief 'Do it well.'; edit \"$HARNESS_TASK\" good");
    let changed = nine().only("job", "name = \"job\"\ngoal = \"Do it well.\"");
    change_job(&sandbox, &changed);
    let output = sandbox.run(&["start"]).exits(1);
    output
        .says("has changed ([job]); the run `job-1` continues with it")
        .says("one task runs first");
    let landed = moments(&sandbox, "tasks/job-1", "landed");
    let begun = started(&sandbox);
    assert!(begun[before + 1..].iter().all(|at| *at >= landed[0]), "{begun:?}, {landed:?}");
    assert_eq!(moments(&sandbox, "runs/job-*", "job-changed").len(), 2);
    Claim::all(&sandbox).landed(&TASKS[before..]).holds();
}

#[test]
fn failure_rate_above_the_limit_halts_after_enough_tasks() {
    let job = nine()
        .check("other", &["sh", "-c", "! grep -n UGLY t*"], "")
        .set("retry", "halt-above = 0.4\nhalt-after = 5");
    let sandbox = Sandbox::new(job.set("limits", "").only("limits", "jobs = 1"));
    let after = |n: u32| {
        format!(
            "until [ \"$(git rev-list --count main..harness/job-1/result)\" -ge {n} ]; do sleep 0.05; done"
        )
    };
    // Two failures of three or four tasks do not count yet; three of five do.
    sandbox.script("t1", "edit t1 BAD");
    sandbox.script("t3", "edit t3 UGLY");
    sandbox.script("t5", &format!("{}; edit t5 BAD", after(2)));
    sandbox.script("default", "edit \"$HARNESS_TASK\" good");
    for late in ["t6", "t7", "t8", "t9"] {
        sandbox.script(late, &format!("edit {late} good; wait_for \"$HOME/go\""));
    }
    let start = sandbox.spawn(&["start"]);
    sandbox.await_that("the halt", || start.stderr().contains("halted: "));
    sandbox.give_sign("go");
    start.wait().exits(3);
    let status = sandbox.status();
    assert_eq!(
        status["reason"],
        "3 of 5 tasks that ended have failed, last t5: \
         `no-bad` not passed in the last attempt: \
         `sh -c '! grep -n BAD t1 t2 t3 t4 t5 t6 t7 t8 t9'`: t5:1:BAD"
    );
    assert_eq!(status["failures"][0]["tasks"], serde_json::json!(["t1", "t5"]));
    let other = serde_json::json!({"cause": "`other`", "tasks": ["t3"]});
    assert_eq!(status["failures"][1], other);
    // Tasks that were running at the halt have landed.
    Claim::all(&sandbox).landed(&["t2", "t4", "t6"]).holds();
}

/// Three tasks; one passes only in an attempt from scratch.
fn one_of_three() -> Sandbox {
    let job = TestJob::new(&["alpha", "beta", "gamma"])
        .set("retry", "feedback = 0\nredispatch-below = 0.5")
        .set("limits", "jobs = 1");
    let sandbox = Sandbox::new(job);
    sandbox.script("alpha.1", "edit alpha BAD");
    sandbox.script(
        "alpha.2",
        "[ \"$(cat beta) $(cat gamma)\" = 'done in attempt 1 done in attempt 1' ]; edit alpha good",
    );
    sandbox
}

#[test]
fn redispatch_retries_few_failures_from_scratch() {
    let sandbox = one_of_three();
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.task("alpha")["attempts"], 2);
    screen(&sandbox, "log_redispatched", &["log", "alpha"]);
    Claim::all(&sandbox).holds();

    let sandbox = one_of_three();
    change_job(&sandbox, &sandbox.job.clone().set("retry", "redispatch = 0"));
    sandbox.run(&["start"]).exits(1);
    assert_eq!(sandbox.task("alpha")["attempts"], 1);
}

#[cfg(debug_assertions)]
#[test]
fn run_killed_before_redispatch_still_redispatches() {
    let job = TestJob::new(&["alpha"]).set("retry", "feedback = 0\nredispatch-below = 1.0");
    let go = |at: usize| {
        let sandbox = Sandbox::new(job.clone());
        sandbox.script("alpha.1", "edit alpha BAD");
        let (steps, at) = (sandbox.sign("steps"), at.to_string());
        let file = steps.to_string_lossy().into_owned();
        let more = [
            ("GIT_HARNESS_FAILPOINT_COUNTER", file.as_str()),
            ("GIT_HARNESS_FAILPOINT_AT", at.as_str()),
        ];
        let output = sandbox.run_in(&sandbox.repo, &["start"], &more);
        let names = std::fs::read_to_string(steps).unwrap();
        (output, names, sandbox)
    };
    let (output, names, _) = go(1_000_000);
    output.exits(0);
    // The first verdict is about the base, the second fails alpha.
    let judged = names.lines().enumerate().filter(|(_, name)| *name == "verify.recorded");
    let at = judged.map(|(n, _)| n + 1).nth(1).unwrap();
    for command in ["start", "poll"] {
        let (output, _, sandbox) = go(at);
        output.exits(137);
        assert_eq!(sandbox.task("alpha")["state"], "failed");
        if command == "poll" {
            sandbox.run(&["poll"]).exits(0);
        }
        sandbox.run(&["start"]).exits(0);
        assert_eq!(sandbox.task("alpha")["attempts"], 2);
        Claim::all(&sandbox).holds();
    }
}

#[test]
fn repeated_failure_does_not_halt_a_run_without_todo_tasks() {
    let sandbox = Sandbox::new(TestJob::new(&["t1", "t2", "t3"]).set("retry", "feedback = 0"));
    sandbox.script("default", "edit \"$HARNESS_TASK\" BAD");
    sandbox.run(&["start"]).exits(1);
    sandbox.script("default", "edit \"$HARNESS_TASK\" good");
    sandbox.run(&["retry", "--failed"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn run_adopts_a_changed_job() {
    let job = TestJob::new(&["alpha", "beta"]);
    let sandbox = Sandbox::new(job.clone());
    sandbox.run(&["start", "--only", "alpha"]).exits(0);
    let other_target = job.clone().set("job", "target = \"elsewhere\"");
    change_job(&sandbox, &other_target);
    let pinned = || sandbox.git(&["show", "refs/harness/runs/job-1:job.toml"]);
    let before = pinned();
    screen(&sandbox, "start_other_target", &["start", "--only", "alpha"]);
    assert_eq!(pinned(), before);
    assert_eq!(sandbox.task("beta")["state"], "todo");

    let changed =
        job.check("more", &["sh", "-c", "! grep -n ODD beta"], "").set("limits", "jobs = 3");
    change_job(&sandbox, &changed);
    sandbox.script("beta.1", "edit beta ODD");
    sandbox.script("beta.2", "expect_feedback more; edit beta even");
    screen_without_progress(&sandbox, "start_changed_job", &["start"]);
    assert!(pinned().contains("jobs = 3"));
    assert_eq!(sandbox.task("beta")["attempts"], 2);
    assert_eq!(moments(&sandbox, "runs/job-*", "job-changed").len(), 1);
    Claim::all(&sandbox).holds();
}

#[test]
fn missing_programs_are_refused_before_a_run_is_made() {
    let job = TestJob::bare(&TASKS)
        .set("agent", "command = [\"no-such-agent\"]")
        .set("worktree", "setup = [[\"no-such-setup\"]]")
        .check("lint", &["no-such-linter", "{task.files}"], "");
    let sandbox = Sandbox::new(TestJob::new(&TASKS));
    change_job(&sandbox, &job);
    let refs = sandbox.git(&["for-each-ref"]);
    screen(&sandbox, "start_programs_missing", &["start"]);
    assert_eq!(sandbox.git(&["for-each-ref"]), refs, "a run was made");
    change_job(&sandbox, &TestJob::new(&TASKS).set("agent", "command = [\"./no-such-agent.sh\"]"));
    sandbox.run(&["start"]).exits(128).says("the agent is not installed: ./no-such-agent.sh");
    change_job(&sandbox, &TestJob::new(&TASKS));
    sandbox.run(&["start", "--paused"]).exits(0);
    change_job(&sandbox, &TestJob::new(&TASKS).set("agent", "command = [\"no-such-agent\"]"));
    let refs = sandbox.git(&["for-each-ref"]);
    sandbox.run(&["start"]).exits(128).says("the agent is not installed: no-such-agent");
    assert_eq!(sandbox.git(&["for-each-ref"]), refs, "the job was taken over");
    change_job(&sandbox, &TestJob::new(&TASKS));
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn missing_agent_program_halts_the_run_at_once() {
    let job = |agent: &str| TestJob::new(&TASKS).set("agent", agent);
    let sandbox = Sandbox::new(job("command = [\"no-such-agent\"]"));
    sandbox.run(&["start", "--paused"]).exits(0);
    sandbox.await_that("the halt", || sandbox.run(&["poll"]).code == 3);
    let status = sandbox.status();
    assert_eq!((&status["halt"], &status["state"]), (&"agent".into(), &"halted".into()));
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("there is no program `no-such-agent` in PATH"), "{reason}");
    let attempts = |task: &&str| sandbox.task(task)["attempts"].as_u64().unwrap();
    assert!(TASKS.iter().map(attempts).sum::<u64>() <= 4, "one for each of `jobs`");
    change_job(&sandbox, &TestJob::new(&TASKS));
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn missing_check_program_halts_before_any_attempt() {
    let job = TestJob::bare(&TASKS).check("lint", &["no-such-linter", "{task.files}"], "");
    let sandbox = Sandbox::new(job);
    sandbox.run(&["start", "--paused"]).exits(0);
    screen_without_progress(&sandbox, "poll_check_program_missing", &["poll"]);
    assert!(started(&sandbox).is_empty());
    change_job(&sandbox, &TestJob::bare(&TASKS).check("lint", &["true", "{task.files}"], ""));
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn full_disk_starts_no_attempt() {
    let room = |mb: &str| TestJob::new(&["alpha"]).set("limits", &format!("min-free-mb = {mb}"));
    let sandbox = Sandbox::new(room("1_000_000_000_000"));
    sandbox.run(&["start"]).exits(128).says(" MB are free on the disk of ");
    assert_eq!(sandbox.git(&["for-each-ref", "refs/harness"]), "", "a run was made");
    sandbox.run(&["start", "--paused"]).exits(0);
    let start = sandbox.spawn(&["start"]);
    sandbox.await_that("the note", || start.stderr().contains(" MB are free on the disk of "));
    start.signal(Signal::INT);
    start.wait().exits(130);
    assert_eq!(sandbox.task("alpha")["attempts"], 0);
    assert_eq!(sandbox.status()["waits_for"]["code"], "disk");
    sandbox.run(&["poll"]).exits(0).says("not starting agents until");
    change_job(&sandbox, &room("0"));
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn unreported_tokens_are_null_and_not_zero() {
    let job = TestJob::new(&["alpha", "beta"]).set("retry", "feedback = 1");
    let sandbox = Sandbox::new(job);
    sandbox.script("alpha.1", "edit alpha BAD");
    sandbox.run(&["start", "--paused"]).exits(0);
    let nothing = serde_json::json!({"input": 0, "output": 0, "cache_read": 0, "cache_write": 0});
    assert_eq!(sandbox.status()["tokens"], nothing);
    sandbox.run(&["start"]).exits(0);
    let status = sandbox.status();
    let unknown = serde_json::json!(
        {"input": null, "output": null, "cache_read": null, "cache_write": null}
    );
    assert_eq!((&status["tokens"], &status["cost_usd"]), (&unknown, &serde_json::Value::Null));
    assert_eq!(status["unreported"], serde_json::json!({"tokens": 3, "cost": 3}));
    assert_eq!((&status["halt"], &status["closed_until"]), (&().into(), &().into()));
    assert_eq!(status["failures"], serde_json::json!([]));
    let alpha = sandbox.task("alpha");
    assert_eq!((&alpha["class"], &alpha["session"]), (&().into(), &().into()));
    assert_eq!(moments(&sandbox, "runs/job-*", "account"), [0; 0]);
}
