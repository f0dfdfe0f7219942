//! Trains of branches: each branch is merged in memory onto the result of the branch before it. No
//! ref moves here.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context as _, Result, bail};

use crate::ambient;
use crate::domain::id::Oid;
use crate::domain::queue::{Car, Conflict, EntryId};
use crate::job::MergeStyle;
use crate::repo::{self, Identity, MergeResult, Repo};
use crate::store::codec;

/// The number of commits of a branch that are searched for its fork point before git's merge base
/// is computed.
const MAX_OWN_COMMITS: usize = 256;

/// The number of commits that a message lists.
const LISTED: usize = 20;

/// A built train.
#[derive(Debug, Default)]
pub(crate) struct BuiltTrain {
    /// The commits.
    pub cars: Vec<Car>,
    /// The branches that could not be merged.
    pub conflicts: Vec<Conflict>,
}

/// The part of the target's history that has been read.
#[derive(Debug, Default)]
pub(crate) struct TargetHistory {
    /// The commits of the first-parent line, each with its position, counted from 0 for the oldest.
    line: HashMap<Oid, usize>,
    /// The position of the newest merge commit, or 0 if no commit is a merge.
    newest_merge: usize,
    /// The tips of landed branches. The commits of squashed branches are not on the target.
    landed: BTreeSet<Oid>,
}

impl TargetHistory {
    /// Records the target's newest commit. `merges` is true if the commit has several parents.
    pub(crate) fn add_commit(&mut self, commit: Oid, merges: bool) {
        let at = self.line.len();
        if merges {
            self.newest_merge = at;
        }
        self.line.entry(commit).or_insert(at);
    }

    /// Returns true if the commit is known to be on the target's first-parent line.
    pub(crate) fn contains(&self, commit: &Oid) -> bool {
        self.line.contains_key(commit)
    }

    /// Records a landed branch.
    pub(crate) fn add_landed(&mut self, candidate: Oid) {
        self.landed.insert(candidate);
    }

    /// Returns true if `commit` is on the target's first-parent line and no later commit of the
    /// line is a merge. `commit` itself may be a merge.
    fn is_linear_since(&self, commit: &Oid) -> bool {
        self.line.get(commit).is_some_and(|at| *at >= self.newest_merge)
    }
}

/// Builds trains of branches.
#[derive(Debug)]
pub(crate) struct TrainBuilder<'a> {
    /// The repository.
    pub repo: &'a Repo,
    /// The way in which branches are merged.
    pub merge: MergeStyle,
    /// The committer.
    pub who: &'a Identity,
}

/// The own commits of a branch: the changes between `base` and the tip.
#[derive(Debug)]
struct BranchRange {
    base: Oid,
    /// The commits that were read, newest first.
    commits: Vec<Oid>,
}

