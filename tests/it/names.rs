//! The names of runs and tasks: runs that are left out, tasks by path, by part and with a run.

use serde_json::Value;

use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::screen;

fn shown_task(sandbox: &Sandbox, args: &[&str]) -> String {
    let shown = sandbox.run(&[args, &["--json"]].concat()).exits(0);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    format!("{}/{}", shown["run"].as_str().unwrap(), shown["id"].as_str().unwrap())
}

#[test]
fn run_left_out_is_the_only_active_one_else_the_newest() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]));
    screen(&sandbox, "runs_none", &["runs"]);
    sandbox.run(&["start", "--run", "zeta"]).exits(0);
    sandbox.run(&["start", "--run", "mid", "--paused"]).exits(0);
    assert_eq!(sandbox.status()["run"], "mid", "the only active run");
    sandbox.run(&["cancel"]).exits(0);
    assert_eq!(sandbox.status()["run"], "mid", "the newest, though its name is not the last");
    sandbox.run(&["sweep"]).exits(0).says("run mid");
    sandbox.run(&["start", "--run", "eta", "--paused"]).exits(0);
    sandbox.run(&["start", "--run", "beta-2", "--paused"]).exits(0);
    let refs = sandbox.git(&["for-each-ref"]);
    assert_eq!(sandbox.status()["run"], "beta-2", "a command that only reads");
    screen(&sandbox, "error_two_runs_active", &["stop"]);
    for args in [
        &["poll"] as &[&str],
        &["cancel"],
        &["sweep"],
        &["retry", "--failed"],
        &["skip", "alpha", "-m", "x"],
        &["approve", "--all"],
        &["verify", "alpha"],
    ] {
        sandbox.run(args).exits(128).says("2 runs are active: beta-2, eta");
    }
    assert_eq!(refs, sandbox.git(&["for-each-ref"]), "a refused command wrote something");
    screen(&sandbox, "runs", &["runs"]);
    screen(&sandbox, "runs_porcelain", &["runs", "--porcelain"]);
    let listed = sandbox.run(&["runs", "--json"]).exits(0);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let runs: Vec<_> = listed["runs"].as_array().unwrap().iter().map(|r| &r["run"]).collect();
    assert_eq!(runs, ["zeta", "mid", "eta", "beta-2"], "the newest last");
    assert_eq!(
        (&listed["runs"][0]["done"], &listed["runs"][2]["state"]),
        (&2.into(), &"paused".into())
    );
}

#[test]
fn task_is_named_by_path_part_or_run() {
    let sandbox = Sandbox::new(TestJob::new(&["src/one.txt", "src/two.txt", "One.md"]));
    sandbox.run(&["start", "--run", "src", "--paused"]).exits(0);
    sandbox.run(&["start", "--run", "second", "--paused"]).exits(0);
    let task = |name| shown_task(&sandbox, &["show", name]);
    assert_eq!(task("src/one.txt"), "src/src__one_dot_txt", "RUN and a unique part");
    assert_eq!(task("src__one_dot_txt"), "second/src__one_dot_txt", "the newest run");
    assert_eq!(task("second/src/one.txt"), "second/src__one_dot_txt");
    assert_eq!(task("harness/second/src__one_dot_txt"), "second/src__one_dot_txt", "a branch");
    assert_eq!(task("two"), "second/src__two_dot_txt");
    let id = shown_task(&sandbox, &["show", "--run", "second", "One.md"]);
    assert!(id.starts_with("second/one_dot_md-"), "{id}");
    let named = shown_task(&sandbox, &["-C", "src", "show", "--run", "second", "two.txt"]);
    assert_eq!(named, "second/src__two_dot_txt", "seen from the folder");
    screen(&sandbox, "error_several_tasks", &["skip", "--run", "second", "txt", "-m", "x"]);
    sandbox.run(&["skip", "--run", "second", "src/two.txt", "-m", "by hand"]).exits(0);
    assert_eq!(shown_task(&sandbox, &["show", "second/two"]), "second/src__two_dot_txt");
    sandbox.run(&["log", "second", "src/two.txt"]).exits(0).says("by hand");
}
