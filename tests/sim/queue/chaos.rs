//! Simulation of a queue whose inputs are late, repeated or lost, whose entries change, and which
//! crashes often. In the end the disturbances stop, and all invariants must hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use git_harness::domain::id::{Oid, Timestamp};
use git_harness::domain::queue::{
    EjectReason, Entry, EntryId, EntryStatus, LARGEST_GROUP, Queue, QueueEffect, QueueInput,
    QueueSettings, StopReason, TrainKind,
};
use git_harness::domain::verdict::Verdict;

use super::world::{CandidateChange, QueueWorld};

/// The number of simulated worlds. Thousands have been tried by hand.
const SEEDS: u64 = 160;
/// An upper limit of steps after the disturbances have stopped.
const MAX_CALM_STEPS: usize = 4_000;

/// A completed landing: the new tip, its tree, and the landed entries.
type CompletedLanding = (Oid, Oid, Vec<(EntryId, Oid)>);

pub(super) struct Chaos {
    pub world: QueueWorld,
    settings: QueueSettings,
    pub queue: Queue,
    /// All inputs of the queue, as its log has them.
    journal: Vec<QueueInput>,
    /// Answers that are under way, unordered.
    answers: Vec<QueueInput>,
    /// Observations of the target, in order.
    target_inputs: VecDeque<QueueInput>,
    /// Landings that the queue has not observed. The target's journal has them.
    landings: Vec<CompletedLanding>,
    names: Vec<EntryId>,
    /// True if a person put a failing change on the target.
    tip_is_broken: bool,
    now: u64,
    pub covered: BTreeSet<&'static str>,
}

impl Chaos {
    pub(super) fn new(seed: u64) -> Self {
        let mut world = QueueWorld::new(seed, 0);
        world.flakes = [0, 0, 0, 10_000, 100_000][world.random.below(5)];
        let settings = QueueSettings {
            batch: 1 + world.random.below(LARGEST_GROUP),
            concurrency: [1, 1, 2, 3, 8][world.random.below(5)],
            verify_each: world.random.chance(200_000),
            ageing: 1 + u64::try_from(world.random.below(50)).unwrap(),
        };
        let (tip, tree) = world.tip();
        Self {
            queue: Queue::new(settings, tip, tree),
            world,
            settings,
            journal: Vec::new(),
            answers: Vec::new(),
            target_inputs: VecDeque::new(),
            landings: Vec::new(),
            names: Vec::new(),
            tip_is_broken: false,
            now: 0,
            covered: BTreeSet::new(),
        }
    }

    fn apply(&mut self, input: QueueInput) {
        let before: BTreeMap<EntryId, EntryStatus> =
            self.queue.items().map(|i| (i.entry.id.clone(), i.status.clone())).collect();
        self.queue.apply(input.clone());
        assert_eq!(self.queue.invariant_violations(), Vec::<String>::new(), "after {input:?}");
        for item in self.queue.items() {
            let id = &item.entry.id;
            if before.get(id) != Some(&item.status) {
                self.check_change(id);
            }
        }
        for (id, status) in before.iter().filter(|(id, _)| self.queue.item(id).is_none()) {
            assert!(
                matches!(&input, QueueInput::Removed(removed) if removed == id),
                "{id}: lost in status {status:?}"
            );
        }
        self.journal.push(input);
    }

    /// Checks that a changed status is justified.
    fn check_change(&self, id: &EntryId) {
        let item = self.queue.item(id).unwrap();
        let number = self.world.number(&item.entry.candidate);
        let would_pass = self.world.would_pass(self.queue.tip(), number);
        match &item.status {
            EntryStatus::Ejected(EjectReason::Rejected { .. }) => {
                assert!(self.world.flakes > 0 || !would_pass, "{id}: rejected, but would pass");
            }
            EntryStatus::Ejected(EjectReason::Refused { .. }) => {
                assert!(self.world.refuses(number), "{id}: refused without a reason");
            }
            EntryStatus::Ejected(EjectReason::Conflict { paths }) => {
                assert!(
                    !would_pass && *paths == [format!("src/{number}.rs")],
                    "{id}: ejected without a conflict"
                );
            }
            EntryStatus::Ejected(EjectReason::Blocked { by }) => {
                assert!(
                    item.entry.after.contains(by),
                    "{id}: blocked by {by}, which is no dependency"
                );
            }
            EntryStatus::Landed => {
                assert!(self.world.landed.contains(&number), "{id}: has not landed");
            }
            EntryStatus::Waiting
            | EntryStatus::Screening(_)
            | EntryStatus::Screened
            | EntryStatus::Integrating(_)
            | EntryStatus::Suspected
            | EntryStatus::Confirming(_) => {}
        }
    }

