//! The shapes in which facts cross a process boundary: in trailers, notes, and what keepers write.

use serde::{Deserialize, Serialize};

use crate::domain::event::Ending;
use crate::domain::verdict::{CheckResult, Finding};

/// A check's result on the wire.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct WireResult {
    /// The check's name.
    pub name: String,
    /// Its key.
    pub key: String,
    /// Whether it passed.
    pub passed: bool,
    /// Milliseconds.
    pub ms: u64,
    /// The id the chain vouches for.
    pub id: String,
}

impl From<&CheckResult> for WireResult {
    fn from(r: &CheckResult) -> Self {
        Self {
            name: r.name.clone(),
            key: r.key.clone(),
            passed: r.passed,
            ms: r.ms,
            id: r.id.clone(),
        }
    }
}

impl From<WireResult> for CheckResult {
    fn from(r: WireResult) -> Self {
        Self { name: r.name, key: r.key, passed: r.passed, ms: r.ms, id: r.id }
    }
}

/// A finding on the wire.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct WireFinding {
    /// Which attempt.
    pub attempt: u32,
    /// Which check.
    pub check: String,
    /// What it said.
    pub text: String,
}

impl From<&Finding> for WireFinding {
    fn from(f: &Finding) -> Self {
        Self { attempt: f.attempt, check: f.check.clone(), text: f.text.clone() }
    }
}

impl From<WireFinding> for Finding {
    fn from(f: WireFinding) -> Self {
        Self { attempt: f.attempt, check: f.check, text: f.text }
    }
}

/// How an attempt ended, on the wire; keepers write it too.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum WireEnding {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// Too long.
    TimedOut,
    /// Silent.
    Idle,
    /// Asked to.
    Stopped,
    /// Never began; why.
    NotStarted(String),
    /// Its keeper died.
    Lost,
}

impl From<&Ending> for WireEnding {
    fn from(e: &Ending) -> Self {
        match e {
            Ending::Exited(code) => Self::Exited(*code),
            Ending::Signalled(signal) => Self::Signalled(*signal),
            Ending::TimedOut => Self::TimedOut,
            Ending::Idle => Self::Idle,
            Ending::Stopped => Self::Stopped,
            Ending::NotStarted(why) => Self::NotStarted(why.clone()),
            Ending::Lost => Self::Lost,
        }
    }
}

impl From<WireEnding> for Ending {
    fn from(e: WireEnding) -> Self {
        match e {
            WireEnding::Exited(code) => Self::Exited(code),
            WireEnding::Signalled(signal) => Self::Signalled(signal),
            WireEnding::TimedOut => Self::TimedOut,
            WireEnding::Idle => Self::Idle,
            WireEnding::Stopped => Self::Stopped,
            WireEnding::NotStarted(why) => Self::NotStarted(why),
            WireEnding::Lost => Self::Lost,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum WireTask {
    Created,
    Started { attempt: u32, base: String, place: String, owner: String },
    Ended { attempt: u32, ending: WireEnding, candidate: Option<[String; 3]> },
    Judged { attempt: u32, tree: String, accepted: bool, results: Vec<WireResult>, landing: bool },
    Conflicted { onto: String },
    Retried { layer: String, not_before: u64, because: Option<String> },
    Landed { commit: String, results: Vec<WireResult> },
    Failed { reason: String },
    Skipped { message: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum WireRun {
    Created { paused: bool },
    BaseJudged { passed: bool, results: Vec<WireResult> },
    Paused { reason: String },
    Resumed,
    Halted { reason: String },
    Cancelled,
}
