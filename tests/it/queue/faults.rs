//! Killed queues, and targets and branches that move during a verification.

use std::time::Duration;

use rustix::process::Signal;

use super::QueueSandbox;
use crate::command::send;
use crate::screens::screen;

/// More starts than any queue needs.
const STARTS: usize = 60;

fn mixed(more: &str) -> (QueueSandbox, Vec<String>) {
    let queue = QueueSandbox::new(more);
    let mut names = queue.good(6);
    queue.branch("bad", "main", &[("f3", "BAD\n")]);
    queue.branch("m1", "main", &[("m1", "")]);
    queue.branch("m2", "main", &[("m2", "")]);
    names.extend(["bad", "m1", "m2"].map(str::to_owned));
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    queue.add(&all);
    (queue, names)
}

fn ends_well(queue: &QueueSandbox) {
    for _ in 0..STARTS {
        let output = queue.sandbox.run(&["queue", "run"]);
        match output.code {
            // Exit code 1: this process rejected `bad`.
            0 | 1 => break,
            137 => {}
            _ => panic!("an unexpected end:\n{output}"),
        }
    }
    let states = queue.states();
    let landed = states.values().filter(|state| *state == "landed").count();
    assert_eq!((landed, states["bad"].as_str()), (7, "rejected"), "{states:?}");
    queue.holds();
    queue.left_alone();
}

#[test]
fn queue_killed_at_random_moments_lands_each_branch_once() {
    let (queue, _) = mixed("ahead = 3\nbatch = 4");
    for n in 0..8 {
        let run = queue.sandbox.spawn(&["queue", "run"]);
        std::thread::sleep(Duration::from_millis(20 + 25 * n));
        for pid in queue.sandbox.keepers().into_iter().chain([run.pid()]) {
            send(pid, Signal::KILL);
        }
        drop(run.wait());
        queue.holds();
    }
    ends_well(&queue);
}

#[cfg(debug_assertions)]
#[test]
fn queue_killed_at_every_failpoint_lands_each_branch_once() {
    for n in 1..1_000 {
        let queue = QueueSandbox::new("");
        queue.branch("good", "main", &[("f1", "fine\n")]);
        queue.branch("bad", "main", &[("f3", "BAD\n")]);
        queue.add(&["good", "bad"]);
        let counter = queue.sandbox.sign("steps");
        let (at, file) = (n.to_string(), counter.to_string_lossy().into_owned());
        let more = [
            ("GIT_HARNESS_FAILPOINT_COUNTER", file.as_str()),
            ("GIT_HARNESS_FAILPOINT_AT", at.as_str()),
        ];
        let repo = queue.sandbox.repo.clone();
        let output = queue.sandbox.run_in(&repo, &["queue", "run"], &more);
        let steps = std::fs::read_to_string(&counter).unwrap_or_default();
        let name = steps.lines().nth(n - 1).unwrap_or("none").to_owned();
        assert!(matches!(output.code, 1 | 137), "killed at step {n}, {name}:\n{output}");
        queue.holds();
        let again = queue.sandbox.run(&["queue", "run"]);
        assert!(matches!(again.code, 0 | 1), "killed at step {n}, {name}:\n{output}{again}");
        let states = queue.states();
        assert_eq!((&*states["good"], &*states["bad"]), ("landed", "rejected"), "step {n}, {name}");
        queue.holds();
        queue.left_alone();
        if name == "none" {
            assert!(n > 10, "hardly a step was seen: {n}");
            return;
        }
    }
    panic!("it does not come to an end");
}

#[test]
fn target_moved_during_verification_rebuilds_the_train() {
    let queue = QueueSandbox::new("");
    queue.good(2);
    queue.add(&["b0", "b1"]);
    queue.sandbox.give_sign("held");
    let run = queue.sandbox.spawn(&["queue", "run"]);
    queue.sandbox.await_sign("waiting");
    queue.sandbox.write("f9", "by hand\n");
    queue.sandbox.git(&["commit", "--quiet", "--message", "by hand", "f9"]);
    let by_hand = queue.sandbox.git(&["rev-parse", "HEAD"]);
    std::fs::remove_file(queue.sandbox.sign("held")).unwrap();
    run.wait().exits(0);
    assert_eq!(queue.landed(), ["b0", "b1"]);
    queue.sandbox.git(&["merge-base", "--is-ancestor", &by_hand, "main"]);
    assert_eq!(queue.runs(), 2, "what was said of another tree says nothing");
    queue.holds();
    queue.left_alone();
}

