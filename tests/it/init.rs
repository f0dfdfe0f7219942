//! `init` and its recipes, with the pair that works together: `review` and `review-fix`.

use serde_json::{Value, json};

use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::screen;

/// Creates a repository with sources and without a job.
fn project() -> Sandbox {
    let sandbox = Sandbox::new(TestJob::bare(&["top.txt"]));
    sandbox.git(&["rm", "--quiet", "--cached", "harness.toml"]);
    std::fs::remove_file(sandbox.repo.join("harness.toml")).unwrap();
    for (path, text) in [("src/a.js", "a(1)\na(2)\n"), ("src/b.js", "b()\n"), ("lib/c.py", "c\n")] {
        sandbox.write(path, text);
    }
    sandbox.git(&["add", "src", "lib"]);
    sandbox.git(&["commit", "--quiet", "--message", "sources"]);
    sandbox
}

/// Replaces the agent of a job by the scripted agent.
fn scripted(sandbox: &Sandbox, job: &str) {
    let path = sandbox.repo.join(job);
    let text = std::fs::read_to_string(&path).unwrap();
    let scripts = sandbox.root().join("scripts");
    let agent = crate::job::FIXTURES;
    let command = format!("command = [\"sh\", \"{agent}/run-agent.sh\", {scripts:?}]");
    let judge =
        format!("command = [\"sh\", \"{agent}/run-agent.sh\", \"{}/judges\"]", scripts.display());
    let mut lines: Vec<&str> = text.lines().filter(|l| !l.starts_with("env = ")).collect();
    let at = |lines: &[&str]| lines.iter().position(|l| l.starts_with("preset = "));
    let agent = at(&lines).unwrap();
    lines[agent] = &command;
    if let Some(evaluator) = at(&lines) {
        lines[evaluator] = &judge;
    }
    std::fs::write(path, lines.join("\n")).unwrap();
}

#[test]
fn every_recipe_is_a_valid_job_at_the_top_and_in_a_folder() {
    let listed = project().run(&["init", "--list"]).exits(0).stdout;
    let recipes: Vec<&str> = listed.lines().collect();
    assert!(recipes.contains(&"review") && recipes.contains(&"blank"), "{listed}");
    for recipe in recipes {
        let sandbox = project();
        sandbox.run(&["init", "--recipe", recipe]).exits(0);
        let written = std::fs::read(sandbox.repo.join("harness.toml")).unwrap();
        // The recipe `review-fix` reads this file.
        sandbox.write(".harness/findings.json", "[{\"file\": \"src/a.js\"}]");
        sandbox.run(&["validate"]).exits(0);
        let strict = sandbox.run(&["validate", "--strict"]).exits(0);
        assert!(!strict.stderr.contains("hint:"), "{recipe}: {}", strict.stderr);
        assert!(String::from_utf8_lossy(&written).contains("\ncontext-window = 200_000"));
        sandbox.run(&["plan"]).exits(0);
        // Every prompt renders, and can be read before anything runs.
        let output = sandbox.run(&["plan", "--prompts", "prompts"]).exits(0);
        assert!(output.stderr.is_empty(), "{recipe}: {}", output.stderr);
        let prompt = std::fs::read_to_string(
            sandbox.repo.join("prompts").read_dir().unwrap().next().unwrap().unwrap().path(),
        );
        assert!(prompt.unwrap().contains("src/"));
        std::fs::remove_dir_all(sandbox.repo.join("prompts")).unwrap();
        sandbox.write("harness.toml", "mine");
        sandbox.run(&["init", "--recipe", recipe]).exits(128);
        let job = || std::fs::read(sandbox.repo.join("harness.toml")).unwrap();
        assert_eq!(job(), b"mine");
        sandbox.run(&["init", "--recipe", recipe, "--force"]).exits(0);
        assert_eq!(job(), written);
        sandbox.run(&["init", "--recipe", recipe, "other"]).exits(0);
        assert!(sandbox.repo.join(".harness/other/harness.toml").is_file());
        sandbox.write(".harness/other/findings.json", "[{\"file\": \"src/a.js\"}]");
        let valid = sandbox.run(&["validate", "other", "--json"]).exits(0).stdout;
        assert_eq!(serde_json::from_str::<Value>(&valid).unwrap()["job"], "other");
        sandbox.run(&["start", "other", "--dry-run"]).exits(0);
    }
}

