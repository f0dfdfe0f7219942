//! Plain git on the harness's refs, worktrees and objects: gc, repack, fetch, clone, SHA-256.

use std::path::PathBuf;

use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;

fn done() -> Sandbox {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]));
    sandbox.script("alpha.1", "edit alpha BAD");
    sandbox.run(&["start"]).exits(0);
    sandbox
}

/// Creates a run with one landed and one remaining task.
fn half_done() -> Sandbox {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]));
    sandbox.script("alpha.1", "edit alpha BAD");
    sandbox.run(&["start", "--only", "alpha"]).exits(0);
    sandbox
}

#[test]
fn git_reads_chains_notes_and_worktrees() {
    let sandbox = done();
    let refs = sandbox.git(&["for-each-ref", "--format=%(refname) %(objecttype)"]);
    for name in [
        "refs/harness/runs/job-1",
        "refs/harness/tasks/job-1/alpha",
        "refs/notes/harness",
        "refs/notes/harness-verdicts",
        "refs/heads/harness/job-1/result",
    ] {
        assert!(refs.contains(&format!("{name} commit")), "{name} is missing:\n{refs}");
    }
    let chain = sandbox.git(&[
        "log",
        "--first-parent",
        "--reverse",
        "--format=%s",
        "refs/harness/tasks/job-1/alpha",
    ]);
    assert!(chain.lines().count() >= 7, "{chain}");
    for word in ["created", "attempt 1", "rejected", "attempt 2", "landed"] {
        assert!(chain.contains(word), "no `{word}` in\n{chain}");
    }
    let note = sandbox.git(&["notes", "--ref=harness", "show", "harness/job-1/result"]);
    let note: serde_json::Value = serde_json::from_str(&note).unwrap();
    assert_eq!(note["run"], "job-1");
    assert_eq!(note["checks"][0]["name"], "no-bad");
    let log = sandbox.git(&["log", "-1", "--notes=harness", "harness/job-1/result"]);
    assert!(log.contains("Notes (harness)") && log.contains("Harness-Task: "), "{log}");
    let worktrees = sandbox.git(&["worktree", "list", "--porcelain"]);
    assert!(!worktrees.contains("prunable"), "{worktrees}");
    let attempts =
        sandbox.git(&["ls-tree", "--name-only", "refs/harness/tasks/job-1/alpha:attempts"]);
    assert_eq!(attempts, "1\n2");
    sandbox.git(&["worktree", "prune"]);
    sandbox.git(&["status"]);
}

#[test]
fn agent_worktrees_are_git_worktrees() {
    let sandbox = done();
    let list = sandbox.git(&["worktree", "list", "--porcelain"]);
    let worktrees: Vec<PathBuf> =
        list.lines().filter_map(|l| l.strip_prefix("worktree ")).map(PathBuf::from).collect();
    assert!(worktrees.len() > 1, "{list}");
    for worktree in &worktrees[1..] {
        let output = sandbox.try_git(worktree, &["status", "--porcelain"]);
        assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    }
}

#[test]
fn gc_between_two_starts_loses_nothing() {
    let sandbox = half_done();
    sandbox.git(&["pack-refs", "--all", "--prune"]);
    sandbox.git(&["repack", "-a", "-d", "--quiet"]);
    sandbox.git(&["gc", "--quiet", "--prune=now"]);
    sandbox.git(&["reflog", "expire", "--expire=now", "--all"]);
    sandbox.git(&["prune", "--expire=now"]);
    sandbox.remember();
    assert_eq!(sandbox.status()["counts"]["done"], 1);
    sandbox.run(&["start"]).exits(0);
    sandbox.git(&["gc", "--quiet", "--prune=now"]);
    sandbox.remember();
    Claim::all(&sandbox).holds();
    sandbox.run(&["show", "alpha", "--transcript", "--attempt", "1"]).exits(0);
}

