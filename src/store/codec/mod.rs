//! Events and states as commit messages.
//!
//! A message has a sentence for people, then trailers. The trailers of a task chain's tip hold the
//! whole state of the task, so that loading a run reads one commit for each task. `Harness-Data`
//! holds the event, so that tests can fold the events of a chain again and compare the result with
//! the stored state.

mod run;
mod session;
mod trailers;

use anyhow::{Context, Result};

use crate::domain::evaluation::Evaluation;
use crate::domain::event::{TaskEvent, TaskEventKind};
use crate::domain::id::{Oid, TaskId, Timestamp};
use crate::domain::review::{Approval, Review};
use crate::domain::session::Class;
use crate::domain::state::{Phase, TaskState};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Candidate, Finding, Verdict};
use crate::wire::events::WireTaskEvent;
pub use crate::wire::one_line;
use crate::wire::{VERSION, check_version};

pub use run::{read_run_event, write_run};
pub use trailers::Trailers;

/// Returns the trailers of a message: the `Key: value` lines of the last paragraph.
pub fn trailers(message: &str) -> Trailers<'_> {
    Trailers::of(message)
}

/// Returns the names of the failed checks.
fn failed_checks(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("`{}`", f.check)).collect::<Vec<_>>().join(", ")
}

/// Returns the name of an event and a sentence for people.
fn describe(kind: &TaskEventKind) -> (&'static str, String) {
    match kind {
        TaskEventKind::Created => ("created", "created".to_owned()),
        TaskEventKind::Started { attempt, base, worktree, resumed, work, .. } => (
            "started",
            match work {
                None if *resumed => format!("attempt {attempt} resumes its session in {worktree}"),
                None => format!("attempt {attempt} started from {} in {worktree}", base.short()),
                Some(work) => format!(
                    "attempt {attempt} started from the last candidate on {}, as {}, in {worktree}",
                    base.short(),
                    work.short()
                ),
            },
        ),
        TaskEventKind::Ended { attempt, termination, candidate, report } => {
            let class = report.as_ref().map(|r| r.class).filter(|c| *c != Class::Ok);
            let class = class.map_or_else(String::new, |class| format!(" ({class})"));
            let saved = match candidate {
                Some(c) => format!("it left {}", c.commit.short()),
                None => "nothing was saved".to_owned(),
            };
            ("ended", format!("attempt {attempt} {termination}{class}, {saved}"))
        }
        TaskEventKind::Verified { attempt, findings, landing, .. } => {
            let subject = if *landing { "as it would land" } else { "as it is" };
            let sentence = match findings {
                None => format!("attempt {attempt} accepted, {subject}"),
                Some(findings) => {
                    format!("attempt {attempt} rejected, {subject}: {}", failed_checks(findings))
                }
            };
            ("verified", sentence)
        }
        TaskEventKind::EvaluationRequested => {
            ("evaluation-requested", "presented to the evaluator".to_owned())
        }
        TaskEventKind::Evaluated { attempt, verdict, .. } => (
            "evaluated",
            match verdict {
                Verdict::Passed => format!("the evaluator accepted attempt {attempt}"),
                Verdict::Failed(_) => format!("the evaluator rejected attempt {attempt}"),
                Verdict::Errored(why) => {
                    format!("the evaluation of attempt {attempt} failed: {why}")
                }
            },
        ),
        TaskEventKind::ReviewRequested => ("review-requested", "waits for a review".to_owned()),
        TaskEventKind::Approved(approval) => {
            ("approved", format!("{} approved by {}", approval.commit.short(), approval.by))
        }
        TaskEventKind::ChangesRequested { by, .. } => {
            ("changes-requested", format!("{by} requested changes"))
        }
        TaskEventKind::Revised { candidate } => (
            "revised",
            format!("the branch moved to {}, the new candidate", candidate.commit.short()),
        ),
        TaskEventKind::Conflicted { onto, .. } => {
            ("conflicted", format!("conflicts with {}", onto.short()))
        }
        TaskEventKind::Retried { reason, because, .. } => (
            "retried",
            match because {
                Some(why) => format!("to be tried again ({reason}): {why}"),
                None => format!("to be tried again ({reason})"),
            },
        ),
        TaskEventKind::Landed { commit, .. } => ("landed", format!("landed as {}", commit.short())),
        TaskEventKind::OutputAccepted => ("output-accepted", "handed in its output".to_owned()),
        TaskEventKind::Failed { reason, .. } => ("failed", format!("failed: {reason}")),
        TaskEventKind::Skipped { message } => ("skipped", format!("skipped: {message}")),
    }
}

