//! The set-up of worktrees: its inputs, the files that it makes, and the environment of checks.

use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;

/// Creates a repository with these files beside the tasks.
fn sandbox(job: TestJob, files: &[(&str, &str)]) -> Sandbox {
    let mut sandbox = Sandbox::new(job.set("scope", "write = [\"**\"]"));
    for (path, text) in files {
        sandbox.write(path, text);
        sandbox.git(&["add", "--force", path]);
    }
    sandbox.git(&["commit", "--quiet", "--allow-empty", "--message", "files"]);
    sandbox.base = sandbox.git(&["rev-parse", "HEAD"]);
    sandbox.remember();
    sandbox
}

/// Returns a job whose set-up copies `lock`, and whose check compares the copy.
fn locked(tasks: &[&str], setup: &str) -> TestJob {
    TestJob::new(tasks)
        .set("worktree", &format!("setup = [{setup}]\nkeep = [\".installed\"]"))
        .set("limits", "jobs = 1")
        .check("locked", &["cmp", "lock", ".installed"], "")
}

const COPY: &str = "[\"cp\", \"lock\", \".installed\"]";

#[test]
fn setup_runs_again_when_a_base_changes_its_input() {
    let files = [(".gitignore", ".installed\n"), ("lock", "1\n")];
    let sandbox = sandbox(locked(&["alpha"], COPY), &files);
    sandbox.run(&["start"]).exits(0);
    sandbox.git(&["reset", "--quiet", "--hard", "harness/job-1/result"]);
    sandbox.write("lock", "2\n");
    sandbox.write("alpha", "to be done again\n");
    sandbox.git(&["commit", "--quiet", "--all", "--message", "another lock"]);
    sandbox.remember();
    sandbox.run(&["start", "--update"]).exits(0);
    assert_eq!(sandbox.task("alpha")["attempts"], 2);
    assert_eq!(sandbox.landed("alpha"), "done in attempt 2");
}

#[test]
fn task_that_changes_a_lock_file_is_judged_with_the_new_one() {
    let files = [(".gitignore", ".installed\n"), ("lock", "1\n"), ("web/package-lock.json", "1\n")];
    let script = "[\"sh\", \"-c\", \"cat */package-lock.json lock >.installed\"]";
    let check = "cat */package-lock.json lock | cmp - .installed";
    let job = TestJob::new(&["alpha", "beta", "gamma"])
        .set("worktree", &format!("setup = [{script}]\nkeep = [\".installed\"]"))
        .set("limits", "jobs = 1")
        .check("both", &["sh", "-c", check], "");
    let sandbox = sandbox(job, &files);
    sandbox.script("alpha", "edit web/package-lock.json 2; edit alpha done");
    sandbox.script("beta", "edit lock 2; edit beta done");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    for task in ["alpha", "beta", "gamma"] {
        assert_eq!(sandbox.task(task)["attempts"], 1, "{task}");
    }
    assert_eq!(sandbox.landed("web/package-lock.json"), "2");
}

#[test]
fn setup_that_fails_half_way_is_repeated_for_the_old_inputs() {
    let files = [(".gitignore", ".installed\n"), ("lock", "1\n")];
    let script = "[\"sh\", \"-c\", \"cp lock .installed; grep -q 1 lock\"]";
    let job = locked(&["alpha", "beta"], script).set("retry", "infra = 0\nfeedback = 0");
    let sandbox = sandbox(job, &files);
    sandbox.script("alpha", "edit lock BROKEN; edit alpha done");
    let output = sandbox.run(&["start"]);
    assert_ne!(output.code, 0, "{output}");
    assert_eq!(sandbox.task("beta")["state"], "done", "{}", sandbox.task("beta"));
    assert_eq!(sandbox.task("beta")["attempts"], 1);
}

