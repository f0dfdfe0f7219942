//! Events as lines, numbers as words.

use crate::domain::event::{Ending, RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use crate::domain::id::{TaskId, Timestamp};
use crate::domain::retry::Layer;
use crate::domain::state::{Phase, RunState};

/// An event of a task as a line of the progress; nothing for those that a person need not read. Where a live display
/// shows what is running, its coming and going is no news.
#[must_use]
pub fn task_line(
    task: &TaskId,
    event: &TaskEvent,
    state: &RunState,
    alive: bool,
) -> Option<String> {
    let ended = state.tasks.values().filter(|t| t.phase.ended()).count();
    let attempt = state.tasks.get(task).map_or(0, |t| t.attempt);
    let word = |word: &str, rest: String| {
        Some(format!("[{ended:>4}/{}] {word:<9} {task}{rest}", state.tasks.len()))
    };
    match &event.kind {
        TaskEventKind::Created => None,
        TaskEventKind::Started { attempt, .. } if !alive => word(
            "started",
            if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() },
        ),
        TaskEventKind::Started { .. } => None,
        TaskEventKind::Ended { attempt, ending, .. } => match ending {
            Ending::Exited(0) => None,
            Ending::Exited(_)
            | Ending::Signalled(_)
            | Ending::TimedOut
            | Ending::Idle
            | Ending::Stopped
            | Ending::NotStarted(_)
            | Ending::Lost => word("ended", format!(": attempt {attempt} {ending}")),
        },
        TaskEventKind::Judged { findings: None, .. } => None,
        TaskEventKind::Judged { attempt, findings: Some(findings), landing, .. } => {
            let names: Vec<_> = findings.iter().map(|f| f.check.as_str()).collect();
            let place = if *landing { " on the merged tree" } else { "" };
            word("rejected", format!(": attempt {attempt}{place}, by {}", names.join(", ")))
        }
        TaskEventKind::Conflicted { .. } => {
            word("conflict", format!(": attempt {attempt} does not merge onto the target"))
        }
        TaskEventKind::Retried { layer, because, .. } => match (layer, because) {
            (Layer::Infra, Some(why)) => word("waits", format!(": {why}")),
            (Layer::Infra, None) | (Layer::Feedback | Layer::Interrupted, _) => None,
            (Layer::Manual, _) => word("retry", String::new()),
        },
        TaskEventKind::Landed { commit, .. } => {
            let tries = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            word("landed", format!(" ({}{tries})", commit.short()))
        }
        TaskEventKind::Failed { reason } => word("FAILED", format!(": {reason}")),
        TaskEventKind::Skipped { message } => word("skipped", format!(": {message}")),
    }
}

/// An event of a run as a line.
#[must_use]
pub fn run_line(event: &RunEvent) -> Option<String> {
    match &event.kind {
        RunEventKind::Created { .. } => None,
        RunEventKind::BaseJudged { passed: true, results } if results.is_empty() => None,
        RunEventKind::BaseJudged { passed: true, .. } => {
            Some("the landing checks pass on the base".into())
        }
        RunEventKind::BaseJudged { passed: false, .. } => {
            Some("the landing checks FAIL on the base".into())
        }
        RunEventKind::Paused(why) => Some(format!("starting nothing new: {why}")),
        RunEventKind::Resumed => Some("going on".into()),
        RunEventKind::Halted(why) => Some(format!("halted: {why}")),
        RunEventKind::Cancelled => Some("cancelled".into()),
    }
}

/// Counts in words: `12 done, 4 running, 8 todo`; what is zero is left out.
#[must_use]
pub fn counts(state: &RunState) -> String {
    let order = [
        Phase::Done,
        Phase::Failed,
        Phase::Skipped,
        Phase::Running,
        Phase::Verifying,
        Phase::Queued,
        Phase::Todo,
    ];
    let some: Vec<_> = order
        .iter()
        .map(|p| (state.count(p), p.as_str()))
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    some.join(", ")
}

/// A number of things: `1 task`, `24 tasks`.
#[must_use]
pub fn number(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// A length of time in one or two units: `850 ms`, `42 s`, `3 min 5 s`, `2 h 10 min`.
#[must_use]
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms} ms"),
        1..=99 => format!("{}.{} s", s, ms % 1000 / 100),
        100..=3599 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

/// A moment in local-free, sortable form: UTC.
#[must_use]
pub fn moment(at: Timestamp) -> String {
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
    fn times_are_short() {
        assert_eq!((&*number(1, "task"), &*number(0, "task")), ("1 task", "0 tasks"));
        assert_eq!(duration(0), "0 ms");
        assert_eq!(duration(1_250), "1.2 s");
        assert_eq!(duration(185_000), "3 min 5 s");
        assert_eq!(duration(7_800_000), "2 h 10 min");
        assert_eq!(moment(Timestamp(0)), "1970-01-01 00:00:00");
    }
}
