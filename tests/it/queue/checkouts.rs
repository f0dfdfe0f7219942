//! Work trees of the target follow whatever lands, and never lose a file of the user's.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::QueueSandbox;

impl QueueSandbox {
    /// Creates a branch from `main` by a shell script that runs in a worktree.
    fn scripted(&self, name: &str, script: &str) {
        let place = self.sandbox.root().join("scripted");
        let path = place.to_str().unwrap();
        self.sandbox.git(&["worktree", "add", "--quiet", "--force", "-B", name, path, "main"]);
        self.shell(&place, script);
        self.shell(&place, &format!("git add --all --force && git commit --quiet -m {name}"));
        self.sandbox.git(&["worktree", "remove", "--force", path]);
    }

    /// Runs a shell script in a folder.
    fn shell(&self, folder: &Path, script: &str) {
        let alias = format!("alias.in-folder=!cd '{}' && {script}", folder.display());
        self.sandbox.try_git(folder, &["-c", &alias, "in-folder"]).exits(0);
    }

    /// Queues a branch and lands it.
    fn lands(&self, name: &str) -> String {
        self.add(&[name]);
        let output = self.sandbox.run(&["queue", "run"]).exits(0);
        assert_eq!(self.landed().last().map(String::as_str), Some(name), "{output}");
        output.stderr
    }

    /// Returns the status of a work tree, without what [`QueueSandbox::new`] left uncommitted.
    fn status(&self, folder: &Path) -> String {
        let status = self.sandbox.try_git(folder, &["status", "--porcelain"]).exits(0).stdout;
        status.replace(" M README\n", "").replace("?? untracked\n", "")
    }
}

#[test]
fn checkout_follows_executable_bits_and_type_changes() {
    let queue = QueueSandbox::new("");
    let repo = queue.sandbox.repo.clone();
    queue.scripted("exec", "chmod +x f1");
    queue.lands("exec");
    assert_eq!(queue.status(&repo), "");
    assert_ne!(std::fs::metadata(repo.join("f1")).unwrap().permissions().mode() & 0o100, 0);
    // The link has the same blob as the file.
    queue.scripted("text", "printf f0 > link");
    queue.lands("text");
    queue.scripted("link", "rm link && ln -s f0 link");
    queue.lands("link");
    assert_eq!(queue.status(&repo), "");
    assert_eq!(std::fs::read_link(repo.join("link")).unwrap(), Path::new("f0"));
    queue.scripted("folder", "rm link && mkdir link && echo 1 > link/file");
    queue.lands("folder");
    queue.scripted("back", "rm -r link && echo 2 > link");
    queue.lands("back");
    assert_eq!(queue.status(&repo), "");
    queue.left_alone();
}

#[test]
fn checkout_with_sparse_index_follows_outside_of_the_cone() {
    let queue = QueueSandbox::new("");
    let repo = queue.sandbox.repo.clone();
    queue.scripted("two", "mkdir in out && echo 1 > in/1 && echo 1 > out/1 && echo 2 > out/2");
    queue.lands("two");
    queue.scripted("outside", "echo changed > out/1");
    queue.sandbox.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "in"]);
    queue.lands("outside");
    assert_eq!(queue.status(&repo), "");
    std::fs::write(repo.join("in/n"), "n\n").unwrap();
    queue.sandbox.git(&["add", "in/n"]);
    queue.sandbox.git(&["commit", "--quiet", "-m", "the user's"]);
    assert_eq!(queue.sandbox.git(&["show", "--format=", "--name-only"]), "in/n");
    queue.holds();
}

#[test]
fn checkout_with_separate_git_folder_follows() {
    let queue = QueueSandbox::new("");
    let repo = queue.sandbox.repo.clone();
    let apart = queue.sandbox.root().join("apart.git");
    queue.sandbox.git(&["init", "--quiet", "--separate-git-dir", apart.to_str().unwrap()]);
    queue.scripted("change", "echo changed > f1");
    queue.lands("change");
    assert_eq!(queue.status(&repo), "");
    assert_eq!(std::fs::read_to_string(repo.join("f1")).unwrap(), "changed\n");
}

