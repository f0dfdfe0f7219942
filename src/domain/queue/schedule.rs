//! Scheduling: forms trains, and starts the verifications of their prefixes.

use std::collections::BTreeSet;

use super::entry::EntryStatus;
use super::id::{EntryId, TrainId};
use super::state::{LONG_GROUP, Queue, Suspect};
use super::train::Train;
use super::types::TrainKind;
use crate::domain::id::Oid;

/// The number of prefixes of a long train that are verified at the same time while lanes are idle.
/// Three prefixes divide the suspects into quarters.
const PREFIXES_OF_IDLE_LANES: usize = 3;

impl Queue {
    /// Draws all conclusions from the folded inputs, until no conclusion is left.
    pub fn settle(&mut self) {
        loop {
            let mut more = self.conclude_trains();
            if self.stop.is_none() {
                // Existing trains go before new ones.
                more |= self.start_verifications();
                more |= self.start_confirmations();
                more |= self.start_integration();
                more |= self.start_lanes();
            }
            if !more {
                return;
            }
        }
    }

    /// Returns the number of verifications that run, plus one for each train that is being built.
    pub(super) fn running_verifications(&self) -> usize {
        let demand = |train: &Train| train.running.len().max(usize::from(!train.is_built()));
        self.trains.values().map(demand).sum()
    }

    /// Returns the number of verifications that lanes may still start. One is reserved for the
    /// integrator.
    fn free_lane_slots(&self) -> usize {
        let is_verifying =
            |train: &Train| train.kind == TrainKind::Integrate && !train.running.is_empty();
        let reserved =
            usize::from(!self.integrates_directly() && !self.trains.values().any(is_verifying));
        self.settings.concurrency.saturating_sub(self.running_verifications() + reserved)
    }

    pub(super) fn new_train(&mut self) -> TrainId {
        self.last_train += 1;
        TrainId(self.last_train)
    }

    /// Returns entries with their candidates.
    fn plan(&self, ids: &[EntryId]) -> Vec<(EntryId, Oid)> {
        let item =
            |id: &EntryId| self.items.get(id).map(|i| (id.clone(), i.entry.candidate.clone()));
        ids.iter().filter_map(item).collect()
    }

    /// Forms a train of groups on the target's tip.
    pub(super) fn form_train(&mut self, kind: TrainKind, groups: &[Vec<EntryId>]) {
        let id = self.new_train();
        let mut end = 0;
        let bounds = groups.iter().map(|group| {
            end += group.len();
            end
        });
        let bounds = bounds.collect();
        let plan = self.plan(&groups.concat());
        for entry in groups.iter().flatten() {
            self.set_status(
                entry,
                match kind {
                    TrainKind::Lane => EntryStatus::Screening(id),
                    TrainKind::Integrate => EntryStatus::Integrating(id),
                    TrainKind::Confirm => EntryStatus::Confirming(id),
                },
            );
        }
        let onto = (self.tip.clone(), self.tree.clone());
        self.trains.insert(id, Train::new(kind, onto, plan, bounds));
    }

    fn singles(group: Vec<EntryId>) -> Vec<Vec<EntryId>> {
        group.into_iter().map(|id| vec![id]).collect()
    }

    /// Verifies suspects alone. A suspect waits for the entries that preceded the suspect in the
    /// failed train and are about to be integrated.
    fn start_confirmations(&mut self) -> bool {
        let mut more = false;
        while !self.suspects.is_empty() && self.free_lane_slots() > 0 {
            let mut coming: Vec<EntryId> =
                self.integrator().map(|(_, t)| t.entries().cloned().collect()).unwrap_or_default();
            coming.extend(self.choose_groups(&coming, usize::MAX).concat());
            let coming: BTreeSet<EntryId> = coming.into_iter().collect();
            let ready = |s: &Suspect| self.can_confirm(s, &coming);
            let Some(at) = self.suspects.iter().position(ready) else { break };
            let Some(suspect) = self.suspects.remove(at) else { break };
            self.form_train(TrainKind::Confirm, &[vec![suspect.entry]]);
            more = true;
        }
        more
    }

    fn can_confirm(&self, suspect: &Suspect, coming: &BTreeSet<EntryId>) -> bool {
        let after = self.items.get(&suspect.entry).map(|i| i.entry.after.as_slice());
        after.is_some_and(|after| after.iter().all(|dep| self.has_landed(dep)))
            && !suspect.predecessors.iter().any(|id| coming.contains(id) && !self.has_landed(id))
    }

    /// Returns the integrator's train.
    pub(super) fn integrator(&self) -> Option<(TrainId, &Train)> {
        let integrator = self.trains.iter().find(|(_, train)| train.kind == TrainKind::Integrate);
        integrator.map(|(id, train)| (*id, train))
    }

    /// Integrates groups that have passed or, without lanes, waiting entries.
    fn start_integration(&mut self) -> bool {
        if let Some((id, train)) = self.integrator() {
            // A train that is not built yet is formed again if more groups have passed meanwhile.
            let ahead: Vec<EntryId> = train.entries().cloned().collect();
            let larger = !train.is_built()
                && !self.integrates_directly()
                && !self.choose_groups(&ahead, self.window()).is_empty();
            if larger {
                self.dissolve(id);
                self.integrate_passed();
            }
            return larger;
        }
        if self.integrates_directly() && self.running_verifications() >= self.settings.concurrency {
            return false;
        }
        if self.integrate_passed() {
            return true;
        }
        let group = if self.integrates_directly() { self.pick() } else { Vec::new() };
        let formed = !group.is_empty();
        if formed {
            self.form_train(TrainKind::Integrate, &Self::singles(group));
        }
        formed
    }

