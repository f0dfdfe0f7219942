//! Requests of people to the supervisor of a run, and the answers: files in the spool.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::domain::account::AgentName;
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::Request;

/// A request.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(crate) enum WireRequest {
    /// Try a task again.
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
    /// Verify the candidate of a failed task again. A person ran its checks, and they passed.
    Reconsider {
        /// The task.
        task: String,
    },
    /// Let a candidate land.
    Approve {
        /// The task.
        task: String,
        /// The candidate.
        commit: String,
        /// The reviewer.
        by: String,
    },
    /// Reject a candidate, and start another attempt with the requested changes.
    RequestChanges {
        /// The task.
        task: String,
        /// The candidate.
        commit: String,
        /// The reviewer.
        by: String,
        /// The requested changes.
        message: String,
    },
    /// Pause the run: no more attempts start.
    Stop {
        /// True if running agents are stopped too.
        now: bool,
    },
    /// Open the closed accounts with this name.
    OpenAccount {
        /// The preset, and the model after a slash.
        name: String,
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
    pub message: String,
}

/// The content of a file in the spool.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct SpoolFile<T> {
    /// The format's version.
    pub v: u32,
    /// The seal of the copy of the repository that wrote a request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub seal: String,
    /// The request or the answer.
    #[serde(flatten)]
    pub content: T,
}

impl<T> SpoolFile<T> {
    /// Returns the file for an answer, or for a request with its seal.
    pub(crate) fn new(content: T, seal: String) -> Self {
        Self { v: VERSION, seal, content }
    }
}

impl WireRequest {
    /// Converts the request to the run machine's type. Fails if a task or commit id is invalid.
    pub(crate) fn request(&self) -> Result<Request> {
        Ok(match self {
            Self::Retry { task } => Request::Retry(TaskId::parse(task)?),
            Self::Skip { task, message } => {
                Request::Skip { task: TaskId::parse(task)?, message: message.clone() }
            }
            Self::Reconsider { task } => Request::Reconsider(TaskId::parse(task)?),
            Self::Approve { task, commit, by } => {
                let (task, commit) = (TaskId::parse(task)?, Oid::parse(commit)?);
                Request::Approve { task, commit, by: by.clone() }
            }
            Self::RequestChanges { task, commit, by, message } => {
                let (task, commit) = (TaskId::parse(task)?, Oid::parse(commit)?);
                Request::RequestChanges { task, commit, by: by.clone(), message: message.clone() }
            }
            Self::Stop { .. } => Request::Stop("`git harness stop`".into()),
            Self::OpenAccount { name } => Request::OpenAccount(AgentName::parse(name)),
            Self::Cancel => Request::Cancel,
        })
    }
}
