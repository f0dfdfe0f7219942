//! Transitions on the answers to effects: built trains, verdicts and landings. Then the conclusion
//! of trains whose verdicts suffice.

use std::collections::BTreeMap;

use super::entry::{EjectReason, EntryStatus};
use super::id::{EntryId, TrainId};
use super::state::Queue;
use super::train::{FailedPrefix, Train};
use super::types::{Car, Conflict, StopReason, TrainKind};
use crate::domain::id::Oid;
use crate::domain::verdict::Verdict;

/// The number of failures of the target's tip after which the queue stops. One failure may be a
/// flake.
const FAILURES_TO_STOP: u32 = 2;

/// The cause of a new tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TipChange {
    /// Entries of the queue landed.
    Landing,
    /// Another process moved the target.
    Foreign,
}

impl Queue {
    pub(super) fn built(&mut self, id: TrainId, cars: Vec<Car>, conflicts: Vec<Conflict>) {
        let Some(train) = self.trains.get_mut(&id).filter(|train| !train.is_built()) else {
            return;
        };
        if train.set_cars(cars).is_none() {
            return;
        }
        let (kind, on_tip) = (train.kind, train.onto == self.tip);
        let left_out = |(entry, _): &(EntryId, Oid)| {
            (!train.cars().iter().any(|s| s.entry == *entry)).then(|| entry.clone())
        };
        let left_out: Vec<EntryId> = train.plan.iter().filter_map(left_out).collect();
        let mut conflicts: BTreeMap<EntryId, Conflict> =
            conflicts.into_iter().map(|conflict| (conflict.entry.clone(), conflict)).collect();
        for entry in &left_out {
            if let Some(item) = self.items.get_mut(entry) {
                item.conflicted = Some(id);
            }
            match kind {
                TrainKind::Lane | TrainKind::Integrate => self.put_back(entry),
                TrainKind::Confirm => self.requeue_suspect(entry),
            }
        }
        for entry in left_out {
            if let Some(Conflict { paths, with_base: true, .. }) = conflicts.remove(&entry)
                && on_tip
            {
                self.eject(&entry, EjectReason::Conflict { paths });
            }
        }
        self.shorten(id);
        self.update_passed(id);
    }

    /// Cuts a train before the first entry whose dependency was left out. The entries from there on
    /// wait again. They are taken after the dependency, which waits until this train is gone.
    fn shorten(&mut self, id: TrainId) {
        let Some(train) = self.trains.get(&id) else { return };
        let entries: Vec<EntryId> = train.entries().cloned().collect();
        let follows = |n: &usize| {
            let before = entries.get(..*n).unwrap_or_default();
            let met = |dep: &EntryId| self.has_landed(dep) || before.contains(dep);
            let item = entries.get(*n).and_then(|id| self.items.get(id));
            item.is_some_and(|item| item.entry.after.iter().all(met))
        };
        let Some(end) = (0..entries.len()).find(|n| !follows(n)) else { return };
        let cut = |range: &[usize]| {
            let [start, stop] = range else { return None };
            entries.get(end.max(*start)..*stop).map(<[_]>::to_vec)
        };
        let bounds: Vec<usize> = std::iter::once(0).chain(train.bounds.iter().copied()).collect();
        let behind = bounds.windows(2).filter_map(cut).collect();
        match train.kind {
            TrainKind::Integrate => self.return_groups(behind),
            TrainKind::Lane | TrainKind::Confirm => {
                behind.iter().flatten().for_each(|e| self.put_back(e));
            }
        }
        if let Some(train) = self.trains.get_mut(&id) {
            train.cut(end);
        }
    }

    pub(super) fn record_verdict(
        &mut self,
        id: TrainId,
        prefix: usize,
        attempt: u32,
        verdict: Verdict<String>,
    ) {
        let Some(train) = self.trains.get_mut(&id) else { return };
        if train.running.get(&prefix) != Some(&attempt) {
            return;
        }
        train.running.remove(&prefix);
        let Some(tree) = train.prefix_end(prefix).map(|(_, tree)| tree.clone()) else { return };
        match verdict {
            Verdict::Passed => {
                self.passing_trees.insert(tree);
                self.update_passed(id);
            }
            Verdict::Failed(_) if self.passing_trees.contains(&tree) => self.update_passed(id),
            Verdict::Failed(finding) => {
                train.record_failure(prefix, finding);
                if train.kind == TrainKind::Integrate && prefix == train.len() {
                    self.window = (prefix / 2).clamp(self.min_window(), self.max_window());
                }
            }
            // An errored verification is repeated. If a prefix errors twice, or during a bisection,
            // one of its entries may be the cause: the prefix counts as failed, so that bisection
            // isolates that entry and the other entries land.
            Verdict::Errored(reason) => {
                let alone = train.kind == TrainKind::Confirm;
                let bisected = !alone && train.shortest_failure().is_some();
                let repeated = train.attempts.get(&prefix).is_some_and(|times| *times > 1);
                if prefix > 0 && (repeated || bisected) {
                    train.record_failure(prefix, reason);
                    // The entry is to blame only if the tip can be verified now. Forget the tip's
                    // verdict, so that the tip is verified again.
                    if alone {
                        let tip = train.onto_tree.clone();
                        self.passing_trees.remove(&tip);
                    }
                }
            }
        }
    }

