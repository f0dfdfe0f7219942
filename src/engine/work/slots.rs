//! Slots: the allocator of worktrees. A worktree has a stable path and is recycled from task to
//! task.

use std::collections::{BTreeMap, BTreeSet};

use crate::verify::CheckStage;

/// The first letter in the names of worktrees for attempts. No check ever runs there.
pub(in crate::engine) const ATTEMPTS: char = 'p';
/// The first letter in the names of worktrees for checks. No agent ever runs there.
pub(in crate::engine) const CHECKS: char = 'c';

/// The first letter in the names of worktrees for evaluators. No change there is kept.
pub(in crate::engine) const EVALUATIONS: char = 'e';

/// The names of the worktrees in use.
#[derive(Debug, Default)]
pub(in crate::engine) struct Slots {
    busy: BTreeSet<String>,
    /// The last stage of each check worktree.
    last: BTreeMap<String, CheckStage>,
}

impl Slots {
    /// Marks a worktree as in use.
    pub(in crate::engine) fn occupy(&mut self, name: &str) {
        self.busy.insert(name.to_owned());
    }

    /// Takes the free worktree with the lowest number, which most likely exists already.
    pub(in crate::engine) fn take(&mut self, kind: char) -> String {
        self.take_except(kind, &BTreeSet::new())
    }

    /// Takes a worktree for checks. A free worktree that was last used for the same stage is
    /// preferred, because its files differ least. Otherwise the free worktree with the lowest
    /// number is taken.
    pub(in crate::engine) fn take_for(&mut self, stage: CheckStage) -> String {
        let is_suitable =
            |(name, last): &(&String, &CheckStage)| **last == stage && !self.is_busy(name);
        let name = self.last.iter().find(is_suitable).map(|(name, _)| name.clone());
        let name = match name {
            Some(name) => {
                self.busy.insert(name.clone());
                name
            }
            None => self.take(CHECKS),
        };
        self.last.insert(name.clone(), stage);
        name
    }

    /// Takes the free worktree with the lowest number, except for the worktrees in `kept`, which
    /// are kept for a session.
    pub(in crate::engine) fn take_except(&mut self, kind: char, kept: &BTreeSet<&str>) -> String {
        let name = (1u32..)
            .map(|n| format!("{kind}{n:02}"))
            .find(|name| !self.busy.contains(name) && !kept.contains(name.as_str()))
            .unwrap_or_default();
        self.busy.insert(name.clone());
        name
    }

    /// Returns true if a worktree is in use.
    pub(in crate::engine) fn is_busy(&self, name: &str) -> bool {
        self.busy.contains(name)
    }

    /// Releases a worktree.
    pub(in crate::engine) fn free(&mut self, name: &str) {
        self.busy.remove(name);
    }

    /// Returns the number of worktrees in use whose names start with `kind`.
    pub(in crate::engine) fn used(&self, kind: char) -> usize {
        self.busy.iter().filter(|name| name.starts_with(kind)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::{ATTEMPTS, CHECKS, CheckStage, Slots};

    #[test]
    fn take_returns_the_lowest_free_worktree_of_its_kind() {
        let mut slots = Slots::default();
        slots.occupy("p02");
        assert_eq!(slots.take(ATTEMPTS), "p01");
        assert_eq!(slots.take(ATTEMPTS), "p03");
        assert_eq!(slots.take(CHECKS), "c01");
        slots.free("p01");
        assert_eq!(slots.take(ATTEMPTS), "p01");
        assert_eq!((slots.used(ATTEMPTS), slots.used(CHECKS)), (3, 1));
        assert_eq!(slots.take_except(ATTEMPTS, &["p04"].into()), "p05");
        assert!(slots.is_busy("p05") && !slots.is_busy("p04"));
    }

    #[test]
    fn take_for_prefers_a_worktree_last_used_for_the_stage() {
        let mut slots = Slots::default();
        assert_eq!(slots.take_for(CheckStage::Task), "c01");
        assert_eq!(slots.take_for(CheckStage::Landing), "c02");
        slots.free("c01");
        slots.free("c02");
        assert_eq!(slots.take_for(CheckStage::Landing), "c02");
        assert_eq!(
            slots.take_for(CheckStage::Landing),
            "c01",
            "a free worktree of another stage is reused"
        );
        assert_eq!(slots.take_for(CheckStage::Task), "c03");
    }
}
