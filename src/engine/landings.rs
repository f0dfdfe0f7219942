//! A landing seen from the supervisor: merge, verify what will really be on the target, and only then move it.

use std::sync::PoisonError;

use anyhow::Result;

use super::Context;
use super::verifications::{TrainMember, VerificationAssignment};
use crate::domain::id::{Oid, TaskId};
use crate::domain::review::Approval;
use crate::domain::session::{Cost, SessionReport};
use crate::domain::verdict::{Candidate, CheckResult};
use crate::job::MergeStyle;
use crate::landing::{self, LandingMerge};
use crate::repo;
use crate::store::codec;
use crate::store::journal::LandingRecord;
use crate::store::layout;
use crate::store::wire::WireReading;
use crate::verify::CheckStage;

/// A candidate merged onto what the target will be when those before it have landed.
#[derive(Debug)]
pub(super) struct TaskCar {
    /// The task.
    pub task: TaskId,
    /// Whose work.
    pub attempt: u32,
    /// The work.
    pub candidate: Candidate,
    /// The tip that the target must have for this to land.
    pub onto: Oid,
    /// The commit that would land.
    pub new: Oid,
    /// Its tree.
    pub tree: Oid,
}

impl TaskCar {
    /// What is to be judged: its tree, in which the work of those before it is new, too.
    pub(super) fn case(&self, with: Vec<TrainMember>, again: bool) -> VerificationAssignment {
        let (commit, tree) = (self.new.clone(), self.tree.clone());
        let base = self.candidate.base.clone();
        let task = Some((self.task.clone(), self.attempt));
        VerificationAssignment {
            with,
            again,
            ..VerificationAssignment::of(CheckStage::Landing, task, (commit, tree, base))
        }
    }

    /// Its part in the tree of one behind it.
    pub(super) fn member(&self) -> TrainMember {
        TrainMember {
            task: self.task.clone(),
            attempt: self.attempt,
            base: self.candidate.base.clone(),
        }
    }

    /// The landing, with the results that prove it.
    pub(super) fn landing(&self, ctx: &Context, results: Vec<CheckResult>) -> LandingRecord {
        LandingRecord {
            run: ctx.run.clone(),
            task: self.task.clone(),
            attempt: self.attempt,
            candidate: self.candidate.commit.clone(),
            old: self.onto.clone(),
            new: self.new.clone(),
            tree: self.tree.clone(),
            results,
        }
    }
}

/// What merging a candidate onto a tip has shown.
#[derive(Debug)]
pub(super) enum BuiltCar {
    /// It merges.
    Merged(Box<TaskCar>),
    /// It conflicts in these paths.
    Conflict(Vec<String>),
}

/// Merges a candidate onto a tip and makes the commit that would land.
pub(super) fn build_car(
    ctx: &Context,
    task: &TaskId,
    attempt: u32,
    candidate: &Candidate,
    onto: &Oid,
) -> Result<BuiltCar> {
    let repo = ctx.store.repo();
    let base = merge_base(ctx, candidate, onto)?;
    let tree = match landing::merge_onto(repo, &base, onto, candidate)? {
        LandingMerge::Conflict(paths) => return Ok(BuiltCar::Conflict(paths)),
        LandingMerge::Tree(tree) => tree,
    };
    let subject = ctx.subject(task, attempt)?;
    let merge = ctx.job.queue.merge;
    let new = landing::commit(repo, &subject, onto, candidate, &tree, merge, &ctx.identity)?;
    if let Some(path) = landing::unexpected_path(repo, (&base, &candidate.commit), (onto, &new))? {
        // As where the target has renamed what the task changes: whoever made it has to see both.
        return Ok(BuiltCar::Conflict(vec![path]));
    }
    Ok(BuiltCar::Merged(Box::new(TaskCar {
        task: task.clone(),
        attempt,
        candidate: candidate.clone(),
        onto: onto.clone(),
        new,
        tree,
    })))
}

/// Where a candidate and what the target will be part. History is walked only where it is not a plain line: how long it
/// has become since the candidate was made must not matter.
pub(super) fn merge_base(ctx: &Context, candidate: &Candidate, onto: &Oid) -> Result<Oid> {
    let repo = ctx.store.repo();
    // Those that are judged ahead of the target's tip are squashed, too.
    if ctx.job.queue.merge == MergeStyle::Squash {
        let contained = ctx.contained.lock().unwrap_or_else(PoisonError::into_inner);
        if contained.is_linear_since(&candidate.base) {
            drop(contained);
            let parents = repo::commit_info(repo, &candidate.commit)?.parents;
            if parents == [candidate.base.clone()] {
                return Ok(candidate.base.clone());
            }
        }
    }
    landing::merge_base(repo, onto, candidate)
}

