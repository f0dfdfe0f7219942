//! Quota and overload stop the account, not the task.

use super::*;

fn limited(resets_at: Timestamp) -> SessionReport {
    SessionReport { resets_at: Some(resets_at), ..report(Class::RateLimited) }
}

#[test]
fn after_the_first_refusal_nothing_starts_until_the_moment_it_names() {
    let mut bench = Bench::new(&["one", "two", "three"], lenient());
    assert!(bench.start("one") && bench.start("two"));
    let reset = bench.now.after_ms(60_000);
    bench.end("one", Some(limited(reset)));
    assert_eq!(bench.startable(), [""; 0]);
    assert_eq!(super::super::next_wake(&bench.state, bench.now), Some(reset));
    assert_eq!(bench.task("two").phase, Phase::Running, "what runs goes on");
    bench.now = Timestamp(reset.0 - 1);
    assert_eq!(bench.startable(), [""; 0]);
    assert!(!bench.start("three"));
}

#[test]
fn then_one_goes_first_until_it_has_an_answer() {
    for probe in [true, false] {
        let mut bench = Bench::new(&["one", "two", "three"], Policy { probe, ..lenient() });
        assert!(bench.start("one"));
        let reset = bench.now.after_ms(60_000);
        bench.end("one", Some(limited(reset)));
        bench.now = reset;
        assert_eq!(bench.startable(), ["one"], "who holds a session goes first, alone");
        assert!(bench.start("one"));
        assert_eq!(bench.startable(), [""; 0]);
        bench.tell(Observation::ServiceAnswered { task: id("one"), attempt: 1 });
        assert_eq!(bench.startable(), [""; 0], "that is an old answer");
        bench.tell(Observation::ServiceAnswered { task: id("one"), attempt: 2 });
        assert_eq!(bench.startable(), ["two", "three"]);
    }
}

#[test]
fn who_still_runs_from_before_keeps_nobody_from_going_first() {
    let mut bench = Bench::new(&["one", "two", "three"], lenient());
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
fn an_answer_from_before_it_was_closed_proves_nothing() {
    let mut bench = Bench::new(&["one", "two", "three"], lenient());
    assert!(bench.start("one") && bench.start("two"));
    let reset = bench.now.after_ms(60_000);
    bench.end("one", Some(limited(reset)));
    bench.now = reset;
    bench.tell(Observation::ServiceAnswered { task: id("two"), attempt: 1 });
    bench.end("two", Some(report(Class::Ok)));
    assert_eq!(bench.startable(), ["one"]);
}

#[test]
fn a_first_agent_that_breaks_off_has_proven_nothing() {
    for class in [Class::Crashed, Class::TimedOut] {
        let policy = Policy { probe: true, resumable: false, ..lenient() };
        let mut bench = Bench::new(&["one", "two", "three"], policy);
        assert_eq!(bench.startable(), ["one"]);
        bench.meet("one", class);
        assert_eq!(bench.startable(), ["two"], "{class}");
        bench.meet("two", Class::Limit);
        assert_eq!(bench.startable().len(), 1);
        assert!(bench.state.account.proven);
    }
}

#[test]
fn overload_halves_the_slots_and_each_served_session_gives_one_back() {
    let names = ["f", "a", "b", "c", "d", "e"];
    let mut bench = Bench::new(&names, lenient());
    bench.land("f");
    assert_eq!(bench.startable().len(), 4);
    bench.meet("a", Class::Overloaded);
    assert_eq!(bench.startable(), [""; 0]);
    bench.now = bench.state.account.closed_until;
    assert_eq!(bench.startable().len(), 2);
    bench.meet("a", Class::Ok);
    assert_eq!(bench.startable().len(), 3);
    bench.meet("b", Class::Ok);
    assert_eq!(bench.state.account.slots, None);
}

#[test]
fn an_account_that_never_opens_is_for_a_person() {
    let mut bench = Bench::new(&["one", "two"], lenient());
    let mut closed = 0;
    while bench.state.phase == RunPhase::Active {
        bench.meet("one", Class::RateLimited);
        closed += 1;
        bench.now = bench.state.account.closed_until;
    }
    assert_eq!((closed, bench.state.halt), (21, Some(Halt::Account)));
    assert_eq!((bench.task("one").rejections, bench.task("one").resumes), (0, 0));
    bench.resume();
    assert_eq!(bench.state.account.strikes, 0);
    bench.meet("one", Class::RateLimited);
    assert_eq!(bench.state.phase, RunPhase::Active);
}

#[test]
fn a_program_that_reports_nothing_says_nothing_of_an_account() {
    let mut bench = Bench::new(&["one"], Policy { resumable: false, ..lenient() });
    assert!(bench.start("one"));
    let decisions = bench.end("one", None);
    assert!(!told(&decisions, |_| true), "{decisions:?}");
}
