//! What a keeper is told, and what it says: files between processes of one machine, never state.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::files;
use crate::agent::preset::Preset;
use crate::contract::ast_equal::AstEqualOptions;
use crate::process::Environ;
use crate::store::wire::{WireEnding, WireReading};

/// The version of the format; a keeper and its supervisor are usually one program, but an upgrade can come between.
pub(crate) const VERSION: u32 = 1;

/// Everything that a keeper needs to know. Variables are handed over beside it, so that no key is ever in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// The format's version.
    pub v: u32,
    /// The repository's common directory.
    pub common_dir: PathBuf,
    /// Unique to this keeper; every process it starts carries it in its environment.
    pub marker: String,
    /// Where it works.
    #[serde(rename = "place")]
    pub worktree: WorktreeSpec,
    /// What it does there.
    pub work: Work,
    /// The variables of what it starts.
    #[serde(skip)]
    pub env: Environ,
}

/// The place, and the state it must be in before anything runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WorktreeSpec {
    /// Its slot, such as `p01`.
    pub name: String,
    /// The worktree.
    pub path: PathBuf,
    /// Our own copy of its index.
    pub index: PathBuf,
    /// The commit it must show.
    pub commit: String,
    /// The branch it is on; detached when absent.
    pub branch: Option<String>,
    /// Commands that make a new place fit for work.
    pub setup: Vec<Vec<String>>,
    /// Ignored paths that stay from task to task.
    pub keep: Vec<String>,
    /// Files that are put over the commit's own: those that the job pinned. Pairs of path and source file.
    pub overlay: Vec<(String, PathBuf)>,
}

/// The kinds of work.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Work {
    /// An agent on a task.
    Attempt(Box<AttemptWork>),
    /// Checks on a tree.
    Checks(ChecksWork),
    /// An agent that judges a candidate.
    Evaluation(Box<EvaluationWork>),
}

/// An agent's session: how its program is called.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SessionWork {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Whether the prompt goes to standard input.
    pub prompt_on_stdin: bool,
    /// Milliseconds.
    pub timeout_ms: u64,
    /// Milliseconds without output.
    pub idle_ms: Option<u64>,
    /// What is known of the agent's program; nothing for a plain command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Names of variables whose values must not appear in what is kept.
    pub secrets: Vec<String>,
}

/// An evaluation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EvaluationWork {
    /// The task.
    pub task: String,
    /// Its attempt.
    pub attempt: u32,
    /// The candidate that is shown.
    pub commit: String,
    /// Where it may write its answer; else its last message is taken.
    pub answer: PathBuf,
    /// How it is called.
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
    /// Its attempt.
    pub attempt: u32,
    /// The ref that says how it went.
    pub publish: String,
    /// How its program is called.
    #[serde(flatten)]
    pub session: SessionWork,
    /// The commit on which the task builds; the place shows a later one where a session goes on.
    pub base: String,
    /// Author of the candidate commit.
    pub author: (String, String),
    /// The task in words: the candidate commit's message.
    pub message: String,
    /// The file to hand in, relative to the place; part of the work although git may ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// Checks on a tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChecksWork {
    /// The tree that is judged.
    pub tree: String,
    /// The checks, in order.
    pub checks: Vec<CheckStep>,
    /// The tasks of a run whose work would land with it, in order; whoever comes back asks the same of the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<String>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckStep {
    /// Its name.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// A command whose output is part of the key.
    pub version: Option<Vec<String>>,
    /// Milliseconds.
    pub timeout_ms: u64,
    /// The arguments as they count for the key: without what differs from place to place.
    pub key_argv: Vec<String>,
    /// What else counts for the key: the content of the files that the job pinned.
    pub salt: String,
    /// Verdicts on this tree that are known and trusted. Empty when it must run.
    pub known: Vec<Known>,
    /// What is done instead of running a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_in: Option<BuiltIn>,
}

/// A check that is built in.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum BuiltIn {
    /// Whether the task's files are the programs that they were.
    AstEqual(AstEqual),
    /// Whether the file that was to be handed in is there, and is what its schema says.
    HandedIn(HandedIn),
}

/// See [`crate::contract::json_schema`].
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct HandedIn {
    /// The file's path.
    pub path: String,
    /// The name of the JSON Schema among the files that the job pinned.
    pub schema: Option<String>,
}

/// See [`crate::contract::ast_equal`].
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct AstEqual {
    /// Globs of the files before.
    pub from: Vec<String>,
    /// Globs of those after.
    pub to: Vec<String>,
    /// What is allowed beside types.
    pub options: AstEqualOptions,
    /// The commit that has the files before.
    pub base: String,
    /// The task's files.
    pub files: Vec<String>,
    /// Whether the tree holds the work of others too.
    pub merged: bool,
}

/// A verdict that need not be earned again.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Known {
    /// Its key.
    pub key: String,
    /// What it says.
    pub passed: bool,
    /// The id under which it is vouched for.
    pub id: String,
    /// What the check printed when it failed.
    pub text: String,
}

