//! Exit codes, and the keys of JSON output.

use std::process::Command;

use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::{Sandbox, program};

#[test]
fn full_standard_output_is_an_error() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    for args in [&["validate", "--json"][..], &["skill"], &["--help"], &["plan"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(program())
            .args(args)
            .current_dir(&sandbox.repo)
            .stdout(full)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(128), "{args:?}: {text}");
        assert!(text.contains("fatal: cannot write to standard output: No space"), "{text}");
    }
}

#[test]
fn usage_errors_exit_with_129() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    for args in [
        &["frobnicate"][..],
        &["start", "--jobs", "0"],
        &["status", "--nope"],
        &["skip", "alpha"],
        &[],
    ] {
        sandbox.run(args).exits(129);
    }
    sandbox.run(&["--help"]).exits(0).says("start");
    sandbox.run(&["start", "--help"]).exits(0).says("--dry-run");
    let version = format!("git-harness {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(sandbox.run(&["--version"]).exits(0).stdout, version);
}

#[test]
fn unknown_key_stops_every_command_and_writes_nothing() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]).set("agent", "idle-timout = \"5s\""));
    let line = std::fs::read_to_string(sandbox.repo.join("harness.toml")).unwrap();
    let line = line.lines().position(|l| l.starts_with("idle-timout")).unwrap() + 1;
    let error = format!("fatal: harness.toml:{line}:1: unknown key `idle-timout` in [agent]");
    for command in ["validate", "start", "plan"] {
        let output = sandbox.run(&[command]).exits(128);
        assert_eq!(output.stderr.lines().next(), Some(&*error), "{output}");
    }
    assert!(sandbox.harmed().is_empty());
    assert_eq!(sandbox.git(&["for-each-ref", "refs/harness", "refs/heads/harness"]), "");
}

#[test]
fn commands_outside_of_a_repository_exit_with_128() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    let home = sandbox.root().join("home");
    for command in ["start", "status", "plan"] {
        sandbox.run_in(&home, &[command], &[]).exits(128);
    }
    sandbox.run(&["status"]).exits(128);
    sandbox.run(&["status", "--exit-code"]).exits(2);
    sandbox.run(&["-C", &home.to_string_lossy(), "status"]).exits(128);
}

#[test]
fn plan_is_deterministic_and_reads_the_commit() {
    let sandbox = Sandbox::new(TestJob::new(&["beta", "alpha"]));
    let first = sandbox.run(&["plan", "--json"]).exits(0);
    let second = sandbox.run(&["plan", "--json"]).exits(0);
    assert_eq!(first.stdout, second.stdout);
    let value: serde_json::Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(value["v"], 1);
    let ids: Vec<_> =
        value["tasks"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["alpha", "beta"]);
    for key in ["id", "files", "after", "tokens", "lines", "level"] {
        assert!(!value["tasks"][0][key].is_null(), "{key} is missing: {value}");
    }
    // The plan reads the commit, not the worktree.
    sandbox.write("alpha", "many\nmore\nlines\n");
    std::fs::remove_file(sandbox.repo.join("beta")).unwrap();
    assert_eq!(sandbox.run(&["plan", "--json"]).exits(0).stdout, first.stdout);
    sandbox.run(&["start", "--paused"]).exits(0);
    assert_eq!(sandbox.status()["plan"], value["plan"]);
}

#[test]
fn status_json_has_the_documented_keys() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]).set("retry", "feedback = 0"));
    sandbox.script("beta", "edit beta BAD");
    sandbox.run(&["start"]).exits(1);
    let status = sandbox.status();
    assert_eq!(status["v"], 1);
    assert_eq!(status["run"], "job-1");
    assert_eq!(status["job"], "job");
    assert_eq!(status["state"], "ended");
    assert_eq!(status["base"], sandbox.base.as_str());
    assert_eq!(status["target"], "refs/heads/harness/job-1/result");
    for word in [
        "todo",
        "blocked",
        "running",
        "verifying",
        "reviewing",
        "queued",
        "landing",
        "done",
        "failed",
        "skipped",
    ] {
        let expected = u64::from(word == "done" || word == "failed");
        assert_eq!(status["counts"][word], expected, "{word}");
    }
    for key in ["driver", "reason", "tokens", "cost_usd"] {
        assert!(status.as_object().unwrap().contains_key(key), "{key}");
    }
    let alpha = sandbox.task("alpha");
    for key in [
        "id",
        "state",
        "files",
        "after",
        "attempts",
        "branch",
        "candidate",
        "landed",
        "output",
        "reason",
        "tokens",
        "cost_usd",
    ] {
        assert!(alpha.as_object().unwrap().contains_key(key), "{key}: {alpha}");
    }
    assert_eq!(alpha["landed"], sandbox.git(&["rev-parse", "harness/job-1/result"]).as_str());
    assert_eq!(alpha["branch"], "refs/heads/harness/job-1/alpha");
    let output = sandbox.run(&["status", "--porcelain"]).exits(0);
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!(
        lines,
        [&format!("done alpha 1 {}", alpha["landed"].as_str().unwrap()), "failed beta 1 -"]
    );
    sandbox.run(&["status", "--watch"]).exits(0);
}

