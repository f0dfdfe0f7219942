//! Simulation of the merge queue worker: the real worker acts on a simulated repository. Branches
//! and tasks of a run share trains, entries change while they are verified, and the worker is
//! killed between any two of its actions. In the end the disturbances stop, and every entry must
//! have landed once or have left with a reason.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use git_harness::domain::id::Oid;
use git_harness::domain::queue::{EntryId, QueueSettings};
use git_harness::domain::verdict::{Finding, Verdict};
use git_harness::store::queue_log::QueueLogEntry;
use git_harness::testing::queue::{QueueExit, QueueWorker};
use git_harness::wire::queue::{Ejection, EntryCommit, QueueEvent};

use super::worker_host::{Repository, SimulatedHost, verdict};
use super::world::{CandidateChange, QueueWorld};

/// The number of simulated worlds. Thousands have been tried by hand.
const SEEDS: u64 = 120;
/// Random steps of a world before it calms down.
const STEPS: usize = 250;
/// An upper limit of steps after the disturbances have stopped.
const MAX_CALM_STEPS: usize = 3_000;

/// A world in which a worker works and is killed.
pub(super) struct Simulation {
    pub repository: Rc<RefCell<Repository>>,
    pub worker: Option<QueueWorker<SimulatedHost>>,
    entries: usize,
}

impl Simulation {
    pub(super) fn new(seed: u64) -> Self {
        let mut world = QueueWorld::new(seed, 0);
        world.flakes = [0, 0, 20_000][world.random.below(3)];
        let settings = QueueSettings {
            batch: 1 + world.random.below(12),
            concurrency: [1, 1, 2, 4][world.random.below(4)],
            verify_each: world.random.chance(200_000),
            ..QueueSettings::default()
        };
        let repository = Repository {
            world,
            log: Vec::new(),
            candidates: BTreeMap::new(),
            settings,
            now: 1,
            kill_in: None,
            holds: 100_000,
            joint: false,
            interferes: true,
            covered: BTreeSet::new(),
        };
        let repository = Rc::new(RefCell::new(repository));
        Self { repository, worker: None, entries: 0 }
    }

    fn change(&self) -> CandidateChange {
        let mut repository = self.repository.borrow_mut();
        let count = repository.candidates.len();
        let random = &mut repository.world.random;
        let mut some = |chance| (0..count).filter(|_| random.chance(chance)).collect::<Vec<_>>();
        let (breaks, conflicts) = (some(15_000), some(20_000));
        let (bad, unverifiable) = (random.chance(100_000), random.chance(40_000));
        let (refused, rules) = (random.chance(40_000), random.chance(60_000));
        CandidateChange { bad, refused, unverifiable, rules, breaks, conflicts }
    }

    /// Adds an entry to the queue: every second one is a task of a run.
    pub(super) fn add(&mut self, change: CandidateChange) {
        let candidate = self.repository.borrow_mut().world.change(change).1;
        self.entries += 1;
        let (name, attempt) = match self.entries % 2 {
            0 => (format!("run-1/task-{}", self.entries), Some(1)),
            _ => (format!("branch-{}", self.entries), None),
        };
        let id = EntryId::parse(&name).unwrap();
        let mut repository = self.repository.borrow_mut();
        repository.candidates.insert(id, Some(candidate.clone()));
        let (tip, _) = repository.world.tip();
        repository.append(QueueEvent::Added {
            candidate: EntryCommit { entry: name, commit: candidate },
            attempt,
            priority: 0,
            after: Vec::new(),
            tip,
            by: "a person".into(),
        });
    }

    /// Adds an entry again, whether it waits, has landed or has left.
    fn add_again(&mut self) {
        let mut repository = self.repository.borrow_mut();
        let branches = repository.candidates.iter().filter(|(id, _)| !id.as_str().contains('/'));
        let known: Vec<(EntryId, Oid)> =
            branches.filter_map(|(id, c)| Some((id.clone(), c.clone()?))).collect();
        let Some((id, commit)) = repository.world.random.pick(&known).cloned() else { return };
        let (tip, _) = repository.world.tip();
        repository.append(QueueEvent::Added {
            candidate: EntryCommit { entry: id.to_string(), commit },
            attempt: None,
            priority: 0,
            after: Vec::new(),
            tip,
            by: "a person".into(),
        });
    }

