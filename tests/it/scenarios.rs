//! Whole runs: checks, blame, landing, and runs of some tasks.

use std::time::Instant;

use crate::invariants::{Claim, done};
use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::screen;

fn two() -> TestJob {
    TestJob::new(&["alpha", "beta"])
}

#[test]
fn check_that_cannot_be_run_is_an_infrastructure_fault() {
    let job = two()
        .check("absent", &["./no-such-program"], "when = [\"task\"]")
        .set("retry", "infra = 1\nfeedback = 0");
    let sandbox = Sandbox::new(job);
    let since = Instant::now();
    sandbox.run(&["start"]).exits(1);
    assert!(since.elapsed().as_millis() >= 1_000, "it was not backed off");
    let task = sandbox.task("alpha");
    assert_eq!(task["state"], "failed");
    let reason = task["reason"].as_str().unwrap();
    let fault = "infrastructure, 2 times in a row: the check `absent` could not be started: \
                 there is no program `./no-such-program`";
    assert!(reason.starts_with(fault), "{reason}");
    let chain = sandbox.git(&["log", "-1", "--format=%s", "refs/harness/tasks/job-1/alpha"]);
    assert!(chain.starts_with("alpha: failed: infrastructure, 2 times in a row: "), "{chain}");
    Claim::all(&sandbox).landed(&[]).holds();
}

#[test]
fn check_timeout_is_an_infrastructure_fault() {
    let job = TestJob::new(&["alpha"])
        .check("slow", &["sleep", "60"], "when = [\"task\"]\ntimeout = \"500ms\"")
        .set("retry", "infra = 0\nfeedback = 0");
    let sandbox = Sandbox::new(job);
    sandbox.run(&["start"]).exits(1);
    let alpha = sandbox.task("alpha");
    let reason = alpha["reason"].as_str().unwrap();
    let fault = "infrastructure: the check `slow` took longer than its limit";
    assert!(reason.starts_with(fault), "{reason}");
    Claim::all(&sandbox).landed(&[]).holds();
}

