//! The effect of each session class on its task.

use super::*;
use crate::domain::termination::Termination;

#[test]
fn each_class_selects_its_retry_reason() {
    let cases = [
        (Class::Ok, None, Phase::Verifying),
        (Class::Limit, None, Phase::Verifying),
        (Class::Refused, None, Phase::Verifying),
        (Class::Blocked, None, Phase::Verifying),
        (Class::Crashed, Some(RetryReason::Resume), Phase::Todo),
        (Class::TimedOut, Some(RetryReason::Resume), Phase::Todo),
        (Class::RateLimited, Some(RetryReason::Account), Phase::Todo),
        (Class::Overloaded, Some(RetryReason::Account), Phase::Todo),
        (Class::Auth, Some(RetryReason::Interrupted), Phase::Todo),
        (Class::BadInput, Some(RetryReason::Interrupted), Phase::Todo),
        (Class::SessionLost, Some(RetryReason::Restart), Phase::Todo),
        (Class::SessionInUse, Some(RetryReason::Restart), Phase::Todo),
        (Class::ContextExceeded, None, Phase::Skipped),
    ];
    assert_eq!(cases.len(), Class::ALL.len());
    for (class, expected, phase) in cases {
        let mut bench = MachineBench::new(&["one", "two"], lenient());
        let decisions = bench.run_attempt("one", class);
        assert_eq!(retry_reason(&decisions), expected, "{class}");
        assert_eq!(bench.task("one").phase, phase, "{class}");
        assert_eq!(bench.task("one").rejections, 0, "{class} is charged");
    }
}

#[test]
fn unchanged_work_is_charged_and_reports_the_class() {
    for class in [Class::Refused, Class::Blocked, Class::Limit] {
        let mut bench = MachineBench::new(&["one"], lenient());
        assert!(bench.start("one"));
        let decisions = bench.end_with("one", Termination::Exited(1), Some(report(class)), false);
        assert_eq!(retry_reason(&decisions), Some(RetryReason::Feedback));
        assert_eq!(bench.task("one").rejections, 1);
        let expected = format!("exit 1, {class}: so it said");
        assert!(format!("{decisions:?}").contains(&expected), "{decisions:?}");
    }
}

#[test]
fn crash_resumes_the_session_up_to_the_limit_and_is_then_verified() {
    let mut bench = MachineBench::new(&["one"], Policy { resume: 2, ..lenient() });
    for n in 1..=2 {
        let decisions = bench.run_attempt("one", Class::Crashed);
        assert_eq!(
            (retry_reason(&decisions), bench.task("one").resumes),
            (Some(RetryReason::Resume), n)
        );
        assert_eq!(bench.task("one").session.as_ref().unwrap().id, "s-one-1");
        assert_eq!(bench.startable(), [""; 0], "a pause comes first");
        bench.now = bench.task("one").not_before;
    }
    bench.run_attempt("one", Class::Crashed);
    assert_eq!(bench.task("one").phase, Phase::Verifying);
}

#[test]
fn crash_without_resume_support_is_verified_at_once() {
    let mut bench = MachineBench::new(&["one"], Policy { resumable: false, ..lenient() });
    bench.run_attempt("one", Class::Crashed);
    assert_eq!(bench.task("one").phase, Phase::Verifying);
}

#[test]
fn lost_keeper_resumes_the_session() {
    let mut bench = MachineBench::new(&["one"], lenient());
    assert!(bench.start("one"));
    let decisions = bench.end_with("one", Termination::Lost, None, true);
    assert_eq!(retry_reason(&decisions), Some(RetryReason::Resume));
    let mut bench = MachineBench::new(&["one"], Policy { resume: 0, ..lenient() });
    assert!(bench.start("one"));
    let decisions = bench.end_with("one", Termination::Lost, None, true);
    assert_eq!(retry_reason(&decisions), Some(RetryReason::Infra));
    assert_eq!(bench.task("one").session, None);
}

