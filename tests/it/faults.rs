//! Faults of the machine and of the repository: they are named and waited for, and fail no task.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;

#[test]
fn index_lock_of_another_git_is_named_and_waited_for() {
    let job = TestJob::new(&["alpha"]).set("job", "target = \"main\"");
    let sandbox = Sandbox::new(job);
    sandbox.git(&["checkout", "--quiet", "--", "README"]);
    std::fs::remove_file(sandbox.repo.join("untracked")).unwrap();
    sandbox.script("alpha.1", "edit alpha done");
    let lock = sandbox.repo.join(".git/index.lock");
    std::fs::write(&lock, "").unwrap();
    let start = sandbox.spawn(&["start"]);
    sandbox.await_that("the note", || start.stderr().contains("its index is locked"));
    assert!(start.stderr().contains("s old, and no process has it open"), "{}", start.stderr());
    std::fs::remove_file(&lock).unwrap();
    start.wait().exits(0);
    assert_eq!(sandbox.git(&["show", "main:alpha"]), "done");
}

/// A small file system below `.git`, unmounted at the end.
struct SmallGit(PathBuf);

impl SmallGit {
    /// Moves `.git` to a file system of its own. Returns `None` where that is not allowed.
    fn mount(sandbox: &Sandbox, size: &str) -> Option<Self> {
        let git = sandbox.repo.join(".git");
        let saved = sandbox.root().join("saved");
        let run = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).output();
            output.is_ok_and(|output| output.status.success())
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (git_text, saved_text) = (text(&git), text(&saved));
        let options = format!("size={size}");
        let copied = run("cp", &["-a", &git_text, &saved_text]);
        if !copied || !run("mount", &["-t", "tmpfs", "-o", &options, "none", &git_text]) {
            let why = b"skipped: cannot mount a tmpfs here (root is needed)\n";
            std::io::stderr().write_all(why).unwrap();
            return None;
        }
        let small = Self(git);
        assert!(run("cp", &["-a", &format!("{saved_text}/."), &git_text]));
        Some(small)
    }
}

impl Drop for SmallGit {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).output().ok();
    }
}

#[test]
fn run_waits_for_space_on_a_full_disk_and_continues_by_itself() {
    let job = TestJob::new(&["alpha", "beta"]).set("limits", "min-free-mb = 0\njobs = 1");
    let sandbox = Sandbox::new(job);
    let Some(_small) = SmallGit::mount(&sandbox, "8m") else { return };
    sandbox.remember();
    sandbox.script("alpha.1", ": >\"$HOME/begun\"; wait_for \"$HOME/full\"; edit alpha done");
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("begun");
    let fill = sandbox.repo.join(".git/fill");
    let written = std::fs::write(&fill, vec![b'x'; 16 << 20]);
    assert!(written.is_err(), "the disk is full");
    sandbox.give_sign("full");
    sandbox.await_that("the note", || start.stderr().contains("the run continues by itself"));
    let note = format!("; {} takes ", fill.display());
    assert!(start.stderr().contains(&note), "{}", start.stderr());
    let status = sandbox.run(&["status"]).exits(0);
    assert!(status.stdout.contains("MB are free on the disk of"), "{status}");
    std::fs::remove_file(&fill).unwrap();
    start.wait().exits(0);
    Claim::all(&sandbox).holds();
}
