//! Events of run chains and task chains, as the trailer `Harness-Data` holds them.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::facts::{WireCandidate, WireEvaluation, WireResult, WireSessionReport, WireTermination};
use super::one_line;
use crate::domain::account::{Account, AgentName};
use crate::domain::event::{Halt, ReplanCounts, RunEventKind, TaskEventKind};
use crate::domain::id::{Oid, TaskId, Timestamp};
use crate::domain::retry::RetryReason;
use crate::domain::review::Approval;
use crate::domain::session::SessionReport;
use crate::domain::verdict::{Candidate, CheckResult, Finding};

/// An event of a task chain.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum WireTaskEvent {
    Created,
    Started {
        attempt: u32,
        base: String,
        worktree: String,
        owner: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<String>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        resumed: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        work: Option<String>,
    },
    Ended {
        attempt: u32,
        termination: WireTermination,
        candidate: Option<WireCandidate>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<WireSessionReport>,
    },
    Verified {
        attempt: u32,
        tree: String,
        passed: bool,
        results: Vec<WireResult>,
        landing: bool,
    },
    EvaluationRequested,
    Evaluated {
        attempt: u32,
        tree: String,
        verdict: WireEvaluation,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<WireSessionReport>,
    },
    ReviewRequested,
    Approved {
        by: String,
        at: u64,
        commit: String,
        tree: String,
    },
    ChangesRequested {
        by: String,
    },
    Revised {
        candidate: WireCandidate,
    },
    Conflicted {
        onto: String,
    },
    Retried {
        reason: String,
        not_before: u64,
        because: Option<String>,
    },
    Landed {
        commit: String,
        results: Vec<WireResult>,
    },
    OutputAccepted,
    Failed {
        reason: String,
        #[serde(default)]
        cause: String,
    },
    Skipped {
        message: String,
    },
}

/// An event of a run chain.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum WireRunEvent {
    Created {
        paused: bool,
    },
    BaseVerified {
        passed: bool,
        results: Vec<WireResult>,
    },
    Paused {
        reason: String,
    },
    Resumed {
        #[serde(default)]
        done: u32,
        #[serde(default)]
        failed: u32,
        #[serde(default)]
        canary: bool,
    },
    Halted {
        halt: String,
        reason: String,
    },
    Account {
        closed_until: u64,
        proven: bool,
        strikes: u32,
        slots: Option<usize>,
        because: Option<String>,
        /// The preset, and the model after a slash, whose limit closed the account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        closed_for: Option<String>,
        /// True for the evaluator's account, if the evaluator has an account of its own.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        evaluator: bool,
    },
    Split {
        task: String,
        parts: Vec<WirePart>,
    },
    Replanned {
        base: Option<String>,
        counts: WireReplanCounts,
    },
    JobChanged {
        sections: Vec<String>,
    },
    Cancelled,
}

/// A part of a task that was split.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct WirePart {
    /// The part's task id.
    pub id: String,
    /// The part's files.
    pub files: Vec<String>,
}

/// The numbers of tasks, grouped by the effect of a new plan on the tasks.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct WireReplanCounts {
    /// Tasks that are done.
    pub done: usize,
    /// Tasks that continue as before.
    pub unchanged: usize,
    /// Tasks that start again.
    pub restarted: usize,
    /// Tasks that the old plan did not have.
    pub added: usize,
    /// Tasks that were left out and are in the plan again.
    pub restored: usize,
    /// Tasks that the new plan does not have.
    pub dropped: usize,
}

impl From<ReplanCounts> for WireReplanCounts {
    fn from(counts: ReplanCounts) -> Self {
        let ReplanCounts { done, unchanged, restarted, added, restored, dropped } = counts;
        Self { done, unchanged, restarted, added, restored, dropped }
    }
}

impl From<WireReplanCounts> for ReplanCounts {
    fn from(wire: WireReplanCounts) -> Self {
        let WireReplanCounts { done, unchanged, restarted, added, restored, dropped } = wire;
        Self { done, unchanged, restarted, added, restored, dropped }
    }
}

fn wire_results(results: &[CheckResult]) -> Vec<WireResult> {
    results.iter().map(WireResult::from).collect()
}

fn results(wire: Vec<WireResult>) -> Vec<CheckResult> {
    wire.into_iter().map(CheckResult::from).collect()
}

/// Returns a finding without its text. The texts are in the chain's tree, and the fold does not
/// need them.
fn finding_without_text(check: &str) -> Finding {
    Finding { attempt: 0, check: check.to_owned(), text: String::new() }
}

