//! Worktrees that have the target checked out, and remotes.

use super::QueueSandbox;
use crate::screens::{compare, screen};

#[test]
fn uncommitted_changes_in_the_way_hold_the_landing() {
    let queue = QueueSandbox::new("");
    queue.branch("change", "main", &[("f1", "theirs\n")]);
    queue.branch("new", "main", &[("collides", "theirs\n")]);
    queue.sandbox.write("f1", "mine\n");
    queue.add(&["change"]);
    screen(&queue.sandbox, "queue_run_uncommitted_change", &["queue", "run"]);
    assert!(queue.landed().is_empty());
    assert_eq!(std::fs::read_to_string(queue.sandbox.repo.join("f1")).unwrap(), "mine\n");
    queue.sandbox.git(&["checkout", "--quiet", "--", "f1"]);
    let runs = queue.runs();
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["change"]);
    assert_eq!(queue.runs(), runs, "what was verified is not verified again");
    queue.sandbox.write("collides", "mine\n");
    queue.add(&["new"]);
    screen(&queue.sandbox, "queue_run_untracked_file", &["queue", "run"]);
    std::fs::remove_file(queue.sandbox.repo.join("collides")).unwrap();
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["change", "new"]);
    queue.holds();
    queue.left_alone();
}

#[test]
fn linked_worktree_follows_and_a_rebase_holds_the_landing() {
    let queue = QueueSandbox::new("");
    queue.good(1);
    queue.sandbox.git(&["checkout", "--quiet", "feature"]);
    let linked = queue.sandbox.root().join("linked");
    let path = linked.to_str().unwrap();
    queue.sandbox.git(&["worktree", "add", "--quiet", path, "main"]);
    queue.branch("other", "main~1", &[("f1", "two\n"), ("shared", "x\n")]);
    queue.add(&["b0"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert!(linked.join("new-b0").exists());
    assert_eq!(queue.sandbox.try_git(&linked, &["status", "--porcelain"]).stdout, "");
    // A rebase of the target that has stopped at a conflict.
    std::fs::write(linked.join("shared"), "y\n").unwrap();
    assert_eq!(queue.sandbox.try_git(&linked, &["commit", "--quiet", "-am", "mine"]).code, 0);
    assert_ne!(queue.sandbox.try_git(&linked, &["rebase", "other"]).code, 0);
    queue.branch("later", "main", &[("f6", "fine\n")]);
    queue.add(&["later"]);
    screen(&queue.sandbox, "queue_run_rebase_in_progress", &["queue", "run"]);
    assert_eq!(queue.sandbox.try_git(&linked, &["rebase", "--abort"]).code, 0);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["b0", "later"]);
    queue.holds();
}

#[test]
fn push_goes_first_and_rebuilds_on_a_moved_remote() {
    let queue = QueueSandbox::new("");
    let names = queue.good(3);
    let hub = queue.sandbox.root().join("hub.git");
    let hub = hub.to_str().unwrap();
    queue.sandbox.git(&["clone", "--quiet", "--bare", ".", hub]);
    queue.sandbox.git(&["remote", "add", "hub", "../hub.git"]);
    let there = |queue: &QueueSandbox| queue.sandbox.git(&["ls-remote", "hub", "refs/heads/main"]);
    queue.add(&[&names[0]]);
    queue.sandbox.run(&["queue", "run", "--push", "hub"]).exits(0);
    assert_eq!(queue.landed(), ["b0"]);
    assert!(there(&queue).starts_with(&queue.sandbox.git(&["rev-parse", "main"])));

    // Another clone pushes while a train is verified.
    queue.add(&[&names[1]]);
    std::fs::remove_file(queue.sandbox.sign("waiting")).ok();
    queue.sandbox.give_sign("held");
    let run = queue.sandbox.spawn(&["queue", "run", "--push", "hub"]);
    queue.sandbox.await_sign("waiting");
    let theirs = queue.sandbox.root().join("theirs");
    queue.sandbox.git(&["clone", "--quiet", hub, theirs.to_str().unwrap()]);
    std::fs::write(theirs.join("f8"), "theirs\n").unwrap();
    for args in
        [&["commit", "--quiet", "-am", "theirs"][..], &["push", "--quiet", "origin", "main"]]
    {
        assert_eq!(queue.sandbox.try_git(&theirs, args).code, 0);
    }
    std::fs::remove_file(queue.sandbox.sign("held")).unwrap();
    let args = ["queue", "run", "--push", "hub"];
    compare(&queue.sandbox, "queue_run_remote_moved", &args, &run.wait());
    assert_eq!(queue.sandbox.git(&["show", "main:f8"]), "theirs");
    assert!(there(&queue).starts_with(&queue.sandbox.git(&["rev-parse", "main"])));

    // Where both sides have new commits, the queue stops for a person.
    queue.sandbox.write("f9", "mine\n");
    queue.sandbox.git(&["commit", "--quiet", "-m", "mine", "f9"]);
    assert_eq!(queue.sandbox.try_git(&theirs, &["pull", "--quiet"]).code, 0);
    std::fs::write(theirs.join("f8"), "theirs again\n").unwrap();
    for args in
        [&["commit", "--quiet", "-am", "theirs"][..], &["push", "--quiet", "origin", "main"]]
    {
        assert_eq!(queue.sandbox.try_git(&theirs, args).code, 0);
    }
    queue.add(&[&names[2]]);
    screen(&queue.sandbox, "queue_run_remote_diverged", &args);
    let nowhere = ["queue", "run", "--push", "nowhere"];
    screen(&queue.sandbox, "queue_run_remote_unknown", &nowhere);
    assert_eq!(queue.landed(), ["b0", "b1"]);
    queue.holds();
}

#[test]
fn staged_changes_survive_a_worktree_that_follows() {
    let queue = QueueSandbox::new("");
    let lines = |second: &str| format!("this is 0\n{second}\n3\n4\n5\n6\n7\n8\n9\n");
    queue.branch("one", "main", &[("f0", &lines("2")), ("f1", "dangerous\n")]);
    queue.add(&["one"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    queue.sandbox.write("f0", &lines("2, by hand"));
    queue.sandbox.git(&["add", "f0"]);
    // A second process checks whether the worktree has followed.
    let output = queue.sandbox.run(&["queue", "run"]).exits(0);
    assert!(!output.stderr.contains("behind"), "{output}");
    queue.sandbox.git(&["commit", "--quiet", "--message", "by hand"]);
    queue.branch("two", "main", &[("f1", "this is 1\n")]);
    queue.add(&["two"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.sandbox.git(&["diff", "--cached", "--name-only"]), "");
    assert_eq!(std::fs::read_to_string(queue.sandbox.repo.join("f1")).unwrap(), "this is 1\n");
}

#[test]
fn pushed_landing_is_never_force_pushed_away() {
    let queue = QueueSandbox::new("batch = 1");
    let bare = queue.sandbox.root().join("origin.git");
    let url = bare.to_str().unwrap().to_owned();
    queue.sandbox.git(&["init", "--quiet", "--bare", &url]);
    queue.sandbox.git(&["push", "--quiet", &url, "main"]);
    queue.good(2);
    queue.add(&["b0", "b1"]);
    // During the push of the first landing, another process removes the entry.
    let (program, repo) = (crate::sandbox::program().display(), queue.sandbox.repo.display());
    let root = queue.sandbox.root();
    let hook = format!(
        "#!/bin/sh\n[ -e {0}/once ] && exit 0\n: >{0}/once\n\
         for v in $(git rev-parse --local-env-vars) GIT_QUARANTINE_PATH; do unset $v; done\n\
         cd {repo} && {program} queue remove b0\n",
        root.display()
    );
    let file = bare.join("hooks/post-receive");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, hook).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    queue.sandbox.run(&["queue", "run", "--push", &url]).exits(0);
    let there = queue.sandbox.try_git(&bare, &["log", "--format=%s", "main"]).exits(0);
    let here = queue.sandbox.git(&["log", "--format=%s", "main"]);
    assert_eq!(there.stdout.trim(), here);
    assert!(queue.sandbox.root().join("once").exists());
    assert_eq!(queue.landed(), ["b0", "b1"]);
}
