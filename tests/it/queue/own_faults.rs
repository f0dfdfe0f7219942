//! Entries whose own tree or history cannot be verified: they are rejected by name, and the others
//! land.

use super::QueueSandbox;
use crate::job::TestJob;
use crate::sandbox::Sandbox;

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
    let output = queue.sandbox.run(&["queue", "add", "bad"]).exits(128);
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
    let reason = "git does not allow the path `.GIT` in a tree";
    rejects_bad(&with_bad_files(&[(".GIT", b"evil\n")], &[]), reason);
}

#[test]
fn unknown_encoding_rejects_its_branch() {
    let attributes: &[u8] = b"*.txt working-tree-encoding=NO-SUCH\n";
    let queue = with_bad_files(&[(".gitattributes", attributes), ("a.txt", b"1\n")], &[]);
    rejects_bad(&queue, "git-harness cannot write `working-tree-encoding=NO-SUCH`");
    assert_eq!(queue.runs(), 1, "it is rejected before any check runs");
}

#[test]
fn content_that_its_encoding_does_not_have_rejects_its_branch() {
    let attributes: &[u8] = b"*.txt working-tree-encoding=UTF-16LE\n";
    let queue =
        with_bad_files(&[(".gitattributes", attributes), ("a.txt", b"\xff\xfe\xfa\n")], &[]);
    let reason = "the content cannot be converted to working-tree-encoding=UTF-16LE";
    rejects_bad(&queue, &format!("`a.txt` cannot be checked out: {reason}"));
}

#[test]
fn changed_encoding_of_a_file_of_the_target_rejects_its_branch() {
    let queue = QueueSandbox::new("");
    queue.sandbox.write("f1", "\u{65e5}\n");
    queue.sandbox.git(&["commit", "--quiet", "--message", "not in windows-1252", "f1"]);
    queue.good(1);
    // The branch changes no file but `.gitattributes`.
    let attributes = blob(&queue, b"f1 working-tree-encoding=windows-1252\n");
    bad_branch(&queue, &[format!("100644 blob {attributes}\t.gitattributes")]);
    queue.add(&["bad", "b0"]);
    rejects_bad(&queue, "`f1` cannot be checked out: the content cannot be converted");
}

#[test]
fn file_that_meets_an_encoding_of_another_branch_rejects_the_later_branch() {
    let queue = QueueSandbox::new("");
    queue.good(1);
    let attributes = "*.txt working-tree-encoding=windows-1252\n";
    queue.branch("attributes", "main", &[(".gitattributes", attributes)]);
    queue.branch("bad", "main", &[("a.txt", "\u{65e5}\n")]);
    queue.add(&["attributes", "bad", "b0"]);
    queue.sandbox.run(&["queue", "run"]).exits(1);
    assert_eq!(queue.landed(), ["attributes", "b0"]);
    assert!(queue.why("bad").contains("`a.txt` cannot be checked out"), "{}", queue.why("bad"));
}