impl From<&TaskEventKind> for WireTaskEvent {
    fn from(kind: &TaskEventKind) -> Self {
        match kind {
            TaskEventKind::Created => Self::Created,
            TaskEventKind::Started { attempt, base, worktree, owner, session, resumed, work } => {
                Self::Started {
                    attempt: *attempt,
                    base: base.to_string(),
                    worktree: worktree.clone(),
                    owner: owner.clone(),
                    session: session.clone(),
                    resumed: *resumed,
                    work: work.as_ref().map(Oid::to_string),
                }
            }
            TaskEventKind::Ended { attempt, termination, candidate, report } => Self::Ended {
                attempt: *attempt,
                termination: termination.into(),
                candidate: candidate.as_ref().map(WireCandidate::from),
                report: report.as_deref().map(WireSessionReport::from),
            },
            TaskEventKind::Verified { attempt, tree, findings, results, landing } => {
                Self::Verified {
                    attempt: *attempt,
                    tree: tree.to_string(),
                    passed: findings.is_none(),
                    results: wire_results(results),
                    landing: *landing,
                }
            }
            TaskEventKind::EvaluationRequested => Self::EvaluationRequested,
            TaskEventKind::Evaluated { attempt, tree, verdict, report } => Self::Evaluated {
                attempt: *attempt,
                tree: tree.to_string(),
                verdict: verdict.into(),
                report: report.as_deref().map(WireSessionReport::from),
            },
            TaskEventKind::ReviewRequested => Self::ReviewRequested,
            TaskEventKind::Approved(approval) => Self::Approved {
                by: approval.by.clone(),
                at: approval.at.0,
                commit: approval.commit.to_string(),
                tree: approval.tree.to_string(),
            },
            TaskEventKind::ChangesRequested { by, .. } => Self::ChangesRequested { by: by.clone() },
            TaskEventKind::Revised { candidate } => Self::Revised { candidate: candidate.into() },
            TaskEventKind::Conflicted { onto, .. } => Self::Conflicted { onto: onto.to_string() },
            TaskEventKind::Retried { reason, not_before, because } => Self::Retried {
                reason: reason.to_string(),
                not_before: not_before.0,
                because: because.clone(),
            },
            TaskEventKind::Landed { commit, results } => {
                Self::Landed { commit: commit.to_string(), results: wire_results(results) }
            }
            TaskEventKind::OutputAccepted => Self::OutputAccepted,
            TaskEventKind::Failed { reason, cause } => {
                Self::Failed { reason: reason.clone(), cause: cause.clone() }
            }
            TaskEventKind::Skipped { message } => Self::Skipped { message: message.clone() },
        }
    }
}

impl TryFrom<WireTaskEvent> for TaskEventKind {
    type Error = anyhow::Error;

    fn try_from(wire: WireTaskEvent) -> Result<Self> {
        Ok(match wire {
            WireTaskEvent::Created => Self::Created,
            WireTaskEvent::Started { attempt, base, worktree, owner, session, resumed, work } => {
                let base = Oid::parse(&base)?;
                let work = work.map(|work| Oid::parse(&work)).transpose()?;
                Self::Started { attempt, base, worktree, owner, session, resumed, work }
            }
            WireTaskEvent::Ended { attempt, termination, candidate, report } => Self::Ended {
                attempt,
                termination: termination.into(),
                candidate: candidate.map(Candidate::try_from).transpose()?,
                report: report.map(|report| Box::new(SessionReport::from(report))),
            },
            WireTaskEvent::Verified { attempt, tree, passed, results: wire, landing } => {
                Self::Verified {
                    attempt,
                    tree: Oid::parse(&tree)?,
                    // The findings are in the chain's tree; the fold does not need them.
                    findings: (!passed).then(Vec::new),
                    results: results(wire),
                    landing,
                }
            }
            WireTaskEvent::EvaluationRequested => Self::EvaluationRequested,
            WireTaskEvent::Evaluated { attempt, tree, verdict, report } => Self::Evaluated {
                attempt,
                tree: Oid::parse(&tree)?,
                verdict: verdict.into(),
                report: report.map(|report| Box::new(SessionReport::from(report))),
            },
            WireTaskEvent::ReviewRequested => Self::ReviewRequested,
            WireTaskEvent::Approved { by, at, commit, tree } => {
                let (commit, tree) = (Oid::parse(&commit)?, Oid::parse(&tree)?);
                Self::Approved(Approval { by, at: Timestamp(at), commit, tree })
            }
            WireTaskEvent::ChangesRequested { by } => {
                Self::ChangesRequested { by, finding: finding_without_text("review") }
            }
            WireTaskEvent::Revised { candidate } => {
                Self::Revised { candidate: candidate.try_into()? }
            }
            WireTaskEvent::Conflicted { onto } => Self::Conflicted {
                onto: Oid::parse(&onto)?,
                finding: finding_without_text("merge"),
            },
            WireTaskEvent::Retried { reason, not_before, because } => {
                let known_reason =
                    RetryReason::ALL.into_iter().find(|known| known.as_str() == reason);
                let reason =
                    known_reason.with_context(|| format!("unknown retry reason: {reason:?}"))?;
                Self::Retried { reason, not_before: Timestamp(not_before), because }
            }
            WireTaskEvent::OutputAccepted => Self::OutputAccepted,
            WireTaskEvent::Landed { commit, results: wire } => {
                Self::Landed { commit: Oid::parse(&commit)?, results: results(wire) }
            }
            WireTaskEvent::Failed { reason, cause } => Self::Failed { reason, cause },
            WireTaskEvent::Skipped { message } => Self::Skipped { message },
        })
    }
}

