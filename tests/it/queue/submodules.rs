//! Targets with a submodule: what leaves it alone lands, and its folder is empty where checks run.

use super::QueueSandbox;
use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// Commits a submodule `lib` on `main`, as `git submodule add` does.
fn add_submodule(sandbox: &Sandbox) {
    let commit = sandbox.git(&["rev-parse", "main"]);
    sandbox.write(".gitmodules", "[submodule \"lib\"]\n\tpath = lib\n\turl = ../lib.git\n");
    std::fs::create_dir(sandbox.repo.join("lib")).unwrap();
    let entry = format!("160000,{commit},lib");
    sandbox.git(&["update-index", "--add", "--cacheinfo", &entry]);
    sandbox.git(&["add", ".gitmodules"]);
    sandbox.git(&["commit", "--quiet", "--message", "a submodule"]);
}

/// Sets the check of a queue: the folder of the submodule is there, and empty.
fn check_empty_folder(queue: &QueueSandbox) {
    queue.sandbox.write("check.sh", "test -d lib && rmdir lib && mkdir lib\n");
    queue.sandbox.git(&["commit", "--quiet", "--message", "another check", "check.sh"]);
}

#[test]
fn branches_that_leave_the_submodule_alone_land() {
    let queue = QueueSandbox::new("");
    queue.branch("older", "main", &[("f1", "from before the submodule\n")]);
    check_empty_folder(&queue);
    add_submodule(&queue.sandbox);
    queue.branch("one", "main", &[("f2", "more\n")]);
    queue.branch("two", "main", &[("f2", "more\n"), ("f3", "more\n")]);
    queue.add(&["older", "one"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    // The check worktree is used again, with content in the folder.
    let worktrees = queue.sandbox.git(&["worktree", "list", "--porcelain"]);
    let worktree = worktrees
        .lines()
        .find_map(|line| line.strip_prefix("worktree ").filter(|path| path.contains("queue-")));
    let folder = std::path::Path::new(worktree.unwrap()).join("lib");
    std::fs::write(folder.join("left"), "by a check\n").unwrap();
    queue.add(&["two"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["older", "one", "two"]);
    let entry = queue.sandbox.git(&["ls-tree", "main", "lib"]);
    assert!(entry.starts_with("160000 commit"), "{entry}");
    assert_eq!(queue.sandbox.git(&["status", "--porcelain"]), " M README\n?? untracked");
}

#[test]
fn branch_that_moves_or_removes_the_submodule_is_refused_when_it_is_added() {
    let queue = QueueSandbox::new("");
    add_submodule(&queue.sandbox);
    let place = queue.sandbox.root().join("mine");
    let path = place.to_str().unwrap();
    queue.sandbox.git(&["worktree", "add", "--quiet", "-B", "removes", path, "main"]);
    for args in [&["rm", "--quiet", "lib"][..], &["commit", "--quiet", "-m", "without"]] {
        assert_eq!(queue.sandbox.try_git(&place, args).code, 0);
    }
    let output = queue.sandbox.run(&["queue", "add", "removes"]).exits(128);
    let refusal = "fatal: `removes` adds, moves or removes the submodule `lib`";
    assert!(output.stderr.contains(refusal), "{output}");
}

#[test]
fn run_on_a_base_with_a_submodule_lands_its_tasks() {
    let job = TestJob::new(&["alpha", "beta"]).check("folder", &["test", "-d", "lib"], "");
    let sandbox = Sandbox::new(job);
    add_submodule(&sandbox);
    sandbox.remember();
    // An agent that fills or removes the folder has changed nothing.
    sandbox.script("alpha", "edit alpha done; edit lib/file content");
    sandbox.script("beta", "edit beta done; rmdir lib");
    sandbox.run(&["start"]).exits(0);
    let target = sandbox.status()["target"].as_str().unwrap().to_owned();
    let changed = sandbox.git(&["diff", "--name-only", "main", &target]);
    assert_eq!(changed, "alpha\nbeta");
}
