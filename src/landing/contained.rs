//! What a target contains already, by trailer: so that nothing lands twice, whatever the journal says.
//!
//! A mirror that was taken in the middle of a push can hold a target that is newer than its journal.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use crate::domain::id::{Oid, RunId, TaskId};
use crate::repo::{self, Repo};
use crate::store::codec;

/// The tasks of one run whose work is on a branch's first-parent line. Grows with the branch.
#[derive(Debug, Default)]
pub(crate) struct LandedTasks {
    seen: Option<Oid>,
    tasks: BTreeMap<TaskId, Oid>,
    /// The line's commits from the base on, and how far from it.
    line: HashMap<Oid, usize>,
    /// How far from the base the newest commit with several parents is.
    merge: usize,
}

impl LandedTasks {
    /// Looks at what was added to the branch since the last call, down to the run's base.
    pub(crate) fn update(&mut self, repo: &Repo, run: &RunId, tip: &Oid, base: &Oid) -> Result<()> {
        let mut next = Some(tip.clone());
        let mut found = Vec::new();
        let mut added = Vec::new();
        while let Some(commit) = next {
            if self.seen.as_ref() == Some(&commit) {
                break;
            }
            if commit == *base {
                // The first look, or the branch was set back.
                self.line = HashMap::from([(commit, 0)]);
                self.merge = 0;
                self.tasks.clear();
                break;
            }
            let info = repo::commit_info(repo, &commit)?;
            added.push((commit.clone(), info.parents.len() > 1));
            let trailers = codec::trailers(&info.message);
            if trailers.get("Harness-Run") == Some(&run.as_str())
                && let Some(task) = trailers.get("Harness-Task").and_then(|t| TaskId::parse(t).ok())
            {
                found.push((task, commit));
            }
            next = info.parents.into_iter().next();
        }
        for (commit, merges) in added.into_iter().rev() {
            let at = self.line.len();
            if merges {
                self.merge = at;
            }
            self.line.insert(commit, at);
        }
        self.tasks.extend(found);
        self.seen = Some(tip.clone());
        Ok(())
    }

    /// Whether everything that the branch has beyond this commit is a plain line of commits with one parent each. Then
    /// the commit is the merge base of the branch and of whatever has it for its only parent, and nobody need walk
    /// history to find that out.
    pub(crate) fn is_plain_since(&self, commit: &Oid) -> bool {
        self.line.get(commit).is_some_and(|at| *at >= self.merge)
    }

    /// The commit by which a task's work is on the branch.
    pub(crate) fn landed(&self, task: &TaskId) -> Option<&Oid> {
        self.tasks.get(task)
    }

    /// All of them.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = (&TaskId, &Oid)> {
        self.tasks.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fixture::RepoFixture;

    #[test]
    fn a_line_is_plain_behind_its_last_merge() {
        let fx = RepoFixture::new();
        let run = RunId::parse("r-1").unwrap();
        let base = fx.commit(&[("a", "0")], &[]);
        let one = fx.commit(&[("a", "1")], std::slice::from_ref(&base));
        let side = fx.commit(&[("a", "s")], std::slice::from_ref(&base));
        let merge = fx.commit(&[("a", "2")], &[one.clone(), side.clone()]);
        let tip = fx.commit(&[("a", "3")], std::slice::from_ref(&merge));
        let mut contained = LandedTasks::default();
        let mut plain = |tip: &Oid| {
            contained.update(&fx.repo, &run, tip, &base).unwrap();
            [&base, &one, &side, &merge].map(|commit| contained.is_plain_since(commit))
        };
        assert_eq!(plain(&one), [true, true, false, false]);
        assert_eq!(plain(&tip), [false, false, false, true]);
        assert_eq!(plain(&one), [true, true, false, false], "set back by a person");
        assert_eq!(plain(&tip), [false, false, false, true]);
    }
}
