//! Landing commits: an accepted candidate is merged in memory onto the target's current tip. No ref
//! moves here.

pub(crate) mod branch;
pub(crate) mod landed_tasks;
pub(crate) mod message;
pub(crate) mod sides;

use anyhow::{Context, Result};

use crate::ambient;
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::verdict::Candidate;
use crate::job::MergeStyle;
use crate::repo::{self, Identity, MergeResult, Repo};

/// The result of merging a candidate onto a tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LandingMerge {
    /// The merged tree.
    Tree(Oid),
    /// The paths in conflict.
    Conflict(Vec<String>),
}

/// Returns the merge base of a candidate and a tip.
pub(crate) fn merge_base(repo: &Repo, tip: &Oid, candidate: &Candidate) -> Result<Oid> {
    repo::merge_base(repo, tip, &candidate.commit)?
        .context("the target and the candidate have no common history")
}

/// Returns a path that the landing (from `tip` to `new`) changes and the work (from `base` to
/// `candidate`) does not, if there is one. Such a landing must not happen. GitHub's merge queue
/// once reverted other people's commits with all checks green, because its squash commits were
/// built on a wrong merge base. If the target has renamed a path that the work changes, the new
/// path is also unexpected: the author has to look at both changes.
pub(crate) fn unexpected_path(
    repo: &Repo,
    (base, candidate): (&Oid, &Oid),
    (tip, new): (&Oid, &Oid),
) -> Result<Option<String>> {
    let paths = |a: &Oid, b: &Oid| -> Result<Vec<String>> {
        let changes = repo::changed_paths(repo, &repo.tree_of(a)?, &repo.tree_of(b)?)?;
        Ok(changes.into_iter().map(|change| change.path).collect())
    };
    let allowed = paths(base, candidate)?;
    Ok(paths(tip, new)?.into_iter().find(|path| allowed.binary_search(path).is_err()))
}

/// Merges a candidate onto a tip, in memory. `base` is their merge base.
pub(crate) fn merge_onto(
    repo: &Repo,
    base: &Oid,
    tip: &Oid,
    candidate: &Candidate,
) -> Result<LandingMerge> {
    if base == tip {
        return Ok(LandingMerge::Tree(candidate.tree.clone()));
    }
    Ok(match repo::merge(repo, base, tip, &candidate.commit)? {
        MergeResult::Clean { tree } => LandingMerge::Tree(tree),
        MergeResult::Conflict { paths } => LandingMerge::Conflict(paths),
    })
}

/// The task and job that a landing commit describes.
#[derive(Debug)]
pub(crate) struct LandingSubject<'a> {
    /// The run.
    pub run: &'a RunId,
    /// The task.
    pub task: &'a TaskId,
    /// The planned task.
    pub planned: std::sync::Arc<crate::domain::plan::Task>,
    /// The attempt that made the candidate.
    pub attempt: u32,
    /// The job's name.
    pub job: &'a str,
    /// The job's goal.
    pub goal: &'a str,
}

/// Creates the landing commit: one parent for a squash, two for a merge.
pub(crate) fn commit(
    repo: &Repo,
    subject: &LandingSubject,
    tip: &Oid,
    candidate: &Candidate,
    tree: &Oid,
    merge: MergeStyle,
    who: &Identity,
) -> Result<Oid> {
    let mut parents = vec![tip.clone()];
    if merge == MergeStyle::Merge {
        parents.push(candidate.commit.clone());
    }
    let time = i64::try_from(ambient::now().0 / 1000).unwrap_or(0);
    repo::commit(repo, tree, &parents, &message::landing(subject), who, time)
}
