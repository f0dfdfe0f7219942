//! Killed queues, and targets and branches that move during a verification.

use std::time::Duration;

use rustix::process::Signal;

use super::QueueSandbox;
use crate::command::send;

/// More starts than any queue needs.
const STARTS: usize = 60;

fn mixed(more: &str) -> (QueueSandbox, Vec<String>) {
    let line = QueueSandbox::new(more);
    let mut names = line.good(6);
    line.branch("bad", "main", &[("f3", "BAD\n")]);
    line.branch("m1", "main", &[("m1", "")]);
    line.branch("m2", "main", &[("m2", "")]);
    names.extend(["bad", "m1", "m2"].map(str::to_owned));
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    line.add(&all);
    (line, names)
}

fn ends_well(line: &QueueSandbox) {
    for _ in 0..STARTS {
        let output = line.sandbox.run(&["queue", "run"]);
        match output.code {
            // Exit code 2: this process rejected `bad`.
            0 | 2 => break,
            137 => {}
            _ => panic!("an unexpected end:\n{output}"),
        }
    }
    let states = line.states();
    let landed = states.values().filter(|state| *state == "landed").count();
    assert_eq!((landed, states["bad"].as_str()), (7, "rejected"), "{states:?}");
    line.holds();
    line.left_alone();
}

#[test]
fn queue_killed_at_random_moments_lands_each_branch_once() {
    let (line, _) = mixed("ahead = 3\nbatch = 4");
    for n in 0..8 {
        let run = line.sandbox.spawn(&["queue", "run"]);
        std::thread::sleep(Duration::from_millis(20 + 25 * n));
        for pid in line.sandbox.keepers().into_iter().chain([run.pid()]) {
            send(pid, Signal::KILL);
        }
        drop(run.wait());
        line.holds();
    }
    ends_well(&line);
}

#[cfg(debug_assertions)]
#[test]
fn queue_killed_at_every_failpoint_lands_each_branch_once() {
    for n in 1..1_000 {
        let line = QueueSandbox::new("");
        line.branch("good", "main", &[("f1", "fine\n")]);
        line.branch("bad", "main", &[("f3", "BAD\n")]);
        line.add(&["good", "bad"]);
        let counter = line.sandbox.sign("steps");
        let (at, file) = (n.to_string(), counter.to_string_lossy().into_owned());
        let more = [
            ("GIT_HARNESS_FAILPOINT_COUNTER", file.as_str()),
            ("GIT_HARNESS_FAILPOINT_AT", at.as_str()),
        ];
        let repo = line.sandbox.repo.clone();
        let output = line.sandbox.run_in(&repo, &["queue", "run"], &more);
        let steps = std::fs::read_to_string(&counter).unwrap_or_default();
        let name = steps.lines().nth(n - 1).unwrap_or("none").to_owned();
        assert!(matches!(output.code, 1 | 137), "killed at step {n}, {name}:\n{output}");
        line.holds();
        let again = line.sandbox.run(&["queue", "run"]);
        assert!(matches!(again.code, 0 | 2), "killed at step {n}, {name}:\n{output}{again}");
        let states = line.states();
        assert_eq!((&*states["good"], &*states["bad"]), ("landed", "rejected"), "step {n}, {name}");
        line.holds();
        line.left_alone();
        if name == "none" {
            assert!(n > 10, "hardly a step was seen: {n}");
            return;
        }
    }
    panic!("it does not come to an end");
}

#[test]
fn target_moved_during_verification_rebuilds_the_train() {
    let line = QueueSandbox::new("");
    line.good(2);
    line.add(&["b0", "b1"]);
    line.sandbox.give_sign("held");
    let run = line.sandbox.spawn(&["queue", "run"]);
    line.sandbox.await_sign("waiting");
    line.sandbox.write("f9", "by hand\n");
    line.sandbox.git(&["commit", "--quiet", "--message", "by hand", "f9"]);
    let by_hand = line.sandbox.git(&["rev-parse", "HEAD"]);
    std::fs::remove_file(line.sandbox.sign("held")).unwrap();
    run.wait().exits(0).says("landed: b0, b1");
    line.sandbox.git(&["merge-base", "--is-ancestor", &by_hand, "main"]);
    assert_eq!(line.runs(), 2, "what was said of another tree says nothing");
    line.holds();
    line.left_alone();
}

