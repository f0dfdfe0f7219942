//! Whole runs with the default sandbox: agents and checks that cannot see the machine. Skipped,
//! with a line that says so, where no sandbox can be made.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use rustix::process::Signal;
use serde_json::json;

use crate::command::send;
use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::sandbox_attacks::missing_sandbox;

/// The mode of a job that does not name one.
const AUTO: &str = "mode = \"auto\"";

/// Creates a repository whose job runs in the default sandbox. Fails with the reason why there is
/// none.
fn sandboxed(job: TestJob) -> Result<Sandbox, String> {
    missing_sandbox().map_or_else(|| Ok(Sandbox::new(job.set("sandbox", AUTO))), Err)
}

/// Writes an executable file below HOME.
fn program(sandbox: &Sandbox, path: &str, text: &str) {
    let path = sandbox.sign(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs `start` with `folder` of HOME before PATH.
fn start_with_path(sandbox: &Sandbox, folder: &str) -> crate::command::CommandOutput {
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", sandbox.sign(folder).display());
    sandbox.run_in(&sandbox.repo, &["start"], &[("PATH", &path)])
}

#[test]
fn sandboxed_tasks_land_after_retries_and_failing_checks() {
    let job = TestJob::new(&["alpha", "beta", "gamma"]).set("retry", "feedback = 1");
    let sandbox = match sandboxed(job) {
        Ok(sandbox) => sandbox,
        Err(why) => return println!("{why}"),
    };
    sandbox.script("alpha.1", "edit alpha BAD");
    // The agent has a stash of its own, so the prompt does not forbid it.
    let stash = "! grep -q 'git stash' \"$HARNESS_PROMPT_FILE\"; edit alpha x; git stash -q; git stash pop -q";
    let second = format!("expect_feedback 'BAD'; expect_brief 'alpha'; {stash}; edit alpha good");
    sandbox.script("alpha.2", &second);
    sandbox.script("beta.1", "crash");
    sandbox.script("gamma", "edit gamma BAD");
    sandbox.run(&["start"]).exits(1);
    assert_eq!(sandbox.landed("alpha"), "good");
    assert_eq!(sandbox.landed("beta"), "done in attempt 2");
    assert_eq!(sandbox.task("gamma")["state"], "failed");
    sandbox.run(&["show", "alpha"]).exits(0).says("sandbox    bubblewrap");
    assert_eq!(sandbox.status()["sandbox"], "bubblewrap");
    assert!(sandbox.harmed().is_empty(), "{:?}", sandbox.harmed());
}

#[test]
fn sandboxed_session_resumes_with_its_work_and_its_home() {
    let job = TestJob::new(&["alpha"]).set("agent", "preset = \"codex\"");
    let sandbox = match sandboxed(job) {
        Ok(sandbox) => sandbox,
        Err(why) => return println!("{why}"),
    };
    let begin = "echo '{\"type\":\"thread.started\",\"thread_id\":\"t1\"}'; echo '{\"type\":\"turn.started\"}'";
    let usage = json!({"input_tokens": 5, "cached_input_tokens": 1, "output_tokens": 2});
    let end = json!({"type": "turn.completed", "usage": usage});
    sandbox.script(
        "alpha.1",
        &format!("{begin}; echo half >alpha; echo kept >\"$HOME/session\"; kill -9 $$"),
    );
    sandbox.script(
        "alpha.2",
        &format!("[ \"$(cat \"$HOME/session\")\" = kept ]; case $* in *resume*t1*) ;; *) exit 9 ;; esac\n{begin}; echo whole >>alpha; echo '{end}'"),
    );
    sandbox.run(&["start"]).exits(0).says("resume");
    assert_eq!(sandbox.landed("alpha"), "half\nwhole");
    assert!(!sandbox.sign("session").exists(), "nothing is written into the user's home");
    Claim::all(&sandbox).holds();
}

#[test]
fn sandboxed_evaluator_judges_and_its_edits_are_dropped() {
    let job = TestJob::new(&["alpha"]).set("evaluate", "").set("retry", "feedback = 1");
    let sandbox = match sandboxed(job) {
        Ok(sandbox) => sandbox,
        Err(why) => return println!("{why}"),
    };
    let finding = json!({"file": "alpha", "line": 1, "problem": "it must say second"});
    let objection = json!({"pass": false, "findings": [finding]});
    sandbox.script("alpha.1", "edit alpha first");
    sandbox.script("alpha.2", "expect_feedback 'it must say second'; edit alpha second");
    sandbox.script(
        "judges/alpha.1",
        &format!("[ \"$(cat alpha)\" = first ]; edit alpha EVIL; propose EVIL; echo '{objection}'"),
    );
    sandbox.script("judges/alpha.2", &format!("echo '{}'", json!({"pass": true, "findings": []})));
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "second");
    Claim::all(&sandbox).holds();
}

#[test]
fn polls_complete_a_sandboxed_report() {
    let job = TestJob::bare(&["a.txt", "b.txt"])
        .set("job", "kind = \"report\"")
        .set("output", "path = \"out.json\"")
        .built_in("handed-in", "output = \"out.json\"");
    let sandbox = match sandboxed(job) {
        Ok(sandbox) => sandbox,
        Err(why) => return println!("{why}"),
    };
    sandbox.script("default", "edit \"$HARNESS_OUTPUT\" '[\"'\"$HARNESS_TASK\"'\"]'");
    sandbox.run(&["start", "--paused"]).exits(0);
    sandbox.await_that("the end of the run", || sandbox.run(&["poll"]).code == 2);
    let collected = sandbox.run(&["collect"]).exits(0);
    assert!(
        collected.stdout.contains("a_dot_txt") && collected.stdout.contains("b_dot_txt"),
        "{collected}"
    );
}

#[test]
fn sandboxed_run_survives_the_kill_of_supervisor_and_keepers() {
    let sandbox = match sandboxed(TestJob::new(&["alpha", "beta"])) {
        Ok(sandbox) => sandbox,
        Err(why) => return println!("{why}"),
    };
    sandbox.script("alpha.1", "edit alpha half; propose half; : >there; hang");
    let start = sandbox.spawn(&["start"]);
    // The sandbox has the worktree at another path. The test sees the real one.
    let worktrees = sandbox.root().join("repo.harness/job-1");
    let is_there = || ["p01", "p02"].iter().any(|name| worktrees.join(name).join("there").exists());
    sandbox.await_that("the agent", is_there);
    let keepers = sandbox.keepers();
    start.signal(Signal::KILL);
    keepers.iter().for_each(|pid| send(*pid, Signal::KILL));
    drop(start.wait());
    sandbox.script("alpha.2", "edit alpha whole");
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "whole");
    // A home has copies of the user's login. It goes, also where its worktree is gone already.
    let homes = || {
        let folder = sandbox.repo.join(".git/harness/runs/job-1/worktrees");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().extension() == Some("home".as_ref())).count()
    };
    assert!(homes() > 0);
    std::fs::remove_dir_all(worktrees.join("p01")).unwrap();
    sandbox.run(&["sweep"]).exits(0);
    assert_eq!(homes(), 0);
    assert!(sandbox.processes().is_empty(), "{:?}", sandbox.processes());
    Claim::all(&sandbox).holds();
}

