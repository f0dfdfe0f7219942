//! The JSON that commands print. Scripts rely on the keys: they are added, never renamed or
//! reordered.

mod collect;
mod queue;
mod sweep;

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;

pub(crate) use self::collect::{
    ChangeTask, CollectCounts, CollectPage, CollectSummary, CollectedChanges, CollectedOutput,
    CollectedOutputs, FixedFinding, MissingTask, OutputFile, SkillPage,
};
pub(crate) use self::queue::{
    FailsWith, Queue, QueuedBranch, QueuedTask, StaleCheckout, Verifying,
};
pub(crate) use self::sweep::{SpaceToFree, SweepableWorktree, Swept};
use super::VERSION;

/// The field `v`: the version of the output.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Version;

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(VERSION)
    }
}

/// `status --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Status<'a> {
    pub v: Version,
    pub run: &'a str,
    pub job: &'a str,
    pub state: &'a str,
    pub driver: Option<&'a str>,
    pub reason: Option<&'a str>,
    /// The sandbox of agents and checks. Left out if the job wants none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<&'a str>,
    pub base: &'a str,
    pub target: &'a str,
    pub plan: &'a str,
    pub counts: Counts,
    pub tokens: Tokens,
    pub cost_usd: Option<f64>,
    pub unreported: Unreported,
    pub evaluation: Option<Evaluation>,
    pub halt: Option<&'a str>,
    pub measured: Option<Measured>,
    /// Milliseconds since the Unix epoch before which no agent starts.
    pub closed_until: Option<u64>,
    pub waits_for: Option<WaitsFor<'a>>,
    pub next_action: Option<NextAction<'a>>,
    /// Milliseconds until no task can continue; null without an estimate.
    pub left_ms: Option<u64>,
    pub failures: Vec<FailureGroup>,
    pub tasks: Vec<Task<'a>>,
}

/// The thing that a run waits for or needs.
#[derive(Debug, Serialize)]
pub(crate) struct WaitsFor<'a> {
    pub code: &'a str,
    pub text: &'a str,
}

/// The next command that helps.
#[derive(Debug, Serialize)]
pub(crate) struct NextAction<'a> {
    pub code: &'a str,
    pub command: &'a str,
}

/// `runs --json`.
#[derive(Debug, Serialize)]
pub(crate) struct RunList<'a> {
    pub v: Version,
    pub runs: Vec<RunLine<'a>>,
}

/// A run in a list. `created_at` is in milliseconds since the Unix epoch.
#[derive(Debug, Serialize)]
pub(crate) struct RunLine<'a> {
    pub run: &'a str,
    pub job: &'a str,
    pub state: &'a str,
    pub driver: Option<&'a str>,
    pub target: &'a str,
    pub created_at: u64,
    pub tasks: usize,
    pub done: usize,
    pub failed: usize,
    pub skipped: usize,
}

/// The numbers of tasks by displayed state.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub todo: u64,
    pub blocked: u64,
    pub running: u64,
    pub verifying: u64,
    pub reviewing: u64,
    pub queued: u64,
    pub landing: u64,
    pub done: u64,
    pub failed: u64,
    pub skipped: u64,
}

/// Tokens by kind; null if sessions have ended and none has reported any.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tokens {
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub cache_read: Option<u64>,
    pub cache_write: Option<u64>,
}

/// The numbers of sessions that did not report tokens or cost. The sums do not include these
/// sessions.
#[derive(Debug, Serialize)]
pub(crate) struct Unreported {
    pub tokens: u32,
    pub cost: u32,
}

/// The tokens and the cost of evaluators. Those of agents are counted separately.
#[derive(Debug, Serialize)]
pub(crate) struct Evaluation {
    pub tokens: Tokens,
    pub cost_usd: Option<f64>,
    pub unreported: Unreported,
}

/// Planned and reported tokens, and the `token-factor` at which both would be equal.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub planned: u64,
    pub reported: u64,
    pub token_factor: f64,
}

/// Failed tasks with a common cause.
#[derive(Debug, Serialize)]
pub(crate) struct FailureGroup {
    pub cause: String,
    pub tasks: Vec<String>,
}

