//! The JSON that scripts rely on: as the manual pages say, with a `v` field.

use serde_json::{Value, json};

use super::human::because;
use crate::domain::event::Halt;
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::{Alike, alike, blocked};
use crate::domain::plan::Task;
use crate::domain::review::Approval;
use crate::domain::session::{Class, Cost, Spend};
use crate::domain::state::{Phase, RunState, TaskState};
use crate::store::layout;
use crate::wire::run::Manifest;

/// What `status` knows beside the state.
#[derive(Debug, Clone, Default)]
pub(crate) struct StatusContext {
    /// `host/pid` of the supervisor.
    pub driver: Option<String>,
    /// What needs a person.
    pub reason: Option<String>,
    /// The task whose landing is under way.
    pub landing: Option<TaskId>,
    /// The path of the file that each task hands in, where that is what they do.
    pub output: Option<String>,
    /// Tokens planned, tokens reported, and the factor that would have fitted, in thousandths.
    pub measured: Option<[u64; 3]>,
}

/// The state that a task shows.
pub(crate) fn shown(
    state: &RunState,
    task: &Task,
    s: &TaskState,
    around: &StatusContext,
) -> &'static str {
    match s.phase {
        Phase::Queued if around.landing.as_ref() == Some(&task.id) => "landing",
        Phase::Todo if !state.unblocked(&task.after) => "blocked",
        Phase::Todo
        | Phase::Running
        | Phase::Verifying
        | Phase::Reviewing
        | Phase::Queued
        | Phase::Done
        | Phase::Failed
        | Phase::Skipped => s.phase.as_str(),
    }
}

/// `status --json`.
pub(crate) fn status(manifest: &Manifest, state: &RunState, around: &StatusContext) -> Value {
    let words = [
        "todo",
        "blocked",
        "running",
        "verifying",
        "reviewing",
        "queued",
        "landing",
        "done",
        "failed",
        "skipped",
    ];
    let mut counts: serde_json::Map<String, Value> =
        words.iter().map(|w| ((*w).to_owned(), json!(0))).collect();
    let mut tasks = Vec::with_capacity(state.plan.tasks.len());
    let blocked = blocked(state);
    for task in &state.plan.tasks {
        let Some(s) = state.tasks.get(&task.id) else { continue };
        let word = shown(state, task, s, around);
        if let Some(n) = counts.get_mut(word) {
            *n = json!(n.as_u64().unwrap_or(0) + 1);
        }
        let mut value = self::task(&manifest.run, task, s, word);
        value["output"] = json!(output(s, around.output.as_deref()));
        if let Some(cause) = blocked.get(&task.id) {
            value["reason"] = json!(format!("waits for {}", because(state, cause)));
        }
        tasks.push(value);
    }
    json!({
        "v": 1, "run": manifest.run, "job": manifest.job, "state": state.summary(),
        "driver": around.driver, "reason": around.reason.clone().or_else(|| state.reason.clone()),
        "base": manifest.base, "target": manifest.target, "plan": manifest.plan,
        "counts": counts, "tokens": tokens(state.spend()), "cost_usd": cost(state.spend()),
        "unreported": unreported(state.spend()), "evaluation": evaluation(state.evaluation_spend()), "halt": state.halt.map(Halt::as_str),
        "measured": around.measured.map(measured), "closed_until": closed_until(state), "failures": failures(state), "tasks": tasks,
    })
}

/// Tokens by kind; null where sessions have ended and none has said.
fn tokens(spend: Spend) -> Value {
    match spend.known_tokens() {
        None => json!({"input": null, "output": null, "cache_read": null, "cache_write": null}),
        Some(t) => json!({
            "input": t.input, "output": t.output, "cache_read": t.cache_read, "cache_write": t.cache_write,
        }),
    }
}

/// US dollars; null where none is known.
fn cost(spend: Spend) -> Option<f64> {
    spend.known_cost().map(Cost::usd)
}

/// How many sessions said nothing of their use: sums are without those.
fn unreported(spend: Spend) -> Value {
    json!({"tokens": spend.sessions_without_tokens, "cost": spend.sessions_without_cost})
}

/// Who lets a candidate land, and when, in milliseconds since the Unix epoch.
fn approved(a: &Approval) -> Value {
    json!({"by": a.by, "at": a.at.0, "commit": a.commit.as_str(), "tree": a.tree.as_str()})
}

fn measured([planned, reported, factor]: [u64; 3]) -> Value {
    let factor = f64::from(u32::try_from(factor).unwrap_or(u32::MAX)) / 1_000.0;
    json!({"planned": planned, "reported": reported, "token_factor": factor})
}

/// What evaluators used, apart from what agents did; null where there was none.
fn evaluation(spend: Spend) -> Value {
    if spend == Spend::default() {
        return Value::Null;
    }
    json!({"tokens": tokens(spend), "cost_usd": cost(spend), "unreported": unreported(spend)})
}

/// Until when no agent starts, in milliseconds since the Unix epoch.
fn closed_until(state: &RunState) -> Option<u64> {
    let account = &state.account;
    (account.because.is_some() && account.closed_until.0 > 0).then_some(account.closed_until.0)
}

fn failures(state: &RunState) -> Vec<Value> {
    let group = |alike: Alike| {
        let tasks: Vec<_> = alike.tasks.iter().map(TaskId::as_str).collect();
        json!({"cause": alike.cause, "tasks": tasks})
    };
    alike(state).into_iter().map(group).collect()
}

/// Where git finds what a task has handed in: `<commit>:<path>`.
pub(crate) fn output(s: &TaskState, path: Option<&str>) -> Option<String> {
    let done = s.phase == Phase::Done && s.landed.is_none();
    let candidate = s.candidate.as_ref().filter(|_| done)?;
    Some(format!("{}:{}", candidate.commit, path?))
}

/// One task, as `status --json` and `show --json` have it.
pub(crate) fn task(run: &str, task: &Task, s: &TaskState, word: &str) -> Value {
    let branch = crate::domain::id::RunId::parse(run).map(|r| layout::branch(&r, &task.id)).ok();
    json!({
        "id": task.id.as_str(), "state": word, "files": task.files,
        "after": task.after.iter().map(TaskId::as_str).collect::<Vec<_>>(),
        "attempts": s.attempt, "branch": branch,
        "candidate": s.candidate.as_ref().map(|c| c.commit.as_str()),
        "landed": s.landed.as_ref().map(Oid::as_str), "output": null, "reason": s.reason,
        "tokens": if s.spend.sessions_with_tokens > 0 { tokens(s.spend) } else { json!({}) },
        "cost_usd": cost(s.spend), "class": s.class.map(Class::as_str), "cause": s.cause,
        "session": s.session.as_ref().map(|session| session.id.as_str()),
        "approved": s.review.approval.as_ref().map(approved),
        "evaluation": evaluation(s.evaluation.spend), "rounds": s.evaluation.rounds,
    })
}
