//! Verification of a train's prefix by a keeper, in a check worktree that no agent and no author of
//! a branch has used.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;

use super::checks::TrainChecks;
use super::context::QueueContext;
use super::host::{TrainVerdict, TrainVerification};
use crate::domain::verdict::Verdict;
use crate::engine::work::assignment::{
    self, AssignmentFolder, EarlierResult, Finished, KeeperWait, OnDeath,
};
use crate::engine::work::checks::{self, ChecksAssignment};
use crate::verify;
use crate::wire::keeper::{SandboxSpec, WorktreeSpec};

/// A verification in a check worktree.
#[derive(Debug)]
pub(super) struct KeeperVerification {
    pub context: Arc<QueueContext>,
    pub verification: TrainVerification,
    pub checks: TrainChecks,
    /// The name of the check worktree.
    pub worktree: String,
    /// The path of the check worktree.
    pub path: PathBuf,
    pub wait: KeeperWait,
}

impl KeeperVerification {
    /// Returns the sandbox of the checks. They have no network.
    fn sandbox(&self) -> Result<Option<SandboxSpec>> {
        let worktrees = self.path.parent().and_then(Path::parent).unwrap_or(&self.path);
        self.context.sandbox(&self.checks.sandbox, worktrees, false)
    }

    /// Verifies the tree. Returns `None` while a keeper runs and is not awaited.
    pub(super) fn run(&self) -> Result<Option<TrainVerdict>> {
        let (context, worktree) = (&self.context, &self.worktree);
        let steps = self.checks.steps();
        let folder = AssignmentFolder::create(folder(context, worktree))?;
        let pass = verify::passed_variables(&steps);
        let environment =
            assignment::environment(&context.environment, &context.identity, folder.path(), &pass);
        let work = ChecksAssignment {
            common_dir: context.store.repo().common_dir().to_path_buf(),
            name: format!("queue.{}.{worktree}", context.key()),
            worktree: WorktreeSpec {
                name: worktree.clone(),
                path: self.path.clone(),
                index: context.folder().join("worktrees").join(worktree),
                commit: self.verification.commit.to_string(),
                branch: None,
                setup: self.checks.setup.clone(),
                setup_inputs: self.checks.setup_inputs.clone(),
                setup_control: Some(self.verification.onto.to_string()),
                keep: self.checks.keep.clone(),
                provided: self.checks.provided.clone(),
                leftovers: None,
            },
            tree: &self.verification.tree,
            steps: &steps,
            tasks: self.verification.entries.iter().map(|entry| entry.id.to_string()).collect(),
            environment,
            sandbox: self.sandbox()?,
            on_death: OnDeath::ReportOwn,
            key: context.store.seal_key()?.clone(),
        };
        let finished = folder.carry_out(&context.keepers, &work, self.wait, EarlierResult::Use)?;
        let verdict = match finished {
            None => return Ok(None),
            Some(Finished::Answered(_)) if context.store.changed_settings().is_some() => {
                // The checks may have seen other files than those of the tree.
                folder.clear()?;
                let why = context.store.changed_settings().unwrap_or_default();
                TrainVerdict::without_results(Verdict::Errored(why))
            }
            Some(Finished::Answered(outcome)) => {
                let attempt = self.verification.entries.last().and_then(|entry| entry.attempt);
                let report = verify::verdict(&outcome, &steps, attempt.unwrap_or(0));
                let note_lines = verify::note_lines(
                    &outcome,
                    &report,
                    &context.voucher(),
                    None,
                    &context.store,
                )?;
                let results_by_entry = self.checks.results_by_entry(&report.results);
                TrainVerdict { report, results_by_entry, note_lines }
            }
            Some(Finished::Died(keeper)) => {
                TrainVerdict::without_results(Verdict::Errored(checks::fault(&keeper)))
            }
        };
        Ok(Some(verdict))
    }
}

/// Removes the outcome in the folder of a check worktree. The caller has logged the verdict.
pub(super) fn forget_outcome(context: &QueueContext, worktree: &str) -> Result<()> {
    AssignmentFolder::create(folder(context, worktree))?.clear()
}

/// Returns the folder of the keeper of a check worktree.
pub(super) fn folder(context: &QueueContext, worktree: &str) -> PathBuf {
    context.folder().join("checks").join(worktree)
}
