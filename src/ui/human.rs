//! Events, counts, times and costs as text for people.

use crate::domain::account::Account;
use crate::domain::event::{RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use crate::domain::id::{Oid, TaskId, Timestamp};
use crate::domain::machine::{self, failure_groups};
use crate::domain::retry::RetryReason;
use crate::domain::session::{Class, Spend};
use crate::domain::state::{Phase, RunState};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Finding, Verdict};

/// Returns the progress line for a task event, or `None` for an event that a person need not read.
/// `has_display` is true with a live display, which shows the running tasks, so their starts get no
/// line. `ended` is the number of tasks that had ended after the event.
pub(crate) fn task_line(
    id: &TaskId,
    event: &TaskEvent,
    (ended, state): (usize, &RunState),
    has_display: bool,
) -> Option<String> {
    let task = state.tasks.label(id);
    // A task that has landed or handed in did so in its last attempt.
    let attempt = state.tasks.get(id).map_or(0, |t| t.attempt);
    let word = |word: &str, rest: String| {
        Some(format!("[{ended:>4}/{}] {word:<9} {task}{rest}", state.tasks.len()))
    };
    match &event.kind {
        TaskEventKind::Created => None,
        TaskEventKind::Started { attempt, resumed, .. } if !has_display => word(
            if *resumed { "resumed" } else { "started" },
            if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() },
        ),
        TaskEventKind::Started { .. } => None,
        TaskEventKind::Ended { attempt, report: Some(r), .. } if r.class != Class::Ok => {
            let detail = r.detail.as_deref().map_or_else(String::new, |d| format!(": {d}"));
            word("ended", format!(": attempt {attempt} {}{detail}", r.class))
        }
        TaskEventKind::Ended { attempt, termination, .. } => match termination {
            Termination::Exited(0) | Termination::Lingered => None,
            Termination::Exited(_)
            | Termination::Hopeless
            | Termination::Signalled(_)
            | Termination::TimedOut
            | Termination::Idle
            | Termination::Stopped
            | Termination::NotStarted(_)
            | Termination::Lost => word("ended", format!(": attempt {attempt} {termination}")),
        },
        TaskEventKind::Verified { findings: None, .. } => None,
        TaskEventKind::Verified { attempt, findings: Some(findings), landing, .. } => {
            let names: Vec<_> = findings.iter().map(|f| f.check.as_str()).collect();
            let place = if *landing { " on the merged tree" } else { "" };
            let words = findings.last().and_then(Finding::in_words);
            let words = words.map_or_else(String::new, |words| format!(": {words}"));
            word("rejected", format!(": attempt {attempt}{place}, by {}{words}", names.join(", ")))
        }
        TaskEventKind::EvaluationRequested => None,
        TaskEventKind::Evaluated { attempt, verdict, .. } => match verdict {
            Verdict::Passed => None,
            Verdict::Failed(_) => {
                word("rejected", format!(": attempt {attempt}, by the evaluator"))
            }
            Verdict::Errored(why) => {
                word("waits", format!(": no verdict on attempt {attempt}: {why}"))
            }
        },
        TaskEventKind::ReviewRequested => word("to review", String::new()),
        TaskEventKind::Approved(a) => word("approved", format!(" by {}", a.by)),
        TaskEventKind::ChangesRequested { by, .. } => word("sent back", format!(" by {by}")),
        TaskEventKind::Revised { candidate } => {
            word("revised", format!(": {} is the candidate now", candidate.commit.short()))
        }
        TaskEventKind::Conflicted { finding, .. } => {
            let attempt = finding.attempt;
            word("conflict", format!(": attempt {attempt} does not merge onto the target"))
        }
        TaskEventKind::Retried { reason, because, .. } => match (reason, because) {
            (RetryReason::Infra, Some(why)) => word("waits", format!(": {why}")),
            (RetryReason::Resume, Some(why)) => word("resumes", format!(": {why}")),
            (RetryReason::Restart, Some(why)) => word("restarts", format!(": {why}")),
            (RetryReason::Account, Some(why)) => word("waits", format!(": {why}")),
            (
                RetryReason::Infra
                | RetryReason::Resume
                | RetryReason::Restart
                | RetryReason::Account,
                None,
            )
            | (RetryReason::Feedback | RetryReason::Interrupted, _) => None,
            (RetryReason::Manual, _) => word("retry", String::new()),
            (RetryReason::Redispatch, _) => {
                word("redispatch", ": every task has ended, and few have failed".to_owned())
            }
        },
        TaskEventKind::Landed { commit, .. } => {
            let tries = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            if adds_nothing(id, commit, state) {
                word(
                    "done",
                    format!(": nothing to change ({} is the target{tries})", commit.short()),
                )
            } else {
                word("landed", format!(" ({}{tries})", commit.short()))
            }
        }
        TaskEventKind::OutputAccepted => {
            let tries = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
            word("handed in", tries)
        }
        TaskEventKind::Failed { reason, .. } => word("FAILED", format!(": {reason}")),
        TaskEventKind::Skipped { message } => word("skipped", format!(": {message}")),
    }
}