/// How an attempt went; part of what its ref holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The format's version.
    pub v: u32,
    /// How the agent ended.
    pub ending: WireEnding,
    /// The candidate commit, and its tree; absent when nothing could be saved.
    pub candidate: Option<(String, String)>,
    /// The commit from which it started.
    pub base: String,
    /// Whether the candidate differs from the base.
    pub changed: bool,
    /// What its session said of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<WireReading>,
    /// Milliseconds that the agent ran.
    pub wall_ms: u64,
    /// Bytes printed, and bytes kept, on standard output and standard error.
    pub output: [u64; 4],
    /// Processes that were left behind and had to be ended.
    pub leftover: usize,
    /// Milliseconds that making the place ready took.
    pub prepare_ms: u64,
    /// Milliseconds that saving took.
    pub save_ms: u64,
}

/// What a keeper of checks says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChecksOutcome {
    /// The format's version.
    pub v: u32,
    /// The tree that was judged.
    pub tree: String,
    /// What could not be done, if anything: then nothing is judged.
    pub fault: Option<String>,
    /// Each check in order, as far as they went.
    pub checks: Vec<CheckOutcome>,
}

/// What a keeper of an evaluation says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EvaluationOutcome {
    /// The format's version.
    pub v: u32,
    /// The candidate that was shown.
    pub commit: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub began: u64,
    /// How the evaluator ended.
    pub ending: WireEnding,
    /// What its session said of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<WireReading>,
    /// Its answer, as it gave it.
    pub answer: Option<String>,
    /// Milliseconds that it ran.
    pub wall_ms: u64,
    /// The tree of its prompt, its outputs and this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
}

/// One check's outcome.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CheckOutcome {
    /// Its name.
    pub name: String,
    /// The key of the verdict.
    pub key: String,
    /// Whether it passed.
    pub passed: bool,
    /// The id of the verdict, when it was known and nothing ran.
    pub known: Option<String>,
    /// Milliseconds.
    pub ms: u64,
    /// What it printed, shortened for a prompt.
    pub text: String,
}

impl Spec {
    /// Whether these checks of a tree are what it asks for; `worktree` is the place that they speak of.
    pub(crate) fn asks(&self, tree: &str, steps: &[CheckStep], worktree: &Path) -> bool {
        let Work::Checks(work) = &self.work else { return false };
        // What differs from place to place is no difference.
        let plain = |version: &Option<Vec<String>>, worktree: &Path| {
            let worktree = worktree.to_string_lossy().into_owned();
            let plain = |argument: &String| argument.replace(&worktree, "");
            version.as_ref().map(|argv| argv.iter().map(plain).collect::<Vec<_>>())
        };
        let same = |a: &CheckStep, b: &CheckStep| {
            (&a.name, &a.key_argv, &a.salt, &a.built_in)
                == (&b.name, &b.key_argv, &b.salt, &b.built_in)
                && plain(&a.version, &self.worktree.path) == plain(&b.version, worktree)
        };
        work.tree == tree
            && work.checks.len() == steps.len()
            && work.checks.iter().zip(steps).all(|(a, b)| same(a, b))
    }

    /// Writes the specification into a keeper's folder.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        // Not durable on purpose: after a power cut there is no keeper that could read it.
        let text = serde_json::to_vec_pretty(self)?;
        let path = dir.join(files::SPEC);
        let new = dir.join("spec.json.new");
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads it.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(files::SPEC);
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let spec: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not a specification", path.display()))?;
        if spec.v != VERSION {
            bail!("{} has format version {}", path.display(), spec.v);
        }
        Ok(spec)
    }
}

/// Writes an outcome, at once or not at all. Not durable on purpose: what a power cut takes is judged once more.
fn write_outcome(dir: &Path, outcome: &impl Serialize) -> Result<()> {
    let new = dir.join("outcome.json.new");
    std::fs::write(&new, serde_json::to_vec_pretty(outcome)?)
        .and_then(|()| std::fs::rename(&new, dir.join(files::OUTCOME)))
        .context("cannot write the outcome")
}

/// Reads an outcome, if there is one.
fn read_outcome<T: for<'a> Deserialize<'a>>(dir: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(dir.join(files::OUTCOME)).ok()?).ok()
}

impl ChecksOutcome {
    /// Writes it, at once or not at all.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        write_outcome(dir, self)
    }

    /// Reads it, if there is one.
    pub(crate) fn read(dir: &Path) -> Option<Self> {
        read_outcome(dir).filter(|o: &Self| o.v == VERSION)
    }
}

impl EvaluationOutcome {
    /// Writes it, at once or not at all.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        write_outcome(dir, self)
    }

    /// Reads it, if there is one.
    pub(crate) fn read(dir: &Path) -> Option<Self> {
        read_outcome(dir).filter(|o: &Self| o.v == VERSION)
    }
}

/// A duration as milliseconds on the wire.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
