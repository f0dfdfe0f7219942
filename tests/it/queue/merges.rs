//! Merges of the queue: the landed tree is the one that git gives.

use super::QueueSandbox;

/// Lines with numbers.
fn numbered(count: usize) -> String {
    (0..count).map(|n| format!("line {n}\n")).collect()
}

impl QueueSandbox {
    /// Commits files on `main`, in a worktree of its own.
    fn on_main(&self, changes: &[(&str, &str)]) {
        self.branch("for-main", "main", changes);
        self.sandbox.git(&["reset", "--quiet", "--keep", "for-main"]);
    }

    /// Commits the rename of a file on a branch.
    fn rename_on(&self, branch: &str, from: &str, to: &str) {
        let place = self.sandbox.root().join("renaming");
        let path = place.to_str().unwrap();
        let name = if branch == "main" { "for-main" } else { branch };
        self.sandbox.git(&["worktree", "add", "--quiet", "--force", "-B", name, path, branch]);
        std::fs::create_dir_all(place.join(to).parent().unwrap()).unwrap();
        self.sandbox.try_git(&place, &["mv", from, to]).exits(0);
        self.sandbox.try_git(&place, &["commit", "--quiet", "--message", "renames"]).exits(0);
        self.sandbox.git(&["worktree", "remove", "--force", path]);
        if branch == "main" {
            self.sandbox.git(&["reset", "--quiet", "--keep", name]);
        }
    }

    /// Returns the tree that git gives for a merge of a branch into `main`.
    fn merged_by_git(&self, branch: &str) -> String {
        self.sandbox.git(&["merge-tree", "--write-tree", "main", branch])
    }

    fn main_tree(&self) -> String {
        self.sandbox.git(&["rev-parse", "main^{tree}"])
    }

    /// Lands one branch and compares the result with git's.
    fn lands_as_by_git(&self, branch: &str) {
        let want = self.merged_by_git(branch);
        self.add(&[branch]);
        self.sandbox.run(&["queue", "run"]).exits(0);
        assert_eq!(self.main_tree(), want);
        self.holds();
    }
}

#[test]
fn revert_on_the_target_survives_a_criss_cross_history() {
    for style in ["squash", "merge"] {
        for first in ["hotfix", "feature"] {
            let queue = QueueSandbox::new(&format!("merge = \"{style}\""));
            let lines = numbered(20);
            queue.on_main(&[("app", &lines), ("lib", &lines)]);
            queue.sandbox.git(&["branch", "develop", "main"]);
            let hotfix = || queue.on_main(&[("app", &lines.replace("line 3\n", "hotfix\n"))]);
            let feature = lines.replace("line 10\n", "feature\n");
            let develop = || queue.branch("develop", "develop", &[("lib", &feature)]);
            if first == "hotfix" {
                hotfix();
                develop();
            } else {
                develop();
                hotfix();
            }
            let git = |args: &[&str]| queue.sandbox.git(args);
            let [ours, theirs] = ["main", "develop"].map(|name| git(&["rev-parse", name]));
            let tree = git(&["merge-tree", "--write-tree", &ours, &theirs]);
            let merge = |one: &str, other: &str| {
                git(&["commit-tree", &tree, "-p", one, "-p", other, "-m", "a merge"])
            };
            let (to_main, to_develop) = (merge(&ours, &theirs), merge(&theirs, &ours));
            git(&["reset", "--quiet", "--keep", &to_main]);
            git(&["branch", "--force", "develop", &to_develop]);
            let reverted = lines.replace("line 3\n", "hotfix\n");
            queue.on_main(&[("lib", &lines), ("app", &reverted.replace("hotfix", "better"))]);
            let more = feature.replace("line 18\n", "good work\n");
            queue.branch("develop", "develop", &[("lib", &more)]);
            assert_eq!(git(&["merge-base", "--all", "main", "develop"]).lines().count(), 2);
            queue.lands_as_by_git("develop");
            let landed = git(&["show", "main:lib"]);
            assert!(landed.contains("good work") && !landed.contains("feature"), "{landed}");
        }
    }
}

#[test]
fn rename_and_edit_in_one_train_both_land() {
    for names in [["renames", "edits"], ["edits", "renames"]] {
        let queue = QueueSandbox::new("");
        let lines = numbered(30);
        queue.on_main(&[("old", &lines)]);
        queue.branch("edits", "main", &[("old", &lines.replace("line 7\n", "seven\n"))]);
        queue.branch("innocent", "main", &[("innocent", "x\n")]);
        queue.sandbox.git(&["branch", "renames", "main"]);
        queue.rename_on("renames", "old", "new");
        queue.add(&[names[0], names[1], "innocent"]);
        queue.sandbox.run(&["queue", "run"]).exits(0).says("3 landed");
        assert!(queue.sandbox.git(&["show", "main:new"]).contains("seven"));
        queue.sandbox.git(&["cat-file", "-e", "main:innocent"]);
        assert_eq!(queue.sandbox.git(&["ls-tree", "--name-only", "main", "old"]), "");
        queue.holds();
    }
}