    pub(super) fn tree_passed(&mut self, tree: Oid) {
        self.passing_trees.insert(tree);
        let trains: Vec<TrainId> = self.trains.keys().copied().collect();
        trains.into_iter().for_each(|id| self.update_passed(id));
    }

    pub(super) fn landed(&mut self, tip: Oid, tree: Oid, entries: &[(EntryId, Oid)]) {
        let own = self.integrator().and_then(|(id, train)| {
            let end = train.cars().iter().position(|car| car.commit == tip)? + 1;
            let here = *train.base() == self.tip && end > train.landed;
            here.then_some((id, end))
        });
        let mut landings = entries.to_vec();
        if let Some((id, end)) = own
            && let Some(train) = self.trains.get_mut(&id)
        {
            // The new tip contains all cars up to `end`, even if the input does not name their
            // entries.
            let cars = train.cars().iter().map(|s| s.entry.clone());
            let cars = cars.zip(train.candidates.iter().cloned());
            landings.extend(cars.take(end).skip(train.landed));
            train.landed = end;
            train.passed = train.passed.max(end);
        }
        (self.tip, self.tree) = (tip, tree);
        for (entry, candidate) in &landings {
            let Some(item) = self.items.get(entry) else { continue };
            if item.entry.candidate != *candidate || item.status == EntryStatus::Landed {
                continue;
            }
            let in_own = own.is_some_and(|(id, _)| item.status == EntryStatus::Integrating(id));
            if !in_own {
                self.remove_from_place(entry);
            }
            self.unrecorded_ejections.remove(entry);
            if let Some(item) = self.items.get_mut(entry) {
                item.status = EntryStatus::Landed;
            }
            self.rate.record_landing();
        }
        self.drop_stale(TipChange::Landing);
    }

    pub(super) fn target_moved(&mut self, tip: Oid, tree: Oid) {
        if tip == self.tip {
            return;
        }
        (self.tip, self.tree) = (tip, tree);
        if self.stop == Some(StopReason::TipFails) {
            self.stop = None;
        }
        self.drop_stale(TipChange::Foreign);
    }

    /// Dissolves trains that no longer stand on the tip. The integrator always restarts. A lane
    /// continues if its train is built. A suspect restarts if another process moved the target,
    /// because the new tip may change the suspect's verdict.
    fn drop_stale(&mut self, change: TipChange) {
        let ids: Vec<TrainId> = self.trains.keys().copied().collect();
        for id in ids {
            let Some(train) = self.trains.get(&id) else { continue };
            let stale = *train.base() != self.tip;
            let drop = match train.kind {
                TrainKind::Integrate => true,
                TrainKind::Confirm => change == TipChange::Foreign || !train.is_built(),
                TrainKind::Lane => !train.is_built(),
            };
            if stale && drop {
                self.dissolve(id);
            }
        }
    }

    /// Concludes built trains as far as their verdicts allow, and removes the settled ones. Returns
    /// true if anything changed.
    pub(super) fn conclude_trains(&mut self) -> bool {
        let ids: Vec<TrainId> = self.trains.keys().copied().collect();
        let mut more = false;
        for id in ids {
            let Some(kind) = self.trains.get(&id).filter(|t| t.is_built()).map(|t| t.kind) else {
                continue;
            };
            more |= match kind {
                TrainKind::Lane => self.conclude_lane(id),
                TrainKind::Integrate => self.conclude_integration(id),
                TrainKind::Confirm => self.conclude_confirmation(id),
            };
        }
        more
    }

    /// Returns the entries in a part of a train that still belong to the train.
    fn members(&self, id: TrainId, range: std::ops::Range<usize>) -> Vec<EntryId> {
        let Some(train) = self.trains.get(&id) else { return Vec::new() };
        let cars = train.cars().get(range).unwrap_or_default();
        let mine = |entry: &&EntryId| {
            self.items.get(*entry).is_some_and(|i| match i.status {
                EntryStatus::Screening(t)
                | EntryStatus::Integrating(t)
                | EntryStatus::Confirming(t) => t == id,
                EntryStatus::Waiting
                | EntryStatus::Screened
                | EntryStatus::Suspected
                | EntryStatus::Landed
                | EntryStatus::Ejected(_) => false,
            })
        };
        cars.iter().map(|s| &s.entry).filter(mine).cloned().collect()
    }

