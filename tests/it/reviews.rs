//! Jobs with `[queue] review = "required"`: candidates land after an approval.

use serde_json::{Value, json};

use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::screen;

fn reviewed(tasks: &[&str]) -> Sandbox {
    Sandbox::new(TestJob::new(tasks).set("queue", "review = \"required\""))
}

/// Returns `review --format json` of a task.
fn read(sandbox: &Sandbox, task: &str) -> Value {
    let output = sandbox.run(&["review", task, "--format", "json"]).exits(0);
    serde_json::from_str(&output.stdout).unwrap()
}

/// Commits files to a branch in a worktree of its own.
fn commit(sandbox: &Sandbox, branch: &str, files: &[(&str, &str)]) {
    let worktree = sandbox.root().join("mine");
    let path = worktree.to_str().unwrap();
    sandbox.git(&["worktree", "add", "--quiet", path, branch]);
    for (file, text) in files {
        std::fs::write(worktree.join(file), format!("{text}\n")).unwrap();
    }
    for args in [&["add", "--all"][..], &["commit", "--quiet", "--message", "by hand"]] {
        assert_eq!(sandbox.try_git(&worktree, args).code, 0);
    }
    sandbox.git(&["worktree", "remove", path]);
}

#[test]
fn rejected_candidate_is_retried_with_the_comments_and_lands_when_approved() {
    let sandbox = reviewed(&["alpha"]);
    sandbox.script("alpha.1", "edit alpha 'let total = a + b'; say 'I have added them.'");
    let feedback = "expect_feedback '`alpha:1`: it must be a product'\nexpect_feedback '> let total = a + b'\n\
                expect_feedback 'And name it.'";
    sandbox.script("alpha.2", &format!("{feedback}\nedit alpha 'let product = a * b'"));
    sandbox.run(&["start"]).exits(3);
    assert_eq!(sandbox.status()["counts"]["reviewing"], 1);
    assert_eq!(sandbox.status()["state"], "active");
    sandbox.run(&["poll"]).exits(3);

    let page = sandbox.run(&["review", "alpha"]).exits(0).stdout;
    for part in ["+let total = a + b", "passed  no-bad", "I have added them.", "lands on"] {
        assert!(page.contains(part), "{part} is not in:\n{page}");
    }
    assert!(!page.contains('\u{1b}'), "nothing is painted where nobody looks");
    let patch = sandbox.run(&["review", "alpha", "--format", "patch"]).exits(0).stdout;
    std::fs::write(sandbox.root().join("p"), patch).unwrap();
    let value = read(&sandbox, "alpha");
    assert_eq!(
        (&value["files"][0]["path"], &value["checks"][0]["passed"]),
        (&json!("alpha"), &json!(true))
    );

    sandbox.run(&["reject", "alpha", "-m", "alpha:9:nothing"]).exits(128);
    let words = ["reject", "alpha", "-m", "alpha:1:it must be a product", "-m", "And name it."];
    sandbox.run(&words).exits(0);
    assert_eq!(sandbox.task("alpha")["state"], "todo");
    sandbox.run(&["approve", "alpha"]).exits(128);
    assert_eq!(sandbox.task("alpha")["approved"], Value::Null);
    sandbox.run(&["start"]).exits(3);
    let task = sandbox.task("alpha");
    assert_eq!((&task["attempts"], &task["state"]), (&json!(2), &json!("reviewing")));
    sandbox.run(&["approve", "alpha"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "let product = a * b");
    Claim::all(&sandbox).holds();
    let note = sandbox.git(&["notes", "--ref=harness", "show", "harness/job-1/result"]);
    let note: Value = serde_json::from_str(&note).unwrap();
    assert!(note["approved"]["by"].as_str().unwrap().contains('<'), "{note}");
    let log = sandbox.run(&["log", "job-1", "alpha"]).exits(0).stdout;
    assert!(log.contains("requested changes") && log.contains("approved by"), "{log}");
}

#[test]
fn commit_of_a_person_replaces_the_candidate_and_voids_its_approval() {
    let sandbox = reviewed(&["alpha"]);
    sandbox.script("alpha", "edit alpha first");
    sandbox.run(&["start"]).exits(3);
    sandbox.run(&["approve", "alpha"]).exits(0);
    // The commit fails the check: the next attempt gets the finding and starts from the target.
    commit(&sandbox, "harness/job-1/alpha", &[("alpha", "BAD"), ("notes.txt", "a person may")]);
    sandbox.script("alpha.2", "expect_feedback 'BAD'; edit alpha second");
    let output = sandbox.run(&["start"]).exits(3);
    assert!(output.stderr.contains("is the candidate now"), "{}", output.stderr);
    assert_eq!(sandbox.task("alpha")["attempts"], 2);
    // The commit passes, and waits for a review again.
    commit(&sandbox, "harness/job-1/alpha", &[("alpha", "by hand"), ("notes.txt", "a person may")]);
    sandbox.run(&["start"]).exits(3);
    let task = sandbox.task("alpha");
    assert_eq!(
        (&task["attempts"], &task["state"], &task["approved"]),
        (&json!(2), &json!("reviewing"), &Value::Null)
    );
    assert_eq!(read(&sandbox, "alpha")["revised"], true);
    sandbox.run(&["approve", "--all", "--passing"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(
        (sandbox.landed("alpha"), sandbox.landed("notes.txt")),
        ("by hand".into(), "a person may".into())
    );
    Claim::all(&sandbox).holds();
}

#[test]
fn approved_candidate_lands_while_other_tasks_run() {
    let sandbox = reviewed(&["alpha", "beta", "gamma"]);
    sandbox.script("default", "edit \"$HARNESS_TASK\" good");
    sandbox.script("gamma", "wait_for \"$HOME/go\"; edit gamma good");
    let start = sandbox.spawn(&["start"]);
    sandbox.await_that("two reviews", || {
        sandbox.run(&["status", "--json"]).stdout.contains("\"reviewing\":2")
    });
    sandbox.run(&["approve", "alpha"]).exits(0);
    sandbox.await_that("the landing", || sandbox.task("alpha")["state"] == "done");
    screen(&sandbox, "approve_done", &["approve", "alpha"]);
    assert_eq!(sandbox.task("beta")["state"], "reviewing");
    sandbox.give_sign("go");
    start.wait().exits(3);
    assert_eq!(sandbox.status()["counts"]["reviewing"], 2);
    sandbox.run(&["skip", "gamma", "-m", "not needed"]).exits(0);
    sandbox.run(&["approve", "--all"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).landed(&["alpha", "beta"]).holds();
}

#[test]
fn task_branch_without_changes_keeps_the_candidate() {
    let sandbox = reviewed(&["alpha"]);
    sandbox.script("alpha", "edit alpha good");
    sandbox.run(&["start"]).exits(3);
    let candidate = sandbox.task("alpha")["candidate"].clone();
    sandbox.git(&["update-ref", "refs/heads/harness/job-1/alpha", &sandbox.base]);
    let output = sandbox.run(&["start"]).exits(3);
    assert!(
        output.stderr.contains("which changes nothing; the candidate stays"),
        "{}",
        output.stderr
    );
    assert_eq!(sandbox.task("alpha")["candidate"], candidate);
    sandbox.run(&["approve", "alpha"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "good");
}
