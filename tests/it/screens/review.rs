//! `review`, `approve` and `reject`.

use crate::job::TestJob;

use super::{screen, script, sequential};

#[test]
fn review_of_candidates() {
    let job = TestJob::new(&["alpha", "beta"]).set("queue", "review = \"required\"");
    let sandbox = sequential(job);
    script(&sandbox, "default", "settled 'started|exit'; edit \"$HARNESS_TASK\" done");
    script(&sandbox, "alpha.1", "edit alpha 'let total = a + b'; say 'I have added them.'");
    sandbox.run(&["start"]).exits(3);
    screen(&sandbox, "review_list", &["review"]);
    screen(&sandbox, "review_one", &["review", "alpha"]);
    screen(&sandbox, "reject_unknown_line", &["reject", "alpha", "-m", "alpha:9:nothing"]);
    screen(&sandbox, "reject", &["reject", "alpha", "-m", "alpha:1:it must be a product"]);
    screen(&sandbox, "approve_not_waiting", &["approve", "alpha"]);
    screen(&sandbox, "approve", &["approve", "beta"]);
    screen(&sandbox, "review_none_waiting", &["review", "--run", "job-1", "--no-pager"]);
}
