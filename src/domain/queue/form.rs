//! Which trains there are, and which of their prefixes are asked about: everything that follows without being told.

use std::collections::{BTreeSet, VecDeque};

use super::entry::{EntryId, Standing};
use super::train::Train;
use super::words::Kind;
use super::{Queue, Suspect, TrainId};
use crate::domain::id::Oid;

impl Queue {
    /// Draws all conclusions, until there are no more.
    pub(super) fn settle(&mut self) {
        loop {
            let mut more = self.wind_up();
            if self.stop.is_none() {
                // What is there goes before what could be.
                more |= self.ask();
                more |= self.confirm();
                more |= self.integrate();
                more |= self.screen();
            }
            if !more {
                return;
            }
        }
    }

    /// How many places are in use or about to be.
    pub(super) fn busy(&self) -> usize {
        let demand = |train: &Train| train.running.len().max(usize::from(!train.built()));
        self.trains.values().map(demand).sum()
    }

    /// How many places lanes may still take: one is the integrator's.
    fn free(&self) -> usize {
        let idle = |train: &Train| train.kind == Kind::Integrate && !train.running.is_empty();
        let reserved = usize::from(!self.direct() && !self.trains.values().any(idle));
        self.settings.places.saturating_sub(self.busy() + reserved)
    }

    pub(super) fn new_train(&mut self) -> TrainId {
        self.trains_made += 1;
        TrainId(self.trains_made)
    }

    /// Entries with their candidates.
    fn plan(&self, ids: &[EntryId]) -> Vec<(EntryId, Oid)> {
        let item =
            |id: &EntryId| self.items.get(id).map(|i| (id.clone(), i.entry.candidate.clone()));
        ids.iter().filter_map(item).collect()
    }

    /// Puts groups on the target's tip.
    pub(super) fn form(&mut self, kind: Kind, groups: &[Vec<EntryId>]) {
        let id = self.new_train();
        let mut end = 0;
        let bounds = groups.iter().map(|group| {
            end += group.len();
            end
        });
        let bounds = bounds.collect();
        let plan = self.plan(&groups.concat());
        for entry in groups.iter().flatten() {
            self.stand(
                entry,
                match kind {
                    Kind::Lane => Standing::Screening(id),
                    Kind::Integrate => Standing::Integrating(id),
                    Kind::Confirm => Standing::Confirming(id),
                },
            );
        }
        let onto = (self.tip.clone(), self.tree.clone());
        self.trains.insert(id, Train::new(kind, onto, plan, bounds));
    }

    fn singles(group: Vec<EntryId>) -> Vec<Vec<EntryId>> {
        group.into_iter().map(|id| vec![id]).collect()
    }

    /// Tries suspects alone.
    fn confirm(&mut self) -> bool {
        let mut more = false;
        while self.free() > 0 {
            // With nothing else going on, nothing will change by waiting for company.
            let alone = self.trains.is_empty() && self.green.is_empty();
            let Some(at) = self.suspects.iter().position(|s| self.is_ready(s, alone)) else {
                break;
            };
            let Some(suspect) = self.suspects.remove(at) else { break };
            self.form(Kind::Confirm, &[vec![suspect.entry]]);
            more = true;
        }
        more
    }

    fn is_ready(&self, suspect: &Suspect, alone: bool) -> bool {
        let on_its_way = |id: &EntryId| {
            self.items.get(id).is_some_and(|i| {
                matches!(i.standing, Standing::Screened | Standing::Integrating(_))
            })
        };
        let after = self.items.get(&suspect.entry).map(|i| i.entry.after.as_slice());
        after.is_some_and(|after| after.iter().all(|dep| self.has_landed(dep)))
            && (alone || !suspect.company.iter().any(on_its_way))
    }

    /// The integrator, as long as there is one.
    pub(super) fn integrator(&self) -> Option<(TrainId, &Train)> {
        let found = self.trains.iter().find(|(_, train)| train.kind == Kind::Integrate);
        found.map(|(id, train)| (*id, train))
    }

    /// Puts together what has passed; without lanes, what waits.
    fn integrate(&mut self) -> bool {
        if let Some((id, train)) = self.integrator() {
            // What is not built yet can be put together anew with what has come since.
            let there: Vec<EntryId> = train.entries().cloned().collect();
            let larger = !train.built() && !self.direct() && self.choose(&there) > 0;
            if larger {
                self.dissolve(id);
                self.put_together();
            }
            return larger;
        }
        if self.direct() && self.busy() >= self.settings.places {
            return false;
        }
        if self.put_together() {
            return true;
        }
        let group = if self.direct() { self.pick() } else { Vec::new() };
        let found = !group.is_empty();
        if found {
            self.form(Kind::Integrate, &Self::singles(group));
        }
        found
    }

