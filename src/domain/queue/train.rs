//! A train: a line of commits, and the verdicts on its prefixes.
//!
//! Every verification covers a prefix. The whole train is the longest prefix. Bisection verifies
//! prefixes between the longest prefix that passes and the shortest prefix that fails. Sectioning
//! does the same with whole groups. The empty prefix is the commit on which the train stands. The
//! culprit lies between the passing and the failing prefix. No verdict covers the cars behind the
//! culprit.

use std::collections::BTreeMap;

use super::id::EntryId;
use super::types::{Car, TrainKind};
use crate::domain::id::Oid;

/// The failures of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedPrefix {
    /// The number of failures.
    pub times: u32,
    /// The last finding.
    pub finding: String,
}

/// Entries merged onto a tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Train {
    /// The purpose of the train.
    pub kind: TrainKind,
    /// The commit on which the train stands.
    pub(super) onto: Oid,
    /// The tree of `onto`.
    pub(super) onto_tree: Oid,
    /// The entries to merge, with their candidates.
    pub(super) plan: Vec<(EntryId, Oid)>,
    /// The ends of the groups. Only prefixes that end with a group are verified. An end counts
    /// entries of the plan until the train is built, and cars afterwards.
    pub(super) bounds: Vec<usize>,
    /// The commits. `None` until the train is built.
    pub(super) cars: Option<Vec<Car>>,
    /// The candidates of the cars.
    pub(super) candidates: Vec<Oid>,
    /// The number of cars on the target.
    pub(super) landed: usize,
    /// The number of cars whose entries no longer belong to the train: they passed in a lane or
    /// landed.
    pub(super) released: usize,
    /// The length of the longest prefix that passes.
    pub(super) passed: usize,
    /// The prefixes that failed.
    pub(super) failures: BTreeMap<usize, FailedPrefix>,
    /// Running verifications: the attempt's number by prefix.
    pub(super) running: BTreeMap<usize, u32>,
    /// The number of verifications started for each prefix.
    pub(super) attempts: BTreeMap<usize, u32>,
}