#[test]
fn repack_during_a_run_loses_nothing() {
    let sandbox =
        Sandbox::new(TestJob::new(&["alpha", "beta", "gamma", "delta"]).set("limits", "jobs = 2"));
    sandbox.script("alpha.1", "edit alpha BAD");
    let mut start = sandbox.spawn(&["start"]);
    while !start.has_ended() {
        sandbox.git(&["pack-refs", "--all"]);
        sandbox.git(&["repack", "-d", "--quiet"]);
    }
    start.wait().exits(0);
    let harmed: Vec<_> = sandbox.harmed().into_iter().filter(|h| !h.contains("info/")).collect();
    assert!(harmed.is_empty(), "{harmed:?}");
    sandbox.remember();
    Claim::all(&sandbox).holds();
}

#[test]
fn fetched_refs_resume_the_run_in_a_clone() {
    let sandbox = half_done();
    let other = sandbox.root().join("other");
    sandbox.git(&["clone", "--quiet", &sandbox.repo.to_string_lossy(), &other.to_string_lossy()]);
    let refs = ["refs/harness/*:refs/harness/*", "refs/notes/harness*:refs/notes/harness*"];
    sandbox.try_git(&other, &["fetch", "--quiet", "origin", refs[0], refs[1]]).exits(0);
    sandbox.run_in(&other, &["start"], &[]).exits(0);
    Claim::all(&sandbox).of(&other).holds();
    assert_eq!(sandbox.task("beta")["state"], "todo", "the copy wrote into the original");
}

