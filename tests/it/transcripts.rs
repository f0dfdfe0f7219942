//! Transcripts: redacted, readable, and followed while the agent writes.

use std::path::Path;

use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::screen;

const VALUE: &str = "a-\"secret\"-value-0123";
const TOKEN: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

/// Collects the files below a folder that contain `what`.
fn files_with(folder: &Path, what: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            files_with(&path, what, found);
        } else if std::fs::read(&path)
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(what))
        {
            found.push(path.display().to_string());
        }
    }
}

#[track_caller]
fn assert_nowhere(sandbox: &Sandbox) {
    let base64 = sandbox.sign("base64");
    let base64 = std::fs::read_to_string(base64).unwrap();
    let json = serde_json::to_string(VALUE).unwrap();
    for secret in [VALUE, json.trim_matches('"'), base64.trim(), TOKEN] {
        let mut found = Vec::new();
        files_with(&sandbox.repo.join(".git/harness"), secret, &mut found);
        assert_eq!(found, Vec::<String>::new(), "{secret} is on the disk");
    }
}

#[test]
fn redacted_secrets_never_reach_the_disk() {
    let check = "echo \"the check knows $(cat \"$HOME/token\")\"; ! grep -q half alpha";
    let job = TestJob::bare(&["alpha"])
        .only("job", "name = \"job\"\ngoal = \"Use sk-ant-fake-000 for it.\"")
        .set("agent", "env = [\"MY_KEY\"]")
        .set("worktree", "setup = [[\"sh\", \"-c\", \"echo setup has $MY_KEY\"]]")
        .check("not-half", &["sh", "-c", check], "");
    let sandbox = Sandbox::new(job);
    std::fs::write(sandbox.sign("token"), TOKEN).unwrap();
    // The agent prints a secret in two parts with a pause between them.
    sandbox.script(
        "alpha.1",
        r#"printf %s "$MY_KEY" | base64 >"$HOME/base64"
           json=$(printf %s "$MY_KEY" | sed 's/"/\\"/g')
           say "it is $MY_KEY, {\"key\":\"$json\"}"; cat "$HOME/base64" >&2
           printf 'in two: %s' "${MY_KEY%value*}"; : >"$HOME/half"; wait_for "$HOME/on"
           printf 'value-0123 and that is all\n'; : >"$HOME/said"; wait_for "$HOME/go"
           edit alpha half"#,
    );
    let second = "expect_feedback '[redacted]'; edit alpha \"two $(cat \"$HOME/token\")\"";
    sandbox.script("alpha.2", second);
    let mut run = sandbox.spawn_with(&["start"], &[("MY_KEY", VALUE)]);
    sandbox.await_sign("half");
    assert_nowhere(&sandbox);
    sandbox.give_sign("on");
    sandbox.await_sign("said");
    assert_nowhere(&sandbox);
    assert!(!run.has_ended());
    sandbox.give_sign("go");
    run.wait().exits(0);
    assert_nowhere(&sandbox);
    let all = sandbox.git(&["cat-file", "--batch", "--batch-all-objects", "--buffer"]);
    assert!(!all.contains("secret"), "the value is in an object");
    let output = sandbox.run(&["show", "alpha", "--transcript", "--attempt", "1"]).exits(0);
    assert!(output.stdout.contains("it is [redacted], {\"key\":\"[redacted]\"}"), "{output}");
    assert!(output.stdout.contains("in two: [redacted] and that is all"), "{output}");
    let prompt = sandbox.run(&["show", "alpha", "--prompt"]).exits(0);
    assert!(prompt.stdout.contains("the check knows [redacted]"), "{prompt}");
    assert!(prompt.stdout.contains("Use [redacted] for it."), "{prompt}");
    assert_eq!(sandbox.landed("alpha"), format!("two {TOKEN}"));
    Claim::all(&sandbox).holds();
}

/// First events of a `claude` session.
const EVENTS: &str = r#"
    say '{"type":"system","subtype":"init","session_id":"5e55","model":"m-1"}'
    say '{"type":"assistant","message":{"content":[{"type":"text","text":"I will \u001b[31mlook\u001b[0m."}]}}'
    say '{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Bash","input":{"command":"ls"}}]}}'
"#;

