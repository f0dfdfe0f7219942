//! Report jobs: tasks hand in files, and `collect` joins them.

use serde_json::{Value, json};

use crate::job::TestJob;
use crate::sandbox::Sandbox;

const SCHEMA: &str = r#"{
  "type": "array",
  "items": {
    "type": "object", "required": ["file", "line"], "additionalProperties": false,
    "properties": {"file": {"type": "string"}, "line": {"type": "integer", "minimum": 1}}
  }
}"#;

/// A report job with a schema; `output` are more lines of its section.
fn review(tasks: &[&str], output: &str) -> Sandbox {
    let job = TestJob::bare(tasks)
        .set("job", "kind = \"report\"")
        .set("output", &format!("path = \"review.json\"\n{output}"))
        .set("retry", "feedback = 1\nredispatch = 0\nhalt-above = 1")
        .built_in("handed-in", "output = \"review.json\"\nschema = \"review.schema.json\"");
    let sandbox = Sandbox::new(job);
    sandbox.write("review.schema.json", SCHEMA);
    sandbox
}

/// Returns a script that hands in findings at these lines.
fn finds(file: &str, lines: &[u32]) -> String {
    let all: Vec<_> = lines.iter().map(|line| json!({"file": file, "line": line})).collect();
    format!("edit review.json '{}'", Value::from(all))
}

