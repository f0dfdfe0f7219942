//! Requests of people while a supervisor holds the run: durable files in a spool, applied by the
//! holder.
//!
//! A request is written first. If no process holds the run, the requesting process applies it;
//! otherwise it waits for the answer.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::ambient;
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::machine::Request;
use crate::process;
use crate::store::Store;

/// A request, as stored in the spool.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(crate) enum WireRequest {
    /// Retry a task.
    Retry {
        /// The task.
        task: String,
    },
    /// Skip a task.
    Skip {
        /// The task.
        task: String,
        /// The reason.
        message: String,
    },
    /// Accept a failed task whose checks pass now.
    Reconsider {
        /// The task.
        task: String,
    },
    /// Approve a candidate.
    Approve {
        /// The task.
        task: String,
        /// The candidate's commit.
        commit: String,
        /// The reviewer.
        by: String,
    },
    /// Request changes to a candidate.
    SendBack {
        /// The task.
        task: String,
        /// The candidate's commit.
        commit: String,
        /// The reviewer.
        by: String,
        /// The requested changes.
        message: String,
    },
    /// Start no new attempts.
    Stop {
        /// True to stop running agents too.
        now: bool,
    },
    /// Cancel the run.
    Cancel,
}

/// The answer to a request.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct RequestAnswer {
    /// True if the request had an effect.
    pub done: bool,
    /// The answer in words.
    pub said: String,
}

impl WireRequest {
    /// Returns the request as the state machine knows it.
    pub(crate) fn request(&self) -> Result<Request> {
        Ok(match self {
            Self::Retry { task } => Request::Retry(TaskId::parse(task)?),
            Self::Skip { task, message } => Request::Skip(TaskId::parse(task)?, message.clone()),
            Self::Reconsider { task } => Request::Reconsider(TaskId::parse(task)?),
            Self::Approve { task, commit, by } => {
                Request::Approve(TaskId::parse(task)?, Oid::parse(commit)?, by.clone())
            }
            Self::SendBack { task, commit, by, message } => {
                let (task, commit) = (TaskId::parse(task)?, Oid::parse(commit)?);
                Request::RequestChanges(task, commit, by.clone(), message.clone())
            }
            Self::Stop { .. } => Request::Stop("`git harness stop`".into()),
            Self::Cancel => Request::Cancel,
        })
    }
}

/// A request in the spool.
#[derive(Debug)]
pub(crate) struct SpooledRequest {
    path: PathBuf,
    /// The request.
    pub wire: WireRequest,
}

/// Writes a request into the spool, durably.
pub(crate) fn ask(store: &Store, run: &RunId, wire: &WireRequest) -> Result<PathBuf> {
    let folder = store.local().requests(run);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    // Names sort by time, so that requests are applied in order.
    let name = format!("{:016}-{}.json", ambient::now().0, &ambient::nonce()[..8]);
    let path = folder.join(name);
    process::write_atomic(&path, &serde_json::to_vec(wire)?)
        .with_context(|| format!("cannot write the request {}", path.display()))?;
    Ok(path)
}

/// Returns the requests in the spool, oldest first. Answers unreadable ones with an error.
pub(super) fn waiting(store: &Store, run: &RunId) -> Vec<SpooledRequest> {
    let Ok(entries) = std::fs::read_dir(store.local().requests(run)) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let wire = std::fs::read(&path).ok().and_then(|b| serde_json::from_slice(&b).ok());
        match wire {
            Some(wire) => found.push(SpooledRequest { path, wire }),
            None => {
                let said = "the request could not be read".to_owned();
                answer_at(&path, &RequestAnswer { done: false, said }).ok();
            }
        }
    }
    found
}

/// Answers a request and removes it. If the holder dies before, the next holder applies the
/// request.
pub(super) fn answer(waiting: &SpooledRequest, answer: &RequestAnswer) -> Result<()> {
    answer_at(&waiting.path, answer)
}

fn answer_at(path: &Path, answer: &RequestAnswer) -> Result<()> {
    process::write_atomic(&path.with_extension("done"), &serde_json::to_vec(answer)?)?;
    std::fs::remove_file(path)?;
    Ok(())
}

/// Takes the answer to a request, if there is one.
pub(crate) fn collect(path: &Path) -> Option<RequestAnswer> {
    let done = path.with_extension("done");
    let answer = serde_json::from_slice(&std::fs::read(&done).ok()?).ok()?;
    std::fs::remove_file(done).ok();
    Some(answer)
}
