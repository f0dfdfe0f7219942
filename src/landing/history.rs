//! The history of a target: its first-parent line, and the branches and tasks that the commits of
//! the line landed.
//!
//! The trailers of the commits are the proof. The target journal is not enough: a mirror taken in
//! the middle of a push can hold a target that is newer than its journal.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use super::message;
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::queue::EntryId;
use crate::repo::{self, Repo};

/// The number of commits of the line that are read if no floor is given.
const MAX_LINE: usize = 10_000;

/// The work that a commit of the target landed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LandedWork {
    /// A branch, at the commit that was queued.
    Branch(EntryId, Oid),
    /// A task of a run.
    Task(RunId, TaskId),
}

/// Formats the name of the queue entry.
impl std::fmt::Display for LandedWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Branch(entry, _) => write!(f, "{entry}"),
            Self::Task(run, task) => write!(f, "{run}/{task}"),
        }
    }
}

/// A commit of the first-parent line.
#[derive(Debug)]
struct LineCommit {
    id: Oid,
    /// True if the commit has several parents.
    merges: bool,
    landed: Option<LandedWork>,
    /// The start of the id of the commit that this commit reverts.
    reverts: Option<String>,
}

/// The part of the target's history that has been read. [`TargetHistory::update`] reads the
/// commits that the target has gained, and drops those that it has lost.
#[derive(Debug, Default)]
pub struct TargetHistory {
    /// The first-parent line, oldest first.
    line: Vec<LineCommit>,
    positions: HashMap<Oid, usize>,
    /// True if nothing older will be read: the line begins with a root commit or has reached
    /// `MAX_LINE`.
    complete: bool,
    /// The position of the newest merge commit, or 0 if no commit is a merge.
    newest_merge: usize,
    /// The position of the newest landing of each branch's commit.
    branches: HashMap<Oid, usize>,
    /// The commits that were reverted, each with the commits that revert it.
    reverts: HashMap<Oid, Vec<Oid>>,
    /// The position of the newest landing of each task.
    tasks: BTreeMap<(RunId, TaskId), usize>,
}

impl TargetHistory {
    /// Reads the line from `tip` down to the first commit that is known, or down to `floor`,
    /// inclusive.
    pub fn update(&mut self, repo: &Repo, tip: &Oid, floor: Option<&Oid>) -> Result<()> {
        if !self.complete && floor.is_some_and(|floor| !self.contains(floor)) {
            *self = Self::default();
        }
        let mut added = Vec::new();
        let mut next = Some(tip.clone());
        let mut complete = true;
        let known = loop {
            let Some(id) = next else { break None };
            if let Some(at) = self.positions.get(&id) {
                break Some(*at);
            }
            let info = repo::commit_info(repo, &id)?;
            let landed = message::landed_work(&info.message);
            let (merges, reverts) =
                (info.parents.len() > 1, message::reverted_commit(&info.message));
            next = info.parents.into_iter().next();
            if floor == Some(&id) {
                complete = false;
                next = None;
            }
            added.push(LineCommit { id, merges, landed, reverts });
            if floor.is_none() && added.len() == MAX_LINE {
                next = None;
            }
        };
        match known {
            Some(at) => self.truncate(at + 1),
            // The first call, or the target was rewritten.
            None => *self = Self { complete, ..Self::default() },
        }
        added.into_iter().rev().for_each(|commit| self.push(commit));
        Ok(())
    }

    /// Drops the newest commits, which the target has lost: somebody has set it back.
    fn truncate(&mut self, length: usize) {
        if length < self.line.len() {
            let mut line = std::mem::take(&mut self.line);
            line.truncate(length);
            *self = Self { complete: self.complete, ..Self::default() };
            line.into_iter().for_each(|commit| self.push(commit));
        }
    }

    fn push(&mut self, commit: LineCommit) {
        let at = self.line.len();
        self.positions.insert(commit.id.clone(), at);
        if commit.merges {
            self.newest_merge = at;
        }
        match &commit.landed {
            Some(LandedWork::Branch(_, candidate)) => {
                self.branches.insert(candidate.clone(), at);
            }
            Some(LandedWork::Task(run, task)) => {
                self.tasks.insert((run.clone(), task.clone()), at);
            }
            None => {}
        }
        let reverted = commit.reverts.as_ref().and_then(|start| {
            self.line.iter().rev().find(|older| older.id.as_str().starts_with(start.as_str()))
        });
        if let Some(reverted) = reverted {
            self.reverts.entry(reverted.id.clone()).or_default().push(commit.id.clone());
        }
        self.line.push(commit);
    }

