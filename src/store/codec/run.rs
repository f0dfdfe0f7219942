//! Events of a run chain as commit messages.

use anyhow::Result;

use super::{event_data, one_line, versioned};
use crate::domain::event::{ReplanCounts, RunEvent, RunEventKind};
use crate::wire::VERSION;
use crate::wire::events::WireRunEvent;

/// Returns the name of an event and a sentence for people.
fn describe(kind: &RunEventKind) -> (&'static str, String) {
    match kind {
        RunEventKind::Created { .. } => ("created", "created".to_owned()),
        RunEventKind::BaseVerified { passed, .. } => (
            "base-verified",
            format!("the landing checks {} on the base", if *passed { "pass" } else { "fail" }),
        ),
        RunEventKind::Paused(reason) => ("paused", format!("paused: {reason}")),
        RunEventKind::Resumed { canary, .. } => {
            ("resumed", if *canary { "resumed with one task first" } else { "resumed" }.to_owned())
        }
        RunEventKind::Halted { reason, .. } => ("halted", format!("halted: {reason}")),
        RunEventKind::Cancelled => ("cancelled", "cancelled".to_owned()),
        RunEventKind::Account(account) | RunEventKind::EvaluatorAccount(account) => {
            let evaluator = matches!(kind, RunEventKind::EvaluatorAccount(_));
            let whose = if evaluator { "the evaluator's account" } else { "the account" };
            let slots = account.slots.map_or_else(String::new, |n| format!(", {n} slots"));
            let standing = match (&account.because, account.proven) {
                (Some(because), false) => format!("closed: {because}"),
                (Some(because), true) => format!("strained: {because}"),
                (None, true) => "good: it has answered".to_owned(),
                (None, false) => "to be tried".to_owned(),
            };
            ("account", format!("{whose} is {standing}{slots}"))
        }
        RunEventKind::Split { task, parts } => {
            let names: Vec<_> = parts.iter().map(|(id, _)| id.as_str()).collect();
            ("split", format!("{task} is split into {}", names.join(" and ")))
        }
        RunEventKind::Replanned { counts, .. } => {
            ("replanned", format!("the plan was made again: {}", describe_counts(counts)))
        }
        RunEventKind::JobChanged(sections) => {
            ("job-changed", format!("the job has changed: {}", sections.join(", ")))
        }
    }
}

/// Returns the numbers of tasks as text, grouped by the effect of the new plan on the tasks.
fn describe_counts(counts: &ReplanCounts) -> String {
    let ReplanCounts { done, unchanged, restarted, added, restored, dropped } = *counts;
    let numbers = [
        (done, "done"),
        (unchanged, "as before"),
        (restarted, "begun anew"),
        (added, "new"),
        (restored, "wanted again"),
        (dropped, "left out"),
    ];
    numbers
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Returns the commit message for a run event.
pub fn write_run(run: &str, event: &RunEvent, seq: u64, nonce: &str) -> Result<String> {
    let (word, sentence) = describe(&event.kind);
    let mut vouched = String::new();
    if let RunEventKind::BaseVerified { results, .. } = &event.kind {
        vouched = results.iter().map(|r| format!("Harness-Verdict: {}\n", r.id)).collect();
    }
    let sentence = one_line(&sentence);
    let data = serde_json::to_string(&WireRunEvent::from(&event.kind))?;
    Ok(format!(
        "{run}: {sentence}\n\nHarness-V: {VERSION}\nHarness-Run: {run}\nHarness-Event: {word}\n\
         Harness-Seq: {seq}\nHarness-At: {}\n{vouched}Harness-Data: {data}\nHarness-Nonce: {nonce}\n",
        event.at.0
    ))
}

/// Reads the event that a commit of a run chain records. `chain` names the ref in error messages.
pub fn read_run_event(chain: &str, message: &str) -> Result<RunEvent> {
    let (at, data) = event_data(&versioned(chain, message)?)?;
    let wire: WireRunEvent = serde_json::from_str(data)?;
    Ok(RunEvent { at, kind: wire.try_into()? })
}
