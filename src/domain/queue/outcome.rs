//! What answers mean: trains that were built, verdicts, landings, and what becomes of a train that is over.

use std::collections::BTreeMap;

use super::entry::{EntryId, Standing, Why};
use super::train::{Red, Train};
use super::words::{Clash, Kind, Ruling, Step, Stop};
use super::{Queue, TrainId};
use crate::domain::id::Oid;

/// So often the target's tip itself has to fail before that is believed.
const TIP_FAILS: u32 = 2;

impl Queue {
    pub(super) fn built(&mut self, id: TrainId, steps: Vec<Step>, clashes: Vec<Clash>) {
        let Some(train) = self.trains.get_mut(&id).filter(|train| !train.built()) else { return };
        if train.build(steps).is_none() {
            return;
        }
        let (kind, on_tip) = (train.kind, train.onto == self.tip);
        let left_out = |(entry, _): &(EntryId, Oid)| {
            (!train.steps().iter().any(|s| s.entry == *entry)).then(|| entry.clone())
        };
        let left_out: Vec<EntryId> = train.plan.iter().filter_map(left_out).collect();
        let mut clashes: BTreeMap<EntryId, Clash> =
            clashes.into_iter().map(|clash| (clash.entry.clone(), clash)).collect();
        for entry in &left_out {
            if let Some(item) = self.items.get_mut(entry) {
                item.clashed = Some(id);
            }
            match kind {
                Kind::Lane | Kind::Integrate => self.wait(entry),
                Kind::Confirm => self.again_suspect(entry),
            }
        }
        for entry in left_out {
            if let Some(Clash { paths, alone: true, .. }) = clashes.remove(&entry)
                && on_tip
            {
                self.eject(&entry, Why::Conflict { paths });
            }
        }
        self.shorten(id);
        self.refresh(id);
    }

    /// What comes after an entry that was left out must not go ahead of it: the train ends before that. What goes back
    /// then waits for this train as the other one does, so that they do not meet in the same train at once again.
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
            Kind::Integrate => self.take_back(behind),
            Kind::Lane | Kind::Confirm => behind.iter().flatten().for_each(|e| self.wait(e)),
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
                if train.kind == Kind::Integrate && prefix == train.len() {
                    let (half, least) = (prefix / 2, self.settings.batch);
                    self.span = half.clamp(least, self.widest().max(least));
                }
            }
            // It is asked again, because nobody has said anything about it. Where that comes to nothing twice with several in it, one of
            // them may be why: it is looked for, and only what cannot be judged alone keeps others from nothing.
            Ruling::Broken(why) => {
                let several = prefix > train.good + 1;
                if several && train.asked.get(&prefix).is_some_and(|times| *times > 1) {
                    train.failed(prefix, why);
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
            let end = train.steps().iter().position(|step| step.commit == tip)? + 1;
            let here = *train.base() == self.tip && end > train.landed;
            here.then_some((id, end))
        });
        let mut facts = entries.to_vec();
        if let Some((id, end)) = own
            && let Some(train) = self.trains.get_mut(&id)
        {
            // The commit has all of these in it, whether they were named or not.
            let steps = train.steps().iter().map(|s| s.entry.clone());
            let steps = steps.zip(train.candidates.iter().cloned());
            facts.extend(steps.take(end).skip(train.landed));
            train.landed = end;
            train.good = train.good.max(end);
        }
        (self.tip, self.tree) = (tip, tree);
        for (entry, candidate) in &facts {
            let Some(item) = self.items.get(entry) else { continue };
            if item.entry.candidate != *candidate || item.standing == Standing::Landed {
                continue;
            }
            let in_own = own.is_some_and(|(id, _)| item.standing == Standing::Integrating(id));
            if !in_own {
                self.take_out(entry);
            }
            self.leaving.remove(entry);
            if let Some(item) = self.items.get_mut(entry) {
                item.standing = Standing::Landed;
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
        if self.stop == Some(Stop::TipFails) {
            self.stop = None;
        }
        self.drop_stale(true);
    }

    /// The tip is another one. What decides is built anew; what only screens goes on, if it was built. What was moved by
    /// others may have changed what a suspect meets.
    fn drop_stale(&mut self, others: bool) {
        let ids: Vec<TrainId> = self.trains.keys().copied().collect();
        for id in ids {
            let Some(train) = self.trains.get(&id) else { continue };
            let stale = *train.base() != self.tip;
            let drop = match train.kind {
                Kind::Integrate => true,
                Kind::Confirm => others || !train.built(),
                Kind::Lane => !train.built(),
            };
            if stale && drop {
                self.dissolve(id);
            }
        }
    }

    /// Concludes trains that are over. Says whether there were any.
    pub(super) fn wind_up(&mut self) -> bool {
        let ids: Vec<TrainId> = self.trains.keys().copied().collect();
        let mut more = false;
        for id in ids {
            let Some(kind) = self.trains.get(&id).filter(|t| t.built()).map(|t| t.kind) else {
                continue;
            };
            more |= match kind {
                Kind::Lane => self.lane_over(id),
                Kind::Integrate => self.integrated(id),
                Kind::Confirm => self.confirmed(id),
            };
        }
        more
    }

    /// The entries of a part of a train that still belong to it.
    fn part(&self, id: TrainId, range: std::ops::Range<usize>) -> Vec<EntryId> {
        let Some(train) = self.trains.get(&id) else { return Vec::new() };
        let steps = train.steps().get(range).unwrap_or_default();
        let mine = |entry: &&EntryId| {
            self.items.get(*entry).is_some_and(|i| match i.standing {
                Standing::Screening(t) | Standing::Integrating(t) | Standing::Confirming(t) => {
                    t == id
                }
                Standing::Waiting
                | Standing::Screened
                | Standing::Suspected
                | Standing::Landed
                | Standing::Out(_) => false,
            })
        };
        steps.iter().map(|s| &s.entry).filter(mine).cloned().collect()
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
                .map(|train| train.steps().iter().take(good).map(|s| s.entry.clone()).collect());
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
            self.span = (self.span * 2).min(self.widest());
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

    /// A group of which it is known that it fails on the tip goes to a lane, with the commits that it has.
    fn hand_to_lane(&mut self, train: Train, group: std::ops::Range<usize>) {
        let Some((commit, tree)) = train.at(group.start) else { return };
        let onto = (commit.clone(), tree.clone());
        let steps = train.steps().get(group.clone()).unwrap_or_default().to_vec();
        let candidates = train.candidates.get(group.clone()).unwrap_or_default().to_vec();
        let plan = steps.iter().map(|s| s.entry.clone()).zip(candidates.iter().cloned());
        let id = self.new_train();
        let mut lane = Train::new(Kind::Lane, onto, plan.collect(), (1..=steps.len()).collect());
        let finding = train.red.get(&group.end).map(|red| red.finding.clone()).unwrap_or_default();
        lane.red.insert(steps.len(), Red { times: 1, finding });
        for step in &steps {
            self.stand(&step.entry, Standing::Screening(id));
        }
        (lane.steps, lane.candidates) = (Some(steps), candidates);
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
                self.eject(&entry, Why::Rejected { finding });
                true
            }
            Some(_) if tip_fails => {
                self.stop = Some(Stop::TipFails);
                self.dissolve(id);
                true
            }
            Some(_) | None => false,
        }
    }
}