#[test]
fn moved_branch_is_reverified_and_deleted_branch_is_removed() {
    let line = QueueSandbox::new("");
    line.good(3);
    line.add(&["b0", "b1", "b2"]);
    line.sandbox.give_sign("held");
    let run = line.sandbox.spawn(&["queue", "run"]);
    line.sandbox.await_sign("waiting");
    line.branch("b1", "b1", &[("f5", "amended\n")]);
    line.sandbox.git(&["branch", "-D", "b2"]);
    std::fs::remove_file(line.sandbox.sign("held")).unwrap();
    run.wait().exits(1).says("b1: moved to").says("b2: its branch was deleted");
    assert_eq!(line.sandbox.git(&["show", "main:f5"]), "amended");
    assert_eq!(line.landed(), ["b0", "b1"]);
    assert_eq!(line.states()["b2"], "removed");
    line.holds();
}

#[test]
fn flaky_check_ejects_no_branch() {
    let line = QueueSandbox::new("");
    line.branch("unlucky", "main", &[("flaky", "")]);
    line.good(1);
    line.add(&["b0", "unlucky"]);
    line.sandbox.run(&["queue", "run"]).exits(0).says("verifying alone unlucky").says("2 landed");
    line.holds();
}

#[test]
fn failing_target_tip_stops_the_queue_and_blames_no_branch() {
    let line = QueueSandbox::new("");
    line.good(1);
    line.sandbox.write("f7", "BAD\n");
    line.sandbox.git(&["commit", "--quiet", "--message", "broken", "f7"]);
    line.add(&["b0"]);
    line.sandbox.run(&["queue", "run"]).exits(3).says("the tip of `main` fails its own checks");
    assert_eq!(line.states()["b0"], "queued");
    line.sandbox.write("f7", "mended\n");
    line.sandbox.git(&["commit", "--quiet", "--message", "mended", "f7"]);
    line.sandbox.run(&["queue", "run"]).exits(0);
    line.holds();
}

#[test]
fn check_that_cannot_be_run_stops_the_queue() {
    let line = QueueSandbox::new("");
    line.good(1);
    let text = std::fs::read_to_string(line.sandbox.repo.join("harness.toml")).unwrap();
    line.sandbox.write("harness.toml", &text.replace("\"sh\"", "\"no-such-program\""));
    line.sandbox.git(&["commit", "--quiet", "--message", "another shell", "harness.toml"]);
    line.add(&["b0"]);
    line.sandbox.run(&["queue", "run"]).exits(3).says("could not be run 5 times in a row");
    assert_eq!(line.states()["b0"], "queued");
}

#[test]
fn check_that_changes_tracked_files_is_no_verdict() {
    let line = QueueSandbox::new("");
    line.branch("sloppy", "main", &[("f1", "BAD\n")]);
    line.sandbox.write("check.sh", "sed -i s/BAD/good/ f*; ! grep BAD f*\n");
    line.sandbox.git(&["commit", "--quiet", "--message", "a check that mends", "check.sh"]);
    line.add(&["sloppy"]);
    line.sandbox.run(&["queue", "run"]).exits(3).says("the checks have changed `f1`");
    assert!(line.landed().is_empty());
    // Untracked files do not matter.
    line.sandbox.write("check.sh", "echo said >report; ! grep BAD f0\n");
    line.sandbox.git(&["commit", "--quiet", "--message", "a check that writes", "check.sh"]);
    line.sandbox.run(&["queue", "run"]).exits(0).says("landed: sloppy");
}

#[test]
fn second_queue_process_takes_over_after_a_kill() {
    let line = QueueSandbox::new("");
    line.good(2);
    line.add(&["b0", "b1"]);
    line.sandbox.give_sign("held");
    let first = line.sandbox.spawn(&["queue", "run"]);
    line.sandbox.await_sign("waiting");
    let second = line.sandbox.spawn(&["queue", "run"]);
    line.sandbox.await_that("the viewer", || second.stderr().contains("this one watches"));
    let list = line.list();
    assert_eq!(
        (&list["running"], &list["verifying"][0]["what"]),
        (&true.into(), &"integrate".into())
    );
    send(first.pid(), Signal::KILL);
    drop(first.wait());
    std::fs::remove_file(line.sandbox.sign("held")).unwrap();
    second.wait().exits(0).says("landed: b0, b1");
    line.holds();
}
