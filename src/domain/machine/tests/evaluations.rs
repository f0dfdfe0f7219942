//! Evaluations of candidates that passed their checks.

use super::*;
use crate::domain::machine::{at_rest, evaluator_slots};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Objection, Verdict};

fn evaluated(rounds: u32) -> Policy {
    Policy { evaluates: true, rounds, ..lenient() }
}

/// Returns a bench on which every task has passed its checks.
fn presented(tasks: &[&str], policy: Policy) -> MachineBench {
    presented_before(tasks, &[], policy)
}

/// Returns a bench on which some tasks have passed their checks, and others have not started.
fn presented_before(tasks: &[&str], others: &[&str], policy: Policy) -> MachineBench {
    let mut bench = MachineBench::new(&[tasks, others].concat(), policy);
    for task in tasks {
        attempt(&mut bench, task);
    }
    bench
}

/// Runs an attempt that passes its checks.
fn attempt(bench: &mut MachineBench, task: &str) {
    assert!(bench.start(task), "{task} may not start");
    bench.end(task, Some(report(Class::Ok)));
    bench.verify(task, Verdict::Passed);
}

fn objection(text: &str) -> Verdict<Objection> {
    let finding = Finding { attempt: 1, check: "evaluate".into(), text: text.into() };
    Verdict::Failed(Objection { findings: vec![finding], digest: text.into() })
}

impl MachineBench {
    /// Delivers an evaluator's verdict and the class of its session.
    pub(super) fn evaluate(
        &mut self,
        task: &str,
        verdict: Verdict<Objection>,
        class: Class,
    ) -> Vec<Decision> {
        self.evaluate_with(task, Termination::Exited(0), verdict, Some(report(class)))
    }

    fn evaluate_with(
        &mut self,
        task: &str,
        termination: Termination,
        verdict: Verdict<Objection>,
        report: Option<SessionReport>,
    ) -> Vec<Decision> {
        self.observe(Observation::Evaluated {
            task: id(task),
            attempt: self.task(task).attempt,
            tree: oid('d'),
            began: self.now,
            termination,
            verdict,
            report: report.map(Box::new),
        })
    }

    /// Returns the owed effects for tasks with a candidate.
    fn owed_for_candidates(&self) -> Vec<String> {
        let word = |effect| match effect {
            Effect::Verify(task, _) => Some(format!("verify {task}")),
            Effect::Evaluate(task, _) => Some(format!("evaluate {task}")),
            Effect::Land(task) => Some(format!("land {task}")),
            Effect::VerifyBase | Effect::Await(..) | Effect::Start(..) | Effect::Redispatch => None,
        };
        owed(&self.state, self.now, &self.policy).into_iter().filter_map(word).collect()
    }
}

#[test]
fn candidate_lands_only_after_the_evaluation_passed() {
    let mut bench = presented(&["one"], evaluated(3));
    assert_eq!(
        (&bench.task("one").phase, bench.owed_for_candidates()),
        (&Phase::Verifying, vec!["evaluate one".into()])
    );
    let repeated = bench.verify("one", Verdict::Failed(Vec::new()));
    assert_eq!(repeated, [], "the checks have already passed");
    bench.evaluate("one", Verdict::Passed, Class::Ok);
    assert_eq!(bench.owed_for_candidates(), ["land one"]);
    assert_eq!(
        bench.evaluate("one", objection("late"), Class::Ok),
        [],
        "the evaluation has already passed"
    );
}

#[test]
fn evaluation_of_a_task_that_is_not_chosen_does_not_keep_the_run_going() {
    let mut bench = presented(&["one"], evaluated(3));
    bench.policy.only = [id("one")].into();
    assert_eq!(bench.owed_for_candidates(), ["evaluate one"]);
    assert!(!at_rest(&bench.state, &bench.policy));
    bench.policy.only = [id("another")].into();
    assert_eq!(bench.owed_for_candidates(), [""; 0]);
    assert!(at_rest(&bench.state, &bench.policy));
}

