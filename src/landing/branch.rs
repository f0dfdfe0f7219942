//! Trains of branches: each merged in memory onto what the one before it has made of the target. Nothing here moves a ref.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context as _, Result, bail};

use crate::ambient;
use crate::domain::id::Oid;
use crate::domain::queue::{Car, Conflict, EntryId};
use crate::job::MergeStyle;
use crate::repo::{self, Identity, MergeResult, Repo};
use crate::store::codec;

/// How many commits of a branch are looked at for where it left the target, before history is searched in general.
const LONGEST: usize = 256;

/// How many commits a message lists.
const LISTED: usize = 20;

/// What came of building a train.
#[derive(Debug, Default)]
pub(crate) struct BuiltTrain {
    /// Its commits.
    pub cars: Vec<Car>,
    /// What could not be merged.
    pub conflicts: Vec<Conflict>,
}

/// What a target is known to contain.
#[derive(Debug, Default)]
pub(crate) struct TargetHistory {
    /// Commits of its first-parent line, and how far along it they are.
    line: HashMap<Oid, usize>,
    /// How far along the newest commit with several parents is.
    merge: usize,
    /// Branches that have landed. Squashed, their commits are not on the target.
    landed: BTreeSet<Oid>,
}

impl TargetHistory {
    /// Takes up the target's newest commit; `merges` if it has several parents.
    pub(crate) fn add_commit(&mut self, commit: Oid, merges: bool) {
        let at = self.line.len();
        if merges {
            self.merge = at;
        }
        self.line.entry(commit).or_insert(at);
    }

    /// Whether a commit is known to be on the target's first-parent line.
    pub(crate) fn contains(&self, commit: &Oid) -> bool {
        self.line.contains_key(commit)
    }

    /// Takes up a branch that has landed.
    pub(crate) fn add_landed(&mut self, candidate: Oid) {
        self.landed.insert(candidate);
    }

    /// Whether everything that the target has beyond a commit is a plain line.
    fn is_plain_since(&self, commit: &Oid) -> bool {
        self.line.get(commit).is_some_and(|at| *at >= self.merge)
    }
}

/// How branches are put on a target.
#[derive(Debug)]
pub(crate) struct TrainBuilder<'a> {
    /// The repository.
    pub repo: &'a Repo,
    /// The shape of what lands.
    pub merge: MergeStyle,
    /// Who commits.
    pub who: &'a Identity,
}

/// Where a branch begins: what it brings is what differs between this and its tip.
#[derive(Debug)]
struct BranchRange {
    base: Oid,
    /// Its commits, newest first, as far as they were looked at.
    commits: Vec<Oid>,
}

