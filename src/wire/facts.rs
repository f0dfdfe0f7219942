//! Facts that several formats contain: results, findings, terminations, session reports.

use serde::{Deserialize, Serialize};

use crate::domain::id::{Oid, Timestamp};
use crate::domain::session::{Class, Cost, SessionProgress, SessionReport, Tokens, Usage};
use crate::domain::termination::Termination;
use crate::domain::verdict::{Candidate, CheckResult, Finding, Objection, Verdict};

/// The result of a check.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct WireResult {
    /// The check's name.
    pub name: String,
    /// The verdict's key.
    pub key: String,
    /// True if the check passed.
    pub passed: bool,
    /// The duration in milliseconds.
    pub ms: u64,
    /// The id of the execution that produced the result. A note with the result is trusted only if
    /// a chain or queue log contains the same id.
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

/// A candidate.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct WireCandidate {
    /// The commit.
    pub commit: String,
    /// Its tree.
    pub tree: String,
    /// The commit on which the attempt built.
    pub base: String,
}

impl From<&Candidate> for WireCandidate {
    fn from(candidate: &Candidate) -> Self {
        let Candidate { commit, tree, base } = candidate;
        Self { commit: commit.to_string(), tree: tree.to_string(), base: base.to_string() }
    }
}

impl TryFrom<WireCandidate> for Candidate {
    type Error = anyhow::Error;

    fn try_from(wire: WireCandidate) -> anyhow::Result<Self> {
        let WireCandidate { commit, tree, base } = wire;
        let (commit, tree, base) = (Oid::parse(&commit)?, Oid::parse(&tree)?, Oid::parse(&base)?);
        Ok(Self { commit, tree, base })
    }
}

/// A finding.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct WireFinding {
    /// The attempt.
    pub attempt: u32,
    /// The check.
    pub check: String,
    /// The text.
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

/// The termination of an agent's process.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum WireTermination {
    /// The exit code.
    Exited(i32),
    /// The signal.
    Signalled(i32),
    /// The time limit was reached.
    TimedOut,
    /// The process printed nothing for too long.
    Idle,
    /// The agent was done, but its process did not end.
    Lingered,
    /// The agent could not succeed any more.
    Hopeless,
    /// A person stopped the run.
    Stopped,
    /// The process did not start, with the reason.
    NotStarted(String),
    /// The keeper died.
    Lost,
}

impl From<&Termination> for WireTermination {
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

impl From<WireTermination> for Termination {
    fn from(e: WireTermination) -> Self {
        match e {
            WireTermination::Exited(code) => Self::Exited(code),
            WireTermination::Signalled(signal) => Self::Signalled(signal),
            WireTermination::TimedOut => Self::TimedOut,
            WireTermination::Idle => Self::Idle,
            WireTermination::Lingered => Self::Lingered,
            WireTermination::Hopeless => Self::Hopeless,
            WireTermination::Stopped => Self::Stopped,
            WireTermination::NotStarted(why) => Self::NotStarted(why),
            WireTermination::Lost => Self::Lost,
        }
    }
}

/// The report of an agent's program on its session.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct WireSessionReport {
    class: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<WireTokens>,
    /// The cost in billionths of a US dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cost_nano_usd: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    cumulative: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resets_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limited_model: Option<String>,
    #[serde(default)]
    denials: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    progress: Option<WireSessionProgress>,
}

/// The progress of a session. Absent for a session that started and got no answer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum WireSessionProgress {
    Silent,
    Answered,
    #[serde(other)]
    Unknown,
}

impl WireSessionProgress {
    fn new(progress: SessionProgress) -> Option<Self> {
        match progress {
            SessionProgress::Silent => Some(Self::Silent),
            SessionProgress::Started => None,
            SessionProgress::Answered => Some(Self::Answered),
        }
    }

