//! `doctor`: what interrupted processes leave behind, and what belongs to others.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use crate::command::send;
use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// Returns the findings of `doctor` with these arguments: level, subject and text.
fn diagnose(sandbox: &Sandbox, args: &[&str]) -> Vec<(String, String, String)> {
    let output = sandbox.run(&[&["doctor", "--json"], args].concat());
    assert!(matches!(output.code, 0 | 1), "{output}");
    let json: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let findings = json["findings"].as_array().unwrap().iter();
    findings.map(|f| (text(f, "level"), text(f, "what"), text(f, "said"))).collect()
}

/// Returns the level of the finding whose subject ends with `what`.
fn level(findings: &[(String, String, String)], what: &str) -> Option<String> {
    let mut matching = findings.iter().filter(|(_, subject, _)| subject.ends_with(what));
    matching.next().map(|(level, ..)| level.clone())
}

/// Writes a file that seems to be minutes old.
fn write_old(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(600)).unwrap();
}

#[test]
fn doctor_repairs_what_is_ours_and_only_with_fix() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]));
    sandbox.run(&["start"]).exits(0);
    let git = sandbox.repo.join(".git");
    let lock = git.join("refs/harness/tasks/job-1/gamma.lock");
    write_old(&lock, "");
    let cache = git.join("harness/index/gone-1");
    write_old(&cache, "x");
    let broken = git.join("refs/harness/tasks/job-1/gamma");
    write_old(&broken, "");
    let worktree = sandbox.root().join("repo.harness/job-1/p01");
    std::fs::remove_dir_all(&worktree).unwrap();
    let subjects = ["gamma.lock", "index/gone-1", "job-1/gamma", "job-1/p01"];
    let findings = diagnose(&sandbox, &[]);
    for subject in subjects {
        assert_eq!(
            level(&findings, subject).as_deref(),
            Some("problem"),
            "{subject}: {findings:?}"
        );
    }
    assert!(lock.exists() && cache.exists() && broken.exists());
    let findings = diagnose(&sandbox, &["--fix"]);
    for subject in subjects {
        assert_eq!(level(&findings, subject).as_deref(), Some("fixed"), "{subject}: {findings:?}");
    }
    assert!(!lock.exists() && !cache.exists() && !broken.exists());
    let findings = diagnose(&sandbox, &[]);
    assert!(subjects.iter().all(|subject| level(&findings, subject).is_none()), "{findings:?}");
    assert!(!sandbox.git(&["worktree", "list"]).contains("p01"));
    Claim::all(&sandbox).holds();
}

#[test]
fn doctor_ends_processes_of_a_killed_keeper() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    sandbox.script("alpha.1", ": >\"$HOME/begun\"; hang");
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("begun");
    start.signal(Signal::KILL);
    sandbox.keepers().into_iter().for_each(|pid| send(pid, Signal::KILL));
    drop(start.wait());
    sandbox.await_that("the end of the keeper", || sandbox.keepers().is_empty());
    let is_orphan = |(level, _, said): &(String, String, String), wanted: &str| {
        level == wanted && said.contains("processes without a keeper")
    };
    let findings = diagnose(&sandbox, &[]);
    assert!(findings.iter().any(|finding| is_orphan(finding, "problem")), "{findings:?}");
    let findings = diagnose(&sandbox, &["--fix"]);
    assert!(findings.iter().any(|finding| is_orphan(finding, "fixed")), "{findings:?}");
    let findings = diagnose(&sandbox, &[]);
    assert!(!findings.iter().any(|finding| is_orphan(finding, "problem")), "{findings:?}");
}

#[test]
fn doctor_names_what_belongs_to_others_and_changes_none_of_it() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    for (key, value) in [
        ("core.hooksPath", "/x"),
        ("url.https://a/.insteadOf", "https://b/"),
        ("filter.x.clean", "sh"),
    ] {
        sandbox.git(&["config", key, value]);
    }
    sandbox.git(&["commit", "--quiet", "--allow-empty", "--message", "second"]);
    sandbox.git(&["replace", "HEAD", "HEAD~1"]);
    let lock = sandbox.repo.join(".git/index.lock");
    write_old(&lock, "");
    let findings = diagnose(&sandbox, &["--fix"]);
    for subject in ["core.hooksPath", "insteadOf", "filter.x.clean", "refs/replace"] {
        assert_eq!(level(&findings, subject).as_deref(), Some("note"), "{subject}: {findings:?}");
    }
    let (level, _, said) =
        findings.iter().find(|(_, what, _)| what.ends_with("index.lock")).unwrap();
    assert_eq!(level, "problem");
    assert!(said.contains("10 min old, and no process has it open"), "{said}");
    assert!(lock.exists());
}

#[test]
fn damaged_chain_goes_to_quarantine_and_its_task_begins_anew() {
    for damaged in ["", "^{tree}"] {
        let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]).set("retry", "feedback = 0"));
        sandbox.script("beta.1", "edit beta BAD");
        sandbox.run(&["start"]).exits(1);
        let id = sandbox.git(&["rev-parse", &format!("refs/harness/tasks/job-1/beta{damaged}")]);
        let object = sandbox.repo.join(".git/objects").join(&id[..2]).join(&id[2..]);
        std::fs::remove_file(&object).unwrap();
        std::fs::write(&object, "").unwrap();
        sandbox.script("beta.1", "edit beta done");
        let findings = diagnose(&sandbox, &[]);
        assert_eq!(level(&findings, "job-1/beta").as_deref(), Some("problem"), "{findings:?}");
        if damaged.is_empty() {
            sandbox.run(&["start"]).exits(0).says("`refs/harness/tasks/job-1/beta` to quarantine");
        } else {
            drop(sandbox.run(&["doctor", "--fix"]));
            sandbox.run(&["start"]).exits(0);
        }
        assert_eq!(sandbox.task("beta")["state"], "done", "{damaged}");
        assert!(sandbox.repo.join(".git/harness/quarantine").is_dir());
    }
}