#[test]
fn moved_branch_is_reverified_and_deleted_branch_is_removed() {
    let queue = QueueSandbox::new("");
    queue.good(3);
    queue.add(&["b0", "b1", "b2"]);
    queue.sandbox.give_sign("held");
    let run = queue.sandbox.spawn(&["queue", "run"]);
    queue.sandbox.await_sign("waiting");
    queue.branch("b1", "b1", &[("f5", "amended\n")]);
    queue.sandbox.git(&["branch", "-D", "b2"]);
    std::fs::remove_file(queue.sandbox.sign("held")).unwrap();
    run.wait().exits(1).says("b1: moved to").says("b2: its branch was deleted");
    assert_eq!(queue.sandbox.git(&["show", "main:f5"]), "amended");
    assert_eq!(queue.landed(), ["b0", "b1"]);
    assert_eq!(queue.states()["b2"], "removed");
    queue.holds();
}

#[test]
fn flaky_check_ejects_no_branch() {
    let queue = QueueSandbox::new("");
    queue.branch("unlucky", "main", &[("flaky", "")]);
    queue.good(1);
    queue.add(&["b0", "unlucky"]);
    screen(&queue.sandbox, "queue_run_flaky_check", &["queue", "run"]);
    assert_eq!(queue.landed(), ["b0", "unlucky"]);
    queue.holds();
}

#[test]
fn failing_target_tip_stops_the_queue_and_blames_no_branch() {
    let queue = QueueSandbox::new("");
    queue.good(1);
    queue.sandbox.write("f7", "BAD\n");
    queue.sandbox.git(&["commit", "--quiet", "--message", "broken", "f7"]);
    queue.add(&["b0"]);
    screen(&queue.sandbox, "queue_run_target_fails", &["queue", "run"]);
    assert_eq!(queue.states()["b0"], "queued");
    queue.sandbox.write("f7", "mended\n");
    queue.sandbox.git(&["commit", "--quiet", "--message", "mended", "f7"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    queue.holds();
}

#[test]
fn check_that_cannot_be_run_stops_the_queue() {
    let queue = QueueSandbox::new("");
    queue.good(1);
    let text = std::fs::read_to_string(queue.sandbox.repo.join("harness.toml")).unwrap();
    queue.sandbox.write("harness.toml", &text.replace("\"sh\"", "\"no-such-program\""));
    queue.sandbox.git(&["commit", "--quiet", "--message", "another shell", "harness.toml"]);
    queue.add(&["b0"]);
    screen(&queue.sandbox, "queue_run_check_cannot_run", &["queue", "run"]);
    assert_eq!(queue.states()["b0"], "queued");
}

#[test]
fn check_that_changes_tracked_files_is_no_verdict() {
    let queue = QueueSandbox::new("");
    queue.branch("sloppy", "main", &[("f1", "BAD\n")]);
    queue.sandbox.write("check.sh", "sed -i s/BAD/good/ f*; ! grep BAD f*\n");
    queue.sandbox.git(&["commit", "--quiet", "--message", "a check that mends", "check.sh"]);
    queue.add(&["sloppy"]);
    screen(&queue.sandbox, "queue_run_check_changes_files", &["queue", "run"]);
    assert!(queue.landed().is_empty());
    assert_eq!(queue.states()["sloppy"], "rejected");
    // Untracked files do not matter.
    queue.sandbox.write("check.sh", "echo said >report; ! grep BAD f0\n");
    queue.sandbox.git(&["commit", "--quiet", "--message", "a check that writes", "check.sh"]);
    queue.add(&["sloppy"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["sloppy"]);
}

#[test]
fn second_queue_process_takes_over_after_a_kill() {
    let queue = QueueSandbox::new("");
    queue.good(2);
    queue.add(&["b0", "b1"]);
    queue.sandbox.give_sign("held");
    let first = queue.sandbox.spawn(&["queue", "run"]);
    queue.sandbox.await_sign("waiting");
    let second = queue.sandbox.spawn(&["queue", "run"]);
    queue.sandbox.await_that("the viewer", || second.stderr().contains("watching it"));
    let list = queue.list();
    assert_eq!(
        (&list["running"], &list["verifying"][0]["what"]),
        (&true.into(), &"integrate".into())
    );
    send(first.pid(), Signal::KILL);
    drop(first.wait());
    std::fs::remove_file(queue.sandbox.sign("held")).unwrap();
    second.wait().exits(0);
    assert_eq!(queue.landed(), ["b0", "b1"]);
    queue.holds();
}
