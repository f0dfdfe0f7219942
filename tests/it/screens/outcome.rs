//! `show`, `log`, `why`, `blame`, `verify`: what is known of a task and of a commit.

use crate::job::TestJob;
use crate::sandbox::Sandbox;

use super::{screen, script, sequential};

/// A run whose first task needed two attempts.
fn landed() -> Sandbox {
    let sandbox = sequential(TestJob::new(&["alpha", "beta"]));
    script(&sandbox, "alpha.1", "settled; say 'first try'; edit alpha 'so BAD'");
    script(&sandbox, "alpha.2", "settled; say 'second try'; edit alpha fine");
    sandbox.run(&["start"]).exits(0);
    sandbox
}

#[test]
fn show_a_task() {
    let sandbox = landed();
    screen(&sandbox, "show", &["show", "alpha"]);
    screen(&sandbox, "show_diff", &["show", "alpha", "--diff"]);
    screen(&sandbox, "show_prompt", &["show", "alpha", "--prompt"]);
    screen(&sandbox, "show_transcript", &["show", "alpha", "--transcript"]);
    screen(&sandbox, "log_run", &["log"]);
    screen(&sandbox, "log_task", &["log", "alpha"]);
    screen(&sandbox, "verify", &["verify", "alpha"]);
    screen(&sandbox, "collect_of_changes", &["collect"]);
}

#[test]
fn why_a_commit_is_there() {
    let sandbox = landed();
    let target = "harness/job-1/result";
    screen(&sandbox, "why", &["why", target]);
    screen(&sandbox, "why_foreign", &["why", "main"]);
    screen(&sandbox, "blame", &["blame", "alpha", target]);
}