/// Returns the commit message for a task event and the state after the event.
pub fn write_task(
    run: &str,
    task: &TaskId,
    event: &TaskEvent,
    after: &TaskState,
    nonce: &str,
) -> Result<String> {
    use std::fmt::Write as _;
    let (word, sentence) = describe(&event.kind);
    let data = serde_json::to_string(&WireTaskEvent::from(&event.kind))?;
    let mut text = format!("{task}: {}\n\n", one_line(&sentence));
    let mut line = |key: &str, value: &str| {
        // Writing to a String cannot fail.
        writeln!(text, "Harness-{key}: {value}").ok();
    };
    let termination = after.termination.as_ref().map(ToString::to_string);
    let approval = after.review.approval.as_ref();
    line("V", &VERSION.to_string());
    line("Run", run);
    line("Task", task.as_str());
    line("Event", word);
    line("State", after.phase.as_str());
    line("Seq", &after.seq.to_string());
    line("At", &after.at.0.to_string());
    line("Attempt", &after.attempt.to_string());
    let optional = [
        ("Worktree", after.worktree.as_deref()),
        ("Owner", after.owner.as_deref()),
        ("Base", after.base.as_ref().map(Oid::as_str)),
        ("Termination", termination.as_deref()),
        ("Work", after.candidate.as_ref().map(|c| c.commit.as_str())),
        ("Work-Tree", after.candidate.as_ref().map(|c| c.tree.as_str())),
        ("Work-Base", after.candidate.as_ref().map(|c| c.base.as_str())),
        ("Landed", after.landed.as_ref().map(Oid::as_str)),
        ("Reason", after.reason.as_deref()),
        ("Cause", after.cause.as_deref()),
        ("Class", after.class.map(Class::as_str)),
        ("Answered", after.answered.then_some("yes")),
        ("Silent-Ending", after.silent_ending.as_deref()),
        ("Evaluator-Answered", after.evaluation.answered.then_some("yes")),
        ("Evaluating", after.evaluation.waiting.then_some("yes")),
        ("Objection", after.evaluation.objection.as_deref()),
        ("Revised", after.review.revised.then_some("yes")),
        ("Approved", approval.map(|a| a.commit.as_str())),
        ("Approved-Tree", approval.map(|a| a.tree.as_str())),
        ("Approved-By", approval.map(|a| a.by.as_str())),
    ];
    for (key, value) in optional {
        if let Some(value) = value.map(one_line).filter(|v| !v.is_empty()) {
            line(key, &value);
        }
    }
    let counts = [
        ("Rejections", u64::from(after.rejections)),
        ("Conflicts", u64::from(after.conflicts)),
        ("Faults", u64::from(after.faults)),
        ("Resumes", u64::from(after.resumes)),
        ("Redispatches", u64::from(after.redispatches)),
        ("Rounds", u64::from(after.evaluation.rounds)),
        ("Approved-At", approval.map_or(0, |a| a.at.0)),
        ("Not-Before", after.not_before.0),
    ];
    for (key, value) in counts.into_iter().filter(|(_, v)| *v > 0) {
        line(key, &value.to_string());
    }
    for (key, value) in session::write(after) {
        line(key, &value);
    }
    for id in vouched(&event.kind) {
        line("Verdict", id);
    }
    line("Data", &data);
    line("Nonce", nonce);
    Ok(text)
}

/// Returns the ids of the verdicts for which the chain vouches with this event.
fn vouched(kind: &TaskEventKind) -> Vec<&str> {
    kind.results().iter().map(|result| result.id.as_str()).collect()
}

/// Returns the trailers of a commit of `chain`, after a check of the format version.
fn versioned<'a>(chain: &str, message: &'a str) -> Result<Trailers<'a>> {
    let trailers = trailers(message);
    check_version(chain, trailers.get("Harness-V").copied())?;
    Ok(trailers)
}

