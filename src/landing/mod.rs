//! Bringing an accepted candidate onto the target: merged in memory onto the target's tip of this moment, with a message
//! worth reading. Nothing here moves a ref.

pub(crate) mod branch;
pub(crate) mod contained;
pub(crate) mod message;
pub(crate) mod sides;

use anyhow::{Context, Result};

use crate::ambient;
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::verdict::Candidate;
use crate::job::MergeStyle;
use crate::repo::{self, Identity, MergeResult, Repo};

/// What a candidate is on the target's present tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LandingMerge {
    /// It merges to this tree.
    Tree(Oid),
    /// It conflicts in these paths.
    Conflict(Vec<String>),
}

/// Where a candidate and a tip part.
pub(crate) fn merge_base(repo: &Repo, tip: &Oid, candidate: &Candidate) -> Result<Oid> {
    repo::merge_base(repo, tip, &candidate.commit)?
        .context("the target and the candidate have no common history")
}

/// What a landing, from the tip to the commit on it, would change that the work, from its base to the candidate, does not: a path,
/// if there is one. Then it must not land. A famous queue once reverted other people's code with all checks green, because its
/// squash commits were built on a wrong merge base; and where the tip has renamed what the work changes, the two have to meet.
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

/// Merges a candidate onto a tip, in memory; `base` is where they part.
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

/// Who and what a landing is about.
#[derive(Debug)]
pub(crate) struct LandingSubject<'a> {
    /// The run.
    pub run: &'a RunId,
    /// The task.
    pub task: &'a TaskId,
    /// What the plan says of it.
    pub planned: std::sync::Arc<crate::domain::plan::Task>,
    /// Whose work.
    pub attempt: u32,
    /// The job's name.
    pub job: &'a str,
    /// The job's goal.
    pub goal: &'a str,
}

/// Makes the commit that would land: one parent for a squash, two for a merge.
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
