//! Worktrees that have the target checked out, and remotes.

use super::QueueSandbox;

#[test]
fn uncommitted_changes_in_the_way_hold_the_landing() {
    let line = QueueSandbox::new("");
    line.branch("change", "main", &[("f1", "theirs\n")]);
    line.branch("new", "main", &[("collides", "theirs\n")]);
    line.sandbox.write("f1", "mine\n");
    line.add(&["change"]);
    line.sandbox.run(&["queue", "run"]).exits(3).says("landing waits").says("f1");
    assert!(line.landed().is_empty());
    assert_eq!(std::fs::read_to_string(line.sandbox.repo.join("f1")).unwrap(), "mine\n");
    line.sandbox.git(&["checkout", "--quiet", "--", "f1"]);
    let runs = line.runs();
    line.sandbox.run(&["queue", "run"]).exits(0).says("landed: change");
    assert_eq!(line.runs(), runs, "what was verified is not verified again");
    line.sandbox.write("collides", "mine\n");
    line.add(&["new"]);
    line.sandbox.run(&["queue", "run"]).exits(3).says("collides");
    std::fs::remove_file(line.sandbox.repo.join("collides")).unwrap();
    line.sandbox.run(&["queue", "run"]).exits(0).says("landed: new");
    line.holds();
    line.left_alone();
}

#[test]
fn linked_worktree_follows_and_a_rebase_holds_the_landing() {
    let line = QueueSandbox::new("");
    line.good(1);
    line.sandbox.git(&["checkout", "--quiet", "feature"]);
    let linked = line.sandbox.root().join("linked");
    let path = linked.to_str().unwrap();
    line.sandbox.git(&["worktree", "add", "--quiet", path, "main"]);
    line.branch("other", "main~1", &[("f1", "two\n"), ("shared", "x\n")]);
    line.add(&["b0"]);
    line.sandbox.run(&["queue", "run"]).exits(0);
    assert!(linked.join("new-b0").exists());
    assert_eq!(line.sandbox.try_git(&linked, &["status", "--porcelain"]).stdout, "");
    // A rebase of the target that has stopped at a conflict.
    std::fs::write(linked.join("shared"), "y\n").unwrap();
    assert_eq!(line.sandbox.try_git(&linked, &["commit", "--quiet", "-am", "mine"]).code, 0);
    assert_ne!(line.sandbox.try_git(&linked, &["rebase", "other"]).code, 0);
    line.branch("later", "main", &[("f6", "fine\n")]);
    line.add(&["later"]);
    line.sandbox.run(&["queue", "run"]).exits(3).says("a rebase of it is under way");
    assert_eq!(line.sandbox.try_git(&linked, &["rebase", "--abort"]).code, 0);
    line.sandbox.run(&["queue", "run"]).exits(0).says("landed: later");
    line.holds();
}

