//! Work that no attempt has recorded, and files with secrets: nothing is lost, and no secret lands.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use rustix::process::Signal;

use crate::command::send;
use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// The value of a secret variable.
const TOKEN: &str = "tok-0123456789-abcdef";

/// Returns the refs that keep leftovers.
fn leftovers(sandbox: &Sandbox) -> Vec<String> {
    let refs =
        sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/harness/leftovers/job-1/"]);
    refs.lines().map(str::to_owned).collect()
}

/// Writes into the first worktree of a run as a person would.
fn write_as_a_person(sandbox: &Sandbox) {
    let worktree = sandbox.root().join("repo.harness/job-1/p01");
    std::fs::write(worktree.join("README"), "a note of mine\n").unwrap();
    std::fs::write(worktree.join("new"), "untracked\n").unwrap();
    std::fs::write(worktree.join("forced.log"), "forced\n").unwrap();
    std::fs::write(worktree.join(".gitignore"), "*.log\n").unwrap();
    let add = sandbox.try_git(&worktree, &["add", "--force", "forced.log"]);
    assert_eq!(add.code, 0, "{add}");
}

#[track_caller]
fn assert_kept(sandbox: &Sandbox) {
    let refs = leftovers(sandbox);
    let [name] = refs.as_slice() else { panic!("{refs:?}") };
    assert_eq!(sandbox.git(&["show", &format!("{name}:README")]), "a note of mine");
    assert_eq!(sandbox.git(&["show", &format!("{name}:new")]), "untracked");
    assert_eq!(sandbox.git(&["show", &format!("{name}:forced.log")]), "forced");
}

#[test]
fn work_of_a_person_in_a_worktree_is_kept_when_the_worktree_is_reset() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]).set("limits", "jobs = 1"));
    sandbox.run(&["start", "--only", "alpha"]).exits(0);
    assert!(leftovers(&sandbox).is_empty());
    write_as_a_person(&sandbox);
    sandbox.run(&["start"]).exits(0).says("had work that no attempt has recorded");
    assert_kept(&sandbox);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("README"), "a file of no task");
}

#[test]
fn work_of_a_person_in_a_worktree_is_kept_when_the_worktree_is_swept() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    sandbox.run(&["start"]).exits(0);
    write_as_a_person(&sandbox);
    let swept = sandbox.run(&["sweep"]).exits(0);
    assert!(swept.stderr.contains("had work that no attempt has recorded"), "{swept}");
    assert_kept(&sandbox);
    assert!(!sandbox.root().join("repo.harness").exists());
}

#[test]
fn work_that_cannot_be_saved_stays_in_a_renamed_folder() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]).set("limits", "jobs = 1"));
    sandbox.run(&["start", "--only", "alpha"]).exits(0);
    write_as_a_person(&sandbox);
    let worktree = sandbox.root().join("repo.harness/job-1/p01");
    std::fs::write(worktree.join(".gitattributes"), "new filter=broken\n").unwrap();
    for key in ["filter.broken.clean", "filter.broken.smudge"] {
        sandbox.git(&["config", key, "false"]);
    }
    sandbox.git(&["config", "filter.broken.required", "true"]);
    sandbox.remember();
    sandbox.run(&["start"]).exits(0).says("has work that cannot be saved");
    let aside = worktree.with_file_name("p01.aside-1");
    assert_eq!(std::fs::read_to_string(aside.join("new")).unwrap(), "untracked\n");
    Claim::all(&sandbox).holds();
}

/// Starts a run whose agent says `begun` in its worktree, and kills the keeper and the supervisor.
fn killed(job: TestJob, script: &str) -> Sandbox {
    let sandbox = Sandbox::new(job);
    sandbox.script("alpha.1", &format!("{script}; : >begun; hang"));
    let start = sandbox.spawn(&["start"]);
    let begun = sandbox.root().join("repo.harness/job-1/p01/begun");
    sandbox.await_that("the agent", || begun.exists());
    start.signal(Signal::KILL);
    sandbox.keepers().into_iter().for_each(|pid| send(pid, Signal::KILL));
    drop(start.wait());
    sandbox.await_that("the end of the keeper", || sandbox.keepers().is_empty());
    sandbox
}

