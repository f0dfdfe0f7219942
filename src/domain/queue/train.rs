//! A train: commits one behind the other, and what is known of its prefixes.
//!
//! Every question that the queue has is one about a prefix. All of a train is its longest prefix; bisecting is asking for
//! prefixes between the longest that passes and the shortest that fails; sectioning is the same between groups; and the
//! empty prefix is the commit on which the train stands. Between the two lies the culprit, and what lies behind it was
//! never asked about.

use std::collections::BTreeMap;

use super::entry::EntryId;
use super::types::{Car, TrainKind};
use crate::domain::id::Oid;

/// What failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedPrefix {
    /// How often.
    pub times: u32,
    /// What was found last.
    pub finding: String,
}

/// Some entries on a tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Train {
    /// What it is for.
    pub kind: TrainKind,
    /// The commit on which it was put.
    pub(super) onto: Oid,
    /// Its tree.
    pub(super) onto_tree: Oid,
    /// Entries and candidates as they are to be merged.
    pub(super) plan: Vec<(EntryId, Oid)>,
    /// Where its groups end: a prefix that is asked about ends at one of these. They count entries of the plan until the
    /// train is built, and cars from then on.
    pub(super) bounds: Vec<usize>,
    /// Its commits; nothing before it is built.
    pub(super) cars: Option<Vec<Car>>,
    /// The candidates of the cars.
    pub(super) candidates: Vec<Oid>,
    /// How many cars are on the target.
    pub(super) landed: usize,
    /// How many cars its entries have been released from: passed in a lane, or landed.
    pub(super) released: usize,
    /// The longest prefix that may be built on.
    pub(super) good: usize,
    /// Prefixes that failed.
    pub(super) red: BTreeMap<usize, FailedPrefix>,
    /// Verifications under way: prefix and attempt.
    pub(super) running: BTreeMap<usize, u32>,
    /// How often each prefix was asked about.
    pub(super) asked: BTreeMap<usize, u32>,
}

