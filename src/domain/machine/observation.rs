//! The inputs of the state machine: observations, and requests of people.

use crate::domain::account::AgentName;
use crate::domain::id::{Oid, TaskId, Timestamp};
use crate::domain::session::SessionReport;
use crate::domain::termination::Termination;
use crate::domain::verdict::{Candidate, CheckReport, CheckResult, Objection, Verdict};

/// An observation of the world outside the state. It may be late, repeated or stale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The landing checks ran on the base.
    BaseVerified(CheckReport),
    /// A worktree is ready for a task's next attempt.
    Dispatched {
        /// The task.
        task: TaskId,
        /// The number of the next attempt.
        attempt: u32,
        /// The target's tip.
        base: Oid,
        /// The name of the worktree.
        worktree: String,
        /// The repository and machine.
        owner: String,
        /// The session id that the agent is given, if the agent accepts one.
        session: Option<String>,
        /// True if the attempt resumes the task's session.
        resumed: bool,
        /// The work of the rejected candidate, on top of the base, if the attempt starts from it.
        work: Option<Oid>,
    },
    /// The service answered a running attempt's agent.
    ServiceAnswered {
        /// The task.
        task: TaskId,
        /// The number of the attempt.
        attempt: u32,
    },
    /// An attempt ended.
    AttemptEnded {
        /// The task.
        task: TaskId,
        /// The number of the attempt.
        attempt: u32,
        /// The way in which the agent's process ended.
        termination: Termination,
        /// The work as a commit; `None` if it could not be saved.
        candidate: Option<Candidate>,
        /// True if the work differs from the base.
        changed: bool,
        /// The session's report; `None` if it was lost.
        report: Option<Box<SessionReport>>,
        /// The last lines of the agent's standard error.
        stderr: Option<String>,
    },
    /// An attempt never began: no supervisor started its keeper.
    NeverStarted {
        /// The task.
        task: TaskId,
        /// The number of the attempt.
        attempt: u32,
    },
    /// The checks ran on the candidate's own tree.
    Verified {
        /// The task.
        task: TaskId,
        /// The attempt that made the candidate.
        attempt: u32,
        /// The verified tree.
        tree: Oid,
        /// The verdict and the results.
        checks: CheckReport,
        /// The last lines of the standard error of the attempt's agent.
        stderr: Option<String>,
    },
    /// The candidate conflicts with the target.
    LandingConflict {
        /// The task.
        task: TaskId,
        /// The candidate commit.
        candidate: Oid,
        /// The target's tip.
        onto: Oid,
        /// The paths in conflict.
        paths: Vec<String>,
        /// The conflicts as a list for the agent: both sides of each path, and the task that landed
        /// each change. Empty if only the paths are known.
        description: String,
    },
    /// The checks ran on the tree that would land.
    LandingVerified {
        /// The task.
        task: TaskId,
        /// The candidate commit.
        candidate: Oid,
        /// The merged tree.
        tree: Oid,
        /// The verdict and the results.
        checks: CheckReport,
    },
    /// An evaluator ended.
    Evaluated {
        /// The task.
        task: TaskId,
        /// The attempt that made the candidate.
        attempt: u32,
        /// The evaluated tree.
        tree: Oid,
        /// The time at which the evaluator began.
        began: Timestamp,
        /// The way in which the evaluator's process ended.
        termination: Termination,
        /// The evaluator's verdict.
        verdict: Verdict<Objection>,
        /// The report of the evaluator's session; `None` if it was lost.
        report: Option<Box<SessionReport>>,
    },
    /// A person committed on the branch of a task that waits for a review or to land.
    BranchMoved {
        /// The task.
        task: TaskId,
        /// The work at the branch's tip.
        candidate: Candidate,
    },
    /// The target contains the task's work.
    Landed {
        /// The task.
        task: TaskId,
        /// The commit on the target.
        commit: Oid,
        /// The results of the checks on the commit's tree.
        results: Vec<CheckResult>,
    },
    /// No task is under way or can start, and failed tasks may be redispatched.
    RedispatchDue,
    /// The job file changed in these sections, and the run adopts the change.
    JobChanged(Vec<String>),
    /// A person made a request.
    Requested(Request),
}

/// A request that a person can make of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Dispatch a failed or skipped task again, with all budgets reset.
    Retry(TaskId),
    /// Skip a task.
    Skip {
        /// The task.
        task: TaskId,
        /// The reason.
        message: String,
    },
    /// Take up the candidate of a failed task again. A person ran its checks, and they passed.
    Reconsider(TaskId),
    /// Let a candidate land.
    Approve {
        /// The task.
        task: TaskId,
        /// The candidate's commit.
        commit: Oid,
        /// The reviewer: name and address.
        by: String,
    },
    /// Reject a candidate and start another attempt.
    RequestChanges {
        /// The task.
        task: TaskId,
        /// The candidate's commit.
        commit: Oid,
        /// The reviewer: name and address.
        by: String,
        /// The changes that the reviewer asks for.
        message: String,
    },
    /// Start nothing new, for this reason.
    Stop(String),
    /// Open the closed accounts with this name.
    OpenAccount(AgentName),
    /// Resume the run.
    Resume,
    /// Give the run up.
    Cancel,
}