#[test]
fn check_program_that_reappears_is_used_again() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    let tool = sandbox.sign("tool");
    let job = TestJob::new(&["alpha"])
        .check("tool", &[&tool.to_string_lossy()], "when = [\"task\"]")
        .set("retry", "infra = 3\nfeedback = 0");
    sandbox.write("other.toml", &job.text(&sandbox.root().join("scripts").to_string_lossy()));
    sandbox.remember();
    let start = sandbox.spawn(&["start", "other.toml"]);
    sandbox.await_that("a fault", || start.stderr().contains("waits "));
    std::fs::write(&tool, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    start.wait().exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn merge_conflict_is_retried_with_path_and_versions() {
    let job = two().set("scope", "always = [\"shared\"]").set("retry", "feedback = 1");
    let sandbox = Sandbox::new(job);
    // Both start before either ends, so both start from the base.
    let first = ": >\"$HOME/$HARNESS_TASK\"; wait_for \"$HOME/alpha\"; wait_for \"$HOME/beta\"\n\
                 edit \"$HARNESS_TASK\" done; edit shared \"by $HARNESS_TASK\"";
    let second = "expect_feedback '`shared`'; expect_feedback 'on the target now: `git cat-file blob '; \
                  expect_feedback 'changed on the target by '; expect_brief shared; edit \"$HARNESS_TASK\" again; echo two >>shared";
    for task in ["alpha", "beta"] {
        sandbox.script(&format!("{task}.1"), first);
        sandbox.script(&format!("{task}.2"), second);
    }
    let start = sandbox.run(&["start", "--jobs", "2"]).exits(0);
    let conflict = start.stderr.lines().find(|line| line.contains("] conflict")).unwrap();
    assert!(conflict.contains(": attempt 1 does not merge"), "{conflict}");
    Claim::all(&sandbox).holds();
    let mut attempts = ["alpha", "beta"].map(|task| sandbox.task(task)["attempts"].as_u64());
    attempts.sort_unstable();
    assert_eq!(attempts, [Some(1), Some(2)], "one of the two conflicted");
    let shared = sandbox.landed("shared");
    assert!(shared == "by alpha\ntwo" || shared == "by beta\ntwo", "{shared}");
}

#[test]
fn semantic_conflict_lands_only_one_task() {
    let job = two()
        .check("not-both", &["sh", "-c", "! (grep -q X alpha && grep -q X beta)"], "")
        .set("retry", "feedback = 1");
    let sandbox = Sandbox::new(job);
    let both = ": >\"$HOME/$HARNESS_TASK\"; wait_for \"$HOME/alpha\"; wait_for \"$HOME/beta\"; edit \"$HARNESS_TASK\" X";
    sandbox.script("alpha.1", both);
    sandbox.script("beta.1", both);
    sandbox.script("default", "expect_feedback not-both; edit \"$HARNESS_TASK\" Y");
    sandbox.run(&["start", "--jobs", "2"]).exits(0);
    Claim::all(&sandbox).holds();
    let (alpha, beta) = (sandbox.landed("alpha"), sandbox.landed("beta"));
    assert!((alpha == "X") != (beta == "X"), "alpha is {alpha}, beta is {beta}");
}

#[test]
fn task_verified_behind_a_failing_one_is_not_blamed() {
    // Both verifications hold until the sign `free`: that of alpha, and that of beta behind alpha.
    let check = "grep -q BAD alpha || exit 0\n\
                 if grep -q good beta; then touch \"$HOME/behind\"; else touch \"$HOME/first\"; fi\n\
                 while [ ! -e \"$HOME/free\" ]; do sleep 0.02; done; exit 1";
    let job = TestJob::bare(&["alpha", "beta"])
        .set("queue", "each = true\nahead = 2\nreview = \"required\"")
        .check("slow", &["sh", "-c", check], "when = [\"landing\"]");
    let sandbox = Sandbox::new(job);
    sandbox.script("alpha.1", "edit alpha BAD");
    sandbox.script("alpha.2", "expect_feedback slow; edit alpha good");
    sandbox.script("beta", "edit beta good");
    sandbox.run(&["start"]).exits(3);
    sandbox.run(&["approve", "--all"]).exits(0);
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("first");
    sandbox.await_sign("behind");
    sandbox.give_sign("free");
    start.wait().exits(3).says("1 candidate waits for a review");
    assert_eq!(sandbox.status()["counts"]["reviewing"], 1);
    sandbox.run(&["approve", "alpha"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    let attempts = ["alpha", "beta"].map(|task| sandbox.task(task)["attempts"].as_u64());
    assert_eq!(attempts, [Some(2), Some(1)]);
}

#[test]
fn failing_base_costs_no_attempt() {
    let job = two().check("ready", &["sh", "-c", "echo the base is not ready; exit 7"], "");
    let sandbox = Sandbox::new(job.clone());
    sandbox.run(&["start"]).exits(3);
    assert_eq!(sandbox.task("alpha")["attempts"], 0);
    let status = sandbox.status();
    assert_eq!(status["state"], "halted");
    assert_eq!(
        status["reason"],
        "the landing check `ready` already fails on the base: \
         `sh -c 'echo the base is not ready; exit 7'`: the base is not ready"
    );
    sandbox.run(&["status"]).exits(0);
    sandbox.run(&["poll"]).exits(3);
    Claim::all(&sandbox).landed(&[]).holds();

    let job = job.set("job", "base-check = \"warn\"").set("retry", "feedback = 0");
    let sandbox = Sandbox::new(job);
    sandbox.run(&["start"]).exits(1);
    let alpha = sandbox.task("alpha");
    assert_eq!((&alpha["attempts"], &alpha["cause"]), (&1.into(), &"`ready`".into()));
}

#[test]
fn checked_out_target_follows_and_keeps_uncommitted_changes() {
    let sandbox = Sandbox::new(two().set("job", "target = \"main\""));
    // Uncommitted changes are in the way of both tasks.
    sandbox.write("alpha", "mine\n");
    sandbox.write("beta", "mine\n");
    sandbox.remember();
    sandbox.run(&["start"]).exits(3);
    assert!(sandbox.harmed().is_empty(), "{:?}", sandbox.harmed());
    assert_eq!(sandbox.git(&["rev-parse", "main"]), sandbox.base);
    let status = sandbox.status();
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("is checked out in") && reason.contains("not uptodate"), "{reason}");
    assert_eq!(status["counts"]["queued"], 2);
    // Another verification may still be running.
    sandbox.await_that("a poll that says so", || {
        let output = sandbox.run(&["poll"]);
        output.code == 3 && output.stderr.contains("is checked out in")
    });
    let attempts = sandbox.task("alpha")["attempts"].clone();
    sandbox.git(&["checkout", "--quiet", "--", "alpha", "beta"]);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.task("alpha")["attempts"], attempts);
    let read = |file: &str| std::fs::read_to_string(sandbox.repo.join(file)).unwrap();
    assert!(read("alpha").contains("done in attempt 1"), "{}", read("alpha"));
    assert!(read("README").contains("not committed") && read("untracked") == "mine\n");
    assert_eq!(sandbox.git(&["status", "--porcelain"]), " M README\n?? untracked");
    sandbox.remember();
    Claim::all(&sandbox).on("refs/heads/main").holds();
}

#[test]
fn target_moved_by_a_person_keeps_their_commit() {
    let sandbox = Sandbox::new(two().set("job", "target = \"line\""));
    sandbox
        .script("default", ": >\"$HOME/up\"; wait_for \"$HOME/go\"; edit \"$HARNESS_TASK\" done");
    sandbox.git(&["branch", "line"]);
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("up");
    let tree = sandbox.git(&["rev-parse", "main^{tree}"]);
    let mine = sandbox.git(&["commit-tree", &tree, "-p", "line", "-m", "a person's"]);
    sandbox.git(&["update-ref", "refs/heads/line", &mine]);
    sandbox.give_sign("go");
    start.wait().exits(0);
    let line = sandbox.git(&["rev-list", "--first-parent", "line"]);
    assert!(line.lines().any(|c| c == mine), "a person's commit is no longer on the target");
    for task in ["alpha", "beta"] {
        assert_eq!(sandbox.git(&["show", &format!("line:{task}")]), "done");
    }
}

#[test]
fn only_limits_the_run_to_named_tasks() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta", "gamma"]));
    sandbox.run(&["start", "--only", "gamma", "--only", "alpha"]).exits(0);
    assert_eq!(done(&sandbox.status()).into_iter().collect::<Vec<_>>(), ["alpha", "gamma"]);
    Claim::all(&sandbox).landed(&["alpha", "gamma"]).holds();
    sandbox.run(&["status", "--exit-code"]).exits(1);
    sandbox.run(&["start", "--only", "delta"]).exits(128);
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    sandbox.run(&["status", "--exit-code"]).exits(0);
}

