//! Target checks: the landing checks in the `harness.toml` of the target's tip, beside those that a
//! run has pinned. A run that created its target owns it, and the target has no checks of its own.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::Context;
use super::queue::TargetRules;
use crate::domain::id::Oid;
use crate::job;
use crate::verify::{self, CheckStage, CheckSubject, NO_FILES};
use crate::wire::keeper::CheckStep;

/// Returns the rules of a tip of the target, or `None` if the target has no checks of its own.
pub(super) fn rules(ctx: &Context, tip: &Oid) -> Result<Option<Arc<TargetRules>>> {
    let repo = ctx.store.repo();
    if ctx.manifest.target_created
        || ctx.job.output.is_some()
        || !repo.has_entry(&repo.tree_of(tip)?, job::FILE_NAME)?
    {
        return Ok(None);
    }
    let rules = ctx.queue.rules(tip).context("the target's own checks cannot be read")?;
    Ok(Some(rules))
}

/// Returns the target's checks as steps, except those that are among the run's.
pub(super) fn steps(
    ctx: &Context,
    rules: &TargetRules,
    base: &Oid,
    worktree: &str,
    own: &[CheckStep],
) -> Vec<CheckStep> {
    let subject = CheckSubject { run: &ctx.run, task: None, base, worktree };
    let mut steps = verify::steps(&rules.job, CheckStage::Landing, &subject, NO_FILES);
    steps.retain(|step| !has_step(own.iter(), step));
    steps
}

/// Returns true if one of the steps is the same check as `step`.
pub(super) fn has_step<'a>(
    mut steps: impl Iterator<Item = &'a CheckStep>,
    step: &CheckStep,
) -> bool {
    steps.any(|own| own.name == step.name && own.key_argv == step.key_argv)
}

/// Returns true if two files have the same content.
pub(super) fn is_same_file(ours: &PathBuf, theirs: &PathBuf) -> bool {
    matches!((std::fs::read(ours), std::fs::read(theirs)), (Ok(ours), Ok(theirs)) if ours == theirs)
}
