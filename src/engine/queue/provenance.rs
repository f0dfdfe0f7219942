//! The note on the landed commit of a task: who made it, how, and what proved it.

use anyhow::Result;

use super::host::{LandingCar, TrainLanding};
use crate::domain::review::Approval;
use crate::domain::session::{Cost, SessionReport};
use crate::domain::verdict::CheckResult;
use crate::engine::Context;
use crate::repo;
use crate::wire;
use crate::wire::facts::WireTokens;
use crate::wire::keeper::PublishedAttempt;
use crate::wire::notes::{NotedCheck, ProvenanceNote, VerifiedCommit, WireApproval, note_line};

/// Returns the note on a task's landed commit. If the checks of the train's last commit prove it,
/// the note names that commit.
pub(crate) fn task_note(run: &Context, car: &LandingCar, landing: &TrainLanding) -> Result<String> {
    let Some((_, task)) = car.entry.task() else { anyhow::bail!("`{}` is no task", car.entry.id) };
    let attempt = car.entry.attempt.unwrap_or(0);
    let store = &run.store;
    let repo = store.repo();
    let tip = store.task_tip(&run.run, &task)?;
    let folder = format!("attempts/{attempt}");
    let read = |file: &str| match &tip {
        Some((tip, _)) => repo.read_blob_at(&tip.tree, &format!("{folder}/{file}")),
        None => Ok(None),
    };
    let location = format!("{folder}/outcome.json of `{task}`");
    let outcome: Option<PublishedAttempt> =
        read("outcome.json")?.map(|bytes| wire::decode(&location, &bytes)).transpose()?;
    let report = outcome.as_ref().and_then(|outcome| outcome.report.clone());
    let report = report.map(SessionReport::from);
    let prompt = read("prompt.md")?.map(|bytes| repo::write_blob(repo, &bytes)).transpose()?;
    let approval: Option<&Approval> =
        tip.as_ref().and_then(|(_, state)| state.review.approval.as_ref());
    let each = run.job.queue.each || car.commit == landing.new;
    let note = ProvenanceNote {
        v: wire::VERSION,
        run: run.run.to_string(),
        task: task.to_string(),
        attempt,
        agent: run.preset.name.clone(),
        command: run.job.agent.command.first().cloned(),
        model: run.job.agent.model.clone(),
        session: report.as_ref().and_then(|report| report.session.clone()),
        prompt: prompt.map(|prompt| prompt.to_string()),
        tokens: report.as_ref().and_then(|report| report.usage.tokens).map(WireTokens::from),
        cost_usd: report.as_ref().and_then(|report| report.usage.cost).map(Cost::usd),
        candidate: car.entry.candidate.to_string(),
        tree: car.tree.to_string(),
        verified: (!each).then(|| VerifiedCommit {
            commit: landing.new.to_string(),
            tree: landing.tree.to_string(),
        }),
        approved: approval.map(|approval| WireApproval {
            by: approval.by.clone(),
            at: approval.at.0,
            commit: approval.commit.to_string(),
            tree: approval.tree.to_string(),
        }),
        termination: outcome.as_ref().map(|outcome| outcome.termination.clone()),
        wall_ms: outcome.as_ref().map(|outcome| outcome.wall_ms),
        checks: car.results.iter().map(noted_check).collect(),
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