#[test]
fn only_tries_a_task_that_is_not_among_the_first_due() {
    let tasks = ["alpha", "beta", "delta", "gamma", "zeta"];
    let sandbox = Sandbox::new(TestJob::new(&tasks).set("limits", "jobs = 1"));
    sandbox.run(&["start", "--only", "nosuch"]).exits(128);
    assert_eq!(sandbox.git(&["for-each-ref", "refs/harness"]), "", "a run was made");
    sandbox.run(&["start", "--only", "zeta"]).exits(0);
    assert_eq!(done(&sandbox.status()).into_iter().collect::<Vec<_>>(), ["zeta"]);
    Claim::all(&sandbox).landed(&["zeta"]).holds();
}

#[test]
fn only_exits_with_1_if_a_named_task_failed() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]).set("retry", "feedback = 0"));
    sandbox.script("beta", "edit beta BAD");
    sandbox.run(&["start", "--only", "beta"]).exits(1);
    sandbox.run(&["start", "--only", "alpha"]).exits(0);
}

#[test]
fn events_are_reported_in_order() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    sandbox.script("alpha.1", "edit alpha BAD");
    sandbox.script("alpha.2", "edit alpha fine");
    let start = sandbox.run(&["start"]).exits(0);
    let lines: Vec<&str> = start.stderr.lines().collect();
    let position = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
    let order = [
        "pass on the base",
        "started   alpha",
        "rejected  alpha: attempt 1",
        "(attempt 2)",
        "landed",
    ];
    let positions = order.map(position);
    assert!(positions.is_sorted(), "{positions:?}\n{}", start.stderr);
}

