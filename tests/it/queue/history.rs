//! Reverts, renames and stashes around landings of the queue.

use super::QueueSandbox;

#[test]
fn reverted_branch_lands_again_when_rebuilt_on_the_target() {
    let queue = QueueSandbox::new("");
    queue.branch("change", "main", &[("f1", "changed\n")]);
    queue.add(&["change"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    queue.sandbox.git(&["revert", "--no-edit", "main"]);
    assert_eq!(queue.sandbox.git(&["show", "main:f1"]), "this is 1");
    queue.branch("change", "main", &[("f1", "changed\n")]);
    queue.add(&["change"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["change", "change"]);
    assert_eq!(queue.sandbox.git(&["show", "main:f1"]), "changed");
    queue.left_alone();
}

#[test]
fn reverted_branch_with_a_new_commit_on_top_lands_whole() {
    let queue = QueueSandbox::new("");
    queue.branch("change", "main", &[("f1", "changed\n")]);
    queue.add(&["change"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    queue.sandbox.git(&["revert", "--no-edit", "main"]);
    queue.branch("change", "change", &[("f2", "fixed\n")]);
    queue.branch("stacked", "change", &[("f3", "more\n")]);
    queue.add(&["change"]);
    queue.sandbox.run(&["queue", "run"]).exits(0).says("landed: change");
    queue.add(&["stacked"]);
    queue.sandbox.run(&["queue", "run"]).exits(0).says("landed: stacked");
    for (file, text) in [("f1", "changed"), ("f2", "fixed"), ("f3", "more")] {
        assert_eq!(queue.sandbox.git(&["show", &format!("main:{file}")]), text);
    }
    queue.left_alone();
}

#[test]
fn revert_on_a_branch_lands_like_any_change() {
    let queue = QueueSandbox::new("");
    queue.branch("change", "main", &[("f1", "changed\n")]);
    queue.add(&["change"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    queue.branch("undo", "main", &[("f1", "this is 1\n")]);
    queue.add(&["undo"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.sandbox.git(&["show", "main:f1"]), "this is 1");
    assert_eq!(queue.landed(), ["change", "undo"]);
    queue.holds();
    queue.left_alone();
}

#[test]
fn rename_on_a_branch_lands_as_a_rename_and_takes_changes_of_the_target_along() {
    let queue = QueueSandbox::new("");
    let text = |first: &str| {
        let rest: String = (1..20).map(|n| format!("line {n}\n")).collect();
        format!("{first}\n{rest}")
    };
    queue.sandbox.write("f1", &text("line 0"));
    queue.sandbox.git(&["commit", "--quiet", "--message", "a long file", "f1"]);
    queue.sandbox.git(&["branch", "moves", "main"]);
    let folder = queue.sandbox.root().join("moves");
    let path = folder.to_str().unwrap();
    queue.sandbox.git(&["worktree", "add", "--quiet", path, "moves"]);
    queue.sandbox.try_git(&folder, &["mv", "f1", "moved"]).exits(0);
    queue.sandbox.try_git(&folder, &["commit", "--quiet", "--message", "move"]).exits(0);
    queue.sandbox.git(&["worktree", "remove", path]);
    queue.sandbox.write("f1", &text("line 0, changed on the target"));
    queue.sandbox.git(&["commit", "--quiet", "--message", "an edit", "f1"]);

    queue.add(&["moves"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["moves"]);
    let changes =
        queue.sandbox.git(&["show", "--format=", "--find-renames", "--name-status", "main"]);
    assert_eq!(changes, "R100\tf1\tmoved");
    assert!(
        queue.sandbox.git(&["show", "main:moved"]).starts_with("line 0, changed on the target")
    );
    queue.holds();
    queue.left_alone();
}

#[test]
fn stash_survives_a_landing_on_the_checked_out_branch() {
    let queue = QueueSandbox::new("");
    queue.sandbox.write("f1", "stashed\n");
    queue.sandbox.git(&["stash", "push", "--quiet", "f1"]);
    let stash = || queue.sandbox.git(&["stash", "list", "--format=%H %gs"]);
    let before = stash();
    queue.branch("change", "main", &[("f2", "changed\n")]);
    queue.add(&["change"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(stash(), before);
    queue.left_alone();
    queue.sandbox.git(&["checkout", "--quiet", "--", "README"]);
    queue.sandbox.git(&["stash", "pop", "--quiet"]);
    assert_eq!(std::fs::read_to_string(queue.sandbox.repo.join("f1")).unwrap(), "stashed\n");
}
