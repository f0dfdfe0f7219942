//! The user's stash, which agents share.

use rustix::process::Signal;

use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// The record of the user's entries while agents work.
const RECORD: &str = "refs/harness/stash/job-1";

/// Makes an entry of the stash from a change of `shared`.
fn stash(sandbox: &Sandbox, message: &str) {
    sandbox.write("shared", &format!("{message}\n"));
    sandbox.git(&["stash", "push", "--quiet", "--message", message, "--", "shared"]);
}

/// Returns the entries of the stash, newest first.
fn entries(sandbox: &Sandbox) -> Vec<String> {
    sandbox.git(&["stash", "list", "--format=%s"]).lines().map(str::to_owned).collect()
}

fn record_exists(sandbox: &Sandbox) -> bool {
    sandbox.try_git(&sandbox.repo, &["rev-parse", "--verify", "--quiet", RECORD]).code == 0
}

#[test]
fn stash_entry_of_the_user_that_an_agent_pops_is_put_back_and_does_not_land() {
    let job = TestJob::new(&["alpha"]).set("scope", "always = [\"shared\"]");
    let sandbox = Sandbox::new(job.set("retry", "feedback = 1"));
    for message in ["first", "my wip"] {
        stash(&sandbox, message);
    }
    sandbox.remember();
    let pop = "expect_brief 'Do not run `git stash`'; edit alpha done; propose done; git stash push --quiet; git stash pop";
    sandbox.script("alpha.1", pop);
    sandbox.script("alpha.2", "expect_feedback 'Do not run `git stash`'; edit alpha again");
    let told =
        "an entry of your stash disappeared meanwhile and is back as stash@{0}: `On main: my wip`";
    sandbox.run(&["start"]).exits(0).says(told);
    // The user's things include the reflog of the stash, byte for byte.
    Claim::all(&sandbox).holds();
    assert_eq!(entries(&sandbox), ["On main: my wip", "On main: first"]);
    assert_eq!(sandbox.landed("shared"), "one\ntwo\nthree");
    let shown = sandbox.run(&["show", "alpha"]).exits(0).stdout;
    assert!(shown.contains("attempt 1, notes:\n  attempt 1: an entry of your stash"), "{shown}");
    assert!(shown.contains("`shared` is as in the stash of the user"), "{shown}");
    assert!(!record_exists(&sandbox));
}

#[test]
fn conflict_with_a_stash_entry_of_the_user_does_not_land() {
    let job = TestJob::new(&["alpha"]).set("scope", "always = [\"shared\"]");
    let sandbox = Sandbox::new(job.set("retry", "feedback = 1"));
    stash(&sandbox, "my wip");
    sandbox.remember();
    let apply = "edit alpha done; edit shared other; propose done; git stash pop || true";
    sandbox.script("alpha.1", apply);
    sandbox.script("alpha.2", "expect_feedback '`shared` has a conflict'; edit alpha again");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("shared"), "one\ntwo\nthree");
}

#[test]
fn stash_entry_that_an_agent_leaves_is_removed_and_kept_with_its_attempt() {
    for user_has_entry in [true, false] {
        let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
        if user_has_entry {
            stash(&sandbox, "my wip");
        }
        sandbox.remember();
        let leave = "edit alpha aside; git stash push --quiet --message mine; edit alpha done";
        sandbox.script("alpha.1", leave);
        let told = "alpha: attempt 1: the agent left an entry in the stash, which was removed";
        sandbox.run(&["start"]).exits(0).says(told);
        Claim::all(&sandbox).holds();
        assert_eq!(sandbox.landed("alpha"), "done");
        let kept = "refs/harness/tasks/job-1/alpha:attempts/1/stash-0/alpha";
        assert_eq!(sandbox.git(&["cat-file", "blob", kept]), "aside");
    }
}