#[test]
fn paused_creates_the_run_and_starts_nothing() {
    let sandbox = Sandbox::new(two());
    sandbox.run(&["start", "--paused"]).exits(0);
    let status = sandbox.status();
    assert_eq!(status["state"], "paused");
    assert_eq!(status["counts"]["todo"], 2);
    let refs = sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/harness"]);
    assert_eq!(
        refs.lines().collect::<Vec<_>>(),
        [
            "refs/harness/runs/job-1",
            "refs/harness/tasks/job-1/alpha",
            "refs/harness/tasks/job-1/beta"
        ]
    );
    assert!(sandbox.processes().is_empty());
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn dry_run_writes_nothing() {
    let sandbox = Sandbox::new(two());
    let refs = || sandbox.git(&["for-each-ref"]);
    let objects = || sandbox.git(&["count-objects", "-v"]);
    let before = (refs(), objects());
    sandbox.run(&["start", "--dry-run"]).exits(0);
    assert_eq!(before, (refs(), objects()));
    assert!(sandbox.harmed().is_empty(), "{:?}", sandbox.harmed());
    sandbox.run(&["status", "--exit-code"]).exits(2);
}

#[test]
fn detached_run_completes_in_the_background() {
    let sandbox = Sandbox::new(two());
    sandbox.script("default", "wait_for \"$HOME/go\"; edit \"$HARNESS_TASK\" done");
    screen(&sandbox, "start_detached", &["start", "--detach"]);
    assert!(sandbox.status()["driver"].is_string());
    sandbox.run(&["start", "--detach"]).exits(128);
    sandbox.give_sign("go");
    sandbox.await_that("the end", || sandbox.status()["state"] == "ended");
    Claim::all(&sandbox).holds();
}

#[test]
fn polls_alone_complete_a_run() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta", "gamma"]).set("limits", "jobs = 2"));
    sandbox.script("beta.1", "edit beta BAD");
    sandbox.run(&["start", "--paused"]).exits(0);
    let mut polls = 0;
    loop {
        let output = sandbox.run(&["poll"]);
        polls += 1;
        assert!(polls < 500, "it does not come to an end: {output}");
        match output.code {
            0 => std::thread::sleep(std::time::Duration::from_millis(30)),
            2 => break,
            _ => panic!("{output}"),
        }
    }
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.task("beta")["attempts"], 2);
    sandbox.run(&["poll"]).exits(2);
}

#[test]
fn merge_style_keeps_agent_commits() {
    let sandbox = Sandbox::new(two().set("queue", "merge = \"merge\"\nkeep-branches = true"));
    sandbox.script(
        "alpha",
        "edit alpha 1; commit_self 'the agent said this'; edit alpha 2; commit_self 'and this'",
    );
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    let parents =
        sandbox.git(&["log", "--first-parent", "--format=%P", "main..harness/job-1/result"]);
    assert!(parents.lines().all(|p| p.split(' ').count() == 2), "{parents}");
    let all = sandbox.git(&["log", "--format=%s", "harness/job-1/result"]);
    assert!(all.contains("the agent said this") && all.contains("and this"), "{all}");
    for task in ["alpha", "beta"] {
        sandbox.git(&[
            "merge-base",
            "--is-ancestor",
            &format!("harness/job-1/{task}"),
            "harness/job-1/result",
        ]);
    }
}

#[test]
fn uncommitted_agent_script_is_pinned() {
    let job = two().only("agent", "command = [\"sh\", \"./agent.sh\"]");
    let sandbox = Sandbox::new(job);
    sandbox.write("agent.sh", "echo by the pinned agent >\"$HARNESS_TASK\"\n");
    sandbox.remember();
    sandbox.run(&["start", "--paused"]).exits(0);
    std::fs::remove_file(sandbox.repo.join("agent.sh")).unwrap();
    sandbox.remember();
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("alpha"), "by the pinned agent");
    let tree = sandbox.git(&["ls-tree", "--name-only", "harness/job-1/result"]);
    assert!(!tree.contains("agent.sh"), "{tree}");
}

