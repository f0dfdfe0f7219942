//! Landing in two phases, for branches and tasks alike.
//!
//! Prepare: the candidates are compared with their branches and tasks, the target's lock is taken,
//! and the pre-land hooks run. Everything that the landing names becomes durable. Commit: one
//! transaction moves the target, the target journal, the queue log and the notes. The move of the
//! target is the commit point.

use anyhow::{Context as _, Result, ensure};

use super::host::{CommitOutcome, LandingCar, QueueHost, QueuedEntry, SignedLanding, TrainLanding};
use super::worker::QueueWorker;
use crate::domain::id::Oid;
use crate::domain::queue::{EntryId, TrainId};
use crate::failpoint;
use crate::wire::facts::WireResult;
use crate::wire::queue::{LandedEntry, ObjectId, QueueEvent};

impl<H: QueueHost> QueueWorker<H> {
    /// Lands the entries of a train whose tree has passed. Returns true if the state may have
    /// changed.
    pub(super) fn land(
        &mut self,
        train: TrainId,
        old: Oid,
        new: Oid,
        tree: Oid,
        entries: &[(EntryId, Oid)],
    ) -> Result<bool> {
        if self.hold.is_some() {
            return Ok(false);
        }
        // Somebody may have committed on a branch since: the verdict is not on that commit.
        let queued: Vec<QueuedEntry> =
            entries.iter().map(|(id, candidate)| self.entry(id, candidate)).collect();
        if !self.observe_candidates(&queued)? {
            return Ok(true);
        }
        let cars = self.landing_cars(train, &tree, queued)?;
        let landing = TrainLanding { train, old, new, tree, cars };
        self.prepare_and_commit(&landing)
    }

    /// Returns the cars of the landing entries, each with the results that prove a task: the
    /// results on its own tree if every car is verified, else those on the last car's tree.
    fn landing_cars(
        &mut self,
        train: TrainId,
        tree: &Oid,
        entries: Vec<QueuedEntry>,
    ) -> Result<Vec<LandingCar>> {
        let mut cars = Vec::with_capacity(entries.len());
        for entry in entries {
            let car = self.cars(train).iter().find(|car| car.entry == entry.id);
            let car = car.with_context(|| format!("`{}` has no car in its train", entry.id))?;
            let proof = if self.rules.settings.verify_each { &car.tree } else { tree };
            let results = self.passed.get(proof).and_then(|v| v.results_by_entry.get(&entry.id));
            let (commit, tree) = (car.commit.clone(), car.tree.clone());
            cars.push(LandingCar {
                commit,
                tree,
                results: results.cloned().unwrap_or_default(),
                entry,
            });
        }
        Ok(cars)
    }

    fn prepare_and_commit(&mut self, landing: &TrainLanding) -> Result<bool> {
        let last = landing.cars.last().map(|car| (&car.commit, &car.tree));
        ensure!(
            last == Some((&landing.new, &landing.tree)),
            "the train is not the one that was verified: {}",
            landing.new.short()
        );
        let signed = match self.host.sign(landing)? {
            SignedLanding::Ready(signed) => signed,
            SignedLanding::Held(reason) => {
                self.hold_landing(reason.into());
                return Ok(false);
            }
        };
        let landing = &signed;
        if let Some(obstacle) = self.host.prepare(landing)? {
            self.hold_landing(obstacle);
            return Ok(false);
        }
        self.locked_since = None;
        failpoint::hit("land.before-barrier");
        if let Err(error) = self.host.sync() {
            self.host.abandon();
            return Err(error);
        }
        // The sync covers the preceding landing too.
        self.report_synced();
        failpoint::hit("land.durable");
        let event = landed_event(landing);
        let log_tip = self.log_tip.clone();
        match self.host.commit(landing, log_tip.as_ref(), &event)? {
            CommitOutcome::Landed => self.after_landing(landing)?,
            CommitOutcome::Superseded => {
                // A landing that was pushed has landed, even if the entry was removed meanwhile.
                self.observe_target()?;
                self.read_log()?;
            }
            CommitOutcome::Held(reason) => {
                self.hold_landing(reason.into());
                return Ok(false);
            }
            CommitOutcome::NeedsPerson(reason) => self.person = Some(reason),
        }
        Ok(true)
    }

    fn after_landing(&mut self, landing: &TrainLanding) -> Result<()> {
        self.read_log()?;
        for note in self.host.landed(landing)? {
            self.note(note);
        }
        self.observe_target()?;
        self.find_conflicts(&landing.old)
    }
}

fn landed_event(landing: &TrainLanding) -> QueueEvent {
    let entry = |car: &LandingCar| LandedEntry {
        entry: car.entry.id.to_string(),
        commit: car.entry.candidate.clone(),
        landed_as: Some(ObjectId(car.commit.clone())),
        results: car.results.iter().map(WireResult::from).collect(),
    };
    QueueEvent::Landed {
        old: landing.old.clone(),
        new: landing.new.clone(),
        entries: landing.cars.iter().map(entry).collect(),
    }
}
