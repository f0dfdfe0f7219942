//! The events of task chains and run chains.
//!
//! Events are facts in the past tense. An event on a chain is never refused.

use super::account::Account;
use super::id::{Oid, TaskId, Timestamp};
use super::retry::RetryReason;
use super::review::Approval;
use super::session::SessionReport;
use super::termination::Termination;
use super::verdict::{Candidate, CheckResult, Finding, Objection, Verdict};

/// An event on a task's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEvent {
    /// The time of the event, for people and for back-off.
    pub at: Timestamp,
    /// The kind of the event, with its data.
    pub kind: TaskEventKind,
}

/// The kinds of events on a task's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEventKind {
    /// The task was created.
    Created,
    /// An attempt has a worktree and a base. Its keeper is about to start.
    Started {
        /// The number of the attempt, counted from 1 over the life of the task.
        attempt: u32,
        /// The commit that the attempt starts from: the target's tip.
        base: Oid,
        /// The name of the attempt's worktree, such as `p01`.
        worktree: String,
        /// The repository and machine that run the attempt. The event is void anywhere else.
        owner: String,
        /// The session id that the agent is given, if the agent accepts one.
        session: Option<String>,
        /// True if the attempt resumes the last attempt's session, in the same worktree and with
        /// the changes that are there.
        resumed: bool,
        /// The work of the rejected candidate, on top of the base, if the attempt starts from it.
        work: Option<Oid>,
    },
    /// An attempt ended.
    Ended {
        /// The number of the attempt.
        attempt: u32,
        /// The way in which the agent's process ended.
        termination: Termination,
        /// The work as a commit; `None` if it could not be saved.
        candidate: Option<Candidate>,
        /// The session's report; `None` if it was lost.
        report: Option<Box<SessionReport>>,
    },
    /// The checks reached a verdict on the candidate's tree, or on the tree that would land.
    Verified {
        /// The attempt that made the candidate.
        attempt: u32,
        /// The verified tree.
        tree: Oid,
        /// The findings if the checks failed; `None` if they passed.
        findings: Option<Vec<Finding>>,
        /// The results of the checks.
        results: Vec<CheckResult>,
        /// True for the tree that would land; false for the candidate's own tree.
        landing: bool,
    },
    /// The checks passed, and an evaluator is asked for a verdict.
    EvaluationRequested,
    /// An evaluator ended, with or without a verdict on the candidate.
    Evaluated {
        /// The attempt that made the candidate.
        attempt: u32,
        /// The evaluated tree.
        tree: Oid,
        /// The evaluator's verdict.
        verdict: Verdict<Objection>,
        /// The report of the evaluator's session; `None` if it was lost.
        report: Option<Box<SessionReport>>,
    },
    /// The checks and the evaluator, if there is one, passed. A person is asked for a review.
    ReviewRequested,
    /// A reviewer approved the candidate.
    Approved(Approval),
    /// A reviewer asked for another attempt.
    ChangesRequested {
        /// The reviewer.
        by: String,
        /// The finding for the next attempt.
        finding: Finding,
    },
    /// A person committed on the task's branch. Their commit replaces the candidate.
    Revised {
        /// The new candidate.
        candidate: Candidate,
    },
    /// The candidate conflicts with the target.
    Conflicted {
        /// The target's tip.
        onto: Oid,
        /// The finding for the next attempt.
        finding: Finding,
    },
    /// The task was scheduled for another try.
    Retried {
        /// The reason for the try.
        reason: RetryReason,
        /// The earliest time of the try.
        not_before: Timestamp,
        /// The fault that made the try necessary, for people.
        because: Option<String>,
    },
    /// The work landed on the target branch.
    Landed {
        /// The commit on the target.
        commit: Oid,
        /// The results of the checks on the tree that landed.
        results: Vec<CheckResult>,
    },
    /// The task's output file was accepted. Nothing lands on the target branch.
    OutputAccepted,
    /// The task has no try left.
    Failed {
        /// The reason, as a sentence.
        reason: String,
        /// The key by which similar failures are grouped: failed checks, or a session class.
        cause: String,
    },
    /// A person skipped the task, or its parts replaced it.
    Skipped {
        /// The reason, as a sentence.
        message: String,
    },
}

impl TaskEventKind {
    /// Returns the candidate that the event introduces.
    pub fn candidate(&self) -> Option<&Candidate> {
        match self {
            Self::Ended { candidate, .. } => candidate.as_ref(),
            Self::Revised { candidate } => Some(candidate),
            Self::Created
            | Self::Started { .. }
            | Self::Verified { .. }
            | Self::EvaluationRequested
            | Self::Evaluated { .. }
            | Self::ReviewRequested
            | Self::Approved(_)
            | Self::ChangesRequested { .. }
            | Self::Conflicted { .. }
            | Self::Retried { .. }
            | Self::Landed { .. }
            | Self::OutputAccepted
            | Self::Failed { .. }
            | Self::Skipped { .. } => None,
        }
    }

