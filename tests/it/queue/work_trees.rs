//! Work trees that have the target checked out.

use super::Line;

#[test]
fn a_landing_waits_for_what_is_not_committed_in_its_way() {
    let line = Line::new("");
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
fn linked_work_trees_follow_too_and_a_rebase_is_waited_for() {
    let line = Line::new("");
    line.good(1);
    line.sandbox.git(&["checkout", "--quiet", "feature"]);
    let linked = line.sandbox.root().join("linked");
    let path = linked.to_str().unwrap();
    line.sandbox.git(&["worktree", "add", "--quiet", path, "main"]);
    line.branch("other", "main~1", &[("f1", "two\n"), ("shared", "x\n")]);
    line.add(&["b0"]);
    line.sandbox.run(&["queue", "run"]).exits(0);
    assert!(linked.join("new-b0").exists());
    assert_eq!(line.sandbox.try_git(&linked, &["status", "--porcelain"]).out, "");
    // A rebase of the target that stands still because of a conflict.
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
fn a_remote_gets_each_landing_first_and_may_have_moved() {
    let line = Line::new("");
    let names = line.good(3);
    let hub = line.sandbox.root().join("hub.git");
    let hub = hub.to_str().unwrap();
    line.sandbox.git(&["clone", "--quiet", "--bare", ".", hub]);
    line.sandbox.git(&["remote", "add", "hub", hub]);
    let there = |line: &Line| line.sandbox.git(&["ls-remote", "hub", "refs/heads/main"]);
    line.add(&[&names[0]]);
    line.sandbox.run(&["queue", "run", "--push", "hub"]).exits(0).says("landed: b0");
    assert!(there(&line).starts_with(&line.sandbox.git(&["rev-parse", "main"])));

    // Somebody else pushes while a train is verified.
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

    // Where both have gone on by themselves, a person is asked.
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
