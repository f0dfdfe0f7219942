//! Misbehaviours of agents in their worktrees. Each has a function that performs the misbehaviour,
//! and the paths that the snapshot must report.

#![expect(clippy::disallowed_methods, reason = "one of these makes a pipe")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::fixture::git_in;

/// The files of the base commit.
pub(super) const FILES: [(&str, &str); 8] = [
    (".gitignore", "*.log\nnode_modules/\nbuild/\n"),
    ("a.txt", "one\n"),
    ("dir/b.txt", "two\n"),
    ("dir/deep/c.txt", "three\n"),
    ("dir/deep/d.txt", "four\n"),
    ("lonely/e.txt", "five\n"),
    ("kept.log", "tracked though ignored\n"),
    ("run.sh", "#!/bin/sh\n"),
];

pub(super) struct Misbehaviour {
    /// The name in a failure message.
    pub name: &'static str,
    /// The agent's action. The second folder is outside the worktree and must not change.
    pub act: fn(&Path, &Path),
    /// The paths that the snapshot must report.
    pub changed: &'static [&'static str],
}

pub(super) fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub(super) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

pub(super) const CASES: &[Misbehaviour] = &[
    Misbehaviour { name: "nothing", act: |_, _| {}, changed: &[] },
    Misbehaviour { name: "edit", act: |p, _| write(p, "a.txt", "changed\n"), changed: &["a.txt"] },
    Misbehaviour {
        name: "edit of the same size at once",
        act: |p, _| write(p, "a.txt", "eno\n"),
        changed: &["a.txt"],
    },
    Misbehaviour {
        name: "edit of the same size with the old time put back",
        act: |p, _| {
            let time = fs::metadata(p.join("a.txt")).unwrap().modified().unwrap();
            let mut file = fs::OpenOptions::new().write(true).open(p.join("a.txt")).unwrap();
            std::io::Write::write_all(&mut file, b"eno\n").unwrap();
            file.set_modified(time).unwrap();
        },
        changed: &["a.txt"],
    },
    Misbehaviour {
        name: "a file written again as it was",
        act: |p, _| write(p, "a.txt", "one\n"),
        changed: &[],
    },
    Misbehaviour {
        name: "edit of a file tracked though ignored",
        act: |p, _| write(p, "kept.log", "more\n"),
        changed: &["kept.log"],
    },
    Misbehaviour {
        name: "delete",
        act: |p, _| fs::remove_file(p.join("lonely/e.txt")).unwrap(),
        changed: &["lonely/e.txt"],
    },
    Misbehaviour {
        name: "delete a folder",
        act: |p, _| fs::remove_dir_all(p.join("dir/deep")).unwrap(),
        changed: &["dir/deep/c.txt", "dir/deep/d.txt"],
    },
    Misbehaviour {
        name: "untracked files and empty folders",
        act: |p, _| {
            write(p, "new/one.txt", "1\n");
            write(p, "new/two/three.txt", "2\n");
            write(p, "dir/deep/new.txt", "3\n");
            fs::create_dir_all(p.join("empty/inner")).unwrap();
        },
        changed: &["dir/deep/new.txt", "new/one.txt", "new/two/three.txt"],
    },
    Misbehaviour {
        name: "ignored files",
        act: |p, _| {
            write(p, "x.log", "noise\n");
            write(p, "node_modules/m/index.js", "js\n");
            write(p, "dir/build/out", "o\n");
            write(p, "dir/new.txt", "kept\n");
        },
        changed: &["dir/new.txt"],
    },
    Misbehaviour {
        name: "a rule that ignores its own work",
        act: |p, _| {
            write(p, ".gitignore", "*\n");
            write(p, "hidden.txt", "h\n");
        },
        changed: &[".gitignore"],
    },
    Misbehaviour {
        name: "ignored files committed with force",
        act: |p, _| {
            write(p, "x.log", "mine\n");
            write(p, "dir/build/out/bundle.js", "js\n");
            write(p, "gone.log", "removed again\n");
            git_in(p, &["add", "-f", "x.log", "dir/build", "gone.log"]);
            git_in(p, &["commit", "-qm", "forced"]);
            fs::remove_file(p.join("gone.log")).unwrap();
            write(p, "x.log", "changed after the commit\n");
            write(p, "dir/build/noise", "not added\n");
        },
        changed: &["dir/build/out/bundle.js", "x.log"],
    },
    Misbehaviour {
        name: "ignored files staged with force",
        act: |p, _| {
            write(p, "node_modules/m/index.js", "js\n");
            write(p, "node_modules/n/index.js", "js\n");
            git_in(p, &["add", "-f", "node_modules/m"]);
        },
        changed: &["node_modules/m/index.js"],
    },
    Misbehaviour {
        name: "a repository in a tracked folder",
        act: |p, _| {
            git_in(&p.join("dir"), &["init", "-q"]);
            write(p, "dir/new.txt", "n\n");
        },
        changed: &["dir/new.txt"],
    },
    Misbehaviour {
        name: "a folder that looks like a repository",
        act: |p, _| {
            write(p, "inner/file.txt", "in\n");
            write(p, "inner/.git/notes", "no repository\n");
            write(p, "other/file.txt", "in\n");
            write(p, "other/.git", "just a file\n");
        },
        changed: &["inner/file.txt", "other/file.txt"],
    },
    Misbehaviour {
        name: ".git deleted",
        act: |p, _| {
            fs::remove_file(p.join(".git")).unwrap();
            write(p, "a.txt", "changed\n");
        },
        changed: &["a.txt"],
    },
    Misbehaviour {
        name: ".git replaced by a repository of its own",
        act: |p, _| {
            fs::remove_file(p.join(".git")).unwrap();
            git_in(p, &["init", "-q"]);
            git_in(p, &["add", "-A"]);
            write(p, "a.txt", "changed\n");
        },
        changed: &["a.txt"],
    },
    Misbehaviour {
        name: ".git replaced by a link",
        act: |p, outside| {
            fs::remove_file(p.join(".git")).unwrap();
            symlink(outside, p.join(".git")).unwrap();
        },
        changed: &[],
    },
    Misbehaviour {
        name: "links out of the place",
        act: |p, outside| {
            symlink(outside, p.join("out")).unwrap();
            fs::remove_file(p.join("a.txt")).unwrap();
            symlink(outside.join("precious.txt"), p.join("a.txt")).unwrap();
        },
        changed: &["a.txt", "out"],
    },
    Misbehaviour {
        name: "a tracked folder replaced by a link out",
        act: |p, outside| {
            fs::remove_dir_all(p.join("dir")).unwrap();
            symlink(outside, p.join("dir")).unwrap();
        },
        changed: &["dir", "dir/b.txt", "dir/deep/c.txt", "dir/deep/d.txt"],
    },
    Misbehaviour {
        name: "a hard link to a file outside",
        act: |p, outside| {
            fs::remove_file(p.join("a.txt")).unwrap();
            fs::hard_link(outside.join("precious.txt"), p.join("a.txt")).unwrap();
        },
        changed: &["a.txt"],
    },
    Misbehaviour {
        name: "a file becomes a folder",
        act: |p, _| {
            fs::remove_file(p.join("a.txt")).unwrap();
            write(p, "a.txt/inside", "i\n");
        },
        changed: &["a.txt", "a.txt/inside"],
    },
    Misbehaviour {
        name: "a folder becomes a file",
        act: |p, _| {
            fs::remove_dir_all(p.join("dir")).unwrap();
            write(p, "dir", "file\n");
        },
        changed: &["dir", "dir/b.txt", "dir/deep/c.txt", "dir/deep/d.txt"],
    },
    Misbehaviour {
        name: "executable bit",
        act: |p, _| chmod(&p.join("run.sh"), 0o755),
        changed: &["run.sh"],
    },
    Misbehaviour {
        name: "rights taken away",
        act: |p, _| {
            write(p, "locked/in.txt", "i\n");
            chmod(&p.join("locked/in.txt"), 0o000);
            chmod(&p.join("locked"), 0o000);
            chmod(&p.join("dir/b.txt"), 0o444);
            chmod(&p.join("dir/deep"), 0o555);
        },
        changed: &["locked/in.txt"],
    },
    Misbehaviour {
        name: "locks and half-done business",
        act: |p, _| {
            let text = fs::read_to_string(p.join(".git")).unwrap();
            let admin = Path::new(text.trim().strip_prefix("gitdir: ").unwrap()).to_path_buf();
            fs::write(admin.join("index.lock"), "").unwrap();
            fs::write(admin.join("HEAD.lock"), "").unwrap();
            fs::write(admin.join("MERGE_HEAD"), "0000000000000000000000000000000000000000\n")
                .unwrap();
            fs::create_dir(admin.join("rebase-merge")).unwrap();
            fs::write(admin.join("index"), "garbage").unwrap();
            fs::write(admin.join("gitdir"), "/nowhere/.git\n").unwrap();
            fs::write(admin.join("commondir"), "/nowhere\n").unwrap();
            fs::write(admin.join("HEAD"), "garbage\n").unwrap();
        },
        changed: &[],
    },
    Misbehaviour {
        name: "its registration removed",
        act: |p, _| {
            let text = fs::read_to_string(p.join(".git")).unwrap();
            fs::remove_dir_all(text.trim().strip_prefix("gitdir: ").unwrap()).unwrap();
            write(p, "a.txt", "changed\n");
        },
        changed: &["a.txt"],
    },
    Misbehaviour {
        name: "commits and switches branch",
        act: |p, _| {
            git_in(p, &["switch", "-q", "-C", "elsewhere"]);
            write(p, "dir/b.txt", "committed\n");
            write(p, "fresh.txt", "f\n");
            git_in(p, &["add", "-A"]);
            git_in(p, &["commit", "-qm", "mine"]);
            write(p, "a.txt", "not committed\n");
        },
        changed: &["a.txt", "dir/b.txt", "fresh.txt"],
    },
    Misbehaviour {
        name: "pipes",
        act: |p, _| {
            fs::remove_file(p.join("a.txt")).unwrap();
            for name in ["pipe", "a.txt"] {
                assert!(Command::new("mkfifo").arg(p.join(name)).status().unwrap().success());
            }
        },
        changed: &["a.txt"],
    },
    Misbehaviour {
        name: "a name that is not UTF-8",
        act: |p, _| {
            let name = std::os::unix::ffi::OsStrExt::from_bytes(b"na\xffme");
            fs::write(p.join::<&std::ffi::OsStr>(name), "x\n").unwrap();
        },
        changed: &["na\u{fffd}me"],
    },
    Misbehaviour {
        name: "everything deleted",
        act: |p, _| {
            for entry in fs::read_dir(p).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                    .unwrap();
            }
        },
        changed: &[
            ".gitignore",
            "a.txt",
            "dir/b.txt",
            "dir/deep/c.txt",
            "dir/deep/d.txt",
            "kept.log",
            "lonely/e.txt",
            "run.sh",
        ],
    },
];
