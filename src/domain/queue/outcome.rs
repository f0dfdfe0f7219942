//! Transitions on answers: built trains, verdicts, landings, and the conclusion of trains.

use std::collections::BTreeMap;

use super::entry::{EjectReason, EntryId, EntryStatus};
use super::train::{FailedPrefix, Train};
use super::types::{Car, Conflict, Ruling, StopReason, TrainKind};
use super::{Queue, TrainId};
use crate::domain::id::Oid;

/// Failures of the target's tip after which the queue stops. One failure may be a flake.
const TIP_FAILS: u32 = 2;

impl Queue {
    pub(super) fn built(&mut self, id: TrainId, cars: Vec<Car>, conflicts: Vec<Conflict>) {
        let Some(train) = self.trains.get_mut(&id).filter(|train| !train.built()) else { return };
        if train.build(cars).is_none() {
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
                TrainKind::Lane | TrainKind::Integrate => self.wait(entry),
                TrainKind::Confirm => self.again_suspect(entry),
            }
        }
        for entry in left_out {
            if let Some(Conflict { paths, alone: true, .. }) = conflicts.remove(&entry)
                && on_tip
            {
                self.eject(&entry, EjectReason::Conflict { paths });
            }
        }
        self.shorten(id);
        self.refresh(id);
    }

    /// Cuts a train before an entry that depends on an entry left out. The entries cut off wait
    /// until this train is gone, as the one left out does, so that they do not meet in a train
    /// again at once.
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
            TrainKind::Integrate => self.take_back(behind),
            TrainKind::Lane | TrainKind::Confirm => {
                behind.iter().flatten().for_each(|e| self.wait(e));
            }
        }
        if let Some(train) = self.trains.get_mut(&id) {
            train.shorten(end);
        }
    }

    pub(super) fn judged(&mut self, id: TrainId, prefix: usize, attempt: u32, ruling: Ruling) {
        let Some(train) = self.trains.get_mut(&id) else { return };
        if train.running.get(&prefix) != Some(&attempt) {
            return;
        }
        train.running.remove(&prefix);
        let Some(tree) = train.at(prefix).map(|(_, tree)| tree.clone()) else { return };
        match ruling {
            Ruling::Green => {
                self.known.insert(tree);
                self.refresh(id);
            }
            Ruling::Red(_) if self.known.contains(&tree) => self.refresh(id),
            Ruling::Red(finding) => {
                train.failed(prefix, finding);
                if train.kind == TrainKind::Integrate && prefix == train.len() {
                    let (half, least) = (prefix / 2, self.settings.batch);
                    self.window = half.clamp(least, self.widest().max(least));
                }
            }
            // An errored verification is repeated. If a prefix of several entries errors twice, one
            // of them may be the cause: the prefix counts as failed, so that bisection isolates the
            // entry and the others can land.
            Ruling::Broken(reason) => {
                let several = prefix > train.good + 1;
                if several && train.asked.get(&prefix).is_some_and(|times| *times > 1) {
                    train.failed(prefix, reason);
                }
            }
        }
    }

    pub(super) fn learn(&mut self, tree: Oid) {
        self.known.insert(tree);
        let trains: Vec<TrainId> = self.trains.keys().copied().collect();
        trains.into_iter().for_each(|id| self.refresh(id));
    }

    pub(super) fn landed(&mut self, tip: Oid, tree: Oid, entries: &[(EntryId, Oid)]) {
        let own = self.integrator().and_then(|(id, train)| {
            let end = train.cars().iter().position(|car| car.commit == tip)? + 1;
            let here = *train.base() == self.tip && end > train.landed;
            here.then_some((id, end))
        });
        let mut facts = entries.to_vec();
        if let Some((id, end)) = own
            && let Some(train) = self.trains.get_mut(&id)
        {
            // The commit contains all of these entries, whether the input named them or not.
            let cars = train.cars().iter().map(|s| s.entry.clone());
            let cars = cars.zip(train.candidates.iter().cloned());
            facts.extend(cars.take(end).skip(train.landed));
            train.landed = end;
            train.good = train.good.max(end);
        }
        (self.tip, self.tree) = (tip, tree);
        for (entry, candidate) in &facts {
            let Some(item) = self.items.get(entry) else { continue };
            if item.entry.candidate != *candidate || item.status == EntryStatus::Landed {
                continue;
            }
            let in_own = own.is_some_and(|(id, _)| item.status == EntryStatus::Integrating(id));
            if !in_own {
                self.take_out(entry);
            }
            self.leaving.remove(entry);
            if let Some(item) = self.items.get_mut(entry) {
                item.status = EntryStatus::Landed;
            }
            self.rate.note(false);
        }
        self.drop_stale(false);
    }

    pub(super) fn target_moved(&mut self, tip: Oid, tree: Oid) {
        if tip == self.tip {
            return;
        }
        (self.tip, self.tree) = (tip, tree);
        if self.stop == Some(StopReason::TipFails) {
            self.stop = None;
        }
        self.drop_stale(true);
    }

    /// Dissolves trains that no longer stand on the tip. The integrator always restarts. A lane
    /// goes on if it is built. A suspect restarts if others moved the target, which may change its
    /// verdict.
    fn drop_stale(&mut self, others: bool) {
        let ids: Vec<TrainId> = self.trains.keys().copied().collect();
        for id in ids {
            let Some(train) = self.trains.get(&id) else { continue };
            let stale = *train.base() != self.tip;
            let drop = match train.kind {
                TrainKind::Integrate => true,
                TrainKind::Confirm => others || !train.built(),
                TrainKind::Lane => !train.built(),
            };
            if stale && drop {
                self.dissolve(id);
            }
        }
    }

    /// Concludes trains that have ended. Returns true if there were any.
    pub(super) fn wind_up(&mut self) -> bool {
        let ids: Vec<TrainId> = self.trains.keys().copied().collect();
        let mut more = false;
        for id in ids {
            let Some(kind) = self.trains.get(&id).filter(|t| t.built()).map(|t| t.kind) else {
                continue;
            };
            more |= match kind {
                TrainKind::Lane => self.lane_over(id),
                TrainKind::Integrate => self.integrated(id),
                TrainKind::Confirm => self.confirmed(id),
            };
        }
        more
    }

    /// Returns the entries in a part of a train that still belong to the train.
    fn part(&self, id: TrainId, range: std::ops::Range<usize>) -> Vec<EntryId> {
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

    fn lane_over(&mut self, id: TrainId) -> bool {
        let Some(train) = self.trains.get_mut(&id) else { return false };
        let (from, good, len) = (train.released, train.good, train.len());
        train.released = good;
        let (settled, culprit) = (train.settled(), train.culprit());
        if good > from {
            let passed = self.part(id, from..good);
            self.screened(passed);
        }
        if !settled {
            return good > from;
        }
        if let Some(culprit) = culprit {
            let company = self
                .trains
                .get(&id)
                .map(|train| train.cars().iter().take(good).map(|s| s.entry.clone()).collect());
            let company: Vec<EntryId> = company.unwrap_or_default();
            let behind = self.part(id, culprit.end..len);
            for entry in self.part(id, culprit) {
                self.suspect(entry, company.clone());
            }
            behind.iter().for_each(|entry| self.wait(entry));
        }
        self.trains.remove(&id);
        true
    }

    fn integrated(&mut self, id: TrainId) -> bool {
        let Some(train) = self.trains.get(&id) else { return false };
        if !train.settled() || train.landed != train.good {
            return false;
        }
        let culprit = train.culprit();
        let Some(culprit) = culprit else {
            self.window = (self.window * 2).min(self.widest());
            self.trains.remove(&id);
            return true;
        };
        let mut behind = Vec::new();
        for ends in train.bounds.windows(2) {
            if let [start, end] = ends
                && *start >= culprit.end
            {
                behind.push(self.part(id, *start..*end));
            }
        }
        let suspects = self.part(id, culprit.clone());
        let Some(train) = self.trains.remove(&id) else { return false };
        self.take_back(behind);
        if let [one] = suspects.as_slice() {
            self.suspect(one.clone(), Vec::new());
        } else {
            self.hand_to_lane(train, culprit);
        }
        true
    }

    /// Moves a group that is known to fail on the tip to a lane, with the commits it has.
    fn hand_to_lane(&mut self, train: Train, group: std::ops::Range<usize>) {
        let Some((commit, tree)) = train.at(group.start) else { return };
        let onto = (commit.clone(), tree.clone());
        let cars = train.cars().get(group.clone()).unwrap_or_default().to_vec();
        let candidates = train.candidates.get(group.clone()).unwrap_or_default().to_vec();
        let plan = cars.iter().map(|s| s.entry.clone()).zip(candidates.iter().cloned());
        let id = self.new_train();
        let mut lane =
            Train::new(TrainKind::Lane, onto, plan.collect(), (1..=cars.len()).collect());
        let finding = train.red.get(&group.end).map(|red| red.finding.clone()).unwrap_or_default();
        lane.red.insert(cars.len(), FailedPrefix { times: 1, finding });
        for car in &cars {
            self.stand(&car.entry, EntryStatus::Screening(id));
        }
        (lane.cars, lane.candidates) = (Some(cars), candidates);
        self.trains.insert(id, lane);
        self.refresh(id);
    }

    fn confirmed(&mut self, id: TrainId) -> bool {
        let Some(train) = self.trains.get(&id) else { return false };
        let Some(entry) = train.entries().next().cloned() else {
            self.trains.remove(&id);
            return true;
        };
        if train.good > 0 {
            self.trains.remove(&id);
            if let Some(item) = self.items.get_mut(&entry) {
                item.flakes += 1;
            }
            self.screened(vec![entry]);
            return true;
        }
        let proven = self.known.contains(&train.onto_tree);
        let tip_fails = train.red.get(&0).is_some_and(|red| red.times >= TIP_FAILS);
        match train.red.get(&1) {
            Some(red) if proven => {
                let finding = red.finding.clone();
                self.rate.note(true);
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
