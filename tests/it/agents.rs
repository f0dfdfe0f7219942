//! `agent list`, `agent classify`, presets in job files, and agents in `doctor`.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::job::{FIXTURES, TestJob};
use crate::sandbox::Sandbox;
use crate::screens::screen;

fn capture(name: &str) -> String {
    format!("{FIXTURES}/captures/{name}")
}

fn sandbox() -> Sandbox {
    Sandbox::new(TestJob::new(&["alpha"]))
}

#[test]
fn agent_list_includes_presets_of_the_job() {
    let sandbox = sandbox();
    let output = sandbox.run(&["agent", "list"]).exits(0);
    assert_eq!(output.stdout.lines().count(), 12, "{output}");
    let text =
        "[job]\ngoal = \"g\"\n[agent]\ncommand = [\"a\"]\n[presets.mine]\nextends = \"qwen\"\n";
    sandbox.write("other.toml", text);
    let output = sandbox.run(&["agent", "list", "--json", "--job", "other.toml"]).exits(0);
    let value: Value = serde_json::from_str(&output.stdout).unwrap();
    let presets = value["presets"].as_array().unwrap();
    assert_eq!((presets.len(), &value["v"]), (12, &1.into()));
    assert_eq!(presets[11]["name"], "mine");
    assert_eq!(presets[11]["call"], presets[4]["call"]);
}

#[test]
fn agent_classify_works_outside_of_a_repository() {
    let sandbox = sandbox();
    let home = sandbox.root().join("home");
    let classify = |args: &[&str]| -> Value {
        let args = [&["agent", "classify"], args].concat();
        serde_json::from_str(&sandbox.run_in(&home, &args, &[]).exits(0).stdout).unwrap()
    };
    let limit = capture("ce4_oauth_limit.stdout");
    let classification = classify(&["claude", "--exit", "1", &limit]);
    assert_eq!(
        (&classification["class"], &classification["v"]),
        (&"rate_limited".into(), &1.into())
    );
    assert_eq!(classification["resets_at"], "2026-11-22T16:25:48Z");
    assert_eq!(classification["session"], "e562c8e5-d482-4bd1-a3ad-310d038fdf53");
    let (out, err) = (capture("xe4_ro.stdout"), capture("xe4_ro.stderr"));
    for (changed, class) in [("yes", "ok"), ("no", "blocked")] {
        let classification = classify(&["codex", "--exit", "0", "--changed", changed, &out, &err]);
        assert_eq!(classification["class"], class);
        assert_eq!(classification["tokens"]["input"], 220);
        assert_eq!(
            (&classification["cumulative"], &classification["cost_usd"]),
            (&true.into(), &Value::Null)
        );
    }
    let priced = classify(&["codex", "--exit", "0", "--changed", "yes", "--model", "gpt-5", &out]);
    assert!((priced["cost_usd"].as_f64().unwrap() - 0.00042).abs() < 1e-9, "{priced}");
    assert_eq!(classify(&["codex", "--signal", "9", &out])["class"], "crashed");
}

#[test]
fn agent_classify_errors_name_the_fix() {
    let sandbox = sandbox();
    let out = capture("fin_claude.stdout");
    let refused = |name, args: &[&str]| {
        screen(&sandbox, name, &[&["agent", "classify"], args].concat());
    };
    refused("agent_classify_unknown_preset", &["cladue", "--exit", "0", &out]);
    refused("agent_classify_no_file", &["claude", "--exit", "0", "nothing-here"]);
    refused("agent_classify_no_exit_code", &["claude", &out]);
    let maybe = ["claude", "--exit", "0", "--changed", "maybe", &out];
    refused("agent_classify_wrong_value", &maybe);
    sandbox.run(&["agent"]).exits(129);
}

#[test]
fn preset_in_the_job_changes_the_class_of_a_session() {
    let sandbox = sandbox();
    let job =
        "[job]\ngoal = \"g\"\n[agent]\npreset = \"mine\"\n[presets.mine]\nextends = \"codex\"\n";
    let rule = "[[presets.mine.errors]]\nclass = \"refused\"\nsays = \"quota exceeded\"\n";
    sandbox.write("mine.toml", &format!("{job}{rule}"));
    let out = capture("xe_429quota.stdout");
    let args = ["agent", "classify", "mine", "--exit", "1", "--job", "mine.toml", &out];
    let json = |args: &[&str]| -> Value {
        serde_json::from_str(&sandbox.run(args).exits(0).stdout).unwrap()
    };
    assert_eq!(json(&args)["class"], "refused");
    sandbox.write("mine.toml", &format!("{job}{}", rule.replace("says", "sasy")));
    screen(&sandbox, "error_preset_unknown_key", &["validate", "mine.toml"]);
    let refused = |args: &[&str]| sandbox.run(args).exits(128).stderr;
    let error = refused(&["validate", "mine.toml"]);
    assert_eq!([refused(&args), refused(&["start", "mine.toml"])], [&*error, &*error]);
    sandbox.write("mine.toml", &format!("{job}{rule}"));
    assert_eq!(json(&["validate", "--json", "mine.toml"])["preset"], "mine");
}

#[test]
fn doctor_lists_path_and_version_of_each_agent() {
    let sandbox = sandbox();
    sandbox.write("q.toml", "[job]\ngoal = \"g\"\n[agent]\npreset = \"qwen\"\n");
    let bin = sandbox.root().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let program = |name: &str, script: &str| {
        let path = bin.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("claude", "echo '9.9.9 (a script)'");
    program("codex", "exit 3");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let doctor = || sandbox.run_in(&sandbox.repo, &["doctor", "q.toml"], &[("PATH", &path)]);
    let output = doctor().exits(1);
    let line =
        |what: &str| output.stdout.lines().find(|line| line.contains(what)).unwrap().to_owned();
    assert!(line("agent claude").contains("9.9.9 (a script); tested with: 2.1.197"), "{output}");
    assert!(line("agent codex").contains("cannot tell its version: exit code 3"), "{output}");
    assert!(line("agent aider").starts_with("note"), "{output}");
    assert!(line("agent qwen").starts_with("PROBLEM"), "{output}");
    program("qwen", "echo 1.0");
    doctor().exits(0).says("bin/qwen: 1.0");
}
