//! What happened, in the past tense. Events are facts: once one is journaled, it is never refused.

use super::account::Account;
use super::id::{Oid, TaskId, Timestamp};
use super::retry::RetryReason;
use super::review::Approval;
use super::session::SessionReport;
use super::verdict::{Candidate, CheckResult, Finding, Objection, Verdict};
use crate::domain::termination::Termination;

/// Something that happened to one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEvent {
    /// When, for people and for back-off.
    pub at: Timestamp,
    /// What.
    pub kind: TaskEventKind,
}

/// The kinds of events on a task's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEventKind {
    /// The task exists.
    Created,
    /// An attempt has a place and a base; its keeper is about to start.
    Started {
        /// Counted from 1 over the life of the task.
        attempt: u32,
        /// The target's tip from which it starts.
        base: Oid,
        /// The slot it works in, such as `p01`.
        worktree: String,
        /// The repository and machine on which it runs: void anywhere else.
        owner: String,
        /// The id of its session, where the program gives it one.
        session: Option<String>,
        /// Whether it goes on with the session of the attempt before, in its place and with what that had changed.
        resumed: bool,
    },
    /// The attempt is over, with what it left.
    Ended {
        /// Which one.
        attempt: u32,
        /// How.
        termination: Termination,
        /// What it proposes: nothing when it changed nothing or nothing could be saved.
        candidate: Option<Candidate>,
        /// What its session said of itself; nothing when that was lost.
        report: Option<Box<SessionReport>>,
    },
    /// The checks have said what they think of the candidate's tree, or of the tree that would have landed.
    Verified {
        /// Which attempt's work.
        attempt: u32,
        /// The tree that was judged.
        tree: Oid,
        /// `None`: accepted. Otherwise what was found.
        findings: Option<Vec<Finding>>,
        /// The results.
        results: Vec<CheckResult>,
        /// True for the tree as it would land; false for the candidate's own.
        landing: bool,
    },
    /// The checks are content, and an evaluator is asked.
    EvaluationRequested,
    /// An evaluator has said what it thinks of the candidate, or has not.
    Evaluated {
        /// Which attempt's work.
        attempt: u32,
        /// The tree that it was shown.
        tree: Oid,
        /// What it said.
        verdict: Verdict<Objection>,
        /// What its session said of itself; nothing when that was lost.
        report: Option<Box<SessionReport>>,
    },
    /// Checks, and an evaluator where there is one, are content, and a person is asked.
    ReviewRequested,
    /// A person lets the candidate land.
    Approved(Approval),
    /// A person wants it done anew.
    ChangesRequested {
        /// Who.
        by: String,
        /// What the next attempt is told.
        finding: Finding,
    },
    /// A person has committed on the task's branch: that is the candidate now.
    Revised {
        /// The work as it is now.
        candidate: Candidate,
    },
    /// The candidate does not merge onto the target.
    Conflicted {
        /// The target's tip.
        onto: Oid,
        /// What the next attempt is told.
        finding: Finding,
    },
    /// It gets another try.
    Retried {
        /// Why.
        reason: RetryReason,
        /// Not before this moment.
        not_before: Timestamp,
        /// What was wrong, for people (infrastructure faults).
        because: Option<String>,
    },
    /// It is on the target branch.
    Landed {
        /// The commit on the target.
        commit: Oid,
        /// Results earned on the tree that landed.
        results: Vec<CheckResult>,
    },
    /// What it hands in is good, and nothing of it goes to the target branch.
    OutputAccepted,
    /// No try is left.
    Failed {
        /// Why, in a sentence.
        reason: String,
        /// What it has in common with others that failed in the same way: a check, or the class of an ending.
        cause: String,
    },
    /// A person took it out, or parts of it took its place.
    Skipped {
        /// Why, in that person's words.
        message: String,
    },
}

/// Something that happened to the run as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEvent {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: RunEventKind,
}

/// The kinds of events on a run's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEventKind {
    /// Job, plan, base and target are pinned.
    Created {
        /// Whether it waits for `start` before it dispatches anything.
        paused: bool,
    },
    /// The landing checks have been run on the base.
    BaseVerified {
        /// Whether all passed.
        passed: bool,
        /// The results.
        results: Vec<CheckResult>,
    },
    /// Somebody asked to stop; why.
    Paused(String),
    /// It goes on.
    Resumed {
        /// Tasks that had landed by then.
        done: u32,
        /// Tasks that had failed by then: they are not held against what comes.
        failed: u32,
        /// Whether one task goes first, and the others only if it lands.
        canary: bool,
    },
    /// It stopped by itself and wants a person.
    Halted {
        /// What kind of trouble it is.
        halt: Halt,
        /// In a sentence.
        reason: String,
    },
    /// The account's standing has changed.
    Account(Account),
    /// The standing of the evaluator's account, where that is another one.
    EvaluatorAccount(Account),
    /// A task that did not fit the model's context window is replaced by parts of it.
    Split {
        /// The task.
        task: TaskId,
        /// The parts, each with its files.
        parts: Vec<(TaskId, Vec<String>)>,
    },
    /// The plan was made again, and what is done was kept.
    Replanned {
        /// The commit from which it was made, if that is another one.
        base: Option<Oid>,
        /// The numbers of tasks by what the new plan means for them.
        counts: ReplanCounts,
    },
    /// The job file has changed, and the run goes on with it; which sections.
    JobChanged(Vec<String>),
    /// It is given up. What has landed stays landed.
    Cancelled,
}

/// The numbers of tasks by what a new plan means for them.
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
    /// Tasks that were left out and are in the plan again.
    pub restored: usize,
    /// Tasks that the new plan does not have.
    pub dropped: usize,
}

/// What kind of trouble halts a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// The landing checks fail on the base, or could not be run there.
    Base,
    /// Too many tasks fail, or the first ones all in the same way.
    Failures,
    /// The agent's account is refused, or how the agent is called.
    Agent,
    /// A budget is used up.
    Budget,
    /// The account has been closed again and again without any success in between.
    Account,
}

impl Halt {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Base, Self::Failures, Self::Agent, Self::Budget, Self::Account];

    /// The word used in refs and JSON.
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
