//! Misbehaving agents. The task is retried, and nothing else is harmed.

use rustix::process::Signal;

use crate::command::{is_alive, send};
use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::screen;

/// Runs two tasks; the first attempt of `alpha` does this. All land, `alpha` in its second attempt.
#[track_caller]
fn first_attempt(job: TestJob, body: &str) -> Sandbox {
    let sandbox = Sandbox::new(job);
    sandbox.script("alpha.1", body);
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("alpha"), "done in attempt 2");
    assert_eq!(sandbox.landed("beta"), "done in attempt 1");
    sandbox
}

fn two() -> TestJob {
    TestJob::new(&["alpha", "beta"])
}

#[test]
fn uncommitted_staged_and_committed_work_all_land() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta", "gamma"]));
    sandbox.script("beta", "edit beta 'proposed'; propose 'a proposal'");
    sandbox.script(
        "gamma",
        "edit gamma 'one'; commit_self 'first'; edit gamma 'two'; commit_self 'second'",
    );
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("alpha"), "done in attempt 1");
    assert_eq!(sandbox.landed("beta"), "proposed");
    assert_eq!(sandbox.landed("gamma"), "two");
    let count = sandbox.git(&["rev-list", "--count", "main..harness/job-1/result"]);
    assert_eq!(count, "3", "a task is one commit on the target, however often its agent committed");
}

#[test]
fn empty_attempt_is_rejected_and_fails_the_task() {
    let sandbox = Sandbox::new(two().set("retry", "feedback = 1"));
    sandbox.script("alpha.1", "say 'all done!'");
    sandbox.script("alpha.2", "commit_nothing");
    sandbox.run(&["start"]).exits(1);
    Claim::all(&sandbox).landed(&["beta"]).holds();
    let task = sandbox.task("alpha");
    assert_eq!((&task["state"], &task["cause"]), (&"failed".into(), &"`agent`".into()));
    assert_eq!(task["attempts"], 2);
    screen(&sandbox, "show_empty_attempt", &["show", "alpha"]);
    sandbox.run(&["start"]).exits(1);
}

#[test]
fn empty_attempt_is_accepted_with_allow_empty() {
    let sandbox = Sandbox::new(two().set("agent", "allow-empty = true"));
    sandbox.script("alpha", "say 'nothing to do here'");
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.task("alpha")["state"], "done");
    assert_eq!(sandbox.landed("beta"), "done in attempt 1");
}

#[test]
fn crash_is_retried_with_feedback() {
    let job = two().set("retry", "feedback = 1");
    let sandbox = Sandbox::new(job);
    sandbox.script("alpha.1", "edit alpha 'half BAD'; crash");
    sandbox.script(
        "alpha.2",
        "expect_feedback 'signal 9'; expect_brief 'half BAD'; edit alpha 'whole'",
    );
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("alpha"), "whole");
}

#[test]
fn idle_timeout_ends_a_silent_attempt() {
    let sandbox = first_attempt(two().only("agent", "idle-timeout = \"1s\""), "hang");
    let chain = sandbox.git(&["log", "--format=%s", "refs/harness/tasks/job-1/alpha"]);
    let silent = |line: &str| line.starts_with("alpha: attempt 1 went silent, it left ");
    assert!(chain.lines().any(silent), "{chain}");
}

#[test]
fn timeout_kills_an_agent_that_ignores_signals() {
    let body = "echo $$ >\"$HOME/agent.pid\"; ignore_term; hang";
    let sandbox = first_attempt(two().only("agent", "timeout = \"1s\""), body);
    let pid = std::fs::read_to_string(sandbox.sign("agent.pid")).unwrap();
    assert!(!is_alive(pid.trim().parse().unwrap()), "the agent outlived its attempt");
}