#[test]
fn lost_session_restarts_up_to_the_limit_and_then_fails() {
    let policy = Policy { resume: 1, infra: 2, ..lenient() };
    let mut bench = MachineBench::new(&["one", "two"], policy);
    for _ in 0..3 {
        assert_eq!(
            retry_reason(&bench.run_attempt("one", Class::SessionLost)),
            Some(RetryReason::Restart)
        );
        assert_eq!((&bench.task("one").phase, &bench.task("one").session), (&Phase::Todo, &None));
        bench.now = bench.task("one").not_before;
    }
    bench.run_attempt("one", Class::SessionLost);
    let task = bench.task("one");
    assert_eq!((&task.phase, task.cause.as_deref()), (&Phase::Failed, Some("session_lost")));
    assert_eq!(task.rejections, 0);
}

#[test]
fn session_resumes_only_with_the_same_base_worktree_owner_and_id() {
    let mut bench = MachineBench::new(&["one"], lenient());
    bench.run_attempt("one", Class::Overloaded);
    bench.now = bench.state.account.closed_until;
    let same = Observation::Dispatched {
        task: id("one"),
        attempt: 2,
        base: oid('a'),
        worktree: "p-one".into(),
        owner: "here".into(),
        session: Some("s-one-1".into()),
        resumed: true,
        work: None,
    };
    let mut others = [same.clone(), same.clone(), same.clone(), same.clone()];
    for (n, other) in others.iter_mut().enumerate() {
        if let Observation::Dispatched { base, worktree, owner, session, .. } = other {
            match n {
                0 => *base = oid('b'),
                1 => *worktree = "p09".into(),
                2 => *owner = "elsewhere".into(),
                _ => *session = Some("another".into()),
            }
        }
    }
    for other in others {
        assert_eq!(decide(&bench.state, other.clone(), bench.now, &bench.policy), [], "{other:?}");
    }
    assert_eq!(bench.observe(same).len(), 1);
    let task = bench.task("one");
    assert!(task.candidate.is_some(), "the session keeps its changes");
    assert_eq!(task.session.as_ref().unwrap().id, "s-one-1");
}

#[test]
fn rejection_starts_a_new_session() {
    let mut bench = MachineBench::new(&["one"], lenient());
    bench.fail("one", "tests");
    assert_eq!(bench.task("one").session, None);
    assert!(bench.start("one"));
    assert_eq!(bench.task("one").session.as_ref().unwrap().id, "s-one-2");
    assert_eq!(bench.task("one").candidate, None);
}

#[test]
fn refused_agent_halts_the_run_and_charges_no_task() {
    for class in [Class::Auth, Class::BadInput] {
        let mut bench = MachineBench::new(&["one", "two"], Policy { jobs: 1, ..lenient() });
        bench.run_attempt("one", class);
        assert_eq!((&bench.state.phase, bench.state.halt), (&RunPhase::Halted, Some(Halt::Agent)));
        assert_eq!(bench.startable(), [""; 0]);
        let reason = bench.state.reason.clone().unwrap();
        assert!(reason.contains("so it said") && reason.contains("git harness start"), "{reason}");
        bench.resume();
        assert_eq!(bench.startable(), ["one"]);
        assert!(!bench.state.canary);
    }
}

#[test]
fn agent_that_cannot_be_started_halts_the_run_unless_it_has_worked() {
    let why = || "there is no program `x` in PATH".to_owned();
    let not_started = || Some(SessionReport::not_started(Class::BadInput, why()));
    let end = |bench: &mut MachineBench, task: &str| {
        assert!(bench.start(task), "{task} may not start");
        bench.end_with(task, Termination::NotStarted(why()), not_started(), false)
    };
    let mut bench = MachineBench::new(&["one", "two"], lenient());
    assert_eq!(retry_reason(&end(&mut bench, "one")), Some(RetryReason::Interrupted));
    assert_eq!((&bench.state.phase, bench.state.halt), (&RunPhase::Halted, Some(Halt::Agent)));
    assert!(bench.state.reason.as_ref().unwrap().contains(&why()));
    assert_eq!((bench.task("one").rejections, bench.task("one").faults), (0, 0));
    assert_eq!(bench.state.spend().tokens, Tokens::default());

    let mut bench = MachineBench::new(&["one", "two"], lenient());
    bench.run_attempt("one", Class::Ok);
    assert_eq!(retry_reason(&end(&mut bench, "two")), Some(RetryReason::Infra));
    assert_eq!((&bench.state.phase, bench.task("two").faults), (&RunPhase::Active, 1));
}