#[test]
fn token_budget_groups_files_and_warns_of_a_file_that_is_too_large() {
    let sandbox = project();
    sandbox.write("src/large.js", &"const word = another * 3;\n".repeat(400));
    sandbox.git(&["add", "src"]);
    sandbox.git(&["commit", "--quiet", "--message", "a large one"]);
    let job = |plan: &str| {
        let text = format!(
            "[job]\ngoal = \"g\"\n[plan]\ninclude = [\"src/**\"]\ngroup = \"directory\"\n{plan}\n[agent]\ncommand = [\"a\"]\n"
        );
        sandbox.write("harness.toml", &text);
        let output = sandbox.run(&["plan", "--json"]).exits(0);
        let plan: Value = serde_json::from_str(&output.stdout).unwrap();
        let tasks = plan["tasks"].as_array().unwrap().clone();
        (
            tasks.len(),
            tasks.iter().map(|t| t["tokens"].as_u64().unwrap()).sum::<u64>(),
            output.stderr,
        )
    };
    let (whole, estimated, _) = job("");
    let (all, counted, said) = job("context-window = 200_000\nfill = 0.30\ntoken-factor = 1.0");
    assert_eq!((whole, all, &*said), (1, 1, ""));
    assert!(counted != estimated && counted > 2_000, "{counted} {estimated}");
    let (_, more, _) = job("token-factor = 2.0");
    assert_eq!(more, 2 * counted);
    // One window that just fits at a fill of 0.30, and one that the large file alone exceeds.
    let window = |share: u64| {
        format!("context-window = {}\ntoken-factor = 1.0", counted * 10 / 3 * share / 100)
    };
    assert_eq!(job(&window(102)).0, 1);
    let (cut, _, output) = job(&window(90));
    assert_eq!(cut, 2);
    assert!(
        output.contains("warning: src/large.js has about") && output.contains("split it"),
        "{output}"
    );
    // The estimate names a price where the model's price is known.
    for (model, price) in
        [("gpt-5", "at the price of gpt-5"), ("gpt-0", "unknown cost (no price for gpt-0")]
    {
        let agent = format!("[agent]\npreset = \"codex\"\nmodel = \"{model}\"\n");
        sandbox.write("harness.toml", &format!("[job]\ngoal = \"g\"\n{agent}"));
        let out = sandbox.run(&["plan"]).exits(0).stdout;
        assert!(out.contains(price) && out.contains("with 4 agents at a time"), "{out}");
    }
    let long = "more words ".repeat(500);
    let text = format!(
        "[job]\ngoal = \"{long}\"\n[plan]\ncontext-window = 1_000\n[agent]\ncommand = [\"a\"]\n"
    );
    sandbox.write("harness.toml", &text);
    screen(&sandbox, "plan_prompt_exceeds_the_window", &["plan"]);
}

#[test]
fn init_refuses_bad_names_and_existing_files() {
    let sandbox = project();
    screen(&sandbox, "init_unknown_recipe", &["init", "--recipe", "jsts"]);
    screen(&sandbox, "init_bad_name", &["init", "My Job"]);
}

fn finding(file: &str, line: u32, title: &str) -> Value {
    json!({
        "id": format!("found-{title}"), "file": file, "line": line, "severity": "high", "title": title, "trigger": "t", "impact": "i", "suggestion": "s",
    })
}

#[test]
fn review_recipe_output_feeds_the_fix_recipe() {
    let sandbox = project();
    sandbox.run(&["init", "--recipe", "review", "review"]).exits(0);
    scripted(&sandbox, ".harness/review/harness.toml");
    let job = std::fs::read_to_string(sandbox.repo.join(".harness/review/harness.toml")).unwrap();
    sandbox.write(".harness/review/harness.toml", &job.replace("max-files = 60", "max-files = 2"));
    let found = json!([
        finding("src/a.js", 1, "one"),
        finding("src/a.js", 2, "two"),
        finding("src/b.js", 1, "three")
    ]);
    sandbox.script(
        "src",
        &format!(
            "expect_brief 'applyDiscount'; expect_brief '\"severity\"'\nedit review.json '{found}'"
        ),
    );
    // The first output is invalid; the second has no findings, which is a result.
    sandbox.script("lib.1", "edit review.json '[{\"file\": \"lib/c.py\"}]'");
    sandbox.script("lib.2", "expect_feedback 'missing properties'; edit review.json '[]'");
    // The evaluator withdraws one of the findings.
    let objection =
        json!({"pass": false, "findings": [{"file": "src/b.js", "problem": "it is not so"}]});
    let looks = "expect_brief '\"title\":\"three\"'";
    sandbox.script("judges/src.1", &format!("{looks}; echo '{objection}'"));
    sandbox.script(
        "src.2",
        &format!("expect_feedback '`src/b.js`: it is not so'\nedit review.json '{found}'"),
    );
    sandbox.script("judges/default", "echo '{\"pass\": true, \"findings\": []}'");
    sandbox.run(&["start", "review"]).exits(0);
    screen(&sandbox, "collect_to_a_file", &["collect", "review-1", "-o", "findings.json"]);
    let page = sandbox.run(&["collect", "review-1", "--page"]).exits(0).stdout;
    assert!(page.contains("# Review review-1") && page.contains("`src/b.js:1`"), "{page}");

    sandbox.run(&["init", "--recipe", "review-fix", "fix"]).exits(0);
    scripted(&sandbox, ".harness/fix/harness.toml");
    let job = std::fs::read_to_string(sandbox.repo.join(".harness/fix/harness.toml")).unwrap();
    let job = job.replace("[\"npm\", \"test\"]", "[\"sh\", \"-c\", \"! grep -rn BAD src\"]");
    let hook = r#"echo "$HARNESS_LANDS" >>"$HOME/lands""#;
    let hook = serde_json::to_string(&["sh", "-c", hook]).unwrap();
    let job = format!("{job}\n[queue]\npost-land = {hook}\n");
    sandbox.write(".harness/fix/harness.toml", &job);
    std::fs::rename(
        sandbox.repo.join("findings.json"),
        sandbox.repo.join(".harness/fix/findings.json"),
    )
    .unwrap();
    let message = "Fix it\n\nFinding 1: fixed\nFinding found-two: not so: a(2) is meant";
    let fix = format!("edit src/a.js 'a(3)'; commit_self '{message}'");
    sandbox.script("src__a_dot_js", &format!("expect_brief 'Line 2: two (`found-two`)'; {fix}"));
    sandbox.script("src__b_dot_js", "edit src/b.js BAD");
    sandbox.run(&["start", "fix"]).exits(1);
    let fixed: Value =
        serde_json::from_str(&sandbox.run(&["collect", "fix-1"]).exits(0).stdout).unwrap();
    let told: Vec<_> = fixed
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["title"].clone(), f["outcome"].clone()))
        .collect();
    let expected = [("one", "fixed"), ("two", "not so"), ("three", "open")];
    assert_eq!(told, expected.map(|(title, outcome)| (json!(title), json!(outcome))));
    assert_eq!((&fixed[1]["why"], &fixed[1]["commit"]), (&json!("a(2) is meant"), &Value::Null));
    assert_eq!(fixed[0]["commit"], sandbox.git(&["rev-parse", "harness/fix-1/result"]));
    assert_eq!(fixed[2]["commit"], Value::Null);
    let lands = std::fs::read_to_string(sandbox.sign("lands")).unwrap();
    assert_eq!(lands, "fix-1/src__a_dot_js:found-one\n", "the hook learns what was fixed");
}

