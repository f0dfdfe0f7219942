//! Replanned runs: a scope first and the whole later, a changed plan, a newer base.

use serde_json::{Value, json};

use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::{screen, screen_without_progress};

/// Creates a repository with files in folders, and a job for all of them.
fn folders(paths: &[&str], plan: &str) -> Sandbox {
    let job = TestJob::bare(&["top"]).only("plan", &format!("include = [\"src/**\"]\n{plan}"));
    let mut sandbox = Sandbox::new(job);
    sandbox.script("default", "for f in $(grep -o 'src/[a-z/]*' \"$HARNESS_PROMPT_FILE\" | sort -u); do [ -f \"$f\" ] && edit \"$f\" \"done $HARNESS_TASK\"; done");
    for path in paths {
        sandbox.write(path, "to be done\n");
    }
    sandbox.git(&["add", "src"]);
    sandbox.git(&["commit", "--quiet", "--message", "sources"]);
    sandbox.base = sandbox.git(&["rev-parse", "HEAD"]);
    sandbox.remember();
    sandbox
}

/// Returns `id state attempts` of each task in plan order.
fn standing(sandbox: &Sandbox) -> Vec<String> {
    let status = sandbox.status();
    let tasks = status["tasks"].as_array().unwrap();
    let word = |t: &Value| t.as_str().unwrap().to_owned();
    tasks
        .iter()
        .map(|t| format!("{} {} {}", word(&t["id"]), word(&t["state"]), t["attempts"]))
        .collect()
}

fn change_plan(sandbox: &Sandbox, from: &str, to: &str) {
    let text = std::fs::read_to_string(sandbox.repo.join("harness.toml")).unwrap();
    assert!(text.contains(from), "{text}");
    sandbox.write("harness.toml", &text.replace(from, to));
    sandbox.remember();
}

#[test]
fn scope_variables_count_like_the_options() {
    let sandbox = folders(&["src/a/one", "src/a/two", "src/b/one"], "group = \"file\"");
    let run = |args: &[&str], files: &str| {
        let variables = [("HARNESS_SCOPE_DIR", "src/a"), ("HARNESS_SCOPE_FILES", files)];
        sandbox.run_in(&sandbox.repo, args, &variables).exits(0).stdout
    };
    let planned = run(&["plan", "--json"], "");
    assert!(planned.contains("src/a/one") && planned.contains("src/a/two"), "{planned}");
    assert!(!planned.contains("src/b/one"), "{planned}");
    let planned = run(&["plan", "--json", "--scope-dir", "src/b"], "");
    assert!(planned.contains("src/b/one") && !planned.contains("src/a"), "an option wins");
    run(&["start"], "**/two");
    assert_eq!(standing(&sandbox), ["src__a__two done 1"]);
}

#[test]
fn scope_dir_first_and_the_whole_plan_later() {
    let paths = ["src/a/one", "src/a/two", "src/b/one", "src/c/one"];
    let sandbox = folders(&paths, "group = \"directory\"");
    sandbox.run(&["start", "--scope-dir", "src/a"]).exits(0);
    assert_eq!(standing(&sandbox), ["src__a done 1"]);
    let landed = sandbox.landed("src/a/one");
    // The preview writes nothing.
    let refs = sandbox.git(&["for-each-ref"]);
    let diff: Value =
        serde_json::from_str(&sandbox.run(&["plan", "--diff", "--json"]).exits(0).stdout).unwrap();
    assert_eq!((&diff["kept"], &diff["new"]), (&json!(["src__a"]), &json!(["src"])));
    sandbox.run(&["plan", "--diff"]).exits(0);
    assert_eq!(refs, sandbox.git(&["for-each-ref"]));

    screen_without_progress(&sandbox, "start_replan_adds", &["start"]);
    assert_eq!(standing(&sandbox), ["src__a done 1", "src done 1"]);
    assert_eq!(sandbox.landed("src/a/one"), landed, "the folder is not run again");
    assert_eq!(sandbox.landed("src/b/one"), "done src");
    let refs = sandbox.git(&["for-each-ref"]);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(refs, sandbox.git(&["for-each-ref"]));
    screen(&sandbox, "plan_diff_nothing_changes", &["plan", "--diff"]);
    Claim::all(&sandbox).landed(&["src__a", "src"]).holds();
}

