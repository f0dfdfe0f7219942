//! Files between a supervisor and its keepers: assignments and outcomes.
//!
//! The files lie in the keeper's folder and are not state. If the program is upgraded while a
//! keeper works, processes of two versions share these files, so the files carry a version.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use checks::{
    AllowedDifferences, AstEqual, BuiltIn, CheckStep, HandedIn, KnownVerdict, RulesPutBack,
};
pub(crate) use checks::{CheckOutcome, ChecksOutcome, ChecksWork};

use super::facts::{WireSessionReport, WireTermination};
pub(crate) use super::sandbox::{OverlayPrograms, SandboxSpec};
use super::{WrongVersion, decode};

mod checks;

/// File names in a keeper's folder.
pub(crate) mod files {
    /// The assignment.
    pub(crate) const ASSIGNMENT: &str = "assignment.json";
    /// The lock that the keeper holds while it works. Its text names the process.
    pub(crate) const LOCK: &str = "lock";
    /// The keeper's own messages.
    pub(crate) const LOG: &str = "keeper.log";
    /// The prompt.
    pub(crate) const PROMPT: &str = "prompt.md";
    /// The findings so far, for the agent.
    pub(crate) const FEEDBACK: &str = "feedback.md";
    /// The agent's standard output.
    pub(crate) const STDOUT: &str = "stdout";
    /// The agent's standard error.
    pub(crate) const STDERR: &str = "stderr";
    /// The agent's last message, if its program writes a file with it.
    pub(crate) const LAST_MESSAGE: &str = "last-message";
    /// The id of the agent's session, as soon as it is known.
    pub(crate) const SESSION: &str = "session";
    /// An empty file that appears when the agent's service has answered.
    pub(crate) const ANSWERED: &str = "answered";
    /// The seal of the assignment: only this copy of the repository can make it.
    pub(crate) const ASSIGNMENT_SEAL: &str = "assignment.seal";
    /// The outcome.
    pub(crate) const OUTCOME: &str = "outcome.json";
    /// The extension of the home of sandboxed sessions, a folder beside the worktree's record.
    pub(crate) const HOME: &str = "home";
    /// The extension of the folder with the changes of setup commands to caches, beside the
    /// worktree's record.
    pub(crate) const CACHES: &str = "caches";
    /// The seal of the outcome.
    pub(crate) const OUTCOME_SEAL: &str = "outcome.seal";
    /// The network requests that were denied, one a line.
    pub(crate) const DENIED: &str = "denied";
    /// The folder for temporary files of the command.
    pub(crate) const TMP: &str = "tmp";
}

/// An assignment of a keeper. Environment variables are not part of an assignment, so that no
/// secret is ever in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// The format's version.
    pub v: u32,
    /// The repository's common directory.
    pub common_dir: PathBuf,
    /// A unique text that every process of the assignment has in its environment.
    pub marker: String,
    /// The worktree.
    pub worktree: WorktreeSpec,
    /// The work.
    pub work: Work,
    /// The sandbox of the commands; `None` for commands with the rights of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxSpec>,
}

/// A worktree, and the state in which the work starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WorktreeSpec {
    /// The name, such as `p01`.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// The private index.
    pub index: PathBuf,
    /// The commit to check out.
    pub commit: String,
    /// The branch to check out; `None` for a detached HEAD.
    pub branch: Option<String>,
    /// The commands that set up a new worktree.
    pub setup: Vec<Vec<String>>,
    /// The globs of the files whose change makes the commands run again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub setup_inputs: Vec<String>,
    /// The commit that the work to check out started from. If the set-up fails, it is tried there:
    /// only then is the work, and not the machine, known to be the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup_control: Option<String>,
    /// The ignored paths that a reset keeps from task to task.
    pub keep: Vec<String>,
    /// The files that the job provides, for commits without them: path and source file.
    #[serde(rename = "overlay")]
    pub provided: Vec<(String, PathBuf)>,
    /// The beginning of the names of refs for work that no attempt has recorded; `None` for a
    /// worktree in which nobody works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leftovers: Option<String>,
}

/// The kinds of work.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Work {
    /// An attempt on a task.
    Attempt(Box<AttemptWork>),
    /// A verification of a tree.
    Checks(ChecksWork),
    /// An evaluation of a candidate.
    Evaluation(Box<EvaluationWork>),
}

/// The call of an agent's program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SessionWork {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// True if the prompt is the standard input.
    pub prompt_on_stdin: bool,
    /// The time limit, in milliseconds.
    pub timeout_ms: u64,
    /// The longest time without output, in milliseconds.
    pub idle_ms: Option<u64>,
    /// The preset of the agent's program, as in a job file; `None` for a plain command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<serde_json::Value>,
    /// The names of variables whose values are redacted.
    pub secrets: Vec<String>,
}

/// An evaluation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EvaluationWork {
    /// The task.
    pub task: String,
    /// The attempt whose candidate is evaluated.
    pub attempt: u32,
    /// The candidate.
    pub commit: String,
    /// The file for the answer. Without it, the evaluator's last message is the answer.
    pub answer: PathBuf,
    /// The call of the evaluator's program.
    #[serde(flatten)]
    pub session: SessionWork,
}

/// An attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AttemptWork {
    /// The run.
    pub run: String,
    /// The task.
    pub task: String,
    /// The attempt's number.
    pub attempt: u32,
    /// The ref that the keeper publishes.
    pub publish: String,
    /// The call of the agent's program.
    #[serde(flatten)]
    pub session: SessionWork,
    /// The base of the task's work. The worktree shows a later commit if a session is resumed.
    pub base: String,
    /// The author of the candidate commit.
    pub author: WireAuthor,
    /// The message of the candidate commit.
    pub message: String,
    /// The output file, relative to the worktree. The keeper saves it even if git ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The reason why the agent has no sandbox; `None` if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsandboxed: Option<String>,
}

