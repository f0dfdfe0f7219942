//! Cost of a thousand entries that arrive at once: number of verifications, and time if each takes
//! one unit.

use std::collections::{BTreeMap, BTreeSet};

use git_harness::domain::id::{Oid, Timestamp};
use git_harness::domain::queue::{
    EjectReason, Entry, EntryId, EntryStatus, Queue, QueueEffect, QueueInput, QueueSettings,
    TrainId,
};

use super::world::{CandidateChange, QueueWorld};

/// The figures of a simulated queue.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    runs: usize,
    time: usize,
    landed: usize,
    /// The number of good entries that were rejected.
    wrongly_rejected: usize,
}

/// Probabilities, in millionths, of a bad change, of a semantic conflict of a pair, and of a flaky
/// failure.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Luck {
    pub bad: u64,
    pub pairs: u64,
    pub flakes: u64,
}

/// Creates `n` entries at once.
pub(super) fn crowd(world: &mut QueueWorld, n: usize, luck: Luck) -> Vec<Entry> {
    crowd_from(world, 0, n, luck)
}

/// Creates `n` entries at once, in a world that has `first` changes.
pub(super) fn crowd_from(world: &mut QueueWorld, first: usize, n: usize, luck: Luck) -> Vec<Entry> {
    let entry = |number: usize| {
        let bad = world.random.chance(luck.bad);
        let older = 0..if luck.pairs > 0 { number } else { 0 };
        let breaks = older.filter(|_| world.random.chance(luck.pairs)).collect();
        let (_, candidate) =
            world.change(CandidateChange { bad, breaks, ..CandidateChange::default() });
        Entry {
            id: EntryId::parse(&format!("b{number:04}")).unwrap(),
            priority: 0,
            after: Vec::new(),
            since: Timestamp(u64::try_from(number).unwrap()),
            candidate,
            held: false,
        }
    };
    (first..first + n).map(entry).collect()
}

/// A running queue. Builds and landings take no time, verifications take one unit.
pub(super) struct Site {
    settings: QueueSettings,
    pub world: QueueWorld,
    pub queue: Queue,
    /// Running verifications: tree, and time of the end.
    flight: BTreeMap<(TrainId, usize, u32), (Oid, usize)>,
    pub now: usize,
    wrongly_rejected: usize,
    /// The facts that a queue log has of the landings and ejections.
    log: Vec<QueueInput>,
}

impl Site {
    pub(super) fn new(settings: QueueSettings, world: QueueWorld) -> Self {
        let (tip, tree) = world.tip();
        let queue = Queue::new(settings, tip, tree);
        Self {
            settings,
            world,
            queue,
            flight: BTreeMap::new(),
            now: 0,
            wrongly_rejected: 0,
            log: Vec::new(),
        }
    }

    /// Adds entries to the queue and runs the queue until it is empty.
    pub(super) fn run(&mut self, entries: &[Entry]) {
        self.apply(QueueInput::Added(entries.to_vec()));
        while self.pass() {}
        assert_eq!(self.queue.invariant_violations(), Vec::<String>::new());
        assert!(self.queue.is_empty(), "something is left");
    }

    /// Applies a fact and writes it to the log.
    fn apply(&mut self, fact: QueueInput) {
        self.log.push(fact.clone());
        self.queue.apply(fact);
    }

    /// Opens the queue again, as another process does: the log is folded, and the target observed.
    pub(super) fn restart(&mut self) {
        let root = QueueWorld::new(0, 0).tip();
        self.queue = Queue::new(self.settings, root.0, root.1);
        self.log.iter().cloned().for_each(|fact| self.queue.fold(fact));
        let (tip, tree) = self.world.tip();
        self.queue.apply(QueueInput::TargetMoved { tip, tree });
    }

    /// Carries out all effects that take no time, and starts verifications.
    fn act(&mut self) {
        let mut more = true;
        while more {
            more = false;
            let mut wanted = BTreeSet::new();
            for owed in self.queue.owed() {
                if let QueueEffect::Verify { train, prefix, attempt, tree, .. } = owed {
                    wanted.insert((train, prefix, attempt));
                    let over = (tree, self.now + 1);
                    self.flight.entry((train, prefix, attempt)).or_insert(over);
                    continue;
                }
                more = true;
                self.answer(owed);
            }
            if !more {
                // A verification that was started and is no longer owed still costs.
                let begun = self.flight.len();
                self.flight.retain(|key, _| wanted.contains(key));
                self.world.runs += begun - self.flight.len();
            }
        }
        assert!(
            self.flight.len() <= self.settings.concurrency,
            "more verifications than concurrency"
        );
    }

    fn answer(&mut self, owed: QueueEffect) {
        match owed {
            QueueEffect::Build { train, onto, entries } => {
                let (cars, conflicts) = self.world.merge(&onto, &entries);
                self.queue.apply(QueueInput::Built { train, cars, conflicts });
            }
            QueueEffect::Land { onto, commit, tree, entries, .. } => {
                if self.world.land(&onto, &commit, &entries, self.settings.verify_each) {
                    self.apply(QueueInput::Landed { tip: commit, tree, entries });
                }
            }
            QueueEffect::Eject { entry, candidate, reason } => {
                let right = !self.world.would_pass(self.queue.tip(), self.world.number(&candidate));
                let rejected = matches!(reason, EjectReason::Rejected { .. });
                self.wrongly_rejected += usize::from(!right && rejected);
                self.log.push(if rejected {
                    QueueInput::Rejected(entry.clone())
                } else {
                    QueueInput::Removed(entry.clone())
                });
                self.queue.apply(QueueInput::Ejected { entry, candidate });
            }
            QueueEffect::Verify { .. } => {}
        }
    }