#[test]
fn output_is_accepted_only_after_the_evaluation_passed() {
    let mut bench = presented(&["one"], Policy { report: true, ..evaluated(3) });
    assert_eq!(bench.task("one").phase, Phase::Verifying);
    bench.evaluate("one", Verdict::Passed, Class::Ok);
    assert_eq!(bench.task("one").phase, Phase::Done);
}

#[test]
fn failed_evaluation_starts_another_attempt_until_the_rounds_are_used_up() {
    let mut bench = presented(&["one"], evaluated(2));
    let decisions = bench.evaluate("one", objection("no tests"), Class::Ok);
    assert_eq!(retry_reason(&decisions), Some(RetryReason::Feedback));
    assert_eq!((bench.task("one").evaluation.rounds, bench.task("one").rejections), (1, 0));
    attempt(&mut bench, "one");
    assert_eq!(bench.owed_for_candidates(), ["evaluate one"]);
    bench.evaluate("one", objection("wrong names"), Class::Ok);
    let state = bench.task("one");
    assert_eq!(state.phase, Phase::Failed);
    assert_eq!(
        state.reason.as_deref(),
        Some("the evaluator rejected the work in 2 rounds: wrong names")
    );
    bench.observe(Observation::Requested(Request::Retry(id("one"))));
    assert_eq!((bench.task("one").evaluation.rounds, bench.startable()), (0, vec!["one".into()]));
}

#[test]
fn same_evaluation_findings_twice_in_a_row_fail_the_task() {
    let mut bench = presented(&["one"], evaluated(9));
    for text in ["no tests", "wrong names", "no tests"] {
        bench.evaluate("one", objection(text), Class::Ok);
        attempt(&mut bench, "one");
    }
    bench.evaluate("one", objection("no tests"), Class::Ok);
    let reason = bench.task("one").reason.as_deref();
    assert_eq!(reason, Some("the evaluator reported the same findings twice in a row: no tests"));
}

#[test]
fn evaluation_without_a_verdict_is_an_infrastructure_fault() {
    let mut bench = presented(&["one"], Policy { infra: 2, ..evaluated(3) });
    for fault in 1..=2 {
        let decisions = bench.evaluate("one", Verdict::Errored("no object".into()), Class::Ok);
        assert_eq!(retry_reason(&decisions), Some(RetryReason::Infra));
        assert_eq!(
            (&bench.task("one").phase, bench.owed_for_candidates()),
            (&Phase::Verifying, vec![])
        );
        assert_eq!(bench.task("one").faults, fault);
        bench.now = bench.task("one").not_before;
        assert_eq!(bench.owed_for_candidates(), ["evaluate one"]);
    }
    bench.evaluate("one", Verdict::Errored("no object".into()), Class::Crashed);
    let state = bench.task("one");
    assert_eq!((&state.phase, state.attempt, state.rejections), (&Phase::Failed, 1, 0));
    assert!(state.reason.as_deref().unwrap().contains("gave no answer: no object"));
}

#[test]
fn stopped_evaluation_is_repeated() {
    let mut bench = presented(&["one"], evaluated(3));
    bench.evaluate_with("one", Termination::Stopped, Verdict::Errored("stopped".into()), None);
    assert_eq!(
        (bench.task("one").faults, bench.owed_for_candidates()),
        (0, vec!["evaluate one".into()])
    );
}

#[test]
fn evaluation_usage_counts_against_the_run_budget_only() {
    let mut bench = presented(&["one", "two"], Policy { tokens: Some(1_000), ..evaluated(3) });
    let tokens = Tokens { input: 900, output: 99, cache_read: 0, cache_write: 0 };
    let used =
        SessionReport { usage: Usage { tokens: Some(tokens), cost: None }, ..report(Class::Ok) };
    bench.evaluate_with("one", Termination::Exited(0), Verdict::Passed, Some(used.clone()));
    assert_eq!(
        (bench.state.spend().tokens.total(), bench.state.evaluation_spend().tokens),
        (0, tokens)
    );
    assert_eq!(bench.state.phase, RunPhase::Active);
    let errored = Verdict::Errored("no object".into());
    bench.evaluate_with("two", Termination::Exited(0), errored, Some(used));
    assert_eq!(
        (bench.state.phase.clone(), bench.state.halt),
        (RunPhase::Halted, Some(Halt::Budget))
    );
    bench.now = bench.now.after_ms(60_000);
    assert_eq!(
        bench.owed_for_candidates(),
        ["land one"],
        "no evaluator starts, and the accepted candidate lands"
    );
}

