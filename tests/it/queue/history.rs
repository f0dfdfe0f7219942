//! Reverts, renames and stashes around landings of the queue.

use super::QueueSandbox;

#[test]
fn reverted_branch_lands_again_when_rebuilt_on_the_target() {
    let line = QueueSandbox::new("");
    line.branch("change", "main", &[("f1", "changed\n")]);
    line.add(&["change"]);
    line.sandbox.run(&["queue", "run"]).exits(0);
    line.sandbox.git(&["revert", "--no-edit", "main"]);
    assert_eq!(line.sandbox.git(&["show", "main:f1"]), "this is 1");
    line.branch("change", "main", &[("f1", "changed\n")]);
    line.add(&["change"]);
    line.sandbox.run(&["queue", "run"]).exits(0).says("landed: change");
    assert_eq!(line.sandbox.git(&["show", "main:f1"]), "changed");
    line.left_alone();
}

#[test]
fn revert_on_a_branch_lands_like_any_change() {
    let line = QueueSandbox::new("");
    line.branch("change", "main", &[("f1", "changed\n")]);
    line.add(&["change"]);
    line.sandbox.run(&["queue", "run"]).exits(0);
    line.branch("undo", "main", &[("f1", "this is 1\n")]);
    line.add(&["undo"]);
    line.sandbox.run(&["queue", "run"]).exits(0).says("landed: undo");
    assert_eq!(line.sandbox.git(&["show", "main:f1"]), "this is 1");
    assert_eq!(line.landed(), ["change", "undo"]);
    line.holds();
    line.left_alone();
}

#[test]
fn rename_on_a_branch_lands_as_a_rename_and_takes_changes_of_the_target_along() {
    let line = QueueSandbox::new("");
    let text = |first: &str| {
        let rest: String = (1..20).map(|n| format!("line {n}\n")).collect();
        format!("{first}\n{rest}")
    };
    line.sandbox.write("f1", &text("line 0"));
    line.sandbox.git(&["commit", "--quiet", "--message", "a long file", "f1"]);
    line.sandbox.git(&["branch", "moves", "main"]);
    let folder = line.sandbox.root().join("moves");
    let path = folder.to_str().unwrap();
    line.sandbox.git(&["worktree", "add", "--quiet", path, "moves"]);
    line.sandbox.try_git(&folder, &["mv", "f1", "moved"]).exits(0);
    line.sandbox.try_git(&folder, &["commit", "--quiet", "--message", "move"]).exits(0);
    line.sandbox.git(&["worktree", "remove", path]);
    line.sandbox.write("f1", &text("line 0, changed on the target"));
    line.sandbox.git(&["commit", "--quiet", "--message", "an edit", "f1"]);

    line.add(&["moves"]);
    line.sandbox.run(&["queue", "run"]).exits(0).says("landed: moves");
    let changes =
        line.sandbox.git(&["show", "--format=", "--find-renames", "--name-status", "main"]);
    assert_eq!(changes, "R100\tf1\tmoved");
    assert!(line.sandbox.git(&["show", "main:moved"]).starts_with("line 0, changed on the target"));
    line.holds();
    line.left_alone();
}

#[test]
fn stash_survives_a_landing_on_the_checked_out_branch() {
    let line = QueueSandbox::new("");
    line.sandbox.write("f1", "stashed\n");
    line.sandbox.git(&["stash", "push", "--quiet", "f1"]);
    let stash = || line.sandbox.git(&["stash", "list", "--format=%H %gs"]);
    let before = stash();
    line.branch("change", "main", &[("f2", "changed\n")]);
    line.add(&["change"]);
    line.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(stash(), before);
    line.left_alone();
    line.sandbox.git(&["checkout", "--quiet", "--", "README"]);
    line.sandbox.git(&["stash", "pop", "--quiet"]);
    assert_eq!(std::fs::read_to_string(line.sandbox.repo.join("f1")).unwrap(), "stashed\n");
}
