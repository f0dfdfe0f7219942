//! Landings: the target journal, archived tasks and lost chains.

use git_harness::domain::event::{TaskEvent, TaskEventKind};
use git_harness::domain::id::Timestamp;
use git_harness::domain::machine::Decision;
use git_harness::domain::state::Phase;
use git_harness::domain::verdict::CheckResult;
use git_harness::store::chain::Batch;
use git_harness::store::journal::{JournalEntry, LandingRecord, Moved, TargetProof};
use git_harness::store::load::LoadedRun;
use git_harness::store::{Store, layout};

use super::{Dice, StoreFixture, housekeeping, record, run_id, task_id};

/// Returns the record of a landing on the target.
fn landing(fixture: &StoreFixture, store: &Store, n: usize) -> LandingRecord {
    let target = layout::default_target(&run_id());
    let old = store.read(&target).unwrap().unwrap();
    let (candidate, _) = fixture.commit(store, &format!("candidate {n}"), &fixture.base);
    let (new, tree) = fixture.commit(store, &format!("landed {n}"), &old);
    let result = CheckResult {
        name: "tests".into(),
        key: "k".into(),
        passed: true,
        ms: 3,
        id: format!("id{n}"),
    };
    let (run, task) = (run_id(), task_id(n));
    LandingRecord { run, task, attempt: 1, candidate, old, new, tree, results: vec![result] }
}

/// Lands in two phases.
fn land(store: &Store, proof: &TargetProof, landings: &[LandingRecord]) -> anyhow::Result<Moved> {
    let intent = store.intend(proof, landings)?;
    store.barrier()?;
    store.advance(proof, landings, Some(intent))
}

#[test]
fn two_landings_of_one_journal_entry_move_the_target_together() {
    let fixture = StoreFixture::new();
    let (store, reader) = (fixture.open(), fixture.open());
    let target = layout::default_target(&run_id());
    let (_proof, _run) = fixture.run(&store, 4);
    let target_proof = store.hold_target(&target).unwrap();
    assert_eq!(reader.open_landings(&target).unwrap(), Vec::new());
    for n in [0, 2] {
        let first = landing(&fixture, &store, n);
        let (new, tree) = fixture.commit(&store, "the second", &first.new);
        let second = LandingRecord {
            task: task_id(n + 1),
            old: first.new.clone(),
            new,
            tree,
            ..first.clone()
        };
        let both = [first, second.clone()];
        let intent = store.intend(&target_proof, &both).unwrap();
        assert_eq!(
            reader.open_landings(&target).unwrap(),
            Vec::new(),
            "an intent is not a landing"
        );
        assert_eq!(store.advance(&target_proof, &both, Some(intent)).unwrap(), Moved::Landed);
        assert_eq!(reader.read(&target).unwrap(), Some(second.new.clone()));
        assert_eq!(reader.open_landings(&target).unwrap(), both);
        let settled = store.settle(&target_proof, &second, true).unwrap();
        store.transact(&[settled]).unwrap();
        assert_eq!(reader.open_landings(&target).unwrap(), Vec::new());
    }
}

#[test]
fn archived_tasks_read_as_before_the_sweep() {
    let fixture = StoreFixture::new();
    let (store, reader) = (fixture.open(), fixture.open());
    let target = layout::default_target(&run_id());
    let (proof, LoadedRun { mut ledger, .. }) = fixture.run(&store, 6);
    let mut dice = Dice(3);
    for n in 0..4 {
        let target_proof = store.hold_target(&target).unwrap();
        let planned = landing(&fixture, &store, n);
        if n == 2 {
            // Somebody else moves the target first: the landing is refused and not journaled.
            let (elsewhere, _) = fixture.commit(&store, "somebody else", &planned.old);
            fixture.git(&["update-ref", &target, elsewhere.as_str()]);
            assert_eq!(
                land(&store, &target_proof, std::slice::from_ref(&planned)).unwrap(),
                Moved::TargetMoved
            );
            assert_eq!(reader.journal(&target).unwrap(), Some(JournalEntry::Settled));
            assert_eq!(reader.read(&target).unwrap(), Some(elsewhere));
            let settled = store.settle(&target_proof, &planned, false).unwrap();
            store.transact(&[settled]).unwrap();
            assert_eq!(reader.journal(&target).unwrap(), Some(JournalEntry::Settled));
            assert_eq!(reader.journal_target(&target).unwrap(), None, "nothing landed");
            continue;
        }
        assert_eq!(
            land(&store, &target_proof, std::slice::from_ref(&planned)).unwrap(),
            Moved::Landed
        );
        assert_eq!(reader.journal(&target).unwrap(), Some(JournalEntry::Landing(planned.clone())));
        let moves = vec![store.settle(&target_proof, &planned, true).unwrap()];
        let kind =
            TaskEventKind::Landed { commit: planned.new.clone(), results: planned.results.clone() };
        let decisions = vec![Decision::Task(task_id(n), TaskEvent { at: Timestamp(9), kind })];
        ledger.record(&store, &proof, &mut Batch { decisions, moves, ..Batch::default() }).unwrap();
        assert_eq!(reader.journal(&target).unwrap(), Some(JournalEntry::Settled));
        assert_eq!(reader.journal_target(&target).unwrap(), Some(planned.new.clone()));
        assert_eq!(reader.read(&target).unwrap(), Some(planned.new));
        housekeeping(&fixture, &mut dice);
    }
    let failed = TaskEventKind::Failed { reason: "for good".into(), cause: "types".into() };
    record(&store, &proof, &mut ledger, 4, failed);
    let swept = store.sweep(&proof, &ledger.state, false).unwrap();
    assert_eq!(swept.chains, 3);
    let prefix = layout::tasks(&run_id());
    assert_eq!(reader.list(&prefix).unwrap().len(), 3, "chains of tasks that have not landed");
    let loaded = reader.load(&run_id()).unwrap().unwrap();
    assert_eq!(loaded.ledger.state, ledger.state, "state with archived tasks");
    assert_eq!(loaded.missing, []);
    assert_eq!(store.sweep(&proof, &loaded.ledger.state, false).unwrap().chains, 0);
    // A lost chain is recreated, and the other chains are unchanged.
    fixture.git(&["gc", "-q"]);
    fixture.git(&["update-ref", "-d", &layout::task(&run_id(), &task_id(4))]);
    let loaded = reader.load(&run_id()).unwrap().unwrap();
    assert_eq!(loaded.missing, [task_id(4)]);
    store.recreate_tasks(&proof, &loaded.ledger.state.plan, &loaded.missing).unwrap();
    let loaded = reader.load(&run_id()).unwrap().unwrap();
    assert_eq!(loaded.missing, []);
    assert_eq!(loaded.ledger.state.tasks[&task_id(4)].phase, Phase::Todo);
    assert_eq!(loaded.ledger.state.tasks[&task_id(0)], ledger.state.tasks[&task_id(0)]);
}
