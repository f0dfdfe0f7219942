//! Budgets of tokens and money, and the usage that counts against them.

use super::*;
use crate::domain::termination::Termination;

fn used(tokens: u64, cost: u64) -> SessionReport {
    let tokens = Some(Tokens { input: tokens, ..Tokens::default() });
    SessionReport { usage: Usage { tokens, cost: Some(Cost(cost)) }, ..report(Class::Ok) }
}

#[test]
fn run_halts_on_its_token_budget_until_the_budget_is_raised() {
    let policy = Policy { tokens: Some(100), jobs: 2, ..lenient() };
    let mut bench = MachineBench::new(&["one", "two", "three", "four"], policy);
    assert!(bench.start("one") && bench.start("two"));
    bench.end("one", Some(used(99, 0)));
    assert_eq!(bench.state.phase, RunPhase::Active);
    assert!(bench.start("three"));
    bench.end("two", Some(used(1, 0)));
    assert_eq!((&bench.state.phase, bench.state.halt), (&RunPhase::Halted, Some(Halt::Budget)));
    assert_eq!(bench.startable(), [""; 0]);
    assert_eq!(bench.resume(), [], "the budget is still used up");
    bench.policy.tokens = Some(101);
    bench.resume();
    assert_eq!(bench.startable(), ["four"]);
}

#[test]
fn run_halts_on_its_cost_budget() {
    let mut bench =
        MachineBench::new(&["one", "two"], Policy { cost: Some(Cost(50)), ..lenient() });
    assert!(bench.start("one"));
    bench.end("one", Some(used(1_000_000, 50)));
    assert_eq!(bench.state.halt, Some(Halt::Budget));
}

#[test]
fn resume_halts_on_a_budget_that_was_lowered() {
    for before in [RunPhase::Active, RunPhase::Paused] {
        let mut bench = MachineBench::new(&["one", "two"], lenient());
        assert!(bench.start("one"));
        bench.end("one", Some(used(10, 0)));
        bench.state.phase = before;
        bench.policy.tokens = Some(10);
        bench.resume();
        assert_eq!((&bench.state.phase, bench.state.halt), (&RunPhase::Halted, Some(Halt::Budget)));
        assert_eq!(bench.resume(), [], "the halt is already recorded");
    }
}

#[test]
fn retry_after_the_end_does_not_bypass_the_run_budget() {
    let policy = Policy { tokens: Some(10), feedback: 0, ..lenient() };
    let mut bench = MachineBench::new(&["one"], policy);
    assert!(bench.start("one"));
    bench.end_with("one", Termination::Exited(0), Some(used(10, 0)), false);
    assert_eq!((&bench.task("one").phase, bench.state.halt), (&Phase::Failed, Some(Halt::Budget)));
    bench.observe(Observation::Requested(Request::Retry(id("one"))));
    bench.resume();
    assert_eq!(bench.state.halt, Some(Halt::Budget), "a caller must not wait for ever");
}

#[test]
fn halt_on_failures_survives_a_halt_on_the_budget() {
    let mut bench = MachineBench::new(&["one", "two"], Policy { tokens: Some(10), ..lenient() });
    bench.state.phase = RunPhase::Halted;
    bench.state.halt = Some(Halt::Failures);
    bench.state.reason = Some("too many".into());
    let mut two = bench.task("two").clone();
    two.spend.tokens.input = 10;
    bench.state.tasks.set(&id("two"), two);
    bench.resume();
    assert_eq!((&bench.state.phase, bench.state.halt), (&RunPhase::Halted, Some(Halt::Failures)));
    assert!(bench.state.reason.clone().unwrap().contains("budget of 10 tokens"));
    bench.policy.tokens = None;
    bench.resume();
    assert!(bench.state.canary);
}

#[test]
fn task_over_its_budget_gets_no_retry() {
    let policy = Policy { tokens_per_task: Some(10), infra: 9, ..lenient() };
    let ends = [
        (Termination::Exited(0), Class::Crashed),
        (Termination::Exited(0), Class::Overloaded),
        (Termination::Exited(0), Class::SessionLost),
        (Termination::Stopped, Class::Ok),
    ];
    for (termination, class) in ends {
        let mut bench = MachineBench::new(&["one", "two"], policy.clone());
        assert!(bench.start("one"));
        let report = SessionReport { class, ..used(10, 0) };
        bench.end_with("one", termination, Some(report), true);
        let task = bench.task("one");
        assert_eq!((&task.phase, task.cause.as_deref()), (&Phase::Failed, Some("over its budget")));
    }
    // Accepted work lands in spite of the budget, and a verification costs nothing.
    let mut bench = MachineBench::new(&["one"], policy);
    assert!(bench.start("one"));
    bench.end("one", Some(used(11, 0)));
    bench.verify("one", Verdict::Errored("no such program".into()));
    assert_eq!(bench.task("one").phase, Phase::Verifying);
}

