//! Target checks: the landing checks in the `harness.toml` of the target's tip, beside those that a
//! run has pinned. A run that created its target owns it, and the target has no checks of its own.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use super::Context;
use super::queue::TargetRules;
use crate::domain::id::Oid;
use crate::job;
use crate::store::layout;
use crate::verify::{self, CheckStage, CheckSubject};
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
    if let Some(path) = conflicting_file(ctx, &rules) {
        bail!(conflict_message(&ctx.manifest.target, &path));
    }
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
    let mut steps = verify::steps(&rules.job, CheckStage::Landing, &subject, &rules.salt);
    if has_same_files(ctx, rules) {
        steps.retain(|step| !has_step(own.iter(), step));
    }
    steps
}

/// Returns true if one of the steps is the same check as `step`.
pub(super) fn has_step<'a>(
    mut steps: impl Iterator<Item = &'a CheckStep>,
    step: &CheckStep,
) -> bool {
    steps.any(|own| own.name == step.name && own.key_argv == step.key_argv)
}

/// Returns a file that the checks of both the run and the target name, and that differs between
/// them. One worktree cannot hold both.
pub(super) fn conflicting_file(ctx: &Context, rules: &TargetRules) -> Option<String> {
    // The files of tasks are laid over nothing: they are as the tasks left them.
    let laid = ctx.check_overlay();
    let differs = |(path, theirs): &&(String, PathBuf)| {
        laid.iter().any(|(pinned, ours)| pinned == path && !is_same_file(ours, theirs))
    };
    rules.overlay.iter().find(differs).map(|(path, _)| path.clone())
}

/// Returns the message that a run and its target pin different versions of a file.
pub(super) fn conflict_message(target: &str, path: &str) -> String {
    let target = layout::short(target);
    format!(
        "`{path}` on `{target}` differs from the copy that this run has pinned, and the checks of both need it: take \
         over the version of `{target}` (for example `git checkout {target} -- {path}`), then `git harness start` \
         continues with it"
    )
}

/// Returns true if the run pinned the files that the target's checks name as the target has them.
pub(super) fn has_same_files(ctx: &Context, rules: &TargetRules) -> bool {
    rules.overlay.iter().all(|(path, theirs)| {
        let ours = ctx.overlay.iter().find(|(pinned, _)| pinned == path);
        ours.is_some_and(|(_, ours)| is_same_file(ours, theirs))
    })
}

/// Returns true if two files have the same content.
pub(super) fn is_same_file(ours: &PathBuf, theirs: &PathBuf) -> bool {
    matches!((std::fs::read(ours), std::fs::read(theirs)), (Ok(ours), Ok(theirs)) if ours == theirs)
}

/// Returns the files that are laid over a worktree in which both are verified: what the run pinned,
/// then what the target has.
pub(super) fn check_overlay(ctx: &Context, rules: Option<&TargetRules>) -> Vec<(String, PathBuf)> {
    let mut files = ctx.check_overlay();
    let theirs = rules.map_or(&[][..], |rules| rules.overlay.as_slice());
    let is_pinned = |path: &String| ctx.overlay.iter().any(|(pinned, _)| pinned == path);
    files.extend(theirs.iter().filter(|(path, _)| !is_pinned(path)).cloned());
    files
}