    /// Advances the time to the next end of a verification. Returns false if none is running.
    pub(super) fn pass(&mut self) -> bool {
        self.act();
        let Some(now) = self.flight.values().map(|(_, at)| *at).min() else { return false };
        self.now = now;
        let (over, on): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flight).into_iter().partition(|(_, (_, at))| *at == now);
        self.flight = on.into_iter().collect();
        for ((train, prefix, attempt), (tree, _)) in over {
            let verdict = self.world.verify(&tree);
            self.queue.apply(QueueInput::Verified { train, prefix, attempt, verdict });
        }
        true
    }
}

/// Runs a queue until it is empty.
fn run_to_end(settings: QueueSettings, n: usize, luck: Luck, seed: u64) -> Figures {
    let mut site = Site::new(settings, QueueWorld::new(seed, luck.flakes));
    let entries = crowd(&mut site.world, n, luck);
    site.run(&entries);
    let landed = site.world.landed.len();
    let told = site.queue.items().filter(|i| i.status == EntryStatus::Landed).count();
    assert_eq!(told, landed);
    Figures {
        runs: site.world.runs,
        time: site.now,
        landed,
        wrongly_rejected: site.wrongly_rejected,
    }
}

/// Returns the mean figures of several seeds.
fn mean(settings: QueueSettings, luck: Luck, seeds: u64) -> (f64, f64, f64, f64) {
    let all: Vec<Figures> =
        (0..seeds).map(|seed| run_to_end(settings, 1_000, luck, seed)).collect();
    let mean = |of: fn(&Figures) -> usize| {
        f64::from(u32::try_from(all.iter().map(of).sum::<usize>()).unwrap()) / all.len() as f64
    };
    (mean(|f| f.runs), mean(|f| f.time), mean(|f| f.landed), mean(|f| f.wrongly_rejected))
}

/// Figures of the design's simulation: failures in a million, then verifications and time with a
/// concurrency of 1, then of 8.
const DESIGN: [(u64, [f64; 2], [f64; 2]); 4] = [
    (0, [125.0, 125.0], [144.0, 20.0]),
    (10_000, [180.0, 180.0], [208.0, 29.0]),
    (50_000, [374.0, 374.0], [430.0, 57.0]),
    (100_000, [602.0, 602.0], [689.0, 89.0]),
];

#[test]
fn verifications_and_time_stay_within_the_design() {
    println!("a thousand entries, groups of eight: verifications / time, beside the design's");
    for (bad, one, eight) in DESIGN {
        for (concurrency, design) in [(1, one), (8, eight)] {
            let luck = Luck { bad, ..Luck::default() };
            let settings = QueueSettings { batch: 8, concurrency, ..QueueSettings::default() };
            let (runs, time, landed, wrongly_rejected) = mean(settings, luck, 20);
            let [most, longest] = design;
            let share = bad / 10_000;
            println!(
                "{concurrency} at a time, {share:2} % bad: {runs:5.0} / {time:5.1}   {most} / {longest}"
            );
            assert!(
                runs <= most * 1.1 && time <= longest * 1.1,
                "{runs} / {time} against {design:?}"
            );
            assert_eq!(wrongly_rejected, 0.0);
            assert!(landed > 850.0);
        }
    }
}

/// The same with semantic conflicts in one of ten thousand pairs, and one flaky failure in a
/// hundred verifications.
const HARDER: [(u64, [f64; 2], [f64; 2]); 4] = [
    (0, [373.0, 373.0], [475.0, 63.0]),
    (10_000, [418.0, 418.0], [503.0, 66.0]),
    (50_000, [579.0, 579.0], [670.0, 87.0]),
    (100_000, [772.0, 772.0], [889.0, 114.0]),
];

#[test]
fn semantic_conflicts_and_flakes_stay_within_the_design() {
    println!("the same with conflicts in pairs and flakes: verifications / time, wrongly rejected");
    for (bad, one, eight) in HARDER {
        for (concurrency, design) in [(1, one), (8, eight)] {
            let luck = Luck { bad, pairs: 100, flakes: 10_000 };
            let settings = QueueSettings { batch: 8, concurrency, ..QueueSettings::default() };
            let (runs, time, landed, wrongly_rejected) = mean(settings, luck, 6);
            let [most, longest] = design;
            let share = bad / 10_000;
            println!(
                "{concurrency} at a time, {share:2} % bad: {runs:5.0} / {time:5.1}   {most} / {longest}; {wrongly_rejected:.1} of {landed:.0}"
            );
            assert!(
                runs <= most * 1.1 && time <= longest * 1.1,
                "{runs} / {time} against {design:?}"
            );
            // Two flaky failures in a row, both alone: one in ten thousand.
            assert!(wrongly_rejected <= 0.2, "{wrongly_rejected} were good and are rejected");
        }
    }
}
