//! Branches that break the rules of the target are rejected before they land.

use super::QueueSandbox;

/// Adds `bad` and `b0`. Only `b0` lands, and `bad` is rejected with a reason that has `part`.
fn rejects_bad(queue: &QueueSandbox, part: &str) {
    queue.good(1);
    queue.add(&["bad", "b0"]);
    queue.sandbox.run(&["queue", "run"]).exits(1);
    assert_eq!(queue.landed(), ["b0"]);
    let why = queue.why("bad");
    assert!(why.starts_with("bad: rejected: ") && why.contains(part), "{why}");
    // The queue goes on.
    queue.branch("next", "main", &[("f5", "fine\n")]);
    queue.add(&["next"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    queue.holds();
    queue.left_alone();
}

/// Returns the text of the target's `harness.toml` with a change.
fn job_file(queue: &QueueSandbox, change: impl Fn(String) -> String) -> String {
    change(std::fs::read_to_string(queue.sandbox.repo.join("harness.toml")).unwrap())
}

#[test]
fn syntax_error_in_the_job_file_rejects_its_branch() {
    let queue = QueueSandbox::new("");
    let text = job_file(&queue, |text| text + "[[check\n");
    queue.branch("bad", "main", &[("harness.toml", &text)]);
    rejects_bad(&queue, "not valid TOML");
}

#[test]
fn unknown_key_in_the_job_file_rejects_its_branch() {
    let queue = QueueSandbox::new("");
    let text = job_file(&queue, |text| format!("runn = [\"x\"]\n{text}"));
    queue.branch("bad", "main", &[("harness.toml", &text)]);
    rejects_bad(&queue, "harness.toml:1:1: unknown key `runn`");
}

#[test]
fn removal_of_the_last_check_rejects_its_branch() {
    let queue = QueueSandbox::new("");
    queue.branch("bad", "main", &[("harness.toml", "[queue]\nbatch = 4\n")]);
    rejects_bad(&queue, "harness.toml: no [[check]]: every change would land unchecked");
}

#[test]
fn removal_of_the_job_file_rejects_its_branch() {
    let queue = QueueSandbox::new("");
    let place = queue.sandbox.root().join("mine");
    let path = place.to_str().unwrap();
    queue.sandbox.git(&["worktree", "add", "--quiet", "-B", "bad", path, "main"]);
    for args in [&["rm", "--quiet", "harness.toml"][..], &["commit", "--quiet", "-m", "no rules"]] {
        assert_eq!(queue.sandbox.try_git(&place, args).code, 0);
    }
    queue.sandbox.git(&["worktree", "remove", "--force", path]);
    rejects_bad(&queue, "no regular file `harness.toml` is left");
}

#[test]
fn job_file_as_a_link_rejects_its_branch() {
    let queue = QueueSandbox::new("");
    let place = queue.sandbox.root().join("mine");
    let path = place.to_str().unwrap();
    queue.sandbox.git(&["worktree", "add", "--quiet", "-B", "bad", path, "main"]);
    std::fs::rename(place.join("harness.toml"), place.join("rules.toml")).unwrap();
    std::os::unix::fs::symlink("rules.toml", place.join("harness.toml")).unwrap();
    for args in [&["add", "--all"][..], &["commit", "--quiet", "-m", "a link"]] {
        assert_eq!(queue.sandbox.try_git(&place, args).code, 0);
    }
    queue.sandbox.git(&["worktree", "remove", "--force", path]);
    rejects_bad(&queue, "no regular file `harness.toml` is left");
}
