//! Trains of tasks: number of verifications, and blame.

use crate::command::CommandOutput;
use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::screen_without_progress;

const TASKS: [&str; 6] = ["alpha", "beta", "delta", "epsilon", "gamma", "zeta"];

/// The check. The first verification after the base is that of alpha: it waits for the sign `free`.
const CHECK: &str = r#"
echo run >> "$HOME/runs"
if grep -q good alpha && [ ! -e "$HOME/free" ]; then
    touch "$HOME/judging"
    while [ ! -e "$HOME/free" ]; do sleep 0.02; done
fi
if [ -e "$HOME/flaky" ] && grep -q good beta; then rm "$HOME/flaky"; echo out of luck; exit 1; fi
! grep -n BAD alpha beta delta epsilon gamma zeta
"#;

fn sandbox(queue: &str) -> Sandbox {
    let job = TestJob::bare(&TASKS).set("queue", queue).set("limits", "jobs = 6");
    let sandbox = Sandbox::new(job.check(
        "whole",
        &["sh", "-c", CHECK],
        "when = [\"landing\"]\ncache = false",
    ));
    sandbox.script("alpha", "edit alpha good");
    sandbox.script("default", &behind_alpha("good"));
    sandbox
}

fn behind_alpha(text: &str) -> String {
    let wait = "while [ ! -e \"$HOME/judging\" ]; do sleep 0.02; done";
    format!("{wait}; edit \"$HARNESS_TASK\" {text}")
}