impl Train {
    /// Creates a train that is not built yet.
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
            passed: 0,
            failures: BTreeMap::new(),
            running: BTreeMap::new(),
            attempts: BTreeMap::new(),
        }
    }

    /// Returns the entries of the cars. Until the train is built, returns the entries of the plan.
    pub fn entries(&self) -> impl Iterator<Item = &EntryId> {
        let cars = self.cars.as_deref().unwrap_or_default();
        let plan = if self.cars.is_some() { &[] } else { self.plan.as_slice() };
        cars.iter().map(|s| &s.entry).chain(plan.iter().map(|(id, _)| id))
    }

    /// Returns the commits, in order. Empty until the train is built.
    pub fn cars(&self) -> &[Car] {
        self.cars.as_deref().unwrap_or_default()
    }

    /// Returns true if the train has been built.
    pub fn is_built(&self) -> bool {
        self.cars.is_some()
    }

    /// Returns the number of cars.
    pub(super) fn len(&self) -> usize {
        self.cars().len()
    }

    /// Returns the last commit of a prefix and the commit's tree.
    pub(super) fn prefix_end(&self, prefix: usize) -> Option<(&Oid, &Oid)> {
        match prefix.checked_sub(1) {
            None => Some((&self.onto, &self.onto_tree)),
            Some(last) => self.cars().get(last).map(|s| (&s.commit, &s.tree)),
        }
    }

    /// Returns the commit on which the cars that have not landed stand.
    pub(super) fn base(&self) -> &Oid {
        self.prefix_end(self.landed).map_or(&self.onto, |(commit, _)| commit)
    }

    /// Stores the built cars. Returns `None` if they are not a subsequence of the plan.
    pub(super) fn set_cars(&mut self, cars: Vec<Car>) -> Option<()> {
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

    /// Cuts a built train to `end` cars.
    pub(super) fn cut(&mut self, end: usize) {
        self.candidates.truncate(end);
        self.bounds.retain(|bound| *bound < end);
        self.bounds.extend((end > 0).then_some(end));
        if let Some(cars) = &mut self.cars {
            cars.truncate(end);
        }
    }

    /// Returns the shortest prefix that failed and is longer than the passing prefix.
    pub(super) fn shortest_failure(&self) -> Option<usize> {
        self.failures.range(self.passed + 1..).next().map(|(prefix, _)| *prefix)
    }

    /// Returns the end of the first group behind the passing prefix.
    fn next_group_end(&self) -> Option<usize> {
        self.bounds.iter().copied().find(|end| *end > self.passed)
    }

    /// Returns the group that makes the train fail, as a range of cars. Returns `None` while
    /// several groups are possible.
    pub(super) fn culprit(&self) -> Option<std::ops::Range<usize>> {
        let bad = self.shortest_failure()?;
        (self.next_group_end() == Some(bad)).then_some(self.passed..bad)
    }

    /// Returns true if the train needs no further verification.
    pub(super) fn is_settled(&self) -> bool {
        self.is_built() && (self.passed == self.len() || self.culprit().is_some())
    }

    /// Updates the passing prefix from the known trees. With `verify_each`, every commit of the
    /// prefix needs a verdict.
    pub(super) fn update_passed(&mut self, known: &dyn Fn(&Oid) -> bool, verify_each: bool) {
        let passes = |end: &usize| self.prefix_end(*end).is_some_and(|(_, tree)| known(tree));
        let ends = self.bounds.iter().copied().filter(|end| *end > self.passed);
        let passed =
            if verify_each { ends.take_while(passes).last() } else { ends.filter(passes).last() };
        self.passed = passed.unwrap_or(self.passed);
        self.drop_obsolete();
        // Another train may have passed with the same tree meanwhile.
        let mut running = std::mem::take(&mut self.running);
        running.retain(|prefix, _| !self.prefix_end(*prefix).is_some_and(|(_, tree)| known(tree)));
        self.running = running;
    }

    /// Records a failure of a prefix.
    pub(super) fn record_failure(&mut self, prefix: usize, finding: String) {
        let times = self.failures.get(&prefix).map_or(0, |failed| failed.times) + 1;
        self.failures.insert(prefix, FailedPrefix { times, finding });
        self.drop_obsolete();
    }

    /// Drops running verifications whose verdict no longer matters.
    fn drop_obsolete(&mut self) {
        let (passed, bad) = (self.passed, self.shortest_failure().unwrap_or(usize::MAX));
        self.running.retain(|prefix, _| *prefix > passed && *prefix < bad || *prefix == 0);
    }

    /// Returns the next prefix to verify in addition to the running verifications.
    pub(super) fn next_prefix(
        &self,
        known: &dyn Fn(&Oid) -> bool,
        verify_each: bool,
    ) -> Option<usize> {
        if !self.is_built() || self.is_settled() {
            return None;
        }
        let open = |end: &usize| {
            *end > self.passed && self.shortest_failure().is_none_or(|bad| *end < bad)
        };
        if verify_each {
            let is_needed = |end: &usize| {
                let passes = self.prefix_end(*end).is_some_and(|(_, tree)| known(tree));
                open(end) && !passes && !self.running.contains_key(end)
            };
            return self.bounds.iter().copied().find(is_needed);
        }
        if self.shortest_failure().is_none() {
            return Some(self.len()).filter(|all| !self.running.contains_key(all));
        }
        // The middle of the largest gap between prefixes that are known or running.
        let inside: Vec<usize> = self.bounds.iter().copied().filter(open).collect();
        let gaps = inside.split(|end| self.running.contains_key(end));
        let gap = gaps.fold(&[][..], |best, gap| if gap.len() > best.len() { gap } else { best });
        gap.get(gap.len().saturating_sub(1) / 2).copied()
    }

    /// Returns true while the train is bisected or sectioned.
    pub(super) fn is_sectioning(&self) -> bool {
        self.shortest_failure().is_some() && !self.is_settled()
    }
}