/// A task in `status --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Task<'a> {
    pub id: &'a str,
    pub state: &'a str,
    pub files: &'a [String],
    pub after: Vec<&'a str>,
    pub attempts: u32,
    pub branch: Option<String>,
    pub candidate: Option<&'a str>,
    pub landed: Option<&'a str>,
    pub output: Option<String>,
    pub reason: Option<String>,
    pub tokens: TaskTokens,
    pub cost_usd: Option<f64>,
    pub class: Option<&'a str>,
    pub cause: Option<&'a str>,
    pub session: Option<&'a str>,
    pub approved: Option<Approval<'a>>,
    pub evaluation: Option<Evaluation>,
    pub rounds: u32,
}

/// The tokens of a task: `{}` if no session has reported any.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum TaskTokens {
    Unreported {},
    Reported(Tokens),
}

/// The approval of a candidate; `at` is in milliseconds since the Unix epoch.
#[derive(Debug, Serialize)]
pub(crate) struct Approval<'a> {
    pub by: &'a str,
    pub at: u64,
    pub commit: &'a str,
    pub tree: &'a str,
}

/// `show --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Show<'a> {
    #[serde(flatten)]
    pub task: Task<'a>,
    pub v: Version,
    pub run: &'a str,
    /// The sandbox of the last attempt. Left out if no attempt has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// The requests of the last attempt that its sandbox denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<String>,
    pub findings: Vec<Finding<'a>>,
}

/// A finding of a check.
#[derive(Debug, Serialize)]
pub(crate) struct Finding<'a> {
    pub attempt: u32,
    pub check: &'a str,
    pub text: &'a str,
}

/// `show --transcript --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Transcript<'a> {
    pub v: Version,
    pub run: &'a str,
    pub task: &'a str,
    pub attempt: u32,
    pub stdout: Vec<TranscriptEntry<'a>>,
    pub stderr: Vec<TranscriptEntry<'a>>,
}

/// A part of a transcript.
#[derive(Debug, Serialize)]
pub(crate) struct TranscriptEntry<'a> {
    pub kind: &'a str,
    pub text: &'a str,
}

/// A line of `log --follow --json`.
#[derive(Debug, Serialize)]
pub(crate) struct FollowedEntry<'a> {
    pub v: Version,
    pub attempt: u32,
    pub stream: &'a str,
    pub kind: &'a str,
    pub text: &'a str,
}

/// The last line of `log --follow --json`.
#[derive(Debug, Serialize)]
pub(crate) struct FollowedEnd<'a> {
    pub v: Version,
    pub attempt: u32,
    pub ending: Option<&'a str>,
}

/// A line of `log --json`.
#[derive(Debug, Serialize)]
pub(crate) struct LogLine<'a> {
    pub v: Version,
    pub run: &'a str,
    pub task: Option<&'a str>,
    pub at: u64,
    pub commit: &'a str,
    pub event: Value,
}

/// `plan --diff --json`.
#[derive(Debug, Serialize)]
pub(crate) struct PlanDiff<'a> {
    pub v: Version,
    pub run: &'a str,
    pub base: &'a str,
    pub plan: &'a str,
    pub kept: Vec<&'a str>,
    pub same: Vec<&'a str>,
    pub updated: Vec<&'a str>,
    pub new: Vec<&'a str>,
    pub back: Vec<&'a str>,
    pub left: Vec<&'a str>,
}

/// `validate --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Validation<'a> {
    pub v: Version,
    pub file: &'a str,
    pub job: &'a str,
    pub preset: &'a str,
    pub checks: usize,
    pub hints: &'a [String],
}

/// `doctor --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Doctor<'a> {
    pub v: Version,
    pub problems: usize,
    pub findings: Vec<Diagnosis<'a>>,
}

/// A finding of `doctor`.
#[derive(Debug, Serialize)]
pub(crate) struct Diagnosis<'a> {
    pub level: String,
    pub what: &'a str,
    pub said: &'a str,
}

/// `agent list --json`. A preset is printed as a job file would contain it.
#[derive(Debug, Serialize)]
pub(crate) struct AgentList<'a, P: Serialize> {
    pub v: Version,
    pub presets: &'a [P],
}

/// `accounts --json`.
#[derive(Debug, Serialize)]
pub(crate) struct AccountList<'a> {
    pub v: Version,
    pub accounts: Vec<ClosedAccountLine<'a>>,
}

