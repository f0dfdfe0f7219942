//! `status --json` and the parts that other commands share with it.

use std::collections::BTreeSet;

use super::human::because;
use super::outlook::Outlook;
use crate::domain::event::Halt;
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::machine::{FailureGroup, blocked, failure_groups};
use crate::domain::plan::Task;
use crate::domain::review::Approval;
use crate::domain::run_wait::{RunFacts, run_rate};
use crate::domain::session::{Class, Cost, Spend};
use crate::domain::state::{Phase, RunState, TaskState};
use crate::domain::verdict::{CheckResult, Finding};
use crate::store::layout;
use crate::wire::cli;
use crate::wire::run::Manifest;

/// Facts that `status` shows beside the run's state.
#[derive(Debug, Default)]
pub(crate) struct StatusContext {
    /// The supervisor, as `host/pid`.
    pub driver: Option<String>,
    /// Facts that no event records.
    pub facts: RunFacts,
    /// The wait of the run, and the next command.
    pub outlook: Option<Outlook>,
    /// The tasks whose landing is under way.
    pub landing: BTreeSet<TaskId>,
    /// The path of the file that each task hands in, if the tasks hand in files.
    pub output: Option<String>,
    /// The sandbox of the run's commands. `None` if the job wants none.
    pub sandbox: Option<String>,
    /// Planned and reported tokens, if the job has a budget of tokens.
    pub measured: Option<MeasuredTokens>,
}

/// Planned and reported tokens of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MeasuredTokens {
    /// The tokens that the plan estimated.
    pub planned: u64,
    /// The tokens that sessions have reported.
    pub reported: u64,
    /// The `token-factor`, in thousandths, with which `planned` would equal `reported`.
    pub factor: u64,
}

/// Returns the state that is displayed for a task: its phase, or `blocked` or `landing`.
pub(crate) fn shown(
    state: &RunState,
    task: &Task,
    s: &TaskState,
    context: &StatusContext,
) -> &'static str {
    match s.phase {
        Phase::Queued if context.landing.contains(&task.id) => "landing",
        Phase::Todo if !state.all_done(&task.after) => "blocked",
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
pub(crate) fn status<'a>(
    manifest: &'a Manifest,
    state: &'a RunState,
    context: &'a StatusContext,
) -> cli::Status<'a> {
    let mut counts = cli::Counts::default();
    let mut tasks = Vec::with_capacity(state.tasks.len());
    let blocked = blocked(state);
    let outlook = context.outlook.as_ref();
    for task in state.tasks.planned() {
        let Some(s) = state.tasks.get(&task.id) else { continue };
        let shown = shown(state, task, s, context);
        *match shown {
            "blocked" => &mut counts.blocked,
            "landing" => &mut counts.landing,
            _ => count_of(&mut counts, &s.phase),
        } += 1;
        let mut listed = self::task(&manifest.run, task, s, shown);
        listed.output = output(s, context.output.as_deref());
        if let Some(cause) = blocked.get(&task.id) {
            listed.reason = Some(format!("waits for {}", because(state, cause)));
        }
        tasks.push(listed);
    }
    cli::Status {
        v: cli::Version,
        run: &manifest.run,
        job: &manifest.job,
        state: state.summary(),
        driver: context.driver.as_deref(),
        reason: outlook.map_or(state.reason.as_deref(), |outlook| outlook.reason(state)),
        sandbox: context.sandbox.as_deref(),
        base: &manifest.base,
        target: &manifest.target,
        plan: &manifest.plan,
        counts,
        tokens: tokens(state.spend()),
        cost_usd: cost(state.spend()),
        unreported: unreported(state.spend()),
        evaluation: evaluation(state.evaluation_spend()),
        halt: state.halt.map(Halt::as_str),
        measured: context.measured.map(measured),
        closed_until: closed_until(state),
        waits_for: outlook.map(Outlook::waits_for),
        next_action: outlook.map(Outlook::next_action),
        left_ms: run_rate(state, &context.facts).and_then(|rate| rate.left_ms),
        failures: failure_groups(state).into_iter().map(failure_group).collect(),
        tasks,
    }
}

