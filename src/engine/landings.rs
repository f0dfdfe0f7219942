//! A landing seen from the supervisor: merge, verify what will really be on the target, and only then move it.

use std::sync::PoisonError;

use anyhow::Result;

use super::Context;
use super::work::verification::{TrainMember, VerificationAssignment};
use crate::domain::id::{Oid, TaskId};
use crate::domain::queue::EntryId;
use crate::domain::review::Approval;
use crate::domain::session::{Cost, SessionReport};
use crate::domain::verdict::{Candidate, CheckResult};
use crate::landing::{CarRequest, CarSubject, TrainBuilder};
use crate::repo;
use crate::store::journal::LandingRecord;
use crate::store::layout;
use crate::verify::CheckStage;
use crate::wire;
use crate::wire::facts::WireTokens;
use crate::wire::keeper::PublishedAttempt;
use crate::wire::notes::{NotedCheck, ProvenanceNote, VerifiedCommit, WireApproval, note_line};

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
    pub(super) fn case(
        &self,
        other_tasks: Vec<TrainMember>,
        again: bool,
    ) -> VerificationAssignment {
        let (commit, tree) = (self.new.clone(), self.tree.clone());
        let base = self.candidate.base.clone();
        let task = Some((self.task.clone(), self.attempt));
        VerificationAssignment {
            other_tasks,
            again,
            ..VerificationAssignment::new(CheckStage::Landing, task, (commit, tree, base))
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

/// A task's place in a train.
pub(super) fn request<'a>(
    ctx: &'a Context,
    entry: &'a EntryId,
    (task, attempt): (&'a TaskId, u32),
    candidate: &'a Oid,
) -> Result<CarRequest<'a>> {
    let subject = CarSubject::Task(ctx.subject(task, attempt)?);
    Ok(CarRequest { entry, candidate, merge: ctx.job.queue.merge, subject, base: None })
}

/// Builds trains of tasks.
pub(super) fn builder(ctx: &Context) -> TrainBuilder<'_> {
    TrainBuilder { repo: ctx.store.repo(), merger: &ctx.desk.merger, who: &ctx.identity }
}

/// The commit by which the target contains a task already.
pub(super) fn contained(ctx: &Context, task: &TaskId, tip: &Oid) -> Result<Option<Oid>> {
    let mut history = ctx.history.lock().unwrap_or_else(PoisonError::into_inner);
    history.update(ctx.store.repo(), tip, Some(&ctx.base))?;
    Ok(history.landed_task(&ctx.run, task).cloned())
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
    Ok(behind.iter().map(|one| one.message(&last.new)).collect())
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
    let place = format!("{folder}/outcome.json of `{}`", landing.task);
    let outcome: Option<PublishedAttempt> =
        outcome.map(|bytes| wire::decode(&place, &bytes)).transpose()?;
    let report = outcome.as_ref().and_then(|outcome| outcome.report.clone());
    let report = report.map(SessionReport::from);
    let prompt = repo.read_blob_at(chain_tree, &format!("{folder}/prompt.md"))?;
    let prompt = prompt.map(|bytes| repo::write_blob(repo, &bytes)).transpose()?;
    let note = ProvenanceNote {
        v: wire::VERSION,
        run: landing.run.to_string(),
        task: landing.task.to_string(),
        attempt: landing.attempt,
        agent: ctx.preset.name.clone(),
        command: ctx.job.agent.command.first().cloned(),
        model: ctx.job.agent.model.clone(),
        session: report.as_ref().and_then(|report| report.session.clone()),
        prompt: prompt.map(|prompt| prompt.to_string()),
        tokens: report.as_ref().and_then(|report| report.usage.tokens).map(WireTokens::from),
        cost_usd: report.as_ref().and_then(|report| report.usage.cost).map(Cost::usd),
        candidate: landing.candidate.to_string(),
        tree: landing.tree.to_string(),
        verified: (proof.new != landing.new).then(|| VerifiedCommit {
            commit: proof.new.to_string(),
            tree: proof.tree.to_string(),
        }),
        approved: approval.map(|approval| WireApproval {
            by: approval.by.clone(),
            at: approval.at.0,
            commit: approval.commit.to_string(),
            tree: approval.tree.to_string(),
        }),
        termination: outcome.as_ref().map(|outcome| outcome.termination.clone()),
        wall_ms: outcome.as_ref().map(|outcome| outcome.wall_ms),
        checks: landing.results.iter().map(noted_check).collect(),
    };
    note_line(&note)
}

fn noted_check(result: &CheckResult) -> NotedCheck {
    NotedCheck {
        name: result.name.clone(),
        passed: result.passed,
        ms: result.ms,
        key: result.key.clone(),
    }
}

/// The name of a task in the queue.
pub(super) fn entry(task: &TaskId) -> Result<EntryId> {
    Ok(EntryId::parse(task.as_str())?)
}

/// The task of a name in the queue.
pub(super) fn task(entry: &EntryId) -> Result<TaskId> {
    Ok(TaskId::parse(entry.as_str())?)
}

/// What goes wrong in a landing.
pub(super) enum LandingError {
    /// The state cannot be read or written: nothing more is begun.
    State(anyhow::Error),
    /// Candidates cannot be put on the target: that waits, the rest goes on.
    Landing(anyhow::Error),
}