#[test]
fn daemon_of_an_agent_is_killed_with_its_attempt() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta", "gamma"]));
    for task in ["alpha", "beta"] {
        let held = if task == "beta" { "keep-output" } else { "" };
        let body = format!("orphan \"$HOME/{task}.pid\" {held}; edit {task} done");
        sandbox.script(task, &body);
    }
    sandbox.run(&["start"]).exits(0);
    let mut alive = Vec::new();
    for task in ["alpha", "beta"] {
        let pid = std::fs::read_to_string(sandbox.sign(&format!("{task}.pid"))).unwrap();
        let pid = pid.trim().parse().unwrap();
        if is_alive(pid) {
            alive.push(task);
            send(pid, Signal::KILL);
        }
    }
    assert!(alive.is_empty(), "daemons live on: {alive:?}");
    Claim::all(&sandbox).holds();
}

#[test]
fn large_output_is_truncated() {
    let sandbox = Sandbox::new(two());
    sandbox.script("alpha", "edit alpha done; flood 30000000");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    let size = sandbox.git(&["cat-file", "-s", "refs/harness/tasks/job-1/alpha:attempts/1/stdout"]);
    let size: u64 = size.parse().unwrap();
    assert!(size > 1_000 && size < 10_000_000, "{size} bytes of the transcript are kept");
}

#[test]
fn change_out_of_scope_is_rejected_and_kept() {
    let job = two().set("scope", "read-only = [\"shared\"]").set("retry", "feedback = 2");
    let sandbox = Sandbox::new(job);
    sandbox.script("alpha.1", "edit alpha 'much work'; touch_outside README");
    sandbox.script("alpha.2", "expect_feedback README; edit alpha done; touch_outside shared");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("alpha"), "done in attempt 3");
    let stray = sandbox.git(&[
        "log",
        "--format=%h",
        "main..harness/job-1/result",
        "--",
        "README",
        "shared",
    ]);
    assert_eq!(stray, "", "a landed commit touches what is out of scope");
    // The rejected work stays available.
    let chain = sandbox.git(&["rev-list", "refs/harness/tasks/job-1/alpha"]);
    let kept = chain.lines().any(|commit| {
        let readme = sandbox.try_git(&sandbox.repo, &["show", &format!("{commit}:README")]);
        let alpha = sandbox.try_git(&sandbox.repo, &["show", &format!("{commit}:alpha")]);
        readme.stdout.contains("the scripted agent was here") && alpha.stdout.contains("much work")
    });
    assert!(kept, "the rejected patch is nowhere on the chain");
}

#[test]
fn deleted_worktree_is_recreated() {
    first_attempt(two(), "edit alpha BAD; clobber");
}

#[test]
fn replaced_git_file_does_not_redirect_the_keeper() {
    let sandbox = Sandbox::new(two());
    // The file points at the user's repository. The keeper must not follow it.
    let user = sandbox.repo.join(".git");
    let body = format!("edit alpha 'done in attempt 1'; replace_git '{}'", user.display());
    sandbox.script("alpha.1", &body);
    sandbox.script("beta.1", "edit beta 'done in attempt 1'; replace_git");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert!(sandbox.landed("alpha").starts_with("done"));
    assert!(sandbox.landed("beta").starts_with("done"));
}

#[test]
fn commits_on_another_branch_are_found() {
    let sandbox = Sandbox::new(two());
    sandbox.script(
        "alpha",
        "switch_branch elsewhere; edit alpha 'on another branch'; commit_self 'there'",
    );
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "on another branch");
    // The agent created this branch with git in the shared repository. The harness does not delete
    // it.
    assert_eq!(sandbox.git(&["log", "-1", "--format=%s", "elsewhere"]), "there");
    sandbox.git(&["branch", "-D", "elsewhere"]);
    Claim::all(&sandbox).holds();
}

/// Runs two tasks whose scope is open; the first attempt of `alpha` does this, and its second is
/// told `finding`. Returns the files that landed.
#[track_caller]
fn refused(scope: &str, body: &str, finding: &str) -> String {
    let job = two().set("scope", &format!("write = [\"**\"]\n{scope}"));
    let sandbox = Sandbox::new(job.set("retry", "feedback = 1"));
    sandbox.script("alpha.1", &format!("edit alpha 'half done'; {body}"));
    sandbox.script("alpha.2", &format!("expect_feedback '{finding}'; edit alpha 'whole'"));
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("alpha"), "whole");
    sandbox.git(&["ls-tree", "-r", "harness/job-1/result"])
}

