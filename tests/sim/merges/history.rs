//! Random histories.

use std::collections::BTreeMap;

use super::{Chance, TrialKind, texts, trees};

/// The mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileMode {
    Plain,
    Executable,
    Link,
}

impl FileMode {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "100644",
            Self::Executable => "100755",
            Self::Link => "120000",
        }
    }
}

/// The files of a commit, by path.
pub(super) type Files = BTreeMap<String, (FileMode, String)>;

/// A commit.
#[derive(Debug, Clone)]
pub(super) struct TrialCommit {
    pub files: Files,
    /// The positions of the parents.
    pub parents: Vec<usize>,
}

/// A branch that wants to land.
#[derive(Debug, Clone)]
pub(super) struct TrialBranch {
    /// The position of its commit.
    pub tip: usize,
    /// The branch before it that this branch is stacked on, and the position of the commit.
    pub stacked: Option<(usize, usize)>,
}

/// A history with branches, and all that decides how they merge.
#[derive(Debug, Clone, Default)]
pub(super) struct MergeTrial {
    pub commits: Vec<TrialCommit>,
    /// The position of the target's tip.
    pub target: usize,
    pub branches: Vec<TrialBranch>,
    pub squash: bool,
    /// Lines of the repository's configuration.
    pub config: String,
    /// Lines of the user's configuration.
    pub user_config: String,
    /// The content of `info/attributes`.
    pub info_attributes: Option<String>,
    /// True if the base of a stacked branch is given, and not found in history.
    pub gives_base: bool,
    /// The number of branches that land with a train of their own, before the others.
    pub landed_before: usize,
}

impl MergeTrial {
    /// Adds a commit and returns its position.
    pub(super) fn commit(&mut self, files: Files, parents: &[usize]) -> usize {
        self.commits.push(TrialCommit { files, parents: parents.to_vec() });
        self.commits.len() - 1
    }

    fn files(&self, at: usize) -> Files {
        self.commits[at].files.clone()
    }
}

/// Makes the trial of a seed.
pub(super) fn trial(kind: TrialKind, seed: u64) -> MergeTrial {
    let mut chance = Chance::new(kind, seed);
    let mut trial = MergeTrial { squash: chance.once_in(2), ..MergeTrial::default() };
    match kind {
        TrialKind::CrissCross => criss_cross(&mut trial, &mut chance),
        TrialKind::RepeatedLines
        | TrialKind::FunctionMoves
        | TrialKind::TreeChanges
        | TrialKind::Attributes => plain(&mut trial, &mut chance, kind),
    }
    settings(&mut trial, &mut chance, kind);
    trial
}

/// Makes a target and one to three branches from one base.
fn plain(trial: &mut MergeTrial, chance: &mut Chance, kind: TrialKind) {
    let base = trial.commit(first_files(chance, kind), &[]);
    let mut target = base;
    let mut forks = vec![base];
    for _ in 0..chance.below(4) {
        target = next(trial, chance, kind, target);
        forks.push(target);
    }
    for branch in 0..1 + chance.below(3) {
        let mut stacked = None;
        let mut tip = *chance.pick(&forks);
        if branch > 0 && chance.once_in(2) {
            let below = chance.below(branch);
            tip = trial.branches[below].tip;
            stacked = Some((below, tip));
        }
        for _ in 0..1 + chance.below(3) {
            tip = next(trial, chance, kind, tip);
        }
        trial.branches.push(TrialBranch { tip, stacked });
    }
    trial.target = target;
    if trial.branches.len() > 1 && chance.once_in(3) {
        trial.landed_before = 1;
        trial.gives_base = chance.once_in(2);
    }
}

/// Adds a commit with random changes.
fn next(trial: &mut MergeTrial, chance: &mut Chance, kind: TrialKind, parent: usize) -> usize {
    let mut files = trial.files(parent);
    match kind {
        TrialKind::RepeatedLines => texts::edit_repeated(&mut files, chance),
        TrialKind::FunctionMoves => texts::move_functions(&mut files, chance),
        TrialKind::TreeChanges => trees::change(&mut files, chance),
        TrialKind::Attributes => trees::change_attributes(&mut files, chance),
        TrialKind::CrissCross => texts::edit_slots(&mut files, chance),
    }
    trial.commit(files, &[parent])
}