#[test]
fn collect_joins_checked_outputs_in_plan_order() {
    let sandbox = review(&["a.txt", "b.txt", "c.txt"], "");
    let report = "expect_brief 'review.json'; expect_brief '\"minimum\": 1'";
    sandbox.script(
        "a_dot_txt.1",
        &format!("{report}; wait_for \"$HOME/b-again\"\n{}", finds("a.txt", &[3, 1])),
    );
    // A finding names the position in the document.
    sandbox.script("b_dot_txt.1", &finds("b.txt", &[7, 0]));
    let feedback = "expect_feedback 'at `/1/line`: must be >=1, but got 0'";
    sandbox.script(
        "b_dot_txt.2",
        &format!("{feedback}; : >\"$HOME/b-again\"\n{}", finds("b.txt", &[7])),
    );
    // An empty list is a result. The worktree starts without an output file.
    sandbox
        .script("c_dot_txt.1", &format!("[ ! -e review.json ] || exit 9\n{}", finds("c.txt", &[])));
    let before = sandbox.git(&["rev-parse", "HEAD"]);
    let output = sandbox.run(&["start"]).exits(0);
    assert!(output.stderr.contains("handed in b.txt (attempt 2)"), "{}", output.stderr);

    let collected = sandbox.run(&["collect"]).exits(0);
    let items: Value = serde_json::from_str(&collected.stdout).unwrap();
    let at = |file: &str, line: u32| json!({"file": file, "line": line});
    assert_eq!(items, json!([at("a.txt", 3), at("a.txt", 1), at("b.txt", 7)]));
    assert!(collected.stderr.contains("3 of 3 tasks handed in (100.0 %)"), "{}", collected.stderr);

    // The outputs are not in the history, and no task branch remains.
    assert_eq!(sandbox.git(&["rev-parse", "harness/job-1/result"]), before);
    assert_eq!(sandbox.git(&["for-each-ref", "refs/heads/harness/job-1/*_txt"]), "");
    let status = sandbox.status();
    for task in status["tasks"].as_array().unwrap() {
        assert_eq!(task["state"], "done");
        let content = sandbox.git(&["cat-file", "blob", task["output"].as_str().unwrap()]);
        assert!(content.starts_with('['), "{content}");
    }
    // A sweep keeps the outputs.
    sandbox.run(&["sweep"]).exits(0);
    assert_eq!(sandbox.run(&["collect"]).exits(0).stdout, collected.stdout);
    // Accepted tasks are not repeated.
    sandbox.run(&["start"]).exits(0);
    let attempts = sandbox.status()["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["attempts"].as_u64().unwrap())
        .sum::<u64>();
    assert_eq!(attempts, 4);
}

#[test]
fn collect_of_a_partial_run_names_missing_tasks() {
    let sandbox = review(&["a.txt", "b.txt", "c.txt"], "merge = \"jsonl\"");
    sandbox.script("a_dot_txt", &finds("a.txt", &[1]));
    // One output is never valid, the other is missing.
    sandbox.script("b_dot_txt", "edit review.json '{}'");
    sandbox.script("c_dot_txt", "say '[{\"file\": \"c.txt\", \"line\": 1}]'");
    sandbox.run(&["start"]).exits(1);
    let collected = sandbox.run(&["collect", "-o", "all.jsonl"]).exits(0);
    assert_eq!(
        std::fs::read_to_string(sandbox.repo.join("all.jsonl")).unwrap(),
        "{\"file\":\"a.txt\",\"line\":1}\n"
    );
    let share = "1 of 3 tasks handed in (33.3 %); missing: 2 failed";
    assert!(collected.stderr.contains(share), "{}", collected.stderr);
    let report: Value =
        serde_json::from_str(&sandbox.run(&["collect", "--json"]).exits(0).stdout).unwrap();
    assert_eq!((&report["summary"]["tasks"], &report["summary"]["done"]), (&json!(3), &json!(1)));
    assert_eq!(report["summary"]["missing"][1]["id"], "c_dot_txt");
    assert_eq!(report["outputs"][0]["output"], json!([{"file": "a.txt", "line": 1}]));
    let failed = sandbox.run(&["show", "c_dot_txt"]).exits(0).stdout;
    assert!(failed.contains("handed in nothing"), "{failed}");
}

#[test]
fn report_task_that_changes_a_file_is_rejected() {
    let sandbox = review(&["a.txt"], "");
    sandbox.script("a_dot_txt.1", &format!("edit a.txt changed\n{}", finds("a.txt", &[1])));
    let feedback = "expect_feedback 'may not be changed by this task'; expect_feedback '`a.txt`'";
    sandbox.script("a_dot_txt.2", &format!("{feedback}\n{}", finds("a.txt", &[2])));
    sandbox.run(&["start"]).exits(0);
    let items: Value = serde_json::from_str(&sandbox.run(&["collect"]).exits(0).stdout).unwrap();
    assert_eq!(items, json!([{"file": "a.txt", "line": 2}]));
}

#[test]
fn ignored_output_file_is_collected() {
    let job = TestJob::bare(&["a.txt", "b.txt"])
        .set("job", "kind = \"report\"")
        .set("output", "path = \"out/notes.md\"\nmerge = \"concat\"");
    let sandbox = Sandbox::new(job);
    sandbox.write(".gitignore", "out/\n");
    sandbox.git(&["add", ".gitignore"]);
    sandbox.git(&["commit", "--quiet", "--message", "ignore"]);
    // The agent's command may name the output, too.
    let text = std::fs::read_to_string(sandbox.repo.join("harness.toml")).unwrap();
    let named = "command = [\"sh\", \"-c\", 'test \"$1\" = out/notes.md && shift && exec sh \"$@\"', \"agent\", \"{output}\", ";
    sandbox.write("harness.toml", &text.replace("command = [\"sh\", ", named));
    sandbox.script(
        "a_dot_txt",
        "[ \"$HARNESS_OUTPUT\" = \"$PWD/out/notes.md\" ] || exit 9\nprintf 'of a' > out/notes.md",
    );
    sandbox.script("b_dot_txt", "printf 'of b\\n' > \"$HARNESS_OUTPUT\"");
    sandbox.run(&["start"]).exits(0);
    assert_eq!(sandbox.run(&["collect"]).exits(0).stdout, "of a\nof b\n");
}

#[test]
fn collect_runs_the_merge_command_and_renders_the_page() {
    let output = "merge = \"command\"\ncommand = [\"sh\", \"join.sh\"]\npage = \"page.md.j2\"";
    let sandbox = review(&["a.txt", "b.txt"], output);
    sandbox.write(
        "join.sh",
        "while read -r line; do echo \"$line\" | grep -o '\"task\":\"[a-z_]*\"'; done; echo end",
    );
    sandbox.write(
        "page.md.j2",
        "# {{ job }}: {{ summary.done }} of {{ summary.tasks }}\n{% for item in items %}\n- {{ item.file|code }}:{{ item.line }}\n{% endfor %}\n",
    );
    sandbox.script("a_dot_txt", &finds("a.txt", &[1, 2]));
    sandbox.script("b_dot_txt", &finds("b.txt", &[3]));
    sandbox.run(&["start"]).exits(0);
    let joined = sandbox.run(&["collect"]).exits(0).stdout;
    assert_eq!(joined, "\"task\":\"a_dot_txt\"\n\"task\":\"b_dot_txt\"\nend\n");
    let page = sandbox.run(&["collect", "--page"]).exits(0).stdout;
    assert_eq!(page, "# job: 2 of 2\n- `a.txt`:1\n- `a.txt`:2\n- `b.txt`:3\n");
}

#[test]
fn invalid_output_section_is_refused_before_start() {
    let sandbox = review(&["a.txt"], "");
    sandbox.write("review.schema.json", "{\"type\": \"nothing\"}");
    let output = sandbox.run(&["start"]).exits(128).stderr;
    assert!(
        output.contains("the schema is wrong: review.schema.json") && output.contains("`/type`"),
        "{output}"
    );
    std::fs::remove_file(sandbox.repo.join("review.schema.json")).unwrap();
    let output = sandbox.run(&["start"]).exits(128).stderr;
    assert!(output.contains("the file of `schema` does not exist"), "{output}");
    sandbox.write("review.schema.json", SCHEMA);
    sandbox.write("review.json", "[]");
    sandbox.git(&["add", "review.json"]);
    sandbox.git(&["commit", "--quiet", "--message", "in the way"]);
    let output = sandbox.run(&["start"]).exits(128).stderr;
    assert!(
        output.contains("the base already has a file at [output] path: review.json"),
        "{output}"
    );
    assert_eq!(sandbox.git(&["for-each-ref", "refs/harness"]), "");
}

#[test]
fn collect_of_changes_lists_the_landed_commits() {
    let job = TestJob::bare(&["a.txt"]).only(
        "plan",
        "group = \"list\"\n[[plan.task]]\nfiles = [\"a.txt\"]\nvars = {finding = \"a typo\"}",
    );
    let sandbox = Sandbox::new(job);
    sandbox.script("a_dot_txt", "edit a.txt better");
    sandbox.run(&["start"]).exits(0);
    let report: Value = serde_json::from_str(&sandbox.run(&["collect"]).exits(0).stdout).unwrap();
    let landed = sandbox.git(&["rev-parse", "harness/job-1/result"]);
    assert_eq!(report[0]["commit"], landed);
    assert_eq!(
        (&report[0]["state"], &report[0]["vars"]["finding"]),
        (&json!("done"), &json!("a typo"))
    );
}

#[test]
fn collect_after_an_update_has_the_newest_form_of_each_file_that_exists() {
    let sandbox = review(&["a.txt", "b.txt", "c.txt"], "");
    for (task, file) in [("a_dot_txt", "a.txt"), ("b_dot_txt", "b.txt"), ("c_dot_txt", "c.txt")] {
        sandbox.script(task, &finds(file, &[1]));
    }
    sandbox.run(&["start"]).exits(0);
    sandbox.git(&["rm", "--quiet", "c.txt"]);
    sandbox.write("b.txt", "changed\n");
    sandbox.git(&["commit", "--quiet", "--all", "--message", "later"]);
    sandbox.script("b_dot_txt", &finds("b.txt", &[2]));
    sandbox.run(&["start", "--update"]).exits(0);
    let items: Value = serde_json::from_str(&sandbox.run(&["collect"]).exits(0).stdout).unwrap();
    let at = |file: &str, line: u32| json!({"file": file, "line": line});
    assert_eq!(items, json!([at("a.txt", 1), at("b.txt", 2)]));
    let report: Value =
        serde_json::from_str(&sandbox.run(&["collect", "--json"]).exits(0).stdout).unwrap();
    assert_eq!(report["counts"]["items"], 2);
    assert_eq!(report["counts"]["folder"], json!({".": 2}));
}
