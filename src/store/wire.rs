//! The shapes in which facts cross a process boundary: in trailers, notes, and what keepers write.

use serde::{Deserialize, Serialize};

use crate::domain::id::Timestamp;
use crate::domain::session::{Class, Cost, SessionReport, Tokens, Usage};
use crate::domain::termination::Termination;
use crate::domain::verdict::{CheckResult, Finding, Objection, Verdict};

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
    /// Finished, and stayed.
    Lingered,
    /// Not able to succeed.
    Hopeless,
    /// Asked to.
    Stopped,
    /// Never began; why.
    NotStarted(String),
    /// Its keeper died.
    Lost,
}

impl From<&Termination> for WireEnding {
    fn from(e: &Termination) -> Self {
        match e {
            Termination::Exited(code) => Self::Exited(*code),
            Termination::Signalled(signal) => Self::Signalled(*signal),
            Termination::TimedOut => Self::TimedOut,
            Termination::Idle => Self::Idle,
            Termination::Lingered => Self::Lingered,
            Termination::Hopeless => Self::Hopeless,
            Termination::Stopped => Self::Stopped,
            Termination::NotStarted(why) => Self::NotStarted(why.clone()),
            Termination::Lost => Self::Lost,
        }
    }
}

impl From<WireEnding> for Termination {
    fn from(e: WireEnding) -> Self {
        match e {
            WireEnding::Exited(code) => Self::Exited(code),
            WireEnding::Signalled(signal) => Self::Signalled(signal),
            WireEnding::TimedOut => Self::TimedOut,
            WireEnding::Idle => Self::Idle,
            WireEnding::Lingered => Self::Lingered,
            WireEnding::Hopeless => Self::Hopeless,
            WireEnding::Stopped => Self::Stopped,
            WireEnding::NotStarted(why) => Self::NotStarted(why),
            WireEnding::Lost => Self::Lost,
        }
    }
}

/// What a session said of itself, on the wire; keepers write it too.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct WireReading {
    class: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    /// Input, output, read from the cache, written to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<[u64; 4]>,
    /// Billionths of a US dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cost_nano_usd: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    cumulative: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resets_at: Option<u64>,
    #[serde(default)]
    denials: u32,
}

/// Tokens as four numbers: input, output, read from the cache, written to it.
pub(super) fn four(t: Tokens) -> [u64; 4] {
    [t.input, t.output, t.cache_read, t.cache_write]
}

/// Four numbers as tokens.
pub(super) fn tokens([input, output, cache_read, cache_write]: [u64; 4]) -> Tokens {
    Tokens { input, output, cache_read, cache_write }
}

impl From<&SessionReport> for WireReading {
    fn from(r: &SessionReport) -> Self {
        Self {
            class: r.class.to_string(),
            detail: r.detail.clone(),
            session: r.session.clone(),
            tokens: r.usage.tokens.map(four),
            cost_nano_usd: r.usage.cost.map(|c| c.0),
            cumulative: r.cumulative,
            resets_at: r.resets_at.map(|t| t.0),
            denials: r.denials,
        }
    }
}

impl From<WireReading> for SessionReport {
    fn from(w: WireReading) -> Self {
        Self {
            // A word of a newer version is no success.
            class: Class::parse(&w.class).unwrap_or(Class::Crashed),
            detail: w.detail,
            session: w.session,
            usage: Usage { tokens: w.tokens.map(tokens), cost: w.cost_nano_usd.map(Cost) },
            cumulative: w.cumulative,
            resets_at: w.resets_at.map(Timestamp),
            denials: w.denials,
        }
    }
}

/// What an evaluator said, on the wire; the texts of findings live in the chain's tree.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WireOpinion {
    Passed,
    Failed { digest: String },
    None(String),
}

impl From<&Verdict<Objection>> for WireOpinion {
    fn from(opinion: &Verdict<Objection>) -> Self {
        match opinion {
            Verdict::Passed => Self::Passed,
            Verdict::Failed(Objection { digest, .. }) => Self::Failed { digest: digest.clone() },
            Verdict::Errored(why) => Self::None(why.clone()),
        }
    }
}

impl From<WireOpinion> for Verdict<Objection> {
    fn from(wire: WireOpinion) -> Self {
        match wire {
            WireOpinion::Passed => Self::Passed,
            WireOpinion::Failed { digest } => {
                Self::Failed(Objection { findings: Vec::new(), digest })
            }
            WireOpinion::None(why) => Self::Errored(why),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum WireTask {
    Created,
    Started {
        attempt: u32,
        base: String,
        #[serde(rename = "place")]
        worktree: String,
        owner: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<String>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        resumed: bool,
    },
    Ended {
        attempt: u32,
        ending: WireEnding,
        candidate: Option<[String; 3]>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reading: Option<WireReading>,
    },
    Judged {
        attempt: u32,
        tree: String,
        accepted: bool,
        results: Vec<WireResult>,
        landing: bool,
    },
    Presented,
    Evaluated {
        attempt: u32,
        tree: String,
        opinion: WireOpinion,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reading: Option<WireReading>,
    },
    ReviewAsked,
    Approved {
        by: String,
        at: u64,
        commit: String,
        tree: String,
    },
    SentBack {
        by: String,
    },
    Revised {
        candidate: [String; 3],
    },
    Conflicted {
        onto: String,
    },
    Retried {
        layer: String,
        not_before: u64,
        because: Option<String>,
    },
    Landed {
        commit: String,
        results: Vec<WireResult>,
    },
    HandedIn,
    Failed {
        reason: String,
        #[serde(default)]
        cause: String,
    },
    Skipped {
        message: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum WireRun {
    Created {
        paused: bool,
    },
    BaseJudged {
        passed: bool,
        results: Vec<WireResult>,
    },
    Paused {
        reason: String,
    },
    Resumed {
        #[serde(default)]
        done: u32,
        #[serde(default)]
        failed: u32,
        #[serde(default)]
        canary: bool,
    },
    Halted {
        halt: String,
        reason: String,
    },
    Account {
        closed_until: u64,
        proven: bool,
        strikes: u32,
        slots: Option<usize>,
        because: Option<String>,
        /// The evaluators', where that is another one.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        evaluator: bool,
    },
    Split {
        task: String,
        parts: Vec<(String, Vec<String>)>,
    },
    Replanned {
        base: Option<String>,
        counts: [usize; 6],
    },
    JobChanged {
        sections: Vec<String>,
    },
    Cancelled,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What earlier versions have written, and what this one adds.
    const ENDINGS: &str = r#"[{"exited":3},{"signalled":9},"timed_out","idle","stopped",{"not_started":"why"},"lost",
        "lingered","hopeless"]"#;

    #[test]
    fn endings_keep_their_form() {
        let read: Vec<WireEnding> = serde_json::from_str(ENDINGS).unwrap();
        let meant: Vec<Termination> = read.iter().cloned().map(Termination::from).collect();
        assert_eq!(meant[..2], [Termination::Exited(3), Termination::Signalled(9)]);
        assert_eq!(meant[7..], [Termination::Lingered, Termination::Hopeless]);
        let written: Vec<WireEnding> = meant.iter().map(WireEnding::from).collect();
        assert_eq!(written, read);
        let text: String = ENDINGS.split_whitespace().collect();
        assert_eq!(serde_json::to_string(&written).unwrap(), text);
    }
}