#[test]
fn nested_repository_is_refused_with_a_finding() {
    for body in ["nested_repo nested", "nested_repo nested; git add --all; propose nested"] {
        let tree = refused("", body, "- `nested`");
        assert!(!tree.contains("nested"), "a part of a repository has landed:\n{tree}");
    }
}

#[test]
fn conflict_markers_are_refused_without_a_check() {
    let body = "printf '<<<<<<< HEAD\\na\\n=======\\nb\\n>>>>>>> x\\n' >notes";
    let tree = refused("", body, "`notes:3: leftover conflict marker`");
    assert!(!tree.contains("notes"), "{tree}");
}

#[test]
fn file_above_the_size_limit_is_refused_with_path_and_size() {
    let scope = "max-file-size = \"100kB\"";
    let tree = refused(scope, "head -c 150000 /dev/zero >big.bin", "`big.bin`: 146.4 KiB");
    assert!(!tree.contains("big.bin"), "{tree}");
}

#[test]
fn ignored_file_that_the_agent_committed_with_force_lands() {
    let sandbox = Sandbox::new(two().set("scope", "write = [\"**\"]"));
    let body = "edit .gitignore 'dist/'; edit dist/bundle.js b; edit alpha 'done in attempt 1'; \
                edit dist/noise n; git add -f dist/bundle.js; propose bundle";
    sandbox.script("alpha.1", body);
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    let tree = sandbox.git(&["ls-tree", "-r", "--name-only", "harness/job-1/result"]);
    assert!(tree.lines().any(|path| path == "dist/bundle.js"), "{tree}");
    assert!(!tree.contains("noise"), "{tree}");
}

#[test]
fn agent_commits_without_the_signature_that_the_user_requires() {
    let sandbox = Sandbox::new(two().set("queue", "sign = false"));
    sandbox.git(&["config", "commit.gpgSign", "true"]);
    sandbox.git(&["config", "gpg.program", "/nonexistent"]);
    sandbox.script("alpha.1", "edit alpha one; propose signed; edit alpha 'after the commit'");
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "after the commit");
}