    fn name(&mut self) -> EntryId {
        let name = EntryId::parse(&format!("b{}", self.names.len())).unwrap();
        self.names.push(name.clone());
        name
    }

    fn some_name(&mut self) -> Option<EntryId> {
        self.world.random.pick(&self.names).cloned()
    }

    fn some_change(&mut self) -> Oid {
        let count = self.names.len();
        let mut some = |chance| {
            let random = &mut self.world.random;
            (0..count).filter(|_| random.chance(chance)).collect::<Vec<_>>()
        };
        let (breaks, conflicts) = (some(20_000), some(30_000));
        let bad = self.world.random.chance(150_000);
        let unverifiable = self.world.random.chance(20_000);
        let refused = self.world.random.chance(20_000);
        let rules = count % 24 == 23;
        // CandidateChange numbers run ahead of entry numbers, so these are older changes.
        let change = CandidateChange { bad, refused, unverifiable, rules, breaks, conflicts };
        self.world.change(change).1
    }

    fn entry(&mut self) -> Entry {
        let id = self.name();
        let mut after = Vec::new();
        while self.world.random.chance(250_000) {
            after.extend(self.some_name());
        }
        // Some entries depend on an entry that is added later or never.
        if self.world.random.chance(30_000) {
            after.push(EntryId::parse(&format!("b{}", self.names.len() + 1)).unwrap());
        }
        let priority = i64::try_from(self.world.random.below(5)).unwrap() - 2;
        let held = self.world.random.chance(100_000);
        let candidate = self.some_change();
        Entry { id, priority, after, since: Timestamp(self.now), candidate, held }
    }

    /// Simulates an action of a person.
    fn act_as_person(&mut self) {
        let Some(id) = self.some_name() else { return };
        match self.world.random.below(12) {
            0 => self.apply(QueueInput::Removed(id)),
            1 | 2 => {
                let candidate = self.some_change();
                self.apply(QueueInput::Replaced { entry: id, candidate });
            }
            3 => self.apply(QueueInput::Held(id)),
            4 | 5 => self.apply(QueueInput::Released(id)),
            6 => {
                // Add an ended or present entry again, perhaps with another commit.
                let mut entry = self.entry();
                entry.id = id;
                let old = self.queue.item(&entry.id).map(|i| i.entry.candidate.clone());
                if let (Some(old), true) = (old, self.world.random.chance(500_000)) {
                    entry.candidate = old;
                }
                self.apply(QueueInput::Added(vec![entry]));
            }
            7 => self.apply(QueueInput::Paused),
            8 => self.apply(QueueInput::Resumed),
            9 => {
                let trees: Vec<_> = self
                    .queue
                    .owed()
                    .into_iter()
                    .filter_map(|o| match o {
                        QueueEffect::Verify { tree, .. } => Some(tree),
                        _ => None,
                    })
                    .collect();
                let tree = self.world.random.pick(&trees).cloned();
                if let Some(tree) = tree.filter(|tree| self.world.passes(tree)) {
                    self.world.proven.insert(tree.clone());
                    self.apply(QueueInput::TreePassed(tree));
                    self.covered.insert("verdict of another queue");
                }
            }
            10 if !self.tip_is_broken => {
                let candidate = self.some_change();
                let number = self.world.number(&candidate);
                self.world.push(number);
                self.tip_is_broken = !self.world.passes(&self.world.tip().1);
                self.target_moved();
            }
            _ => self.repair_tip(),
        }
    }

    /// Takes the failing change off the target.
    fn repair_tip(&mut self) {
        if std::mem::take(&mut self.tip_is_broken) {
            self.world.remove_last_commit();
            self.target_moved();
        }
    }

    fn target_moved(&mut self) {
        let (tip, tree) = self.world.tip();
        self.target_inputs.push_back(QueueInput::TargetMoved { tip, tree });
    }

