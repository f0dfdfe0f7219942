//! The state of a queue for whoever lists it: the verifications under way, and the reason why
//! nothing lands. The file is worth nothing to anybody else.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::context::QueueContext;
use super::host::{QueuedEntry, TrainVerification};
use crate::domain::id::{Oid, Timestamp};
use crate::keeper::files;
use crate::process::{Lock, write_atomic};
use crate::wire::keeper::{Assignment, KeeperFile as _, Work};
use crate::wire::{VERSION, decode};

/// A verification under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ActiveVerification {
    /// The purpose, as [`crate::domain::queue::TrainKind::as_str`] has it.
    pub kind: String,
    /// The branches.
    #[serde(default)]
    pub branches: Vec<String>,
    /// The tasks, as `RUN/TASK`.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// The start, in milliseconds since the Unix epoch.
    pub since: u64,
}

impl ActiveVerification {
    /// Returns the names of all entries.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &String> {
        self.branches.iter().chain(&self.tasks)
    }
}

/// The state of a queue's worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueStatus {
    /// The format's version.
    v: u32,
    /// The verifications under way.
    pub verifying: Vec<ActiveVerification>,
    /// The reason why nothing lands, if a person must act.
    #[serde(default)]
    pub problem: Option<String>,
    /// The target's tip.
    #[serde(default)]
    tip: Option<String>,
}

impl QueueStatus {
    /// Returns the problem that the last worker left behind. `None` if the target has moved since.
    pub(crate) fn left_problem(self, tip: &Oid) -> Option<String> {
        self.problem.filter(|_| self.tip.as_deref() == Some(tip.as_str()))
    }
}

fn file(context: &QueueContext) -> PathBuf {
    context.folder().join("status.json")
}

/// Writes the status. Errors are ignored: nothing depends on the file.
pub(super) fn write(
    context: &QueueContext,
    running: &[(TrainVerification, Timestamp)],
    problem: Option<&str>,
) {
    let verifying = running.iter().map(|(verification, since)| {
        let (tasks, branches): (Vec<&QueuedEntry>, Vec<&QueuedEntry>) =
            verification.entries.iter().partition(|entry| entry.attempt.is_some());
        let names = |entries: Vec<&QueuedEntry>| {
            entries.into_iter().map(|entry| entry.id.to_string()).collect()
        };
        ActiveVerification {
            kind: verification.kind.as_str().to_owned(),
            branches: names(branches),
            tasks: names(tasks),
            since: since.0,
        }
    });
    let (verifying, problem) = (verifying.collect(), problem.map(str::to_owned));
    let tip = context.tip().ok().map(|tip| tip.to_string());
    if let Ok(bytes) = serde_json::to_vec(&QueueStatus { v: VERSION, verifying, problem, tip }) {
        std::fs::create_dir_all(context.folder()).ok();
        write_atomic(&file(context), &bytes).ok();
    }
}

/// Reads the status that the worker of a queue shows. Empty if it cannot be read.
pub(crate) fn read(context: &QueueContext) -> QueueStatus {
    let bytes = std::fs::read(file(context)).ok();
    let status = bytes.and_then(|bytes| decode::<QueueStatus>("status.json", &bytes).ok());
    status.unwrap_or_default()
}

/// Returns the verifications that keepers carry out, also if no worker waits for them.
pub(crate) fn of_keepers(
    context: &QueueContext,
    is_task: &dyn Fn(&str) -> bool,
) -> Vec<ActiveVerification> {
    let folders = std::fs::read_dir(context.folder().join("checks")).into_iter().flatten();
    let read = |dir: PathBuf| {
        let Work::Checks(work) = Assignment::read(&dir).ok()??.work else { return None };
        let began = dir.join(files::ASSIGNMENT).metadata().and_then(|meta| meta.modified()).ok()?;
        let since = u64::try_from(began.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
        let runs = Lock::is_held(&dir.join(files::LOCK)).unwrap_or(false);
        let (tasks, branches) = work.tasks.into_iter().partition(|entry| is_task(entry));
        runs.then_some(ActiveVerification { kind: "verify".into(), branches, tasks, since })
    };
    let mut found: Vec<_> = folders.filter_map(|entry| read(entry.ok()?.path())).collect();
    found.sort_by_key(|verification: &ActiveVerification| verification.since);
    found
}
