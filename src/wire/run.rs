//! Files in the tree of a run chain and of a task chain.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::domain::id::Oid;

/// The file `run.json`: what a run pins besides job and plan.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Manifest {
    /// The format's version.
    pub v: u32,
    /// The run's name.
    pub run: String,
    /// The job's name.
    pub job: String,
    /// The path of the job file, for messages.
    pub file: String,
    /// The commit from which the plan was made.
    pub base: String,
    /// The full name of the target branch.
    pub target: String,
    /// The plan's id.
    pub plan: String,
    /// True if this run created the target.
    pub target_created: bool,
    /// The value of `--scope-dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_dir: Option<String>,
    /// The value of `--scope-files`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_files: Option<String>,
    /// Fields that this version does not know. They are kept when the file is written again.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

impl Manifest {
    /// Returns the base commit.
    pub fn base(&self) -> Result<Oid> {
        Ok(Oid::parse(&self.base)?)
    }
}

/// The file `task.json`: a task of the plan, for people who read the chain.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct TaskFile {
    /// The format's version.
    pub v: u32,
    /// The task's id.
    pub id: String,
    /// The task's files.
    pub files: Vec<String>,
    /// The number of lines.
    pub lines: u64,
    /// The estimated tokens.
    pub tokens: u64,
}
