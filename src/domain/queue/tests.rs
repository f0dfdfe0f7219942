//! Unit tests of single rules. `tests/sim/queue` simulates whole queues.

use super::*;
use crate::domain::id::{Oid, Timestamp};
use crate::domain::verdict::Verdict;

mod errors;

fn oid(kind: char, n: usize) -> Oid {
    Oid::parse(&format!("{kind}{n:039x}")).unwrap()
}

fn id(name: &str) -> EntryId {
    EntryId::parse(name).unwrap()
}

fn entry(name: &str, after: &[&str]) -> Entry {
    let number = name.bytes().fold(0, |n, b| n * 256 + usize::from(b));
    Entry {
        id: id(name),
        priority: 0,
        after: after.iter().map(|name| id(name)).collect(),
        since: Timestamp(0),
        candidate: oid('b', number),
        held: false,
    }
}

/// A queue with a repository in which equal merges make equal commits.
struct QueueBench {
    queue: Queue,
    made: Vec<(Oid, EntryId)>,
}

impl QueueBench {
    fn new(batch: usize, concurrency: usize, verify_each: bool) -> Self {
        let settings =
            QueueSettings { batch, concurrency, verify_each, ..QueueSettings::default() };
        let mut queue = Queue::new(settings, oid('c', 0), oid('d', 0));
        queue.apply(QueueInput::TreePassed(oid('d', 0)));
        Self { queue, made: Vec::new() }
    }

    fn add(&mut self, names: &[&str]) {
        let entries = names.iter().map(|name| entry(name, &[])).collect();
        self.queue.apply(QueueInput::Added(entries));
    }

    fn cars(&mut self, onto: &Oid, entries: impl IntoIterator<Item = EntryId>) -> Vec<Car> {
        let mut at = onto.clone();
        let mut car = |entry: EntryId| {
            let key = (at.clone(), entry.clone());
            let known = self.made.iter().position(|made| *made == key);
            let n = known.unwrap_or(self.made.len()) + 1;
            if known.is_none() {
                self.made.push(key);
            }
            at = oid('c', n);
            Car { entry, commit: at.clone(), tree: oid('d', n) }
        };
        entries.into_iter().map(&mut car).collect()
    }

    /// Builds all trains that are owed.
    fn build(&mut self) {
        for owed in self.queue.owed() {
            if let QueueEffect::Build { train, onto, entries } = owed {
                let cars = self.cars(&onto, entries.into_iter().map(|(id, _)| id));
                self.queue.apply(QueueInput::Built { train, cars, conflicts: Vec::new() });
            }
        }
    }

    /// Returns the owed verifications: purpose, and the entries of the prefix.
    fn owed_verifications(&self) -> Vec<(TrainKind, String)> {
        let names = |train: TrainId, prefix: usize| {
            let train = &self.queue.trains[&train];
            train.entries().take(prefix).map(EntryId::as_str).collect::<String>()
        };
        let owed_verifications = self.queue.owed().into_iter().filter_map(|owed| match owed {
            QueueEffect::Verify { train, prefix, kind, .. } => Some((kind, names(train, prefix))),
            QueueEffect::Build { .. } | QueueEffect::Land { .. } | QueueEffect::Eject { .. } => {
                None
            }
        });
        owed_verifications.collect()
    }

    /// Answers the owed verification of the prefix with these entries.
    fn answer(&mut self, what: &str, verdict: Verdict<String>) {
        let at = self.owed_verifications().iter().position(|(_, names)| names == what).unwrap();
        let owed = self.queue.owed();
        let mut verify = owed.iter().filter(|o| matches!(o, QueueEffect::Verify { .. }));
        let Some(QueueEffect::Verify { train, prefix, attempt, .. }) = verify.nth(at) else {
            panic!()
        };
        let (train, prefix, attempt) = (*train, *prefix, *attempt);
        self.queue.apply(QueueInput::Verified { train, prefix, attempt, verdict });
        self.build();
        assert_eq!(self.queue.invariant_violations(), Vec::<String>::new());
    }

