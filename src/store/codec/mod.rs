//! Events and state as commit messages: the only wire types of the chains.
//!
//! A message is a sentence for people, then trailers. The trailers of the tip say all of a task's state, so reading a
//! run costs one commit a task; `Harness-Data` holds the event itself, so that a chain can be folded again and compared
//! (which the tests do).

mod run;
mod session;
mod trailers;

use anyhow::{Context, Result, bail};

use super::wire::{WireOpinion, WireReading, WireResult, WireTask};
use crate::domain::evaluation::Evaluation;
use crate::domain::event::{TaskEvent, TaskEventKind};
use crate::domain::id::{Oid, TaskId, Timestamp};
use crate::domain::retry::RetryReason;
use crate::domain::review::{Approval, Review};
use crate::domain::session::{Class, SessionReport};
use crate::domain::state::{Phase, TaskState};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Candidate, CheckResult, Finding, Verdict};

pub use run::{read_run_event, write_run};
pub use trailers::Trailers;

/// The version of the format. A change of meaning is a new number, before the first new value is written.
pub const VERSION: u32 = 1;

/// The longest text that goes into a trailer.
const TRAILER_LIMIT: usize = 1_000;

/// Text on one line, without control characters, cut to what a trailer may hold.
pub fn one_line(text: &str) -> String {
    let words = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let mut line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > TRAILER_LIMIT {
        let end = (0..=TRAILER_LIMIT).rev().find(|i| line.is_char_boundary(*i)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    line
}

/// The trailers of a message: the last paragraph's `Key: value` lines.
pub fn trailers(message: &str) -> Trailers<'_> {
    Trailers::of(message)
}

fn wire_results(results: &[CheckResult]) -> Vec<WireResult> {
    results.iter().map(WireResult::from).collect()
}

fn results(wire: Vec<WireResult>) -> Vec<CheckResult> {
    wire.into_iter().map(CheckResult::from).collect()
}

/// The event's word, its sentence and its data.
struct Told {
    word: &'static str,
    sentence: String,
    data: String,
}

fn names(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("`{}`", f.check)).collect::<Vec<_>>().join(", ")
}