#[test]
fn finding_that_is_not_so_is_a_good_ending_and_no_commit_claims_a_fix() {
    let sandbox = project();
    sandbox.run(&["init", "--recipe", "review-fix", "fix"]).exits(0);
    scripted(&sandbox, ".harness/fix/harness.toml");
    let job = std::fs::read_to_string(sandbox.repo.join(".harness/fix/harness.toml")).unwrap();
    let job = job.replace("[\"npm\", \"test\"]", "[\"true\"]");
    sandbox.write(".harness/fix/harness.toml", &job);
    let findings = json!([finding("src/a.js", 1, "one"), finding("src/b.js", 1, "two")]);
    sandbox.write(".harness/fix/findings.json", &findings.to_string());
    let message = "No defect\n\nFinding 1: not so: it is meant";
    let commit = format!("git commit --quiet --allow-empty -m '{message}'");
    sandbox.script("src__a_dot_js", &commit);
    sandbox.script("src__b_dot_js", "say nothing");
    let started = sandbox.run(&["start", "fix"]).exits(0).says("src/a.js: nothing to change");
    assert!(!started.stderr.contains("landed "), "{started}");
    let fixed: Value =
        serde_json::from_str(&sandbox.run(&["collect", "fix-1"]).exits(0).stdout).unwrap();
    let outcome = |n: usize| (&fixed[n]["outcome"], &fixed[n]["why"], &fixed[n]["commit"]);
    assert_eq!(outcome(0), (&json!("not so"), &json!("it is meant"), &Value::Null));
    assert_eq!(outcome(1), (&json!("open"), &Value::Null, &Value::Null));
}

#[test]
fn plan_without_a_window_warns_of_a_file_that_exceeds_common_windows() {
    let sandbox = project();
    sandbox.write("src/bundle.js", &"f(12345);".repeat(100_000));
    sandbox.git(&["add", "src"]);
    sandbox.git(&["commit", "--quiet", "--message", "one line"]);
    sandbox.write("harness.toml", "[job]\ngoal = \"g\"\n[agent]\ncommand = [\"a\"]\n");
    let warning =
        "warning: src/bundle.js has about 257143 tokens, more than a context window of 200000";
    let stderr = sandbox.run(&["plan"]).exits(0).stderr;
    assert!(stderr.contains(warning), "{stderr}");
    let stderr = sandbox.run(&["validate", "--strict"]).exits(1).stderr;
    assert!(stderr.contains(&warning.replace("warning: ", "hint: ")), "{stderr}");
    // A list of other files needs no warning.
    let list = "[plan]\ngroup = \"list\"\nlist = \"findings.json\"\n";
    sandbox.write("findings.json", "[{\"file\": \"src/a.js\"}]");
    sandbox
        .write("harness.toml", &format!("[job]\ngoal = \"g\"\n{list}[agent]\ncommand = [\"a\"]\n"));
    let stderr = sandbox.run(&["plan"]).exits(0).stderr;
    assert!(!stderr.contains("warning"), "{stderr}");
}