#[test]
fn mirror_made_during_a_run_completes_in_the_copy() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta", "gamma"]).set("limits", "jobs = 1"));
    sandbox.script("beta", ": >\"$HOME/up\"; wait_for \"$HOME/go\"; edit beta done");
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("up");
    let copy = sandbox.root().join("copy.git");
    sandbox.git(&[
        "clone",
        "--quiet",
        "--mirror",
        &sandbox.repo.to_string_lossy(),
        &copy.to_string_lossy(),
    ]);
    sandbox.give_sign("go");
    sandbox.run_in(&copy, &["start"], &[]).exits(0);
    Claim::all(&sandbox).of(&copy).holds();
    start.wait().exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn sha256_repository_works() {
    let job = TestJob::new(&["alpha", "beta"]);
    let sandbox = Sandbox::of_format(job, "sha256");
    sandbox.script("alpha.1", "edit alpha BAD");
    sandbox.script("beta.1", "edit shared beta; edit beta done");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.base.len(), 64);
    let why = sandbox.run(&["why", "harness/job-1/result", "--json"]).exits(0).stdout;
    let why: serde_json::Value = serde_json::from_str(&why).unwrap();
    let check = &why["origins"][0]["note"]["checks"][0];
    assert_eq!((&check["name"], &check["passed"]), (&"no-bad".into(), &true.into()), "{why}");
    sandbox.run(&["sweep"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn copy_without_the_target_recreates_the_target() {
    let sandbox = half_done();
    let copy = sandbox.root().join("copy.git");
    sandbox.git(&["init", "--quiet", "--bare", &copy.to_string_lossy()]);
    let url = copy.to_string_lossy().into_owned();
    sandbox.git(&[
        "push",
        "--quiet",
        &url,
        "refs/harness/*:refs/harness/*",
        "refs/notes/harness*:refs/notes/harness*",
    ]);
    sandbox.run_in(&copy, &["start", "--run", "job-1"], &[]).exits(0);
    Claim::all(&sandbox).of(&copy).holds();
}

/// Deletes the record of what this user's supervisors have written, as the user does who has
/// restored an older copy of the repository.
fn forget_what_was_written(sandbox: &Sandbox) {
    let keys = sandbox.root().join("home/.local/state/git-harness/keys");
    std::fs::remove_dir_all(keys).unwrap();
}

#[test]
fn lost_chain_does_not_land_work_twice() {
    let sandbox = half_done();
    // The chain is older than the target.
    let chain = "refs/harness/tasks/job-1/alpha";
    let first = sandbox.git(&["rev-list", "--first-parent", "--reverse", chain]);
    let first = first.lines().next().unwrap();
    sandbox.git(&["update-ref", chain, first]);
    sandbox.run(&["start"]).exits(128).says("was set back from ").says("by another hand");
    forget_what_was_written(&sandbox);
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).with_lost_chains().holds();
}

#[test]
fn copy_taken_during_a_landing_is_completed() {
    let sandbox = half_done();
    // The crash came after the target had moved and before the task's chain was written.
    let chain = "refs/harness/tasks/job-1/alpha";
    let candidate = sandbox.task("alpha")["candidate"].as_str().unwrap().to_owned();
    sandbox.git(&["update-ref", chain, &format!("{chain}^")]);
    sandbox.git(&["update-ref", "refs/heads/harness/job-1/alpha", &candidate]);
    sandbox.git(&["update-ref", "-d", "refs/notes/harness"]);
    forget_what_was_written(&sandbox);
    assert_eq!(sandbox.task("alpha")["state"], "landing");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    let note = sandbox.git(&["notes", "--ref=harness", "show", "harness/job-1/result^"]);
    assert!(note.contains(&candidate) && note.lines().count() == 1, "{note}");
}

#[test]
fn broken_harness_ref_is_quarantined() {
    let sandbox = half_done();
    let path = sandbox.repo.join(".git/refs/harness/tasks/job-1/beta");
    assert!(path.exists());
    std::fs::write(&path, "").unwrap();
    let url = sandbox.repo.to_string_lossy().into_owned();
    let fetch = ["fetch", "--quiet", &url, "+refs/harness/*:refs/copies/*"];
    assert_ne!(sandbox.try_git(&sandbox.repo, &fetch).code, 0, "then this test tests nothing");
    sandbox.run(&["start"]).exits(0).says("quarantine");
    assert_eq!(sandbox.try_git(&sandbox.repo, &["gc", "--quiet"]).code, 0);
    sandbox.try_git(&sandbox.repo, &["fetch", "--quiet", &url, "HEAD"]).exits(0);
    std::fs::remove_file(sandbox.repo.join(".git/FETCH_HEAD")).unwrap();
    sandbox.remember();
    Claim::all(&sandbox).holds();
}

#[test]
fn stale_lock_of_a_harness_ref_is_removed() {
    let sandbox = half_done();
    for name in ["tasks/job-1/beta.lock", "runs/job-1.lock"] {
        std::fs::write(sandbox.repo.join(".git/refs/harness").join(name), "").unwrap();
    }
    // A lock of a foreign ref stays.
    let theirs = sandbox.repo.join(".git/refs/heads/feature.lock");
    std::fs::write(&theirs, "").unwrap();
    sandbox.run(&["start"]).exits(0).says("stale lock");
    for name in ["tasks/job-1/beta.lock", "runs/job-1.lock"] {
        assert!(!sandbox.repo.join(".git/refs/harness").join(name).exists(), "{name} is left");
    }
    std::fs::remove_file(theirs).unwrap();
    Claim::all(&sandbox).holds();
}

#[test]
fn start_in_a_linked_worktree_uses_its_head_and_job() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    let side = sandbox.root().join("side");
    let path = side.to_str().unwrap();
    sandbox.git(&["worktree", "add", "--quiet", "-b", "side", path]);
    let job = std::fs::read_to_string(side.join("harness.toml")).unwrap();
    std::fs::write(side.join("harness.toml"), job.replace("name = \"job\"", "name = \"side\""))
        .unwrap();
    for args in [&["add", "--all"][..], &["commit", "--quiet", "--message", "on the side"]] {
        sandbox.try_git(&side, args).exits(0);
    }
    sandbox.remember();
    sandbox.run_in(&side, &["start"], &[]).exits(0);
    let base = sandbox.git(&["rev-parse", "side"]);
    assert_eq!(sandbox.git(&["rev-parse", "harness/side-1/result^"]), base);
    sandbox.run_in(&side, &["blame", "harness.toml"], &[]).exits(0).says(&base[..7]);
    sandbox.git(&["worktree", "remove", "--force", path]);

    // A target checked out in a deleted worktree is free.
    let gone = sandbox.root().join("gone");
    let path = gone.to_str().unwrap();
    sandbox.git(&["worktree", "add", "--quiet", "-b", "rel", path]);
    std::fs::remove_dir_all(&gone).unwrap();
    let text = std::fs::read_to_string(sandbox.repo.join("harness.toml")).unwrap();
    sandbox
        .write("harness.toml", &text.replace("name = \"job\"", "name = \"job\"\ntarget = \"rel\""));
    sandbox.run(&["start"]).exits(0);
}
