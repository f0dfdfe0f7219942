//! The merges of trains, compared with `git merge-tree` in a fresh clone: the same tree, or a
//! conflict in the same paths.
//!
//! A trial is a random history with one to three branches, the repository's settings and its
//! attributes; its seed gives it again. `MERGE_TRIALS=2000 cargo test --test sim trials --
//! --nocapture` makes so many trials of each kind; `MERGE_FIRST=77` starts with another seed, and
//! `MERGE_KIND=CrissCross` makes one kind only.
#![expect(clippy::disallowed_methods, reason = "tests start git and read the environment")]

mod history;
mod oracle;
mod texts;
mod trees;

use oracle::Workshop;

/// A kind of random history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrialKind {
    /// Edits around repeated lines.
    RepeatedLines,
    /// Functions that move within a file.
    FunctionMoves,
    /// Renames of files and folders, modes, types, removals.
    TreeChanges,
    /// Histories with several merge bases.
    CrissCross,
    /// Attributes, merge drivers, settings.
    Attributes,
}

impl TrialKind {
    /// All kinds.
    pub(crate) const ALL: [Self; 5] = [
        Self::RepeatedLines,
        Self::FunctionMoves,
        Self::TreeChanges,
        Self::CrissCross,
        Self::Attributes,
    ];
}

/// A generator of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(kind: TrialKind, seed: u64) -> Self {
        let start = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((kind as u64) << 56);
        let mut chance = Self(start | 1);
        for _ in 0..8 {
            chance.below(2);
        }
        chance
    }

    /// Returns a number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 20) % limit.max(1) as u64).unwrap()
    }

    /// Returns true once in `times` calls, on average.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// The results of many trials.
#[derive(Debug, Default)]
pub(crate) struct TrialCounts {
    /// Merges that were compared.
    pub merges: usize,
    /// Merges in conflict.
    pub conflicts: usize,
    /// Merges with a recorded base.
    pub recorded: usize,
    /// Merges whose tree or paths differ from git's.
    pub differences: Vec<String>,
}

/// Runs trials of one kind, with the git that a search path finds first.
pub(crate) fn run_trials(path: &str, kind: TrialKind, seeds: std::ops::Range<u64>) -> TrialCounts {
    let workshop = Workshop::new(path);
    let mut counts = TrialCounts::default();
    for seed in seeds {
        workshop.run(&history::trial(kind, seed), &format!("{kind:?} {seed}"), &mut counts);
    }
    counts
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Runs the trials that the environment asks for, and prints the counts.
#[expect(clippy::print_stdout, reason = "the seeds and counts are the result")]
pub(crate) fn compare_all(path: &str, otherwise: u64) {
    let (first, trials) = (number("MERGE_FIRST", 0), number("MERGE_TRIALS", otherwise));
    let only = std::env::var("MERGE_KIND").ok();
    let wanted = |kind: &TrialKind| only.as_ref().is_none_or(|name| *name == format!("{kind:?}"));
    let mut differences = Vec::new();
    for kind in TrialKind::ALL.into_iter().filter(wanted) {
        let counts = run_trials(path, kind, first..first + trials);
        println!(
            "{kind:?}: seeds {first} to {}: {} merges, {} in conflict, {} with a recorded base; {} differ",
            first + trials - 1,
            counts.merges,
            counts.conflicts,
            counts.recorded,
            counts.differences.len()
        );
        differences.extend(counts.differences);
    }
    assert_eq!(differences, Vec::<String>::new(), "{} merges differ", differences.len());
}
