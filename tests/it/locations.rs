//! The repository that git would use: its owner, its path, and the variables that name it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::job::TestJob;
use crate::queue::QueueSandbox;
use crate::sandbox::Sandbox;

/// The variable with which git's own tests pretend that repositories have another owner.
const FOREIGN: (&str, &str) = ("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1");

#[test]
fn repository_of_another_owner_is_refused_unless_it_is_a_safe_directory() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    let repo = sandbox.repo.clone();
    for command in ["validate", "plan", "status", "init"] {
        let refused = sandbox.run_in(&repo, &[command], &[FOREIGN]).exits(128);
        refused.says("fatal: detected dubious ownership in repository at ");
    }
    let refused = sandbox.run_in(&repo, &["validate"], &[FOREIGN]).exits(128);
    refused.says("hint: To add an exception for this directory, call:");
    assert!(!repo.join(".git/harness").exists(), "something was written");
    sandbox.git(&["config", "--global", "safe.directory", repo.to_str().unwrap()]);
    sandbox.run_in(&repo, &["validate"], &[FOREIGN]).exits(0);
    sandbox.run_in(&repo, &["start"], &[FOREIGN]).exits(0);
}

#[test]
fn repository_whose_path_cannot_be_written_down_is_refused_with_the_path() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    let odd = [
        (OsStr::new("two\nlines"), "has a line break", "two\\nlines"),
        (OsStr::from_bytes(b"caf\xe9"), "is not UTF-8", "caf\\xE9"),
    ];
    for (name, problem, shown) in odd {
        let folder = sandbox.root().join(name);
        std::fs::create_dir(&folder).unwrap();
        sandbox.try_git(&folder, &["init", "--quiet"]).exits(0);
        let refused = sandbox.run_in(&folder, &["validate"], &[]).exits(128);
        refused.says(problem).says(shown);
        assert!(!folder.join(".git/harness").exists());
    }
}

#[test]
fn worktrees_of_a_submodule_are_beside_the_superproject() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    let outer = sandbox.root().join("outer");
    std::fs::create_dir(&outer).unwrap();
    sandbox.try_git(&outer, &["init", "--quiet"]).exits(0);
    let source = sandbox.repo.to_str().unwrap();
    let add =
        ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", source, "lib/sub"];
    sandbox.try_git(&outer, &add).exits(0);
    sandbox.try_git(&outer, &["commit", "--quiet", "--message", "submodule"]).exits(0);
    let inner = outer.join("lib/sub");
    sandbox.run_in(&inner, &["start"], &[]).exits(0);
    assert_eq!(sandbox.try_git(&outer, &["status", "--porcelain"]).stdout, "");
    let list = sandbox.try_git(&inner, &["worktree", "list"]).stdout;
    let beside = sandbox.root().join("outer.lib-sub.harness");
    assert!(list.contains(beside.to_str().unwrap()), "{list}");
}

#[test]
fn repository_that_the_environment_names_is_used() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    let (elsewhere, repo) = (sandbox.root().join("home"), sandbox.repo.clone());
    sandbox.run_in(&elsewhere, &["validate"], &[]).exits(128);
    let (git_dir, work_tree) = (repo.join(".git"), repo.clone());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (git_dir, work_tree) = (text(&git_dir), text(&work_tree));
    let named = [("GIT_DIR", git_dir.as_str()), ("GIT_WORK_TREE", work_tree.as_str())];
    sandbox.run_in(&elsewhere, &["validate"], &named).exits(0);
    // Relative to the current folder, and before any repository that is there.
    let other = sandbox.root().join("other");
    std::fs::create_dir(&other).unwrap();
    sandbox.try_git(&other, &["init", "--quiet"]).exits(0);
    let relative = [("GIT_DIR", "../repo/.git"), ("GIT_WORK_TREE", "../repo")];
    sandbox.run_in(&other, &["start"], &relative).exits(0);
    assert_eq!(sandbox.landed("alpha"), "done in attempt 1");
    // Without a work tree's name, the current folder is the work tree.
    let only = [("GIT_DIR", git_dir.as_str())];
    sandbox.run_in(&other, &["validate"], &only).exits(128).says("no job file");
    sandbox.run_in(&repo, &["validate"], &only).exits(0);
    let wrong = [("GIT_DIR", "nowhere")];
    sandbox.run_in(&repo, &["validate"], &wrong).exits(128).says("not a git repository");
}

#[test]
fn symbolic_ref_as_the_target_stands_for_its_branch() {
    let queue = QueueSandbox::new("");
    let sandbox = &queue.sandbox;
    queue.good(1);
    sandbox.git(&["symbolic-ref", "refs/heads/trunk", "refs/heads/main"]);
    sandbox.run(&["queue", "--target", "trunk", "add", "b0"]).exits(0).says("land on `main`");
    sandbox.run(&["queue", "--target", "trunk", "run"]).exits(0);
    assert_eq!(queue.landed(), ["b0"]);
    // The checkout of the branch has followed.
    queue.left_alone();
    assert_eq!(sandbox.git(&["symbolic-ref", "refs/heads/trunk"]), "refs/heads/main");
    sandbox.run(&["queue", "add", "trunk"]).exits(128).says("is the target itself");
    sandbox.git(&["symbolic-ref", "refs/heads/odd", "refs/tags/v1"]);
    let refused = sandbox.run(&["queue", "--target", "odd", "list"]).exits(128);
    refused.says("is a symbolic ref to `refs/tags/v1`, which is not a branch");
}