#[test]
fn setup_that_fails_because_of_the_work_is_a_finding_that_the_agent_can_mend() {
    let files = [(".gitignore", ".installed\n"), ("lock", "1\n")];
    let script = "[\"sh\", \"-c\", \"cp lock .installed; grep -q 1 lock || { echo no lock: BAD; exit 7; }\"]";
    let job = locked(&["alpha", "beta"], script).set("retry", "infra = 0\nredispatch = 0");
    let sandbox = sandbox(job, &files);
    sandbox.script("alpha.1", "edit lock BROKEN; edit alpha done");
    sandbox.script("alpha.2", "expect_feedback 'no lock: BAD'; edit lock 1.2; edit alpha done");
    let output = sandbox.run(&["start"]).exits(0);
    assert!(output.stderr.contains("rejected  alpha: attempt 1, by setup: `sh -c "), "{output}");
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.task("alpha")["attempts"], 2);
    assert_eq!(sandbox.task("beta")["attempts"], 1);
    assert_eq!(sandbox.landed("lock"), "1.2");
}

#[test]
fn setup_that_fails_without_the_work_as_well_is_charged_to_no_task() {
    let files = [(".gitignore", ".installed\n"), ("lock", "1\n")];
    let fails =
        "n=$(cat $HOME/down || echo 0); [ $n = 0 ] || { echo $((n-1)) >$HOME/down; exit 1; }";
    let script = format!("[\"sh\", \"-c\", \"{fails}; cp lock .installed\"]");
    for (count, waits) in [(1, false), (2, true)] {
        let sandbox = sandbox(locked(&["alpha"], &script), &files);
        sandbox.script("alpha", &format!("echo {count} >$HOME/down; edit lock 2; edit alpha done"));
        let output = sandbox.run(&["start"]).exits(0);
        assert_eq!(output.stderr.contains("waits     alpha: the setup command"), waits, "{output}");
        assert_eq!(sandbox.task("alpha")["attempts"], 1);
        assert_eq!(sandbox.landed("lock"), "2");
    }
}

#[test]
fn dependencies_that_an_agent_installed_are_gone_before_the_next_task() {
    let files = [(".gitignore", ".installed\n"), ("lock", "1\n")];
    let job = locked(&["alpha", "beta"], COPY).set("retry", "feedback = 0\nredispatch = 0").check(
        "fine",
        &["sh", "-c", "! grep -q BAD alpha"],
        "",
    );
    let sandbox = sandbox(job, &files);
    sandbox.script("alpha", "edit lock 2; cp lock .installed; edit alpha BAD");
    sandbox.script("beta", "cmp lock .installed || exit 94; edit beta done");
    sandbox.run(&["start"]).exits(1);
    assert_eq!(sandbox.task("beta")["state"], "done", "{}", sandbox.task("beta"));
}

#[test]
fn files_of_the_setup_live_until_the_last_check_and_not_into_the_next_candidate() {
    let setup =
        "[\"sh\", \"-c\", \"[ ! -e made ] && [ ! -e left ] && mkdir made && echo >made/x\"]";
    let job = TestJob::new(&["alpha", "beta"])
        .set("worktree", &format!("setup = [{setup}]"))
        .set("limits", "jobs = 1")
        .check("first", &["sh", "-c", "[ -e made/x ] && [ ! -e left ] && echo >left"], "")
        .check("second", &["sh", "-c", "[ -e made/x ] && [ -e left ]"], "");
    let sandbox = sandbox(job, &[(".gitignore", "left\n")]);
    sandbox.script("default", "[ ! -e made ] || exit 94; edit \"$HARNESS_TASK\" done");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    let tree = sandbox.git(&["ls-tree", "-r", "--name-only", "harness/job-1/result"]);
    assert!(!tree.contains("made"), "{tree}");
}