impl TrainBuilder<'_> {
    /// Puts branches on a commit, in order. One that conflicts is left out.
    pub(crate) fn build(
        &self,
        onto: &Oid,
        entries: &[(EntryId, Oid)],
        history: &TargetHistory,
    ) -> Result<BuiltTrain> {
        let mut built = BuiltTrain::default();
        let mut tip = onto.clone();
        // Those before it in the train land before it.
        let mut ahead: BTreeSet<Oid> = BTreeSet::new();
        for (entry, candidate) in entries {
            let own = self.own(&tip, candidate, history, &ahead)?;
            match repo::merge(self.repo, &own.base, &tip, candidate)? {
                MergeResult::Clean { tree } => {
                    let commit = self.commit(entry, candidate, &own, &tip, &tree)?;
                    let work = (&own.base, candidate);
                    if let Some(path) = super::unexpected_path(self.repo, work, (&tip, &commit))? {
                        bail!(
                            "the landing of `{entry}` would change `{path}`, which {} does not: nothing was moved",
                            candidate.short()
                        );
                    }
                    ahead.extend(own.commits);
                    tip = commit.clone();
                    built.cars.push(Car { entry: entry.clone(), commit, tree });
                }
                MergeResult::Conflict { paths } => {
                    let alone = tip == *onto || self.conflict(onto, candidate, history)?.is_some();
                    built.conflicts.push(Conflict { entry: entry.clone(), paths, alone });
                }
            }
        }
        Ok(built)
    }

    /// The paths in which a branch conflicts with a commit; none if it merges.
    pub(crate) fn conflict(
        &self,
        onto: &Oid,
        candidate: &Oid,
        history: &TargetHistory,
    ) -> Result<Option<Vec<String>>> {
        let own = self.own(onto, candidate, history, &BTreeSet::new())?;
        repo::conflicts(self.repo, &own.base, onto, candidate)
    }

    /// The paths that a branch changes; none if that cannot be told.
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

    /// The commit at which a branch begins.
    pub(crate) fn base(&self, onto: &Oid, candidate: &Oid, history: &TargetHistory) -> Result<Oid> {
        Ok(self.own(onto, candidate, history, &BTreeSet::new())?.base)
    }

    /// Where it left the target, or what it is stacked on if that has landed in another shape: then only what is behind that is
    /// its own.
    ///
    /// A commit's only parent is what it has in common with a branch that has the parent and not the commit. So, where the target
    /// is a plain line too, a plain line of commits is followed back to the first that is there, however long both have become.
    fn own(
        &self,
        onto: &Oid,
        candidate: &Oid,
        history: &TargetHistory,
        ahead: &BTreeSet<Oid>,
    ) -> Result<BranchRange> {
        let plain =
            |commit: &Oid| self.merge == MergeStyle::Squash && history.is_plain_since(commit);
        let landed = |commit: &Oid| history.landed.contains(commit) || ahead.contains(commit);
        let mut commits = Vec::new();
        let mut next = candidate.clone();
        while commits.len() < LONGEST {
            if next != *candidate && (landed(&next) || plain(&next)) {
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
        // What is behind the base is the target's; where the line does not lead there, only the tip is known to be the branch's.
        commits.truncate(commits.iter().position(|commit| *commit == base).unwrap_or(1));
        Ok(BranchRange { base, commits })
    }

    fn commit(
        &self,
        entry: &EntryId,
        candidate: &Oid,
        own: &BranchRange,
        tip: &Oid,
        tree: &Oid,
    ) -> Result<Oid> {
        let time = i64::try_from(ambient::now().0 / 1000).unwrap_or(0);
        let message = self.message(entry, candidate, own)?;
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

    /// The one commit's own message; of several, the newest one's title and the titles of all.
    fn message(&self, entry: &EntryId, candidate: &Oid, own: &BranchRange) -> Result<String> {
        let said = repo::commit_info(self.repo, candidate)?.message;
        let title = |message: &str| message.lines().next().unwrap_or_default().to_owned();
        let mut text = match (self.merge, own.commits.as_slice()) {
            (MergeStyle::Squash, [_]) => said.trim_end().to_owned(),
            (merge, commits) => {
                let mut text = match merge {
                    MergeStyle::Merge => format!("Merge branch '{entry}'"),
                    MergeStyle::Squash => title(&said),
                };
                text.push('\n');
                for commit in commits.iter().take(LISTED) {
                    let said = repo::commit_info(self.repo, commit)?.message;
                    text.push_str(&format!("\n- {}", title(&said)));
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

/// The trailer that names the branch of a landed commit.
const BRANCH: &str = "Harness-Branch";
/// The trailer that names the commit that landed.
const WORK: &str = "Harness-Work";

/// Which branch, at which commit, a commit of the target has brought; nothing if it is not one of the queue's.
pub(crate) fn landed_branch(message: &str) -> Option<(EntryId, Oid)> {
    let trailers = codec::trailers(message);
    let entry = EntryId::parse(trailers.get(BRANCH)?).ok()?;
    Some((entry, Oid::parse(trailers.get(WORK)?).ok()?))
}