/// The commit by which the target contains a task already.
pub(super) fn contained(ctx: &Context, task: &TaskId, tip: &Oid) -> Result<Option<Oid>> {
    let mut contained = ctx.contained.lock().unwrap_or_else(PoisonError::into_inner);
    contained.update(ctx.store.repo(), &ctx.run, tip, &ctx.base)?;
    Ok(contained.landed(task).cloned())
}

/// Why the target cannot move over these landings at the moment; see [`crate::store::checkouts`].
pub(super) fn held(ctx: &Context, landings: &[LandingRecord]) -> Result<Option<String>> {
    let (Some(first), Some(last)) = (landings.first(), landings.last()) else { return Ok(None) };
    let target = &ctx.manifest.target;
    let why = ctx.store.holds_landing(target, &first.old, &last.new)?;
    Ok(why.map(|why| {
        let short = layout::short(target);
        format!("landing on `{short}` waits: {why}")
    }))
}

/// Makes the work trees of the target follow. What there is to say of those that could not.
pub(super) fn follow(ctx: &Context, landings: &[LandingRecord]) -> Result<Vec<String>> {
    let (Some(first), Some(last)) = (landings.first(), landings.last()) else {
        return Ok(Vec::new());
    };
    if ctx.tip()? != last.new {
        // Somebody has gone on from there since: what their work trees show is theirs.
        return Ok(Vec::new());
    }
    let behind = ctx.store.follow(&ctx.manifest.target, &first.old, &last.new)?;
    Ok(behind.iter().map(|one| one.told(&last.new)).collect())
}

/// The note on a landed commit: who made it, how, and what proved it: checks of its own tree, or of that of the last commit of its
/// train (`proof`).
pub(super) fn provenance(
    ctx: &Context,
    landing: &LandingRecord,
    chain_tree: &Oid,
    approval: Option<&Approval>,
    proof: &LandingRecord,
) -> Result<String> {
    let repo = ctx.store.repo();
    let folder = format!("attempts/{}", landing.attempt);
    let outcome = repo.read_blob_at(chain_tree, &format!("{folder}/outcome.json"))?;
    let outcome: serde_json::Value =
        outcome.map_or(Ok(serde_json::Value::Null), |b| serde_json::from_slice(&b))?;
    let reading: Option<WireReading> =
        outcome.get("reading").and_then(|r| serde_json::from_value(r.clone()).ok());
    let reading = reading.map(SessionReport::from);
    let prompt = repo.read_blob_at(chain_tree, &format!("{folder}/prompt.md"))?;
    let prompt = prompt.map(|bytes| repo::write_blob(repo, &bytes)).transpose()?;
    let checks: Vec<_> = landing.results.iter().map(check_json).collect();
    let note = serde_json::json!({
        "v": codec::VERSION, "run": landing.run.as_str(), "task": landing.task.as_str(),
        "attempt": landing.attempt, "agent": ctx.preset.name,
        "command": ctx.job.agent.command.first(), "model": ctx.job.agent.model,
        "session": reading.as_ref().and_then(|r| r.session.clone()),
        "prompt": prompt.map(|p| p.to_string()),
        "tokens": reading.as_ref().and_then(|r| r.usage.tokens).map(|t| serde_json::json!({
            "input": t.input, "output": t.output, "cache_read": t.cache_read, "cache_write": t.cache_write,
        })),
        "cost_usd": reading.as_ref().and_then(|r| r.usage.cost).map(Cost::usd),
        "candidate": landing.candidate.as_str(), "tree": landing.tree.as_str(),
        "proved": (proof.new != landing.new).then(|| serde_json::json!({
            "commit": proof.new.as_str(), "tree": proof.tree.as_str(),
        })),
        "approved": approval.map(|a| serde_json::json!({
            "by": a.by, "at": a.at.0, "commit": a.commit.as_str(), "tree": a.tree.as_str(),
        })),
        "ending": outcome.get("ending"), "wall_ms": outcome.get("wall_ms"), "checks": checks,
    });
    Ok(note.to_string())
}

fn check_json(r: &CheckResult) -> serde_json::Value {
    serde_json::json!({"name": r.name, "passed": r.passed, "ms": r.ms, "key": r.key})
}
