//! An evaluator is asked about what the checks have accepted.

use super::*;
use crate::domain::machine::evaluators;
use crate::domain::termination::Termination;
use crate::domain::verdict::{Objection, Verdict};

fn evaluated(rounds: u32) -> Policy {
    Policy { evaluates: true, rounds, ..lenient() }
}

/// A bench on which every task has passed its checks.
fn presented(tasks: &[&str], policy: Policy) -> Bench {
    let mut bench = Bench::new(tasks, policy);
    for task in tasks {
        attempt(&mut bench, task);
    }
    bench
}

/// An attempt that the checks accept.
fn attempt(bench: &mut Bench, task: &str) {
    assert!(bench.start(task), "{task} may not start");
    bench.end(task, Some(report(Class::Ok)));
    bench.judge(task, Verdict::Passed);
}

fn objects(what: &str) -> Verdict<Objection> {
    let finding = Finding { attempt: 1, check: "evaluate".into(), text: what.into() };
    Verdict::Failed(Objection { findings: vec![finding], digest: what.into() })
}

impl Bench {
    /// What an evaluator said.
    fn hear(&mut self, task: &str, verdict: Verdict<Objection>, class: Class) -> Vec<Decision> {
        self.hear_all(task, Termination::Exited(0), verdict, Some(report(class)))
    }

    fn hear_all(
        &mut self,
        task: &str,
        termination: Termination,
        verdict: Verdict<Objection>,
        report: Option<SessionReport>,
    ) -> Vec<Decision> {
        self.tell(Observation::Evaluated {
            task: id(task),
            attempt: self.task(task).attempt,
            tree: oid('d'),
            began: self.now,
            termination,
            verdict,
            report: report.map(Box::new),
        })
    }

