//! Landings: the target journal, the queue log, archived tasks and lost chains.

use git_harness::domain::event::{TaskEvent, TaskEventKind};
use git_harness::domain::id::{Oid, Timestamp};
use git_harness::domain::machine::Decision;
use git_harness::domain::state::Phase;
use git_harness::store::chain::Batch;
use git_harness::store::journal::{LandingMove, Moved, TargetProof};
use git_harness::store::load::LoadedRun;
use git_harness::store::notes::NoteLines;
use git_harness::store::{Store, layout};
use git_harness::wire::queue::{LandedEntry, QueueEvent};

use super::{Dice, StoreFixture, housekeeping, record, run_id, task_id};

/// Returns a commit that lands task `n` on `old`, and the event for the queue log.
fn landing(fixture: &StoreFixture, store: &Store, n: usize, old: &Oid) -> (Oid, QueueEvent) {
    let (candidate, _) = fixture.commit(store, &format!("candidate {n}"), &fixture.base);
    let (new, _) = fixture.commit(store, &format!("landed {n}"), old);
    let entry = format!("{}/{}", run_id(), task_id(n));
    let landed = LandedEntry { entry, commit: candidate, landed_as: None, results: Vec::new() };
    let event = QueueEvent::Landed { old: old.clone(), new: new.clone(), entries: vec![landed] };
    (new, event)
}

/// Lands as the merge queue worker does. `log_tip` is the expected tip of the queue log.
fn land(
    store: &Store,
    proof: &TargetProof,
    (old, new): (&Oid, &Oid),
    log_tip: Option<&Oid>,
    event: &QueueEvent,
) -> Moved {
    store.barrier().unwrap();
    let notes = NoteLines::from([(new.clone(), vec![format!("{{\"landed\":\"{new}\"}}")])]);
    store.land(proof, &LandingMove { old, new, log_tip, event, notes: &notes }).unwrap()
}

/// Returns the tip of the target's queue log and the number of its events.
fn log(store: &Store) -> (Option<Oid>, usize) {
    let (tip, events) = store.queue_log(&layout::default_target(&run_id()), None).unwrap();
    (tip, events.len())
}

#[test]
fn landing_is_refused_when_the_queue_log_or_the_target_has_moved() {
    let fixture = StoreFixture::new();
    let (store, reader) = (fixture.open(), fixture.open());
    let target = layout::default_target(&run_id());
    let (_proof, _run) = fixture.run(&store, 4);
    let proof = store.hold_target(&target).unwrap();
    let base = store.read(&target).unwrap().unwrap();
    let (new, event) = landing(&fixture, &store, 0, &base);
    let removed = QueueEvent::Removed { entry: "other".into(), why: "a person".into() };
    store.append_queue_log(&target, &[removed]).unwrap();
    // The log had no event when the landing was decided.
    assert_eq!(land(&store, &proof, (&base, &new), None, &event), Moved::TargetMoved);
    assert_eq!(reader.read(&target).unwrap(), Some(base.clone()));
    assert_eq!(reader.journal_target(&target).unwrap(), None);
    let (tip, _) = log(&reader);
    assert_eq!(land(&store, &proof, (&base, &new), tip.as_ref(), &event), Moved::Landed);
    assert_eq!(reader.read(&target).unwrap(), Some(new.clone()));
    assert_eq!(reader.journal_target(&target).unwrap(), Some(new.clone()));
    assert_eq!(reader.last_queue_event(&target).unwrap(), Some(event));
    assert!(reader.note(layout::NOTES, &new).unwrap().is_some());
    // Somebody else moves the target first.
    let (late, event) = landing(&fixture, &store, 1, &new);
    let (elsewhere, _) = fixture.commit(&store, "somebody else", &new);
    fixture.git(&["update-ref", &target, elsewhere.as_str()]);
    let (tip, events) = log(&reader);
    assert_eq!(land(&store, &proof, (&new, &late), tip.as_ref(), &event), Moved::TargetMoved);
    assert_eq!(reader.read(&target).unwrap(), Some(elsewhere));
    assert_eq!(reader.journal_target(&target).unwrap(), Some(new));
    assert_eq!(log(&reader).1, events);
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
        let old = store.read(&target).unwrap().unwrap();
        let (new, event) = landing(&fixture, &store, n, &old);
        if n == 2 {
            // Somebody else moves the target first: the landing is refused and not journaled.
            let (elsewhere, _) = fixture.commit(&store, "somebody else", &old);
            fixture.git(&["update-ref", &target, elsewhere.as_str()]);
            let (tip, _) = log(&store);
            let moved = land(&store, &target_proof, (&old, &new), tip.as_ref(), &event);
            assert_eq!(moved, Moved::TargetMoved);
            assert_eq!(reader.read(&target).unwrap(), Some(elsewhere));
            assert_eq!(reader.journal_target(&target).unwrap(), Some(old));
            continue;
        }
        let (tip, _) = log(&store);
        let moved = land(&store, &target_proof, (&old, &new), tip.as_ref(), &event);
        assert_eq!(moved, Moved::Landed);
        let kind = TaskEventKind::Landed { commit: new.clone(), results: Vec::new() };
        let decisions = vec![Decision::Task(task_id(n), TaskEvent { at: Timestamp(9), kind })];
        ledger.record(&store, &proof, &mut Batch { decisions, ..Batch::default() }).unwrap();
        assert_eq!(reader.journal_target(&target).unwrap(), Some(new.clone()));
        assert_eq!(reader.read(&target).unwrap(), Some(new));
        housekeeping(&fixture, &mut dice);
    }
    let failed = TaskEventKind::Failed { reason: "for good".into(), cause: "types".into() };
    record(&store, &proof, &mut ledger, 4, failed);
    let swept = store.sweep(&proof, &ledger.state, false).unwrap();
    assert_eq!(swept.chains.len(), 3);
    let prefix = layout::tasks(&run_id());
    assert_eq!(reader.list(&prefix).unwrap().len(), 3, "chains of tasks that have not landed");
    let loaded = reader.load(&run_id()).unwrap().unwrap();
    assert_eq!(loaded.ledger.state, ledger.state, "state with archived tasks");
    assert_eq!(loaded.missing, []);
    assert!(store.sweep(&proof, &loaded.ledger.state, false).unwrap().chains.is_empty());
    // A lost chain is recreated, and the other chains are unchanged.
    fixture.git(&["gc", "-q"]);
    fixture.git(&["update-ref", "-d", &layout::task(&run_id(), &task_id(4))]);
    let loaded = reader.load(&run_id()).unwrap().unwrap();
    assert_eq!(loaded.missing, [task_id(4)]);
    store.recreate_tasks(&proof, &loaded.ledger.state.tasks.plan(), &loaded.missing).unwrap();
    let loaded = reader.load(&run_id()).unwrap().unwrap();
    assert_eq!(loaded.missing, []);
    assert_eq!(loaded.ledger.state.tasks[&task_id(4)].phase, Phase::Todo);
    assert_eq!(loaded.ledger.state.tasks[&task_id(0)], ledger.state.tasks[&task_id(0)]);
}
