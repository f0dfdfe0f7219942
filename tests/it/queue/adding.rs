//! `queue add`: several branches at once, and branches that wait already.

use super::QueueSandbox;

#[test]
fn refused_branches_are_named_and_the_others_are_queued() {
    let queue = QueueSandbox::new("");
    queue.good(2);
    let output = queue.sandbox.run(&["queue", "add", "b0", "nothing", "main", "b1"]).exits(1);
    for part in [
        "error: no branch `nothing`",
        "error: `main` is the target itself",
        "b0: queued at",
        "b1: queued at",
    ] {
        assert!(output.stderr.contains(part), "{part} is not in\n{output}");
    }
    assert_eq!(queue.states().keys().collect::<Vec<_>>(), ["b0", "b1"]);
    queue.sandbox.run(&["queue", "run"]).exits(0);
    // All refused.
    queue.sandbox.run(&["queue", "add", "nothing", "main"]).exits(128);
    // A dependency that was refused in the same command is missing.
    queue.branch("above", "main", &[("f1", "fine\n")]);
    let add = ["queue", "add", "nothing", "above", "--after", "nothing"];
    queue.sandbox.run(&add).exits(128).says("`nothing` is not in the queue and has not landed");
    assert!(!queue.states().contains_key("above"));
}

/// Returns the waiting branches in the order of the list.
fn waiting(queue: &QueueSandbox) -> Vec<String> {
    let list = queue.list();
    let entries = list["entries"].as_array().unwrap().iter();
    let waiting = entries.filter(|entry| entry["position"].is_number());
    waiting.map(|entry| entry["branch"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn branch_that_is_added_again_while_it_waits_keeps_its_place() {
    let queue = QueueSandbox::new("batch = 1");
    queue.good(4);
    queue.add(&["b0", "b1"]);
    queue.sandbox.run(&["queue", "add", "b2", "--after", "b1"]).exits(0);
    queue.sandbox.run(&["queue", "add", "b3", "--priority", "100"]).exits(0);
    // A train of one entry takes the oldest.
    let order = ["b0", "b1", "b2", "b3"];
    assert_eq!(waiting(&queue), order);
    // The first as it is, and one that has moved since.
    queue.branch("b1", "b1", &[("f1", "amended\n")]);
    queue.add(&["b0"]);
    queue.add(&["b1"]);
    queue.add(&["b3", "b2"]);
    assert_eq!(waiting(&queue), order);
    assert_eq!(queue.list()["entries"][2]["after"][0], "b1");
    queue.sandbox.run(&["queue", "run"]).exits(0);
    // A branch that waits for another may be passed by one that does not.
    let mut landed = queue.landed();
    landed[2..].sort();
    assert_eq!(landed, order);
    queue.holds();
}

#[test]
fn queue_of_a_deleted_target_does_not_hide_the_others() {
    let queue = QueueSandbox::new("");
    queue.good(2);
    queue.sandbox.git(&["branch", "release", "main"]);
    queue.sandbox.run(&["queue", "--target", "release", "add", "b0"]).exits(0);
    queue.sandbox.run(&["queue", "--target", "main", "add", "b1"]).exits(0);
    queue.sandbox.git(&["branch", "-D", "release"]);
    queue.sandbox.run(&["queue", "list"]).exits(0).says("1 branch waits to land on `main`");
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), ["b1"]);
    let gone = ["queue", "--target", "release", "list"];
    queue.sandbox.run(&gone).exits(128).says("no branch `release`");
}

#[test]
fn renamed_branch_counts_as_not_landed() {
    let queue = QueueSandbox::new("");
    queue.good(2);
    queue.add(&["b0", "b1"]);
    queue.sandbox.git(&["branch", "--move", "b0", "other"]);
    queue.sandbox.run(&["queue", "run"]).exits(1).says("1 landed, 1 did not");
    assert_eq!(queue.states()["b0"], "removed");
    assert_eq!(queue.why("b0"), "its branch was deleted");
}

#[test]
fn why_knows_branches_that_have_not_landed() {
    let queue = QueueSandbox::new("");
    queue.good(1);
    queue.branch("bad", "main", &[("f5", "BAD\n")]);
    queue.add(&["b0", "bad"]);
    let why = |branch: &str| queue.sandbox.run(&["why", branch]).exits(0).stdout;
    assert!(why("bad").ends_with("    bad: waits in the queue, at 2\n"), "{}", why("bad"));
    queue.sandbox.run(&["queue", "run"]).exits(1);
    let said = why("bad");
    assert!(said.contains("    bad: rejected: it fails alone on the target\n"), "{said}");
    let json = queue.sandbox.run(&["why", "--json", "bad"]).exits(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["queue"][0]["entry"], "bad");
    assert_eq!(json["queue"][0]["target"], "refs/heads/main");
}

#[test]
fn list_shows_the_order_in_which_branches_land() {
    let queue = QueueSandbox::new("batch = 2");
    queue.good(6);
    for (name, more) in [
        ("b0", &[][..]),
        ("b1", &["--priority", "5"][..]),
        ("b2", &[][..]),
        ("b3", &["--priority", "9", "--after", "b4"][..]),
        ("b4", &[][..]),
        ("b5", &["--priority", "7"][..]),
    ] {
        // The branch that `b3` comes after is added first.
        if name == "b3" {
            queue.add(&["b4"]);
        }
        queue.add(&[&[name], more].concat());
    }
    let list = queue.list();
    let entries = list["entries"].as_array().unwrap().iter();
    let shown: Vec<&str> = entries.map(|entry| entry["branch"].as_str().unwrap()).collect();
    queue.sandbox.run(&["queue", "run"]).exits(0);
    assert_eq!(queue.landed(), shown);
    assert_eq!(shown[0], "b0", "the oldest branch is in the first train");
}