    fn conclude_lane(&mut self, id: TrainId) -> bool {
        let Some(train) = self.trains.get_mut(&id) else { return false };
        let (from, passed, len) = (train.released, train.passed, train.len());
        train.released = passed;
        let (settled, culprit) = (train.is_settled(), train.culprit());
        let failed = train.shortest_failure().unwrap_or(len);
        if passed > from {
            let screened = self.members(id, from..passed);
            self.queue_passed_group(screened);
        }
        // Bisection does not need the cars behind the shortest failure. Other lanes take them.
        let behind = self.members(id, failed..len);
        behind.iter().for_each(|entry| self.put_back(entry));
        if let Some(train) = self.trains.get_mut(&id).filter(|_| failed < len) {
            train.cut(failed);
        }
        if !settled {
            return passed > from || failed < len;
        }
        if let Some(culprit) = culprit {
            let predecessors = self
                .trains
                .get(&id)
                .map(|train| train.cars().iter().take(passed).map(|s| s.entry.clone()).collect());
            let predecessors: Vec<EntryId> = predecessors.unwrap_or_default();
            for entry in self.members(id, culprit) {
                self.add_suspect(entry, predecessors.clone());
            }
        }
        self.trains.remove(&id);
        true
    }

    fn conclude_integration(&mut self, id: TrainId) -> bool {
        let Some(train) = self.trains.get(&id) else { return false };
        if !train.is_settled() || train.landed != train.passed {
            return false;
        }
        let culprit = train.culprit();
        let Some(culprit) = culprit else {
            self.window = self.window.saturating_mul(2);
            self.trains.remove(&id);
            return true;
        };
        let mut behind = Vec::new();
        for ends in train.bounds.windows(2) {
            if let [start, end] = ends
                && *start >= culprit.end
            {
                behind.push(self.members(id, *start..*end));
            }
        }
        let suspects = self.members(id, culprit.clone());
        let Some(train) = self.trains.remove(&id) else { return false };
        self.return_groups(behind);
        if let [one] = suspects.as_slice() {
            self.add_suspect(one.clone(), Vec::new());
        } else {
            self.hand_to_lane(train, culprit);
        }
        true
    }

    /// Moves a group that is known to fail on the tip to a lane. The group keeps its commits.
    fn hand_to_lane(&mut self, train: Train, group: std::ops::Range<usize>) {
        let Some((commit, tree)) = train.prefix_end(group.start) else { return };
        let onto = (commit.clone(), tree.clone());
        let cars = train.cars().get(group.clone()).unwrap_or_default().to_vec();
        let candidates = train.candidates.get(group.clone()).unwrap_or_default().to_vec();
        let plan = cars.iter().map(|s| s.entry.clone()).zip(candidates.iter().cloned());
        let id = self.new_train();
        let mut lane =
            Train::new(TrainKind::Lane, onto, plan.collect(), (1..=cars.len()).collect());
        let finding =
            train.failures.get(&group.end).map(|failed| failed.finding.clone()).unwrap_or_default();
        lane.failures.insert(cars.len(), FailedPrefix { times: 1, finding });
        for car in &cars {
            self.set_status(&car.entry, EntryStatus::Screening(id));
        }
        (lane.cars, lane.candidates) = (Some(cars), candidates);
        self.trains.insert(id, lane);
        self.update_passed(id);
    }

    fn conclude_confirmation(&mut self, id: TrainId) -> bool {
        let Some(train) = self.trains.get(&id) else { return false };
        let Some(entry) = train.entries().next().cloned() else {
            self.trains.remove(&id);
            return true;
        };
        if train.passed > 0 {
            self.trains.remove(&id);
            if let Some(item) = self.items.get_mut(&entry) {
                item.flaky_failures += 1;
            }
            self.queue_passed_group(vec![entry]);
            return true;
        }
        let proven = self.passing_trees.contains(&train.onto_tree);
        let tip_fails =
            train.failures.get(&0).is_some_and(|failed| failed.times >= FAILURES_TO_STOP);
        match train.failures.get(&1) {
            Some(failed) if proven => {
                let finding = failed.finding.clone();
                self.rate.record_rejection();
                self.eject(&entry, EjectReason::Rejected { finding });
                true
            }
            Some(_) if tip_fails => {
                self.stop = Some(StopReason::TipFails);
                self.dissolve(id);
                true
            }
            Some(_) | None => false,
        }
    }
}