/// Runs the job while all other tasks wait behind alpha. Returns the number of executions of the
/// check.
fn run(sandbox: &Sandbox) -> (CommandOutput, usize) {
    let run = sandbox.spawn(&["start", "--jobs", "6"]);
    sandbox.await_sign("judging");
    let queued = |task: &&str| sandbox.task(task)["state"] == "queued";
    sandbox.await_that("the others", || TASKS.iter().all(queued));
    let list = sandbox.run(&["queue", "list", "--target", "harness/job-1/result"]).exits(0);
    list.says("job-1/beta").says("6 tasks of the run `job-1`, landed by its supervisor ");
    let list = sandbox.run(&["queue", "list", "--target", "harness/job-1/result", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list.exits(0).stdout).unwrap();
    assert_eq!(list["verifying"][0]["tasks"], serde_json::json!(["job-1/alpha"]));
    let state = |task: &serde_json::Value| (task["task"].clone(), task["state"].clone());
    let states: Vec<_> = list["tasks"].as_array().unwrap().iter().map(state).collect();
    assert!(states.contains(&("alpha".into(), "verifying".into())), "{states:?}");
    assert!(states.contains(&("beta".into(), "queued".into())), "{states:?}");
    sandbox.give_sign("free");
    let output = run.wait();
    let runs = std::fs::read_to_string(sandbox.sign("runs")).unwrap().lines().count();
    (output, runs)
}

fn attempts(sandbox: &Sandbox) -> Vec<u64> {
    TASKS.iter().map(|task| sandbox.task(task)["attempts"].as_u64().unwrap()).collect()
}

#[test]
fn queued_tasks_land_as_one_train() {
    let sandbox = sandbox("");
    let (output, runs) = run(&sandbox);
    output.exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(runs, 3, "the base, alpha, and all others at once");
    let noted = |rev: &str| sandbox.git(&["notes", "--ref=harness", "show", rev]);
    let tip = sandbox.git(&["rev-parse", "harness/job-1/result"]);
    assert!(noted("harness/job-1/result~1").contains(&tip), "it says what has proved it");
    let note = |rev: &str| -> serde_json::Value { serde_json::from_str(&noted(rev)).unwrap() };
    assert_eq!(note("harness/job-1/result")["verified"], serde_json::Value::Null);
    let proof = format!("up to {}", &tip[..7]);
    sandbox.run(&["why", "harness/job-1/result~1"]).exits(0).says(&proof);
    let why = sandbox.run(&["why", "harness/job-1/result~1", "--json"]).exits(0).stdout;
    let why: serde_json::Value = serde_json::from_str(&why).unwrap();
    let shown = &why["origins"][0]["note"];
    assert_eq!(*shown, note("harness/job-1/result~1"));
    assert_eq!(shown["verified"]["commit"], tip);
    assert_eq!(
        (&shown["checks"][0]["name"], &shown["checks"][0]["passed"]),
        (&"whole".into(), &true.into())
    );
}

#[test]
fn bisect_ejects_the_single_failing_task() {
    let sandbox = sandbox("");
    sandbox.script("gamma.1", &behind_alpha("BAD"));
    sandbox.script("gamma.2", "expect_feedback whole; edit gamma good");
    let (output, runs) = run(&sandbox);
    output.exits(0).says("do not pass together");
    Claim::all(&sandbox).holds();
    assert_eq!(attempts(&sandbox), [1, 1, 1, 1, 2, 1]);
    // The base, alpha, and all five; at most three to bisect; the failing task alone and without
    // what has landed, the tasks behind it, and its second attempt.
    assert!(runs <= 10, "{runs}");
}

#[test]
fn flaky_check_blames_no_task() {
    let sandbox = sandbox("");
    sandbox.give_sign("flaky");
    let (output, _) = run(&sandbox);
    output.exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(attempts(&sandbox), [1; 6]);
}

#[test]
fn each_verifies_every_task_alone() {
    let sandbox = sandbox("each = true\nahead = 2");
    let (output, runs) = run(&sandbox);
    output.exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(runs, 7, "the base and each task");
    let notes = sandbox.git(&["log", "--notes=harness", "--format=%N", "harness/job-1/result"]);
    assert!(notes.contains("\"candidate\"") && !notes.contains("\"verified\":{"), "{notes}");
}

#[test]
fn lanes_screen_groups_in_parallel_before_integration() {
    let sandbox = sandbox("ahead = 3\nbatch = 2");
    sandbox.script("gamma.1", &behind_alpha("BAD"));
    sandbox.script("gamma.2", "expect_feedback whole; edit gamma good");
    sandbox.give_sign("judging");
    sandbox.give_sign("free");
    sandbox.run(&["start", "--jobs", "6"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(attempts(&sandbox), [1, 1, 1, 1, 2, 1]);
}

#[test]
fn polls_verify_one_train_until_its_verdict() {
    let sandbox = sandbox("");
    sandbox.script("default", "wait_for \"$HOME/$HARNESS_TASK\"; edit \"$HARNESS_TASK\" good");
    let poll = || sandbox.run(&["poll"]).code;
    sandbox.run(&["start", "--paused"]).exits(0);
    let queued = || TASKS.iter().filter(|task| sandbox.task(task)["state"] == "queued").count();
    // Each poll finds one more queued task.
    for (n, task) in TASKS.iter().enumerate() {
        sandbox.give_sign(task);
        sandbox.await_that(task, || {
            poll();
            queued() == n + 1
        });
        poll();
    }
    sandbox.give_sign("free");
    sandbox.await_that("the end", || poll() == 2);
    Claim::all(&sandbox).holds();
    let runs = std::fs::read_to_string(sandbox.sign("runs")).unwrap().lines().count();
    assert!(runs <= 3, "the base, alpha, and all others at once, but {runs}");
}

#[test]
fn conflict_is_reported_before_the_task_is_next() {
    let job = TestJob::bare(&TASKS).set("queue", "batch = 1").set("scope", "always = [\"shared\"]");
    let sandbox = Sandbox::new(job.check(
        "whole",
        &["sh", "-c", CHECK],
        "when = [\"landing\"]\ncache = false",
    ));
    sandbox.script("alpha", "edit alpha good; edit shared alpha");
    sandbox.script("default", &behind_alpha("good"));
    // The last task of the queue.
    let last =
        "while [ ! -e \"$HOME/last\" ]; do sleep 0.02; done; edit zeta good; edit shared zeta";
    sandbox.script("zeta.1", last);
    sandbox.script(
        "zeta.2",
        "expect_feedback '`shared`'; git rev-list --count HEAD >\"$HOME/line\"; edit zeta good",
    );
    let run = sandbox.spawn(&["start", "--jobs", "6"]);
    sandbox.await_sign("judging");
    let queued = |task: &str| sandbox.task(task)["state"] == "queued";
    sandbox.await_that("the others", || TASKS[..5].iter().all(|task| queued(task)));
    sandbox.give_sign("last");
    sandbox.await_that("the last", || queued("zeta"));
    sandbox.give_sign("free");
    run.wait().exits(0);
    Claim::all(&sandbox).holds();
    let line = std::fs::read_to_string(sandbox.sign("line")).unwrap();
    let line: u32 = line.trim().parse().unwrap();
    assert!(line < 2 + 4, "it began again when all the others had landed: {line}");
}

#[test]
fn verdict_of_changed_checks_is_not_reused() {
    let closed = r#"pre-land = ["sh", "-c", "test -e \"$HOME/open\""]"#;
    let job = TestJob::bare(&["alpha"])
        .check("whole", &["sh", "-c", "! grep -n BAD alpha"], "when = [\"landing\"]")
        .set("queue", closed)
        .set("retry", "feedback = 0");
    let sandbox = Sandbox::new(job);
    sandbox.script("default", "edit alpha SHUNNED");
    sandbox.run(&["start"]).exits(3);
    assert_eq!(sandbox.task("alpha")["state"], "queued");
    // The tree has passed and waits. Then the job gets another check.
    let text = std::fs::read_to_string(sandbox.repo.join("harness.toml")).unwrap();
    sandbox.write("harness.toml", &text.replace("BAD", "SHUNNED"));
    sandbox.give_sign("open");
    sandbox.run(&["start"]).exits(1);
    assert_eq!(sandbox.task("alpha")["state"], "failed");
    Claim::all(&sandbox).landed(&[]);
}

#[test]
fn pre_land_hook_holds_and_post_land_hook_reports() {
    let before = r#"if [ ! -e "$HOME/open" ]; then echo closed today; exit 1; fi"#;
    let after = r#"echo "$HARNESS_TARGET $HARNESS_LANDS $(git rev-list --count "$HARNESS_OLD..$HARNESS_NEW")" >>"$HOME/report"; exit 7"#;
    let hook = |script| serde_json::to_string(&["sh", "-c", script]).unwrap();
    let hooks = format!("pre-land = {}\npost-land = {}", hook(before), hook(after));
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]).set("queue", &hooks));
    screen_without_progress(&sandbox, "start_hook_holds", &["start", "--jobs", "1"]);
    assert_eq!(sandbox.task("alpha")["state"], "queued", "nobody is to blame");
    sandbox.give_sign("open");
    sandbox.run(&["start", "--jobs", "1"]).exits(0).says("after the landing: ").says("exit 7");
    Claim::all(&sandbox).holds();
    let report = std::fs::read_to_string(sandbox.sign("report")).unwrap();
    assert_eq!(report, "refs/heads/harness/job-1/result job-1/alpha job-1/beta 2\n");
}