    fn progress(self) -> SessionProgress {
        match self {
            Self::Silent => SessionProgress::Silent,
            Self::Answered => SessionProgress::Answered,
            Self::Unknown => SessionProgress::Started,
        }
    }
}

/// Counts of tokens.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct WireTokens {
    /// Input that was not read from the cache.
    pub input: u64,
    /// Output.
    pub output: u64,
    /// Input that was read from the cache.
    pub cache_read: u64,
    /// Input that was written to the cache.
    pub cache_write: u64,
}

impl From<Tokens> for WireTokens {
    fn from(tokens: Tokens) -> Self {
        let Tokens { input, output, cache_read, cache_write } = tokens;
        Self { input, output, cache_read, cache_write }
    }
}

impl From<WireTokens> for Tokens {
    fn from(tokens: WireTokens) -> Self {
        let WireTokens { input, output, cache_read, cache_write } = tokens;
        Self { input, output, cache_read, cache_write }
    }
}

impl From<&SessionReport> for WireSessionReport {
    fn from(r: &SessionReport) -> Self {
        Self {
            class: r.class.to_string(),
            detail: r.detail.clone(),
            session: r.session.clone(),
            tokens: r.usage.tokens.map(WireTokens::from),
            cost_nano_usd: r.usage.cost.map(|c| c.0),
            cumulative: r.cumulative,
            resets_at: r.resets_at.map(|t| t.0),
            limited_model: r.limited_model.clone(),
            denials: r.denials,
            progress: WireSessionProgress::new(r.progress),
        }
    }
}

impl From<WireSessionReport> for SessionReport {
    fn from(w: WireSessionReport) -> Self {
        Self {
            // An unknown class does not count as success.
            class: Class::parse(&w.class).unwrap_or(Class::Crashed),
            detail: w.detail,
            session: w.session,
            usage: Usage { tokens: w.tokens.map(Tokens::from), cost: w.cost_nano_usd.map(Cost) },
            cumulative: w.cumulative,
            resets_at: w.resets_at.map(Timestamp),
            limited_model: w.limited_model,
            denials: w.denials,
            progress: w.progress.map_or(SessionProgress::Started, WireSessionProgress::progress),
        }
    }
}

/// The evaluator's verdict. The texts of its findings are in the chain's tree.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WireEvaluation {
    Passed,
    Failed { digest: String },
    Errored(String),
}

impl From<&Verdict<Objection>> for WireEvaluation {
    fn from(verdict: &Verdict<Objection>) -> Self {
        match verdict {
            Verdict::Passed => Self::Passed,
            Verdict::Failed(Objection { digest, .. }) => Self::Failed { digest: digest.clone() },
            Verdict::Errored(why) => Self::Errored(why.clone()),
        }
    }
}

impl From<WireEvaluation> for Verdict<Objection> {
    fn from(wire: WireEvaluation) -> Self {
        match wire {
            WireEvaluation::Passed => Self::Passed,
            WireEvaluation::Failed { digest } => {
                Self::Failed(Objection { findings: Vec::new(), digest })
            }
            WireEvaluation::Errored(why) => Self::Errored(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All terminations.
    const TERMINATIONS: &str = r#"[{"exited":3},{"signalled":9},"timed_out","idle","stopped",{"not_started":"why"},"lost",
        "lingered","hopeless"]"#;

    #[test]
    fn terminations_keep_their_form() {
        let read: Vec<WireTermination> = serde_json::from_str(TERMINATIONS).unwrap();
        let meant: Vec<Termination> = read.iter().cloned().map(Termination::from).collect();
        assert_eq!(meant[..2], [Termination::Exited(3), Termination::Signalled(9)]);
        assert_eq!(meant[7..], [Termination::Lingered, Termination::Hopeless]);
        let written: Vec<WireTermination> = meant.iter().map(WireTermination::from).collect();
        assert_eq!(written, read);
        let text: String = TERMINATIONS.split_whitespace().collect();
        assert_eq!(serde_json::to_string(&written).unwrap(), text);
    }
}
