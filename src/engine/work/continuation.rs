//! The work of a rejected candidate as the start of the next attempt.

use anyhow::Result;

use super::verification::scope_findings;
use crate::ambient;
use crate::domain::id::{Oid, TaskId};
use crate::domain::verdict::Candidate;
use crate::engine::Context;
use crate::landing::{MergeBases, MergeResult, Merger, message};
use crate::repo;

/// The largest number of commits whose messages are kept.
const MAX_MESSAGES: usize = 100;

/// Returns a commit with the work of an attempt's candidate on top of `tip`. Returns `None` if the
/// candidate conflicts with the tip, changes a path outside of the task's scope, or adds nothing to
/// the tip: the next attempt then starts from the tip.
pub(in crate::engine) fn on_tip(
    ctx: &Context,
    task: &TaskId,
    attempt: u32,
    candidate: &Candidate,
    tip: &Oid,
) -> Result<Option<Oid>> {
    let repo = ctx.store.repo();
    let mut work = candidate.clone();
    if work.base != *tip {
        let merger = Merger::new(&ctx.store);
        let merged = merger.merge(&MergeBases::OfHistory, tip, &candidate.commit)?;
        let MergeResult::Clean { tree } = merged else { return Ok(None) };
        let own = repo::own_commits(repo, &candidate.commit, &[&candidate.base], MAX_MESSAGES)?;
        let own =
            own.iter().map(|(id, _)| merger.authored_commit(id)).collect::<Result<Vec<_>>>()?;
        let message = message::continued(&ctx.subject(task, attempt)?, &own);
        let seconds = i64::try_from(ambient::now().0 / 1000).unwrap_or(0);
        let parents = [tip.clone()];
        let commit = repo::commit(repo, &tree, &parents, &message, &ctx.identity, seconds)?;
        work = Candidate { commit, tree, base: tip.clone() };
    }
    let adds_nothing = work.tree == repo.tree_of(tip)?;
    if adds_nothing || !scope_findings(ctx, task, attempt, &work)?.is_empty() {
        return Ok(None);
    }
    Ok(Some(work.commit))
}
