//! Dependencies between tasks: landing order, blocking, and the sources of edges.

use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::{screen, screen_without_progress};

/// A job of one attempt a task: `c` depends on `b`, `b` on `a`, and `d` on nothing.
fn chain() -> TestJob {
    let tasks = "group = \"list\"\n\
        [[plan.task]]\nid = \"a\"\nfiles = [\"a\"]\n\
        [[plan.task]]\nid = \"b\"\nfiles = [\"b\"]\nafter = [\"a\"]\n\
        [[plan.task]]\nid = \"c\"\nfiles = [\"c\"]\nafter = [\"b\"]\n\
        [[plan.task]]\nid = \"d\"\nfiles = [\"d\"]";
    TestJob::new(&["a", "b", "c", "d"])
        .set("plan", tasks)
        .set("retry", "feedback = 0\nredispatch = 0\nhalt-above = 1.0")
}

/// Returns the tasks in landing order.
fn landed(sandbox: &Sandbox) -> Vec<String> {
    let format = "--format=%(trailers:key=Harness-Task,valueonly,separator=)";
    let log = sandbox.git(&["log", "--reverse", "--first-parent", format, "harness/job-1/result"]);
    log.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

fn states(sandbox: &Sandbox) -> String {
    let status = sandbox.status();
    let tasks = status["tasks"].as_array().unwrap();
    let word = |t: &serde_json::Value| t["state"].as_str().unwrap().to_owned();
    tasks.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn task_starts_after_its_dependencies_have_landed() {
    let sandbox = Sandbox::new(chain());
    for (task, before) in [("b", "a"), ("c", "b")] {
        sandbox.script(task, &format!("grep -q done {before} && edit {task} done"));
    }
    sandbox.script("default", "edit \"$HARNESS_TASK\" done");
    sandbox.run(&["start", "--jobs", "4"]).exits(0);
    let order: Vec<_> = landed(&sandbox).into_iter().filter(|t| t != "d").collect();
    assert_eq!(order, ["a", "b", "c"]);
    Claim::all(&sandbox).holds();
}

/// Runs the chain with a failing `a`.
fn failed() -> Sandbox {
    let sandbox = Sandbox::new(chain());
    sandbox.script("a", "edit a BAD");
    sandbox.run(&["start"]).exits(1);
    sandbox
}

#[test]
fn failed_task_blocks_its_dependents_and_halts_the_run() {
    let sandbox = failed();
    assert_eq!(states(&sandbox), "failed done blocked blocked");
    let status = sandbox.status();
    assert_eq!(status["state"], "halted");
    assert_eq!(status["counts"]["blocked"], 2);
    assert!(status["reason"].as_str().unwrap().contains("2 tasks"), "{status}");
    let reason = sandbox.task("c")["reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("waits for `a`, which failed: `no-bad`"), "{reason}");
    sandbox.run(&["status"]).exits(0);
    sandbox.run(&["status", "--exit-code"]).exits(1);
    let attempts = |task: &str| sandbox.task(task)["attempts"].clone();
    assert_eq!((attempts("b"), attempts("c")), (0.into(), 0.into()));
    // A second start finds nothing to do and returns at once.
    screen(&sandbox, "poll_blocked", &["poll"]);
    screen_without_progress(&sandbox, "start_again_blocked", &["start"]);
    assert_eq!((attempts("a"), attempts("b")), (1.into(), 0.into()));
    Claim::all(&sandbox).landed(&["d"]).holds();
}

#[test]
fn retry_of_a_failed_task_unblocks_its_dependents() {
    let sandbox = failed();
    sandbox.script("a", "edit a good");
    sandbox.run(&["retry", "a"]).exits(0);
    assert_eq!(states(&sandbox), "todo done blocked blocked");
    assert_eq!(sandbox.task("b")["reason"], serde_json::Value::Null);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(landed(&sandbox), ["d", "a", "b", "c"]);
    Claim::all(&sandbox).holds();
}

#[test]
fn keep_going_starts_blocked_tasks() {
    let sandbox = failed();
    sandbox.run(&["start", "--keep-going"]).exits(1);
    assert_eq!(states(&sandbox), "failed done done done");
    assert_eq!(landed(&sandbox), ["d", "b", "c"]);
    assert_eq!(sandbox.status()["state"], "ended");
    Claim::all(&sandbox).landed(&["b", "c", "d"]).holds();
}

#[test]
fn skipped_and_unselected_tasks_block_their_dependents() {
    let sandbox = Sandbox::new(chain());
    screen_without_progress(&sandbox, "start_only_a_blocked_task", &["start", "--only", "c"]);
    sandbox.run(&["skip", "b", "-m", "not today"]).exits(0);
    screen_without_progress(&sandbox, "start_blocked_by_a_skipped_task", &["start"]);
    assert_eq!(states(&sandbox), "done done skipped blocked");
    sandbox.run(&["skip", "c", "-m", "nor this"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).landed(&["a", "d"]).holds();
}

#[test]
fn redispatch_retries_a_blocking_task_before_the_halt() {
    let job = chain()
        .only("retry", "feedback = 0\nredispatch = 1\nredispatch-below = 0.9\nhalt-above = 1.0");
    let sandbox = Sandbox::new(job);
    sandbox.script("a.1", "edit a BAD");
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.task("a")["attempts"], 2);
    Claim::all(&sandbox).holds();
}

#[test]
fn plan_command_output_is_pinned_with_the_run() {
    let command =
        "group = \"command\"\norder = \"priority\"\ncommand = [\"sh\", \"tasks.sh\", \"{base}\"]";
    let job = TestJob::new(&["a", "b"])
        .set("plan", command)
        .set("worktree", "setup = [[\"touch\", \"made\"]]");
    let sandbox = Sandbox::new(job);
    // The command's script is not committed. The command runs after the setup and sees the base
    // commit,
    sandbox.write(
        "tasks.sh",
        "test -f made && test \"$(cat README)\" = \"a file of no task\" && test -n \"$1\" || exit 3\n\
         echo '{\"id\": \"a\", \"files\": [\"a\"], \"vars\": {\"tone\": \"calm\"}}'\n\
         echo '{\"id\": \"b\", \"files\": [\"b\"], \"priority\": 7}'\n",
    );
    sandbox.remember();
    let first = sandbox.run(&["plan", "--json"]).exits(0).stdout;
    assert_eq!(first, sandbox.run(&["plan", "--json"]).exits(0).stdout);
    let plan: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!((&plan["tasks"][0]["id"], &plan["tasks"][1]["id"]), (&"b".into(), &"a".into()));
    sandbox.run(&["start"]).exits(0);
    let output = sandbox.git(&["show", "refs/harness/runs/job-1:plan-inputs/tasks.jsonl"]);
    assert!(output.contains("\"priority\": 7"), "{output}");
    assert_eq!(sandbox.git(&["worktree", "list"]).matches("planning").count(), 0);
    Claim::all(&sandbox).holds();

    sandbox.write("tasks.sh", "echo broken >&2; exit 4\n");
    screen(&sandbox, "plan_command_fails", &["plan"]);
    sandbox.write("tasks.sh", "echo nonsense\n");
    screen(&sandbox, "plan_command_prints_nonsense", &["plan"]);
    assert_eq!(sandbox.git(&["worktree", "list"]).matches("planning").count(), 0);
}

#[test]
fn external_edges_order_files_of_any_kind() {
    let edges = "order = \"dependency\"\nedges = [\"cat\", \"edges.json\"]";
    let sandbox = Sandbox::new(TestJob::new(&["a", "b"]).set("plan", edges));
    sandbox.write("edges.json", "{\"a\": [\"b\"]}");
    sandbox.remember();
    screen(&sandbox, "plan_external_edges", &["plan"]);
    screen(&sandbox, "plan_external_edges_dot", &["plan", "--dot"]);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(landed(&sandbox), ["b", "a"]);
    sandbox.git(&["cat-file", "-e", "refs/harness/runs/job-1:plan-inputs/edges.json"]);
}

#[test]
fn imports_order_a_run_and_the_second_plan_uses_the_cache() {
    let job = TestJob::bare(&["main.py", "lib.py"]).set("plan", "order = \"dependency\"");
    let sandbox = Sandbox::new(job);
    sandbox.write("main.py", "import lib\n");
    sandbox.write("lib.py", "x = 1\n");
    sandbox.git(&["commit", "--quiet", "--all", "--message", "an import"]);
    sandbox.remember();
    let plan = || sandbox.run(&["plan", "--json"]).exits(0).stdout;
    let first = plan();
    assert!(first.contains("\"after\":[\"lib_dot_py\"]"), "{first}");
    let cache = sandbox.repo.join(".git/harness/plan-cache");
    let kept = std::fs::read(&cache).unwrap();
    assert_eq!(plan(), first);
    assert_eq!(std::fs::read(&cache).unwrap(), kept);
    std::fs::write(&cache, "nonsense").unwrap();
    assert_eq!(plan(), first);
    sandbox.script(
        "default",
        "for f in main lib; do case $HARNESS_TASK in $f*) echo '# done' >>$f.py;; esac; done",
    );
    sandbox.run(&["start"]).exits(0);
    assert_eq!(landed(&sandbox), ["lib_dot_py", "main_dot_py"]);
}
