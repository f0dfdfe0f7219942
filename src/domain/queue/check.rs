//! What must always hold. The simulation asks after every step; a program may, where it can afford it.

use std::collections::BTreeMap;

use super::Queue;
use super::entry::{EntryId, Standing};
use super::words::{Kind, Owed};

impl Queue {
    /// What is wrong with the state, in sentences. Nothing ever should be.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        self.check_places(&mut faults);
        self.check_trains(&mut faults);
        for owed in self.owed() {
            self.check_landing(&owed, &mut faults);
        }
        faults
    }

    /// No entry is lost, and none is in two places.
    fn check_places(&self, faults: &mut Vec<String>) {
        let mut places: BTreeMap<&EntryId, Vec<Standing>> = BTreeMap::new();
        for id in self.pool.ids() {
            places.entry(id).or_default().push(Standing::Waiting);
        }
        for id in self.green.iter().flatten() {
            places.entry(id).or_default().push(Standing::Screened);
        }
        for suspect in &self.suspects {
            places.entry(&suspect.entry).or_default().push(Standing::Suspected);
        }
        for (id, train) in &self.trains {
            let passed = train.released.max(train.landed);
            for entry in train.entries().skip(passed) {
                places.entry(entry).or_default().push(match train.kind {
                    Kind::Lane => Standing::Screening(*id),
                    Kind::Integrate => Standing::Integrating(*id),
                    Kind::Confirm => Standing::Confirming(*id),
                });
            }
        }
        for item in self.items.values() {
            let id = &item.entry.id;
            let found = places.remove(id).unwrap_or_default();
            let expected =
                if item.standing.ended() { &[][..] } else { std::slice::from_ref(&item.standing) };
            if found != expected {
                faults.push(format!("{id} stands at {:?} and is in {found:?}", item.standing));
            }
            if self.leaving.contains(id) && !matches!(item.standing, Standing::Out(_)) {
                faults.push(format!("{id} is leaving and stands at {:?}", item.standing));
            }
        }
        faults.extend(places.keys().map(|id| format!("{id} is in a place and unknown")));
    }

    fn check_trains(&self, faults: &mut Vec<String>) {
        let busy: usize = self.trains.values().map(|train| train.running.len()).sum();
        if busy > self.settings.places {
            faults.push(format!("{busy} verifications in {} places", self.settings.places));
        }
        if self.trains.values().filter(|train| train.kind == Kind::Integrate).count() > 1 {
            faults.push("there are two integrators".into());
        }
        for (id, train) in &self.trains {
            let current = |(entry, candidate): (&EntryId, &_)| {
                self.items.get(entry).is_some_and(|i| i.entry.candidate == *candidate)
            };
            let open = train.entries().zip(train.plan.iter().map(|(_, c)| c)).skip(train.landed);
            let decides = train.kind != Kind::Lane && !train.built();
            if decides && !open.into_iter().all(current) {
                faults.push(format!("{id:?} holds what is no candidate"));
            }
            if train.kind == Kind::Integrate && *train.base() != self.tip {
                faults.push(format!("{id:?} decides and does not stand on the tip"));
            }
            for prefix in train.running.keys() {
                if train.at(*prefix).is_none_or(|(_, tree)| self.known.contains(tree)) {
                    faults.push(format!("{id:?} asks about {prefix}, which is known or not there"));
                }
            }
        }
    }

    /// The gate: what is to land stands on the tip and has passed; what it comes after is there; nobody holds it back.
    fn check_landing(&self, owed: &Owed, faults: &mut Vec<String>) {
        let Owed::Land { train, onto, tree, entries, .. } = owed else { return };
        if *onto != self.tip || !self.known.contains(tree) {
            faults.push(format!("{train:?} is to land without a verdict on the tip"));
        }
        for (n, (id, candidate)) in entries.iter().enumerate() {
            let there = entries.get(..n).unwrap_or_default();
            let met = |dep: &EntryId| {
                self.has_landed(dep) || there.iter().any(|(before, _)| before == dep)
            };
            let fits = self.items.get(id).is_some_and(|item| {
                item.standing == Standing::Integrating(*train)
                    && item.entry.candidate == *candidate
                    && !item.entry.held
                    && item.entry.after.iter().all(met)
            });
            if !fits {
                faults.push(format!("{id} is to land and must not"));
            }
        }
    }
}
