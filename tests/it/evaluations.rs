//! Jobs with an evaluator: an agent that judges candidates that passed the checks.

use serde_json::json;

use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::screen;

/// Creates a job with the scripted evaluator; `lines` go into its section.
fn judged(tasks: &[&str], lines: &str) -> Sandbox {
    let job = TestJob::new(tasks)
        .set("evaluate", lines)
        .set("retry", "feedback = 2\nredispatch = 0\nhalt-above = 1\ninfra = 2");
    Sandbox::new(job)
}

/// Returns a script that prints an evaluator's answer.
fn says(answer: &serde_json::Value) -> String {
    format!("echo 'Here is what I think.'; echo '{answer}'")
}

fn content() -> String {
    says(&json!({"pass": true, "findings": []}))
}

fn objects(problem: &str) -> String {
    let finding = json!({"file": "alpha", "line": 1, "problem": problem});
    says(&json!({"pass": false, "findings": [finding]}))
}

#[test]
fn evaluator_findings_reach_the_next_attempt_and_its_edits_are_dropped() {
    let sandbox = judged(&["alpha"], "");
    sandbox.script("alpha.1", "edit alpha first");
    sandbox.script(
        "alpha.2",
        "expect_feedback '`alpha:1`: it must say second'\nexpect_brief 'it must say second'\nedit alpha second",
    );
    // The evaluator sees the candidate in a worktree of its own.
    let looks = "[ \"$(cat alpha)\" = first ] || exit 3\nexpect_brief '+first'\nexpect_brief 'no-bad'\n\
                 case $PWD in */e01) ;; *) exit 4 ;; esac\n\
                 edit alpha EVIL; edit beta EVIL; propose EVIL";
    sandbox.script("judges/alpha.1", &format!("{looks}\n{}", objects("it must say second")));
    sandbox.script("judges/alpha.2", &format!("[ -e beta ] && exit 5\n{}", content()));
    let output = sandbox.run(&["start"]).exits(0);
    assert!(
        output.stderr.contains("rejected  alpha: attempt 1, by the evaluator"),
        "{}",
        output.stderr
    );
    assert_eq!(sandbox.landed("alpha"), "second");
    assert!(!sandbox.git(&["ls-tree", "--name-only", "harness/job-1/result"]).contains("beta"));
    Claim::all(&sandbox).holds();

    let status = sandbox.status();
    let task = &status["tasks"][0];
    assert_eq!((&task["attempts"], &task["rounds"]), (&json!(2), &json!(1)));
    // Prompts and outputs of evaluators are kept on the task's chain.
    let tree = sandbox.git(&["ls-tree", "-r", "--name-only", "refs/harness/tasks/job-1/alpha"]);
    for n in ["1", "2"] {
        assert!(tree.contains(&format!("evaluations/{n}/prompt.md")), "{tree}");
    }
    let log = sandbox.run(&["log", "job-1", "alpha"]).exits(0).stdout;
    for sentence in ["the evaluator rejected attempt 1", "the evaluator accepted attempt 2"] {
        assert!(log.contains(sentence), "{log}");
    }
}

#[test]
fn repeated_evaluator_findings_fail_the_task() {
    let sandbox = judged(&["alpha", "beta"], "rounds = 5");
    sandbox.script("default", "edit \"$HARNESS_TASK\" \"attempt $HARNESS_ATTEMPT\"");
    sandbox.script("judges/alpha", &objects("still wrong"));
    sandbox.script("judges/beta", &content());
    sandbox.run(&["start"]).exits(1);
    let status = sandbox.status();
    let reason = "the evaluator reported the same findings twice in a row: still wrong";
    assert_eq!(status["tasks"][0]["reason"], reason);
    assert_eq!(status["counts"]["failed"], 1);
    assert_eq!(status["failures"][0]["cause"], "`evaluate`");
    Claim::all(&sandbox).landed(&["beta"]).holds();
    // A person may retry the task.
    sandbox.script("judges/alpha", &content());
    sandbox.run(&["retry", "alpha"]).exits(0);
    sandbox.run(&["start"]).exits(0);
}

#[test]
fn evaluator_without_an_answer_is_retried_on_the_same_candidate() {
    let sandbox = judged(&["alpha"], "");
    sandbox.script("alpha.1", "edit alpha done");
    let first =
        "[ -e \"$HOME/asked\" ] || { : >\"$HOME/asked\"; echo 'Looks good to me.'; exit 0; }";
    sandbox.script("judges/alpha", &format!("{first}\n{}", content()));
    let output = sandbox.run(&["start"]).exits(0);
    assert!(
        output.stderr.contains("its answer has no JSON object with `pass`"),
        "{}",
        output.stderr
    );
    assert_eq!(sandbox.status()["tasks"][0]["attempts"], 1);
}

#[test]
fn evaluator_that_never_answers_fails_the_task() {
    let sandbox = judged(&["alpha"], "");
    sandbox.script("alpha", "edit alpha done");
    sandbox.script("judges/alpha", &format!("{}\nexit 3", content()));
    sandbox.run(&["start"]).exits(1);
    let status = sandbox.status();
    let reason = "infrastructure, 3 times in a row: the evaluator gave no answer: exit 3";
    assert_eq!(status["tasks"][0]["reason"], reason);
    assert_eq!(
        (&status["tasks"][0]["attempts"], &status["tasks"][0]["state"]),
        (&json!(1), &json!("failed"))
    );
    assert!(status["tasks"][0]["landed"].is_null());
}