#[test]
fn code_of_a_branch_lands_in_the_block_in_which_git_puts_it() {
    let text = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let queue = QueueSandbox::new("");
    queue.on_main(&[("a.c", &text(&["    call();", "  }", "}", "if (x) {"]))]);
    queue.branch(
        "one",
        "main",
        &[("a.c", &text(&["    call();", "  }", "  x = 1;", "}", "if (x) {"]))],
    );
    queue.on_main(&[("a.c", &text(&["  }", "}", "{", "if (x) {", "    call();", "  }", "}"]))]);
    // The algorithm of Myers puts the line into the first block.
    queue.sandbox.git(&["config", "diff.algorithm", "myers"]);
    queue.lands_as_by_git("one");
    let want = text(&["  }", "}", "{", "if (x) {", "    call();", "  }", "  x = 1;", "}"]);
    assert_eq!(queue.sandbox.git(&["show", "main:a.c"]), want.trim_end());
}

#[test]
fn new_file_follows_the_rename_of_its_folder() {
    let queue = QueueSandbox::new("");
    queue.on_main(&[("d-1", &numbered(20)), ("d-2", &numbered(25))]);
    for name in ["d-1", "d-2"] {
        queue.rename_on("main", name, &format!("d/{name}"));
    }
    queue.branch("adds", "main", &[("d/d-3", "new\n")]);
    for name in ["d-1", "d-2"] {
        queue.rename_on("main", &format!("d/{name}"), &format!("e/{name}"));
    }
    queue.sandbox.git(&["config", "merge.directoryRenames", "true"]);
    queue.lands_as_by_git("adds");
    assert_eq!(queue.sandbox.git(&["show", "main:e/d-3"]), "new");
}

#[test]
fn attributes_of_the_target_count_and_not_those_that_are_checked_out() {
    let queue = QueueSandbox::new("");
    queue.on_main(&[("a.log", "first\n")]);
    queue.branch("one", "main", &[("a.log", "first\none\n")]);
    queue.branch("two", "main", &[("a.log", "first\ntwo\n")]);
    queue.branch("attributes", "main", &[(".gitattributes", "*.log merge=union\n")]);
    queue.sandbox.git(&["checkout", "--quiet", "-b", "elsewhere"]);
    queue.add(&["attributes", "one", "two"]);
    queue.sandbox.run(&["queue", "run"]).exits(0).says("3 landed");
    assert_eq!(queue.sandbox.git(&["show", "main:a.log"]), "first\none\ntwo");
}

#[test]
fn attributes_that_are_checked_out_elsewhere_do_not_hide_a_conflict() {
    let queue = QueueSandbox::new("");
    queue.on_main(&[("a.log", "first\n")]);
    queue.branch("one", "main", &[("a.log", "first\none\n")]);
    queue.branch("two", "main", &[("a.log", "first\ntwo\n")]);
    queue.sandbox.git(&["checkout", "--quiet", "-b", "elsewhere"]);
    queue.sandbox.write(".gitattributes", "*.log merge=union\n");
    queue.sandbox.git(&["add", ".gitattributes"]);
    queue.sandbox.git(&["commit", "--quiet", "--message", "attributes"]);
    queue.add(&["one", "two"]);
    queue.sandbox.run(&["queue", "run"]).exits(1);
    assert_eq!(queue.states()["two"], "conflict");
}

#[test]
fn merge_reads_settings_from_files_and_not_from_the_environment() {
    let queue = QueueSandbox::new("");
    let lines = numbered(30);
    queue.on_main(&[("old", &lines), ("list", "a\n"), (".gitattributes", "list merge=joined\n")]);
    queue.sandbox.git(&["config", "merge.joined.driver", "cat %B >> %A"]);
    let edited = lines.replace("line 7\n", "seven\n");
    queue.branch("edits", "main", &[("old", &edited), ("list", "b\n")]);
    queue.rename_on("main", "old", "new");
    queue.on_main(&[("list", "c\n")]);
    queue.add(&["edits"]);
    let environment = [
        ("GIT_CONFIG_COUNT", "2"),
        ("GIT_CONFIG_KEY_0", "merge.renames"),
        ("GIT_CONFIG_VALUE_0", "false"),
        ("GIT_CONFIG_KEY_1", "merge.joined.driver"),
        ("GIT_CONFIG_VALUE_1", "exit 1"),
    ];
    queue.sandbox.run_in(&queue.sandbox.repo, &["queue", "run"], &environment).exits(0);
    assert!(queue.sandbox.git(&["show", "main:new"]).contains("seven"));
    assert_eq!(queue.sandbox.git(&["show", "main:list"]), "c\nb");
}

#[test]
fn old_git_stops_start_queue_and_doctor_before_anything_is_written() {
    let queue = QueueSandbox::new("");
    queue.branch("change", "main", &[("f1", "changed\n")]);
    let bin = queue.sandbox.root().join("old-git");
    std::fs::create_dir(&bin).unwrap();
    let stub = bin.join("git");
    std::fs::write(&stub, "#!/bin/sh\necho git version 2.34.1\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&stub, mode).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let files = || {
        let mut files = Vec::new();
        let mut folders = vec![queue.sandbox.repo.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path.clone());
                }
                files.push(path);
            }
        }
        files.sort();
        files
    };
    let before = files();
    for args in [&["start"][..], &["queue", "add", "change"], &["queue", "run"], &["doctor"]] {
        let output = queue.sandbox.run_in(&queue.sandbox.repo, args, &[("PATH", &path)]);
        let output = output.exits(128);
        assert!(output.stderr.contains("git 2.38.0 or newer is needed"), "{output}");
        assert!(output.stderr.contains("is version 2.34.1"), "{output}");
    }
    assert_eq!(files(), before);
}
