//! Chains of runs and tasks: another handle reads what the holder has written.

use git_harness::domain::event::{RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use git_harness::domain::id::Timestamp;
use git_harness::domain::machine::Decision;
use git_harness::domain::session::{Class, Cost, SessionProgress, SessionReport, Tokens, Usage};
use git_harness::domain::termination::Termination;
use git_harness::domain::verdict::{Candidate, Finding};
use git_harness::store::RefConflict;
use git_harness::store::chain::{Batch, findings};
use git_harness::store::load::LoadedRun;

use super::{Dice, StoreFixture, assert_same_state, housekeeping, record, run_id, task_id};

/// Returns a session report that differs from round to round.
fn report(round: usize) -> SessionReport {
    let n = round as u64;
    let tokens = Tokens { input: n, output: 2 * n, cache_read: 3 * n, cache_write: 4 };
    SessionReport {
        class: Class::ALL[round % Class::ALL.len()],
        detail: Some(format!("line\n\nHarness-Class: ok {round}")),
        session: round.is_multiple_of(3).then(|| format!("learned {round}")),
        usage: Usage {
            tokens: (!round.is_multiple_of(5)).then_some(tokens),
            cost: Cost::from_usd(0.25),
        },
        cumulative: round.is_multiple_of(4),
        resets_at: round.is_multiple_of(7).then_some(Timestamp(n)),
        limited_model: round.is_multiple_of(6).then(|| "opus".to_owned()),
        denials: 1,
        progress: [SessionProgress::Silent, SessionProgress::Started, SessionProgress::Answered]
            [round % 3],
    }
}

#[test]
fn chains_read_by_another_handle_equal_the_written_state() {
    let fixture = StoreFixture::new();
    let (writer, reader) = (fixture.open(), fixture.open());
    let (proof, LoadedRun { mut ledger, .. }) = fixture.run(&writer, 5);
    assert_same_state(&reader, &ledger);
    let mut dice = Dice(11);
    let owner = "here".to_owned();
    for round in 0..40usize {
        let n = dice.roll(5);
        let attempt = ledger.state.tasks[&task_id(n)].attempt;
        let (commit, tree) = fixture.commit(&writer, &format!("work {round}"), &fixture.base);
        let finding = Finding { attempt, check: "tests".into(), text: format!("line\n\n{round}") };
        let kind = match dice.roll(6) {
            0 | 1 => TaskEventKind::Started {
                attempt: attempt + 1,
                base: fixture.base.clone(),
                worktree: "p01".into(),
                owner: owner.clone(),
                session: (round % 2 == 0).then(|| format!("session {round}")),
                resumed: round % 4 == 0,
                work: (round % 3 == 0).then(|| commit.clone()),
            },
            2 => TaskEventKind::Ended {
                attempt,
                termination: Termination::NotStarted("Harness-State: done".into()),
                candidate: Some(Candidate { commit, tree, base: fixture.base.clone() }),
                report: (round % 2 == 0).then(|| Box::new(report(round))),
            },
            3 => TaskEventKind::Verified {
                attempt,
                tree,
                findings: Some(vec![finding]),
                results: Vec::new(),
                landing: false,
            },
            4 => TaskEventKind::Conflicted { onto: fixture.base.clone(), finding },
            _ => TaskEventKind::Failed {
                reason: format!("round {round}"),
                cause: "Harness-Cause: none".into(),
            },
        };
        let has_finding =
            matches!(kind, TaskEventKind::Verified { .. } | TaskEventKind::Conflicted { .. });
        record(&writer, &proof, &mut ledger, n, kind);
        if has_finding {
            let findings = findings(&reader, &ledger.tips[&task_id(n)].tree).unwrap();
            assert_eq!(findings.last().unwrap().text, format!("line\n\n{round}"));
        }
        housekeeping(&fixture, &mut dice);
        let before = ledger.state.clone();
        let run = RunEvent { at: Timestamp(6), kind: RunEventKind::Paused(format!("at {round}")) };
        let decisions = vec![Decision::Run(run)];
        ledger.record(&writer, &proof, &mut Batch { decisions, ..Batch::default() }).unwrap();
        assert_ne!(ledger.state, before);
        assert_same_state(&reader, &ledger);
    }
    // Every candidate is reachable from its chain.
    fixture.git(&["fsck", "--strict", "--no-dangling"]);
    assert!(reader.hold(&run_id(), "other").unwrap().is_err(), "a second holder");
}

#[test]
fn stale_ledger_is_refused_and_stays_unchanged() {
    let fixture = StoreFixture::new();
    let (store, other) = (fixture.open(), fixture.open());
    let (proof, LoadedRun { ledger: mut stale, .. }) = fixture.run(&store, 2);
    drop(proof);
    let proof = other.hold(&run_id(), "other").unwrap().unwrap();
    let mut ledger = other.load(&run_id()).unwrap().unwrap().ledger;
    let skipped = |text: &str| TaskEventKind::Skipped { message: text.into() };
    record(&other, &proof, &mut ledger, 0, skipped("second"));
    drop(proof);
    let proof = store.hold(&run_id(), "again").unwrap().unwrap();
    let decision = |n: usize| {
        let event = TaskEvent { at: Timestamp(5), kind: skipped("first") };
        Decision::Task(task_id(n), event)
    };
    let before = stale.state.clone();
    let mut batch = Batch { decisions: vec![decision(1), decision(0)], ..Batch::default() };
    let error = stale.record(&store, &proof, &mut batch).unwrap_err();
    assert!(error.is::<RefConflict>(), "{error:#}");
    assert_eq!(stale.state, before, "a refused batch was folded");
    assert_same_state(&other, &ledger);
}