/// Returns true if a task landed without a commit of its own: the target had the content, for
/// example because a finding was not so.
fn adds_nothing(task: &TaskId, commit: &Oid, state: &RunState) -> bool {
    let candidate = state.tasks.get(task).and_then(|t| t.candidate.as_ref());
    let is_base = candidate.is_some_and(|candidate| candidate.base == *commit);
    is_base || state.tasks.iter().any(|(id, t)| id != task && t.landed.as_ref() == Some(commit))
}

/// Returns the line for a run event, or `None` for an event that a person need not read.
pub(crate) fn run_line(event: &RunEvent, state: &RunState) -> Option<String> {
    match &event.kind {
        RunEventKind::Created { .. } => None,
        RunEventKind::BaseVerified { passed: true, results } if results.is_empty() => None,
        RunEventKind::BaseVerified { passed: true, .. } => {
            Some("the landing checks pass on the base".into())
        }
        RunEventKind::BaseVerified { passed: false, .. } => {
            Some("the landing checks FAIL on the base".into())
        }
        RunEventKind::Paused(why) => Some(format!("starting nothing new: {why}")),
        RunEventKind::Resumed { canary: true, .. } => {
            Some("continuing; one task runs first".into())
        }
        RunEventKind::Resumed { .. } => Some("continuing".into()),
        RunEventKind::Halted { reason, .. } => Some(format!("halted: {reason}")),
        RunEventKind::Account(account) => account_line("agent", account, event.at),
        RunEventKind::EvaluatorAccount(account) => account_line("evaluator", account, event.at),
        RunEventKind::Split { task, parts } => {
            let names: Vec<_> = parts.iter().map(|(id, _)| id.as_str()).collect();
            Some(format!("{} is split into {}", state.tasks.label(task), names.join(" and ")))
        }
        RunEventKind::Replanned { .. } => Some("the plan was made again".into()),
        RunEventKind::JobChanged(sections) => {
            Some(format!("the job has changed: {}", sections.join(", ")))
        }
        RunEventKind::Cancelled => Some("cancelled".into()),
    }
}

fn account_line(whom: &str, account: &Account, at: Timestamp) -> Option<String> {
    let because = account.because.as_deref()?;
    let pause = account.closed_until.since_ms(at);
    let slots = account.slots.map_or_else(String::new, |n| format!(", then {n} at a time"));
    (pause > 0).then(|| {
        let until = moment(account.closed_until);
        format!("no {whom} starts for {} (until {until} UTC){slots}: {because}", duration(pause))
    })
}

/// Returns the number of tasks in each state, such as `12 done, 4 running, 8 todo`. States without
/// tasks are left out, and so are tasks that are only history.
pub(crate) fn counts(state: &RunState) -> String {
    let order = [
        Phase::Done,
        Phase::Failed,
        Phase::Skipped,
        Phase::Running,
        Phase::Verifying,
        Phase::Reviewing,
        Phase::Queued,
        Phase::Todo,
    ];
    let blocked = state.count(&Phase::Todo) - state.tasks.startable(false).count();
    let count = |phase: &Phase| match phase {
        Phase::Skipped => state.count(phase) - state.count_replaced(),
        Phase::Todo => state.count(phase) - blocked,
        Phase::Running
        | Phase::Verifying
        | Phase::Reviewing
        | Phase::Queued
        | Phase::Done
        | Phase::Failed => state.count(phase),
    };
    let some: Vec<_> = order
        .iter()
        .map(|phase| (count(phase), phase.as_str()))
        .chain([(blocked, "blocked")])
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    some.join(", ")
}

