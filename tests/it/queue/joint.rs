//! Joint failures: a branch that passes alone and fails with what has landed names its partner.

use serde_json::{Value, json};

use super::QueueSandbox;

/// Returns the field `fails_with` of a branch in the list.
fn fails_with(queue: &QueueSandbox, branch: &str) -> Value {
    let list = queue.list();
    let entries = list["entries"].as_array().unwrap();
    entries.iter().find(|entry| entry["branch"] == branch).unwrap()["fails_with"].clone()
}

#[test]
fn joint_failure_names_the_partner_for_both_branches() {
    let queue = QueueSandbox::new("");
    queue.good(1);
    queue.branch("m1", "main", &[("m1", "")]);
    queue.branch("m2", "main", &[("m2", "")]);
    queue.add(&["m1", "b0", "m2"]);
    queue.sandbox.run(&["queue", "run"]).exits(1);
    assert_eq!(queue.landed(), ["m1", "b0"]);
    let rev = |name: &str| queue.sandbox.git(&["rev-parse", name]);
    let (landed, short) = (rev("main~1"), queue.sandbox.git(&["rev-parse", "--short=7", "main~1"]));
    let reason = format!("m2: rejected: passes alone, fails together with m1 (landed as {short})");
    let why = queue.why("m2");
    assert!(why.starts_with(&reason) && why.contains("do not go together"), "{why}");
    assert_eq!(fails_with(&queue, "m2"), json!([{ "entry": "m1", "commit": landed }]));
    assert_eq!(fails_with(&queue, "m1"), json!([{ "entry": "m2", "commit": rev("m2") }]));
    assert_eq!(fails_with(&queue, "b0"), Value::Null);
    // In words, of both.
    let candidate = queue.sandbox.git(&["rev-parse", "--short=7", "m2"]);
    let told = format!("m1: fails together with m2 ({candidate}), which passes alone");
    let list = queue.sandbox.run(&["queue", "list", "--all"]).exits(0).stdout;
    assert!(list.contains(&reason) && list.contains(&told), "{list}");
    assert!(queue.sandbox.run(&["why", "m2"]).exits(0).stdout.contains(&reason));
    assert!(queue.sandbox.run(&["why", &landed]).exits(0).stdout.contains(&told));
    let json = queue.sandbox.run(&["why", "--json", &landed]).exits(0).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["fails_with"], json!([{ "entry": "m2", "commit": rev("m2") }]));
    // Added again after a change, it is a failure no more.
    queue.branch("m2", "m2", &[("f5", "fine\n")]);
    queue.sandbox.git(&["revert", "--no-edit", &landed]);
    queue.add(&["m2"]);
    assert_eq!(fails_with(&queue, "m1"), Value::Null);
    queue.holds();
}

#[test]
fn partner_among_many_landings_is_found_by_bisection() {
    let queue = QueueSandbox::new("");
    queue.branch("m2", "main", &[("m2", "")]);
    queue.branch("m1", "main", &[("m1", "")]);
    let mut names = queue.good(7);
    names.insert(4, "m1".to_owned());
    queue.add(&names.iter().map(String::as_str).collect::<Vec<_>>());
    queue.sandbox.run(&["queue", "run"]).exits(0);
    let before = queue.runs();
    queue.add(&["m2"]);
    queue.sandbox.run(&["queue", "run"]).exits(1);
    let landed =
        queue.sandbox.git(&["log", "--format=%h", "--abbrev=7", "--grep=Harness-Branch: m1"]);
    let reason = format!("m2: rejected: passes alone, fails together with m1 (landed as {landed})");
    assert!(queue.why("m2").starts_with(&reason), "{}", queue.why("m2"));
    // In the train and alone; then the own tree, and three of the eight landings.
    assert!(queue.runs() - before <= 6, "{} runs of the check", queue.runs() - before);
}

#[test]
fn branch_that_fails_alone_has_no_partner_and_costs_one_verification_more() {
    let queue = QueueSandbox::new("");
    queue.branch("bad", "main", &[("f3", "BAD\n")]);
    let names = queue.good(7);
    queue.add(&names.iter().map(String::as_str).collect::<Vec<_>>());
    queue.sandbox.run(&["queue", "run"]).exits(0);
    let before = queue.runs();
    queue.add(&["bad"]);
    queue.sandbox.run(&["queue", "run"]).exits(1);
    assert!(queue.why("bad").starts_with("bad: rejected: it fails alone on the target"));
    assert_eq!(fails_with(&queue, "bad"), Value::Null);
    assert!(queue.runs() - before <= 3, "{} runs of the check", queue.runs() - before);
    // What has forked from the tip fails alone, without another verification.
    queue.branch("new", "main", &[("f4", "BAD\n")]);
    let before = queue.runs();
    queue.add(&["new"]);
    queue.sandbox.run(&["queue", "run"]).exits(1);
    assert!(queue.runs() - before <= 2, "{} runs of the check", queue.runs() - before);
}

#[test]
fn check_that_was_added_later_makes_no_landing_a_partner() {
    let queue = QueueSandbox::new("");
    let repo = &queue.sandbox.repo;
    queue.branch("m2", "main", &[("m2", "")]);
    let names = queue.good(3);
    // The branch passes, and its landing is on hold.
    std::fs::write(repo.join("m2"), "mine").unwrap();
    queue.add(&["m2"]);
    queue.sandbox.run(&["queue", "run"]).exits(3);
    std::fs::remove_file(repo.join("m2")).unwrap();
    queue.sandbox.run(&["queue", "remove", "m2"]).exits(0);
    queue.add(&names.iter().map(String::as_str).collect::<Vec<_>>());
    queue.sandbox.run(&["queue", "run"]).exits(0);
    let rules = std::fs::read_to_string(repo.join("harness.toml")).unwrap();
    let check = "[[check]]\nname = \"m2\"\nrun = [\"sh\", \"-c\", \"test ! -e m2\"]\n";
    std::fs::write(repo.join("harness.toml"), format!("{rules}{check}")).unwrap();
    queue.sandbox.git(&["commit", "--quiet", "--message", "a check", "harness.toml"]);
    queue.add(&["m2"]);
    queue.sandbox.run(&["queue", "run"]).exits(1);
    let why = queue.why("m2");
    assert!(why.starts_with("m2: rejected: it fails alone on the target"), "{why}");
    assert_eq!(fails_with(&queue, "m2"), Value::Null);
}
