//! The JSON of `queue list`.

use std::path::Path;

use serde::Serialize;

use super::{NextAction, Version};

/// `queue list --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Queue<'a> {
    pub v: Version,
    pub target: &'a str,
    pub tip: &'a str,
    pub paused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<&'a str>,
    pub running: bool,
    pub entries: Vec<QueuedBranch<'a>>,
    pub verifying: Vec<Verifying<'a>>,
    pub verifications: usize,
    pub left_ms: Option<u64>,
    pub tasks: Vec<QueuedTask<'a>>,
    pub behind: Vec<StaleCheckout<'a>>,
    pub next_action: NextAction<'a>,
}

/// A branch that is or was in a queue.
#[derive(Debug, Serialize)]
pub(crate) struct QueuedBranch<'a> {
    pub branch: &'a str,
    pub state: &'a str,
    pub commit: &'a str,
    pub priority: i64,
    pub after: &'a [String],
    pub since: u64,
    pub position: Option<usize>,
    pub landed_as: Option<&'a str>,
    pub why: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fails_with: Vec<FailsWith<'a>>,
}

/// An entry that fails together with another, although each passes alone.
#[derive(Debug, Serialize)]
pub(crate) struct FailsWith<'a> {
    /// The other entry. `None` for a commit that no queue landed.
    pub entry: Option<&'a str>,
    /// The commit on the target, or the candidate of a rejected entry.
    pub commit: &'a str,
}

/// Work of a keeper: on `branches` of the queue, or on `tasks` of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Verifying<'a> {
    pub what: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branches: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<&'a [String]>,
    pub since: u64,
}

/// A task of a run that waits to land on the queue's target.
#[derive(Debug, Serialize)]
pub(crate) struct QueuedTask<'a> {
    pub run: &'a str,
    pub task: &'a str,
    pub state: &'a str,
    pub commit: &'a str,
    pub since: u64,
    pub driver: Option<&'a str>,
}

/// A checkout of the target that could not follow a landing.
#[derive(Debug, Serialize)]
pub(crate) struct StaleCheckout<'a> {
    pub path: &'a Path,
    pub repair: String,
}
