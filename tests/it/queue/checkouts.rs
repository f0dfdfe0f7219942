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

/// Returns the command that repairs the checkout that is behind.
fn repair(queue: &QueueSandbox) -> String {
    queue.list()["behind"][0]["repair"].as_str().unwrap().to_owned()
}

#[test]
fn failed_move_is_put_back_and_the_repair_command_works() {
    let queue = QueueSandbox::new("pre-land = [\"sh\", \"-c\", ': >\"$HOME/full\"']");
    let (repo, full) = (queue.sandbox.repo.clone(), queue.sandbox.sign("full"));
    // Nothing more can be written after the first files, as on a full disk.
    let smudge = format!("test ! -e '{}' && cat", full.display());
    for (name, value) in [("smudge", &*smudge), ("clean", "cat"), ("required", "true")] {
        queue.sandbox.git(&["config", &format!("filter.hard.{name}"), value]);
    }
    std::fs::write(repo.join(".gitattributes"), "f5 filter=hard\n").unwrap();
    queue.sandbox.git(&["add", ".gitattributes"]);
    queue.sandbox.git(&["commit", "--quiet", "-m", "attributes", ".gitattributes"]);
    let script = "echo 2 > f1; echo 2 > f5; rm f3; mkdir f-new; echo 2 > f-new/file";
    queue.scripted("change", script);
    let stderr = queue.lands("change");
    assert!(stderr.contains("landed, checkout behind: "), "{stderr}");
    let changed = || queue.sandbox.git(&["diff-files", "--name-only"]);
    assert_eq!(changed(), "README\nf5", "the user's change, and what cannot be written");
    assert!(!repo.join("f5").exists());
    assert!(!repo.join("f-new").exists() && repo.join("f3").exists());
    std::fs::remove_file(full).unwrap();
    queue.shell(&repo, &repair(&queue));
    assert_eq!(queue.status(&repo), "");
    assert_eq!(std::fs::read_to_string(repo.join("f-new/file")).unwrap(), "2\n");
    assert_eq!(queue.list()["behind"].as_array().unwrap().len(), 0);
    queue.holds();
}

#[test]
fn checkout_with_a_read_only_folder_stays_behind_until_it_is_repaired() {
    let queue = QueueSandbox::new("");
    let repo = queue.sandbox.repo.clone();
    queue.scripted("folder", "mkdir 'a folder' && echo 1 > 'a folder/file'");
    queue.lands("folder");
    let folder = repo.join("a folder");
    let writable = |writable: bool| {
        let mode = if writable { 0o755 } else { 0o555 };
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).ok();
        // Permissions do not stop root.
        let attribute = if writable { "-i" } else { "+i" };
        let mut chattr = std::process::Command::new("chattr");
        chattr.args([attribute]).arg(&folder).stderr(std::process::Stdio::null()).status().ok();
    };
    queue.scripted("change", "echo 2 > f1; echo 2 > 'a folder/file'");
    writable(false);
    if std::fs::write(folder.join("test"), "").is_ok() {
        std::fs::remove_file(folder.join("test")).unwrap();
        writable(true);
        eprintln!("skipped: no folder can be made read-only here");
        return;
    }
    queue.add(&["change"]);
    let output = queue.sandbox.run(&["queue", "run"]);
    let changed = queue.sandbox.git(&["diff-files", "--name-only"]);
    writable(true);
    let stderr = output.exits(0).stderr.clone();
    assert!(
        stderr.contains("landed, checkout behind: ") && stderr.contains("a folder"),
        "{stderr}"
    );
    assert_eq!(changed, "README", "only the user's change");
    queue.shell(&repo, &repair(&queue));
    assert_eq!(queue.status(&repo), "");
    queue.holds();
}

#[test]
fn rename_that_changes_only_case_lands_where_case_is_ignored() {
    let queue = QueueSandbox::new("");
    let repo = queue.sandbox.repo.clone();
    queue.scripted("case", "git mv f1 F1");
    queue.sandbox.git(&["config", "core.ignoreCase", "true"]);
    // Another file of the user's, although git takes both for one.
    std::fs::write(repo.join("F1"), "precious\n").unwrap();
    queue.add(&["case"]);
    queue.sandbox.run(&["queue", "run"]).exits(3).says("file 'F1'");
    assert_eq!(std::fs::read_to_string(repo.join("F1")).unwrap(), "precious\n");
    // One file with both names, as on a file system that ignores case.
    std::fs::remove_file(repo.join("F1")).unwrap();
    std::fs::hard_link(repo.join("f1"), repo.join("F1")).unwrap();
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["case"]);
    assert_eq!(std::fs::read_to_string(repo.join("F1")).unwrap(), "this is 1\n");
    assert!(!repo.join("f1").exists());
    assert_eq!(queue.status(&repo), "");
}
