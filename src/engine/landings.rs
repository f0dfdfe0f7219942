//! A landing seen from the supervisor: merge, verify what will really be on the target, and only then move it.

use std::sync::PoisonError;

use anyhow::Result;

use super::Context;
use super::verifications::{self, Case, Judged};
use crate::domain::id::{Oid, TaskId};
use crate::domain::verdict::{Candidate, CheckResult, Judgement, Verdict};
use crate::landing::{self, Onto};
use crate::repo;
use crate::store::codec;
use crate::store::journal::Landing;
use crate::verify::Stage;

/// What a look at a candidate and its target has shown.
#[derive(Debug)]
pub(super) enum Ready {
    /// The target has it already.
    Contained(Oid),
    /// It conflicts.
    Conflict {
        /// The tip.
        onto: Oid,
        /// The paths.
        paths: Vec<String>,
    },
    /// The merged tree was judged just now; the verdict must be journaled before anything moves.
    Judged {
        /// The tree.
        tree: Oid,
        /// What was said.
        verdict: Verdict,
        /// Note lines.
        lines: Vec<String>,
        /// For forgetting its files.
        case: Box<Case>,
        /// What moves then, if the verdict is good and the target has not moved meanwhile. It is not looked up again: a
        /// verdict of a check with `cache = false` could not be found again.
        landing: Option<Box<Landing>>,
    },
    /// The verdict on the tree is known and good: the target can move.
    Land(Landing),
    /// The target is checked out there; landing waits.
    Held(String),
    /// A keeper is at it, and we do not wait.
    Later,
}

/// Looks at what landing a candidate would mean at this moment, and verifies it where that is needed.
pub(super) fn examine(
    ctx: &Context,
    task: &TaskId,
    attempt: u32,
    candidate: &Candidate,
    place: &str,
    wait: bool,
) -> Result<Ready> {
    let tip = ctx.tip()?;
    if let Some(commit) = contained(ctx, task, &tip)? {
        return Ok(Ready::Contained(commit));
    }
    if let Some(why) = held(ctx)? {
        return Ok(Ready::Held(why));
    }
    let repo = ctx.store.repo();
    let tree = match landing::merge_onto(repo, &tip, candidate)? {
        Onto::Conflict(paths) => return Ok(Ready::Conflict { onto: tip, paths }),
        Onto::Tree(tree) => tree,
    };
    let subject = ctx.subject(task, attempt)?;
    let merge = ctx.job.queue.merge;
    let new = landing::commit(repo, &subject, &tip, candidate, &tree, merge, &ctx.identity)?;
    let case = Case {
        stage: Stage::Landing,
        task: Some((task.clone(), attempt)),
        commit: new.clone(),
        tree: tree.clone(),
        base: candidate.base.clone(),
    };
    let steps = verifications::steps(ctx, &case, place)?;
    let landing = |results| -> Result<Landing> {
        assert_faithful(ctx, task, candidate, &tip, &new)?;
        Ok(Landing {
            run: ctx.run.clone(),
            task: task.clone(),
            attempt,
            candidate: candidate.commit.clone(),
            old: tip.clone(),
            new: new.clone(),
            tree: tree.clone(),
            results,
        })
    };
    if let Some(Verdict { judgement: Judgement::Accepted, results }) =
        crate::verify::foregone(&steps)
    {
        return Ok(Ready::Land(landing(results)?));
    }
    let Some(Judged { verdict, lines }) = verifications::judge(ctx, &case, place, wait)? else {
        return Ok(Ready::Later);
    };
    let accepted = verdict.judgement == Judgement::Accepted;
    let moves = if accepted { Some(Box::new(landing(verdict.results.clone())?)) } else { None };
    // With a version command the keeper alone can tell that a verdict is known: then nothing new was said, and there is
    // nothing to journal first.
    match moves {
        Some(landing) if lines.is_empty() => {
            std::fs::remove_dir_all(verifications::folder(ctx, &case)).ok();
            Ok(Ready::Land(*landing))
        }
        landing => Ok(Ready::Judged { tree, verdict, lines, case: Box::new(case), landing }),
    }
}

