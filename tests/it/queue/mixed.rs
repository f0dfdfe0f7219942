//! One merge queue for branches and the tasks of a run, and one worker for each target.

use rustix::process::Signal;

use super::QueueSandbox;
use crate::command::send;
use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// A repository like that of [`QueueSandbox::new`], whose job has two tasks that land on `main`.
fn with_tasks() -> QueueSandbox {
    let job = TestJob::bare(&["alpha", "beta"]).set("job", "target = \"main\"").check(
        "tests",
        &["sh", "check.sh"],
        "when = [\"landing\"]",
    );
    let sandbox = Sandbox::new(job);
    let check = "if grep -rn BAD --include='f*' .; then exit 1; fi\n\
                 if grep -q attempt alpha 2>/dev/null || [ -e f-held ]; then\n\
                 while [ -e \"$HOME/held\" ]; do touch \"$HOME/waiting\"; sleep 0.02; done; fi\n";
    sandbox.write("check.sh", check);
    sandbox.git(&["add", "check.sh"]);
    sandbox.git(&["commit", "--quiet", "--message", "a check"]);
    sandbox.remember();
    QueueSandbox { sandbox }
}

/// Returns the entries on the target in the order in which they landed.
fn landed(queue: &QueueSandbox) -> Vec<String> {
    let trailer = |key: &str| format!("%(trailers:key={key},valueonly,separator=)");
    let format = format!("--format={}{}", trailer("Harness-Branch"), trailer("Harness-Task"));
    let log = queue.sandbox.git(&["log", "--first-parent", "--reverse", &format, "main"]);
    log.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Returns the entries of each logged verification, oldest first.
fn verified(queue: &QueueSandbox) -> Vec<Vec<String>> {
    let name = queue.sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/harness/queues"]);
    let format = "--format=%(trailers:key=Harness-Data,valueonly,separator=)";
    let log = queue.sandbox.git(&["log", "--first-parent", "--reverse", format, &name]);
    let events = log.lines().filter(|line| !line.is_empty());
    let events = events.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let verified = events.filter(|event| event["event"] == "verified");
    let names = |event: serde_json::Value| {
        let entries = event["entries"].as_array().unwrap().clone();
        entries.iter().map(|entry| entry.as_str().unwrap().to_owned()).collect()
    };
    verified.map(names).collect()
}

/// Returns true if the task is in a state. There may be no run yet.
fn task_is(queue: &QueueSandbox, task: &str, state: &str) -> bool {
    let status = queue.sandbox.run(&["status", "--porcelain"]);
    status.stdout.lines().any(|line| line.contains(task) && line.contains(state))
}

#[test]
fn bisect_of_a_mixed_train_ejects_the_failing_branch_and_lands_the_others_in_order() {
    let queue = with_tasks();
    queue.branch("good", "main", &[("f-good", "more\n")]);
    queue.branch("bad", "main", &[("f-bad", "BAD\n")]);
    queue.add(&["good"]);
    queue.sandbox.run(&["queue", "pause"]).exits(0);
    // The run hands in its candidates and stops for a person: its queue is paused.
    queue.sandbox.run(&["start", "--jobs", "1"]).exits(3);
    let reason = queue.sandbox.status()["reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("the queue of `main` is paused"), "{reason}");
    queue.add(&["bad"]);
    queue.sandbox.run(&["queue", "resume"]).exits(0);
    // Another process verifies the tasks with the checks of their run, and lands them.
    queue.sandbox.run(&["queue", "run"]).exits(1);
    let all = ["good", "job-1/alpha", "job-1/beta", "bad"];
    assert_eq!(verified(&queue)[0], all, "one train");
    assert_eq!(landed(&queue), ["good", "alpha", "beta"]);
    assert_eq!(queue.states()["bad"], "rejected");
    let attempts = |task: &str| queue.sandbox.task(task)["attempts"].clone();
    queue.sandbox.run(&["start"]).exits(0);
    for task in ["alpha", "beta"] {
        assert_eq!(
            (queue.sandbox.task(task)["state"].as_str(), attempts(task)),
            (Some("done"), 1.into())
        );
        let text = queue.sandbox.git(&["show", &format!("main:{task}")]);
        assert_eq!(text, "done in attempt 1");
    }
    assert_eq!(landed(&queue), ["good", "alpha", "beta"], "nothing lands twice");
}

#[test]
fn start_hands_its_tasks_to_the_process_that_works_on_the_queue() {
    let queue = with_tasks();
    queue.branch("b0", "main", &[("f-new", "more\n")]);
    queue.add(&["b0"]);
    let worker = queue.sandbox.spawn(&["queue", "run", "--follow"]);
    queue.sandbox.await_that("the branch", || queue.states()["b0"] == "landed");
    let started = queue.sandbox.run(&["start"]).exits(0);
    assert!(started.stderr.contains("another process works on the merge queue of `main`"));
    assert_eq!(landed(&queue).len(), 3);
    worker.signal(Signal::TERM);
    worker.wait().exits(143);
}

#[test]
fn queue_run_waits_for_the_start_that_works_on_the_queue() {
    let queue = with_tasks();
    queue.sandbox.script("beta", "wait_for \"$HOME/go\"; edit beta 'done in attempt 1'");
    let started = queue.sandbox.spawn(&["start"]);
    queue.sandbox.await_that("alpha", || task_is(&queue, "alpha", "done"));
    queue.branch("b0", "main", &[("f-new", "more\n")]);
    queue.add(&["b0"]);
    let output = queue.sandbox.run(&["queue", "run"]).exits(0);
    assert!(output.stderr.contains("another process works on this queue"), "{output}");
    assert_eq!(landed(&queue), ["alpha", "b0"]);
    queue.sandbox.give_sign("go");
    started.wait().exits(0);
    assert_eq!(landed(&queue), ["alpha", "b0", "beta"]);
}

#[test]
fn waiting_start_takes_the_queue_over_when_its_worker_is_killed() {
    let queue = with_tasks();
    queue.branch("b0", "main", &[("f-held", "more\n")]);
    queue.add(&["b0"]);
    queue.sandbox.give_sign("held");
    let worker = queue.sandbox.spawn(&["queue", "run"]);
    queue.sandbox.await_sign("waiting");
    let started = queue.sandbox.spawn(&["start"]);
    let wait = || ["alpha", "beta"].iter().all(|task| task_is(&queue, task, "queued"));
    queue.sandbox.await_that("the tasks", wait);
    send(worker.pid(), Signal::KILL);
    std::fs::remove_file(queue.sandbox.sign("held")).unwrap();
    started.wait().exits(0);
    worker.wait().exits(137);
    let mut names = landed(&queue);
    names.sort();
    // The run may end before the branch of somebody else has landed.
    assert!(names == ["alpha", "b0", "beta"] || names == ["alpha", "beta"], "{names:?}");
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(landed(&queue).len(), 3);
}

/// Kills the process that works on the queue at its Nth failpoint while `start` waits for it.
/// Returns false if the process has fewer failpoints.
#[cfg(debug_assertions)]
fn killed_holder(n: u64) -> bool {
    let queue = with_tasks();
    queue.branch("b0", "main", &[("f-new", "more\n")]);
    queue.add(&["b0"]);
    queue.sandbox.run(&["queue", "pause"]).exits(0);
    queue.sandbox.run(&["start"]).exits(3);
    queue.sandbox.run(&["queue", "resume"]).exits(0);
    let (steps, at) = (queue.sandbox.sign("steps"), n.to_string());
    let counter = steps.to_string_lossy().into_owned();
    let failpoint = [
        ("GIT_HARNESS_FAILPOINT_COUNTER", counter.as_str()),
        ("GIT_HARNESS_FAILPOINT_AT", at.as_str()),
    ];
    let mut holder = queue.sandbox.spawn_with(&["queue", "run"], &failpoint);
    queue.sandbox.await_that("the holder", || holder.has_ended() || steps.exists());
    let started = queue.sandbox.spawn(&["start"]);
    let code = holder.wait().code;
    // A step can be one of a keeper, whose death the holder survives.
    assert!(matches!(code, 0 | 137), "killed at step {n}: {code}");
    let output = started.wait();
    assert_eq!(output.code, 0, "killed at step {n}: {output}");
    queue.sandbox.run(&["queue", "run"]).exits(0);
    let mut names = landed(&queue);
    names.sort();
    assert_eq!(names, ["alpha", "b0", "beta"], "killed at step {n}");
    assert_eq!(queue.sandbox.git(&["status", "--porcelain"]), " M README\n?? untracked");
    let steps = std::fs::read_to_string(steps).unwrap();
    u64::try_from(steps.lines().count()).unwrap() >= n
}

#[cfg(debug_assertions)]
#[test]
fn holder_killed_at_every_failpoint_is_replaced_by_the_waiting_start() {
    let mut n = 1;
    while killed_holder(n) {
        n += 1;
    }
    assert!(n > 8, "only {n} failpoints");
}

#[test]
fn task_of_a_deleted_run_leaves_the_queue_and_branches_land() {
    let queue = with_tasks();
    queue.sandbox.run(&["queue", "pause"]).exits(0);
    queue.sandbox.run(&["start"]).exits(3);
    for prefix in ["refs/harness/runs", "refs/harness/tasks"] {
        for name in queue.sandbox.git(&["for-each-ref", "--format=%(refname)", prefix]).lines() {
            queue.sandbox.git(&["update-ref", "-d", name]);
        }
    }
    queue.branch("b0", "main", &[("f-new", "more\n")]);
    queue.add(&["b0"]);
    queue.sandbox.run(&["queue", "resume"]).exits(0);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(landed(&queue), ["b0"]);
}