#[test]
fn programs_in_a_home_work_in_the_sandbox_with_what_they_link_to() {
    let job = TestJob::bare(&["alpha"]).set("agent", "command = [\"my-agent\"]");
    let job = job.check("lint", &["my-lint"], "");
    let sandbox = match sandboxed(job) {
        Ok(sandbox) => sandbox,
        Err(why) => return println!("{why}"),
    };
    // An agent as `npm link` installs it: a link in PATH to a package elsewhere, whose interpreter
    // is a link again.
    program(&sandbox, "opt/v2/shell", "#!/bin/sh\nexec sh \"$@\"\n");
    symlink("v2", sandbox.sign("opt/current")).unwrap();
    let shebang = format!("#!{}\n", sandbox.sign("opt/current/shell").display());
    let agent =
        "here=$(dirname \"$(readlink -f \"$0\")\"); . \"$here/lib/words\"; echo \"$WORD\" >alpha\n";
    program(&sandbox, "src/agent/cli.sh", &format!("{shebang}{agent}"));
    program(&sandbox, "src/agent/lib/words", "WORD=linked\n");
    program(&sandbox, "src/agent/package.json", "{}");
    program(
        &sandbox,
        "bin/my-lint",
        "#!/bin/sh\n[ ! -e \"$HOME/private\" ] && grep -qv BAD alpha\n",
    );
    program(&sandbox, "private", "PRIVATE\n");
    symlink("../src/agent/cli.sh", sandbox.sign("bin/my-agent")).unwrap();
    start_with_path(&sandbox, "bin").exits(0);
    assert_eq!(sandbox.landed("alpha"), "linked");
    Claim::all(&sandbox).holds();
}