    /// Returns the commit that landed.
    pub fn landed_commit(&self) -> Option<&Oid> {
        match self {
            Self::Landed { commit, .. } => Some(commit),
            Self::Created
            | Self::Started { .. }
            | Self::Ended { .. }
            | Self::Verified { .. }
            | Self::EvaluationRequested
            | Self::Evaluated { .. }
            | Self::ReviewRequested
            | Self::Approved(_)
            | Self::ChangesRequested { .. }
            | Self::Revised { .. }
            | Self::Conflicted { .. }
            | Self::Retried { .. }
            | Self::OutputAccepted
            | Self::Failed { .. }
            | Self::Skipped { .. } => None,
        }
    }

    /// Returns the findings for the next attempt, if the event rejects the candidate.
    pub fn findings(&self) -> Option<&[Finding]> {
        match self {
            Self::Verified { findings, .. } => findings.as_deref(),
            Self::Evaluated { verdict, .. } => match verdict {
                Verdict::Failed(Objection { findings, .. }) => Some(findings),
                Verdict::Passed | Verdict::Errored(_) => None,
            },
            Self::Conflicted { finding, .. } | Self::ChangesRequested { finding, .. } => {
                Some(std::slice::from_ref(finding))
            }
            Self::Created
            | Self::Started { .. }
            | Self::Ended { .. }
            | Self::EvaluationRequested
            | Self::ReviewRequested
            | Self::Approved(_)
            | Self::Revised { .. }
            | Self::Retried { .. }
            | Self::Landed { .. }
            | Self::OutputAccepted
            | Self::Failed { .. }
            | Self::Skipped { .. } => None,
        }
    }

    /// Returns the check results that the event records.
    pub fn results(&self) -> &[CheckResult] {
        match self {
            Self::Verified { results, .. } | Self::Landed { results, .. } => results,
            Self::Created
            | Self::Started { .. }
            | Self::Ended { .. }
            | Self::EvaluationRequested
            | Self::Evaluated { .. }
            | Self::ReviewRequested
            | Self::Approved(_)
            | Self::ChangesRequested { .. }
            | Self::Revised { .. }
            | Self::Conflicted { .. }
            | Self::Retried { .. }
            | Self::OutputAccepted
            | Self::Failed { .. }
            | Self::Skipped { .. } => &[],
        }
    }
}

/// An event on a run's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEvent {
    /// The time of the event.
    pub at: Timestamp,
    /// The kind of the event, with its data.
    pub kind: RunEventKind,
}

/// The kinds of events on a run's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEventKind {
    /// The run was created: job, plan, base and target are pinned.
    Created {
        /// True if the run waits for `start` before it dispatches a task.
        paused: bool,
    },
    /// The landing checks ran on the base.
    BaseVerified {
        /// True if all checks passed.
        passed: bool,
        /// The results of the checks.
        results: Vec<CheckResult>,
    },
    /// A person stopped the run, for this reason.
    Paused(String),
    /// A person resumed the run.
    Resumed {
        /// The number of tasks that were done at this point.
        done: u32,
        /// The number of tasks that had failed at this point. If failures had halted the run, these
        /// tasks no longer count against it.
        failed: u32,
        /// True if one task runs first, and the others only if it lands.
        canary: bool,
    },
    /// The run halted by itself and needs a person.
    Halted {
        /// The kind of trouble.
        halt: Halt,
        /// The reason, as a sentence.
        reason: String,
    },
    /// The state of the agents' account changed.
    Account(Account),
    /// The state of the evaluators' account changed, if they have their own.
    EvaluatorAccount(Account),
    /// A task that exceeds the model's context window was replaced by parts.
    Split {
        /// The task.
        task: TaskId,
        /// The parts, each with its files.
        parts: Vec<(TaskId, Vec<String>)>,
    },
    /// The plan was made again. Finished work was kept.
    Replanned {
        /// The commit that the new plan was made from, if it differs from the old plan's.
        base: Option<Oid>,
        /// The number of tasks in each category of the replan.
        counts: ReplanCounts,
    },
    /// The job file changed in these sections, and the run adopted the change.
    JobChanged(Vec<String>),
    /// The run was cancelled. Landed work stays landed.
    Cancelled,
}

/// The number of tasks in each category of a replan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplanCounts {
    /// Tasks that are done.
    pub done: usize,
    /// Tasks that continue as before.
    pub unchanged: usize,
    /// Tasks that start again.
    pub restarted: usize,
    /// Tasks that the old plan did not have.
    pub added: usize,
    /// Tasks that an earlier replan dropped and that are in the plan again.
    pub restored: usize,
    /// Tasks that the new plan does not have.
    pub dropped: usize,
}

/// The kinds of trouble that halt a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// The landing checks failed on the base, or could not run there.
    Base,
    /// Too many tasks failed, or the first ones all failed in the same way.
    Failures,
    /// The agent's account or the agent's command line was refused.
    Agent,
    /// A budget is used up.
    Budget,
    /// The account was closed many times in a row, with no successful session in between.
    Account,
}

impl Halt {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::Base, Self::Failures, Self::Agent, Self::Budget, Self::Account];

    /// Returns the word used in refs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Failures => "failures",
            Self::Agent => "agent",
            Self::Budget => "budget",
            Self::Account => "account",
        }
    }
}
