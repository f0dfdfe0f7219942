//! Target checks: the target's own landing checks apply to the tasks of a run.

use crate::command::RunningCommand;
use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::{screen, screen_without_progress};

/// Creates a run on `harness/trunk` whose own job does not know the target's check.
fn guarded(gate: &str) -> Sandbox {
    guarding(TestJob::new(&["alpha", "beta"]), gate)
}

fn guarding(job: TestJob, gate: &str) -> Sandbox {
    let job = job.set("job", "target = \"harness/trunk\"");
    let mut sandbox = Sandbox::new(job);
    let text = std::fs::read_to_string(sandbox.repo.join("harness.toml")).unwrap();
    sandbox.write("jobs/other.toml", &text);
    sandbox.write("gate.sh", gate);
    let check = "[[check]]\nname = \"gate\"\nrun = [\"sh\", \"gate.sh\"]\nwhen = [\"landing\"]\n";
    sandbox.write("harness.toml", &format!("{text}{check}"));
    sandbox.git(&["add", "jobs/other.toml", "gate.sh", "harness.toml"]);
    sandbox.git(&["commit", "--quiet", "--message", "a gate"]);
    sandbox.git(&["branch", "harness/trunk"]);
    sandbox.base = sandbox.git(&["rev-parse", "HEAD"]);
    sandbox.remember();
    sandbox
}

#[test]
fn target_checks_apply_to_tasks_of_a_run() {
    let sandbox = guarded("! grep -n FORBIDDEN alpha beta");
    // The check's script is that of the target, not that of the worktree.
    sandbox.write("gate.sh", "exit 0");
    sandbox.remember();
    sandbox.script("alpha.1", "edit alpha FORBIDDEN");
    sandbox.script("alpha.2", "expect_feedback gate; expect_feedback FORBIDDEN; edit alpha fine");
    sandbox.run(&["start", "jobs/other.toml"]).exits(0);
    Claim::all(&sandbox).on("refs/heads/harness/trunk").holds();
    assert_eq!(sandbox.task("alpha")["attempts"], 2);
    assert_eq!(sandbox.task("beta")["attempts"], 1);
    let why = sandbox.run(&["why", "harness/trunk", "--json"]).exits(0).stdout;
    let why: serde_json::Value = serde_json::from_str(&why).unwrap();
    let checks = why["origins"][0]["note"]["checks"].as_array().unwrap();
    for name in ["gate", "no-bad"] {
        let passed = |check: &serde_json::Value| check["name"] == name && check["passed"] == true;
        assert!(checks.iter().any(passed), "{name}: {why}");
    }
}

#[test]
fn base_that_fails_the_target_checks_costs_no_attempt() {
    let sandbox = guarded("echo never; exit 1");
    sandbox.run(&["start", "jobs/other.toml"]).exits(3);
    let reason = "the landing check `gate` already fails on the base: `sh gate.sh`: never";
    assert_eq!(sandbox.status()["reason"], reason);
    assert_eq!(sandbox.task("alpha")["attempts"], 0);
}

#[test]
fn invalid_job_file_of_the_target_halts_with_its_position() {
    let sandbox = guarded("exit 0");
    sandbox.write("harness.toml", "[[check]]\nnam = \"gate\"\n");
    sandbox.git(&["commit", "--quiet", "--message", "a mistake", "harness.toml"]);
    sandbox.git(&["branch", "--force", "harness/trunk", "main"]);
    let args = ["start", "jobs/other.toml"];
    screen_without_progress(&sandbox, "start_target_job_invalid", &args);
    assert_eq!(sandbox.task("alpha")["attempts"], 0);
}

/// Like [`guarded`], with required reviews.
fn reviewed(job: TestJob) -> Sandbox {
    let sandbox = guarding(job, "! grep -n FORBIDDEN person");
    let text = std::fs::read_to_string(sandbox.repo.join("jobs/other.toml")).unwrap();
    sandbox.write("jobs/other.toml", &format!("{text}[queue]\nreview = \"required\"\n"));
    sandbox
}

/// Pushes a change of the file `person` to the target.
fn push(sandbox: &Sandbox, what: &str) {
    sandbox.write("person", what);
    sandbox.git(&["add", "person"]);
    sandbox.git(&["commit", "--quiet", "--message", what]);
    sandbox.git(&["branch", "--force", "harness/trunk", "main"]);
    sandbox.remember();
}

