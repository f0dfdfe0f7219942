//! A validated job, with all defaults filled in.

use std::time::Duration;

use super::globs::{PathGlobs, ScopePattern};
use super::plan::PlanSection;
use super::sandbox::SandboxSection;
use crate::contract::ast_equal::AstEqualOptions;
use crate::domain::network::NetworkAccess;

/// A job: the goal, the plan, the agent, the checks, and the rules for landing.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// `[job]`.
    pub job: JobSection,
    /// `[plan]`.
    pub plan: PlanSection,
    /// `[agent]`.
    pub agent: AgentSection,
    /// `[worktree]`.
    pub worktree: WorktreeSection,
    /// `[sandbox]`.
    pub sandbox: SandboxSection,
    /// `[[check]]`, in the order in which they run. May be empty.
    pub checks: Vec<Check>,
    /// `[scope]`.
    pub scope: ScopeSection,
    /// `[output]`. Set if and only if `kind = "report"`.
    pub output: Option<OutputSection>,
    /// `[evaluate]`, or `None` for a job without an evaluator.
    pub evaluate: Option<EvaluateSection>,
    /// `[retry]`.
    pub retry: RetrySection,
    /// `[limits]`.
    pub limits: LimitsSection,
    /// `[queue]`.
    pub queue: QueueSection,
    /// `[presets.NAME]`, which the preset resolver validates.
    pub presets: PresetsSection,
}

/// `[job]`: the goal, the base and the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSection {
    /// `name`: safe in a ref. `None` selects the name of the folder (see [`super::slug`]).
    pub name: Option<String>,
    /// `goal`: the start of each prompt. Never blank.
    pub goal: String,
    /// `base`: the revision at which the job is planned. The default is `HEAD`.
    pub base: String,
    /// `target`: the branch on which tasks land, without `refs/heads/`. `None` selects a branch of
    /// the run.
    pub target: Option<String>,
    /// `kind`: the product of a task.
    pub kind: JobKind,
    /// `base-check`: the reaction to a landing check that fails on the base.
    pub base_check: BaseCheck,
}

/// The product of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// Commits, which land on the target.
    Change,
    /// A file, which does not land on the target.
    Report,
}

/// `[output]`: the output file of each task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSection {
    /// `path`: the path in the worktree.
    pub path: String,
    /// `merge`: the way in which `collect` merges the outputs. The default is `json-array`.
    pub merge: OutputMerge,
    /// `example`: an example of an output, for the prompt. The path is inside the repository.
    pub example: Option<String>,
    /// `page`: the template of `collect --page`. The path is inside the repository.
    pub page: Option<String>,
}

/// The way in which the outputs of all tasks are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputMerge {
    /// A JSON array. An output that is an array contributes its items; any other output is one
    /// item.
    JsonArray,
    /// The items of `JsonArray`, one JSON value per line.
    Jsonl,
    /// The outputs one after the other, each with a newline at the end.
    Concat,
    /// The standard output of this command. The command reads one line of JSON for each task's
    /// output.
    Command(Vec<String>),
}

/// The reaction to a landing check that fails on the base commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseCheck {
    /// `start` stops with the output of the check, because every attempt would fail the same way.
    Stop,
    /// `start` warns and continues.
    Warn,
}

/// `[agent]`: the program that works on tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSection {
    /// `preset`: the name of the preset. The default is `command`, which stands for any program.
    pub preset: String,
    /// `command`: the program and its arguments, with placeholders. Never empty with the preset
    /// `command`. With another preset it replaces the preset's program, or is empty.
    pub command: Vec<String>,
    /// `model`: the model, or `None` for the program's default.
    pub model: Option<String>,
    /// `permissions`: the permission profile, or `None` for the preset's default.
    pub permissions: Option<String>,
    /// `args`: additional arguments for the preset's program.
    pub args: Vec<String>,
    /// `max-turns`: the largest number of turns in a session.
    pub max_turns: Option<u32>,
    /// `prompt`: the path of the template inside the repository, or `None` for the built-in
    /// template.
    pub prompt: Option<String>,
    /// `timeout`: the time limit of an attempt. The default is 30 minutes.
    pub timeout: Duration,
    /// `idle-timeout`: the time without progress after which an attempt counts as hung. The default
    /// is 10 minutes.
    pub idle_timeout: Duration,
    /// True if the job file sets `timeout`. The preset's timeout is used otherwise.
    pub timeout_is_set: bool,
    /// True if the job file sets `idle-timeout`. The preset's idle timeout is used otherwise.
    pub idle_timeout_is_set: bool,
    /// `env`: the names of environment variables that are passed to the agent.
    pub env: Vec<String>,
    /// `allow-empty`: true if an attempt without changes may pass. The default is false.
    pub allow_empty: bool,
}

