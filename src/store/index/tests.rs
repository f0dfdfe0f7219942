//! Tests of the index and the snapshot.

use super::record::tokens;
use super::snapshot::{Snapshot, Stamps};
use super::*;
use crate::domain::evaluation::Evaluation;
use crate::domain::id::{TaskId, Timestamp};
use crate::domain::plan::{Plan, Task};
use crate::domain::review::{Approval, Review};
use crate::domain::session::{Class, Cost, Session, Spend, Usage};
use crate::domain::state::Phase;
use crate::domain::termination::Termination;
use crate::domain::verdict::Candidate;
use crate::store::chain::Tip;

fn oid(n: u32) -> Oid {
    Oid::parse(&format!("{n:040x}")).unwrap()
}

/// Returns a state in which every field is set.
fn full_state(n: u32) -> TaskState {
    let text = |word: &str| Some(format!("{word} {n}"));
    let tokens = tokens([1, 2, 3, u64::from(n)]);
    let counted = Usage { tokens: Some(tokens), cost: Some(Cost(7)) };
    let mut spend = Spend::default();
    spend.add(counted);
    let candidate = Candidate { commit: oid(n + 1), tree: oid(n + 2), base: oid(n + 3) };
    TaskState {
        phase: Phase::Queued,
        seq: 3,
        attempt: n,
        worktree: text("p01"),
        owner: text("here"),
        base: Some(oid(n)),
        termination: Some(Termination::Exited(0)),
        class: Some(Class::Ok),
        answered: true,
        silent_ending: text("silence"),
        session: Some(Session {
            id: "id".into(),
            worktree: "p01".into(),
            owner: "here".into(),
            counted,
        }),
        resumes: 1,
        redispatches: 2,
        spend,
        written_off: counted,
        candidate: Some(candidate.clone()),
        rejections: 3,
        conflicts: 4,
        faults: 5,
        not_before: Timestamp(6),
        evaluation: Evaluation {
            waiting: true,
            answered: true,
            rounds: 7,
            objection: text("digest"),
            spend,
        },
        review: Review {
            approval: Some(Approval {
                by: "somebody".into(),
                at: Timestamp(8),
                commit: candidate.commit,
                tree: candidate.tree,
            }),
            revised: true,
        },
        landed: Some(oid(9)),
        reason: text("because"),
        cause: text("cause"),
        at: Timestamp(u64::from(n)),
    }
}

fn written(count: u32) -> (tempfile::TempDir, std::path::PathBuf, Vec<(Oid, Oid, TaskState)>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index").join("run-1");
    // The tips are not in the order of their ids.
    let tip = |n: u32| {
        let state = if n.is_multiple_of(3) { full_state(n) } else { TaskState::default() };
        (oid(n.wrapping_mul(2_654_435_761) >> 4), oid(n), state)
    };
    let tips: Vec<_> = (0..count).map(tip).collect();
    Index::write(&path, tips.iter().map(|(c, t, s)| (c, t, s)));
    (folder, path, tips)
}

#[test]
fn index_returns_each_written_state_by_its_commit() {
    for count in [0, 1, 2, 500] {
        let (_folder, path, tips) = written(count);
        let index = Index::read(&path).unwrap();
        for (commit, tree, state) in &tips {
            assert_eq!(index.get(commit), Some((tree.clone(), state.clone())));
        }
        assert_eq!(index.get(&oid(u32::MAX)), None);
    }
}

#[test]
fn damaged_index_is_ignored_and_replaced() {
    let (_folder, path, tips) = written(40);
    let good = std::fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        std::fs::write(&path, &bad).unwrap();
        assert!(Index::read(&path).is_none(), "byte {at}");
        std::fs::write(&path, &good[..at]).unwrap();
        assert!(Index::read(&path).is_none(), "cut at {at}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(Index::read(&path).is_none());
    // A new index replaces a damaged one.
    Index::write(&path, tips.iter().map(|(c, t, s)| (c, t, s)));
    assert!(Index::read(&path).is_some());
    assert_eq!(
        path.parent().unwrap().read_dir().unwrap().count(),
        1,
        "a temporary file was left behind"
    );
}

#[test]
fn snapshot_is_ignored_after_a_ref_moved_or_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole");
    let task = |n: u32| Task {
        id: TaskId::parse(&format!("t{n}")).unwrap(),
        files: vec![format!("f{n}")],
        after: Vec::new(),
        lines: 3,
        tokens: 4,
        level: 5,
        vars: if n == 1 { "{}".into() } else { String::new() },
    };
    let plan = Plan { tasks: (0..3).map(task).collect() };
    let tip = |n| (task(n).id, Tip { commit: oid(n), tree: oid(n + 10) }, Box::new(full_state(n)));
    let tips: Vec<_> = (0..3).map(tip).collect();
    let old = Stamps { packed: Some((5, 6, 7)), folder: Some((8, 9)) };
    let moved = [
        Stamps { packed: Some((6, 6, 7)), ..old },
        Stamps { packed: None, ..old },
        Stamps { folder: Some((9, 9)), ..old },
        Stamps { folder: None, ..old },
    ];
    Snapshot::write(&path, old, "plan", &plan, &tips);
    let snapshot = Snapshot::read(&path, old, "plan").unwrap();
    assert_eq!((snapshot.plan, snapshot.tips.concat()), (plan, tips));
    assert!(Snapshot::read(&path, old, "another plan").is_none());
    for stamps in moved {
        assert!(Snapshot::read(&path, stamps, "plan").is_none(), "{stamps:?}");
    }
    let good = std::fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(5) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        assert!(Snapshot::read(&path, old, "plan").is_none(), "byte {at}");
    }
}

#[test]
fn recently_changed_refs_have_no_stamp() {
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("packed-refs");
    std::fs::write(&packed, "x").unwrap();
    let tasks = folder.path().join("tasks");
    assert_eq!(
        Stamps::of(&packed, &tasks),
        None,
        "a second change in the same tick would be invisible"
    );
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    std::fs::File::open(&packed).unwrap().set_modified(old).unwrap();
    let stamps = Stamps::of(&packed, &tasks).unwrap();
    assert_eq!((stamps.packed.map(|p| p.1), stamps.folder), (Some(1), None));
    std::fs::create_dir(&tasks).unwrap();
    assert_eq!(Stamps::of(&packed, &tasks), None);
}
