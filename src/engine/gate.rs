//! What the target itself asks of whatever wants to land on it: the landing checks of the `harness.toml` of its own tip, beside
//! those that a run has pinned.
//!
//! A branch that a run has made for itself asks nothing: it is the run's. Where both have the same check, it is run once.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use super::Context;
use super::queue::Rules;
use crate::domain::id::Oid;
use crate::job;
use crate::store::layout;
use crate::verify::{self, CheckStage, CheckSubject};
use crate::wire::keeper::CheckStep;

/// What a tip of the target asks; nothing if it has no job file, or is the run's own.
pub(super) fn rules(ctx: &Context, tip: &Oid) -> Result<Option<Arc<Rules>>> {
    let repo = ctx.store.repo();
    if ctx.manifest.target_created
        || ctx.job.output.is_some()
        || !repo.has_entry(&repo.tree_of(tip)?, job::FILE_NAME)?
    {
        return Ok(None);
    }
    let rules = ctx.desk.rules(tip).context("what the target itself asks is not known")?;
    if let Some(path) = differs(ctx, &rules) {
        // Both are laid over one place: the target's checks must not be carried out by the run's files, nor the other way round.
        let target = layout::short(&ctx.manifest.target);
        bail!(
            "`{path}` is at `{target}` not as this run has pinned it, and the checks of both need it: take over that of `{target}` \
             (for example `git checkout {target} -- {path}`), then `git harness start` goes on with it"
        );
    }
    Ok(Some(rules))
}

/// The checks of the target as steps, but for those that are among the run's.
pub(super) fn steps(
    ctx: &Context,
    rules: &Rules,
    base: &Oid,
    worktree: &str,
    ours: &[CheckStep],
) -> Vec<CheckStep> {
    let subject = CheckSubject { run: &ctx.run, task: None, base, worktree };
    let mut steps = verify::steps(&rules.job, CheckStage::Landing, &subject, &rules.salt);
    if has_same_files(ctx, rules) {
        steps.retain(|step| {
            !ours.iter().any(|our| our.name == step.name && our.key_argv == step.key_argv)
        });
    }
    steps
}

/// A file that the checks of both the run and the target name, and of which they do not have the same content.
fn differs<'r>(ctx: &Context, rules: &'r Rules) -> Option<&'r str> {
    let same = |ours: &PathBuf, theirs: &PathBuf| matches!((std::fs::read(ours), std::fs::read(theirs)), (Ok(ours), Ok(theirs)) if ours == theirs);
    // What is a task's own is laid over nothing: it is as the tasks have made it.
    let laid = ctx.check_overlay();
    let mut theirs = rules.overlay.iter();
    let found = theirs.find(|(path, theirs)| {
        laid.iter().any(|(pinned, ours)| pinned == path && !same(ours, theirs))
    });
    found.map(|(path, _)| path.as_str())
}

/// Whether the run has pinned the files that the target's checks name as the target has them.
fn has_same_files(ctx: &Context, rules: &Rules) -> bool {
    rules.overlay.iter().all(|(path, theirs)| {
        let ours = ctx.overlay.iter().find(|(pinned, _)| pinned == path);
        ours.is_some_and(|(_, ours)| match (std::fs::read(ours), std::fs::read(theirs)) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            (_, _) => false,
        })
    })
}

/// What is laid over a place in which both are judged: what the run has pinned, then what the target has.
pub(super) fn check_overlay(ctx: &Context, rules: Option<&Rules>) -> Vec<(String, PathBuf)> {
    let mut files = ctx.check_overlay();
    let theirs = rules.map_or(&[][..], |rules| rules.overlay.as_slice());
    let work = |path: &String| ctx.overlay.iter().any(|(pinned, _)| pinned == path);
    files.extend(theirs.iter().filter(|(path, _)| !work(path)).cloned());
    files
}