#[test]
fn evaluator_sees_report_outputs() {
    let job = TestJob::bare(&["alpha"])
        .set("job", "kind = \"report\"")
        .set("output", "path = \"review.json\"")
        .set("evaluate", "")
        .built_in("handed-in", "output = \"review.json\"");
    let sandbox = Sandbox::new(job);
    sandbox.script("alpha.1", "edit review.json '[\"one\"]'");
    sandbox.script(
        "alpha.2",
        "expect_feedback 'one is missing'\nedit review.json '[\"one\", \"two\"]'",
    );
    sandbox.script(
        "judges/alpha.1",
        &format!("expect_brief '[\"one\"]'\n{}", objects("one is missing")),
    );
    sandbox.script("judges/alpha.2", &content());
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.run(&["collect"]).exits(0).stdout.matches("two").count(), 1);
}

#[test]
fn evaluator_tokens_are_counted_apart_and_its_key_is_redacted() {
    let sandbox =
        judged(&["alpha"], "preset = \"codex\"\nmodel = \"gpt-5\"\nenv = [\"JUDGE_KEY\"]");
    sandbox.script("alpha", "[ -z \"${JUDGE_KEY:-}\" ] || exit 3\nedit alpha done");
    let event = |value: serde_json::Value| format!("echo '{value}'\n");
    let answer = "{\"pass\": true, \"findings\": []} for $JUDGE_KEY";
    let talk = [
        "[ -n \"${JUDGE_KEY:-}\" ] || exit 3\n".to_owned(),
        event(json!({"type": "thread.started", "thread_id": "t"})),
        event(json!({"type": "turn.started"})),
        event(
            json!({"type": "item.completed", "item": {"id": "i", "type": "agent_message", "text": answer}}),
        ),
        event(json!({"type": "turn.completed",
            "usage": {"input_tokens": 700, "cached_input_tokens": 200, "output_tokens": 30}})),
        "echo \"$JUDGE_KEY\" >&2".to_owned(),
    ];
    sandbox.script("judges/alpha", &talk.concat());
    let key = [("JUDGE_KEY", "sk-of-the-judge-0123456789")];
    sandbox.run_in(&sandbox.repo, &["start"], &key).exits(0);
    let status = sandbox.status();
    assert_eq!(status["evaluation"]["tokens"]["input"], 500);
    assert_eq!(status["evaluation"]["tokens"]["output"], 30);
    assert_eq!(status["tokens"]["input"], json!(null), "the agent has said nothing of its own");
    assert!(status["evaluation"]["cost_usd"].as_f64().unwrap() > 0.0);
    screen(&sandbox, "status_evaluators", &["status"]);
    let kept = sandbox.git(&["show", "refs/harness/tasks/job-1/alpha:evaluations/1/stderr"]);
    assert!(!kept.contains("sk-of-the-judge"), "{kept}");
}

#[test]
fn evaluation_survives_a_killed_supervisor_and_runs_once() {
    let sandbox = judged(&["alpha"], "");
    sandbox.script("alpha", "edit alpha done");
    let waits = "echo asked >>\"$HOME/asked\"; wait_for \"$HOME/go\"";
    sandbox.script("judges/alpha", &format!("{waits}\n{}", content()));
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("asked");
    start.signal(rustix::process::Signal::KILL);
    drop(start.wait());
    let again = sandbox.spawn(&["start"]);
    sandbox.give_sign("go");
    again.wait().exits(0);
    assert_eq!(std::fs::read_to_string(sandbox.sign("asked")).unwrap(), "asked\n");
}

#[test]
fn stop_now_ends_an_evaluation_and_start_repeats_it() {
    let sandbox = judged(&["alpha"], "");
    sandbox.script("alpha", "edit alpha done");
    sandbox.script("judges/alpha", "echo asked >\"$HOME/asked\"; hang");
    let start = sandbox.spawn(&["start"]);
    sandbox.await_sign("asked");
    sandbox.run(&["stop", "--now"]).exits(0);
    start.wait().exits(3);
    assert!(sandbox.processes().is_empty(), "{:?}", sandbox.processes());
    sandbox.script("judges/alpha", &content());
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.status()["tasks"][0]["attempts"], 1);
}

#[test]
fn polls_alone_complete_a_run_with_an_evaluator() {
    let sandbox = judged(&["alpha", "beta"], "");
    sandbox.script("default", "edit \"$HARNESS_TASK\" \"attempt $HARNESS_ATTEMPT\"");
    sandbox.script("judges/alpha.1", &objects("once more"));
    sandbox.script("judges/default", &content());
    sandbox.run(&["start", "--paused"]).exits(0);
    for _ in 0..600 {
        let output = sandbox.run(&["poll"]);
        match output.code {
            0 => std::thread::sleep(std::time::Duration::from_millis(50)),
            2 => {
                Claim::all(&sandbox).holds();
                return;
            }
            _ => panic!("{output}"),
        }
    }
    panic!("it does not come to an end");
}

#[test]
fn broken_evaluator_template_halts_before_any_session() {
    let sandbox = judged(&["alpha"], "prompt = \"judge.md\"");
    sandbox.script("alpha", "edit alpha done");
    screen(&sandbox, "error_evaluator_prompt_missing", &["start"]);
    sandbox.write("judge.md", "Look at {{ chnage.diff }}");
    screen(&sandbox, "error_evaluator_prompt_unknown_variable", &["start"]);
    assert_eq!(sandbox.git(&["for-each-ref", "refs/harness"]), "");
    sandbox.write("judge.md", "Look at {{ change.diff }} and {{ goal }}");
    sandbox.script("judges/alpha", &format!("expect_brief 'Look at diff --git'\n{}", content()));
    sandbox.run(&["start"]).exits(0);
}