fn tell_task(kind: &TaskEventKind) -> Result<Told> {
    let (word, sentence, wire) = match kind {
        TaskEventKind::Created => ("created", "created".to_owned(), WireTask::Created),
        TaskEventKind::Started { attempt, base, worktree, owner, session, resumed } => (
            "started",
            if *resumed {
                format!("attempt {attempt} goes on with the session in {worktree}")
            } else {
                format!("attempt {attempt} started from {} in {worktree}", base.short())
            },
            WireTask::Started {
                attempt: *attempt,
                base: base.to_string(),
                worktree: worktree.clone(),
                owner: owner.clone(),
                session: session.clone(),
                resumed: *resumed,
            },
        ),
        TaskEventKind::Ended { attempt, termination, candidate, report } => (
            "ended",
            {
                let class = report.as_ref().map(|r| r.class).filter(|c| *c != Class::Ok);
                let class = class.map_or_else(String::new, |class| format!(" ({class})"));
                match candidate {
                    Some(c) => {
                        format!(
                            "attempt {attempt} {termination}{class}, it left {}",
                            c.commit.short()
                        )
                    }
                    None => format!("attempt {attempt} {termination}{class}, nothing was saved"),
                }
            },
            WireTask::Ended {
                attempt: *attempt,
                ending: termination.into(),
                candidate: candidate.as_ref().map(three),
                reading: report.as_deref().map(WireReading::from),
            },
        ),
        TaskEventKind::Verified { attempt, tree, findings, results, landing } => {
            let what = if *landing { "as it would land" } else { "as it is" };
            let sentence = match findings {
                None => format!("attempt {attempt} accepted, {what}"),
                Some(f) => format!("attempt {attempt} rejected, {what}: {}", names(f)),
            };
            let wire = WireTask::Judged {
                attempt: *attempt,
                tree: tree.to_string(),
                accepted: findings.is_none(),
                results: wire_results(results),
                landing: *landing,
            };
            ("judged", sentence, wire)
        }
        TaskEventKind::EvaluationRequested => {
            ("presented", "presented to the evaluator".to_owned(), WireTask::Presented)
        }
        TaskEventKind::Evaluated { attempt, tree, verdict, report } => {
            let sentence = match verdict {
                Verdict::Passed => format!("attempt {attempt} convinced the evaluator"),
                Verdict::Failed(_) => {
                    format!("attempt {attempt} did not convince the evaluator")
                }
                Verdict::Errored(why) => format!("no opinion of attempt {attempt}: {why}"),
            };
            let wire = WireTask::Evaluated {
                attempt: *attempt,
                tree: tree.to_string(),
                opinion: WireOpinion::from(verdict),
                reading: report.as_deref().map(WireReading::from),
            };
            ("evaluated", sentence, wire)
        }
        TaskEventKind::ReviewRequested => {
            ("review-asked", "waits for a review".to_owned(), WireTask::ReviewAsked)
        }
        TaskEventKind::Approved(a) => (
            "approved",
            format!("{} approved by {}", a.commit.short(), a.by),
            WireTask::Approved {
                by: a.by.clone(),
                at: a.at.0,
                commit: a.commit.to_string(),
                tree: a.tree.to_string(),
            },
        ),
        TaskEventKind::ChangesRequested { by, .. } => {
            ("sent-back", format!("sent back by {by}"), WireTask::SentBack { by: by.clone() })
        }
        TaskEventKind::Revised { candidate } => (
            "revised",
            format!(
                "the branch was moved to {}, which is the candidate now",
                candidate.commit.short()
            ),
            WireTask::Revised { candidate: three(candidate) },
        ),
        TaskEventKind::Conflicted { onto, .. } => (
            "conflicted",
            format!("conflicts with {}", onto.short()),
            WireTask::Conflicted { onto: onto.to_string() },
        ),
        TaskEventKind::Retried { reason, not_before, because } => (
            "retried",
            match because {
                Some(why) => format!("to be tried again ({reason}): {why}"),
                None => format!("to be tried again ({reason})"),
            },
            WireTask::Retried {
                layer: reason.to_string(),
                not_before: not_before.0,
                because: because.clone(),
            },
        ),
        TaskEventKind::Landed { commit, results } => (
            "landed",
            format!("landed as {}", commit.short()),
            WireTask::Landed { commit: commit.to_string(), results: wire_results(results) },
        ),
        TaskEventKind::OutputAccepted => {
            ("handed-in", "handed in what was asked for".to_owned(), WireTask::HandedIn)
        }
        TaskEventKind::Failed { reason, cause } => (
            "failed",
            format!("failed: {reason}"),
            WireTask::Failed { reason: reason.clone(), cause: cause.clone() },
        ),
        TaskEventKind::Skipped { message } => {
            let wire = WireTask::Skipped { message: message.clone() };
            ("skipped", format!("skipped: {message}"), wire)
        }
    };
    Ok(Told { word, sentence: one_line(&sentence), data: serde_json::to_string(&wire)? })
}

fn oid(text: &str) -> Result<Oid> {
    Ok(Oid::parse(text)?)
}

fn three(candidate: &Candidate) -> [String; 3] {
    let Candidate { commit, tree, base } = candidate;
    [commit, tree, base].map(ToString::to_string)
}

fn of_three([commit, tree, base]: [String; 3]) -> Result<Candidate> {
    Ok(Candidate { commit: oid(&commit)?, tree: oid(&tree)?, base: oid(&base)? })
}

fn retry_reason(text: &str) -> Result<RetryReason> {
    RetryReason::ALL
        .into_iter()
        .find(|l| l.as_str() == text)
        .with_context(|| format!("unknown retry layer: {text:?}"))
}