/// `[evaluate]`: an agent that evaluates candidates that passed the checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluateSection {
    /// The program and its options, with the prompt of the evaluator.
    pub agent: AgentSection,
    /// `rounds`: the number of evaluations with findings after which a task fails. The default is
    /// 3.
    pub rounds: u32,
}

/// `[presets.NAME]`: presets of the job. The preset resolver validates them, and needs the text of
/// the file for positions in its errors.
#[derive(Debug, Clone, Default)]
pub struct PresetsSection {
    /// The tables, by name.
    pub tables: toml::Table,
    /// The name of the file in messages.
    pub file: String,
    /// The text of the whole file.
    pub text: String,
}

impl PartialEq for PresetsSection {
    fn eq(&self, other: &Self) -> bool {
        self.tables == other.tables
    }
}

/// `[worktree]`: the worktrees of attempts and checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorktreeSection {
    /// `root`: the folder of the worktrees, absolute or relative to the top of the repository, with
    /// `{repo}` (see [`WorktreeSection::root_for`]). The default is `../{repo}.harness`.
    pub root: String,
    /// `setup`: the commands that prepare a new worktree, in order.
    pub setup: Vec<Vec<String>>,
    /// `setup-inputs`: globs of the files whose change makes the commands run again. A glob without
    /// `/` matches a name in any folder. The default is [`SETUP_INPUTS`].
    pub setup_inputs: Vec<String>,
    /// `keep`: ignored paths that stay in a worktree between tasks.
    pub keep: PathGlobs,
}

impl WorktreeSection {
    /// Returns the root with `{repo}` replaced by `repo`, the name of the repository's folder.
    pub fn root_for(&self, repo: &str) -> String {
        self.root.replace(REPO, repo)
    }
}

/// The files that say which dependencies a project has.
pub(super) const SETUP_INPUTS: [&str; 16] = [
    "package.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "Cargo.toml",
    "Cargo.lock",
    "pyproject.toml",
    "poetry.lock",
    "uv.lock",
    "requirements*.txt",
    "go.mod",
    "go.sum",
    "Gemfile.lock",
    "composer.lock",
];

/// The only placeholder of `[worktree] root`.
pub(super) const REPO: &str = "{repo}";

/// A `[[check]]`: a command that exits with 0 if the check passes, or a built-in check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `name`: unique in the job.
    pub name: String,
    /// `run`: the program and its arguments, with placeholders. Empty if and only if the check is
    /// built in.
    pub run: Vec<String>,
    /// `ast-equal`: the built-in comparison of syntax trees.
    pub ast_equal: Option<AstEqualCheck>,
    /// `output` and `schema`: the built-in check of the output file.
    pub output_check: Option<OutputCheck>,
    /// `timeout`: the time limit. The default is 5 minutes. A timeout counts as an infrastructure
    /// fault.
    pub timeout: Duration,
    /// `when`: the trees on which the check runs.
    pub when: CheckWhen,
    /// `version`: a command whose output is part of the key of cached verdicts.
    pub version: Option<Vec<String>>,
    /// `env`: the names of environment variables that are passed to this check.
    pub env: Vec<String>,
    /// `cache`: true if a verdict is reused for the same tree. The default is true.
    pub cache: bool,
    /// `network`: the hosts that the check reaches.
    pub network: NetworkAccess,
}

/// `output = "…"` of a check: the output file must exist and match the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputCheck {
    /// `output`: the path of `[output]`.
    pub path: String,
    /// `schema`: the path of the JSON Schema inside the repository.
    pub schema: Option<String>,
}

/// `ast-equal = { … }`: without their types, the files must be the same programs as before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AstEqualCheck {
    /// `from`: the files before.
    pub from: PathGlobs,
    /// `to`: the files after.
    pub to: PathGlobs,
    /// `extensions`, `type-imports`, `define-fields`, `allow-ts-comments` and `max-any`: the
    /// allowed differences in addition to types.
    pub options: AstEqualOptions,
}

/// The trees on which a check runs, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckWhen {
    /// The check runs on the tree of the candidate.
    pub task: bool,
    /// The check runs on the tree that will land.
    pub landing: bool,
}

/// `[scope]`: the paths that a task may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeSection {
    /// `write`: the paths that a task may change. The default is the task's own files.
    pub write: Vec<ScopePattern>,
    /// `always`: additional paths that every task may change.
    pub always: PathGlobs,
    /// `read-only`: paths that no task may change. This key overrides the others.
    pub read_only: PathGlobs,
    /// `max-file-size`: the size in bytes above which a file that a task adds or changes is
    /// refused. The default is 50 MiB.
    pub max_file_size: u64,
    /// `protect`: rule files in addition to the job file, the schemas and the checks' programs.
    pub protect: PathGlobs,
}