#[test]
fn setup_runs_once_per_worktree_and_kept_files_stay() {
    let job = two()
        .set("worktree", "setup = [[\"sh\", \"-c\", \"echo x >>warm; echo x >>\\\"$HOME/setups\\\"\"]]\nkeep = [\"warm\"]")
        .set("limits", "jobs = 1");
    let sandbox = Sandbox::new(job);
    sandbox.write(".gitignore", "warm\n");
    sandbox.git(&["add", ".gitignore"]);
    sandbox.git(&["commit", "--quiet", "--message", "ignore"]);
    sandbox.remember();
    sandbox.script("default", "[ -f warm ] || exit 94; edit \"$HARNESS_TASK\" done");
    sandbox.run(&["start"]).exits(0);
    let setups = std::fs::read_to_string(sandbox.sign("setups")).unwrap().lines().count();
    let places = sandbox.git(&["worktree", "list"]).lines().count() - 1;
    assert_eq!(setups, places, "a place is set up once");
}

#[test]
fn agent_environment_is_built_from_nothing_and_secrets_are_redacted() {
    let job = TestJob::new(&["alpha"]).set("agent", "env = [\"MY_KEY\"]");
    let sandbox = Sandbox::new(job);
    sandbox.script("alpha", "env >\"$HOME/env\"; edit alpha done; say \"the key is $MY_KEY\"");
    let more = [("MY_KEY", "a-secret-value"), ("OTHER", "leaks"), ("GIT_INDEX_FILE", "/nowhere")];
    let repo = sandbox.repo.clone();
    sandbox.run_in(&repo, &["start"], &more).exits(0);
    let env = std::fs::read_to_string(sandbox.sign("env")).unwrap();
    assert!(env.contains("MY_KEY=a-secret-value") && env.contains("HARNESS_TASK=alpha"), "{env}");
    assert!(!env.contains("leaks") && !env.contains("GIT_INDEX_FILE"), "{env}");
    // Everybody who fetches the run's refs can read the transcript.
    let output = sandbox.run(&["show", "alpha", "--transcript"]).exits(0);
    assert_eq!(output.stdout, "the key is [redacted]\n");
    Claim::all(&sandbox).holds();
}

#[test]
fn start_works_in_a_subfolder_of_a_linked_worktree() {
    let sandbox = Sandbox::new(two());
    let linked = sandbox.root().join("linked");
    sandbox.git(&["worktree", "add", "--quiet", "--detach", &linked.to_string_lossy()]);
    sandbox.remember();
    std::fs::create_dir(linked.join("deep")).unwrap();
    sandbox.run_in(&linked.join("deep"), &["start"], &[]).exits(0);
    Claim::all(&sandbox).holds();
}

/// A script beside the job is provided, although no commit has it, and no task may bring its own.
#[test]
fn check_sees_the_changed_task_file_and_the_provided_script() {
    let job = TestJob::bare(&["a.txt"])
        .check("good", &["grep", "-q", "good", "./a.txt"], "when = [\"task\"]")
        .check("rule", &["sh", "rule.sh"], "")
        .set("scope", "write = [\"*\"]")
        .set("retry", "feedback = 2");
    let sandbox = Sandbox::new(job);
    sandbox.write("rule.sh", "! grep -q BAD a.txt");
    sandbox.script("a_dot_txt.1", "echo good BAD >a.txt; echo true >rule.sh");
    let scope = "expect_feedback '`rule.sh` (a rule file'; echo good BAD >a.txt";
    sandbox.script("a_dot_txt.2", scope);
    let both = "expect_feedback '(a rule file'; expect_feedback '`sh rule.sh`: exit 1'";
    sandbox.script("a_dot_txt.3", &format!("{both}; echo good >a.txt"));
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("a.txt"), "good");
}
