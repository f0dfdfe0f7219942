//! Agents with sessions. The scripted agent prints the events of the preset `codex`.

use serde_json::{Value, json};

use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::{screen, screen_without_progress};

/// First events of a session.
const BEGIN: &str = r#"
echo "$*" >>"$HOME/calls.$HARNESS_TASK"
echo '{"type":"thread.started","thread_id":"thread-of-'"$HARNESS_TASK"'"}'
echo '{"type":"turn.started"}'
echo '{"type":"item.completed","item":{"id":"i0","type":"agent_message","text":"at work"}}'
"#;

/// Last events of a successful session, with the tokens of its whole thread.
fn end(input: u32, output: u32) -> String {
    let usage = json!({"input_tokens": input, "cached_input_tokens": 10, "output_tokens": output});
    format!("echo '{}'", json!({"type": "turn.completed", "usage": usage}))
}

/// Last events of a failed session with this error text.
fn failure(words: &str) -> String {
    let event = json!({"type": "turn.failed", "error": {"message": words}});
    format!("echo '{event}'\nexit 1")
}

fn job(tasks: &[&str]) -> TestJob {
    TestJob::new(tasks).set("agent", "preset = \"codex\"")
}

fn script(sandbox: &Sandbox, name: &str, parts: &[&str]) {
    sandbox.script(name, &format!("{BEGIN}{}", parts.join("\n")));
}

fn calls(sandbox: &Sandbox, task: &str) -> Vec<String> {
    let path = sandbox.sign(&format!("calls.{task}"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Returns the times of all events of a kind, in milliseconds.
fn moments(sandbox: &Sandbox, chains: &str, event: &str) -> Vec<u64> {
    let only = |key: &str| format!("%(trailers:key=Harness-{key},valueonly,separator=%x2c)");
    let format = format!("--format={} {}", only("Event"), only("At"));
    let text = sandbox.git(&["log", &format, &format!("--glob=refs/harness/{chains}")]);
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let found = lines.filter(|(e, _)| *e == event).map(|(_, at)| at.parse().unwrap());
    let mut found: Vec<u64> = found.collect();
    found.sort_unstable();
    found
}

#[test]
fn crashed_session_resumes_in_the_same_worktree() {
    let sandbox = Sandbox::new(job(&["alpha"]));
    script(&sandbox, "alpha.1", &["echo half >alpha", "pwd >\"$HOME/place\"", "kill -9 $$"]);
    let there =
        "[ \"$(cat alpha)\" = half ] && [ \"$(pwd)\" = \"$(cat \"$HOME/place\")\" ] || exit 3";
    script(&sandbox, "alpha.2", &[there, "echo whole >>alpha", &end(300, 30)]);
    sandbox.run(&["start"]).exits(0).says("resume");
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("alpha"), "half\nwhole");
    let calls = calls(&sandbox, "alpha");
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls[0].starts_with("exec --json") && !calls[0].contains("thread-of"), "{calls:?}");
    assert!(calls[1].starts_with("exec resume") && calls[1].contains("thread-of-alpha"));
    let task = sandbox.task("alpha");
    assert_eq!(task["tokens"]["output"], 30, "{task}");
    screen(&sandbox, "show_prompt_resumed", &["show", "alpha", "--prompt"]);
}

#[test]
fn crashed_session_with_a_nested_repository_resumes() {
    let sandbox = Sandbox::new(job(&["alpha"]));
    script(&sandbox, "alpha.1", &["echo half >alpha", "git init -q nested", "kill -9 $$"]);
    script(&sandbox, "alpha.2", &["[ ! -e nested ] || exit 3", "echo whole >alpha", &end(300, 30)]);
    sandbox.run(&["start"]).exits(0).says("resume");
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("alpha"), "whole");
    assert!(calls(&sandbox, "alpha")[1].starts_with("exec resume"));
}

#[test]
fn cumulative_tokens_of_a_resumed_session_count_once() {
    let sandbox = Sandbox::new(job(&["alpha"]).set("retry", "feedback = 2"));
    let lost = failure("stream disconnected before completion: error sending request");
    // The session reports its tokens, loses its service, resumes, and reports those of the whole
    // thread.
    script(&sandbox, "alpha.1", &["echo one >alpha", &end(130, 7), &lost]);
    script(&sandbox, "alpha.2", &["echo two >>alpha", &end(390, 21)]);
    sandbox.run(&["start"]).exits(0);
    let status = sandbox.status();
    let total = ["input", "output", "cache_read"].map(|k| status["tokens"][k].as_u64().unwrap());
    assert_eq!((total[0] + total[2], total[1]), (390, 21), "{status}");
    assert_eq!(status["cost_usd"], Value::Null);
}