#[test]
fn unfinished_scope_dir_run_is_resumed() {
    let sandbox = folders(&["src/a/one", "src/a/two", "src/b/one"], "");
    sandbox.run(&["start", "--scope-dir", "src/a", "--only", "src__a__one"]).exits(0);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(standing(&sandbox), ["src__a__one done 1", "src__a__two done 1"]);
    sandbox.run(&["start", "--scope-files", "**/b/*"]).exits(0);
    let after = ["src__a__one done 1", "src__a__two done 1", "src__b__one done 1"];
    assert_eq!(standing(&sandbox), after);
}

#[test]
fn task_that_leaves_the_plan_is_skipped_and_may_return() {
    let sandbox = folders(&["src/a", "src/b", "src/c"], "exclude = [\"none\"]");
    sandbox.run(&["start", "--only", "src__a"]).exits(0);
    change_plan(&sandbox, "\"none\"", "\"src/b\"");
    let only = ["start", "--only", "src__c"];
    screen_without_progress(&sandbox, "start_replan_removes", &only);
    screen(&sandbox, "status_without_removed_tasks", &["status"]);
    assert_eq!(standing(&sandbox), ["src__a done 1", "src__c done 1", "src__b skipped 0"]);
    change_plan(&sandbox, "\"src/b\"", "\"none\"");
    screen_without_progress(&sandbox, "start_replan_restores", &["start"]);
    assert_eq!(standing(&sandbox), ["src__a done 1", "src__b done 1", "src__c done 1"]);
    assert_eq!(sandbox.landed("src/b"), "done src__b");
    Claim::all(&sandbox).landed(&["src__a", "src__b", "src__c"]).holds();
}

#[test]
fn update_replans_new_and_changed_files_from_a_newer_base() {
    let sandbox = folders(&["src/a", "src/b"], "");
    sandbox.run(&["start"]).exits(0);
    sandbox.write("src/b", "changed by a person\n");
    sandbox.write("src/c", "to be done\n");
    let commit = |message: &str| {
        sandbox.git(&["add", "src"]);
        sandbox.git(&["commit", "--quiet", "--message", message]);
        sandbox.remember();
    };
    commit("later");
    // Without an option the run has ended.
    let refs = sandbox.git(&["for-each-ref", "refs/harness"]);
    sandbox.run(&["start"]).exits(0);
    assert_eq!(refs, sandbox.git(&["for-each-ref", "refs/harness"]));
    screen(&sandbox, "start_update_without_a_merge", &["start", "--update"]);
    assert_eq!(standing(&sandbox), ["src__a done 1", "src__b done 1"]);

    sandbox.git(&["reset", "--quiet", "--hard", "harness/job-1/result"]);
    sandbox.write("src/b", "changed by a person\n");
    sandbox.write("src/c", "to be done\n");
    commit("later, on top of what landed");
    screen_without_progress(&sandbox, "start_update", &["start", "--update"]);
    assert_eq!(standing(&sandbox), ["src__a done 1", "src__b done 2", "src__c done 1"]);
    assert_eq!(sandbox.landed("src/b"), "done src__b");
    assert_eq!(sandbox.landed("src/a"), "done src__a");
}

/// The events in a trace, sorted.
fn trace(sandbox: &Sandbox, args: &[&str], code: i32) -> Vec<String> {
    let path = sandbox.root().join("trace");
    let file = path.to_str().unwrap();
    sandbox.run_in(&sandbox.repo, args, &[("GIT_HARNESS_TRACE", file)]).exits(code);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::remove_file(&path).ok();
    let mut events: Vec<_> = text.lines().map(str::to_owned).collect();
    events.sort();
    events
}

#[test]
fn commands_load_a_run_once_and_parse_its_job_once() {
    let sandbox = folders(&["src/a", "src/b"], "");
    let once = ["job parsed", "run loaded"];
    assert_eq!(trace(&sandbox, &["start", "--only", "src__a"], 0), once, "a new run");
    assert_eq!(trace(&sandbox, &["start", "--dry-run"], 0), once);
    // Both texts of a changed job are parsed, and its run is still loaded once.
    change_plan(&sandbox, "goal = \"", "goal = \"New: ");
    let both = ["job parsed", "job parsed", "run loaded"];
    assert_eq!(trace(&sandbox, &["start", "--only", "src__a"], 0), both);
    assert_eq!(trace(&sandbox, &["poll"], 0), once);
    assert_eq!(trace(&sandbox, &["start"], 0), once, "a run that continues");
    assert_eq!(trace(&sandbox, &["start"], 0), once, "a run that has ended");
}