#[test]
fn work_of_a_killed_keeper_is_kept_when_its_task_is_skipped() {
    let job = TestJob::new(&["alpha", "beta"]).set("limits", "jobs = 1");
    let sandbox = killed(job, "edit alpha precious; edit new too");
    sandbox.run(&["skip", "alpha", "-m", "no more"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    let refs = leftovers(&sandbox);
    let [name] = refs.as_slice() else { panic!("{refs:?}") };
    assert_eq!(sandbox.git(&["show", &format!("{name}:alpha")]), "precious");
    assert_eq!(sandbox.git(&["show", &format!("{name}:new")]), "too");
    assert_eq!(sandbox.harmed(), Vec::<String>::new());
}

/// Returns true, with a line that says so, if this machine has no sandbox.
fn has_no_sandbox() -> bool {
    let probe = ["--unshare-user", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "true"];
    let made = Command::new("bwrap").args(probe).output();
    let works = made.as_ref().is_ok_and(|output| output.status.success());
    if !works {
        let why = format!("skipped: no sandbox (bubblewrap, user namespaces) here: {made:?}\n");
        std::io::stderr().write_all(why.as_bytes()).unwrap();
    }
    !works
}

/// Leaves an entry in the stash with changed, staged and untracked files.
const STASH: &str = "edit alpha staged; git add alpha; edit alpha aside; edit more untracked; \
                     git stash push --quiet --include-untracked --message mine";

#[test]
fn stash_in_the_sandbox_is_kept_with_its_attempt() {
    if has_no_sandbox() {
        return;
    }
    let job = TestJob::new(&["alpha"]).set("sandbox", "mode = \"require\"");
    let sandbox = Sandbox::new(job);
    sandbox.script("alpha.1", &format!("{STASH}; edit alpha done"));
    sandbox
        .run(&["start"])
        .exits(0)
        .says("left an entry in its stash: `On harness/job-1/alpha: mine`");
    let of = |path: &str| {
        sandbox.git(&["show", &format!("refs/harness/tasks/job-1/alpha:attempts/1/{path}")])
    };
    assert_eq!(of("stash-0/alpha"), "aside");
    assert_eq!(of("stash-0-index/alpha"), "staged");
    assert_eq!(of("stash-0-untracked/more"), "untracked");
    assert_eq!(sandbox.landed("alpha"), "done");
    Claim::all(&sandbox).holds();
}

#[test]
fn commits_and_stash_of_a_killed_keeper_in_the_sandbox_are_kept() {
    if has_no_sandbox() {
        return;
    }
    for skipped in [false, true] {
        let job = TestJob::new(&["alpha", "beta"]).set("limits", "jobs = 1");
        let job = job.set("sandbox", "mode = \"require\"");
        let sandbox = killed(
            job,
            &format!("{STASH}; edit alpha committed; propose mine; git reset --quiet --hard HEAD"),
        );
        sandbox.script("alpha.2", "edit alpha done");
        if skipped {
            sandbox.run(&["skip", "alpha", "-m", "no more"]).exits(0);
        }
        sandbox.run(&["start"]).exits(0);
        let all = sandbox.git(&["log", "--all", "--format=%s"]);
        assert!(all.lines().any(|subject| subject == "mine"), "{all}");
        if skipped {
            assert!(all.contains("On harness/job-1/alpha: mine"), "{all}");
        } else {
            let path = "refs/harness/tasks/job-1/alpha:attempts/1/stash-0/alpha";
            assert_eq!(sandbox.git(&["show", path]), "aside");
        }
        assert_eq!(sandbox.harmed(), Vec::<String>::new());
    }
}

#[test]
fn ignored_file_that_the_agent_added_with_force_lands_from_the_sandbox() {
    if has_no_sandbox() {
        return;
    }
    for commit in ["", "; propose bundle"] {
        let job = TestJob::new(&["alpha"]).set("scope", "write = [\"**\"]");
        let sandbox = Sandbox::new(job.set("sandbox", "mode = \"require\""));
        let body = "edit .gitignore 'dist/'; edit dist/bundle.js b; edit alpha done; git add -f dist/bundle.js";
        sandbox.script("alpha.1", &format!("{body}{commit}"));
        sandbox.run(&["start"]).exits(0);
        let tree = sandbox.git(&["ls-tree", "-r", "--name-only", "harness/job-1/result"]);
        assert!(tree.lines().any(|path| path == "dist/bundle.js"), "{commit}: {tree}");
    }
}

/// Runs a job whose first attempt runs `script` with a secret variable.
fn run_with_secret(script: &str) -> Sandbox {
    let job = TestJob::new(&["alpha"]).set("agent", "env = [\"API_TOKEN\"]");
    let sandbox = Sandbox::new(job.set("scope", "write = [\"**\"]"));
    sandbox.script("alpha.1", script);
    sandbox.script(
        "alpha.2",
        "expect_feedback 'conf/dev.env:2` has the value of the variable `API_TOKEN`'; edit alpha done",
    );
    let repo = sandbox.repo.clone();
    sandbox.run_in(&repo, &["start"], &[("API_TOKEN", TOKEN)]).exits(0);
    sandbox
}

/// Asserts that no ref reaches an object with the secret.
#[track_caller]
fn assert_no_ref_reaches_the_secret(sandbox: &Sandbox) {
    let objects = sandbox.git(&["rev-list", "--objects", "--all"]);
    for id in objects.lines().filter_map(|line| line.split(' ').next()) {
        assert!(!sandbox.git(&["cat-file", "-p", id]).contains(TOKEN), "{id}");
    }
    assert!(!sandbox.run(&["log"]).exits(0).stdout.contains(TOKEN));
}

#[test]
fn candidate_with_a_known_secret_is_refused_with_file_and_line() {
    for history in ["", "; propose 'with the token'"] {
        let script = format!(
            "edit alpha fine; edit conf/dev.env \"# settings\nTOKEN='$API_TOKEN'\"{history}"
        );
        let sandbox = run_with_secret(&script.replace("\\n", "\n"));
        assert_no_ref_reaches_the_secret(&sandbox);
        let withheld = sandbox.repo.join(".git/harness/runs/job-1/withheld/alpha.1/conf/dev.env");
        assert!(std::fs::read_to_string(&withheld).unwrap().contains(TOKEN));
        assert_eq!(withheld.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let shown = sandbox.run(&["show", "alpha"]).exits(0).stdout;
        assert!(shown.contains("`conf/dev.env:2`") && !shown.contains(TOKEN), "{shown}");
        let tree = sandbox.git(&["ls-tree", "-r", "--name-only", "harness/job-1/result"]);
        assert!(!tree.contains("conf"), "{tree}");
        Claim::all(&sandbox).holds();
    }
}

#[test]
fn history_with_a_known_secret_is_dropped_from_the_candidate() {
    let job = TestJob::new(&["alpha"]).set("agent", "env = [\"API_TOKEN\"]");
    let sandbox = Sandbox::new(job);
    sandbox.script(
        "alpha.1",
        "edit alpha \"$API_TOKEN\"; propose oops; edit alpha done; propose mended",
    );
    let repo = sandbox.repo.clone();
    sandbox.run_in(&repo, &["start"], &[("API_TOKEN", TOKEN)]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "done");
    assert_no_ref_reaches_the_secret(&sandbox);
}