    /// Returns the entries that get a car. Refused entries leave, and what the tip contains already
    /// lands without a commit.
    fn examine(&mut self, onto: &Oid, entries: Vec<(EntryId, Oid)>) -> Vec<(EntryId, Oid)> {
        let mut cars = Vec::new();
        for (entry, candidate) in entries {
            let number = self.world.number(&candidate);
            if self.world.contains(onto, number) {
                if onto == self.queue.tip() {
                    let (tip, tree) = (onto.clone(), self.world.tree_of(onto));
                    self.covered.insert("landed without a commit");
                    let entries = vec![(entry, candidate)];
                    self.apply(QueueInput::Landed { tip, tree, entries });
                }
            } else if self.world.refuses(number) {
                let reason = "it breaks the rules".into();
                self.apply(QueueInput::Refused { entry, candidate, reason });
            } else {
                cars.push((entry, candidate));
            }
        }
        cars
    }

    /// Carries out a random owed effect. Returns false if there is none.
    fn carry_out_effect(&mut self) -> bool {
        let owed = self.queue.owed();
        let Some(owed) = self.world.random.pick(&owed).cloned() else { return false };
        match owed {
            QueueEffect::Build { train, onto, entries } => {
                let entries = self.examine(&onto, entries);
                let (cars, conflicts) = self.world.merge(&onto, &entries);
                self.answers.push(QueueInput::Built { train, cars, conflicts });
            }
            QueueEffect::Verify { train, prefix, attempt, kind, tree, .. } => {
                // An entry that twice cannot be verified alone is to blame, if the tip can be.
                let to_blame = kind == TrainKind::Confirm && prefix > 0 && attempt > 1;
                let verdict = if !to_blame && self.world.random.chance(50_000) {
                    Verdict::Errored("no space left on device".into())
                } else {
                    self.world.verify(&tree)
                };
                self.answers.push(QueueInput::Verified { train, prefix, attempt, verdict });
            }
            QueueEffect::Land { onto, commit, tree, entries, .. } => {
                let verify_each = self.settings.verify_each;
                if self.world.land(&onto, &commit, &entries, verify_each) {
                    self.landings.push((commit.clone(), tree.clone(), entries.clone()));
                    self.target_inputs.push_back(QueueInput::Landed { tip: commit, tree, entries });
                } else if self.target_inputs.is_empty() {
                    self.target_moved();
                }
            }
            QueueEffect::Eject { entry, candidate, .. } => {
                self.answers.push(QueueInput::Ejected { entry, candidate });
            }
        }
        true
    }

    /// Delivers the oldest observation of the target.
    fn observe_target(&mut self) -> bool {
        let Some(target_inputs) = self.target_inputs.pop_front() else { return false };
        if let QueueInput::Landed { entries, .. } = &target_inputs {
            self.landings.retain(|(_, _, landed)| landed != entries);
            let late = |(id, candidate): &(EntryId, Oid)| {
                self.queue.item(id).is_none_or(|i| i.entry.candidate != *candidate)
            };
            if entries.iter().any(late) {
                self.covered.insert("landed with an older candidate");
            }
        }
        self.apply(target_inputs);
        true
    }

    /// Delivers a random answer, sometimes twice.
    fn deliver_answer(&mut self) -> bool {
        if self.answers.is_empty() {
            return false;
        }
        let at = self.world.random.below(self.answers.len());
        let answer = self.answers.swap_remove(at);
        if self.world.random.chance(100_000) {
            self.answers.push(answer.clone());
        }
        self.apply(answer);
        true
    }

    /// Simulates a crash: the log is replayed and the target is observed.
    fn crash(&mut self) {
        let root = QueueWorld::new(0, 0).tip();
        let mut replayed = Queue::new(self.settings, root.0, root.1);
        self.journal.iter().cloned().for_each(|input| replayed.apply(input));
        assert_eq!(replayed, self.queue, "the replayed log gives another state");
        self.answers.clear();
        self.target_inputs.clear();
        for (tip, tree, entries) in std::mem::take(&mut self.landings) {
            self.covered.insert("crash after the target moved");
            self.apply(QueueInput::Landed { tip, tree, entries });
        }
        let (tip, tree) = self.world.tip();
        self.apply(QueueInput::TargetMoved { tip, tree });
    }

    /// Takes one random step.
    pub(super) fn step(&mut self) {
        self.now += 1;
        match self.world.random.below(40) {
            0..2 => {
                let count = 1 + self.world.random.below(6);
                let entries = (0..count).map(|_| self.entry()).collect();
                self.apply(QueueInput::Added(entries));
            }
            2..4 => self.act_as_person(),
            4 => self.crash(),
            5..20 => drop(self.carry_out_effect()),
            20..36 => drop(self.deliver_answer()),
            _ => drop(self.observe_target()),
        }
        self.record_coverage();
    }

