//! Invariants of the queue. The simulation checks them after every step.

use std::collections::BTreeMap;

use super::entry::EntryStatus;
use super::id::EntryId;
use super::state::Queue;
use super::types::{QueueEffect, TrainKind};

impl Queue {
    /// Returns a sentence for each violated invariant. Empty unless there is a bug.
    pub fn invariant_violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        self.check_positions(&mut violations);
        self.check_trains(&mut violations);
        for owed in self.owed() {
            self.check_landing(&owed, &mut violations);
        }
        violations
    }

    /// Checks that every live entry is in exactly the place that its status names.
    fn check_positions(&self, violations: &mut Vec<String>) {
        let mut positions: BTreeMap<&EntryId, Vec<EntryStatus>> = BTreeMap::new();
        for id in self.waiting.ids() {
            positions.entry(id).or_default().push(EntryStatus::Waiting);
        }
        for id in self.passed_groups.iter().flatten() {
            positions.entry(id).or_default().push(EntryStatus::Screened);
        }
        for suspect in &self.suspects {
            positions.entry(&suspect.entry).or_default().push(EntryStatus::Suspected);
        }
        for (id, train) in &self.trains {
            let passed = train.released.max(train.landed);
            for entry in train.entries().skip(passed) {
                positions.entry(entry).or_default().push(match train.kind {
                    TrainKind::Lane => EntryStatus::Screening(*id),
                    TrainKind::Integrate => EntryStatus::Integrating(*id),
                    TrainKind::Confirm => EntryStatus::Confirming(*id),
                });
            }
        }
        for item in self.items.values() {
            let id = &item.entry.id;
            let actual = positions.remove(id).unwrap_or_default();
            let expected =
                if item.status.ended() { &[][..] } else { std::slice::from_ref(&item.status) };
            if actual != expected {
                violations
                    .push(format!("{id} has the status {:?} and is in {actual:?}", item.status));
            }
            if self.unrecorded_ejections.contains(id)
                && !matches!(item.status, EntryStatus::Ejected(_))
            {
                violations.push(format!(
                    "{id} has an unrecorded ejection and the status {:?}",
                    item.status
                ));
            }
        }
        violations.extend(positions.keys().map(|id| format!("{id} is in a place and is no entry")));
    }

    fn check_trains(&self, violations: &mut Vec<String>) {
        let busy: usize = self.trains.values().map(|train| train.running.len()).sum();
        if busy > self.settings.concurrency {
            violations.push(format!(
                "{busy} verifications with a concurrency of {}",
                self.settings.concurrency
            ));
        }
        if self.trains.values().filter(|train| train.kind == TrainKind::Integrate).count() > 1 {
            violations.push("there are two integrators".into());
        }
        for (id, train) in &self.trains {
            let current = |(entry, candidate): (&EntryId, &_)| {
                self.items.get(entry).is_some_and(|i| i.entry.candidate == *candidate)
            };
            let open = train.entries().zip(train.plan.iter().map(|(_, c)| c)).skip(train.landed);
            let decides = train.kind != TrainKind::Lane && !train.is_built();
            if decides && !open.into_iter().all(current) {
                violations.push(format!("{id:?} holds a commit that is no candidate"));
            }
            if train.kind == TrainKind::Integrate && *train.base() != self.tip {
                violations.push(format!("{id:?} is the integrator and does not stand on the tip"));
            }
            for prefix in train.running.keys() {
                if train
                    .prefix_end(*prefix)
                    .is_none_or(|(_, tree)| self.passing_trees.contains(tree))
                {
                    violations.push(format!(
                        "{id:?} verifies prefix {prefix}, which has passed or does not exist"
                    ));
                }
            }
        }
    }

    /// Checks the landing rule: the train stands on the tip and its tree has passed, dependencies
    /// come first, and no entry is held.
    fn check_landing(&self, owed: &QueueEffect, violations: &mut Vec<String>) {
        let QueueEffect::Land { train, onto, tree, entries, .. } = owed else { return };
        if *onto != self.tip || !self.passing_trees.contains(tree) {
            violations.push(format!("{train:?} is to land without a verdict on the tip"));
        }
        for (n, (id, candidate)) in entries.iter().enumerate() {
            let preceding = entries.get(..n).unwrap_or_default();
            let landed_before = |dep: &EntryId| {
                self.has_landed(dep) || preceding.iter().any(|(before, _)| before == dep)
            };
            let may_land = self.items.get(id).is_some_and(|item| {
                item.status == EntryStatus::Integrating(*train)
                    && item.entry.candidate == *candidate
                    && !item.entry.held
                    && item.entry.after.iter().all(landed_before)
            });
            if !may_land {
                violations.push(format!("{id} is to land and must not"));
            }
        }
    }
}