    /// Returns true if a later commit reverted the commit, and was not reverted itself.
    fn is_reverted(&self, commit: &Oid) -> bool {
        let by = self.reverts.get(commit);
        by.is_some_and(|by| by.iter().any(|revert| !self.is_reverted(revert)))
    }

    /// Returns the commits of the line from one commit to a later commit, both included, oldest
    /// first. Empty unless both are on the line.
    pub(crate) fn between(&self, from: &Oid, to: &Oid) -> Vec<Oid> {
        let position = |commit| self.positions.get(commit).copied();
        let (Some(from), Some(to)) = (position(from), position(to)) else { return Vec::new() };
        let part = self.line.get(from..=to).unwrap_or_default();
        part.iter().map(|commit| commit.id.clone()).collect()
    }

    /// Returns the work that a commit of the line landed.
    pub(crate) fn landed_by(&self, commit: &Oid) -> Option<&LandedWork> {
        self.line.get(*self.positions.get(commit)?)?.landed.as_ref()
    }

    /// Returns true if the commit is known to be on the target's first-parent line.
    pub(crate) fn contains(&self, commit: &Oid) -> bool {
        self.positions.contains_key(commit)
    }

    /// Returns true if `commit` is on the first-parent line and no later commit of the line is a
    /// merge. `commit` itself may be a merge. In this case `commit` is the merge base of the target
    /// and every commit whose only parent is `commit`, so no walk through history is needed.
    pub(crate) fn is_linear_since(&self, commit: &Oid) -> bool {
        self.positions.get(commit).is_some_and(|at| *at >= self.newest_merge)
    }

    /// Returns true if the commit is the tip of a branch that has landed and was not reverted. The
    /// commits of squashed branches are not on the target.
    pub(crate) fn is_landed_tip(&self, candidate: &Oid) -> bool {
        let landing = self.branches.get(candidate).and_then(|at| self.line.get(*at));
        landing.is_some_and(|landing| !self.is_reverted(&landing.id))
    }

    /// Returns the commit that landed `candidate` for the entry, if this commit is not older than
    /// `since`. If `since` is not on the line, every commit of the line counts.
    pub(crate) fn landed_since(
        &self,
        entry: &EntryId,
        candidate: &Oid,
        since: Option<&Oid>,
    ) -> Option<&Oid> {
        let oldest = since.and_then(|since| self.positions.get(since)).copied().unwrap_or(0);
        let at = self.branches.get(candidate).filter(|at| **at >= oldest)?;
        let commit = self.line.get(*at)?;
        let same = matches!(&commit.landed, Some(LandedWork::Branch(name, _)) if name == entry);
        same.then_some(&commit.id)
    }

    /// Returns the commit that reverted a candidate: it reverts the commit of the line that brought
    /// the candidate to the target, and was not reverted itself.
    pub(crate) fn reverted_by(&self, repo: &Repo, candidate: &Oid) -> Result<Option<&Oid>> {
        for (landing, by) in &self.reverts {
            let Some(revert) = by.iter().find(|revert| !self.is_reverted(revert)) else { continue };
            let before = repo::commit_info(repo, landing)?.parents.into_iter().next();
            let older = before.map(|before| repo.is_ancestor(candidate, &before)).transpose()?;
            if older != Some(true) && repo.is_ancestor(candidate, landing)? {
                return Ok(Some(revert));
            }
        }
        Ok(None)
    }

    /// Returns the commit that landed a task.
    pub(crate) fn landed_task(&self, run: &RunId, task: &TaskId) -> Option<&Oid> {
        let at = self.tasks.get(&(run.clone(), task.clone()))?;
        self.line.get(*at).map(|commit| &commit.id)
    }