    fn integrate_passed(&mut self) -> bool {
        let groups = self.choose_groups(&[], self.window());
        if groups.is_empty() {
            return false;
        }
        let taken: BTreeSet<&EntryId> = groups.iter().flatten().collect();
        self.passed_groups.iter_mut().for_each(|group| group.retain(|id| !taken.contains(id)));
        self.passed_groups.retain(|group| !group.is_empty());
        self.form_train(TrainKind::Integrate, &groups);
        true
    }

    /// Chooses passed groups to integrate behind the `ahead` entries, oldest first. Entries whose
    /// dependencies are missing stay behind.
    fn choose_groups(&self, ahead: &[EntryId], limit: usize) -> Vec<Vec<EntryId>> {
        let mut ahead: BTreeSet<&EntryId> = ahead.iter().collect();
        let mut chosen = Vec::new();
        for group in &self.passed_groups {
            if ahead.len() + group.len() > limit && !ahead.is_empty() {
                break;
            }
            let mut follows = Vec::new();
            for id in group {
                let met = |dep: &EntryId| self.has_landed(dep) || ahead.contains(dep);
                if self.items.get(id).is_some_and(|i| i.entry.after.iter().all(met)) {
                    ahead.insert(id);
                    follows.push(id.clone());
                }
            }
            if !follows.is_empty() {
                chosen.push(follows);
            }
        }
        chosen
    }

    fn pick(&self) -> Vec<EntryId> {
        self.waiting.pick(&self.items, &self.trains, self.train_size())
    }

    /// Gives each free lane a group.
    fn start_lanes(&mut self) -> bool {
        // The integrator's sectioning goes first, because all entries wait for the integrator.
        let is_sectioning = self.integrator().is_some_and(|(_, train)| train.is_sectioning());
        let mut more = false;
        while !self.integrates_directly()
            && !is_sectioning
            && !self.waiting.is_empty()
            && self.free_lane_slots() > 0
        {
            let group = self.pick();
            if group.is_empty() {
                break;
            }
            self.form_train(TrainKind::Lane, &Self::singles(group));
            more = true;
        }
        more
    }

    /// Starts verifications up to the concurrency limit: suspects first, then the integrator, then
    /// lanes.
    fn start_verifications(&mut self) -> bool {
        let mut ids: Vec<(TrainKind, TrainId)> =
            self.trains.iter().map(|(id, t)| (t.kind, *id)).collect();
        let order = |kind: TrainKind| match kind {
            TrainKind::Confirm => 0,
            TrainKind::Integrate => 1,
            TrainKind::Lane => 2,
        };
        ids.sort_by_key(|(kind, id)| (order(*kind), *id));
        ids.into_iter()
            .fold(false, |more, (kind, id)| self.start_verifications_of(kind, id) || more)
    }

    fn start_verifications_of(&mut self, kind: TrainKind, id: TrainId) -> bool {
        let mut more = false;
        loop {
            let (busy, free) = (self.running_verifications(), self.free_lane_slots());
            let Some(train) = self.trains.get(&id) else { return more };
            let next = match kind {
                TrainKind::Lane if train.running.len() >= self.prefixes_of_lane(train) => None,
                TrainKind::Lane | TrainKind::Integrate => train.next_prefix(
                    &|tree| self.passing_trees.contains(tree),
                    self.settings.verify_each,
                ),
                TrainKind::Confirm => self.next_suspect_prefix(train),
            };
            let Some((prefix, (_, tree))) = next.and_then(|n| Some((n, train.prefix_end(n)?)))
            else {
                return more;
            };
            if self.passing_trees.contains(tree) {
                self.update_passed(id);
                more = true;
                continue;
            }
            let running = train.running.len();
            let room = match kind {
                TrainKind::Integrate if self.integrates_directly() => {
                    busy < self.settings.concurrency
                }
                TrainKind::Integrate => {
                    busy < self.settings.concurrency
                        && running < (self.settings.concurrency - 1).max(1)
                }
                TrainKind::Lane | TrainKind::Confirm => free > 0,
            };
            let Some(train) = self.trains.get_mut(&id).filter(|_| room) else { return more };
            let attempt = train.attempts.entry(prefix).or_insert(0);
            *attempt += 1;
            train.running.insert(prefix, *attempt);
            more = true;
        }
    }

    /// Returns the number of prefixes that a lane's train may verify at the same time. The number
    /// is 1, unless the other lanes are idle and a long train is bisected: the idle lanes then
    /// shorten the bisection.
    fn prefixes_of_lane(&self, train: &Train) -> usize {
        let suspects = train.shortest_failure().map_or(0, |failed| failed - train.passed);
        let idle = self.waiting.is_empty() && suspects > LONG_GROUP;
        if idle { PREFIXES_OF_IDLE_LANES } else { 1 }
    }

    /// Returns the next prefix of a suspect's train. A suspect is rejected only if the tip itself
    /// passes, so the tip is verified after a failure.
    fn next_suspect_prefix(&self, train: &Train) -> Option<usize> {
        if !train.is_built() || train.passed > 0 || train.len() == 0 || !train.running.is_empty() {
            return None;
        }
        let proven = self.passing_trees.contains(&train.onto_tree);
        match (train.failures.contains_key(&1), proven) {
            (false, _) => Some(1),
            (true, false) => Some(0),
            (true, true) => None,
        }
    }

    /// Updates the passing prefix of a train.
    pub(super) fn update_passed(&mut self, id: TrainId) {
        let (known, verify_each) = (&self.passing_trees, self.settings.verify_each);
        if let Some(train) = self.trains.get_mut(&id) {
            train.update_passed(&|tree| known.contains(tree), verify_each);
        }
    }
}
