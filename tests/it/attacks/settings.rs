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
    // The run continues when the settings are back.
    sandbox.git(&["config", "--remove-section", "filter.x"]);
    std::fs::remove_file(sandbox.repo.join(".git/info/attributes")).unwrap();
    sandbox.remember();
    sandbox.script("alpha", "edit alpha good");
    drop(sandbox.run(&["start"]));
    drop(sandbox.run(&["retry", "--failed"]));
    sandbox.run(&["start", "--force"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "good");
}