fn first_files(chance: &mut Chance, kind: TrialKind) -> Files {
    match kind {
        TrialKind::RepeatedLines => texts::repeated(chance),
        TrialKind::FunctionMoves => texts::functions(chance),
        TrialKind::TreeChanges => trees::files(chance),
        TrialKind::Attributes => trees::files_with_attributes(chance),
        TrialKind::CrissCross => texts::slots(chance),
    }
}

/// Makes a target and a branch that merged each other, and more branches from the second.
fn criss_cross(trial: &mut MergeTrial, chance: &mut Chance) {
    let kind = TrialKind::CrissCross;
    let base = trial.commit(first_files(chance, kind), &[]);
    let (mut target, mut side) = (base, base);
    let mut fork = base;
    for _ in 0..1 + chance.below(2) {
        for _ in 0..1 + chance.below(2) {
            target = next(trial, chance, kind, target);
        }
        for _ in 0..1 + chance.below(2) {
            side = next(trial, chance, kind, side);
        }
        let both = [[target, side], [side, target]].map(|[ours, theirs]| {
            let [base, ours_files, theirs_files] = [fork, ours, theirs].map(|at| trial.files(at));
            let files = texts::merge_slots(&base, &ours_files, &theirs_files, chance);
            trial.commit(files, &[ours, theirs])
        });
        fork = both[0];
        [target, side] = both;
    }
    for _ in 0..chance.below(3) {
        target = next(trial, chance, kind, target);
    }
    if chance.once_in(2) {
        // Takes something out that the other side brought.
        let mut files = trial.files(target);
        let old = trial.files(base);
        texts::revert_slots(&mut files, &old, chance);
        target = trial.commit(files, &[target]);
    }
    trial.target = target;
    for branch in 0..1 + chance.below(3) {
        let mut stacked = None;
        let mut tip = side;
        if branch > 0 && chance.once_in(2) {
            let below = chance.below(branch);
            tip = trial.branches[below].tip;
            stacked = Some((below, tip));
        }
        for _ in 0..1 + chance.below(2) {
            tip = next(trial, chance, kind, tip);
        }
        trial.branches.push(TrialBranch { tip, stacked });
    }
}

/// Adds random settings.
fn settings(trial: &mut MergeTrial, chance: &mut Chance, kind: TrialKind) {
    const LINES: [&str; 10] = [
        "[merge]\n\tdirectoryRenames = true\n",
        "[merge]\n\tdirectoryRenames = false\n",
        "[merge]\n\tdirectoryRenames = conflict\n",
        "[merge]\n\trenames = false\n",
        "[diff]\n\trenames = copies\n",
        "[merge]\n\tconflictStyle = zdiff3\n",
        "[diff]\n\talgorithm = myers\n",
        "[diff]\n\talgorithm = patience\n",
        "[merge]\n\trenameLimit = 2\n",
        "[core]\n\tignoreCase = true\n",
    ];
    for _ in 0..chance.below(3) {
        let to = if chance.once_in(3) { &mut trial.user_config } else { &mut trial.config };
        to.push_str(chance.pick::<&str>(&LINES));
    }
    if kind == TrialKind::Attributes {
        const DRIVERS: &str = "[merge \"join\"]\n\tdriver = cat %B >> %A\n\
                               [merge \"fail\"]\n\tdriver = exit 1\n\
                               [merge \"theirs\"]\n\tdriver = cp %B %A\n\trecursive = binary\n";
        let to = if chance.once_in(2) { &mut trial.user_config } else { &mut trial.config };
        to.push_str(DRIVERS);
        if chance.once_in(2) {
            trial.config.push_str("[merge]\n\trenormalize = true\n");
        }
        if chance.once_in(6) {
            trial.config.push_str("[merge]\n\tdefault = theirs\n");
        }
        if chance.once_in(3) {
            trial.info_attributes = Some(trees::attributes(chance));
        }
    }
}
