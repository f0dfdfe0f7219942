//! The assignment of checks on one tree, which the verifications of runs and queues share.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::assignment::{DeadKeeper, Handover, KeeperWork, OnDeath};
use crate::domain::id::Oid;
use crate::keeper::seal;
use crate::process::Environ;
use crate::repo::SealKey;
use crate::wire::keeper::{
    Assignment, CheckStep, ChecksOutcome, ChecksWork, SandboxSpec, Work, WorktreeSpec,
};

/// Checks on one tree.
#[derive(Debug)]
pub(in crate::engine) struct ChecksAssignment<'a> {
    /// The repository's common directory.
    pub common_dir: PathBuf,
    /// The name of the assignment.
    pub name: String,
    /// The check worktree, with a commit that has the tree.
    pub worktree: WorktreeSpec,
    /// The tree.
    pub tree: &'a Oid,
    /// The checks, in order.
    pub steps: &'a [CheckStep],
    /// The tasks of a run whose candidates are in the tree.
    pub tasks: Vec<String>,
    /// The environment of the checks.
    pub environment: Environ,
    /// The sandbox of the checks.
    pub sandbox: Option<SandboxSpec>,
    /// The consequence of the keeper's death.
    pub on_death: OnDeath,
    /// The key that seals the assignment and its outcome.
    pub key: SealKey,
}

impl KeeperWork for ChecksAssignment<'_> {
    type Answer = ChecksOutcome;

    fn handover(&self) -> Result<Option<Handover>> {
        Ok(Some(Handover {
            common_dir: self.common_dir.clone(),
            name: self.name.clone(),
            worktree: self.worktree.clone(),
            work: Work::Checks(ChecksWork {
                tree: self.tree.to_string(),
                checks: self.steps.to_vec(),
                tasks: self.tasks.clone(),
            }),
            files: Vec::new(),
            environment: self.environment.clone(),
            sandbox: self.sandbox.clone(),
            key: self.key.clone(),
        }))
    }

    /// The job or the target's rules may have changed since an earlier keeper started, so the
    /// assignment in the folder must ask for this tree and these checks. An assignment or an
    /// outcome that this copy of the repository did not write does not count: agents and checks can
    /// write into the folder.
    fn answer(&self, dir: &Path, _asked: Option<&Assignment>) -> Result<Option<ChecksOutcome>> {
        let tree = self.tree.as_str();
        let Some(asked) = seal::read_assignment(dir, &self.key)? else { return Ok(None) };
        if !asked.asks(tree, self.steps, &self.worktree.path) {
            return Ok(None);
        }
        let outcome: Option<ChecksOutcome> = seal::read_outcome(dir, &asked, &self.key)?;
        Ok(outcome.filter(|outcome| outcome.tree == tree))
    }

    fn on_death(&self) -> OnDeath {
        self.on_death
    }
}

/// Returns the infrastructure fault of checks whose keeper died.
pub(in crate::engine) fn fault(keeper: &DeadKeeper) -> String {
    format!("the keeper of the checks died: {}", keeper.last_line())
}