#[test]
fn lost_keeper_does_not_bypass_the_task_budget() {
    let policy = Policy { tokens_per_task: Some(10), resumable: false, ..lenient() };
    let mut bench = MachineBench::new(&["one", "two"], policy);
    assert!(bench.start("one"));
    bench.end_with("one", Termination::Lost, Some(used(10, 0)), true);
    assert_eq!(bench.task("one").phase, Phase::Failed);
}

#[test]
fn manual_retry_resets_the_task_budget() {
    let policy = Policy { tokens_per_task: Some(10), ..lenient() };
    let mut bench = MachineBench::new(&["one", "two"], policy);
    assert!(bench.start("one"));
    bench.end("one", Some(SessionReport { class: Class::Crashed, ..used(10, 0) }));
    bench.observe(Observation::Requested(Request::Retry(id("one"))));
    assert!(bench.start("one"));
    let decisions = bench.end("one", Some(SessionReport { class: Class::Crashed, ..used(9, 0) }));
    assert_eq!(retry_reason(&decisions), Some(RetryReason::Resume));
    assert_eq!(bench.task("one").spend.tokens.input, 19, "the spend keeps the earlier usage");
}

#[test]
fn task_over_its_budget_is_not_redispatched() {
    let policy = Policy {
        tokens_per_task: Some(10),
        redispatch_below: crate::domain::retry::Share(1_000_000),
        ..lenient()
    };
    let mut bench = MachineBench::new(&["one"], policy);
    assert!(bench.start("one"));
    bench.end("one", Some(SessionReport { class: Class::Crashed, ..used(10, 0) }));
    assert_eq!(owed(&bench.state, bench.now, &bench.policy), []);
}

#[test]
fn cumulative_usage_of_a_resumed_session_counts_once() {
    let mut bench = MachineBench::new(&["one"], Policy { resume: 9, ..lenient() });
    let counts = [("thread", 130, 7), ("thread", 390, 20), ("another", 50, 5), ("another", 60, 5)];
    for (thread, tokens, cost) in counts {
        assert!(bench.start("one"));
        let report = SessionReport {
            class: Class::Crashed,
            session: Some(thread.into()),
            cumulative: true,
            ..used(tokens, cost)
        };
        bench.end("one", Some(report));
        bench.now = bench.task("one").not_before;
    }
    let spend = bench.task("one").spend;
    assert_eq!((spend.tokens.input, spend.cost), (390 + 60, Cost(20 + 5)));
}

#[test]
fn cumulative_usage_survives_a_session_without_usage() {
    let mut bench = MachineBench::new(&["one"], Policy { resume: 9, ..lenient() });
    let crash = SessionReport { class: Class::Crashed, cumulative: true, ..used(130, 7) };
    let silent = SessionReport { cumulative: true, ..report(Class::Crashed) };
    let last = SessionReport { class: Class::Crashed, cumulative: true, ..used(150, 9) };
    for report in [crash, silent, last] {
        assert!(bench.start("one"));
        bench.end("one", Some(report));
        bench.now = bench.task("one").not_before;
    }
    let spend = bench.task("one").spend;
    assert_eq!((spend.tokens.input, spend.cost), (150, Cost(9)));
    assert_eq!((spend.sessions_with_tokens, spend.sessions_without_tokens), (2, 1));
}

#[test]
fn unknown_usage_is_not_zero() {
    let mut bench = MachineBench::new(&["one", "two"], lenient());
    assert_eq!(bench.state.spend().known_cost(), None);
    assert!(bench.start("one") && bench.start("two"));
    bench.end("one", None);
    assert_eq!(bench.state.spend().known_tokens(), None);
    bench.end("two", Some(used(5, 3)));
    let spend = bench.state.spend();
    assert_eq!((spend.known_tokens().unwrap().input, spend.sessions_without_tokens), (5, 1));
    assert_eq!(spend.known_cost(), Some(Cost(3)));
}

#[test]
fn failure_on_a_used_up_budget_has_the_words_of_the_rejection() {
    let policy = Policy { tokens_per_task: Some(10), ..lenient() };
    let mut bench = MachineBench::new(&["one"], policy);
    assert!(bench.start("one"));
    bench.end("one", Some(used(10, 0)));
    let text = "`make test`: exit 1\n1 of 3\nerror: bad line".into();
    let finding = Finding { attempt: 1, check: "tests".into(), text };
    bench.verify("one", Verdict::Failed(vec![finding]));
    assert_eq!(bench.task("one").phase, Phase::Failed);
    assert_eq!(
        bench.task("one").reason.as_deref(),
        Some(
            "the budget of 10 tokens is used up (10 used), and the task needs another try: `tests` not passed: `make test`: \
             error: bad line"
        )
    );
}