    /// Returns the landed tasks of a run with their commits.
    pub(crate) fn tasks_of<'a>(
        &'a self,
        run: &'a RunId,
    ) -> impl Iterator<Item = (&'a TaskId, &'a Oid)> {
        let of_run = self.tasks.iter().filter(move |((name, _), _)| name == run);
        of_run.filter_map(|((_, task), at)| Some((task, &self.line.get(*at)?.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::Identity;
    use crate::repo::fixture::RepoFixture;

    #[test]
    fn history_is_linear_behind_its_last_merge() {
        let fx = RepoFixture::new();
        let base = fx.commit(&[("a", "0")], &[]);
        let one = fx.commit(&[("a", "1")], std::slice::from_ref(&base));
        let side = fx.commit(&[("a", "s")], std::slice::from_ref(&base));
        let merge = fx.commit(&[("a", "2")], &[one.clone(), side.clone()]);
        let tip = fx.commit(&[("a", "3")], std::slice::from_ref(&merge));
        for floor in [Some(&base), None] {
            let mut history = TargetHistory::default();
            let mut is_linear = |tip: &Oid| {
                history.update(&fx.repo, tip, floor).unwrap();
                [&base, &one, &side, &merge].map(|commit| history.is_linear_since(commit))
            };
            assert_eq!(is_linear(&one), [true, true, false, false]);
            assert_eq!(is_linear(&tip), [false, false, false, true]);
            assert_eq!(is_linear(&one), [true, true, false, false], "set back by a person");
            assert_eq!(is_linear(&tip), [false, false, false, true]);
        }
    }

    #[test]
    fn history_drops_landings_that_the_target_has_lost() {
        let fx = RepoFixture::new();
        let who = Identity { name: "T".into(), email: "t@example.org".into() };
        let base = fx.commit(&[("a", "0")], &[]);
        let tree = fx.tree(&[("a", "1")]);
        let commit = |parent: &Oid, trailers: &str| {
            let parents = std::slice::from_ref(parent);
            repo::commit(&fx.repo, &tree, parents, &format!("x\n\n{trailers}"), &who, 0).unwrap()
        };
        let branch = commit(&base, &format!("Harness-Branch: b\nHarness-Work: {base}"));
        let task = commit(&branch, "Harness-Run: r-1\nHarness-Task: t-1");
        let mut history = TargetHistory::default();
        let (run, id) = (RunId::parse("r-1").unwrap(), TaskId::parse("t-1").unwrap());
        let entry = EntryId::parse("b").unwrap();
        let mut landed = |tip: &Oid| {
            history.update(&fx.repo, tip, None).unwrap();
            let since = [None, Some(&branch), Some(&task)];
            let branch = since.map(|since| history.landed_since(&entry, &base, since).is_some());
            (history.landed_task(&run, &id).cloned(), history.is_landed_tip(&base), branch)
        };
        assert_eq!(landed(&task), (Some(task.clone()), true, [true, true, false]));
        assert_eq!(landed(&branch), (None, true, [true, true, true]));
        assert_eq!(landed(&base), (None, false, [false, false, false]));
        assert_eq!(landed(&task), (Some(task.clone()), true, [true, true, false]));
    }

    #[test]
    fn reverted_landing_counts_again_once_its_revert_is_reverted() {
        let fx = RepoFixture::new();
        let who = Identity { name: "T".into(), email: "t@example.org".into() };
        let base = fx.commit(&[("a", "0")], &[]);
        let commit = |parent: &Oid, message: &str| {
            let parents = std::slice::from_ref(parent);
            repo::commit(&fx.repo, &fx.tree(&[]), parents, message, &who, 0).unwrap()
        };
        let landing = commit(&base, &format!("x\n\nHarness-Branch: b\nHarness-Work: {base}"));
        let revert = commit(&landing, &format!("Revert x\n\nThis reverts commit {landing}."));
        let short = &revert.as_str()[..9];
        let again = commit(&revert, &format!("Reapply\n\nThis reverts commit {short} (x, 2026)."));
        let mut history = TargetHistory::default();
        let mut is_landed = |tip: &Oid| {
            history.update(&fx.repo, tip, None).unwrap();
            history.is_landed_tip(&base)
        };
        assert_eq!([&landing, &revert, &again].map(&mut is_landed), [true, false, true]);
        assert!(!is_landed(&revert));
    }

    #[test]
    fn history_reads_further_down_for_an_older_floor() {
        let fx = RepoFixture::new();
        let mut line = vec![fx.commit(&[("a", "0")], &[])];
        for n in 1..4 {
            line.push(fx.commit(&[("a", &n.to_string())], &line[n - 1..n]));
        }
        let mut history = TargetHistory::default();
        history.update(&fx.repo, &line[3], Some(&line[2])).unwrap();
        assert!(history.contains(&line[2]) && !history.contains(&line[1]));
        history.update(&fx.repo, &line[3], Some(&line[1])).unwrap();
        assert!(history.contains(&line[1]) && !history.contains(&line[0]));
        let other = fx.commit(&[("b", "0")], &[]);
        history.update(&fx.repo, &line[3], Some(&other)).unwrap();
        assert!(history.contains(&line[0]) && history.complete);
    }
}