/// Last events of a `claude` session.
const LAST: &str = r#"
    say '{"type":"user","message":{"content":[{"type":"tool_result","content":"a\nb"}]}}'
    echo 'a warning' >&2; printf 'no \a bell, no \033]0;title\a' >&2
    say '{"type":"result","subtype":"success","result":"Done.","num_turns":2,"usage":{"input_tokens":1300}}'
    edit "$HARNESS_TASK" done
"#;

const TOLD: &str = "note    session 5e55, m-1\nagent   I will look.\ntool    Bash  ls\n";
const TOLD_LAST: &str = "result  a\n        b\nagent   Done.\nend     success: 2 turns, 1,300 in\n";

#[test]
fn log_follow_streams_a_running_attempt() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]));
    let alpha = format!("{EVENTS} : >\"$HOME/up\"; wait_for \"$HOME/go\"; {LAST}");
    sandbox.script("alpha", &alpha);
    sandbox.script("beta", &format!("{EVENTS} {LAST}"));
    let run = sandbox.spawn(&["start", "--jobs", "1"]);
    sandbox.await_sign("up");
    let follower = sandbox.spawn(&["log", "-f", "alpha"]);
    let waiting = sandbox.spawn(&["log", "-f", "job-1/beta", "--json"]);
    sandbox.await_that("the first words", || follower.stdout() == TOLD);
    sandbox.await_that("the wait", || waiting.stderr().contains("waiting for the next"));
    // The transcript so far, and `log -f` without a task.
    screen(&sandbox, "show_transcript_running", &["show", "alpha", "--transcript"]);
    screen(&sandbox, "log_follow_without_a_task", &["log", "-f"]);
    sandbox.give_sign("go");
    let output = follower.wait().exits(0);
    // The order of the two streams at the end is not defined.
    let (out, err): (Vec<_>, Vec<_>) =
        output.stdout.lines().partition(|line| !line.starts_with("stderr"));
    assert_eq!(out.join("\n") + "\n", format!("{TOLD}{TOLD_LAST}"));
    assert_eq!(err, ["stderr  a warning", "stderr  no \\u{7} bell, no "]);
    let end = "attempt 1 of `job-1/alpha`:\nalpha: attempt 1 exit 0";
    assert!(output.stderr.starts_with(end), "{output}");
    let output = waiting.wait().exits(0);
    let lines: Vec<serde_json::Value> =
        output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[1]["kind"], "agent", "{output}");
    assert!(lines.iter().any(|line| line["stream"] == "stderr"), "{output}");
    let last = lines.last().unwrap();
    assert!(last["ending"].as_str().unwrap().contains("attempt 1 exit 0"), "{output}");
    run.wait().exits(0);
    screen(&sandbox, "log_follow_done", &["log", "--follow", "alpha"]);
    Claim::all(&sandbox).holds();
}

#[test]
fn log_follow_of_a_paused_run_is_refused() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    sandbox.run(&["start", "--paused"]).exits(0);
    screen(&sandbox, "log_follow_paused", &["log", "-f", "alpha"]);
    screen(&sandbox, "log_follow_nothing_runs", &["log", "-f"]);
    screen(&sandbox, "show_transcript_none", &["show", "alpha", "--transcript"]);
}

#[test]
fn show_transcript_renders_recorded_events() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    sandbox.script("alpha", &format!("{EVENTS} {LAST}"));
    sandbox.run(&["start"]).exits(0);
    let output = sandbox.run(&["show", "alpha", "--transcript"]).exits(0);
    let err = "stderr  a warning\nstderr  no \\u{7} bell, no \n";
    assert_eq!(output.stdout, format!("{TOLD}{TOLD_LAST}{err}"));
    let output = sandbox.run(&["show", "alpha", "--transcript", "--json"]).exits(0);
    let value: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&value["v"], &value["attempt"]), (&1.into(), &1.into()));
    let tool = serde_json::json!({"kind": "tool", "text": "Bash  ls"});
    assert_eq!(value["stdout"][2], tool);
    assert_eq!(value["stderr"][0]["kind"], "text");
    let args = ["show", "alpha", "--transcript", "--attempt", "7"];
    screen(&sandbox, "show_transcript_unknown_attempt", &args);
}