impl TrainBuilder<'_> {
    /// Merges branches onto a commit, in order. Branches in conflict are left out.
    pub(crate) fn build(
        &self,
        onto: &Oid,
        entries: &[(EntryId, Oid)],
        history: &TargetHistory,
    ) -> Result<BuiltTrain> {
        let mut built = BuiltTrain::default();
        let mut tip = onto.clone();
        // Commits of the branches that land before the current branch.
        let mut ahead: BTreeSet<Oid> = BTreeSet::new();
        for (entry, candidate) in entries {
            let range = self.own_range(&tip, candidate, history, &ahead)?;
            match repo::merge(self.repo, &range.base, &tip, candidate)? {
                MergeResult::Clean { tree } => {
                    let commit = self.commit(entry, candidate, &range, &tip, &tree)?;
                    let work = (&range.base, candidate);
                    if let Some(path) = super::unexpected_path(self.repo, work, (&tip, &commit))? {
                        bail!(
                            "the landing of `{entry}` would change `{path}`, which {} does not: nothing was moved",
                            candidate.short()
                        );
                    }
                    ahead.extend(range.commits);
                    tip = commit.clone();
                    built.cars.push(Car { entry: entry.clone(), commit, tree });
                }
                MergeResult::Conflict { paths } => {
                    let with_base =
                        tip == *onto || self.conflict(onto, candidate, history)?.is_some();
                    built.conflicts.push(Conflict { entry: entry.clone(), paths, with_base });
                }
            }
        }
        Ok(built)
    }

    /// Returns the paths in which a branch conflicts with a commit, or `None` if the two merge
    /// cleanly.
    pub(crate) fn conflict(
        &self,
        onto: &Oid,
        candidate: &Oid,
        history: &TargetHistory,
    ) -> Result<Option<Vec<String>>> {
        let range = self.own_range(onto, candidate, history, &BTreeSet::new())?;
        repo::conflicts(self.repo, &range.base, onto, candidate)
    }

    /// Returns the paths that a branch changes. Empty if the paths cannot be determined.
    pub(crate) fn changed_paths(
        &self,
        onto: &Oid,
        candidate: &Oid,
        history: &TargetHistory,
    ) -> Vec<String> {
        let base = self.base(onto, candidate, history);
        let changes = base.and_then(|base| repo::changed_paths(self.repo, &base, candidate));
        changes.into_iter().flatten().map(|change| change.path).collect()
    }

    /// Returns the fork point of a branch.
    pub(crate) fn base(&self, onto: &Oid, candidate: &Oid, history: &TargetHistory) -> Result<Oid> {
        Ok(self.own_range(onto, candidate, history, &BTreeSet::new())?.base)
    }

    /// Returns the fork point of a branch and the branch's own commits. The fork point is the
    /// commit at which the branch left the target, or the tip of the landed branch that this branch
    /// is stacked on. The commits of a squashed branch are not on the target, so git's merge base
    /// would count them as the stacked branch's own commits.
    ///
    /// The only parent of a commit is the commit's merge base with every branch that contains the
    /// parent and not the commit. If branch and target are linear, the fork point is therefore the
    /// first commit of the branch's history that is on the target. No search for a merge base is
    /// needed, however long both histories are.
    fn own_range(
        &self,
        onto: &Oid,
        candidate: &Oid,
        history: &TargetHistory,
        ahead: &BTreeSet<Oid>,
    ) -> Result<BranchRange> {
        let is_linear =
            |commit: &Oid| self.merge == MergeStyle::Squash && history.is_linear_since(commit);
        let landed = |commit: &Oid| history.landed.contains(commit) || ahead.contains(commit);
        let mut commits = Vec::new();
        let mut next = candidate.clone();
        while commits.len() < MAX_OWN_COMMITS {
            if next != *candidate && (landed(&next) || is_linear(&next)) {
                return Ok(BranchRange { base: next, commits });
            }
            let mut parents = repo::commit_info(self.repo, &next)?.parents;
            commits.push(next);
            match (parents.pop(), parents.is_empty()) {
                (Some(parent), true) => next = parent,
                (_, _) => break,
            }
        }
        let base = repo::merge_base(self.repo, onto, candidate)?.with_context(|| {
            format!("{} has no history in common with the target", candidate.short())
        })?;
        // The base and the commits behind the base belong to the target. If the walk did not reach
        // the base, only the tip is known to belong to the branch.
        commits.truncate(commits.iter().position(|commit| *commit == base).unwrap_or(1));
        Ok(BranchRange { base, commits })
    }

    fn commit(
        &self,
        entry: &EntryId,
        candidate: &Oid,
        range: &BranchRange,
        tip: &Oid,
        tree: &Oid,
    ) -> Result<Oid> {
        let time = i64::try_from(ambient::now().0 / 1000).unwrap_or(0);
        let message = self.message(entry, candidate, range)?;
        match self.merge {
            MergeStyle::Merge => {
                let parents = [tip.clone(), candidate.clone()];
                repo::commit(self.repo, tree, &parents, &message, self.who, time)
            }
            MergeStyle::Squash => {
                let parents = std::slice::from_ref(tip);
                repo::commit_as(self.repo, candidate, tree, parents, &message, self.who, time)
            }
        }
    }

    /// Returns the message of the landed commit: the commit's own message for a branch with one
    /// commit, otherwise the title of the newest commit and a list of all titles.
    fn message(&self, entry: &EntryId, candidate: &Oid, range: &BranchRange) -> Result<String> {
        let body = repo::commit_info(self.repo, candidate)?.message;
        let title = |message: &str| message.lines().next().unwrap_or_default().to_owned();
        let mut text = match (self.merge, range.commits.as_slice()) {
            (MergeStyle::Squash, [_]) => body.trim_end().to_owned(),
            (merge, commits) => {
                let mut text = match merge {
                    MergeStyle::Merge => format!("Merge branch '{entry}'"),
                    MergeStyle::Squash => title(&body),
                };
                text.push('\n');
                for commit in commits.iter().take(LISTED) {
                    let body = repo::commit_info(self.repo, commit)?.message;
                    text.push_str(&format!("\n- {}", title(&body)));
                }
                if commits.len() > LISTED {
                    text.push_str(&format!("\n- and {} more", commits.len() - LISTED));
                }
                text
            }
        };
        let last = text.rsplit("\n\n").next().unwrap_or_default();
        let is_trailer = |line: &str| {
            line.split_once(": ").is_some_and(|(key, _)| {
                !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            })
        };
        let trailers = text.contains("\n\n") && last.lines().all(is_trailer);
        text.push_str(if trailers { "\n" } else { "\n\n" });
        text.push_str(&format!("{BRANCH}: {entry}\n{WORK}: {candidate}\n"));
        Ok(text)
    }
}

/// The trailer with the branch of a landed commit.
const BRANCH: &str = "Harness-Branch";
/// The trailer with the branch's commit.
const WORK: &str = "Harness-Work";

/// Returns the branch that a commit of the target landed, and the branch's commit. Returns `None`
/// if the queue did not create the commit.
pub(crate) fn landed_branch(message: &str) -> Option<(EntryId, Oid)> {
    let trailers = codec::trailers(message);
    let entry = EntryId::parse(trailers.get(BRANCH)?).ok()?;
    Some((entry, Oid::parse(trailers.get(WORK)?).ok()?))
}