#[test]
fn skipped_task_counts_the_usage_of_its_running_attempt() {
    let mut bench = MachineBench::new(&["one", "two"], lenient());
    assert!(bench.start("one"));
    bench.observe(Observation::Requested(Request::Skip {
        task: id("one"),
        message: "not needed".into(),
    }));
    let mut late = report(Class::Ok);
    late.usage.tokens = Some(Tokens { input: 7, ..Tokens::default() });
    assert_eq!(bench.end("one", Some(late.clone())).len(), 1);
    let task = bench.task("one");
    assert_eq!((&task.phase, task.spend.tokens.input), (&Phase::Skipped, 7));
    assert_eq!(task.reason.as_deref(), Some("not needed"));
    assert_eq!(bench.end("one", Some(late)), [], "the observation is repeated");
}

#[test]
fn reconsidered_candidate_adds_no_session_to_the_spend() {
    let policy = Policy { feedback: 0, ..lenient() };
    let mut bench = MachineBench::new(&["one", "two"], policy);
    bench.fail("one", "tests");
    assert_eq!(bench.task("one").phase, Phase::Failed);
    let spend = bench.task("one").spend;
    bench.observe(Observation::Requested(Request::Reconsider(id("one"))));
    assert_eq!((&bench.task("one").phase, bench.task("one").spend), (&Phase::Verifying, spend));
}

#[test]
fn attempt_continues_from_the_rejected_candidate_except_the_last() {
    let policy = Policy { from_candidate: true, feedback: 2, ..lenient() };
    let mut bench = MachineBench::new(&["one"], policy);
    let next = |bench: &MachineBench| {
        bench.task("one").candidate_to_continue(&bench.policy).map(|c| c.commit.clone())
    };
    assert_eq!(next(&bench), None, "there is no candidate yet");
    bench.fail("one", "tests");
    assert_eq!(next(&bench), Some(oid('c')));
    bench.policy.from_candidate = false;
    assert_eq!(next(&bench), None, "`from = \"base\"`");
    bench.policy.from_candidate = true;
    bench.fail("one", "tests");
    assert_eq!(next(&bench), None, "the last attempt starts from the base");
    bench.policy.feedback = 5;
    assert_eq!(next(&bench), Some(oid('c')));
    bench
        .observe(Observation::Requested(Request::Skip { task: id("one"), message: String::new() }));
    assert_eq!(next(&bench), None, "the task has ended");
}

#[test]
fn attempt_does_not_continue_from_work_that_was_cut_off() {
    for (termination, class) in [
        (Termination::Stopped, Class::Ok),
        (Termination::Lost, Class::Crashed),
        (Termination::Exited(1), Class::RateLimited),
    ] {
        let policy = Policy { from_candidate: true, resumable: false, ..lenient() };
        let mut bench = MachineBench::new(&["one"], policy);
        assert!(bench.start("one"));
        bench.end_with("one", termination, Some(report(class)), true);
        assert!(bench.task("one").candidate.is_some());
        assert_eq!(bench.task("one").candidate_to_continue(&bench.policy), None, "{class}");
    }
}

#[test]
fn dispatch_with_work_is_refused_unless_the_candidate_may_be_continued() {
    let policy = Policy { from_candidate: true, ..lenient() };
    let mut bench = MachineBench::new(&["one"], policy);
    let dispatched = |attempt, resumed| Observation::Dispatched {
        task: id("one"),
        attempt,
        base: oid('a'),
        worktree: "p01".into(),
        owner: "here".into(),
        session: None,
        resumed,
        work: Some(oid('f')),
    };
    assert_eq!(bench.observe(dispatched(1, false)), []);
    bench.fail("one", "tests");
    assert_eq!(bench.observe(dispatched(2, true)), []);
    assert_eq!(bench.observe(dispatched(2, false)).len(), 1);
}