#[test]
fn caches_are_filled_by_setup_changed_by_no_agent_and_read_by_checks() {
    let cache = "$HOME/.npm/_cacache";
    let setup =
        format!("[worktree]\nsetup = [[\"sh\", \"-c\", \"echo fetched >{cache}/fetched\"]]\n");
    let read = format!(
        "cat {cache}/old {cache}/fetched && [ ! -e {cache}/poison ] && echo 1 >{cache}/old"
    );
    let job = TestJob::bare(&["alpha", "beta"]).set("limits", "jobs = 1");
    let job = job.set("worktree", setup.trim_start_matches("[worktree]\n"));
    let job = job.check("cached", &["sh", "-c", &read], "");
    let job = job.set("sandbox", "caches = [\"~/mine\"]");
    let sandbox = match sandboxed(job) {
        Ok(sandbox) => sandbox,
        Err(why) => return println!("{why}"),
    };
    program(&sandbox, ".npm/_cacache/old", "old\n");
    program(&sandbox, "mine/old", "mine\n");
    let edit = format!(
        "[ \"$(cat {cache}/old)\" = old ] && [ -e {cache}/fetched ] && [ ! -e {cache}/poison ]\n"
    );
    let poison = format!("echo EVIL >{cache}/poison; echo EVIL >{cache}/old; rm {cache}/fetched\n");
    sandbox.script("default", &format!("{edit}{poison}grep -q mine $HOME/mine/old; echo EVIL >$HOME/mine/old\nedit $HARNESS_TASK done"));
    sandbox.run(&["start"]).exits(0);
    let left: Vec<_> = std::fs::read_dir(sandbox.sign(".npm/_cacache")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(std::fs::read_to_string(sandbox.sign(".npm/_cacache/old")).unwrap(), "old\n");
    assert_eq!(std::fs::read_to_string(sandbox.sign("mine/old")).unwrap(), "mine\n");
    sandbox.run(&["sweep"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn run_without_a_sandbox_warns_once_and_status_gives_the_reason() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]).set("sandbox", AUTO));
    let bin = sandbox.root().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for name in ["git", "sh", "grep", "dirname", "cat"] {
        let path = std::env::var_os("PATH").unwrap();
        let found =
            std::env::split_paths(&path).map(|folder| folder.join(name)).find(|f| f.is_file());
        symlink(found.unwrap(), bin.join(name)).unwrap();
    }
    sandbox.script("default", "echo done >alpha");
    let output =
        sandbox.run_in(&sandbox.repo, &["start"], &[("PATH", &bin.to_string_lossy())]).exits(0);
    assert_eq!(output.stderr.matches("no sandbox").count(), 1, "{output}");
    let why = "unsandboxed: there is no program `bwrap` in PATH; install bubblewrap";
    assert_eq!(sandbox.status()["sandbox"], why);
    sandbox.run(&["status"]).exits(0).says(why);
    sandbox.run(&["show", "alpha"]).exits(0).says(why);
    sandbox.run(&["doctor"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "done");
}
