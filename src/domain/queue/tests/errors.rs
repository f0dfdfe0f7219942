//! Verifications that could not run, and refused entries.

use super::*;

#[test]
fn entry_that_errors_alone_is_rejected_once_the_tip_is_verified_again() {
    let mut bench = QueueBench::new(2, 1, false);
    bench.add(&["a"]);
    bench.build();
    let errored = || Verdict::Errored("cannot check out a submodule".into());
    for kind in [TrainKind::Integrate, TrainKind::Integrate, TrainKind::Confirm, TrainKind::Confirm]
    {
        assert_eq!(bench.owed_verifications(), [(kind, "a".into())]);
        bench.answer("a", errored());
        bench.build();
    }
    // As long as the tip cannot be verified, the error may be the tip's.
    for _ in 0..3 {
        assert_eq!(bench.owed_verifications(), [(TrainKind::Confirm, String::new())]);
        bench.answer("", errored());
    }
    bench.pass("");
    let finding = "cannot check out a submodule".to_owned();
    assert_eq!(*bench.status("a"), EntryStatus::Ejected(EjectReason::Rejected { finding }));
}

#[test]
fn entry_that_errors_alone_needs_a_new_verdict_on_a_proven_tip() {
    let mut bench = QueueBench::new(1, 1, false);
    bench.add(&["a", "b"]);
    bench.build();
    bench.pass("a");
    bench.land();
    bench.build();
    for _ in 0..4 {
        bench.answer("b", Verdict::Errored("it hangs".into()));
        bench.build();
    }
    assert_eq!(bench.owed_verifications(), [(TrainKind::Confirm, String::new())]);
    bench.pass("");
    assert!(matches!(bench.status("b"), EntryStatus::Ejected(EjectReason::Rejected { .. })));
}

#[test]
fn train_that_errors_twice_is_bisected() {
    let mut bench = QueueBench::new(2, 1, false);
    bench.add(&["a", "b"]);
    bench.build();
    for _ in 0..2 {
        assert_eq!(bench.owed_verifications(), [(TrainKind::Integrate, "ab".into())]);
        bench.answer("ab", Verdict::Errored("it hangs".into()));
    }
    assert_eq!(bench.owed_verifications(), [(TrainKind::Integrate, "a".into())]);
}

#[test]
fn refused_entry_leaves_its_train_and_blocks_its_dependents() {
    let mut bench = QueueBench::new(4, 1, false);
    let entries = vec![entry("a", &[]), entry("b", &["a"]), entry("c", &[])];
    bench.queue.apply(QueueInput::Added(entries));
    let candidate = bench.queue.item(&id("a")).unwrap().entry.candidate.clone();
    let refused = |entry: &str, candidate: Oid| QueueInput::Refused {
        entry: id(entry),
        candidate,
        reason: "no check is left".into(),
    };
    bench.queue.apply(refused("c", candidate.clone()));
    assert!(!bench.status("c").ended(), "another candidate was refused");
    bench.queue.apply(refused("a", candidate));
    let reason = "no check is left".to_owned();
    assert_eq!(*bench.status("a"), EntryStatus::Ejected(EjectReason::Refused { reason }));
    assert_eq!(*bench.status("b"), EntryStatus::Ejected(EjectReason::Blocked { by: id("a") }));
    assert_eq!(bench.queue.invariant_violations(), Vec::<String>::new());
    bench.build();
    assert_eq!(bench.owed_verifications(), [(TrainKind::Integrate, "c".into())]);
}