#[test]
fn stash_entry_that_the_user_makes_during_an_attempt_survives() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    let script = ": >\"$HOME/begun\"; wait_for \"$HOME/clear\"; git stash clear; edit alpha done";
    sandbox.script("alpha.1", script);
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("begun");
    stash(&sandbox, "during");
    sandbox.await_that("the record", || record_exists(&sandbox));
    sandbox.remember();
    sandbox.give_sign("clear");
    start.wait().exits(0).says("is back as stash@{0}: `On main: during`");
    Claim::all(&sandbox).holds();
    assert_eq!(entries(&sandbox), ["On main: during"]);
}

#[test]
fn stash_is_put_back_by_the_next_start_after_a_killed_supervisor() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    for message in ["one", "two", "three"] {
        stash(&sandbox, message);
    }
    sandbox.remember();
    let script = ": >\"$HOME/begun\"; wait_for \"$HOME/go\"; git stash drop --quiet 'stash@{1}'; \
                  edit alpha done; : >\"$HOME/dropped\"";
    sandbox.script("alpha.1", script);
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("begun");
    start.signal(Signal::KILL);
    drop(start.wait());
    sandbox.give_sign("go");
    sandbox.await_sign("dropped");
    sandbox.run(&["start"]).exits(0).says("is back as stash@{1}: `On main: two`");
    Claim::all(&sandbox).holds();
    assert_eq!(entries(&sandbox), ["On main: three", "On main: two", "On main: one"]);
}

/// Restores the user's stash after an agent, and kills the supervisor at the Nth step.
#[cfg(debug_assertions)]
fn killed_while_restoring(n: usize) -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    stash(&sandbox, "my wip");
    sandbox.remember();
    sandbox.script("alpha.1", "git stash drop --quiet; edit alpha done");
    let counter = sandbox.sign("steps");
    let (file, at) = (counter.to_string_lossy().into_owned(), n.to_string());
    let more = [
        ("GIT_HARNESS_FAILPOINT_COUNTER", file.as_str()),
        ("GIT_HARNESS_FAILPOINT_AT", at.as_str()),
    ];
    let output = sandbox.run_in(&sandbox.repo.clone(), &["start"], &more);
    assert!(matches!(output.code, 0 | 137), "{output}");
    let steps = std::fs::read_to_string(counter).unwrap();
    (sandbox, steps.lines().map(str::to_owned).collect())
}

#[cfg(debug_assertions)]
#[test]
fn stash_locks_of_a_killed_supervisor_are_removed_by_the_next_start() {
    let (_, steps) = killed_while_restoring(100_000);
    let mut killed = 0;
    for (at, step) in steps.iter().enumerate().filter(|(_, step)| step.starts_with("stash.")) {
        let (sandbox, _) = killed_while_restoring(at + 1);
        assert!(sandbox.repo.join(".git/refs/stash.lock").is_file(), "{step}");
        sandbox.run(&["start"]).exits(0);
        Claim::all(&sandbox).holds();
        assert_eq!(entries(&sandbox), ["On main: my wip"], "{step}");
        assert!(!sandbox.repo.join(".git/refs/stash.lock").exists(), "{step}");
        assert!(!sandbox.repo.join(".git/logs/refs/stash.lock").exists(), "{step}");
        killed += 1;
    }
    assert_eq!(killed, 3, "{steps:?}");
}

#[test]
fn stash_entry_of_a_running_agent_stays_when_another_agent_ends() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]));
    stash(&sandbox, "my wip");
    sandbox.remember();
    let alpha = "edit alpha aside; git stash push --quiet; : >\"$HOME/pushed\"\n\
                 wait_for \"$HOME/dropped\"\n\
                 until [ \"$(git stash list | wc -l)\" = 2 ]; do sleep 0.05; done\n\
                 git stash pop --quiet";
    sandbox.script("alpha.1", alpha);
    let beta = "wait_for \"$HOME/pushed\"; git stash drop --quiet 'stash@{1}'; : >\"$HOME/dropped\"; edit beta done";
    sandbox.script("beta.1", beta);
    let told =
        "beta: attempt 1: an entry of your stash disappeared meanwhile and is back as stash@{1}";
    sandbox.run(&["start", "--jobs", "2"]).exits(0).says(told);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("alpha"), "aside");
}