#[test]
fn stale_index_lock_of_a_killed_git_is_removed() {
    let sandbox = Sandbox::new(two());
    sandbox.script("default", "edit \"$HARNESS_TASK\" done; stale_lock; stale_lock HEAD.lock");
    sandbox.run(&["start", "--jobs", "1"]).exits(0);
    // The last worktree keeps the agent's files until it is reused or swept.
    sandbox.run(&["sweep"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn check_output_reaches_the_next_attempt() {
    let job = two().set("retry", "feedback = 1");
    let sandbox = Sandbox::new(job);
    sandbox.script("alpha.1", "[ -z \"$HARNESS_FEEDBACK_FILE\" ] || exit 95; edit alpha 'so BAD'");
    sandbox.script(
        "alpha.2",
        "expect_feedback 'no-bad'; expect_feedback '1:so BAD'; expect_brief '1:so BAD'; edit alpha better",
    );
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("alpha"), "better");
    let output = sandbox.run(&["show", "alpha", "--prompt", "--attempt", "1"]).exits(0);
    assert!(!output.stdout.contains("so BAD"), "the first prompt knew the future");
}

#[test]
fn stderr_of_a_failed_agent_reaches_the_person_and_the_next_prompt() {
    let sandbox = Sandbox::new(two().set("retry", "feedback = 1"));
    let say = "echo 'unknown option --fast' >&2; echo 'error: giving up' >&2; exit 3";
    sandbox.script("alpha.1", say);
    sandbox.script("alpha.2", &format!("edit alpha 'so BAD'; {say}"));
    sandbox.run(&["start"]).exits(1);
    let prompt = sandbox.run(&["show", "alpha", "--prompt", "--attempt", "2"]).exits(0).stdout;
    assert!(prompt.contains("unknown option --fast\nerror: giving up\n"), "{prompt}");
    screen(&sandbox, "show_agent_stderr", &["show", "alpha"]);
    screen(&sandbox, "log_agent_stderr", &["log", "alpha"]);
}

#[test]
fn equal_findings_are_told_once_with_their_attempts() {
    let sandbox = Sandbox::new(two().set("retry", "feedback = 2"));
    sandbox.script("alpha", "edit alpha 'so BAD'");
    sandbox.run(&["start"]).exits(1);
    let prompt = sandbox.run(&["show", "alpha", "--prompt", "--attempt", "3"]).exits(0).stdout;
    assert!(prompt.contains("## Attempts 1 and 2, `no-bad`"), "{prompt}");
    assert_eq!(prompt.matches("so BAD").count(), 1, "{prompt}");
    let shown = sandbox.run(&["show", "alpha"]).exits(0).stdout;
    assert!(shown.contains("\nattempts 1, 2 and 3, no-bad:\n"), "{shown}");
}

#[test]
fn check_without_its_dependencies_hints_at_the_setup() {
    let command = "test -d node_modules || { echo \"Cannot find module 'left-pad'\"; exit 1; }";
    let job = two().check("unit", &["sh", "-c", command], "when = [\"task\"]");
    let sandbox = Sandbox::new(job.set("retry", "feedback = 0"));
    sandbox.write("package.json", "{\"dependencies\": {\"left-pad\": \"1\"}}");
    sandbox.git(&["add", "package.json"]);
    sandbox.git(&["commit", "--quiet", "--message", "dependencies"]);
    sandbox.run(&["start"]).exits(1);
    let reason = sandbox.task("alpha")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("Cannot find module 'left-pad'"), "{reason}");
    let hint = "(hint: the worktree has no `node_modules`; `[worktree] setup`";
    assert!(reason.contains(hint), "{reason}");
}

#[test]
fn next_attempt_starts_from_the_rejected_candidate_and_the_last_from_the_base() {
    let sandbox = Sandbox::new(two().set("retry", "feedback = 2"));
    sandbox.script("alpha.1", "edit alpha 'good, BAD'; commit_self 'half'");
    let second =
        "grep -q 'good, BAD' alpha; git log -1 --format=%s | grep -q half; edit alpha 'still BAD'";
    sandbox.script("alpha.2", &format!("set -e; {second}"));
    sandbox.script("alpha.3", "grep -q BAD alpha && exit 9; edit alpha 'better'");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("alpha"), "better");
    let prompt =
        |attempt| sandbox.run(&["show", "alpha", "--prompt", "--attempt", attempt]).exits(0).stdout;
    assert!(prompt("2").contains("+good, BAD"), "{}", prompt("2"));
    assert!(!prompt("3").contains("Where you start"), "{}", prompt("3"));
    let log = sandbox.run(&["log", "alpha"]).exits(0).stdout;
    assert_eq!(log.matches("started from the last candidate").count(), 1, "{log}");
}

#[test]
fn next_attempt_on_a_moved_tip_keeps_what_the_messages_of_the_commits_state() {
    let hook = "post-land = [\"sh\", \"-c\", \"touch $HOME/landed\"]";
    let sandbox = Sandbox::new(two().set("queue", hook));
    let commit = "commit_self 'Finding 1: open: not yet\n\nFinding 2: not so: meant'";
    sandbox.script("alpha.1", &format!("edit alpha BAD; {commit}; wait_for \"$HOME/landed\""));
    let stated = "git log -1 --format=%B | grep -q 'Finding 2: not so: meant' || exit 9";
    sandbox.script("alpha.2", &format!("[ -e beta ] && {stated}; edit alpha good"));
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("alpha"), "good");
}

#[test]
fn candidate_that_is_out_of_scope_is_not_continued() {
    let sandbox = Sandbox::new(two());
    sandbox.script("alpha.1", "edit alpha 'much work'; touch_outside README");
    sandbox.script("alpha.2", "grep -q much alpha && exit 9; edit alpha 'done'");
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "done");
}
