//! Entries whose own tree or history cannot be verified: they are rejected by name, and the others
//! land.

use super::QueueSandbox;

/// Creates the branch `bad` from `main` with further entries in its tree, each a line as of
/// `git ls-tree`.
fn bad_branch(queue: &QueueSandbox, entries: &[String]) {
    let tree = queue.sandbox.git(&["ls-tree", "main"]);
    let lines: Vec<&str> = tree.lines().chain(entries.iter().map(String::as_str)).collect();
    let file = queue.sandbox.sign("tree");
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    let alias = format!("alias.tree-of=!git mktree --missing <'{}'", file.display());
    let tree = queue.sandbox.git(&["-c", &alias, "tree-of"]);
    let commit = queue.sandbox.git(&["commit-tree", "-p", "main", "-m", "bad", tree.trim()]);
    queue.sandbox.git(&["branch", "bad", commit.trim()]);
}

/// Returns the id of a blob.
fn blob(queue: &QueueSandbox, content: &[u8]) -> String {
    let file = queue.sandbox.sign("blob");
    std::fs::write(&file, content).unwrap();
    queue.sandbox.git(&["hash-object", "-w", file.to_str().unwrap()]).trim().to_owned()
}

/// Creates a queue in which `bad` and `good` wait. `files` are those of `bad`.
fn with_bad_files(files: &[(&str, &[u8])], config: &[(&str, &str)]) -> QueueSandbox {
    let queue = QueueSandbox::new("");
    queue.good(1);
    for (key, value) in config {
        queue.sandbox.git(&["config", key, value]);
    }
    let line =
        |(path, content): &(&str, &[u8])| format!("100644 blob {}\t{path}", blob(&queue, content));
    bad_branch(&queue, &files.iter().map(line).collect::<Vec<_>>());
    queue.add(&["bad", "b0"]);
    queue
}

/// Runs the queue: `b0` lands, and `bad` is rejected with a reason that has `part`.
fn rejects_bad(queue: &QueueSandbox, part: &str) {
    let output = queue.sandbox.run(&["queue", "run"]).exits(1);
    assert_eq!(queue.landed(), ["b0"], "{output}");
    assert_eq!(queue.states()["bad"], "rejected");
    let why = queue.why("bad");
    assert!(why.starts_with("bad: rejected") && why.contains(part), "{why}");
    queue.holds();
    queue.left_alone();
}

#[test]
fn branch_that_changes_a_submodule_is_refused_when_it_is_added() {
    let queue = QueueSandbox::new("");
    queue.good(1);
    let commit = queue.sandbox.git(&["rev-parse", "main"]);
    bad_branch(&queue, &[format!("160000 commit {}\tlib", commit.trim())]);
    let output = queue.sandbox.run(&["queue", "add", "b0", "bad"]).exits(128);
    let refusal = "fatal: `bad` adds, moves or removes the submodule `lib`";
    assert!(output.stderr.contains(refusal), "{output}");
    assert!(queue.states().is_empty());
}

#[test]
fn submodule_that_comes_while_the_branch_waits_rejects_that_branch() {
    let queue = QueueSandbox::new("");
    queue.good(1);
    queue.branch("bad", "main", &[("f1", "fine\n")]);
    queue.add(&["bad", "b0"]);
    queue.sandbox.git(&["branch", "-D", "bad"]);
    let commit = queue.sandbox.git(&["rev-parse", "main"]);
    bad_branch(&queue, &[format!("160000 commit {}\tlib", commit.trim())]);
    rejects_bad(&queue, "submodule");
}

#[test]
fn missing_filter_program_rejects_its_branch() {
    let files: &[(&str, &[u8])] = &[(".gitattributes", b"*.bin filter=lfs\n"), ("a.bin", b"1\n")];
    let config = [
        ("filter.lfs.smudge", "no-such-program smudge %f"),
        ("filter.lfs.clean", "cat"),
        ("filter.lfs.required", "true"),
    ];
    rejects_bad(&with_bad_files(files, &config), "cannot check out");
}

#[test]
fn path_that_git_protects_rejects_its_branch() {
    rejects_bad(&with_bad_files(&[(".GIT", b"evil\n")], &[]), "");
}

#[test]
fn check_that_removes_its_worktree_rejects_its_branch() {
    let queue = QueueSandbox::new("");
    let check = "if [ -e removes ]; then rm -rf \"$PWD\"; fi\nexit 0\n";
    queue.sandbox.write("check.sh", check);
    queue.sandbox.git(&["commit", "--quiet", "--message", "a check", "check.sh"]);
    queue.good(1);
    queue.branch("bad", "main", &[("removes", "")]);
    queue.add(&["bad", "b0"]);
    rejects_bad(&queue, "");
}
