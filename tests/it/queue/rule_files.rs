//! Rule files of a target: a branch is judged as it is, and a branch that changes what judges it is
//! judged by the old rules too.

use std::os::unix::fs::PermissionsExt as _;

use super::QueueSandbox;
use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// A check program: no file `f*` holds `BAD`. Each execution is counted.
const CHECK: &str = "#!/bin/sh\necho ran >>\"$HOME/runs\"\n! grep -rn BAD --include='f*' .\n";

/// Creates a repository whose check is the program `./check.sh` of the repository itself.
fn with_program(job: TestJob) -> QueueSandbox {
    let sandbox = Sandbox::new(job);
    for (file, text) in [("check.sh", CHECK), ("tools/check.sh", CHECK), ("main.sh", "echo fine\n")]
    {
        sandbox.write(file, text);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(sandbox.repo.join(file), mode).unwrap();
        sandbox.git(&["add", file]);
    }
    for file in ["f0", "f1", "f2", "f3", "f4", "f5"] {
        sandbox.write(file, "fine\n");
        sandbox.git(&["add", file]);
    }
    sandbox.git(&["commit", "--quiet", "--message", "a check"]);
    sandbox.remember();
    QueueSandbox { sandbox }
}

fn checked_by(argv: &[&str]) -> TestJob {
    TestJob::bare(&["alpha"]).check("tests", argv, "")
}

/// Adds `bad` and `b0`. Only `b0` lands. Returns the reason why `bad` did not.
fn rejects_bad(queue: &QueueSandbox) -> String {
    queue.good(1);
    queue.add(&["bad", "b0"]);
    queue.sandbox.run(&["queue", "run"]).exits(1);
    assert_eq!(queue.landed(), ["b0"]);
    queue.holds();
    queue.left_alone();
    queue.why("bad")
}

#[test]
fn branch_that_breaks_the_file_that_a_check_names_is_rejected() {
    let queue = with_program(checked_by(&["sh", "-n", "main.sh"]));
    queue.branch("bad", "main", &[("main.sh", "echo fine\n(\n")]);
    let why = rejects_bad(&queue);
    assert!(why.contains("sh -n main.sh"), "{why}");
}

#[test]
fn branch_with_a_weaker_check_program_is_judged_by_the_old_one() {
    let queue = with_program(checked_by(&["./check.sh"]));
    queue.branch("bad", "main", &[("check.sh", "#!/bin/sh\nexit 0\n"), ("f0", "BAD\n")]);
    let why = rejects_bad(&queue);
    assert!(why.contains("with `check.sh` as on the target"), "{why}");
}

#[test]
fn branch_that_fails_its_own_check_program_is_rejected() {
    let queue = with_program(checked_by(&["./check.sh"]));
    queue.branch("bad", "main", &[("check.sh", "#!/bin/sh\necho never; exit 1\n")]);
    let why = rejects_bad(&queue);
    assert!(why.contains("never") && !why.contains("as on the target"), "{why}");
}

#[test]
fn branch_that_changes_a_protected_script_is_judged_by_the_old_one() {
    let job = checked_by(&["sh", "tools/check.sh"]).set("scope", "protect = [\"tools/**\"]");
    let queue = with_program(job);
    queue.branch("bad", "main", &[("tools/check.sh", "exit 0\n"), ("f0", "BAD\n")]);
    let why = rejects_bad(&queue);
    assert!(why.contains("with `tools/check.sh` as on the target"), "{why}");
}

