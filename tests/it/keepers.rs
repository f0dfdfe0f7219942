//! Keepers: one for each worktree, for many assignments, until the run ends.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::command::send;
use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;

const TELLS: &str = "echo $PPID >>\"$HOME/keepers\"; edit \"$HARNESS_TASK\" done";

fn keeper_ids(sandbox: &Sandbox) -> Vec<String> {
    let text = std::fs::read_to_string(sandbox.sign("keepers")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn keeper_serves_all_attempts_of_a_worktree_and_ends_with_the_run() {
    let tasks = ["alpha", "beta", "gamma", "delta"];
    let sandbox = Sandbox::new(TestJob::new(&tasks).set("limits", "jobs = 1"));
    sandbox.script("default", TELLS);
    sandbox.run(&["start"]).exits(0);
    let keepers = keeper_ids(&sandbox);
    assert_eq!(keepers.len(), tasks.len());
    assert_eq!(keepers.iter().collect::<BTreeSet<_>>().len(), 1, "{keepers:?}");
    assert!(sandbox.processes().is_empty(), "{:?}", sandbox.processes());
    Claim::all(&sandbox).holds();
}

#[test]
fn killed_keeper_is_replaced() {
    let job = TestJob::new(&["alpha", "beta", "gamma"]).set("limits", "jobs = 1");
    let sandbox = Sandbox::new(job.set("retry", "infra = 3"));
    let waits = format!("{TELLS}; : >\"$HOME/up\"; wait_for \"$HOME/go\"");
    sandbox.script("default", TELLS);
    sandbox.script("beta.1", &waits);
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("up");
    let first = keeper_ids(&sandbox).pop().unwrap();
    send(first.parse().unwrap(), Signal::KILL);
    sandbox.give_sign("go");
    start.wait().exits(0);
    let keepers = keeper_ids(&sandbox);
    assert_ne!(keepers.last(), Some(&first), "{keepers:?}");
    Claim::all(&sandbox).holds();
}