/// A landing may change what the candidate changed and nothing else. A famous queue once reverted other people's code
/// with all checks green, because its squash commits were built on a wrong merge base.
fn assert_faithful(
    ctx: &Context,
    task: &TaskId,
    candidate: &Candidate,
    tip: &Oid,
    new: &Oid,
) -> Result<()> {
    let repo = ctx.store.repo();
    let paths = |a: &Oid, b: &Oid| -> Result<Vec<String>> {
        let changes = repo::changed_paths(repo, &repo.tree_of(a)?, &repo.tree_of(b)?)?;
        Ok(changes.into_iter().map(|c| c.path).collect())
    };
    let base = repo::merge_base(repo, tip, &candidate.commit)?.unwrap_or_else(|| tip.clone());
    let allowed = paths(&base, &candidate.commit)?;
    let stray = paths(tip, new)?.into_iter().find(|p| allowed.binary_search(p).is_err());
    match stray {
        None => Ok(()),
        Some(path) => anyhow::bail!(
            "the landing of `{task}` would change `{path}`, which its candidate {} does not: nothing was moved",
            candidate.commit
        ),
    }
}

/// The commit by which the target contains a task already.
pub(super) fn contained(ctx: &Context, task: &TaskId, tip: &Oid) -> Result<Option<Oid>> {
    let mut contained = ctx.contained.lock().unwrap_or_else(PoisonError::into_inner);
    contained.update(ctx.store.repo(), &ctx.run, tip, &ctx.base)?;
    Ok(contained.landed(task).cloned())
}

/// Why the target cannot move at the moment: somebody works on it, and a moved branch would turn into changes there.
pub(crate) fn held(ctx: &Context) -> Result<Option<String>> {
    let target = &ctx.manifest.target;
    let places = ctx.store.repo().checked_out_at(target)?;
    let short = target.strip_prefix("refs/heads/").unwrap_or(target);
    Ok(places.first().map(|path| {
        format!(
            "landing waits: the target `{short}` is checked out in {}; switch that work tree to another branch, for \
             example with `git switch --detach`",
            path.display()
        )
    }))
}

/// The note on a landed commit: who made it, how, and what proved it.
pub(super) fn provenance(ctx: &Context, landing: &Landing, chain_tree: &Oid) -> Result<String> {
    let repo = ctx.store.repo();
    let folder = format!("attempts/{}", landing.attempt);
    let outcome = repo.read_blob_at(chain_tree, &format!("{folder}/outcome.json"))?;
    let outcome: serde_json::Value =
        outcome.map_or(Ok(serde_json::Value::Null), |b| serde_json::from_slice(&b))?;
    let prompt = repo.read_blob_at(chain_tree, &format!("{folder}/prompt.md"))?;
    let prompt = prompt.map(|bytes| repo::write_blob(repo, &bytes)).transpose()?;
    let checks: Vec<_> = landing.results.iter().map(check_json).collect();
    let note = serde_json::json!({
        "v": codec::VERSION, "run": landing.run.as_str(), "task": landing.task.as_str(),
        "attempt": landing.attempt, "agent": "command",
        "command": ctx.job.agent.command.first(), "model": null, "session": null,
        "prompt": prompt.map(|p| p.to_string()), "tokens": null, "cost_usd": null,
        "candidate": landing.candidate.as_str(), "tree": landing.tree.as_str(),
        "ending": outcome.get("ending"), "wall_ms": outcome.get("wall_ms"), "checks": checks,
    });
    Ok(note.to_string())
}

fn check_json(r: &CheckResult) -> serde_json::Value {
    serde_json::json!({"name": r.name, "passed": r.passed, "ms": r.ms, "key": r.key})
}