#[test]
fn push_goes_first_and_rebuilds_on_a_moved_remote() {
    let line = QueueSandbox::new("");
    let names = line.good(3);
    let hub = line.sandbox.root().join("hub.git");
    let hub = hub.to_str().unwrap();
    line.sandbox.git(&["clone", "--quiet", "--bare", ".", hub]);
    line.sandbox.git(&["remote", "add", "hub", "../hub.git"]);
    let there = |line: &QueueSandbox| line.sandbox.git(&["ls-remote", "hub", "refs/heads/main"]);
    line.add(&[&names[0]]);
    line.sandbox.run(&["queue", "run", "--push", "hub"]).exits(0).says("landed: b0");
    assert!(there(&line).starts_with(&line.sandbox.git(&["rev-parse", "main"])));

    // Another clone pushes while a train is verified.
    line.add(&[&names[1]]);
    std::fs::remove_file(line.sandbox.sign("waiting")).ok();
    line.sandbox.give_sign("held");
    let run = line.sandbox.spawn(&["queue", "run", "--push", "hub"]);
    line.sandbox.await_sign("waiting");
    let theirs = line.sandbox.root().join("theirs");
    line.sandbox.git(&["clone", "--quiet", hub, theirs.to_str().unwrap()]);
    std::fs::write(theirs.join("f8"), "theirs\n").unwrap();
    for args in
        [&["commit", "--quiet", "-am", "theirs"][..], &["push", "--quiet", "origin", "main"]]
    {
        assert_eq!(line.sandbox.try_git(&theirs, args).code, 0);
    }
    std::fs::remove_file(line.sandbox.sign("held")).unwrap();
    run.wait().exits(0).says("has moved at `hub`").says("landed: b1");
    assert_eq!(line.sandbox.git(&["show", "main:f8"]), "theirs");
    assert!(there(&line).starts_with(&line.sandbox.git(&["rev-parse", "main"])));

    // Where both sides have new commits, the queue stops for a person.
    line.sandbox.write("f9", "mine\n");
    line.sandbox.git(&["commit", "--quiet", "-m", "mine", "f9"]);
    assert_eq!(line.sandbox.try_git(&theirs, &["pull", "--quiet"]).code, 0);
    std::fs::write(theirs.join("f8"), "theirs again\n").unwrap();
    for args in
        [&["commit", "--quiet", "-am", "theirs"][..], &["push", "--quiet", "origin", "main"]]
    {
        assert_eq!(line.sandbox.try_git(&theirs, args).code, 0);
    }
    line.add(&[&names[2]]);
    line.sandbox.run(&["queue", "run", "--push", "hub"]).exits(3).says("have gone apart");
    line.sandbox.run(&["queue", "run", "--push", "nowhere"]).exits(3).says("cannot be asked");
    assert_eq!(line.landed(), ["b0", "b1"]);
    line.holds();
}

#[test]
fn staged_changes_survive_a_worktree_that_follows() {
    let line = QueueSandbox::new("");
    let lines = |second: &str| format!("this is 0\n{second}\n3\n4\n5\n6\n7\n8\n9\n");
    line.branch("one", "main", &[("f0", &lines("2")), ("f1", "dangerous\n")]);
    line.add(&["one"]);
    line.sandbox.run(&["queue", "run"]).exits(0);
    line.sandbox.write("f0", &lines("2, by hand"));
    line.sandbox.git(&["add", "f0"]);
    // A second process checks whether the worktree has followed.
    let output = line.sandbox.run(&["queue", "run"]).exits(0);
    assert!(!output.stderr.contains("behind"), "{output}");
    line.sandbox.git(&["commit", "--quiet", "--message", "by hand"]);
    line.branch("two", "main", &[("f1", "this is 1\n")]);
    line.add(&["two"]);
    line.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(line.sandbox.git(&["diff", "--cached", "--name-only"]), "");
    assert_eq!(std::fs::read_to_string(line.sandbox.repo.join("f1")).unwrap(), "this is 1\n");
}

#[test]
fn pushed_landing_is_never_force_pushed_away() {
    let line = QueueSandbox::new("batch = 1");
    let bare = line.sandbox.root().join("origin.git");
    let url = bare.to_str().unwrap().to_owned();
    line.sandbox.git(&["init", "--quiet", "--bare", &url]);
    line.sandbox.git(&["push", "--quiet", &url, "main"]);
    line.good(2);
    line.add(&["b0", "b1"]);
    // During the push of the first landing, another process removes the entry.
    let (program, repo) = (crate::sandbox::program().display(), line.sandbox.repo.display());
    let root = line.sandbox.root();
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
    line.sandbox.run(&["queue", "run", "--push", &url]).exits(0);
    let there = line.sandbox.try_git(&bare, &["log", "--format=%s", "main"]).exits(0);
    let here = line.sandbox.git(&["log", "--format=%s", "main"]);
    assert_eq!(there.stdout.trim(), here);
    assert!(line.sandbox.root().join("once").exists());
    assert_eq!(line.landed(), ["b0", "b1"]);
}