impl ScopeSection {
    /// Returns true if a task with these files may change this path.
    pub fn allows(&self, task_files: &[String], path: &str) -> bool {
        !self.read_only.matches(path)
            && (self.always.matches(path) || self.write.iter().any(|p| p.matches(task_files, path)))
    }

    /// Returns true if `write` or `always` names this path without a wildcard. Only then may a task
    /// change a rule file.
    pub fn names(&self, path: &str) -> bool {
        let write = self.write.iter().flat_map(|pattern| match pattern {
            ScopePattern::TaskFiles { .. } => &[],
            ScopePattern::Glob(globs) => globs.patterns(),
        });
        let plain = |pattern: &String| pattern.strip_prefix("./").unwrap_or(pattern) == path;
        write.chain(self.always.patterns()).any(plain)
    }
}

/// `[retry]`: the numbers of retries, and the failures that halt the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySection {
    /// `resume`: the number of times that a session resumes after a crash, a timeout or a dropped
    /// connection. The default is 2.
    pub resume: u32,
    /// `feedback`: the number of new attempts with all findings so far. The default is 3.
    pub feedback: u32,
    /// `from`: true for `"candidate"`, false for `"base"`. An attempt with findings may start from
    /// the rejected candidate. The default is true for jobs whose tasks change files.
    pub from_candidate: bool,
    /// `infra`: the number of repetitions of a task after infrastructure faults, with back-off.
    /// They do not count against `feedback`. The default is 5.
    pub infra: u32,
    /// `redispatch`: the number of times that failed tasks start from scratch when all tasks have
    /// ended. The default is 1.
    pub redispatch: u32,
    /// `redispatch-below`: the largest share of failed tasks, inclusive, at which failed tasks are
    /// redispatched, in millionths. The default is 0.05.
    pub redispatch_below: u32,
    /// `halt-above`: the share of failed tasks above which the run halts, in millionths. The
    /// default is 0.10.
    pub halt_above: u32,
    /// `halt-after`: the number of tasks that must have ended before failures can halt the run. The
    /// default is 20.
    pub halt_after: usize,
}

/// `[limits]`: the limits of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LimitsSection {
    /// `jobs`: the largest number of agents that run at a time, at least 1. The default is 4.
    pub jobs: usize,
    /// `tokens`: the largest number of tokens of the run. `None` for no limit.
    pub tokens: Option<u64>,
    /// `tokens-per-task`: the largest number of tokens of a task with all its attempts. `None` for
    /// no limit.
    pub tokens_per_task: Option<u64>,
    /// `cost-usd`: the largest cost of the run in US dollars. `None` for no limit.
    pub cost_usd: Option<f64>,
    /// `cost-per-task`: the largest cost of a task with all its attempts in US dollars. `None` for
    /// no limit.
    pub cost_per_task: Option<f64>,
    /// `min-free-mb`: the free disk space below which no attempt starts, in units of a million
    /// bytes. The default is 100. 0 disables the check.
    pub min_free_mb: u64,
}

/// `[queue]`: the merge queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSection {
    /// `merge`: the kind of commit that lands. The default is squash.
    pub merge: MergeStyle,
    /// `batch`: the largest number of branches or tasks in a train. The default is 64.
    pub batch: usize,
    /// `ahead`: the number of train verifications that may run at a time. The default is 1.
    pub ahead: usize,
    /// `each`: true if every commit of a train needs a verdict, not only the last. The default is
    /// false.
    pub each: bool,
    /// `keep-branches`: true if the branch of a task is kept after landing. The default is false.
    pub keep_branches: bool,
    /// `review`: true if a person must approve each task before landing. The default is false.
    pub review: bool,
    /// `rules-change`: what a branch needs that changes rule files. The default is both verdicts.
    pub rules_change: RulesChangeMode,
    /// `sign`: true if landed commits are signed. `None`: as `commit.gpgSign` says, the default.
    pub sign: Option<bool>,
    /// `pre-land`: a hook that can hold a landing.
    pub pre_land: Option<Vec<String>>,
    /// `post-land`: a hook that runs after a landing.
    pub post_land: Option<Vec<String>>,
    /// `trust-verdicts`: true if a recorded verdict counts even if no chain of this run names the
    /// verdict. The default is false.
    pub trust_verdicts: bool,
}

/// The requirement on a branch that changes rule files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RulesChangeMode {
    /// The branch passes as it is, and with the rule files as on the target.
    Both,
    /// In addition, a person approves the branch.
    Review,
    /// The branch does not land.
    Refuse,
}

/// The kind of commit that lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeStyle {
    /// A single commit for each task.
    Squash,
    /// A merge commit for each task, which keeps the attempt's commits.
    Merge,
}
