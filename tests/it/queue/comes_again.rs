//! Branches that have landed once and come again, and content that the target has already.

use super::QueueSandbox;

/// Returns a queue in which the branch `feat` has landed.
fn landed_once(more: &str) -> QueueSandbox {
    let queue = QueueSandbox::new(more);
    queue.branch("feat", "main", &[("feat1", "the feature\n")]);
    queue.add(&["feat"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    queue
}

fn set_back(queue: &QueueSandbox) {
    queue.sandbox.git(&["reset", "--quiet", "--keep", "main~1"]);
}

fn shows(queue: &QueueSandbox, files: &[&str]) {
    for file in files {
        queue.sandbox.git(&["cat-file", "-e", &format!("main:{file}")]);
    }
    queue.left_alone();
}

/// Adds a branch and runs the queue, which lands the branch.
fn lands(queue: &QueueSandbox, branch: &str) {
    queue.add(&[branch]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.states()[branch], "landed");
}

#[test]
fn branch_with_a_fix_lands_whole_after_the_target_was_set_back() {
    let queue = landed_once("");
    set_back(&queue);
    queue.branch("feat", "feat", &[("fix", "a fix\n")]);
    lands(&queue, "feat");
    shows(&queue, &["feat1", "fix"]);
}

#[test]
fn unchanged_branch_lands_again_after_the_target_was_set_back() {
    let queue = landed_once("");
    set_back(&queue);
    lands(&queue, "feat");
    shows(&queue, &["feat1"]);
}

#[test]
fn unchanged_branch_lands_again_after_a_revert() {
    let queue = landed_once("");
    queue.sandbox.git(&["revert", "--no-edit", "main"]);
    lands(&queue, "feat");
    shows(&queue, &["feat1"]);
}

#[test]
fn stacked_branch_lands_with_its_base_after_the_target_was_set_back() {
    let queue = landed_once("");
    set_back(&queue);
    queue.branch("top", "feat", &[("top", "on top\n")]);
    lands(&queue, "top");
    shows(&queue, &["feat1", "top"]);
}

#[test]
fn merged_branch_that_was_reverted_is_rejected_with_the_revert() {
    let queue = landed_once("merge = \"merge\"");
    queue.sandbox.git(&["revert", "--no-edit", "--mainline", "1", "main"]);
    let revert = queue.sandbox.git(&["rev-parse", "main"]);
    queue.add(&["feat"]);
    queue.sandbox.run(&["queue", "run"]).exits(1);
    let why = queue.why("feat");
    let start = "feat: rejected: contained in main; ";
    let end = " reverted it: revert that commit, or rebase";
    let commit = why.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
    assert!(commit.is_some_and(|commit| revert.starts_with(commit)), "{why}");
    assert_eq!(queue.sandbox.git(&["rev-parse", "main"]), revert);
    // Reverted once more, it is contained.
    queue.sandbox.git(&["revert", "--no-edit", "main"]);
    let output = queue.sandbox.run(&["queue", "add", "feat"]).exits(0);
    assert!(output.stderr.contains("feat: already on `main`"), "{output}");
}

#[test]
fn content_of_the_target_lands_without_a_commit() {
    let queue = QueueSandbox::new("");
    queue.branch("one", "main", &[("f1", "changed\n")]);
    queue.branch("two", "main", &[("f1", "changed\n")]);
    queue.good(1);
    queue.add(&["one", "two", "b0"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["one", "b0"]);
    let list = queue.list();
    let entry = list["entries"].as_array().unwrap().iter().find(|e| e["branch"] == "two").unwrap();
    assert_eq!((entry["state"].as_str(), &entry["landed_as"]), (Some("landed"), &().into()));
    assert_eq!(
        queue.why("two"),
        "two: landed without a commit: the target had its content already"
    );
    lands(&queue, "one");
    assert_eq!(queue.landed(), ["one", "b0"]);
    queue.holds();
    queue.left_alone();
}

#[test]
fn queue_of_a_deleted_target_does_not_hide_another() {
    let queue = landed_once("");
    queue.sandbox.git(&["branch", "other", "main"]);
    queue.branch("late", "main", &[("late", "")]);
    queue.sandbox.run(&["queue", "--target", "other", "add", "late"]).exits(0);
    queue.sandbox.git(&["branch", "-D", "other"]);
    lands(&queue, "late");
    shows(&queue, &["late"]);
}
