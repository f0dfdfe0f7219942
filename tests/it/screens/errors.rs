//! A tour of what goes wrong: the screens of a person's mistakes.

use crate::job::TestJob;
use crate::sandbox::Sandbox;

use super::{screen, screen_in};

#[test]
fn outside_of_a_repository() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    let home = sandbox.root().join("home");
    screen_in(&sandbox, &home, "error_not_a_repository", &["start"]);
    screen(&sandbox, "error_no_run", &["status"]);
    std::fs::remove_file(sandbox.repo.join("harness.toml")).unwrap();
    screen(&sandbox, "error_no_job_file", &["start"]);
}

#[test]
fn wrong_job_files() {
    let of = |section, line: &str| Sandbox::new(TestJob::new(&["alpha"]).set(section, line));
    let sandbox = of("agent", "idle-timout = \"5s\"");
    screen(&sandbox, "error_unknown_key", &["validate"]);
    let sandbox = of("sandbox", "inject = [\"KEY\"]");
    screen(&sandbox, "error_key_not_yet_supported", &["start"]);
    let sandbox = of("limits", "jobs = \"many\"");
    screen(&sandbox, "error_wrong_type", &["validate"]);
    let sandbox = of("job", "target = \"feature/deep\"");
    screen(&sandbox, "error_target_collides", &["start"]);
    let sandbox = Sandbox::new(TestJob::new(&["a.txt"]).only("plan", "include = [\"*.nothing\"]"));
    screen(&sandbox, "error_plan_is_empty", &["start"]);
}

#[test]
fn unknown_names() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]));
    sandbox.run(&["start", "--paused"]).exits(0);
    screen(&sandbox, "error_unknown_run", &["status", "nope"]);
    screen(&sandbox, "error_unknown_task_similar", &["show", "alhpa"]);
    screen(&sandbox, "error_unknown_task", &["show", "zzz"]);
    screen(&sandbox, "error_only_unknown_task", &["start", "--only", "zzz"]);
}

#[test]
fn wrong_usage() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    screen(&sandbox, "error_unknown_command", &["frobnicate"]);
    screen(&sandbox, "error_unknown_option", &["status", "--nope"]);
    screen(&sandbox, "error_wrong_value", &["start", "--jobs", "0"]);
    screen(&sandbox, "error_missing_argument", &["skip", "alpha"]);
}

#[test]
fn unusable_repositories() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    let unborn = sandbox.root().join("unborn");
    std::fs::create_dir(&unborn).unwrap();
    let path = unborn.to_str().unwrap();
    sandbox.git(&["init", "--quiet", "--initial-branch=main", path]);
    std::fs::copy(sandbox.repo.join("harness.toml"), unborn.join("harness.toml")).unwrap();
    screen_in(&sandbox, &unborn, "error_unborn", &["start"]);
    let bare = sandbox.root().join("bare.git");
    sandbox.git(&["init", "--quiet", "--bare", bare.to_str().unwrap()]);
    screen_in(&sandbox, &bare, "error_bare", &["status"]);
    sandbox.write("harness.toml", "this is no TOML");
    screen(&sandbox, "error_no_toml", &["validate"]);
}