/// Returns the time and the data of the event that a commit records.
fn event_data<'a>(trailers: &Trailers<'a>) -> Result<(Timestamp, &'a str)> {
    let data = trailers.get("Harness-Data").context("the commit has no `Harness-Data` trailer")?;
    let at = trailers.get("Harness-At").and_then(|at| at.parse().ok()).unwrap_or(0);
    Ok((Timestamp(at), data))
}

fn termination(text: &str) -> Result<Termination> {
    Termination::parse(text).with_context(|| format!("unknown termination: {text:?}"))
}

fn phase(text: &str) -> Result<Phase> {
    Phase::parse(text).with_context(|| format!("unknown state: {text:?}"))
}

/// Reads the state that the tip of a task chain holds. `chain` names the ref in error messages.
pub fn read_state(chain: &str, message: &str) -> Result<TaskState> {
    let map = versioned(chain, message)?;
    let text = |key: &str| map.get(key).map(|v| (*v).to_owned());
    let number = |key: &str| -> Result<u64> {
        map.get(key).map_or(Ok(0), |v| v.parse().with_context(|| format!("bad {key}: {v:?}")))
    };
    let id =
        |key: &str| -> Result<Option<Oid>> { Ok(map.get(key).map(|v| Oid::parse(v)).transpose()?) };
    let small = |key: &str| -> Result<u32> { Ok(u32::try_from(number(key)?)?) };
    let candidate = match (id("Harness-Work")?, id("Harness-Work-Tree")?, id("Harness-Work-Base")?)
    {
        (Some(commit), Some(tree), Some(base)) => Some(Candidate { commit, tree, base }),
        _ => None,
    };
    Ok(TaskState {
        phase: phase(map.get("Harness-State").copied().unwrap_or(""))?,
        seq: number("Harness-Seq")?,
        attempt: small("Harness-Attempt")?,
        worktree: text("Harness-Worktree"),
        owner: text("Harness-Owner"),
        base: id("Harness-Base")?,
        termination: map.get("Harness-Termination").map(|text| termination(text)).transpose()?,
        candidate,
        rejections: small("Harness-Rejections")?,
        conflicts: small("Harness-Conflicts")?,
        faults: small("Harness-Faults")?,
        not_before: Timestamp(number("Harness-Not-Before")?),
        evaluation: Evaluation {
            waiting: map.has("Harness-Evaluating"),
            answered: map.has("Harness-Evaluator-Answered"),
            rounds: small("Harness-Rounds")?,
            objection: text("Harness-Objection"),
            spend: session::read_spend(&map, "Harness-Evaluation-Spend")?,
        },
        review: Review {
            approval: match (id("Harness-Approved")?, id("Harness-Approved-Tree")?) {
                (Some(commit), Some(tree)) => Some(Approval {
                    by: text("Harness-Approved-By").unwrap_or_default(),
                    at: Timestamp(number("Harness-Approved-At")?),
                    commit,
                    tree,
                }),
                (_, _) => None,
            },
            revised: map.has("Harness-Revised"),
        },
        landed: id("Harness-Landed")?,
        reason: text("Harness-Reason"),
        cause: text("Harness-Cause"),
        class: map.get("Harness-Class").and_then(|word| Class::parse(word)),
        answered: map.has("Harness-Answered"),
        silent_ending: text("Harness-Silent-Ending"),
        session: session::read(&map)?,
        spend: session::read_spend(&map, "Harness-Spend")?,
        written_off: session::read_usage(&map, "Harness-Written-Off")?,
        resumes: small("Harness-Resumes")?,
        redispatches: small("Harness-Redispatches")?,
        at: Timestamp(number("Harness-At")?),
    })
}

/// Reads the event that a commit of a task chain records. `chain` names the ref in error messages.
pub fn read_task_event(chain: &str, message: &str) -> Result<TaskEvent> {
    let (at, data) = event_data(&versioned(chain, message)?)?;
    let wire: WireTaskEvent = serde_json::from_str(data)?;
    Ok(TaskEvent { at, kind: wire.try_into()? })
}