/// The author of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireAuthor {
    /// The name.
    pub name: String,
    /// The mail address.
    pub email: String,
}

/// The outcome of an attempt; a part of the content of the attempt's ref.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PublishedAttempt {
    /// The format's version.
    pub v: u32,
    /// The termination of the agent.
    pub termination: WireTermination,
    /// The candidate; `None` if nothing could be saved.
    pub candidate: Option<SavedCommit>,
    /// The report of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<WireSessionReport>,
    /// The duration of the session in milliseconds.
    pub wall_ms: u64,
    /// The size of standard output.
    pub stdout: StreamSize,
    /// The size of standard error.
    pub stderr: StreamSize,
    /// The number of processes that the agent left behind and that the keeper ended.
    pub leftover: usize,
    /// The time to prepare the worktree in milliseconds.
    pub prepare_ms: u64,
    /// The time to save the work in milliseconds.
    pub save_ms: u64,
    /// The sandbox of the agent, such as `bubblewrap`, or `unsandboxed` and the reason. Earlier
    /// versions did not record a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// The files that were left out of the candidate, because they have a known secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<WithheldFile>,
    /// The messages of the stash entries that the agent left in its private `.git`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stash: Vec<String>,
    /// Sentences for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A file with a known secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WithheldFile {
    /// The path.
    pub path: String,
    /// The line of the first secret, counted from 1.
    pub line: usize,
    /// The name of the variable with the secret.
    pub variable: String,
}

/// A commit and its tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedCommit {
    /// The commit.
    pub commit: String,
    /// Its tree.
    pub tree: String,
}

/// The size of an output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct StreamSize {
    /// The number of bytes that were printed.
    pub printed: u64,
    /// The number of bytes that were kept.
    pub kept: u64,
}

/// The outcome of an evaluation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EvaluationOutcome {
    /// The format's version.
    pub v: u32,
    /// The candidate.
    pub commit: String,
    /// The start time in milliseconds since the Unix epoch.
    pub began: u64,
    /// The termination of the evaluator.
    pub termination: WireTermination,
    /// The report of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<WireSessionReport>,
    /// The answer, as the evaluator gave it.
    pub answer: Option<String>,
    /// The duration of the session in milliseconds.
    pub wall_ms: u64,
    /// The tree that holds prompt, outputs and this outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
}

impl Assignment {
    /// Returns true if this assignment verifies `tree` with the checks `steps`. The path of the
    /// worktree may differ: `worktree` is the path that `steps` name.
    pub(crate) fn asks(&self, tree: &str, steps: &[CheckStep], worktree: &Path) -> bool {
        let Work::Checks(work) = &self.work else { return false };
        let plain = |version: &Option<Vec<String>>, worktree: &Path| {
            let worktree = worktree.to_string_lossy().into_owned();
            let plain = |argument: &String| argument.replace(&worktree, "");
            version.as_ref().map(|argv| argv.iter().map(plain).collect::<Vec<_>>())
        };
        let same = |a: &CheckStep, b: &CheckStep| {
            (&a.name, &a.key_argv, &a.salt, &a.setup, &a.env, &a.built_in)
                == (&b.name, &b.key_argv, &b.salt, &b.setup, &b.env, &b.built_in)
                && plain(&a.version, &self.worktree.path) == plain(&b.version, worktree)
        };
        work.tree == tree
            && work.checks.len() == steps.len()
            && work.checks.iter().zip(steps).all(|(a, b)| same(a, b))
    }
}

/// A file of a keeper's folder. The file need not be durable: what a power cut takes is repeated.
pub(crate) trait KeeperFile: Serialize + DeserializeOwned {
    /// The name of the file.
    const NAME: &'static str;

    /// Writes the file by renaming, so that no reader sees a half-written file. Returns its bytes.
    fn write(&self, dir: &Path) -> Result<Vec<u8>> {
        let new = dir.join(format!("{}.new", Self::NAME));
        let path = dir.join(Self::NAME);
        let bytes = serde_json::to_vec_pretty(self)?;
        std::fs::write(&new, &bytes)
            .and_then(|()| std::fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(bytes)
    }

    /// Reads the file, whoever wrote it. Returns `None` if it is missing or damaged.
    fn read(dir: &Path) -> Result<Option<Self>, WrongVersion> {
        match std::fs::read(dir.join(Self::NAME)) {
            Ok(bytes) => Self::parse(dir, &bytes),
            Err(_unreadable) => Ok(None),
        }
    }

    /// Parses the file's bytes. Returns `None` if they are damaged.
    fn parse(dir: &Path, bytes: &[u8]) -> Result<Option<Self>, WrongVersion> {
        match decode(&dir.join(Self::NAME).display().to_string(), bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => match error.downcast::<WrongVersion>() {
                Ok(version) => Err(version),
                Err(_damaged) => Ok(None),
            },
        }
    }
}

impl KeeperFile for Assignment {
    const NAME: &'static str = files::ASSIGNMENT;
}

impl KeeperFile for ChecksOutcome {
    const NAME: &'static str = files::OUTCOME;
}

impl KeeperFile for EvaluationOutcome {
    const NAME: &'static str = files::OUTCOME;
}

/// Returns a duration in whole milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
