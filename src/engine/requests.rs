//! Requests of people while a supervisor holds the run: durable files in a spool that the holder applies.
//!
//! A request is first written, then either applied by its own process, if nobody holds the run, or waited for.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::ambient;
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::machine::Request;
use crate::process;
use crate::store::Store;

/// A request on the wire.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(crate) enum WireRequest {
    /// Try a task again.
    Retry {
        /// Which.
        task: String,
    },
    /// Take a task out.
    Skip {
        /// Which.
        task: String,
        /// Why.
        message: String,
    },
    /// Take a failed task up whose checks pass now.
    Reconsider {
        /// Which.
        task: String,
    },
    /// Let a candidate land.
    Approve {
        /// Of which task.
        task: String,
        /// Which.
        commit: String,
        /// Who says so.
        by: String,
    },
    /// Have a candidate done anew.
    SendBack {
        /// Of which task.
        task: String,
        /// Which.
        commit: String,
        /// Who says so.
        by: String,
        /// Why.
        message: String,
    },
    /// Start nothing new; with `now`, stop what runs.
    Stop {
        /// Whether running agents are ended.
        now: bool,
    },
    /// Give the run up.
    Cancel,
}

/// What came of a request.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct RequestAnswer {
    /// Whether it had an effect.
    pub done: bool,
    /// In words.
    pub said: String,
}

impl WireRequest {
    /// The request as the machine knows it.
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
                Request::SendBack(task, commit, by.clone(), message.clone())
            }
            Self::Stop { .. } => Request::Stop("`git harness stop`".into()),
            Self::Cancel => Request::Cancel,
        })
    }
}

/// A request that waits in the spool.
#[derive(Debug)]
pub(crate) struct SpooledRequest {
    path: PathBuf,
    /// What is asked.
    pub wire: WireRequest,
}

/// Puts a request into the spool, durably.
pub(crate) fn ask(store: &Store, run: &RunId, wire: &WireRequest) -> Result<PathBuf> {
    let folder = store.local().requests(run);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    // Names sort by time, so that requests are applied in the order in which they were made.
    let name = format!("{:016}-{}.json", ambient::now().0, &ambient::nonce()[..8]);
    let path = folder.join(name);
    process::write_atomic(&path, &serde_json::to_vec(wire)?)
        .with_context(|| format!("cannot write the request {}", path.display()))?;
    Ok(path)
}

/// The requests that wait, oldest first. One that cannot be read is answered as such.
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

/// Says what came of a request. Only now is it over: a holder that dies before leaves it to the next.
pub(super) fn answer(waiting: &SpooledRequest, answer: &RequestAnswer) -> Result<()> {
    answer_at(&waiting.path, answer)
}

fn answer_at(path: &Path, answer: &RequestAnswer) -> Result<()> {
    process::write_atomic(&path.with_extension("done"), &serde_json::to_vec(answer)?)?;
    std::fs::remove_file(path)?;
    Ok(())
}

/// The answer to a request, if there is one; it is taken away.
pub(crate) fn collect(path: &Path) -> Option<RequestAnswer> {
    let done = path.with_extension("done");
    let answer = serde_json::from_slice(&std::fs::read(&done).ok()?).ok()?;
    std::fs::remove_file(done).ok();
    Some(answer)
}