#[test]
fn evaluation_quota_closes_the_agents_account_only_if_it_is_shared() {
    for shared_account in [true, false] {
        let policy = Policy { shared_account, ..evaluated(3) };
        let mut bench = presented_before(&["one"], &["two"], policy);
        let reset = bench.now.after_ms(60_001);
        let limited = SessionReport { resets_at: Some(reset), ..report(Class::RateLimited) };
        let decisions = bench.evaluate_with(
            "one",
            Termination::Exited(1),
            Verdict::Errored("quota".into()),
            Some(limited),
        );
        assert_eq!(retry_reason(&decisions), Some(RetryReason::Account));
        assert_eq!((bench.owed_for_candidates(), bench.task("one").faults), (vec![], 0));
        assert_eq!(bench.startable().is_empty(), shared_account, "one account: {shared_account}");
        bench.now = reset;
        assert_eq!(bench.owed_for_candidates(), ["evaluate one"]);
        assert_eq!(
            evaluator_slots(&bench.state, &bench.policy),
            1,
            "one evaluator probes the account"
        );
        assert_eq!(bench.startable().is_empty(), shared_account);
        bench.evaluate("one", Verdict::Passed, Class::Ok);
        assert!(bench.state.evaluators_account(&bench.policy).proven);
        assert_eq!(bench.startable(), ["two"]);
    }
}

#[test]
fn refused_evaluator_halts_the_run_and_keeps_the_candidate() {
    for class in [Class::Auth, Class::BadInput] {
        let mut bench = presented(&["one"], evaluated(3));
        bench.evaluate("one", Verdict::Errored("no key".into()), class);
        assert_eq!((&bench.state.phase, bench.owed_for_candidates()), (&RunPhase::Halted, vec![]));
        bench.resume();
        assert_eq!(bench.owed_for_candidates(), ["evaluate one"]);
    }
}

#[test]
fn evaluation_that_exceeds_the_context_window_fails_the_task() {
    let mut bench = presented(&["one"], evaluated(3));
    bench.evaluate("one", Verdict::Errored("too long".into()), Class::ContextExceeded);
    assert_eq!(bench.task("one").cause.as_deref(), Some("evaluator, context_exceeded"));
}

#[test]
fn evaluators_share_the_slots_of_agents() {
    let (policy, others) = (Policy { jobs: 3, ..evaluated(3) }, ["three", "four", "five"]);
    let mut bench = presented_before(&["one", "two"], &others, policy);
    assert_eq!(evaluator_slots(&bench.state, &bench.policy), 3);
    assert_eq!(bench.startable(), ["three"]);
    assert!(bench.start("three"));
    assert_eq!((evaluator_slots(&bench.state, &bench.policy), bench.startable()), (2, vec![]));
}

#[test]
fn skipped_task_counts_the_usage_of_its_evaluator() {
    let mut bench = presented(&["one"], evaluated(3));
    bench.observe(Observation::Requested(Request::Skip {
        task: id("one"),
        message: "not now".into(),
    }));
    bench.evaluate("one", objection("late"), Class::Ok);
    let state = bench.task("one");
    assert_eq!(
        (&state.phase, state.evaluation.spend.sessions_without_tokens),
        (&Phase::Skipped, 1)
    );
    assert_eq!(state.reason.as_deref(), Some("not now"));
}

#[test]
fn candidate_is_verified_again_when_the_evaluator_is_removed() {
    let mut bench = presented(&["one"], evaluated(3));
    bench.policy.evaluates = false;
    assert_eq!(bench.owed_for_candidates(), ["verify one"]);
    bench.verify("one", Verdict::Passed);
    assert_eq!(bench.owed_for_candidates(), ["land one"]);
}