#[test]
fn bisect_splits_a_screened_group_that_fails_on_the_new_tip() {
    let check = "! { grep -q good alpha && grep -q good delta; }";
    let job = TestJob::bare(&["alpha", "beta", "gamma", "delta"])
        .set("queue", "ahead = 3\nbatch = 2\nreview = \"required\"")
        .check("together", &["sh", "-c", check], "when = [\"landing\"]\ncache = false");
    let sandbox = Sandbox::new(job);
    sandbox.script("default", "edit \"$HARNESS_TASK\" good");
    for (task, other) in [("alpha", "delta"), ("delta", "alpha")] {
        let report = format!("expect_feedback together; edit {task} 'goes with {other}'");
        sandbox.script(&format!("{task}.2"), &report);
    }
    // All four are queued at the same moment. The order of the two that fail together does not
    // matter.
    sandbox.run(&["start"]).exits(3);
    sandbox.run(&["approve", "--all"]).exits(0);
    sandbox.run(&["start"]).exits(3);
    sandbox.run(&["approve", "--all"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn rename_on_the_target_takes_the_changes_of_tasks_along() {
    let job = TestJob::new(&["alpha", "beta"])
        .set("job", "target = \"harness/trunk\"")
        .set("queue", "review = \"required\"");
    let mut sandbox = Sandbox::new(job);
    let long: String = (0..40).map(|n| format!("line {n}\n")).collect();
    sandbox.write("alpha", &long);
    sandbox.git(&["add", "alpha"]);
    sandbox.git(&["commit", "--quiet", "--message", "a long file"]);
    sandbox.git(&["branch", "harness/trunk"]);
    sandbox.remember();
    sandbox.script("alpha", "printf 'line 0, changed\\n' | cat - alpha > new; mv new alpha");
    sandbox.run(&["start"]).exits(3);
    sandbox.git(&["mv", "alpha", "renamed"]);
    sandbox.git(&["commit", "--quiet", "--message", "renamed"]);
    sandbox.git(&["branch", "--force", "harness/trunk", "main"]);
    sandbox.base = sandbox.git(&["rev-parse", "HEAD"]);
    sandbox.remember();
    sandbox.run(&["approve", "--all"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.task("alpha")["attempts"], 1);
    let landed = sandbox.git(&["show", "harness/trunk:renamed"]);
    assert_eq!(landed, format!("line 0, changed\n{}", long.trim_end()));
}

#[test]
fn uncached_verdict_is_not_reused_for_the_same_tree() {
    let check =
        "grep -q good alpha || exit 0; [ -e \"$HOME/up\" ] || { echo 'the base is down'; exit 1; }";
    let job = TestJob::bare(&["alpha", "beta"]).check(
        "base",
        &["sh", "-c", check],
        "when = [\"landing\"]\ncache = false",
    );
    let sandbox = Sandbox::new(job);
    // One supervisor runs all attempts.
    sandbox.script("beta", "wait_for \"$HOME/up\"; edit beta good");
    sandbox.script("alpha", "edit alpha good");
    sandbox.script("alpha.2", ": >\"$HOME/up\"; edit alpha good");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.task("alpha")["attempts"], 2);
}
