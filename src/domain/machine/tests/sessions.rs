//! Faults of single sessions, and the limits of accounts with names.

use super::*;
use crate::domain::account::AgentName;

fn reported(class: Class, progress: SessionProgress) -> Option<SessionReport> {
    Some(SessionReport { progress, ..report(class) })
}

#[test]
fn refused_session_fails_its_attempt_alone_once_the_service_has_answered() {
    for class in [Class::Auth, Class::BadInput] {
        // The session itself has worked.
        let mut bench = MachineBench::new(&["one", "two"], lenient());
        assert!(bench.start("one"));
        let decisions = bench.end("one", reported(class, SessionProgress::Answered));
        assert_eq!(bench.state.phase, RunPhase::Active, "{class}");
        assert_eq!(retry_reason(&decisions), Some(RetryReason::Feedback));
        assert_eq!((bench.task("one").rejections, &bench.task("one").phase), (1, &Phase::Todo));
        assert!(format!("{decisions:?}").contains("so it said"), "{decisions:?}");
        // Another session has worked.
        assert!(bench.start("two"));
        bench.end("two", reported(class, SessionProgress::Started));
        assert_eq!((&bench.state.phase, bench.task("two").rejections), (&RunPhase::Active, 1));
        // No session has worked.
        let mut bench = MachineBench::new(&["one", "two"], lenient());
        assert!(bench.start("one"));
        bench.end("one", reported(class, SessionProgress::Started));
        assert_eq!(bench.state.halt, Some(Halt::Agent), "{class}");
    }
}

#[test]
fn refused_session_fails_its_task_after_the_last_attempt_and_no_other() {
    let mut bench = MachineBench::new(&["one", "two"], Policy { feedback: 1, ..lenient() });
    for _ in 0..2 {
        assert!(bench.start("one"));
        bench.end("one", reported(Class::BadInput, SessionProgress::Answered));
    }
    assert_eq!((&bench.task("one").phase, &bench.state.phase), (&Phase::Failed, &RunPhase::Active));
    assert!(bench.task("one").reason.as_ref().unwrap().contains("so it said"));
    assert_eq!(bench.startable(), ["two"]);
}

#[test]
fn two_silent_attempts_with_the_same_ending_halt_the_run() {
    let silent = |line: &str| {
        let detail = Some(line.to_owned());
        let progress = SessionProgress::Silent;
        Some(SessionReport { progress, detail, ..report(Class::Crashed) })
    };
    let end = |bench: &mut MachineBench, task: &str, code: i32, line: &str| {
        bench.now = bench.now.max(bench.task(task).not_before);
        assert!(bench.start(task), "{task} may not start");
        bench.end_with(task, Termination::Exited(code), silent(line), false);
    };
    for second in ["one", "two"] {
        for resumable in [true, false] {
            let policy = Policy { resumable, ..lenient() };
            let mut bench = MachineBench::new(&["one", "two", "three"], policy);
            end(&mut bench, "one", 1, "cannot open display");
            assert_eq!(bench.state.phase, RunPhase::Active);
            end(&mut bench, second, 1, "cannot open display");
            assert_eq!(bench.state.halt, Some(Halt::Agent), "{second}");
            assert!(bench.state.reason.as_ref().unwrap().contains("cannot open display"));
        }
    }
    // An ending with another line or exit code does not count as the same.
    let mut bench = MachineBench::new(&["one", "two", "three"], lenient());
    end(&mut bench, "one", 1, "a");
    end(&mut bench, "two", 1, "b");
    end(&mut bench, "three", 2, "a");
    assert_eq!(bench.state.phase, RunPhase::Active);
    // Once a session has worked, silence counts against its task alone.
    let mut bench = MachineBench::new(&["one", "two", "three"], lenient());
    assert!(bench.start("three"));
    bench.end("three", reported(Class::TimedOut, SessionProgress::Answered));
    end(&mut bench, "one", 1, "a");
    end(&mut bench, "two", 1, "a");
    assert_eq!(bench.state.phase, RunPhase::Active);
}

#[test]
fn refused_evaluator_session_is_a_fault_once_an_evaluator_was_answered() {
    let mut state = TaskState::default();
    state.evaluation.answered = true;
    let mut bench = MachineBench::new(&["one", "two"], Policy { evaluates: true, ..lenient() });
    bench.state.tasks.set(&id("two"), state);
    assert!(bench.start("one"));
    bench.end("one", Some(report(Class::Ok)));
    bench.verify("one", Verdict::Passed);
    bench.evaluate("one", Verdict::Errored("400".into()), Class::BadInput);
    assert_eq!((&bench.state.phase, bench.task("one").faults), (&RunPhase::Active, 1));
}

#[test]
fn limit_does_not_hold_back_another_preset_or_another_model() {
    for (limited, changed_to, is_open) in [
        (None, "codex", true),
        (None, "claude/sonnet", false),
        (Some("opus"), "claude/claude-sonnet-4-5", true),
        (Some("opus"), "claude/claude-opus-4-5", false),
    ] {
        let agent = AgentName::parse("claude/claude-opus-4-1");
        let mut bench = MachineBench::new(&["one", "two"], Policy { agent, ..lenient() });
        assert!(bench.start("one"));
        let resets_at = Some(bench.now.after_ms(600_000));
        let limited_model = limited.map(str::to_owned);
        let refusal = SessionReport { resets_at, limited_model, ..report(Class::RateLimited) };
        bench.end("one", Some(refusal));
        bench.resume();
        assert_eq!(bench.startable(), [""; 0], "the same agent waits");
        bench.policy.agent = AgentName::parse(changed_to);
        bench.resume();
        assert_eq!(!bench.startable().is_empty(), is_open, "{limited:?} {changed_to}");
    }
}

#[test]
fn closed_account_is_opened_by_its_name_on_request() {
    let agent = AgentName::parse("claude");
    let mut bench = MachineBench::new(&["one", "two"], Policy { agent, ..lenient() });
    assert!(bench.start("one"));
    let resets_at = Some(bench.now.after_ms(600_000));
    bench.end("one", Some(SessionReport { resets_at, ..report(Class::RateLimited) }));
    let open = |name: &str| Observation::Requested(Request::OpenAccount(AgentName::parse(name)));
    assert_eq!(bench.observe(open("codex")), []);
    assert_eq!(bench.startable(), [""; 0]);
    assert_eq!(bench.observe(open("claude")).len(), 1);
    assert_eq!(bench.startable(), ["one"], "one agent goes first");
    assert_eq!(bench.observe(open("claude")), [], "the account is open");
}
