//! The owed effects, a function of the state.

use super::entry::EntryStatus;
use super::id::{EntryId, TrainId};
use super::state::Queue;
use super::train::Train;
use super::types::{Car, QueueEffect, TrainKind};

impl Queue {
    /// Returns the owed effects: landings first, then ejections, builds and verifications.
    pub fn owed(&self) -> Vec<QueueEffect> {
        let stopped = self.stop.is_some();
        let trains = || self.trains.iter().filter(|_| !stopped);
        let mut owed: Vec<QueueEffect> =
            trains().filter_map(|(id, train)| self.owed_landing(*id, train)).collect();
        owed.extend(self.unrecorded_ejections.iter().filter_map(|id| self.owed_ejection(id)));
        owed.extend(trains().filter(|(_, train)| !train.is_built()).map(|(id, train)| {
            QueueEffect::Build { train: *id, onto: train.onto.clone(), entries: train.plan.clone() }
        }));
        for (id, train) in trains() {
            owed.extend(train.running.iter().filter_map(|(prefix, attempt)| {
                let (commit, tree) = train.prefix_end(*prefix)?;
                Some(QueueEffect::Verify {
                    train: *id,
                    prefix: *prefix,
                    attempt: *attempt,
                    kind: train.kind,
                    onto: train.onto.clone(),
                    commit: commit.clone(),
                    tree: tree.clone(),
                })
            }));
        }
        owed
    }

    fn owed_landing(&self, id: TrainId, train: &Train) -> Option<QueueEffect> {
        let lands = train.landed..train.passed;
        if train.kind != TrainKind::Integrate || lands.is_empty() || *train.base() != self.tip {
            return None;
        }
        let (commit, tree) = train.prefix_end(train.passed)?;
        let cars = train.cars().get(lands.clone())?;
        // The last landing car's tree needs a passed verdict. With `verify_each`, every landing
        // car's tree does.
        let proven = |car: &Car| self.passing_trees.contains(&car.tree);
        let whole = !self.settings.verify_each || cars.iter().all(proven);
        if !whole || !self.passing_trees.contains(tree) {
            return None;
        }
        let candidates = train.candidates.get(lands)?;
        let entries = cars.iter().map(|s| s.entry.clone()).zip(candidates.iter().cloned());
        Some(QueueEffect::Land {
            train: id,
            onto: self.tip.clone(),
            commit: commit.clone(),
            tree: tree.clone(),
            entries: entries.collect(),
        })
    }

    fn owed_ejection(&self, id: &EntryId) -> Option<QueueEffect> {
        let item = self.items.get(id)?;
        match &item.status {
            EntryStatus::Ejected(reason) => Some(QueueEffect::Eject {
                entry: id.clone(),
                candidate: item.entry.candidate.clone(),
                reason: reason.clone(),
            }),
            EntryStatus::Waiting
            | EntryStatus::Screening(_)
            | EntryStatus::Screened
            | EntryStatus::Integrating(_)
            | EntryStatus::Suspected
            | EntryStatus::Confirming(_)
            | EntryStatus::Landed => None,
        }
    }
}