    /// Records the situations that the queue is in.
    fn record_coverage(&mut self) {
        if self.queue.stopped() == Some(StopReason::TipFails) {
            self.covered.insert("failing tip");
        }
        for item in self.queue.items() {
            self.covered.extend(match &item.status {
                EntryStatus::Ejected(EjectReason::Rejected { .. }) => Some("rejected"),
                EntryStatus::Ejected(EjectReason::Refused { .. }) => Some("refused"),
                EntryStatus::Ejected(EjectReason::Conflict { .. }) => Some("conflict"),
                EntryStatus::Ejected(EjectReason::Blocked { .. }) => Some("blocked"),
                EntryStatus::Waiting
                | EntryStatus::Screening(_)
                | EntryStatus::Screened
                | EntryStatus::Integrating(_)
                | EntryStatus::Suspected
                | EntryStatus::Confirming(_)
                | EntryStatus::Landed => (item.flaky_failures > 0).then_some("flaky failure"),
            });
        }
    }

    /// Stops the disturbances and runs the queue to its end.
    pub(super) fn calm_down(&mut self) {
        self.repair_tip();
        for id in self.names.clone() {
            self.apply(QueueInput::Released(id));
        }
        self.world.flakes = self.world.flakes.min(10_000);
        self.apply(QueueInput::Resumed);
        let before = self.world.runs;
        for step in 0.. {
            assert!(
                step < MAX_CALM_STEPS,
                "the queue does not end: {:#?}",
                self.queue.trains().collect::<Vec<_>>()
            );
            // Deliver pending inputs before new effects.
            let more = self.observe_target() || self.deliver_answer() || self.carry_out_effect();
            self.record_coverage();
            if self.queue.stopped() == Some(StopReason::TipFails) {
                // Caused by flakes: the tip passes.
                assert!(self.world.flakes > 0);
                self.apply(QueueInput::Resumed);
            } else if !more {
                break;
            }
        }
        // Each entry costs at most the bisection of its group and a confirmation.
        let runs = self.world.runs - before;
        assert!(runs <= 40 + 8 * self.names.len(), "{runs} for {}", self.names.len());
    }

    /// Checks that every entry left over waits for a missing dependency.
    pub(super) fn check_end(&self) {
        let landed =
            |id: &EntryId| self.queue.item(id).is_some_and(|i| i.status == EntryStatus::Landed);
        for item in self.queue.items().filter(|i| !i.status.ended()) {
            let waits = item.entry.after.iter().any(|dep| !landed(dep));
            let rests = matches!(
                item.status,
                EntryStatus::Waiting | EntryStatus::Screened | EntryStatus::Suspected
            );
            assert!(waits && rests, "left over: {item:?}");
        }
        // Such a dependency was never added or was removed.
        let absent = |id: &EntryId| self.queue.item(id).is_none();
        let mut open: Vec<&EntryId> = Vec::new();
        for item in self.queue.items().filter(|i| !i.status.ended()) {
            let mut seen = BTreeSet::new();
            open.push(&item.entry.id);
            let mut found_absent = false;
            while let Some(id) = open.pop() {
                found_absent |= absent(id);
                let after = self.queue.item(id).map(|i| i.entry.after.as_slice());
                open.extend(
                    after.unwrap_or_default().iter().filter(|d| !landed(d) && seen.insert(*d)),
                );
            }
            assert!(found_absent, "{}: left over without an absent dependency", item.entry.id);
        }
        assert!(self.queue.owed().is_empty());
        let (tip, tree) = self.world.tip();
        assert!(*self.queue.tip() == tip && self.world.passes(&tree));
    }
}

#[test]
fn queue_invariants_hold_under_delayed_and_repeated_inputs_and_crashes() {
    let mut covered: BTreeMap<&'static str, usize> = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut chaos = Chaos::new(seed);
        for _ in 0..300 {
            chaos.step();
        }
        chaos.calm_down();
        chaos.check_end();
        for situation in &chaos.covered {
            *covered.entry(situation).or_default() += 1;
        }
    }
    let situations = [
        "blocked",
        "conflict",
        "flaky failure",
        "crash after the target moved",
        "landed with an older candidate",
        "landed without a commit",
        "refused",
        "rejected",
        "verdict of another queue",
        "failing tip",
    ];
    for situation in situations {
        let times = covered.get(situation).copied().unwrap_or(0);
        assert!(times >= 3, "`{situation}` in {times} of {SEEDS} worlds: {covered:?}");
    }
    println!("{covered:?}");
}