    fn pass(&mut self, what: &str) {
        self.answer(what, Verdict::Passed);
    }

    fn fail(&mut self, what: &str) {
        self.answer(what, Verdict::Failed(format!("log of {what}")));
    }

    /// Carries out the owed landing. Returns the landed entries.
    fn land(&mut self) -> String {
        for owed in self.queue.owed() {
            if let QueueEffect::Land { commit, tree, entries, .. } = owed {
                let names = entries.iter().map(|(id, _)| id.as_str()).collect();
                self.queue.apply(QueueInput::Landed { tip: commit, tree, entries });
                self.build();
                return names;
            }
        }
        String::new()
    }

    fn status(&self, name: &str) -> &EntryStatus {
        &self.queue.item(&id(name)).unwrap().status
    }
}

#[test]
fn bisect_verifies_the_left_half_first_and_ejects_the_failing_entry() {
    let mut bench = QueueBench::new(8, 1, false);
    bench.add(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    bench.build();
    assert_eq!(bench.owed_verifications(), [(TrainKind::Integrate, "abcdefgh".into())]);
    bench.fail("abcdefgh");
    bench.pass("abcd");
    assert_eq!(bench.land(), "abcd");
    // `efgh` is known to fail. Its left half is verified on top of the landed cars.
    bench.fail("abcdef");
    bench.pass("abcde");
    assert_eq!(bench.land(), "e");
    // `f` is verified alone on the tip. Nothing else runs, because the concurrency is 1.
    assert_eq!(bench.owed_verifications(), [(TrainKind::Confirm, "f".into())]);
    bench.fail("f");
    let finding = "log of f".into();
    assert_eq!(*bench.status("f"), EntryStatus::Ejected(EjectReason::Rejected { finding }));
    // No verdict covers the entries behind `f`, so they form a new train.
    bench.pass("gh");
    assert_eq!(bench.land(), "gh");
}

#[test]
fn suspect_that_passes_alone_counts_as_a_flake() {
    let mut bench = QueueBench::new(1, 1, false);
    bench.add(&["a"]);
    bench.build();
    bench.fail("a");
    assert_eq!(bench.owed_verifications(), [(TrainKind::Confirm, "a".into())]);
    bench.pass("a");
    assert_eq!(bench.queue.item(&id("a")).unwrap().flaky_failures, 1);
}

#[test]
fn lanes_screen_groups_and_leave_one_verification_to_the_integrator() {
    let mut bench = QueueBench::new(2, 3, false);
    bench.add(&["a", "b", "c", "d", "e", "f"]);
    bench.build();
    assert_eq!(
        bench.owed_verifications(),
        [(TrainKind::Lane, "ab".into()), (TrainKind::Lane, "cd".into())]
    );
    bench.fail("ab");
    bench.pass("cd");
    // A group that passed alone on this tip is known to pass there.
    assert_eq!(bench.land(), "cd");
    assert_eq!(
        bench.owed_verifications(),
        [(TrainKind::Lane, "a".into()), (TrainKind::Lane, "ef".into())]
    );
    bench.pass("a");
    bench.pass("ef");
    assert!(
        bench.owed_verifications().contains(&(TrainKind::Integrate, "a".into())),
        "{:?}",
        bench.owed_verifications()
    );
}

#[test]
fn lane_gives_back_the_entries_behind_the_shortest_failure() {
    let mut bench = QueueBench::new(4, 3, false);
    bench.add(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    bench.build();
    let waiting = |bench: &QueueBench| {
        bench.queue.waiting().map(|item| item.entry.id.as_str()).collect::<String>()
    };
    bench.fail("abcd");
    assert_eq!(waiting(&bench), "", "bisection needs all of the cars");
    bench.fail("ab");
    assert_eq!(waiting(&bench), "cd");
    bench.pass("efgh");
    assert_eq!(bench.land(), "efgh");
    // The culprit is still unknown, and another lane screens the released entries.
    assert_eq!(
        bench.owed_verifications(),
        [(TrainKind::Lane, "a".into()), (TrainKind::Lane, "cd".into())]
    );
    bench.pass("a");
    assert_eq!(bench.queue.item(&id("b")).unwrap().status, EntryStatus::Suspected);
}

#[test]
fn history_sets_the_size_of_trains_up_to_batch() {
    let sizes = |batch, concurrency, verify_each| {
        let mut bench = QueueBench::new(batch, concurrency, verify_each);
        let before = bench.queue.train_size();
        let names: Vec<String> = (0..200).map(|n| format!("e{n}")).collect();
        bench.add(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let entries = bench.queue.items().map(|i| (i.entry.id.clone(), i.entry.candidate.clone()));
        let entries = entries.collect();
        bench.queue.apply(QueueInput::Landed { tip: oid('c', 1), tree: oid('d', 1), entries });
        [before, bench.queue.train_size()]
    };
    assert_eq!(sizes(64, 1, false), [8, 64]);
    assert_eq!(sizes(64, 2, false), [8, 64]);
    assert_eq!(sizes(64, 1, true), [64, 64]);
    assert_eq!(sizes(20, 1, false), [8, 20]);
}

#[test]
fn failed_unions_shrink_the_groups_of_lanes_to_eight_at_least() {
    let mut bench = QueueBench::new(64, 8, false);
    (0..200).for_each(|_| bench.queue.rate.record_landing());
    assert_eq!([bench.queue.window(), bench.queue.train_size()], [256, 64]);
    bench.queue.window = 128;
    assert_eq!([bench.queue.window(), bench.queue.train_size()], [128, 32]);
    bench.queue.window = bench.queue.min_window();
    assert_eq!([bench.queue.window(), bench.queue.train_size()], [16, 8]);
    (0..200).for_each(|_| bench.queue.rate.record_rejection());
    assert_eq!([bench.queue.window(), bench.queue.train_size()], [16, 2]);
}

#[test]
fn failed_union_is_sectioned_between_groups_and_shrinks_the_window() {
    let mut bench = QueueBench::new(2, 4, false);
    bench.add(&["a", "b", "c", "d", "e", "f"]);
    bench.build();
    // The target moves, so no verdict covers the groups on the new tip.
    bench.queue.apply(QueueInput::TargetMoved { tip: oid('c', 900), tree: oid('d', 900) });
    ["ab", "cd", "ef"].iter().for_each(|group| {
        let at = bench.queue.owed().into_iter().find_map(|o| match o {
            QueueEffect::Verify { train, prefix, attempt, .. } => {
                let names: String =
                    bench.queue.trains[&train].entries().map(EntryId::as_str).collect();
                (names == *group).then_some((train, prefix, attempt))
            }
            QueueEffect::Build { .. } | QueueEffect::Land { .. } | QueueEffect::Eject { .. } => {
                None
            }
        });
        let (train, prefix, attempt) = at.unwrap();
        bench.queue.apply(QueueInput::Verified {
            train,
            prefix,
            attempt,
            verdict: Verdict::Passed,
        });
    });
    bench.build();
    let window = bench.queue.window();
    bench.fail("abcdef");
    assert!(bench.queue.window() < window, "the window has not shrunk");
    assert_eq!(
        bench.owed_verifications(),
        [(TrainKind::Integrate, "ab".into()), (TrainKind::Integrate, "abcd".into())]
    );
    bench.fail("abcd");
    bench.pass("ab");
    assert_eq!(bench.land(), "ab");
    // `cd` is known to fail on this tip; `ef` is integrated again.
    let owed_verifications = bench.owed_verifications();
    assert_eq!(
        owed_verifications,
        [(TrainKind::Lane, "c".into()), (TrainKind::Integrate, "ef".into())]
    );
}

#[test]
fn verify_each_lands_only_a_prefix_without_gaps() {
    let mut bench = QueueBench::new(4, 2, true);
    bench.add(&["a", "b", "c", "d"]);
    bench.build();
    assert_eq!(
        bench.owed_verifications(),
        [(TrainKind::Integrate, "a".into()), (TrainKind::Integrate, "ab".into())]
    );
    bench.pass("ab");
    assert_eq!(bench.land(), "");
    bench.pass("a");
    assert_eq!(bench.land(), "ab");
    bench.fail("abc");
    // The queue does not wait for the verification of the next car.
    assert_eq!(bench.owed_verifications()[0], (TrainKind::Confirm, "c".into()));
}

#[test]
fn failing_tip_stops_the_queue_and_ejects_no_entry() {
    let mut bench = QueueBench::new(1, 1, false);
    bench.queue.apply(QueueInput::TargetMoved { tip: oid('c', 900), tree: oid('d', 900) });
    bench.add(&["a"]);
    bench.build();
    bench.fail("a");
    bench.fail("a");
    bench.fail("");
    assert_eq!(bench.queue.stopped(), None);
    bench.fail("");
    assert_eq!(bench.queue.stopped(), Some(StopReason::TipFails));
    assert_eq!(bench.queue.owed(), []);
    bench.queue.apply(QueueInput::TargetMoved { tip: oid('c', 901), tree: oid('d', 901) });
    bench.build();
    bench.fail("a");
    bench.pass("");
    assert!(matches!(bench.status("a"), EntryStatus::Ejected(EjectReason::Rejected { .. })));
}

#[test]
fn conflict_with_the_tip_ejects_and_conflict_within_the_train_waits() {
    let mut bench = QueueBench::new(4, 1, false);
    let mut entries = vec![entry("a", &[]), entry("b", &[]), entry("c", &[]), entry("d", &["c"])];
    entries.push(entry("e", &["d"]));
    bench.queue.apply(QueueInput::Added(entries));
    let Some(QueueEffect::Build { train, entries, .. }) = bench.queue.owed().pop() else {
        panic!()
    };
    assert_eq!(entries.len(), 4);
    let conflict =
        |name: &str, with_base| Conflict { entry: id(name), paths: vec!["x".into()], with_base };
    let cars = bench.cars(&oid('c', 0), ["a", "d"].map(id));
    let conflicts = vec![conflict("b", false), conflict("c", true)];
    bench.queue.apply(QueueInput::Built { train, cars, conflicts });
    assert_eq!(
        *bench.status("c"),
        EntryStatus::Ejected(EjectReason::Conflict { paths: vec!["x".into()] })
    );
    assert_eq!(*bench.status("d"), EntryStatus::Ejected(EjectReason::Blocked { by: id("c") }));
    assert_eq!(*bench.status("e"), EntryStatus::Ejected(EjectReason::Blocked { by: id("d") }));
    assert_eq!(bench.queue.invariant_violations(), Vec::<String>::new());
    assert!(!bench.queue.is_empty(), "the ejection is not reported yet");
    for name in ["c", "d", "e"] {
        let candidate = bench.queue.item(&id(name)).unwrap().entry.candidate.clone();
        bench.queue.apply(QueueInput::Ejected { entry: id(name), candidate });
    }
    assert!(!bench.queue.owed().iter().any(|o| matches!(o, QueueEffect::Eject { .. })));
}

#[test]
fn late_landing_applies_to_the_landed_candidate_only() {
    let mut bench = QueueBench::new(2, 1, false);
    bench.add(&["a", "b"]);
    bench.build();
    bench.pass("ab");
    let Some(QueueEffect::Land { commit, tree, entries, .. }) = bench.queue.owed().pop() else {
        panic!()
    };
    bench.queue.apply(QueueInput::Replaced { entry: id("b"), candidate: oid('b', 900) });
    assert!(!bench.queue.owed().iter().any(|o| matches!(o, QueueEffect::Land { .. })));
    bench.queue.apply(QueueInput::Landed { tip: commit.clone(), tree, entries });
    assert_eq!(*bench.status("a"), EntryStatus::Landed);
    assert!(!bench.status("b").ended(), "its new commit has not landed");
    assert_eq!(*bench.queue.tip(), commit);
    assert_eq!(bench.queue.invariant_violations(), Vec::<String>::new());
}

#[test]
fn group_takes_the_oldest_entry_and_dependencies_first() {
    let mut bench = QueueBench::new(3, 1, false);
    let old = Entry { priority: -1_000, ..entry("o", &[]) };
    let young = |name, after: &[&str], priority| Entry {
        priority,
        since: Timestamp(1_000),
        ..entry(name, after)
    };
    let held = Entry { held: true, ..young("h", &[], 99) };
    let all = vec![
        young("l", &[], -5),
        young("m", &[], 3),
        young("n", &["l"], 7),
        young("x", &["h"], 50),
        young("y", &["nowhere"], 50),
        held,
        old,
    ];
    bench.queue.apply(QueueInput::Added(all));
    bench.build();
    assert_eq!(bench.owed_verifications(), [(TrainKind::Integrate, "oln".into())]);
    bench.pass("oln");
    assert_eq!(bench.land(), "oln");
    assert_eq!(bench.owed_verifications(), [(TrainKind::Integrate, "m".into())]);
    bench.queue.apply(QueueInput::Released(id("h")));
    bench.pass("m");
    assert_eq!(bench.land(), "m");
    assert_eq!(bench.owed_verifications(), [(TrainKind::Integrate, "hx".into())]);
}

#[test]
fn ageing_raises_the_priority_of_waiting_entries() {
    let mut bench = QueueBench::new(1, 1, false);
    let hour: u64 = 3_600_000;
    let aged = |name, priority, hours: u64| Entry {
        priority,
        since: Timestamp(hours * hour),
        ..entry(name, &[])
    };
    bench.queue.apply(QueueInput::Added(vec![
        aged("a", 0, 10),
        aged("b", 6, 15),
        aged("c", 3, 14),
    ]));
    let order: String = bench.queue.waiting().map(|i| i.entry.id.as_str()).collect();
    // `a` is in a train as the oldest; `b` has waited an hour less than `c` and has three more
    // points.
    assert_eq!(order, "bc");
}

#[test]
fn dependency_cycle_is_ejected_at_once() {
    let mut bench = QueueBench::new(4, 1, false);
    let all = vec![entry("a", &["c"]), entry("b", &["a"]), entry("c", &["b"]), entry("d", &[])];
    bench.queue.apply(QueueInput::Added(all));
    for name in ["a", "b", "c"] {
        assert!(
            matches!(bench.status(name), EntryStatus::Ejected(EjectReason::Blocked { .. })),
            "{name}"
        );
    }
    assert_eq!(*bench.status("d"), EntryStatus::Integrating(TrainId(1)));
}

#[test]
fn unrequested_answer_changes_nothing() {
    let mut bench = QueueBench::new(2, 1, false);
    bench.add(&["a", "b"]);
    let before = bench.queue.clone();
    let train = TrainId(1);
    let foreign = bench.cars(&oid('c', 0), ["b", "a"].map(id));
    bench.queue.apply(QueueInput::Built { train, cars: foreign, conflicts: Vec::new() });
    let verdict = Verdict::Passed;
    bench.queue.apply(QueueInput::Verified {
        train,
        prefix: 2,
        attempt: 1,
        verdict: verdict.clone(),
    });
    bench.queue.apply(QueueInput::Verified { train: TrainId(7), prefix: 2, attempt: 1, verdict });
    bench.queue.apply(QueueInput::TargetMoved { tip: oid('c', 0), tree: oid('d', 0) });
    assert_eq!(bench.queue, before);
    bench.build();
    let before = bench.queue.clone();
    bench.queue.apply(QueueInput::Verified {
        train,
        prefix: 2,
        attempt: 2,
        verdict: Verdict::Passed,
    });
    assert_eq!(bench.queue, before);
}