/// The largest number of tasks that a line names.
const NAMED: usize = 5;

/// Returns lines about the failed tasks, grouped by cause, each group with the reason of its first
/// task.
pub(crate) fn failures(state: &RunState) -> Vec<String> {
    let mut lines = Vec::new();
    for group in failure_groups(state) {
        let tasks = number(group.tasks.len(), "task");
        let more = if group.tasks.len() > NAMED { ", …" } else { "" };
        let named = group.tasks.iter().take(NAMED);
        let names: Vec<_> = named.map(|task| state.tasks.label(task)).collect();
        lines.push(format!("  {tasks} failed alike ({}): {}{more}", group.cause, names.join(", ")));
        let reason = group.tasks.first().and_then(|t| state.tasks.get(t)?.reason.clone());
        lines.extend(reason.map(|reason| format!("    {reason}")));
    }
    lines
}

/// Returns a line for each failed or skipped task that blocks others, with the number of blocked
/// tasks.
pub(crate) fn blocked(state: &RunState) -> Vec<String> {
    let mut by: std::collections::BTreeMap<TaskId, usize> = Default::default();
    for cause in machine::blocked(state).into_values() {
        *by.entry(cause).or_default() += 1;
    }
    let line = |(cause, tasks): (TaskId, usize)| {
        let skipped = state.tasks.get(&cause).is_some_and(|s| s.phase == Phase::Skipped);
        let outcome = if skipped { "was skipped" } else { "failed" };
        let (tasks, cause) = (number(tasks, "task"), state.tasks.label(&cause));
        format!("blocked: {tasks} by `{cause}`, which {outcome}")
    };
    by.into_iter().map(line).collect()
}

/// Returns the id of a failed or skipped task, with the reason.
pub(crate) fn because(state: &RunState, cause: &TaskId) -> String {
    let s = state.tasks.get(cause);
    let what = if s.is_some_and(|s| s.phase == Phase::Skipped) { "was skipped" } else { "failed" };
    let reason = s.and_then(|s| s.reason.as_deref()).map_or_else(String::new, |r| format!(": {r}"));
    format!("`{cause}`, which {what}{reason}")
}

/// Returns cost and tokens as text.
pub(crate) fn spend(spend: Spend) -> String {
    let sessions = spend.sessions_with_tokens + spend.sessions_without_tokens;
    if sessions == 0 {
        return "nothing yet".into();
    }
    let mut parts = Vec::new();
    match spend.known_cost() {
        Some(cost) => parts.push(cost.to_string()),
        None => parts.push("unknown".to_owned()),
    }
    match spend.known_tokens() {
        None => parts.push("the agent reports no tokens".to_owned()),
        Some(t) => parts.push(format!(
            "tokens: {} in, {} out, {} read from the cache, {} written to it",
            t.input, t.output, t.cache_read, t.cache_write
        )),
    }
    let silent = spend.sessions_without_tokens.max(spend.sessions_without_cost);
    if silent > 0 && silent < sessions {
        parts.push(format!("without {} that reported nothing", number(silent as usize, "session")));
    }
    parts.join("; ")
}

/// Returns a count with its noun: `1 task`, `24 tasks`.
pub(crate) fn number(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Returns a duration in one or two units: `850 ms`, `42.0 s`, `3 min 5 s`, `2 h 10 min`.
pub(crate) fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms} ms"),
        1..=99 => format!("{}.{} s", s, ms % 1000 / 100),
        100..=3599 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

/// Returns a time in UTC, in sortable form.
pub(crate) fn moment(at: Timestamp) -> String {
    i64::try_from(at.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "?".into(), |t| t.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::{duration, moment, number};
    use crate::domain::id::Timestamp;

    #[test]
    fn counts_and_times_are_short() {
        assert_eq!((&*number(1, "task"), &*number(0, "task")), ("1 task", "0 tasks"));
        assert_eq!(duration(0), "0 ms");
        assert_eq!(duration(1_250), "1.2 s");
        assert_eq!(duration(185_000), "3 min 5 s");
        assert_eq!(duration(7_800_000), "2 h 10 min");
        assert_eq!(moment(Timestamp(0)), "1970-01-01 00:00:00");
    }
}
