//! Tasks that a target already contains, found by the trailers of its commits, so that no task
//! lands twice.
//!
//! The journal is not enough: a mirror taken in the middle of a push can hold a target that is
//! newer than its journal.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use crate::domain::id::{Oid, RunId, TaskId};
use crate::repo::{self, Repo};
use crate::store::codec;

/// The tasks of one run whose work is on a branch's first-parent line. The set is updated as the
/// branch grows.
#[derive(Debug, Default)]
pub(crate) struct LandedTasks {
    last_tip: Option<Oid>,
    tasks: BTreeMap<TaskId, Oid>,
    /// The first-parent line from the run's base (inclusive) on. Each commit has its distance from
    /// the base.
    line: HashMap<Oid, usize>,
    /// The distance of the newest merge commit from the base, or 0 if no commit is a merge.
    newest_merge: usize,
}

impl LandedTasks {
    /// Reads the commits added to the branch since the last call, at most down to the run's base,
    /// which is not read.
    pub(crate) fn update(&mut self, repo: &Repo, run: &RunId, tip: &Oid, base: &Oid) -> Result<()> {
        let mut next = Some(tip.clone());
        let mut tasks = Vec::new();
        let mut added = Vec::new();
        while let Some(commit) = next {
            if self.last_tip.as_ref() == Some(&commit) {
                break;
            }
            if commit == *base {
                // The first call, or the branch was set back.
                self.line = HashMap::from([(commit, 0)]);
                self.newest_merge = 0;
                self.tasks.clear();
                break;
            }
            let info = repo::commit_info(repo, &commit)?;
            added.push((commit.clone(), info.parents.len() > 1));
            let trailers = codec::trailers(&info.message);
            if trailers.get("Harness-Run") == Some(&run.as_str())
                && let Some(task) = trailers.get("Harness-Task").and_then(|t| TaskId::parse(t).ok())
            {
                tasks.push((task, commit));
            }
            next = info.parents.into_iter().next();
        }
        for (commit, merges) in added.into_iter().rev() {
            let at = self.line.len();
            if merges {
                self.newest_merge = at;
            }
            self.line.insert(commit, at);
        }
        self.tasks.extend(tasks);
        self.last_tip = Some(tip.clone());
        Ok(())
    }

    /// Returns true if `commit` is on the branch's first-parent line and no later commit of the
    /// line is a merge. `commit` itself may be a merge. Then `commit` is the merge base of the
    /// branch and of every commit whose only parent is `commit`, without a walk through history.
    pub(crate) fn is_linear_since(&self, commit: &Oid) -> bool {
        self.line.get(commit).is_some_and(|at| *at >= self.newest_merge)
    }

    /// Returns the commit that landed a task.
    pub(crate) fn landed(&self, task: &TaskId) -> Option<&Oid> {
        self.tasks.get(task)
    }

    /// Returns all landed tasks with their commits.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = (&TaskId, &Oid)> {
        self.tasks.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fixture::RepoFixture;

    #[test]
    fn history_is_linear_behind_its_last_merge() {
        let fx = RepoFixture::new();
        let run = RunId::parse("r-1").unwrap();
        let base = fx.commit(&[("a", "0")], &[]);
        let one = fx.commit(&[("a", "1")], std::slice::from_ref(&base));
        let side = fx.commit(&[("a", "s")], std::slice::from_ref(&base));
        let merge = fx.commit(&[("a", "2")], &[one.clone(), side.clone()]);
        let tip = fx.commit(&[("a", "3")], std::slice::from_ref(&merge));
        let mut contained = LandedTasks::default();
        let mut is_linear = |tip: &Oid| {
            contained.update(&fx.repo, &run, tip, &base).unwrap();
            [&base, &one, &side, &merge].map(|commit| contained.is_linear_since(commit))
        };
        assert_eq!(is_linear(&one), [true, true, false, false]);
        assert_eq!(is_linear(&tip), [false, false, false, true]);
        assert_eq!(is_linear(&one), [true, true, false, false], "set back by a person");
        assert_eq!(is_linear(&tip), [false, false, false, true]);
    }
}