#[test]
fn resume_after_sigkill_keeps_the_session() {
    let sandbox = Sandbox::new(job(&["alpha"]));
    script(&sandbox, "alpha.1", &["echo half >alpha", "touch \"$HOME/there\"", "sleep 600"]);
    script(&sandbox, "alpha.2", &["echo whole >>alpha", &end(50, 5)]);
    let supervisor = sandbox.spawn(&["start"]);
    sandbox.await_sign("there");
    // The keeper must have read the session's id before the kill.
    let heard = sandbox.repo.join(".git/harness/runs/job-1/attempts/alpha.1/session");
    sandbox.await_that("the session's id", || heard.exists());
    supervisor.signal(rustix::process::Signal::KILL);
    for pid in sandbox.keepers() {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
    drop(supervisor.wait());
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
    assert_eq!(sandbox.landed("alpha"), "half\nwhole");
    assert!(calls(&sandbox, "alpha")[1].contains("resume"));
}

#[test]
fn quota_pauses_all_starts_until_it_lifts_and_charges_no_task() {
    let tasks = ["alpha", "beta", "gamma", "delta"];
    let job = job(&tasks).set("limits", "jobs = 2").set("retry", "feedback = 0");
    let sandbox = Sandbox::new(job);
    // The error names no reset time, so the account pauses for a back-off. No other attempt has
    // started, since no answer has confirmed the account.
    let limit = "exceeded retry limit, last status: 429 Too Many Requests";
    sandbox.script("alpha.1", &failure(limit));
    script(&sandbox, "default", &["echo done >\"$HARNESS_TASK\"", &end(10, 1)]);
    sandbox.run(&["start"]).exits(0).says("no agent starts").says("429");
    Claim::all(&sandbox).holds();
    let started = moments(&sandbox, "tasks/job-1", "started");
    let account = sandbox.git(&["log", "--format=%B", "refs/harness/runs/job-1"]);
    let closed = account.lines().find_map(|line| {
        let data: Value = serde_json::from_str(line.strip_prefix("Harness-Data: ")?).ok()?;
        (data["event"] == "account" && data["proven"] == false)
            .then(|| data["closed_until"].clone())
    });
    let until = closed.unwrap().as_u64().unwrap();
    let ended = moments(&sandbox, "tasks/job-1", "retried")[0];
    let early: Vec<_> = started.iter().filter(|at| **at > ended && **at < until).collect();
    assert!(early.is_empty(), "started while the account was closed: {early:?}");
    assert_eq!(started.iter().filter(|at| **at >= until).count(), 4, "{started:?} {until}");
    assert_eq!(sandbox.task("alpha")["attempts"], 2);
}

#[test]
fn refused_account_halts_the_run_before_a_second_task() {
    let sandbox = Sandbox::new(job(&["alpha", "beta", "gamma"]));
    let refused = failure("unexpected status 401 Unauthorized: no such key");
    sandbox.script("default", &format!("sleep 0.3\n{refused}"));
    screen_without_progress(&sandbox, "start_account_refused", &["start"]);
    assert_eq!(moments(&sandbox, "tasks/job-1", "started").len(), 1);
    assert_eq!(sandbox.status()["halt"], "agent");
    sandbox.script("default", &format!("{BEGIN}echo done >\"$HARNESS_TASK\"\n{}", end(1, 1)));
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn task_that_exceeds_the_context_window_is_split() {
    let job = job(&["alpha", "beta", "gamma"]).set("plan", "group = \"directory\"");
    let sandbox = Sandbox::new(job);
    let full = failure("Codex ran out of room in the context window of the model.");
    let all = format!("[ -z \"${{HARNESS_TASK##*part*}}\" ] || {{\n{full}\n}}");
    let some = "for f in alpha beta gamma; do\n\
                if grep -q \"\\`$f\\`\" \"$HARNESS_PROMPT_FILE\"; then echo done >$f; fi\ndone";
    script(&sandbox, "default", &[&all, some, &end(5, 5)]);
    sandbox.run(&["start"]).exits(0);
    let status = sandbox.status();
    assert_eq!(status["tasks"].as_array().unwrap().len(), 3, "{status}");
    assert_eq!((&status["counts"]["done"], &status["counts"]["skipped"]), (&2.into(), &1.into()));
    for file in ["alpha", "beta", "gamma"] {
        assert_eq!(sandbox.landed(file), "done");
    }
    // Parts survive a replan.
    let text = std::fs::read_to_string(sandbox.repo.join("harness.toml")).unwrap();
    let text = text.replace("group = \"directory\"", "group = \"directory\"\nmax-lines = 2000");
    sandbox.write("harness.toml", &text);
    screen_without_progress(&sandbox, "start_replanned_after_a_split", &["start"]);
    assert_eq!(sandbox.status()["counts"], status["counts"]);
}

/// Findings count for the size of a prompt: a task that fitted at first is split before the next
/// session is paid for.
#[test]
fn task_whose_feedback_exceeds_the_window_is_split_before_the_retry() {
    let noise = "if grep -q BAD *.txt; then seq 1 3000 | tr '\\n' ';'; exit 1; fi";
    let job = TestJob::bare(&["a.txt", "b.txt"])
        .set("plan", "group = \"directory\"\ncontext-window = 3_400\nfill = 0.3")
        .set("retry", "redispatch = 0\nhalt-above = 1")
        .check("quiet", &["sh", "-c", noise], "");
    let sandbox = Sandbox::new(job);
    let tasks: Value =
        serde_json::from_str(&sandbox.run(&["plan", "--json"]).exits(0).stdout).unwrap();
    let whole = tasks["tasks"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(tasks["tasks"].as_array().unwrap().len(), 1, "{tasks}");
    sandbox.script(&format!("{whole}.1"), "echo BAD >a.txt; echo BAD >b.txt");
    for part in ["1", "2"] {
        let file = if part == "1" { "a.txt" } else { "b.txt" };
        sandbox.script(&format!("{whole}_part_{part}"), &format!("echo good >{file}"));
    }
    let output = sandbox.run(&["start"]).exits(0);
    assert!(output.stderr.contains("is split into"), "{}", output.stderr);
    let status = sandbox.status();
    let of = |id: &str| {
        let tasks = status["tasks"].as_array().unwrap();
        tasks.iter().find(|t| t["id"] == id).unwrap().clone()
    };
    assert_eq!(of(&whole)["state"], "skipped");
    assert_eq!((sandbox.landed("a.txt"), sandbox.landed("b.txt")), ("good".into(), "good".into()));
    // The second attempt of the whole task started no session.
    assert!(sandbox.git(&["for-each-ref", "refs/harness/attempts"]).is_empty());
    assert_eq!(
        (of(&whole)["attempts"].clone(), of(&whole)["class"].clone()),
        (2.into(), "context_exceeded".into())
    );
}

#[test]
fn status_compares_planned_and_reported_tokens() {
    let sandbox = Sandbox::new(
        job(&["alpha", "beta"]).set("plan", "context-window = 100_000\ntoken-factor = 1.5"),
    );
    for task in ["alpha", "beta"] {
        script(&sandbox, task, &[&format!("echo good >{task}"), &end(9_000, 50)]);
    }
    assert!(!sandbox.run(&["start", "--paused"]).exits(0).stdout.contains("token-factor"));
    assert!(sandbox.status()["measured"].is_null());
    sandbox.run(&["start"]).exits(0);
    let measured = sandbox.status()["measured"].clone();
    assert_eq!(measured["reported"], 2 * (9_000 - 10));
    let planned = measured["planned"].as_f64().unwrap();
    let factor = 1.5 * 17_980.0 / planned;
    assert!((measured["token_factor"].as_f64().unwrap() - factor).abs() < 0.01, "{measured}");
    sandbox.run(&["status"]).exits(0).says("would have matched (it was 1.50)");
}

#[test]
fn closed_account_is_listed_named_by_start_and_opened() {
    let sandbox = Sandbox::new(job(&["alpha", "beta"]));
    sandbox.run(&["accounts"]).exits(0).says("no account is closed");
    let limit = "The usage limit is reached. Please try again in 3 hours.";
    sandbox.script("default", &failure(limit));
    let accounts = || -> Value {
        let listed = sandbox.run(&["accounts", "--json"]).exits(0);
        serde_json::from_str::<Value>(&listed.stdout).unwrap()["accounts"].clone()
    };
    let supervisor = sandbox.spawn(&["start"]);
    sandbox.await_that("the closed account", || accounts()[0]["name"] == "codex");
    supervisor.signal(rustix::process::Signal::INT);
    drop(supervisor.wait());
    let account = accounts()[0].clone();
    assert_eq!((&account["run"], &account["sessions"]), (&json!("job-1"), &json!("agent")));
    assert!(account["because"].as_str().unwrap().contains("usage limit"), "{account}");
    script(&sandbox, "default", &["echo done >\"$HARNESS_TASK\"", &end(10, 1)]);
    sandbox.run(&["start", "--detach"]).exits(0).says("the account of `codex` is closed");
    sandbox.run(&["accounts", "open", "claude"]).exits(128).says("no account of `claude`");
    sandbox.run(&["accounts", "open", "codex"]).exits(0).says("the account of `codex` is open");
    sandbox.await_that("the end of the run", || sandbox.status()["counts"]["done"] == 2);
    assert_eq!(accounts(), json!([]));
}

#[test]
fn limit_of_a_preset_does_not_stop_a_run_that_was_changed_to_another_program() {
    let sandbox = Sandbox::new(job(&["alpha"]));
    sandbox.script("default", &failure("The usage limit is reached. Try again in 3 hours."));
    let supervisor = sandbox.spawn(&["start"]);
    sandbox
        .await_that("the closed account", || sandbox.run(&["accounts"]).stdout.contains("codex"));
    supervisor.signal(rustix::process::Signal::INT);
    drop(supervisor.wait());
    sandbox.script("default", "echo done >\"$HARNESS_TASK\"");
    let changed = TestJob::new(&["alpha"]);
    let scripts = sandbox.root().join("scripts");
    sandbox.write("harness.toml", &changed.text(&scripts.to_string_lossy()));
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.landed("alpha"), "done");
}

#[test]
fn refused_session_fails_its_own_task_and_the_others_land() {
    let job = job(&["alpha", "beta", "gamma"])
        .set("retry", "feedback = 1\nredispatch = 0")
        .set("limits", "jobs = 1");
    let sandbox = Sandbox::new(job);
    let refused =
        failure("400 messages.5.content.1.image.source.base64: image exceeds 5 MB maximum");
    script(&sandbox, "beta", &[&refused]);
    script(&sandbox, "default", &["echo done >\"$HARNESS_TASK\"", &end(10, 1)]);
    sandbox.run(&["start"]).exits(1).says("image exceeds 5 MB");
    let status = sandbox.status();
    assert_eq!((&status["counts"]["done"], &status["counts"]["failed"]), (&2.into(), &1.into()));
    assert!(status["halt"].is_null(), "{status}");
    assert_eq!(calls(&sandbox, "beta").len(), 2);
}

#[test]
fn silent_agent_halts_the_run_after_two_attempts() {
    let sandbox = Sandbox::new(job(&["alpha", "beta", "gamma"]));
    sandbox.script("default", "echo 'cannot open the display' >&2\nexit 1");
    sandbox.run(&["start"]).exits(3).says("cannot open the display");
    assert_eq!(moments(&sandbox, "tasks/job-1", "started").len(), 2);
    assert_eq!(sandbox.status()["halt"], "agent");
}

#[test]
fn agent_that_removes_its_worktree_fails_its_attempt_and_its_usage_is_kept() {
    let sandbox = Sandbox::new(job(&["alpha"]));
    script(&sandbox, "alpha.1", &[&end(1_000, 5), "rm -rf \"$PWD\""]);
    script(&sandbox, "alpha.2", &["echo done >alpha", &end(500, 5)]);
    sandbox.run(&["start"]).exits(0);
    let task = sandbox.task("alpha");
    assert_eq!((&task["state"], &task["attempts"]), (&json!("done"), &json!(2)), "{task}");
    let chain = sandbox.git(&["log", "--format=%B", "--glob=refs/harness/tasks/job-1"]);
    assert!(chain.contains("the agent removed its worktree"), "{chain}");
    sandbox.run(&["show", "alpha", "--transcript", "--attempt", "1"]).exits(0).says("at work");
    assert_eq!(task["tokens"]["input"], 990 + 490, "{task}");
}

#[test]
fn variable_with_a_word_of_the_protocol_as_its_value_does_not_break_the_protocol() {
    let sandbox = Sandbox::new(job(&["alpha"]).set("agent", "env = [\"MODE\", \"LIMIT\"]"));
    script(&sandbox, "default", &["echo done >\"$HARNESS_TASK\"", &end(120_000, 5)]);
    let more = [("MODE", "completed"), ("LIMIT", "120000")];
    sandbox.run_in(&sandbox.repo, &["start"], &more).exits(0);
    assert_eq!(sandbox.task("alpha")["attempts"], 1);
    assert_eq!(sandbox.landed("alpha"), "done");
}