impl Train {
    /// A train that is still to be built.
    pub(super) fn new(
        kind: TrainKind,
        onto: (Oid, Oid),
        plan: Vec<(EntryId, Oid)>,
        bounds: Vec<usize>,
    ) -> Self {
        Self {
            kind,
            onto: onto.0,
            onto_tree: onto.1,
            plan,
            bounds,
            cars: None,
            candidates: Vec::new(),
            landed: 0,
            released: 0,
            good: 0,
            red: BTreeMap::new(),
            running: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// What is in it: as it was built, or else as it is to be.
    pub fn entries(&self) -> impl Iterator<Item = &EntryId> {
        let cars = self.cars.as_deref().unwrap_or_default();
        let plan = if self.cars.is_some() { &[] } else { self.plan.as_slice() };
        cars.iter().map(|s| &s.entry).chain(plan.iter().map(|(id, _)| id))
    }

    /// Its commits, in order; none before it is built.
    pub fn cars(&self) -> &[Car] {
        self.cars.as_deref().unwrap_or_default()
    }

    /// Whether it has been built.
    pub fn built(&self) -> bool {
        self.cars.is_some()
    }

    /// How many cars it has.
    pub(super) fn len(&self) -> usize {
        self.cars().len()
    }

    /// The last commit of a prefix, and its tree.
    pub(super) fn at(&self, prefix: usize) -> Option<(&Oid, &Oid)> {
        match prefix.checked_sub(1) {
            None => Some((&self.onto, &self.onto_tree)),
            Some(last) => self.cars().get(last).map(|s| (&s.commit, &s.tree)),
        }
    }

    /// The tip on which what is left of it stands.
    pub(super) fn base(&self) -> &Oid {
        self.at(self.landed).map_or(&self.onto, |(commit, _)| commit)
    }

    /// Takes what was built. `None` if that is not a part of what was asked for, in order.
    pub(super) fn build(&mut self, cars: Vec<Car>) -> Option<()> {
        let mut candidates = Vec::with_capacity(cars.len());
        let mut bounds = Vec::new();
        let mut groups = self.bounds.iter().peekable();
        let mut built = cars.iter().peekable();
        for (n, (id, candidate)) in self.plan.iter().enumerate() {
            if built.next_if(|car| car.entry == *id).is_some() {
                candidates.push(candidate.clone());
            }
            let ends = groups.next_if(|end| **end == n + 1).is_some();
            if ends && candidates.len() > bounds.last().copied().unwrap_or(0) {
                bounds.push(candidates.len());
            }
        }
        if built.next().is_some() {
            return None;
        }
        (self.candidates, self.bounds, self.cars) = (candidates, bounds, Some(cars));
        Some(())
    }

    /// Ends a built train after so many cars.
    pub(super) fn shorten(&mut self, end: usize) {
        self.candidates.truncate(end);
        self.bounds.retain(|bound| *bound < end);
        self.bounds.extend((end > 0).then_some(end));
        if let Some(cars) = &mut self.cars {
            cars.truncate(end);
        }
    }

    /// The shortest prefix that failed and is longer than what is good.
    pub(super) fn bad(&self) -> Option<usize> {
        self.red.range(self.good + 1..).next().map(|(prefix, _)| *prefix)
    }

    /// Where the group behind what is good ends.
    fn next_bound(&self) -> Option<usize> {
        self.bounds.iter().copied().find(|end| *end > self.good)
    }

    /// The group that makes it fail, as a range of cars, once there is only one that can be.
    pub(super) fn culprit(&self) -> Option<std::ops::Range<usize>> {
        let bad = self.bad()?;
        (self.next_bound() == Some(bad)).then_some(self.good..bad)
    }

    /// Whether there is nothing more to ask.
    pub(super) fn settled(&self) -> bool {
        self.built() && (self.good == self.len() || self.culprit().is_some())
    }

    /// Looks which prefixes pass. Where every commit needs a verdict, those before one must have theirs.
    pub(super) fn look(&mut self, known: &dyn Fn(&Oid) -> bool, verify_each: bool) {
        let passes = |end: &usize| self.at(*end).is_some_and(|(_, tree)| known(tree));
        let ends = self.bounds.iter().copied().filter(|end| *end > self.good);
        let good =
            if verify_each { ends.take_while(passes).last() } else { ends.filter(passes).last() };
        self.good = good.unwrap_or(self.good);
        self.forget_idle();
        // Somebody else may have found out meanwhile.
        let mut running = std::mem::take(&mut self.running);
        running.retain(|prefix, _| !self.at(*prefix).is_some_and(|(_, tree)| known(tree)));
        self.running = running;
    }

    /// A prefix fails.
    pub(super) fn failed(&mut self, prefix: usize, finding: String) {
        let times = self.red.get(&prefix).map_or(0, |red| red.times) + 1;
        self.red.insert(prefix, FailedPrefix { times, finding });
        self.forget_idle();
    }

    /// Answers that cannot matter any more are not waited for.
    fn forget_idle(&mut self) {
        let (good, bad) = (self.good, self.bad().unwrap_or(usize::MAX));
        self.running.retain(|prefix, _| *prefix > good && *prefix < bad || *prefix == 0);
    }

    /// The prefix to ask about next, beside those that are under way.
    pub(super) fn next(&self, known: &dyn Fn(&Oid) -> bool, verify_each: bool) -> Option<usize> {
        if !self.built() || self.settled() {
            return None;
        }
        let open = |end: &usize| *end > self.good && self.bad().is_none_or(|bad| *end < bad);
        if verify_each {
            let news = |end: &usize| {
                let passes = self.at(*end).is_some_and(|(_, tree)| known(tree));
                open(end) && !passes && !self.running.contains_key(end)
            };
            return self.bounds.iter().copied().find(news);
        }
        if self.bad().is_none() {
            return Some(self.len()).filter(|all| !self.running.contains_key(all));
        }
        // The middle of the largest gap between what is known or will be.
        let inside: Vec<usize> = self.bounds.iter().copied().filter(open).collect();
        let gaps = inside.split(|end| self.running.contains_key(end));
        let gap = gaps.fold(&[][..], |best, gap| if gap.len() > best.len() { gap } else { best });
        gap.get(gap.len().saturating_sub(1) / 2).copied()
    }

    /// Whether a bisection or sectioning is under way.
    pub(super) fn sectioning(&self) -> bool {
        self.bad().is_some() && !self.settled()
    }
}