    /// What is owed for tasks whose work is there.
    fn owes(&self) -> Vec<String> {
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
fn what_the_checks_accept_lands_only_when_the_evaluator_is_content() {
    let mut bench = presented(&["one"], evaluated(3));
    assert_eq!(
        (&bench.task("one").phase, bench.owes()),
        (&Phase::Verifying, vec!["evaluate one".into()])
    );
    let doubled = bench.judge("one", Verdict::Failed(Vec::new()));
    assert_eq!(doubled, [], "the checks have spoken already");
    bench.hear("one", Verdict::Passed, Class::Ok);
    assert_eq!(bench.owes(), ["land one"]);
    assert_eq!(bench.hear("one", objects("late"), Class::Ok), [], "it was asked once");
}

#[test]
fn a_report_is_handed_in_only_then() {
    let mut bench = presented(&["one"], Policy { report: true, ..evaluated(3) });
    assert_eq!(bench.task("one").phase, Phase::Verifying);
    bench.hear("one", Verdict::Passed, Class::Ok);
    assert_eq!(bench.task("one").phase, Phase::Done);
}

#[test]
fn its_findings_are_told_to_the_next_attempt_and_rounds_bound_it() {
    let mut bench = presented(&["one"], evaluated(2));
    let decisions = bench.hear("one", objects("no tests"), Class::Ok);
    assert_eq!(reason(&decisions), Some(RetryReason::Feedback));
    assert_eq!((bench.task("one").evaluation.rounds, bench.task("one").rejections), (1, 0));
    attempt(&mut bench, "one");
    assert_eq!(bench.owes(), ["evaluate one"]);
    bench.hear("one", objects("wrong names"), Class::Ok);
    let state = bench.task("one");
    assert_eq!(state.phase, Phase::Failed);
    assert_eq!(
        state.reason.as_deref(),
        Some("the evaluator was not content in any of 2 rounds: wrong names")
    );
    bench.tell(Observation::Requested(Request::Retry(id("one"))));
    assert_eq!((bench.task("one").evaluation.rounds, bench.startable()), (0, vec!["one".into()]));
}

#[test]
fn the_same_findings_twice_in_a_row_end_it() {
    let mut bench = presented(&["one"], evaluated(9));
    for what in ["no tests", "wrong names", "no tests"] {
        bench.hear("one", objects(what), Class::Ok);
        attempt(&mut bench, "one");
    }
    bench.hear("one", objects("no tests"), Class::Ok);
    let reason = bench.task("one").reason.as_deref();
    assert_eq!(reason, Some("the evaluator found the same twice in a row: no tests"));
}

#[test]
fn no_answer_is_a_fault_of_the_infrastructure_and_costs_no_attempt() {
    let mut bench = presented(&["one"], Policy { infra: 2, ..evaluated(3) });
    for fault in 1..=2 {
        let decisions = bench.hear("one", Verdict::Errored("no object".into()), Class::Ok);
        assert_eq!(reason(&decisions), Some(RetryReason::Infra));
        assert_eq!((&bench.task("one").phase, bench.owes()), (&Phase::Verifying, vec![]));
        assert_eq!(bench.task("one").faults, fault);
        bench.now = bench.task("one").not_before;
        assert_eq!(bench.owes(), ["evaluate one"]);
    }
    bench.hear("one", Verdict::Errored("no object".into()), Class::Crashed);
    let state = bench.task("one");
    assert_eq!((&state.phase, state.attempt, state.rejections), (&Phase::Failed, 1, 0));
    assert!(state.reason.as_deref().unwrap().contains("gave no answer: no object"));
}

#[test]
fn one_that_was_stopped_is_asked_again() {
    let mut bench = presented(&["one"], evaluated(3));
    bench.hear_all("one", Termination::Stopped, Verdict::Errored("stopped".into()), None);
    assert_eq!((bench.task("one").faults, bench.owes()), (0, vec!["evaluate one".into()]));
}

#[test]
fn its_use_is_counted_apart_and_against_the_budget_of_the_run() {
    let mut bench = presented(&["one", "two"], Policy { tokens: Some(1_000), ..evaluated(3) });
    let tokens = Tokens { input: 900, output: 99, cache_read: 0, cache_write: 0 };
    let used =
        SessionReport { usage: Usage { tokens: Some(tokens), cost: None }, ..report(Class::Ok) };
    bench.hear_all("one", Termination::Exited(0), Verdict::Passed, Some(used.clone()));
    assert_eq!(
        (bench.state.spend().tokens.total(), bench.state.evaluation_spend().tokens),
        (0, tokens)
    );
    assert_eq!(bench.state.phase, RunPhase::Active);
    let more = Verdict::Errored("no object".into());
    bench.hear_all("two", Termination::Exited(0), more, Some(used));
    assert_eq!(
        (bench.state.phase.clone(), bench.state.halt),
        (RunPhase::Halted, Some(Halt::Budget))
    );
    bench.now = bench.now.after_ms(60_000);
    assert_eq!(bench.owes(), ["land one"], "no evaluator starts, and what is good lands");
}

#[test]
fn quota_closes_its_account_and_the_agents_only_where_that_is_one() {
    for one_account in [true, false] {
        let policy = Policy { one_account, ..evaluated(3) };
        let mut bench = presented(&["one"], policy);
        bench.state.plan.tasks.push(Task { id: id("two"), ..bench.state.plan.tasks[0].clone() });
        bench.state.tasks.insert(id("two"), TaskState::default());
        let reset = bench.now.after_ms(60_001);
        let limited = SessionReport { resets_at: Some(reset), ..report(Class::RateLimited) };
        let decisions = bench.hear_all(
            "one",
            Termination::Exited(1),
            Verdict::Errored("quota".into()),
            Some(limited),
        );
        assert_eq!(reason(&decisions), Some(RetryReason::Account));
        assert_eq!((bench.owes(), bench.task("one").faults), (vec![], 0));
        assert_eq!(bench.startable().is_empty(), one_account, "one account: {one_account}");
        bench.now = reset;
        assert_eq!(bench.owes(), ["evaluate one"]);
        assert_eq!(evaluators(&bench.state, &bench.policy), 1, "one goes first");
        assert_eq!(bench.startable().is_empty(), one_account);
        bench.hear("one", Verdict::Passed, Class::Ok);
        assert!(bench.state.evaluators_account(&bench.policy).proven);
        assert_eq!(bench.startable(), ["two"]);
    }
}

#[test]
fn a_refused_account_asks_a_person_and_nothing_is_lost() {
    for class in [Class::Auth, Class::BadInput] {
        let mut bench = presented(&["one"], evaluated(3));
        bench.hear("one", Verdict::Errored("no key".into()), class);
        assert_eq!((&bench.state.phase, bench.owes()), (&RunPhase::Halted, vec![]));
        bench.resume();
        assert_eq!(bench.owes(), ["evaluate one"]);
    }
}

#[test]
fn what_does_not_fit_the_evaluator_fails() {
    let mut bench = presented(&["one"], evaluated(3));
    bench.hear("one", Verdict::Errored("too long".into()), Class::ContextExceeded);
    assert_eq!(bench.task("one").cause.as_deref(), Some("evaluator, context_exceeded"));
}

#[test]
fn evaluators_take_slots_from_agents() {
    let mut bench = presented(&["one", "two"], Policy { jobs: 3, ..evaluated(3) });
    for name in ["three", "four", "five"] {
        bench.state.plan.tasks.push(Task { id: id(name), ..bench.state.plan.tasks[0].clone() });
        bench.state.tasks.insert(id(name), TaskState::default());
    }
    assert_eq!(evaluators(&bench.state, &bench.policy), 3);
    assert_eq!(bench.startable(), ["three"]);
    assert!(bench.start("three"));
    assert_eq!((evaluators(&bench.state, &bench.policy), bench.startable()), (2, vec![]));
}

#[test]
fn a_task_that_is_taken_out_keeps_what_its_evaluator_used() {
    let mut bench = presented(&["one"], evaluated(3));
    bench
        .tell(Observation::Requested(Request::Skip { task: id("one"), message: "not now".into() }));
    bench.hear("one", objects("late"), Class::Ok);
    let state = bench.task("one");
    assert_eq!(
        (&state.phase, state.evaluation.spend.sessions_without_tokens),
        (&Phase::Skipped, 1)
    );
    assert_eq!(state.reason.as_deref(), Some("not now"));
}

#[test]
fn without_an_evaluator_any_more_the_checks_are_asked() {
    let mut bench = presented(&["one"], evaluated(3));
    bench.policy.evaluates = false;
    assert_eq!(bench.owes(), ["verify one"]);
    bench.judge("one", Verdict::Passed);
    assert_eq!(bench.owes(), ["land one"]);
}