    /// A person or a supervisor changes an entry. A supervisor logs the change itself.
    fn meddle(&mut self) {
        let names: Vec<EntryId> = self.repository.borrow().candidates.keys().cloned().collect();
        let Some(id) = self.repository.borrow_mut().world.random.pick(&names).cloned() else {
            return;
        };
        let change = self.change();
        let new = self.repository.borrow_mut().world.change(change).1;
        let gone = self.repository.borrow_mut().world.random.below(2) == 0;
        let mut repository = self.repository.borrow_mut();
        let is_task = id.as_str().contains('/');
        repository.candidates.insert(id.clone(), (!gone && !is_task).then_some(new));
        if is_task {
            let (entry, why) = (id.to_string(), "a person took it out".into());
            repository.append(QueueEvent::Removed { entry, why });
        }
    }

    /// A person removes an entry.
    pub(super) fn remove(&mut self, entry: &str) {
        let removed = QueueEvent::Removed { entry: entry.into(), why: "a person".into() };
        self.repository.borrow_mut().append(removed);
    }

    /// Returns the worker's reason to end.
    pub(super) fn exit(&self) -> Option<QueueExit> {
        self.worker.as_ref().and_then(QueueWorker::exit)
    }

    /// Lets the worker act and all verifications end until the worker has a reason to end.
    pub(super) fn run_to_the_end(&mut self) -> Option<QueueExit> {
        for _ in 0..MAX_CALM_STEPS {
            self.work();
            if !self.end_verification(0) && self.exit().is_some() {
                break;
            }
        }
        self.exit()
    }

    /// Lets the worker act, and starts it if it was killed.
    pub(super) fn work(&mut self) {
        let worker = match self.worker.take() {
            Some(worker) => Ok(worker),
            None => QueueWorker::new(SimulatedHost {
                repository: Rc::clone(&self.repository),
                started: Vec::new(),
            }),
        };
        let advanced = worker.and_then(|mut worker| {
            worker.observe()?;
            while worker.step()? {}
            worker.flush()?;
            Ok(worker)
        });
        match advanced {
            Ok(worker) => self.worker = Some(worker),
            Err(error) => self.killed(&error),
        }
    }

    fn killed(&mut self, error: &anyhow::Error) {
        let mut repository = self.repository.borrow_mut();
        assert!(repository.kill_in.take().is_some(), "the worker failed: {error:#}");
        repository.covered.insert("killed");
    }

    /// Ends a verification under way. Returns false if there is none.
    pub(super) fn end_verification(&mut self, faults: u64) -> bool {
        let Some(mut worker) = self.worker.take() else { return false };
        let mut repository = self.repository.borrow_mut();
        let started = &mut worker.host().started;
        if started.is_empty() {
            drop(repository);
            self.worker = Some(worker);
            return false;
        }
        let at = repository.world.random.below(started.len());
        let verification = started.swap_remove(at);
        let outcome = if repository.world.random.chance(faults) {
            repository.covered.insert("infrastructure fault");
            Verdict::Errored("no space left on device".into())
        } else {
            match repository.world.verify(&verification.tree) {
                Verdict::Passed => Verdict::Passed,
                Verdict::Failed(text) => {
                    Verdict::Failed(vec![Finding { attempt: 1, check: "tests".into(), text }])
                }
                Verdict::Errored(why) => {
                    repository.covered.insert("entry that cannot be checked out");
                    Verdict::Errored(why)
                }
            }
        };
        drop(repository);
        match worker.finish(verification.id, Ok(Some(verdict(outcome)))) {
            Ok(()) => self.worker = Some(worker),
            Err(error) => self.killed(&error),
        }
        true
    }

    fn step(&mut self) {
        let choice = self.repository.borrow_mut().world.random.below(21);
        match choice {
            0 | 1 => {
                let count = 1 + self.repository.borrow_mut().world.random.below(4);
                for _ in 0..count {
                    let change = self.change();
                    self.add(change);
                }
            }
            2 => self.meddle(),
            3 => {
                let mut repository = self.repository.borrow_mut();
                let actions = u32::try_from(repository.world.random.below(40)).unwrap();
                repository.kill_in = Some(actions);
            }
            4 => {
                // Somebody else moves the target by a change that passes.
                let harmless = CandidateChange::default();
                let mut repository = self.repository.borrow_mut();
                let number = repository.world.change(harmless).0;
                repository.world.push(number);
            }
            5 => {
                let mut repository = self.repository.borrow_mut();
                let paused = QueueEvent::Paused { by: "a person".into() };
                let resumed = QueueEvent::Resumed { by: "a person".into() };
                let event = if repository.world.random.below(3) == 0 { paused } else { resumed };
                repository.append(event);
            }
            20 => self.add_again(),
            6..12 => drop(self.end_verification(60_000)),
            _ => self.work(),
        }
    }