#[test]
fn encoding_of_the_target_that_cannot_be_written_stops_queue_and_run_until_a_branch_mends_it() {
    let queue = QueueSandbox::new("");
    queue.sandbox.write(".gitattributes", "*.txt working-tree-encoding=UTF-32\n");
    std::fs::write(queue.sandbox.repo.join("a.txt"), b"\xff\xfe\0\0a\0\0\0").unwrap();
    queue.sandbox.git(&["add", ".gitattributes", "a.txt"]);
    queue.sandbox.git(&["commit", "--quiet", "--message", "UTF-32"]);
    queue.good(1);
    queue.add(&["b0"]);
    let fault =
        "`a.txt` cannot be checked out: git-harness cannot write working-tree-encoding=UTF-32";
    queue.sandbox.run(&["queue", "run"]).exits(3).says(fault);
    assert_eq!(queue.states()["b0"], "queued");
    queue.sandbox.run(&["start"]).exits(128).says(fault);
    assert!(queue.sandbox.run(&["doctor"]).exits(1).stdout.contains(fault));
    assert_eq!(queue.sandbox.git(&["for-each-ref", "refs/harness/runs"]), "");
    // A branch that mends it lands, and then the other.
    queue.branch("mends", "main", &[(".gitattributes", "# no encodings\n")]);
    queue.add(&["mends"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.states()["mends"], "landed");
    assert_eq!(queue.states()["b0"], "landed");
}

#[test]
fn encoding_of_the_target_that_can_be_written_is_no_reason() {
    let queue = QueueSandbox::new("");
    queue.sandbox.write(".gitattributes", "*.txt working-tree-encoding=UTF-16\n");
    queue.sandbox.git(&["add", ".gitattributes"]);
    std::fs::write(queue.sandbox.repo.join("a.txt"), b"\xff\xfea\0\n\0").unwrap();
    queue.sandbox.write("check.sh", "test \"$(wc -c <a.txt)\" -eq 6\n");
    queue.sandbox.git(&["add", "a.txt", "check.sh"]);
    queue.sandbox.git(&["commit", "--quiet", "--message", "UTF-16"]);
    queue.good(1);
    queue.add(&["b0"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    // A task whose file is UTF-16 is read back as git reads it.
    queue.sandbox.write(".gitattributes", "alpha working-tree-encoding=UTF-16\n");
    queue.sandbox.git(&["rm", "--quiet", "--cached", "alpha"]);
    std::fs::write(queue.sandbox.repo.join("alpha"), b"\xff\xfea\0\n\0").unwrap();
    queue.sandbox.git(&["add", ".gitattributes", "alpha"]);
    queue.sandbox.write("check.sh", "true\n");
    queue.sandbox.git(&["add", "check.sh"]);
    queue.sandbox.git(&["commit", "--quiet", "--message", "more UTF-16"]);
    queue.sandbox.script("alpha", "printf '\\377\\376b\\0\\n\\0' >alpha");
    queue.sandbox.run(&["start"]).exits(0);
    let target = queue.sandbox.status()["target"].as_str().unwrap().to_owned();
    assert_eq!(queue.sandbox.git(&["show", &format!("{target}:alpha")]), "b");
}

#[test]
fn links_as_files_are_read_back_as_links() {
    let queue = QueueSandbox::new("");
    std::os::unix::fs::symlink("f1", queue.sandbox.repo.join("link")).unwrap();
    queue.sandbox.git(&["add", "link"]);
    queue.sandbox.git(&["commit", "--quiet", "--message", "a link"]);
    queue.sandbox.git(&["config", "core.symlinks", "false"]);
    queue.good(1);
    queue.add(&["b0"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    queue.sandbox.script("alpha", "edit alpha done; test ! -L link; touch link");
    queue.sandbox.run(&["start"]).exits(0);
    let target = queue.sandbox.status()["target"].as_str().unwrap().to_owned();
    let link = queue.sandbox.git(&["ls-tree", &target, "link"]);
    assert!(link.starts_with("120000"), "{link}");
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

#[test]
fn task_that_brings_an_unknown_encoding_is_rejected_and_learns_the_reason() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", ".gitattributes"]));
    let task = "_dot_gitattributes";
    let unknown = "edit .gitattributes 'alpha working-tree-encoding=NO-SUCH'";
    // The file is read with the encoding when the work is saved.
    sandbox.script(&format!("{task}.1"), &format!("{unknown}; touch alpha"));
    let feedback = "expect_feedback 'git-harness cannot write `working-tree-encoding=NO-SUCH`'";
    sandbox.script(&format!("{task}.2"), &format!("{feedback}; edit .gitattributes '# fine'"));
    sandbox.run(&["start"]).exits(0);
    let attempts = |name: &str| sandbox.task(name)["attempts"].clone();
    assert_eq!((attempts(task), attempts("alpha")), (2.into(), 1.into()));
}