/// Returns the counter of a phase.
fn count_of<'a>(counts: &'a mut cli::Counts, phase: &Phase) -> &'a mut u64 {
    match phase {
        Phase::Todo => &mut counts.todo,
        Phase::Running => &mut counts.running,
        Phase::Verifying => &mut counts.verifying,
        Phase::Reviewing => &mut counts.reviewing,
        Phase::Queued => &mut counts.queued,
        Phase::Done => &mut counts.done,
        Phase::Failed => &mut counts.failed,
        Phase::Skipped => &mut counts.skipped,
    }
}

fn tokens(spend: Spend) -> cli::Tokens {
    spend.known_tokens().map_or_else(cli::Tokens::default, |t| cli::Tokens {
        input: Some(t.input),
        output: Some(t.output),
        cache_read: Some(t.cache_read),
        cache_write: Some(t.cache_write),
    })
}

/// Returns the cost in US dollars, or `None` if no cost is known.
fn cost(spend: Spend) -> Option<f64> {
    spend.known_cost().map(Cost::usd)
}

fn unreported(spend: Spend) -> cli::Unreported {
    cli::Unreported { tokens: spend.sessions_without_tokens, cost: spend.sessions_without_cost }
}

/// Returns the tokens and the cost of evaluators, or `None` if no evaluator was used.
fn evaluation(spend: Spend) -> Option<cli::Evaluation> {
    (spend != Spend::default()).then(|| cli::Evaluation {
        tokens: tokens(spend),
        cost_usd: cost(spend),
        unreported: unreported(spend),
    })
}

fn measured(measured: MeasuredTokens) -> cli::Measured {
    let MeasuredTokens { planned, reported, factor } = measured;
    let token_factor = f64::from(u32::try_from(factor).unwrap_or(u32::MAX)) / 1_000.0;
    cli::Measured { planned, reported, token_factor }
}

fn closed_until(state: &RunState) -> Option<u64> {
    let account = &state.account;
    (account.because.is_some() && account.closed_until.0 > 0).then_some(account.closed_until.0)
}

fn failure_group(group: FailureGroup) -> cli::FailureGroup {
    let tasks = group.tasks.iter().map(TaskId::to_string).collect();
    cli::FailureGroup { cause: group.cause, tasks }
}

/// Returns the file that a task has handed in, as `<commit>:<path>`.
pub(crate) fn output(s: &TaskState, path: Option<&str>) -> Option<String> {
    let handed_in = s.phase == Phase::Done && s.landed.is_none();
    let candidate = s.candidate.as_ref().filter(|_| handed_in)?;
    Some(format!("{}:{}", candidate.commit, path?))
}

/// Returns an approval in the form of `--json`.
pub(crate) fn approval(approval: &Approval) -> cli::Approval<'_> {
    cli::Approval {
        by: &approval.by,
        at: approval.at.0,
        commit: approval.commit.as_str(),
        tree: approval.tree.as_str(),
    }
}

/// Returns a finding in the form of `--json`.
pub(crate) fn finding(finding: &Finding) -> cli::Finding<'_> {
    cli::Finding { attempt: finding.attempt, check: &finding.check, text: &finding.text }
}

/// Returns the result of a check in the form of `--json`.
pub(crate) fn check(result: &CheckResult) -> cli::CheckResult<'_> {
    cli::CheckResult { name: &result.name, passed: result.passed, ms: result.ms }
}

/// Returns a task as `status --json` and `show --json` print it.
pub(crate) fn task<'a>(
    run: &str,
    task: &'a Task,
    s: &'a TaskState,
    shown: &'a str,
) -> cli::Task<'a> {
    cli::Task {
        id: task.id.as_str(),
        state: shown,
        files: &task.files,
        after: task.after.iter().map(TaskId::as_str).collect(),
        attempts: s.attempt,
        branch: RunId::parse(run).map(|run| layout::branch(&run, &task.id)).ok(),
        candidate: s.candidate.as_ref().map(|candidate| candidate.commit.as_str()),
        landed: s.landed.as_ref().map(Oid::as_str),
        output: None,
        reason: s.reason.clone(),
        tokens: if s.spend.sessions_with_tokens > 0 {
            cli::TaskTokens::Reported(tokens(s.spend))
        } else {
            cli::TaskTokens::Unreported {}
        },
        cost_usd: cost(s.spend),
        class: s.class.map(Class::as_str),
        cause: s.cause.as_deref(),
        session: s.session.as_ref().map(|session| session.id.as_str()),
        approved: s.review.approval.as_ref().map(approval),
        evaluation: evaluation(s.evaluation.spend),
        rounds: s.evaluation.rounds,
    }
}
