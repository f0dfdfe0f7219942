//! What a target contains already, by trailer: so that nothing lands twice, whatever the journal says.
//!
//! A mirror that was taken in the middle of a push can hold a target that is newer than its journal.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::domain::id::{Oid, RunId, TaskId};
use crate::repo::{self, Repo};
use crate::store::codec;

/// The tasks of one run whose work is on a branch's first-parent line. Grows with the branch.
#[derive(Debug, Default)]
pub struct Contained {
    seen: Option<Oid>,
    tasks: BTreeMap<TaskId, Oid>,
}

impl Contained {
    /// Looks at what was added to the branch since the last call, down to the run's base.
    ///
    /// # Errors
    /// If a commit cannot be read.
    pub fn update(&mut self, repo: &Repo, run: &RunId, tip: &Oid, base: &Oid) -> Result<()> {
        let mut next = Some(tip.clone());
        let mut found = Vec::new();
        while let Some(commit) = next {
            if commit == *base || self.seen.as_ref() == Some(&commit) {
                break;
            }
            let info = repo::commit_info(repo, &commit)?;
            let trailers = codec::trailers(&info.message);
            if trailers.get("Harness-Run") == Some(&run.as_str())
                && let Some(task) = trailers.get("Harness-Task").and_then(|t| TaskId::parse(t).ok())
            {
                found.push((task, commit));
            }
            next = info.parents.into_iter().next();
        }
        self.tasks.extend(found);
        self.seen = Some(tip.clone());
        Ok(())
    }

    /// The commit by which a task's work is on the branch.
    #[must_use]
    pub fn landed(&self, task: &TaskId) -> Option<&Oid> {
        self.tasks.get(task)
    }

    /// All of them.
    pub fn tasks(&self) -> impl Iterator<Item = (&TaskId, &Oid)> {
        self.tasks.iter()
    }
}