fn task_kind(wire: WireTask) -> Result<TaskEventKind> {
    Ok(match wire {
        WireTask::Created => TaskEventKind::Created,
        WireTask::Started { attempt, base, worktree, owner, session, resumed } => {
            TaskEventKind::Started { attempt, base: oid(&base)?, worktree, owner, session, resumed }
        }
        WireTask::Ended { attempt, ending, candidate, reading } => TaskEventKind::Ended {
            attempt,
            termination: ending.into(),
            report: reading.map(|r| Box::new(SessionReport::from(r))),
            candidate: candidate.map(of_three).transpose()?,
        },
        WireTask::Judged { attempt, tree, accepted, results: r, landing } => {
            TaskEventKind::Verified {
                attempt,
                tree: oid(&tree)?,
                // The texts live in the chain's tree; the fold needs only that there were some.
                findings: (!accepted).then(Vec::new),
                results: results(r),
                landing,
            }
        }
        WireTask::Presented => TaskEventKind::EvaluationRequested,
        WireTask::Evaluated { attempt, tree, opinion, reading } => TaskEventKind::Evaluated {
            attempt,
            tree: oid(&tree)?,
            verdict: opinion.into(),
            report: reading.map(|r| Box::new(SessionReport::from(r))),
        },
        WireTask::ReviewAsked => TaskEventKind::ReviewRequested,
        WireTask::Approved { by, at, commit, tree } => TaskEventKind::Approved(Approval {
            by,
            at: Timestamp(at),
            commit: oid(&commit)?,
            tree: oid(&tree)?,
        }),
        WireTask::SentBack { by } => {
            let finding = Finding { attempt: 0, check: "review".into(), text: String::new() };
            TaskEventKind::ChangesRequested { by, finding }
        }
        WireTask::Revised { candidate } => {
            TaskEventKind::Revised { candidate: of_three(candidate)? }
        }
        WireTask::Conflicted { onto } => TaskEventKind::Conflicted {
            onto: oid(&onto)?,
            finding: Finding { attempt: 0, check: "merge".into(), text: String::new() },
        },
        WireTask::Retried { layer: l, not_before, because } => TaskEventKind::Retried {
            reason: retry_reason(&l)?,
            not_before: Timestamp(not_before),
            because,
        },
        WireTask::HandedIn => TaskEventKind::OutputAccepted,
        WireTask::Landed { commit, results: r } => {
            TaskEventKind::Landed { commit: oid(&commit)?, results: results(r) }
        }
        WireTask::Failed { reason, cause } => TaskEventKind::Failed { reason, cause },
        WireTask::Skipped { message } => TaskEventKind::Skipped { message },
    })
}

