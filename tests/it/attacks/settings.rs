//! Settings of the repository that an agent changes.

use rustix::process::Signal;

use crate::job::TestJob;
use crate::sandbox::Sandbox;

#[test]
fn setting_that_an_agent_changes_before_it_kills_the_supervisor_stops_the_next_one() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]).set("sandbox", "mode = \"off\""));
    sandbox.script(
        "alpha",
        "edit alpha done; git config gc.recentObjectsHook 'evil'; : >\"$HOME/up\"; wait_for \"$HOME/go\"",
    );
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("up");
    start.signal(Signal::KILL);
    drop(start.wait());
    sandbox.give_sign("go");
    let said = sandbox.run(&["start"]).exits(3).stderr.clone();
    assert!(said.contains("`gc.recentObjectsHook`"), "{said}");
    // The person was told.
    sandbox.git(&["config", "--unset", "gc.recentObjectsHook"]);
    sandbox.remember();
    sandbox.script("alpha", "edit alpha done");
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "done");
}

#[test]
fn filter_that_an_agent_plants_stops_the_run_and_lands_nothing() {
    let job = TestJob::new(&["alpha", "beta"])
        .set("sandbox", "mode = \"off\"")
        .set("limits", "jobs = 1")
        .set("retry", "feedback = 0\ninfra = 0");
    let sandbox = Sandbox::new(job);
    // What is checked out has no BAD; what is committed has.
    sandbox.script(
        "alpha",
        "edit alpha BAD; propose a\n\
         common=$(git rev-parse --git-common-dir)\n\
         git config filter.x.smudge \"sed 's/BAD/good/'\"; git config filter.x.clean \"sed 's/good/BAD/'\"\n\
         mkdir -p \"$common/info\"; echo 'alpha filter=x' >\"$common/info/attributes\"",
    );
    let start = sandbox.run(&["start"]).exits(3);
    assert!(start.stderr.contains("`filter.x.clean`"), "{}", start.stderr);
    assert!(start.stderr.contains("changed while agents were at work"), "{}", start.stderr);
    let target = sandbox.git(&["show", "harness/job-1/result:alpha"]);
    assert!(!target.contains("BAD"), "{target}");
    // The filter was taken away, and the run continues when the attributes are back, too.
    assert_eq!(sandbox.try_git(&sandbox.repo, &["config", "--get-regexp", "^filter"]).code, 1);
    std::fs::remove_file(sandbox.repo.join(".git/info/attributes")).unwrap();
    sandbox.remember();
    sandbox.script("alpha", "edit alpha good");
    drop(sandbox.run(&["start"]));
    drop(sandbox.run(&["retry", "--failed"]));
    sandbox.run(&["start", "--force"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "good");
}

#[test]
fn hooks_that_an_agent_plants_are_taken_away_and_its_work_is_not_trusted() {
    let job = TestJob::new(&["alpha"]).set("sandbox", "mode = \"off\"").set("retry", "infra = 3");
    let sandbox = Sandbox::new(job);
    sandbox.script(
        "alpha",
        "edit alpha evil; propose a; common=$(git rev-parse --git-common-dir)\n\
         git config core.hooksPath /nowhere; git config core.bare true\n\
         mkdir -p \"$common/hooks\"; echo evil >\"$common/hooks/post-commit\"",
    );
    let said = sandbox.run(&["start"]).exits(3).stderr.clone();
    assert!(said.contains("`core.hooksPath`") && said.contains("put back: "), "{said}");
    assert_eq!(sandbox.harmed(), Vec::<String>::new());
    let kept = std::fs::read_dir(sandbox.repo.join(".git/harness/quarantine")).unwrap().count();
    assert_eq!(kept, 2);
    assert_ne!(sandbox.task("alpha")["state"], "done");
    sandbox.script("alpha", "edit alpha good");
    sandbox.run(&["start", "--force"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "good");
}

#[test]
fn branch_of_the_user_that_an_agent_moves_is_set_back() {
    for attack in [
        "git symbolic-ref HEAD refs/heads/main; edit alpha evil; git add --all; git commit -qm evil",
        "edit alpha evil; propose a; git update-ref refs/heads/main HEAD",
        "edit alpha evil; git update-ref -d refs/heads/main",
    ] {
        let job =
            TestJob::new(&["alpha"]).set("sandbox", "mode = \"off\"").set("retry", "infra = 3");
        let sandbox = Sandbox::new(job);
        sandbox.script("alpha", attack);
        let said = sandbox.run(&["start"]).exits(3).stderr.clone();
        assert!(said.contains("although it is checked out, and is back at"), "{attack}: {said}");
        assert_eq!(sandbox.git(&["rev-parse", "refs/heads/main"]), sandbox.base, "{attack}");
    }
}

#[test]
fn moves_of_the_user_are_not_taken_for_an_attack() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]).set("sandbox", "mode = \"off\""));
    sandbox.script("alpha", "edit alpha done; : >\"$HOME/up\"; wait_for \"$HOME/go\"");
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("up");
    for arguments in [
        &["commit", "-qam", "mine"][..],
        &["commit", "-q", "--amend", "-m", "mine too"],
        &["branch", "-f", "feature", "HEAD"],
        &["tag", "v2"],
        &["checkout", "-q", "-b", "other"],
        &["branch", "-D", "feature"],
        &["config", "user.name", "A Person"],
        &["update-ref", "refs/heads/main", "HEAD~1"],
        &["reset", "-q", "--hard", "HEAD~1"],
    ] {
        sandbox.git(arguments);
    }
    sandbox.give_sign("go");
    let said = start.wait().exits(0).stderr.clone();
    // Nothing is taken for an attack, and everything is named.
    assert!(
        said.contains("`feature` (deleted), `other` (new), `refs/tags/v2` (new) changed"),
        "{said}"
    );
    assert_eq!(sandbox.landed("alpha"), "done");
}