    fn put_together(&mut self) -> bool {
        let count = self.choose(&[]);
        if count == 0 {
            return false;
        }
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        let mut there = BTreeSet::new();
        for group in std::mem::take(&mut self.green) {
            if taken.len() < count && self.can_follow(&group, &there) {
                there.extend(group.iter().cloned());
                taken.push(group);
            } else {
                left.push_back(group);
            }
        }
        self.green = left;
        self.form(Kind::Integrate, &taken);
        true
    }

    /// How many groups of those that have passed can be integrated behind what is there, the oldest first.
    fn choose(&self, there: &[EntryId]) -> usize {
        let (mut size, mut count) = (there.len(), 0);
        let mut there: BTreeSet<EntryId> = there.iter().cloned().collect();
        for group in self.green.iter() {
            if !self.can_follow(group, &there) {
                continue;
            }
            size += group.len();
            if size > self.span && !there.is_empty() {
                break;
            }
            there.extend(group.iter().cloned());
            count += 1;
        }
        count
    }

    /// Whether everything that a group comes after has landed or is there.
    fn can_follow(&self, group: &[EntryId], there: &BTreeSet<EntryId>) -> bool {
        group.iter().enumerate().all(|(n, id)| {
            let before = group.get(..n).unwrap_or_default();
            let met =
                |dep: &EntryId| self.has_landed(dep) || there.contains(dep) || before.contains(dep);
            self.items.get(id).is_some_and(|i| i.entry.after.iter().all(met))
        })
    }

    fn pick(&self) -> Vec<EntryId> {
        let batch = self.settings.batch;
        // Where every commit is verified anyway, a failure costs a long train no more than a short one.
        let size = if self.settings.each { batch } else { self.rate.group(batch) };
        self.pool.pick(&self.items, &self.trains, size)
    }

    /// Gives free lanes a group each.
    fn screen(&mut self) -> bool {
        // The integrator's sections go first: everybody waits for them.
        let sections = self.integrator().is_some_and(|(_, train)| train.sectioning());
        let mut more = false;
        while !self.direct() && !sections && !self.pool.is_empty() && self.free() > 0 {
            let group = self.pick();
            if group.is_empty() {
                break;
            }
            self.form(Kind::Lane, &Self::singles(group));
            more = true;
        }
        more
    }

    /// Has prefixes verified, as far as there are places: of suspects first, then the integrator's, then those of lanes.
    fn ask(&mut self) -> bool {
        let mut ids: Vec<(Kind, TrainId)> =
            self.trains.iter().map(|(id, t)| (t.kind, *id)).collect();
        let order = |kind: Kind| match kind {
            Kind::Confirm => 0,
            Kind::Integrate => 1,
            Kind::Lane => 2,
        };
        ids.sort_by_key(|(kind, id)| (order(*kind), *id));
        ids.into_iter().fold(false, |more, (kind, id)| self.ask_of(kind, id) || more)
    }

    fn ask_of(&mut self, kind: Kind, id: TrainId) -> bool {
        let mut more = false;
        loop {
            let (busy, free) = (self.busy(), self.free());
            let Some(train) = self.trains.get(&id) else { return more };
            let next = match kind {
                Kind::Lane if !train.running.is_empty() => None,
                Kind::Lane | Kind::Integrate => {
                    train.next(&|tree| self.known.contains(tree), self.settings.each)
                }
                Kind::Confirm => self.next_of_suspect(train),
            };
            let Some((prefix, (_, tree))) = next.and_then(|n| Some((n, train.at(n)?))) else {
                return more;
            };
            if self.known.contains(tree) {
                self.refresh(id);
                more = true;
                continue;
            }
            let sections = train.running.len();
            let room = match kind {
                Kind::Integrate if self.direct() => busy < self.settings.places,
                Kind::Integrate => {
                    busy < self.settings.places && sections < (self.settings.places - 1).max(1)
                }
                Kind::Lane | Kind::Confirm => free > 0,
            };
            let Some(train) = self.trains.get_mut(&id).filter(|_| room) else { return more };
            let attempt = train.asked.entry(prefix).or_insert(0);
            *attempt += 1;
            train.running.insert(prefix, *attempt);
            more = true;
        }
    }

    /// One that fails alone is held against it only where the tip itself passes.
    fn next_of_suspect(&self, train: &Train) -> Option<usize> {
        if !train.built() || train.good > 0 || train.len() == 0 || !train.running.is_empty() {
            return None;
        }
        let proven = self.known.contains(&train.onto_tree);
        match (train.red.contains_key(&1), proven) {
            (false, _) => Some(1),
            (true, false) => Some(0),
            (true, true) => None,
        }
    }

    /// Looks again which prefixes of a train pass.
    pub(super) fn refresh(&mut self, id: TrainId) {
        let (known, each) = (&self.known, self.settings.each);
        if let Some(train) = self.trains.get_mut(&id) {
            train.look(&|tree| known.contains(tree), each);
        }
    }
}