#[test]
fn show_log_and_verify_report_each_attempt() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]));
    sandbox.script("alpha.1", "say 'first try'; edit alpha 'so BAD'");
    sandbox.script("alpha.2", "say 'second try'; edit alpha fine");
    sandbox.run(&["start"]).exits(0);
    let first = sandbox.run(&["show", "job-1/alpha", "--transcript", "--attempt", "1"]).exits(0);
    assert_eq!(first.stdout, "first try\n");
    let last = sandbox.run(&["show", "alpha", "--transcript"]).exits(0);
    assert_eq!(last.stdout, "second try\n");
    let output = sandbox.run(&["show", "alpha", "--json"]).exits(0);
    let value: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(value["findings"][0]["check"], "no-bad");
    let output = sandbox.run(&["log", "alpha"]).exits(0);
    assert!(output.stdout.lines().count() >= 7, "{output}");
    let log = sandbox.run(&["log", "job-1"]).exits(0);
    assert!(log.stdout.lines().any(|line| line.contains(" beta: landed as ")), "{log}");
    for line in sandbox.run(&["log", "--json"]).exits(0).stdout.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["v"], 1, "{line}");
        assert!(value["at"].as_u64().unwrap() > 0 && value["event"].is_object(), "{line}");
    }
    sandbox.run(&["verify", "alpha"]).exits(0);
    sandbox.run(&["validate"]).exits(0);
    sandbox.run(&["doctor"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn sweep_removes_only_landed_tasks() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]).set("retry", "feedback = 0"));
    sandbox.script("beta", "edit beta 'BAD but precious'");
    sandbox.run(&["start"]).exits(1);
    let candidate = sandbox.task("beta")["candidate"].as_str().unwrap().to_owned();
    sandbox.run(&["sweep"]).exits(0);
    let refs =
        sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/harness", "refs/heads/harness"]);
    assert!(!refs.contains("tasks/job-1/alpha"), "{refs}");
    assert!(refs.contains("refs/harness/tasks/job-1/beta"), "{refs}");
    assert_eq!(sandbox.git(&["worktree", "list"]).lines().count(), 1);
    sandbox.git(&["gc", "--quiet", "--prune=now"]);
    assert_eq!(sandbox.git(&["show", &format!("{candidate}:beta")]), "BAD but precious");
    assert_eq!(sandbox.task("alpha")["state"], "done");
    sandbox.script("beta", "edit beta good");
    sandbox.run(&["retry", "beta"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    sandbox.run(&["sweep", "--json"]).exits(0);
    sandbox.run(&["sweep"]).exits(0);
    assert_eq!(sandbox.landed("beta"), "good");
    let remaining = std::fs::read_dir(sandbox.root()).unwrap().flatten();
    let remaining: Vec<_> = remaining
        .map(|e| e.file_name())
        .filter(|n| n.to_string_lossy().contains(".harness"))
        .collect();
    assert!(remaining.is_empty(), "{remaining:?}");
}

#[test]
fn sweep_dry_run_says_what_it_frees_and_changes_nothing() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]).set("retry", "feedback = 0"));
    sandbox.script("beta", "edit beta BAD");
    sandbox.run(&["start"]).exits(1);
    let json_of = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&sandbox.run(args).exits(0).stdout).unwrap()
    };
    let files = || {
        let mut find = Command::new("find");
        for folder in ["repo", "repo.harness"] {
            find.arg(sandbox.root().join(folder));
        }
        let output = find.args(["-printf", "%p %i %T@\n"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let before = files();
    let told = sandbox.run(&["sweep", "--dry-run"]).exits(0).stdout;
    let json = json_of(&["sweep", "--dry-run", "--json"]);
    assert_eq!(files(), before);
    assert!(told.contains("\n  refs/harness/tasks/job-1/alpha\n"), "{told}");
    assert!(!told.contains("job-1/beta"), "{told}");
    let free = &json["would_free"];
    assert!(free["bytes"].as_u64().unwrap() > 0, "{json}");
    assert_eq!(free["refs"].as_array().unwrap().len(), 1, "{json}");
    let swept = json_of(&["sweep", "--json"]);
    for key in ["worktrees", "branches", "chains"] {
        assert_eq!(json[key], swept[key], "{key}");
    }
    for worktree in free["worktrees"].as_array().unwrap() {
        assert!(!std::path::Path::new(worktree["path"].as_str().unwrap()).exists(), "{worktree}");
    }
}

#[test]
fn changed_goal_starts_a_new_run() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]));
    sandbox.run(&["start"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    let text = std::fs::read_to_string(sandbox.repo.join("harness.toml")).unwrap();
    sandbox.write("harness.toml", &text.replace("Do what", "Do again what"));
    sandbox.remember();
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    sandbox.run(&["status", "job-2", "--exit-code"]).exits(0);
    sandbox.run(&["start", "--run", "third"]).exits(0);
    sandbox.git(&["rev-parse", "--verify", "refs/harness/runs/third"]);
    sandbox.git(&["rev-parse", "--verify", "harness/third/result"]);
}

#[test]
fn target_that_collides_with_a_ref_is_refused_before_any_write() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]).set("job", "target = \"feature/deep\""));
    let refs = sandbox.git(&["for-each-ref"]);
    sandbox.run(&["start"]).exits(128);
    assert_eq!(refs, sandbox.git(&["for-each-ref"]));
}
