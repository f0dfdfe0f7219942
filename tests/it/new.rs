//! `new`: an agent writes a job, the program validates it, another session grades it.

use serde_json::json;

use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::{compare_without_progress, screen};

/// A job that passes `validate --strict`.
const GOOD: &str = r#"cat >.harness/upper/harness.toml <<'END'
[job]
name = "upper"
goal = "Write every text in capital letters."
[plan]
include = ["*.txt"]
[agent]
command = ["sh", "-c", "true"]
prompt = "prompt.md"
[[check]]
name = "capitals"
run = ["sh", "-c", "! grep -n '[a-z]' \"$@\"", "capitals", "{task.files}"]
[[check]]
name = "whole"
run = ["git", "--version"]
when = ["landing"]
END"#;

/// The grader is the same scripted program with another prompt.
fn script(sandbox: &Sandbox, name: &str, writes: &str, says: &serde_json::Value) {
    let body = format!(
        "if grep -q '^You grade' \"$HARNESS_PROMPT_FILE\"; then echo '{says}'\nelse {writes}\nfi"
    );
    sandbox.script(name, &body);
}

#[test]
fn new_job_is_written_checked_graded_and_delivered() {
    let sandbox = Sandbox::new(TestJob::bare(&["a.txt", "b.txt"]));
    let head = sandbox.git(&["rev-parse", "HEAD"]);
    let content = json!({"pass": true, "findings": []});
    let brief = "expect_brief 'in capital letters, please'; expect_brief 'context-window'";
    // The agent writes no job, then a valid job with a bad grade, then a good job.
    script(
        &sandbox,
        "upper.1",
        &format!("{brief}\necho '[job]' >.harness/upper/harness.toml"),
        &content,
    );
    let objection = json!({"pass": false, "findings": [{"problem": "a rule without its reason"}]});
    let second = format!("expect_feedback '`goal` is missing in [job]'\n{GOOD}");
    script(&sandbox, "upper.2", &second, &objection);
    let third = format!(
        "expect_feedback 'a rule without its reason'\n{GOOD}\necho 'Why: nobody knows.' >>.harness/upper/prompt.md"
    );
    script(&sandbox, "upper.3", &third, &content);
    let wish = "Write all texts in capital letters, please.\nNo letter \"a\" may be left.";
    let status = sandbox.git(&["status", "--porcelain"]);
    let output = sandbox.run(&["new", wish, "--name", "upper"]).exits(0);
    for file in ["harness.toml", "prompt.md", "SKILL.md"] {
        assert!(output.stdout.contains(&format!("wrote .harness/upper/{file}")), "{output}");
    }
    sandbox.run(&["validate", "upper", "--strict"]).exits(0);
    assert_eq!(sandbox.git(&["rev-parse", "HEAD"]), head);
    let now = sandbox.git(&["status", "--porcelain"]);
    assert_eq!(now.replace("?? .harness/\n", ""), status, "nothing else was written");
    assert_ne!(now, status);
    let skill = std::fs::read_to_string(sandbox.repo.join(".harness/upper/SKILL.md")).unwrap();
    let head: Vec<_> = skill.lines().take(4).collect();
    assert_eq!((head[0], head[1], head[3]), ("---", "name: upper", "---"));
    assert!(
        head[2].starts_with("description: \"Write all texts") && head[2].ends_with('"'),
        "{skill}"
    );
    assert!(head[2].contains("\\\"a\\\""), "{skill}");
    let prompt = std::fs::read_to_string(sandbox.repo.join(".harness/upper/prompt.md")).unwrap();
    assert!(prompt.ends_with("Why: nobody knows.\n"), "{prompt}");
    screen(&sandbox, "new_job_exists", &["new", "another", "--name", "upper"]);
}

#[test]
fn unfinished_new_job_is_resumed_and_nothing_is_written_before() {
    let sandbox = Sandbox::new(TestJob::bare(&["a.txt"]));
    let content = json!({"pass": true, "findings": []});
    script(&sandbox, "upper", "[ -e \"$HOME/go\" ] || hang\n".to_owned().as_str(), &content);
    let args = ["new", "Everything in capital letters", "--name", "upper"];
    let begun = sandbox.spawn(&args);
    sandbox.await_that("an attempt", || {
        sandbox.run(&["status", "--json"]).stdout.contains("\"running\":1")
    });
    sandbox.run(&["stop", "--now"]).exits(0);
    compare_without_progress(&sandbox, "new_stopped", &args, begun.wait());
    assert!(!sandbox.repo.join(".harness").exists());
    script(&sandbox, "upper", GOOD, &content);
    sandbox.run(&args).exits(0);
    assert_eq!(
        sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/harness/runs"]),
        "refs/harness/runs/new-upper-1"
    );
    assert!(sandbox.repo.join(".harness/upper/harness.toml").is_file());
}

#[test]
fn validate_strict_refuses_what_validate_accepts() {
    let sandbox = Sandbox::new(TestJob::bare(&["a.txt"]));
    screen(&sandbox, "validate_without_checks", &["validate"]);
    screen(&sandbox, "validate_strict_without_checks", &["validate", "--strict"]);
    let sandbox = Sandbox::new(TestJob::new(&["a.txt"]).only("plan", "include = [\"*.nothing\"]"));
    sandbox.run(&["validate"]).exits(0);
    screen(&sandbox, "validate_strict_empty_plan", &["validate", "--strict"]);
    screen(&sandbox, "new_without_a_description", &["new", "  "]);
}

/// A report job that passes `validate --strict`.
const GOOD_REPORT: &str = r#"echo '[]' >.harness/audit/example.json
echo '{"type": "array"}' >.harness/audit/form.json
cat >.harness/audit/harness.toml <<'END'
[job]
name = "audit"
goal = "Find the texts that are too long."
kind = "report"
[plan]
include = ["*.txt"]
[agent]
command = ["sh", "-c", "true"]
[output]
path = "found.json"
example = "example.json"
[[check]]
name = "form"
output = "found.json"
schema = "form.json"
END"#;

#[test]
fn new_job_may_be_a_report() {
    let sandbox = Sandbox::new(TestJob::bare(&["a.txt"]));
    script(&sandbox, "audit", GOOD_REPORT, &json!({"pass": true, "findings": []}));
    let output = sandbox.run(&["new", "Find long texts", "--name", "audit"]).exits(0);
    assert!(output.stdout.contains("wrote .harness/audit/form.json"), "{output}");
    sandbox.run(&["validate", "audit", "--strict"]).exits(0);
}