    /// Stops the disturbances and runs the worker to its end.
    fn calm_down(&mut self) {
        {
            let mut repository = self.repository.borrow_mut();
            (repository.holds, repository.kill_in, repository.world.flakes) = (0, None, 0);
            repository.interferes = false;
            repository.append(QueueEvent::Resumed { by: "a person".into() });
        }
        for _ in 0..MAX_CALM_STEPS {
            // A hold, a back-off or an interval is over.
            self.repository.borrow_mut().now += 120_000;
            self.work();
            if self.end_verification(0) {
                continue;
            }
            match self.worker.as_ref().and_then(QueueWorker::exit) {
                Some(QueueExit::Empty) => return,
                // Too many faults in a row, or a tip that a flake made fail: a person starts again.
                Some(QueueExit::NeedsPerson(_)) => self.worker = None,
                Some(other) => panic!("the queue ends with {other:?}"),
                None => {}
            }
        }
        panic!("the queue does not end");
    }

    /// Checks that every entry has landed once or has left with a reason.
    fn check_end(&self) {
        let repository = self.repository.borrow();
        let mut landed: BTreeSet<(String, Oid)> = BTreeSet::new();
        let mut left: BTreeMap<String, &'static str> = BTreeMap::new();
        for QueueLogEntry { event, .. } in &repository.log {
            match event {
                QueueEvent::Added { candidate, .. } => {
                    left.insert(candidate.entry.clone(), "waits");
                }
                QueueEvent::Landed { entries, .. } => {
                    for entry in entries {
                        let name = (entry.entry.clone(), entry.commit.clone());
                        let new = landed.insert(name) || entry.landed_as.is_none();
                        assert!(new, "{} is logged as landed twice", entry.entry);
                        let number = repository.world.number(&entry.commit);
                        let (tip, _) = repository.world.tip();
                        assert!(repository.world.contains(&tip, number), "{}", entry.entry);
                        left.insert(entry.entry.clone(), "landed");
                    }
                }
                QueueEvent::Ejected { candidate, reason } => {
                    let word = match reason {
                        Ejection::Rejected { .. } => "rejected",
                        Ejection::Conflict { .. } => "conflict",
                        Ejection::ChangesRequested { .. } | Ejection::Blocked { .. } => "other",
                    };
                    left.insert(candidate.entry.clone(), word);
                }
                QueueEvent::Removed { entry, .. } => {
                    left.entry(entry.clone()).and_modify(|word| {
                        if *word == "waits" {
                            *word = "removed";
                        }
                    });
                }
                QueueEvent::Replaced(_)
                | QueueEvent::Approved { .. }
                | QueueEvent::Paused { .. }
                | QueueEvent::Resumed { .. }
                | QueueEvent::Verified { .. } => {}
            }
        }
        let waiting: Vec<_> = left.iter().filter(|(_, word)| **word == "waits").collect();
        assert!(waiting.is_empty(), "waits without a reason: {waiting:?}");
        assert_eq!(left.len(), self.entries);
        let (_, tree) = repository.world.tip();
        assert!(repository.world.passes(&tree));
    }
}

#[test]
fn worker_killed_between_any_two_actions_lands_every_entry_once() {
    let mut covered: BTreeMap<&'static str, usize> = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut simulation = Simulation::new(seed);
        for _ in 0..STEPS {
            simulation.step();
        }
        simulation.calm_down();
        simulation.check_end();
        for situation in &simulation.repository.borrow().covered {
            *covered.entry(situation).or_default() += 1;
        }
    }
    let situations = [
        "branches and tasks in one train",
        "content on the target already",
        "entry that cannot be checked out",
        "infrastructure fault",
        "killed",
        "killed after the target moved",
        "landing on hold",
        "log moved before the landing",
        "refused entry",
        "target moved before the landing",
    ];
    for situation in situations {
        let times = covered.get(situation).copied().unwrap_or(0);
        assert!(times >= 3, "`{situation}` in {times} of {SEEDS} worlds: {covered:?}");
    }
    println!("{covered:?}");
}