impl From<&RunEventKind> for WireRunEvent {
    fn from(kind: &RunEventKind) -> Self {
        match kind {
            RunEventKind::Created { paused } => Self::Created { paused: *paused },
            RunEventKind::BaseVerified { passed, results } => {
                Self::BaseVerified { passed: *passed, results: wire_results(results) }
            }
            RunEventKind::Paused(reason) => Self::Paused { reason: reason.clone() },
            RunEventKind::Resumed { done, failed, canary } => {
                Self::Resumed { done: *done, failed: *failed, canary: *canary }
            }
            RunEventKind::Halted { halt, reason } => {
                Self::Halted { halt: halt.as_str().into(), reason: reason.clone() }
            }
            RunEventKind::Cancelled => Self::Cancelled,
            RunEventKind::Account(account) => Self::account(account, false),
            RunEventKind::EvaluatorAccount(account) => Self::account(account, true),
            RunEventKind::Split { task, parts } => {
                let part = |(id, files): &(TaskId, Vec<String>)| WirePart {
                    id: id.to_string(),
                    files: files.clone(),
                };
                Self::Split { task: task.to_string(), parts: parts.iter().map(part).collect() }
            }
            RunEventKind::Replanned { base, counts } => Self::Replanned {
                base: base.as_ref().map(Oid::to_string),
                counts: WireReplanCounts::from(*counts),
            },
            RunEventKind::JobChanged(sections) => Self::JobChanged { sections: sections.clone() },
        }
    }
}

impl WireRunEvent {
    fn account(account: &Account, evaluator: bool) -> Self {
        Self::Account {
            closed_until: account.closed_until.0,
            proven: account.proven,
            strikes: account.strikes,
            slots: account.slots,
            because: account.because.as_deref().map(one_line),
            closed_for: account.closed_for.as_ref().map(|name| one_line(&name.to_string())),
            evaluator,
        }
    }
}

impl TryFrom<WireRunEvent> for RunEventKind {
    type Error = anyhow::Error;

    fn try_from(wire: WireRunEvent) -> Result<Self> {
        Ok(match wire {
            WireRunEvent::Created { paused } => Self::Created { paused },
            WireRunEvent::BaseVerified { passed, results: wire } => {
                Self::BaseVerified { passed, results: results(wire) }
            }
            WireRunEvent::Paused { reason } => Self::Paused(reason),
            WireRunEvent::Resumed { done, failed, canary } => {
                Self::Resumed { done, failed, canary }
            }
            WireRunEvent::Halted { halt, reason } => {
                let known_halt = Halt::ALL.into_iter().find(|known| halt == known.as_str());
                let halt = known_halt.with_context(|| format!("unknown kind of halt: {halt}"))?;
                Self::Halted { halt, reason }
            }
            WireRunEvent::Cancelled => Self::Cancelled,
            WireRunEvent::Account {
                closed_until,
                proven,
                strikes,
                slots,
                because,
                closed_for,
                evaluator,
            } => {
                let closed_until = Timestamp(closed_until);
                let closed_for = closed_for.as_deref().map(AgentName::parse);
                let account = Account { closed_until, proven, strikes, slots, because, closed_for };
                if evaluator { Self::EvaluatorAccount(account) } else { Self::Account(account) }
            }
            WireRunEvent::Split { task, parts } => {
                let part = |part: WirePart| Ok((TaskId::parse(&part.id)?, part.files));
                let parts: Result<Vec<_>> = parts.into_iter().map(part).collect();
                Self::Split { task: TaskId::parse(&task)?, parts: parts? }
            }
            WireRunEvent::Replanned { base, counts } => Self::Replanned {
                base: base.map(|base| Oid::parse(&base)).transpose()?,
                counts: counts.into(),
            },
            WireRunEvent::JobChanged { sections } => Self::JobChanged(sections),
        })
    }
}
