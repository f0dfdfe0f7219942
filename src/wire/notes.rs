//! Notes: provenance on landed commits, verdicts on trees. Each line is a JSON object.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::facts::{WireTermination, WireTokens};

/// A verdict of a check on a tree: a line of `refs/notes/harness-verdicts`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct VerdictNote {
    /// The format's version.
    pub v: u32,
    /// The check's name.
    pub check: String,
    /// The verdict's key.
    pub key: String,
    /// True if the check passed.
    pub pass: bool,
    /// The duration in milliseconds.
    pub ms: u64,
    /// The time in milliseconds since the Unix epoch.
    pub at: u64,
    /// The run whose chain vouches for the verdict, or the name that stands for a queue log.
    pub run: String,
    /// The task on whose chain the verdict is; `None` for the run's own chain and for a queue log.
    pub task: Option<String>,
    /// The attempt whose candidate was verified; 0 without a task.
    #[serde(default)]
    pub attempt: u32,
    /// The id under which the chain vouches for the verdict.
    pub id: String,
    /// The output of a failed check, shortened, or the summary of a built-in check.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The seal of the copy of the repository that recorded the verdict.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub seal: String,
}

/// The provenance of a task's landed commit: a line of `refs/notes/harness`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub(crate) struct ProvenanceNote {
    /// The format's version.
    pub v: u32,
    /// The run.
    pub run: String,
    /// The task.
    pub task: String,
    /// The attempt that made the candidate.
    pub attempt: u32,
    /// The agent's preset.
    pub agent: String,
    /// The agent's program, if the job names one.
    pub command: Option<String>,
    /// The model, if the job names one.
    pub model: Option<String>,
    /// The id of the session.
    pub session: Option<String>,
    /// The blob of the prompt.
    pub prompt: Option<String>,
    /// The tokens of the session.
    pub tokens: Option<WireTokens>,
    /// The cost of the session in US dollars.
    pub cost_usd: Option<f64>,
    /// The candidate.
    pub candidate: String,
    /// The tree of the landed commit.
    pub tree: String,
    /// The last commit of the train, if the checks ran on that commit.
    pub verified: Option<VerifiedCommit>,
    /// The approval of a reviewer.
    pub approved: Option<WireApproval>,
    /// The termination of the agent.
    pub termination: Option<WireTermination>,
    /// The duration of the session in milliseconds.
    pub wall_ms: Option<u64>,
    /// The results of the checks.
    pub checks: Vec<NotedCheck>,
}

/// The commit on which checks ran.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct VerifiedCommit {
    /// The commit.
    pub commit: String,
    /// Its tree.
    pub tree: String,
}

/// An approval.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct WireApproval {
    /// The reviewer.
    pub by: String,
    /// The time in milliseconds since the Unix epoch.
    pub at: u64,
    /// The approved commit.
    pub commit: String,
    /// Its tree.
    pub tree: String,
}

/// The result of a check.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct NotedCheck {
    /// The check's name.
    pub name: String,
    /// True if the check passed.
    pub passed: bool,
    /// The duration in milliseconds.
    pub ms: u64,
    /// The verdict's key.
    pub key: String,
}

/// The provenance of a landed branch: a line of `refs/notes/harness`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct BranchNote {
    /// The format's version.
    pub v: u32,
    /// The branch.
    pub branch: String,
    /// The commit of the branch.
    pub candidate: String,
    /// The full name of the target.
    pub target: String,
    /// The train's number.
    pub train: u64,
    /// The commit on which the checks ran.
    pub verified: String,
    /// The tree of that commit.
    pub tree: String,
}

/// Returns a note as one line.
pub(crate) fn note_line(note: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string(note)?)
}
