//! Quota and overload close the account and do not charge the task.

use super::*;

fn limited(resets_at: Timestamp) -> SessionReport {
    SessionReport { resets_at: Some(resets_at), ..report(Class::RateLimited) }
}

#[test]
fn quota_refusal_stops_all_starts_until_the_reset_time() {
    let mut bench = MachineBench::new(&["one", "two", "three"], lenient());
    assert!(bench.start("one") && bench.start("two"));
    let reset = bench.now.after_ms(60_000);
    bench.end("one", Some(limited(reset)));
    assert_eq!(bench.startable(), [""; 0]);
    assert_eq!(super::super::next_wake(&bench.state, bench.now), Some(reset));
    assert_eq!(bench.task("two").phase, Phase::Running, "a running attempt continues");
    bench.now = Timestamp(reset.0 - 1);
    assert_eq!(bench.startable(), [""; 0]);
    assert!(!bench.start("three"));
}

#[test]
fn account_probe_runs_alone_until_the_service_answers() {
    for probe in [true, false] {
        let mut bench = MachineBench::new(&["one", "two", "three"], Policy { probe, ..lenient() });
        assert!(bench.start("one"));
        let reset = bench.now.after_ms(60_000);
        bench.end("one", Some(limited(reset)));
        bench.now = reset;
        assert_eq!(bench.startable(), ["one"], "the task with a session probes alone");
        assert!(bench.start("one"));
        assert_eq!(bench.startable(), [""; 0]);
        bench.observe(Observation::ServiceAnswered { task: id("one"), attempt: 1 });
        assert_eq!(bench.startable(), [""; 0], "the answer is for an old attempt");
        bench.observe(Observation::ServiceAnswered { task: id("one"), attempt: 2 });
        assert_eq!(bench.startable(), ["two", "three"]);
    }
}

#[test]
fn attempt_from_before_the_closing_does_not_block_the_account_probe() {
    let mut bench = MachineBench::new(&["one", "two", "three"], lenient());
    assert!(bench.start("one") && bench.start("two"));
    let reset = bench.now.after_ms(60_001);
    bench.end("one", Some(limited(reset)));
    bench.now = reset;
    assert_eq!(
        (bench.startable(), &bench.task("two").phase),
        (vec!["one".into()], &Phase::Running)
    );
}

#[test]
fn answer_to_an_attempt_from_before_the_closing_does_not_prove_the_account() {
    let mut bench = MachineBench::new(&["one", "two", "three"], lenient());
    assert!(bench.start("one") && bench.start("two"));
    let reset = bench.now.after_ms(60_000);
    bench.end("one", Some(limited(reset)));
    bench.now = reset;
    bench.observe(Observation::ServiceAnswered { task: id("two"), attempt: 1 });
    bench.end("two", Some(report(Class::Ok)));
    assert_eq!(bench.startable(), ["one"]);
}

#[test]
fn account_probe_that_crashes_or_times_out_proves_nothing() {
    for class in [Class::Crashed, Class::TimedOut] {
        let policy = Policy { probe: true, resumable: false, ..lenient() };
        let mut bench = MachineBench::new(&["one", "two", "three"], policy);
        assert_eq!(bench.startable(), ["one"]);
        bench.run_attempt("one", class);
        assert_eq!(bench.startable(), ["two"], "{class}");
        bench.run_attempt("two", Class::Limit);
        assert_eq!(bench.startable().len(), 1);
        assert!(bench.state.account.proven);
    }
}

#[test]
fn overload_halves_the_slots_and_each_complete_session_restores_one() {
    let names = ["f", "a", "b", "c", "d", "e"];
    let mut bench = MachineBench::new(&names, lenient());
    bench.land("f");
    assert_eq!(bench.startable().len(), 4);
    bench.run_attempt("a", Class::Overloaded);
    assert_eq!(bench.startable(), [""; 0]);
    bench.now = bench.state.account.closed_until;
    assert_eq!(bench.startable().len(), 2);
    bench.run_attempt("a", Class::Ok);
    assert_eq!(bench.startable().len(), 3);
    bench.run_attempt("b", Class::Ok);
    assert_eq!(bench.state.account.slots, None);
}

#[test]
fn run_halts_after_too_many_quota_refusals_in_a_row() {
    let mut bench = MachineBench::new(&["one", "two"], lenient());
    let mut closed = 0;
    while bench.state.phase == RunPhase::Active {
        bench.run_attempt("one", Class::RateLimited);
        closed += 1;
        bench.now = bench.state.account.closed_until;
    }
    assert_eq!((closed, bench.state.halt), (21, Some(Halt::Account)));
    assert_eq!((bench.task("one").rejections, bench.task("one").resumes), (0, 0));
    bench.resume();
    assert_eq!(bench.state.account.strikes, 0);
    bench.run_attempt("one", Class::RateLimited);
    assert_eq!(bench.state.phase, RunPhase::Active);
}

#[test]
fn session_without_a_report_leaves_the_account_unchanged() {
    let mut bench = MachineBench::new(&["one"], Policy { resumable: false, ..lenient() });
    assert!(bench.start("one"));
    let decisions = bench.end("one", None);
    assert!(!has_run_event(&decisions, |_| true), "{decisions:?}");
}
