//! Events of a run's chain as commit messages.

use anyhow::{Context as _, Result};

use super::{VERSION, one_line, results, trailers, version, wire_results};
use crate::domain::account::Account;
use crate::domain::event::{Halt, RunEvent, RunEventKind};
use crate::domain::id::{Oid, TaskId, Timestamp};
use crate::store::wire::WireRun;

fn tell(kind: &RunEventKind) -> (&'static str, String, WireRun) {
    match kind {
        RunEventKind::Created { paused } => {
            ("created", "created".to_owned(), WireRun::Created { paused: *paused })
        }
        RunEventKind::BaseVerified { passed, results } => (
            "base-judged",
            format!("the landing checks {} on the base", if *passed { "pass" } else { "fail" }),
            WireRun::BaseJudged { passed: *passed, results: wire_results(results) },
        ),
        RunEventKind::Paused(reason) => {
            ("paused", format!("paused: {reason}"), WireRun::Paused { reason: reason.clone() })
        }
        RunEventKind::Resumed { done, failed, canary } => (
            "resumed",
            if *canary { "goes on, one task first" } else { "goes on" }.to_owned(),
            WireRun::Resumed { done: *done, failed: *failed, canary: *canary },
        ),
        RunEventKind::Halted { halt, reason } => (
            "halted",
            format!("halted: {reason}"),
            WireRun::Halted { halt: halt.as_str().into(), reason: reason.clone() },
        ),
        RunEventKind::Cancelled => ("cancelled", "cancelled".to_owned(), WireRun::Cancelled),
        RunEventKind::Account(a) | RunEventKind::EvaluatorAccount(a) => {
            let evaluator = matches!(kind, RunEventKind::EvaluatorAccount(_));
            let whose = if evaluator { "the evaluator's account" } else { "the account" };
            let slots = a.slots.map_or_else(String::new, |n| format!(", {n} slots"));
            let standing = match (&a.because, a.proven) {
                (Some(because), false) => format!("closed: {because}"),
                (Some(because), true) => format!("strained: {because}"),
                (None, true) => "good: it has answered".to_owned(),
                (None, false) => "to be tried".to_owned(),
            };
            (
                "account",
                format!("{whose} is {standing}{slots}"),
                WireRun::Account {
                    closed_until: a.closed_until.0,
                    proven: a.proven,
                    strikes: a.strikes,
                    slots: a.slots,
                    because: a.because.as_deref().map(one_line),
                    evaluator,
                },
            )
        }
        RunEventKind::Split { task, parts } => {
            let names: Vec<_> = parts.iter().map(|(id, _)| id.as_str()).collect();
            let parts = parts.iter().map(|(id, files)| (id.to_string(), files.clone()));
            (
                "split",
                format!("{task} is split into {}", names.join(" and ")),
                WireRun::Split { task: task.to_string(), parts: parts.collect() },
            )
        }
        RunEventKind::Replanned { base, counts } => (
            "replanned",
            format!("the plan was made again: {}", counted(*counts)),
            WireRun::Replanned { base: base.as_ref().map(Oid::to_string), counts: *counts },
        ),
        RunEventKind::JobChanged(sections) => (
            "job-changed",
            format!("the job has changed: {}", sections.join(", ")),
            WireRun::JobChanged { sections: sections.clone() },
        ),
    }
}

fn kind(wire: WireRun) -> Result<RunEventKind> {
    Ok(match wire {
        WireRun::Created { paused } => RunEventKind::Created { paused },
        WireRun::BaseJudged { passed, results: r } => {
            RunEventKind::BaseVerified { passed, results: results(r) }
        }
        WireRun::Paused { reason } => RunEventKind::Paused(reason),
        WireRun::Resumed { done, failed, canary } => RunEventKind::Resumed { done, failed, canary },
        WireRun::Halted { halt, reason } => {
            let known = Halt::ALL.into_iter().find(|h| halt == h.as_str());
            let halt = known.with_context(|| format!("unknown kind of halt: {halt}"))?;
            RunEventKind::Halted { halt, reason }
        }
        WireRun::Cancelled => RunEventKind::Cancelled,
        WireRun::Account { closed_until, proven, strikes, slots, because, evaluator } => {
            let closed_until = Timestamp(closed_until);
            let account = Account { closed_until, proven, strikes, slots, because };
            if evaluator {
                RunEventKind::EvaluatorAccount(account)
            } else {
                RunEventKind::Account(account)
            }
        }
        WireRun::Split { task, parts } => {
            let part = |(id, files): (String, Vec<String>)| Ok((TaskId::parse(&id)?, files));
            let parts: Result<Vec<_>> = parts.into_iter().map(part).collect();
            RunEventKind::Split { task: TaskId::parse(&task)?, parts: parts? }
        }
        WireRun::Replanned { base, counts } => {
            RunEventKind::Replanned { base: base.map(|b| Oid::parse(&b)).transpose()?, counts }
        }
        WireRun::JobChanged { sections } => RunEventKind::JobChanged(sections),
    })
}

/// What became of the tasks, in words.
fn counted(counts: [usize; 6]) -> String {
    let words = ["done", "as before", "begun anew", "new", "wanted again", "left out"];
    let some = counts.iter().zip(words).filter(|(n, _)| **n > 0);
    some.map(|(n, word)| format!("{n} {word}")).collect::<Vec<_>>().join(", ")
}

/// A run event as a commit message.
pub fn write_run(run: &str, event: &RunEvent, seq: u64, nonce: &str) -> Result<String> {
    let (word, sentence, wire) = tell(&event.kind);
    let mut ids = String::new();
    if let RunEventKind::BaseVerified { results, .. } = &event.kind {
        ids = results.iter().map(|r| format!("Harness-Verdict: {}\n", r.id)).collect();
    }
    let sentence = one_line(&sentence);
    let data = serde_json::to_string(&wire)?;
    Ok(format!(
        "{run}: {sentence}\n\nHarness-V: {VERSION}\nHarness-Run: {run}\nHarness-Event: {word}\nHarness-Seq: {seq}\n\
         Harness-At: {}\n{ids}Harness-Data: {data}\nHarness-Nonce: {nonce}\n",
        event.at.0
    ))
}

/// The event that a commit of a run's chain records.
pub fn read_run_event(message: &str) -> Result<RunEvent> {
    let map = trailers(message);
    version(&map)?;
    let data = map.get("Harness-Data").context("the commit has no `Harness-Data` trailer")?;
    let at = map.get("Harness-At").and_then(|v| v.parse().ok()).unwrap_or(0);
    Ok(RunEvent { at: Timestamp(at), kind: kind(serde_json::from_str(data)?)? })
}