#[test]
fn branch_with_stricter_rules_lands_after_two_verifications() {
    let queue = with_program(checked_by(&["./check.sh"]));
    queue.branch("rules", "main", &[("check.sh", &format!("{CHECK}echo more\n"))]);
    queue.add(&["rules"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!((queue.landed(), queue.runs()), (vec!["rules".to_owned()], 2));
    let tree = queue.sandbox.git(&["rev-parse", "main^{tree}"]);
    let note = queue.sandbox.git(&["notes", "--ref=harness-verdicts", "show", &tree]);
    let mut keys: Vec<String> = note
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["key"].to_string())
        .collect();
    keys.dedup();
    assert_eq!(keys.len(), 2, "one key for each set of rules: {note}");
    queue.holds();
}

#[test]
fn entries_behind_a_rule_change_are_judged_by_the_new_rules() {
    let queue = with_program(checked_by(&["./check.sh"]));
    queue.good(2);
    let stricter = format!("{CHECK}! grep -rn WORSE --include='f*' .\n");
    queue.branch("rules", "main", &[("check.sh", &stricter)]);
    queue.branch("late", "main", &[("f1", "WORSE\n")]);
    queue.add(&["b0", "rules", "late", "b1"]);
    queue.sandbox.run(&["queue", "run"]).exits(1);
    assert_eq!(queue.landed(), ["b0", "rules", "b1"]);
    assert_eq!(queue.states()["late"], "rejected");
    queue.holds();
}

#[test]
fn branch_that_adds_a_check_must_pass_it() {
    let queue = with_program(checked_by(&["./check.sh"]));
    let text = std::fs::read_to_string(queue.sandbox.repo.join("harness.toml")).unwrap();
    let more =
        format!("{text}[[check]]\nname = \"more\"\nrun = [\"sh\", \"-c\", \"! grep fine f3\"]\n");
    queue.branch("bad", "main", &[("harness.toml", &more)]);
    let why = rejects_bad(&queue);
    assert!(why.contains("grep fine f3"), "{why}");
}

#[test]
fn branch_that_drops_a_check_is_judged_by_it() {
    let job = checked_by(&["./check.sh"]).check("fine", &["grep", "fine", "f3"], "");
    let queue = with_program(job);
    let text = std::fs::read_to_string(queue.sandbox.repo.join("harness.toml")).unwrap();
    let (less, _) = text.split_once("[[check]]\nname = \"fine\"").unwrap();
    queue.branch("bad", "main", &[("harness.toml", less), ("f3", "other\n")]);
    let why = rejects_bad(&queue);
    assert!(why.contains("with `harness.toml` as on the target"), "{why}");
}

#[test]
fn link_in_place_of_a_check_program_folder_never_lands() {
    let queue = with_program(checked_by(&["tools/check.sh"]));
    let precious = queue.sandbox.root().join("precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("check.sh"), "mine").unwrap();
    let place = queue.sandbox.root().join("mine");
    let path = place.to_str().unwrap();
    queue.sandbox.git(&["worktree", "add", "--quiet", "-B", "bad", path, "main"]);
    std::fs::remove_dir_all(place.join("tools")).unwrap();
    std::os::unix::fs::symlink(&precious, place.join("tools")).unwrap();
    for args in [&["add", "--all"][..], &["commit", "--quiet", "-m", "a link"]] {
        assert_eq!(queue.sandbox.try_git(&place, args).code, 0);
    }
    queue.sandbox.git(&["worktree", "remove", "--force", path]);
    rejects_bad(&queue);
    assert_eq!(std::fs::read_to_string(precious.join("check.sh")).unwrap(), "mine");
}

#[test]
fn rules_change_can_be_refused() {
    let queue = with_program(checked_by(&["./check.sh"]).set("queue", "rules-change = \"refuse\""));
    queue.branch("bad", "main", &[("check.sh", &format!("{CHECK}echo more\n"))]);
    let why = rejects_bad(&queue);
    assert!(why.contains("it changes the rule file `check.sh`"), "{why}");
}

#[test]
fn rules_change_can_wait_for_a_review() {
    let queue = with_program(checked_by(&["./check.sh"]).set("queue", "rules-change = \"review\""));
    queue.branch("rules", "main", &[("check.sh", &format!("{CHECK}echo more\n"))]);
    queue.good(1);
    let args = ["queue", "add", "rules", "b0"];
    queue.sandbox.run(&args).exits(0).says("rules: changes the rule file `check.sh`");
    queue.sandbox.run(&["queue", "run"]).exits(3);
    assert_eq!((queue.landed(), &*queue.states()["rules"]), (vec!["b0".to_owned()], "reviewing"));
    queue.sandbox.run(&["queue", "approve", "rules"]).exits(0);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["b0", "rules"]);
    queue.holds();
}

#[test]
fn branch_whose_commit_is_gone_is_listed_where_rules_need_a_review() {
    let queue = with_program(checked_by(&["./check.sh"]).set("queue", "rules-change = \"review\""));
    queue.branch("rules", "main", &[("check.sh", &format!("{CHECK}echo more\n"))]);
    queue.add(&["rules"]);
    let commit = queue.sandbox.git(&["rev-parse", "rules"]);
    let (folder, name) = commit.trim().split_at(2);
    let object = queue.sandbox.repo.join(".git/objects").join(folder).join(name);
    std::fs::remove_file(object).unwrap();
    let listed = queue.sandbox.run(&["queue", "list"]).exits(0).stdout;
    assert!(listed.contains("rules"), "{listed}");
}

#[test]
fn branch_that_changes_no_rule_file_any_more_needs_no_review() {
    let queue = with_program(checked_by(&["./check.sh"]).set("queue", "rules-change = \"review\""));
    queue.branch("moved", "main", &[("check.sh", &format!("{CHECK}echo more\n"))]);
    queue.sandbox.run(&["queue", "add", "moved"]).exits(0);
    queue.sandbox.run(&["queue", "run"]).exits(3);
    queue.branch("other", "main", &[("f1", "finer\n")]);
    queue.sandbox.git(&["branch", "--force", "moved", "other"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["moved"]);
    queue.holds();
}

#[test]
fn review_follows_the_links_of_the_target() {
    let queue = with_program(checked_by(&["bin/check"]).set("queue", "rules-change = \"review\""));
    let link = queue.sandbox.repo.join("bin/check");
    let links_to = |file: &str| {
        std::fs::remove_file(&link).ok();
        std::os::unix::fs::symlink(file, &link).unwrap();
        queue.sandbox.git(&["add", "bin/check"]);
        queue.sandbox.git(&["commit", "--quiet", "--message", file, "bin/check"]);
    };
    std::fs::create_dir(queue.sandbox.repo.join("bin")).unwrap();
    links_to("../check.sh");
    let more = format!("{CHECK}echo more\n");
    queue.branch("now", "main", &[("tools/check.sh", &more)]);
    queue.branch("before", "main", &[("check.sh", &more)]);
    links_to("../tools/check.sh");
    let args = ["queue", "add", "now", "before"];
    queue.sandbox.run(&args).exits(0).says("now: changes the rule file `tools/check.sh`");
    let states = queue.states();
    assert_eq!([&*states["now"], &*states["before"]], ["reviewing", "queued"]);
    queue.sandbox.run(&["queue", "run"]).exits(3);
    assert_eq!(queue.landed(), ["before"]);
}

#[test]
fn verdict_from_before_a_rule_change_is_not_used() {
    let queue = with_program(checked_by(&["./check.sh"]));
    let repo = &queue.sandbox.repo;
    queue.branch("first", "main", &[("f0", "WORSE\n")]);
    queue.add(&["first"]);
    // The landing of what passes is on hold.
    std::fs::write(repo.join("f0"), "mine\n").unwrap();
    let worker = queue.sandbox.spawn(&["queue", "run", "--follow"]);
    queue.sandbox.await_that("the hold", || worker.stderr().contains("landing waits"));
    queue.sandbox.run(&["queue", "remove", "first"]).exits(0);
    let stricter = format!("{CHECK}! grep -rn WORSE --include='f*' .\n");
    std::fs::write(repo.join("check.sh"), stricter).unwrap();
    queue.sandbox.git(&["commit", "--quiet", "--message", "stricter", "check.sh"]);
    queue.sandbox.git(&["checkout", "--quiet", "f0"]);
    // The same tree takes the stricter check back now.
    queue.branch("second", "main", &[("check.sh", CHECK), ("f0", "WORSE\n")]);
    let tree = |branch: &str| queue.sandbox.git(&["rev-parse", &format!("{branch}^{{tree}}")]);
    assert_eq!(tree("first"), tree("second"));
    queue.add(&["second"]);
    let ended = || !["queued", "verifying"].contains(&&*queue.states()["second"]);
    queue.sandbox.await_that("the second branch", ended);
    assert_eq!(queue.states()["second"], "rejected");
    assert!(queue.why("second").contains("with `check.sh` as on the target"));
    worker.signal(rustix::process::Signal::TERM);
    worker.wait().exits(143);
}
