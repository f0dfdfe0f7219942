//! Repair of broken refs and stale locks.

use std::path::Path;

use git_harness::store::layout;
use git_harness::store::load::LoadedRun;

use super::{StoreFixture, run_id, task_id};

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn repair_quarantines_broken_refs_and_removes_stale_locks_of_the_run() {
    let fixture = StoreFixture::new();
    let store = fixture.open();
    let (proof, LoadedRun { ledger, .. }) = fixture.run(&store, 5);
    let task_path = |n: usize| fixture.path(&layout::task(&run_id(), &task_id(n)));
    let attempt = layout::attempt(&run_id(), &task_id(4), 1);
    write(&task_path(0), "");
    write(&task_path(1), "0123 no id\n");
    write(&task_path(2), &format!("{}\n", "b".repeat(40)));
    write(&fixture.path(&format!("{}.lock", layout::task(&run_id(), &task_id(3)))), "");
    write(&fixture.path(&format!("{attempt}.lock")), "");
    let foreign = fixture.path("refs/harness/tasks/another-1/t0");
    write(&foreign, "");
    assert_eq!(store.broken_refs().unwrap().len(), 4);
    let repairs = store.repair_refs(&proof, &|name| name == attempt).unwrap();
    assert_eq!(repairs.len(), 4, "{repairs:?}");
    assert_eq!(std::fs::read_dir(store.local().quarantine()).unwrap().count(), 3);
    assert!(!fixture.path(&format!("{}.lock", layout::task(&run_id(), &task_id(3)))).exists());
    assert!(fixture.path(&format!("{attempt}.lock")).exists(), "lock of a live keeper");
    assert!(foreign.exists(), "ref of another run");
    std::fs::remove_file(foreign).unwrap();
    std::fs::remove_file(fixture.path(&format!("{attempt}.lock"))).unwrap();
    assert_eq!(store.repair_refs(&proof, &|_| false).unwrap(), Vec::<String>::new());
    let loaded = store.load(&run_id()).unwrap().unwrap();
    assert_eq!(loaded.missing, [task_id(0), task_id(1), task_id(2)]);
    store.recreate_tasks(&proof, &loaded.ledger.state.tasks.plan(), &loaded.missing).unwrap();
    fixture.git(&["gc", "-q"]);
    let reloaded = store.load(&run_id()).unwrap().unwrap();
    assert_eq!(reloaded.missing, []);
    assert_eq!(reloaded.ledger.state.tasks[&task_id(3)], ledger.state.tasks[&task_id(3)]);
}