/// A closed account of a run.
#[derive(Debug, Serialize)]
pub(crate) struct ClosedAccountLine<'a> {
    pub name: String,
    pub run: &'a str,
    pub sessions: &'a str,
    pub closed_until: u64,
    pub because: Option<&'a str>,
}

/// `agent classify`.
#[derive(Debug, Serialize)]
pub(crate) struct Classification<'a> {
    pub v: Version,
    pub class: &'a str,
    pub session: Option<&'a str>,
    pub tokens: Option<Tokens>,
    pub cost_usd: Option<f64>,
    pub cumulative: bool,
    pub resets_at: Option<String>,
    pub denials: u32,
    pub detail: Option<&'a str>,
}

/// `cancel --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Cancelled<'a> {
    pub v: Version,
    pub run: &'a str,
    pub cancelled: bool,
}

/// `verify --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Verification<'a> {
    pub v: Version,
    pub run: &'a str,
    pub task: &'a str,
    pub candidate: &'a str,
    pub tree: &'a str,
    pub passed: bool,
    pub checks: Vec<CheckResult<'a>>,
}

/// The result of one check.
#[derive(Debug, Serialize)]
pub(crate) struct CheckResult<'a> {
    pub name: &'a str,
    pub passed: bool,
    pub ms: u64,
}

/// `review --format json` without a task.
#[derive(Debug, Serialize)]
pub(crate) struct Reviews<T: Serialize> {
    pub v: Version,
    pub waiting: Vec<T>,
}

/// A candidate that waits for a review.
#[derive(Debug, Serialize)]
pub(crate) struct ReviewSummary {
    pub run: String,
    pub task: String,
    pub state: &'static str,
    pub attempt: u32,
    pub since: u64,
    pub revised: bool,
    pub base: String,
    pub candidate: String,
    pub tree: String,
    pub added: usize,
    pub removed: usize,
    pub files: Vec<ChangedFile>,
}

/// A file that a candidate changes.
#[derive(Debug, Serialize)]
pub(crate) struct ChangedFile {
    pub path: String,
    pub from: Option<String>,
    pub binary: bool,
    pub added: usize,
    pub removed: usize,
}

/// `review TASK --format json`.
#[derive(Debug, Serialize)]
pub(crate) struct Review<'a> {
    #[serde(flatten)]
    pub summary: ReviewSummary,
    pub v: Version,
    pub checks: Vec<CheckResult<'a>>,
    pub findings: Vec<Finding<'a>>,
    pub said: Option<&'a str>,
    pub approved: Option<Approval<'a>>,
}

/// `why --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Why<'a> {
    pub v: Version,
    pub commit: &'a str,
    pub origins: Vec<Origin<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fails_with: Vec<FailsWith<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queue: Vec<UnlandedEntry>,
}

/// A branch that proposes a commit and has not landed one.
#[derive(Debug, Serialize)]
pub(crate) struct UnlandedEntry {
    /// The full ref name of the target.
    pub target: String,
    /// The branch.
    pub entry: String,
    /// The place in the queue, or the reason why the branch did not land.
    pub why: String,
}

/// The work that a commit comes from.
#[derive(Debug, Serialize)]
pub(crate) struct Origin<'a> {
    pub by: &'a str,
    pub landed: Option<&'a str>,
    pub who: String,
    pub note: &'a Value,
}

/// `blame --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Blame<'a> {
    pub v: Version,
    pub file: &'a str,
    pub lines: Vec<BlamedLine<'a>>,
    pub commits: BTreeMap<&'a str, Vec<Origin<'a>>>,
}

/// A line of a file and the commit that the line comes from.
#[derive(Debug, Serialize)]
pub(crate) struct BlamedLine<'a> {
    pub line: usize,
    pub commit: &'a str,
    pub text: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order_and_version() {
        let cancelled = Cancelled { v: Version, run: "r", cancelled: true };
        let text = serde_json::to_string(&cancelled).unwrap();
        assert_eq!(text, r#"{"v":1,"run":"r","cancelled":true}"#);
        let tokens = [TaskTokens::Unreported {}, TaskTokens::Reported(Tokens::default())];
        let text = serde_json::to_string(&tokens).unwrap();
        let null = r#"{"input":null,"output":null,"cache_read":null,"cache_write":null}"#;
        assert_eq!(text, format!("[{{}},{null}]"));
    }
}
