//! `status`: the thing that a run waits for, and the next command.

use serde_json::Value;

use crate::invariants::Claim;
use crate::job::TestJob;
use crate::sandbox::Sandbox;
use crate::screens::screen;

/// Returns the words of the wait and of the next action, and the command.
fn outlook(sandbox: &Sandbox) -> (String, String, String) {
    let status = sandbox.status();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    (
        word(&status["waits_for"]["code"]),
        word(&status["next_action"]["code"]),
        word(&status["next_action"]["command"]),
    )
}

fn expected(wait: &str, action: &str, command: &str) -> (String, String, String) {
    (wait.to_owned(), action.to_owned(), command.to_owned())
}

#[test]
fn status_json_names_the_wait_and_the_next_command() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha", "beta"]).set("retry", "feedback = 0"));
    sandbox.script("beta", "edit beta BAD");
    sandbox.run(&["start", "--paused"]).exits(0);
    assert_eq!(outlook(&sandbox), expected("paused", "start", "git harness start"));
    sandbox.run(&["start"]).exits(1).says("next: git harness retry --failed");
    assert_eq!(outlook(&sandbox), expected("ended", "retry", "git harness retry --failed"));
    sandbox.script("beta", "edit beta good");
    sandbox.run(&["retry", "--failed"]).exits(0);
    sandbox.run(&["start"]).exits(0).says("next: git merge harness/job-1/result");
    sandbox.run(&["start", "--run", "other", "--paused"]).exits(0);
    let command = "git harness start --run other";
    assert_eq!(outlook(&sandbox), expected("paused", "start", command), "several runs");
    sandbox.run(&["cancel", "other"]).exits(0);
    assert_eq!(outlook(&sandbox), expected("cancelled", "sweep", "git harness sweep other"));
}

#[test]
fn status_of_a_polled_run_says_when() {
    let sandbox = Sandbox::new(TestJob::new(&["alpha"]));
    sandbox.script("alpha", "touch \"$HOME/up\"; wait_for \"$HOME/go\"; edit alpha done");
    sandbox.run(&["start", "--paused"]).exits(0);
    sandbox.await_that("the attempt", || {
        sandbox.run(&["poll"]).exits(0);
        sandbox.sign("up").exists()
    });
    assert_eq!(outlook(&sandbox), expected("poll", "poll", "git harness poll"));
    screen(&sandbox, "status_polled", &["status"]);
    sandbox.give_sign("go");
    sandbox.run(&["start"]).exits(0);
    Claim::all(&sandbox).holds();
}

#[test]
fn canary_that_waits_for_a_review_stops_the_run() {
    let job = TestJob::new(&["t1", "t2", "t3", "t4", "t5"])
        .set("retry", "feedback = 0\ninfra = 0")
        .set("queue", "review = \"required\"")
        .set("limits", "jobs = 1");
    let sandbox = Sandbox::new(job);
    for task in ["t1", "t2", "t3"] {
        sandbox.script(task, &format!("edit {task} BAD"));
    }
    sandbox.run(&["start"]).exits(3);
    assert_eq!(outlook(&sandbox), expected("halted", "show", "git harness show t1"));
    let review = "git harness review t4";
    sandbox.run(&["start", "--force"]).exits(3).says(review);
    assert_eq!(outlook(&sandbox), expected("review", "review", review));
    assert_eq!(sandbox.status()["reason"], "1 candidate waits for a review");
    sandbox.run(&["poll"]).exits(3);
}

#[test]
fn task_is_shown_by_its_path() {
    let order =
        "order = \"dependency\"\nedges = [\"printf\", '{\"src/two.txt\": [\"src/One.txt\"]}']";
    let job = TestJob::new(&["src/One.txt", "src/two.txt"])
        .set("plan", order)
        .set("retry", "feedback = 0\nredispatch = 0");
    let sandbox = Sandbox::new(job);
    sandbox.script("default", "edit src/One.txt BAD");
    screen(&sandbox, "start_path_fails", &["start"]);
    screen(&sandbox, "status_path_failed", &["status"]);
    sandbox.script("default", "edit src/One.txt good");
    screen(&sandbox, "retry_path", &["retry", "src/One.txt"]);
    sandbox.run(&["skip", "src/two.txt", "-m", "by hand"]).exits(0);
    sandbox.run(&["start"]).exits(0).says("landed    src/One.txt (");
    sandbox.run(&["log"]).exits(0).says("  src/One.txt: landed as");
    sandbox.run(&["collect"]).exits(0).says("1 of 1 task done (100.0 %)");
}