#[test]
fn target_broken_by_others_blames_no_task() {
    let mut sandbox = reviewed(TestJob::new(&["alpha", "beta"]));
    sandbox.run(&["start", "jobs/other.toml"]).exits(3);
    push(&sandbox, "FORBIDDEN");
    sandbox.run(&["approve", "--all", "--passing"]).exits(0);
    screen(&sandbox, "start_target_fails", &["start", "jobs/other.toml"]);
    let unharmed = || {
        for task in ["alpha", "beta"] {
            let task = sandbox.task(task);
            assert_eq!((&task["state"], &task["attempts"]), (&"queued".into(), &1.into()));
        }
    };
    unharmed();
    sandbox.await_that("polls alone see it, too", || sandbox.run(&["poll"]).code == 3);
    unharmed();

    push(&sandbox, "mended");
    // The later commits are those of the run.
    sandbox.base = sandbox.git(&["rev-parse", "HEAD"]);
    sandbox.run(&["start", "jobs/other.toml"]).exits(0);
    Claim::all(&sandbox).on("refs/heads/harness/trunk").holds();
    for task in ["alpha", "beta"] {
        assert_eq!(sandbox.task(task)["attempts"], 1);
    }
}

/// Starts a run: alpha is accepted, beta is running, and somebody breaks the target.
fn broken_under_way(tasks: &[&str]) -> (Sandbox, RunningCommand) {
    let sandbox = reviewed(TestJob::new(tasks).set("limits", "jobs = 1"));
    let beta = ": >\"$HOME/begun\"; wait_for \"$HOME/go\"; edit beta BAD";
    sandbox.script("beta.1", beta);
    sandbox.run(&["start", "jobs/other.toml", "--only", "alpha"]).exits(3);
    let started = sandbox.spawn(&["start", "jobs/other.toml"]);
    sandbox.await_sign("begun");
    push(&sandbox, "FORBIDDEN");
    sandbox.run(&["approve", "alpha"]).exits(0);
    sandbox.await_that("the target fails", || started.stderr().contains("fails its own checks"));
    (sandbox, started)
}

#[test]
fn attempts_wait_while_the_target_fails() {
    let (sandbox, started) = broken_under_way(&["alpha", "beta", "gamma"]);
    sandbox.give_sign("go");
    started.wait().exits(3).says("fails its own checks");
    assert_eq!(sandbox.task("beta")["attempts"], 1);
    assert_eq!(sandbox.task("gamma")["attempts"], 0);
}

#[test]
fn target_check_never_uses_files_pinned_by_the_run() {
    let sandbox = guarded("! grep -n FORBIDDEN alpha beta");
    // The run has a check of the same name and command, with the script of the worktree.
    let text = std::fs::read_to_string(sandbox.repo.join("harness.toml")).unwrap();
    sandbox.write("jobs/other.toml", &text);
    sandbox.write("gate.sh", "exit 0");
    sandbox.remember();
    sandbox.script("alpha.1", "edit alpha FORBIDDEN");
    sandbox.script("alpha.2", "expect_feedback gate; edit alpha fine");
    sandbox.run(&["start", "jobs/other.toml"]).exits(0);
    Claim::all(&sandbox).on("refs/heads/harness/trunk").holds();
    assert_eq!(sandbox.task("alpha")["attempts"], 2);
}

#[test]
fn repaired_target_is_noticed_with_no_candidate_queued() {
    let (sandbox, started) = broken_under_way(&["alpha", "beta"]);
    sandbox.run(&["skip", "alpha", "--message", "not now"]).exits(0);
    push(&sandbox, "mended");
    sandbox.give_sign("go");
    started.wait().exits(3);
    assert_eq!(sandbox.status()["counts"]["reviewing"], 1);
    assert_eq!(sandbox.task("beta")["attempts"], 2);
}

#[test]
fn attempts_wait_for_the_verification_of_a_foreign_tip() {
    let sandbox = guarded("! grep -n FORBIDDEN person");
    sandbox.run(&["start", "jobs/other.toml", "--only", "alpha"]).exits(0);
    let tip = sandbox.git(&["rev-parse", "harness/trunk"]);
    sandbox.git(&["reset", "--quiet", "--soft", &tip]);
    sandbox.git(&["checkout", "--quiet", &tip, "--", "."]);
    push(&sandbox, "FORBIDDEN");
    let args = ["start", "jobs/other.toml"];
    screen(&sandbox, "start_foreign_tip_fails", &args);
    assert_eq!(sandbox.task("beta")["attempts"], 0);
    sandbox.await_that("polls alone see it, too", || sandbox.run(&["poll"]).code == 3);
    assert_eq!(sandbox.task("beta")["attempts"], 0);
    push(&sandbox, "mended");
    sandbox.run(&["start", "jobs/other.toml"]).exits(0);
    assert_eq!(sandbox.task("beta")["attempts"], 1);
}
