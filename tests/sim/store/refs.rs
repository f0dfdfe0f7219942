//! Refs and notes: transactions of several handles, compared with a model.

use std::collections::BTreeMap;

use git_harness::domain::id::{Oid, RunId};
use git_harness::store::{Expected, RefConflict, RefMove, layout};

use super::{Dice, StoreFixture, housekeeping};

#[test]
fn ref_transactions_of_several_handles_agree_with_a_model() {
    let fixture = StoreFixture::new();
    let handles = [fixture.open(), fixture.open(), fixture.open()];
    let mut dice = Dice(7);
    let values: Vec<Oid> =
        (0..5).map(|n| fixture.commit(&handles[0], &n.to_string(), &fixture.base).0).collect();
    // Keep all values reachable.
    for (n, value) in values.iter().enumerate() {
        fixture.git(&["update-ref", &format!("refs/keep/{n}"), value.as_str()]);
    }
    let name = |n: usize| format!("refs/harness/tasks/model/r{n}");
    let mut model: BTreeMap<String, Oid> = BTreeMap::new();
    let (mut applied, mut refused) = (0, 0);
    for _ in 0..250 {
        let store = &handles[dice.roll(3)];
        let first = dice.roll(6);
        let mut moves = Vec::new();
        for n in first..first + 1 + dice.roll(3) {
            let current = model.get(&name(n)).cloned();
            let expects_current = dice.roll(6) > 0;
            let old = if expects_current { current } else { Some(values[dice.roll(5)].clone()) };
            match (dice.roll(4), old) {
                (0, Some(old)) => moves.push(RefMove::delete(name(n), old)),
                (_, old) => {
                    let new = values[dice.roll(5)].clone();
                    moves.push(RefMove::to(name(n), new, Expected::from_read(old)));
                }
            }
        }
        let expected = |m: &RefMove| Expected::from_read(model.get(&m.name).cloned()) == m.old;
        let already_applied = |m: &RefMove| model.get(&m.name) == m.new.as_ref();
        let applies = moves.iter().all(expected) || moves.iter().all(already_applied);
        match store.transact(&moves) {
            Ok(()) => {
                assert!(applies, "{moves:?} was applied to {model:?}");
                applied += 1;
                for m in moves {
                    match m.new {
                        Some(new) => drop(model.insert(m.name, new)),
                        None => drop(model.remove(&m.name)),
                    }
                }
            }
            Err(error) => {
                assert!(!applies, "{moves:?} was refused for {model:?}: {error:#}");
                assert!(error.is::<RefConflict>(), "{error:#}");
                refused += 1;
            }
        }
        if dice.roll(6) == 0 {
            housekeeping(&fixture, &mut dice);
        }
        let reader = &handles[dice.roll(3)];
        for n in 0..9 {
            assert_eq!(reader.read(&name(n)).unwrap(), model.get(&name(n)).cloned());
        }
        let listed: BTreeMap<_, _> = reader
            .list(&layout::tasks(&RunId::parse("model").unwrap()))
            .unwrap()
            .into_iter()
            .collect();
        assert_eq!(listed, model);
    }
    assert!(applied > 50 && refused > 20, "{applied} applied, {refused} refused");
}

#[test]
fn concurrent_notes_of_several_handles_are_all_kept() {
    let fixture = StoreFixture::new();
    let store = fixture.open();
    let objects: Vec<Oid> =
        (0..3).map(|n| fixture.commit(&store, &format!("o{n}"), &fixture.base).0).collect();
    let line = |writer: usize, n: usize| format!("{{\"writer\":{writer},\"n\":{n}}}");
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (objects, fixture) = (&objects, &fixture);
            scope.spawn(move || {
                let store = fixture.open();
                for n in 0..8 {
                    let lines = [objects[n % 3].clone(), objects[(n + writer) % 3].clone()];
                    let lines = lines.map(|o| (o, vec![line(writer, n)])).into_iter().collect();
                    store.add_notes(layout::VERDICTS, &lines).unwrap();
                    if writer == 0 && n == 4 {
                        fixture.git(&["pack-refs", "--all"]);
                    }
                }
            });
        }
    });
    for (index, object) in objects.iter().enumerate() {
        let note = store.note(layout::VERDICTS, object).unwrap().unwrap();
        let shown = fixture.git(&["notes", "--ref=harness-verdicts", "show", object.as_str()]);
        assert_eq!(note.trim_end(), shown.trim_end(), "note as git shows it");
        for (writer, n) in (0..3).flat_map(|w| (0..8).map(move |n| (w, n))) {
            if n % 3 == index || (n + writer) % 3 == index {
                let times = note.lines().filter(|l| *l == line(writer, n)).count();
                assert_eq!(times, 1, "{writer}, {n} in {note}");
            }
        }
    }
}