#[test]
fn variables_of_a_check_are_passed_to_that_check_alone() {
    let given = ["sh", "-c", "[ \"$MY_TOOL\" = /opt/tool ] && [ \"$MY_PASSWORD\" = s3cret-word ]"];
    let prints = ["sh", "-c", "echo $MY_TOOL $MY_PASSWORD; grep -q fine alpha"];
    let env = "env = [\"MY_TOOL\", \"MY_PASSWORD\"]";
    let job = TestJob::new(&["alpha"])
        .set("worktree", "setup = [[\"sh\", \"-c\", \"[ -z \\\"$MY_TOOL\\\" ]\"]]")
        .check("given", &given, env)
        .check("prints", &prints, &format!("{env}\nwhen = [\"task\"]"))
        .check("not-given", &["sh", "-c", "[ -z \"$MY_TOOL$MY_PASSWORD\" ]"], "");
    let sandbox = sandbox(job, &[]);
    sandbox.script("alpha.1", "[ -z \"${MY_TOOL-}\" ] || exit 94; edit alpha bad");
    sandbox.script("alpha.2", "expect_feedback '/opt/tool [redacted]'; edit alpha fine");
    let more = [("MY_TOOL", "/opt/tool"), ("MY_PASSWORD", "s3cret-word")];
    sandbox.spawn_with(&["start"], &more).wait().exits(0);
    assert_eq!(sandbox.landed("alpha"), "fine");
}

#[test]
fn temporary_folders_are_short_private_and_gone_afterwards() {
    let check = "echo $TMPDIR >>$HOME/dirs; [ ${#TMPDIR} -le 60 ] && [ -d $TMPDIR ] && \
                 [ -z \"$(ls $TMPDIR)\" ] && echo >$TMPDIR/x";
    let job = TestJob::new(&["alpha", "beta"]).check("short", &["sh", "-c", check], "");
    let sandbox = sandbox(job.set("limits", "jobs = 1"), &[]);
    let waits = "echo $TMPDIR >>$HOME/dirs; [ ${#TMPDIR} -le 60 ] || exit 94; echo >$TMPDIR/x";
    sandbox.script("default", &format!("{waits}; edit \"$HARNESS_TASK\" done"));
    let killed = format!("{waits}; kill -9 $PPID; sleep 600");
    sandbox.script("alpha.1", &killed);
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    let dirs = std::fs::read_to_string(sandbox.sign("dirs")).unwrap();
    assert!(dirs.lines().count() >= 5, "{dirs}");
    for dir in dirs.lines() {
        assert!(!std::path::Path::new(dir).join("x").exists(), "{dir} was left");
    }
}

#[test]
fn fresh_start_and_fresh_verify_ask_again() {
    let log = "[\"sh\", \"-c\", \"echo x >>$HOME/setups\"]";
    let check = "[ -e $HOME/fixed ] || grep -q 'to be' alpha";
    let job = TestJob::new(&["alpha"])
        .set("worktree", &format!("setup = [{log}]"))
        .set("retry", "feedback = 0\nredispatch = 0")
        .check("outside", &["sh", "-c", check], "");
    let sandbox = sandbox(job, &[]);
    let setups = || std::fs::read_to_string(sandbox.sign("setups")).unwrap().lines().count();
    sandbox.run(&["start"]).exits(1);
    let before = setups();
    sandbox.run(&["verify", "alpha"]).exits(1);
    sandbox.run(&["verify", "alpha"]).exits(1);
    assert_eq!(setups(), before + 1, "a worktree of its own");
    sandbox.run(&["verify", "alpha", "--fresh"]).exits(1);
    assert_eq!(setups(), before + 2);
    // The same work in a new attempt: the recorded verdict answers, unless it is asked again.
    sandbox.give_sign("fixed");
    sandbox.script("default", "edit alpha 'done in attempt 1'");
    sandbox.run(&["retry", "alpha"]).exits(0);
    sandbox.run(&["start"]).exits(1);
    sandbox.run(&["retry", "alpha"]).exits(0);
    sandbox.run(&["start", "--fresh"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "done in attempt 1");
    assert!(setups() > before + 2);
}
