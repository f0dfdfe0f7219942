//! `queue` and its subcommands.

use crate::queue::QueueSandbox;

use super::screen;

#[test]
fn queue_of_branches() {
    let queue = QueueSandbox::new("");
    let sandbox = &queue.sandbox;
    queue.good(2);
    queue.branch("bad", "main", &[("f3", "BAD\n")]);
    queue.branch("c1", "main", &[("shared", "1\n")]);
    queue.branch("c2", "main", &[("shared", "2\n")]);
    screen(sandbox, "queue_empty", &["queue"]);
    screen(sandbox, "queue_add", &["queue", "add", "b0", "b1"]);
    screen(sandbox, "queue_add_after", &["queue", "add", "bad", "--after", "b1"]);
    queue.add(&["c1", "c2"]);
    screen(sandbox, "queue_waiting", &["queue", "list"]);
    screen(sandbox, "queue_run", &["queue", "run"]);
    screen(sandbox, "queue_list", &["queue", "list"]);
    screen(sandbox, "queue_list_all", &["queue", "list", "--all"]);
    screen(sandbox, "queue_list_json", &["queue", "list", "--all", "--json"]);
    screen(sandbox, "queue_run_empty", &["queue", "run"]);
    screen(sandbox, "queue_add_target", &["queue", "add", "main"]);
    screen(sandbox, "queue_add_unknown", &["queue", "add", "nothing"]);
    screen(sandbox, "queue_add_after_unknown", &["queue", "add", "feature", "--after", "nothing"]);
    screen(sandbox, "queue_remove_unknown", &["queue", "remove", "b1"]);
    screen(sandbox, "queue_pause", &["queue", "pause"]);
}