#[test]
fn ignored_file_in_the_way_holds_the_landing() {
    let queue = QueueSandbox::new("");
    let repo = queue.sandbox.repo.clone();
    queue.scripted("ignore", "printf 'out/\n*.local\n' > .gitignore");
    queue.lands("ignore");
    std::fs::create_dir(repo.join("out")).unwrap();
    for file in ["out/precious", "own.local"] {
        std::fs::write(repo.join(file), "precious\n").unwrap();
    }
    for (name, script, file) in [
        ("link", "ln -s /nowhere out", "out/precious"),
        ("forced", "echo theirs > own.local", "own.local"),
        ("below", "mkdir own.local && echo theirs > own.local/file", "own.local"),
    ] {
        queue.scripted(name, script);
        queue.add(&[name]);
        let output = queue.sandbox.run(&["queue", "run"]).exits(3);
        assert!(output.stderr.contains(&format!("Ignored file '{file}'")), "{output}");
        queue.sandbox.run(&["queue", "remove", name]).exits(0);
        assert_eq!(std::fs::read_to_string(repo.join(file)).unwrap(), "precious\n");
    }
    queue.add(&["forced"]);
    std::fs::remove_file(repo.join("own.local")).unwrap();
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(std::fs::read_to_string(repo.join("own.local")).unwrap(), "theirs\n");
    queue.left_alone();
}

#[test]
fn worktree_that_is_gone_is_passed_over_and_named() {
    let queue = QueueSandbox::new("");
    queue.sandbox.git(&["checkout", "--quiet", "feature"]);
    let linked = queue.sandbox.root().join("it's linked");
    let path = linked.to_str().unwrap();
    let away = queue.sandbox.root().join("away");
    queue.sandbox.git(&["worktree", "add", "--quiet", path, "main"]);
    queue.sandbox.git(&["worktree", "lock", "--reason", "on a disk", path]);
    std::fs::rename(&linked, &away).unwrap();
    queue.scripted("one", "echo 1 > f1");
    let stderr = queue.lands("one");
    assert!(stderr.contains("(its folder is gone; it is locked: on a disk)"), "{stderr}");
    assert!(stderr.contains("it'\\''s linked' read-tree -m -u"), "{stderr}");
    queue.scripted("two", "echo 2 > f1");
    let stderr = queue.lands("two");
    assert!(!stderr.contains("gone"), "{stderr}");
    // The disk is back: the worktree follows all that landed meanwhile.
    std::fs::rename(&away, &linked).unwrap();
    queue.scripted("three", "echo 3 > f2");
    queue.lands("three");
    assert_eq!(queue.status(&linked), "");
    assert_eq!(std::fs::read_to_string(linked.join("f1")).unwrap(), "2\n");
}

#[test]
fn folder_that_is_another_worktree_now_is_never_written_to() {
    let queue = QueueSandbox::new("");
    queue.sandbox.git(&["checkout", "--quiet", "feature"]);
    let linked = queue.sandbox.root().join("linked");
    let moved = queue.sandbox.root().join("moved");
    queue.sandbox.git(&["worktree", "add", "--quiet", linked.to_str().unwrap(), "main"]);
    std::fs::rename(&linked, &moved).unwrap();
    std::fs::create_dir(&linked).unwrap();
    queue.scripted("one", "echo 1 > new");
    let stderr = queue.lands("one");
    assert!(stderr.contains("is not this worktree"), "{stderr}");
    assert_eq!(std::fs::read_dir(&linked).unwrap().count(), 0);
    std::fs::remove_dir(&linked).unwrap();
    std::fs::write(&linked, "a file\n").unwrap();
    queue.scripted("two", "echo 2 > new");
    queue.lands("two");
    assert_eq!(std::fs::read_to_string(&linked).unwrap(), "a file\n");
    std::fs::remove_file(&linked).unwrap();
    queue.sandbox.try_git(&moved, &["worktree", "repair"]).exits(0);
    queue.holds();
}