/// A task event with the state after it, as a commit message.
pub fn write_task(
    run: &str,
    task: &TaskId,
    event: &TaskEvent,
    after: &TaskState,
    nonce: &str,
) -> Result<String> {
    use std::fmt::Write as _;
    let told = tell_task(&event.kind)?;
    let mut text = format!("{task}: {}\n\n", told.sentence);
    let mut line = |key: &str, value: &str| {
        // Writing to a String cannot fail.
        writeln!(text, "Harness-{key}: {value}").ok();
    };
    let approval = after.review.approval.as_ref();
    line("V", &VERSION.to_string());
    line("Run", run);
    line("Task", task.as_str());
    line("Event", told.word);
    line("State", after.phase.as_str());
    line("Seq", &after.seq.to_string());
    line("At", &after.at.0.to_string());
    line("Attempt", &after.attempt.to_string());
    let termination = after.termination.as_ref().map(ToString::to_string);
    let optional = [
        ("Place", after.worktree.as_deref()),
        ("Owner", after.owner.as_deref()),
        ("Base", after.base.as_ref().map(Oid::as_str)),
        ("Ending", termination.as_deref()),
        ("Work", after.candidate.as_ref().map(|c| c.commit.as_str())),
        ("Work-Tree", after.candidate.as_ref().map(|c| c.tree.as_str())),
        ("Work-Base", after.candidate.as_ref().map(|c| c.base.as_str())),
        ("Landed", after.landed.as_ref().map(Oid::as_str)),
        ("Reason", after.reason.as_deref()),
        ("Cause", after.cause.as_deref()),
        ("Class", after.class.map(Class::as_str)),
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
    line("Data", &told.data);
    line("Nonce", nonce);
    Ok(text)
}

fn vouched(kind: &TaskEventKind) -> Vec<&str> {
    match kind {
        TaskEventKind::Verified { results, .. } | TaskEventKind::Landed { results, .. } => {
            results.iter().map(|r| r.id.as_str()).collect()
        }
        TaskEventKind::Created
        | TaskEventKind::Started { .. }
        | TaskEventKind::Ended { .. }
        | TaskEventKind::EvaluationRequested
        | TaskEventKind::Evaluated { .. }
        | TaskEventKind::ReviewRequested
        | TaskEventKind::Approved(_)
        | TaskEventKind::ChangesRequested { .. }
        | TaskEventKind::Revised { .. }
        | TaskEventKind::Conflicted { .. }
        | TaskEventKind::Retried { .. }
        | TaskEventKind::OutputAccepted
        | TaskEventKind::Failed { .. }
        | TaskEventKind::Skipped { .. } => Vec::new(),
    }
}

fn version(map: &Trailers<'_>) -> Result<()> {
    let found = map.get("Harness-V").copied().unwrap_or("none");
    if found != VERSION.to_string() {
        bail!(
            "the state has format version {found}, this program reads version {VERSION}: use a newer `git-harness`"
        );
    }
    Ok(())
}

fn phase(text: &str) -> Result<Phase> {
    Phase::parse(text).with_context(|| format!("unknown state: {text:?}"))
}

fn termination(text: &str) -> Result<Termination> {
    Termination::parse(text).with_context(|| format!("unknown termination: {text:?}"))
}

/// The state that a task's tip says.
pub fn read_state(message: &str) -> Result<TaskState> {
    let map = trailers(message);
    version(&map)?;
    let text = |key: &str| map.get(key).map(|v| (*v).to_owned());
    let number = |key: &str| -> Result<u64> {
        map.get(key).map_or(Ok(0), |v| v.parse().with_context(|| format!("bad {key}: {v:?}")))
    };
    let id = |key: &str| -> Result<Option<Oid>> { map.get(key).map(|v| oid(v)).transpose() };
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
        worktree: text("Harness-Place"),
        owner: text("Harness-Owner"),
        base: id("Harness-Base")?,
        termination: map.get("Harness-Ending").map(|text| termination(text)).transpose()?,
        candidate,
        rejections: small("Harness-Rejections")?,
        conflicts: small("Harness-Conflicts")?,
        faults: small("Harness-Faults")?,
        not_before: Timestamp(number("Harness-Not-Before")?),
        evaluation: Evaluation {
            waiting: map.has("Harness-Evaluating"),
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
        session: session::read(&map)?,
        spend: session::read_spend(&map, "Harness-Spend")?,
        written_off: session::read_excused(&map)?,
        resumes: small("Harness-Resumes")?,
        redispatches: small("Harness-Redispatches")?,
        at: Timestamp(number("Harness-At")?),
    })
}

/// The event that a commit of a task's chain records.
pub fn read_task_event(message: &str) -> Result<TaskEvent> {
    let map = trailers(message);
    version(&map)?;
    let data = map.get("Harness-Data").context("the commit has no `Harness-Data` trailer")?;
    let at = map.get("Harness-At").and_then(|v| v.parse().ok()).unwrap_or(0);
    Ok(TaskEvent { at: Timestamp(at), kind: task_kind(serde_json::from_str(data)?)? })
}
