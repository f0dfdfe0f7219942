//! What a job says, validated, with every default filled in.

use std::collections::BTreeMap;
use std::time::Duration;

use super::globs::{PathGlobs, ScopePattern};
use crate::contract::ast_equal::AstEqualOptions;

/// A job: what to do, in which pieces, by whom, and what makes it good.
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
    /// `[[check]]`, in the order in which they run. May be empty.
    pub checks: Vec<Check>,
    /// `[scope]`.
    pub scope: ScopeSection,
    /// `[output]`: there exactly with `kind = "report"`.
    pub output: Option<OutputSection>,
    /// `[evaluate]`: absent where nobody is asked about what the checks have accepted.
    pub evaluate: Option<EvaluateSection>,
    /// `[retry]`.
    pub retry: RetrySection,
    /// `[limits]`.
    pub limits: LimitsSection,
    /// `[queue]`.
    pub queue: QueueSection,
    /// `[presets.NAME]`, not looked into here.
    pub presets: PresetsSection,
}

/// `[job]`: what the whole is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSection {
    /// `name`, safe in a ref; absent when the folder's name is to be used (see [`super::slug`]).
    pub name: Option<String>,
    /// `goal`: what every prompt begins with. Never blank.
    pub goal: String,
    /// `base`: the revision from which the plan is made; default `HEAD`.
    pub base: String,
    /// `target`: the branch that receives the landed work, without `refs/heads/`; absent for the run's own.
    pub target: Option<String>,
    /// `kind`: what tasks hand in.
    pub kind: JobKind,
    /// `base-check`: what a landing check means that fails on the base already.
    pub base_check: BaseCheck,
}

/// What the tasks of a job hand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// Commits.
    Change,
    /// A file each, of which nothing goes to the target.
    Report,
}

/// `[output]`: the file that each task hands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSection {
    /// `path`: relative to the worktree, inside it.
    pub path: String,
    /// `merge`: how `collect` joins them; default `json-array`.
    pub merge: OutputMerge,
    /// `example`: a file that shows what is wanted, for the prompt; relative and inside the repository.
    pub example: Option<String>,
    /// `page`: the template of `collect --page`; relative and inside the repository.
    pub page: Option<String>,
}

/// How handed-in files become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputMerge {
    /// One JSON array: of what their arrays hold, and of what is no array as it is.
    JsonArray,
    /// The same, an item a line.
    Jsonl,
    /// One after the other, each ending its last line.
    Concat,
    /// What `command` prints, which is told a line of JSON for each of them.
    Command(Vec<String>),
}

/// What happens when a landing check fails on the base commit already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseCheck {
    /// `start` stops with the check's output: every attempt would fail the same way.
    Stop,
    /// `start` says so and goes on.
    Warn,
}

/// `[plan]`: which files, and how they become tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanSection {
    /// `include`: the files of the job; default everything.
    pub include: PathGlobs,
    /// `exclude`: what is taken out again; default nothing.
    pub exclude: PathGlobs,
    /// `group`: what becomes one task.
    pub group: TaskSource,
    /// `order`: what waits for what.
    pub order: TaskOrder,
    /// `max-files`: at most this many files per task, at least 1; default 40.
    pub max_files: usize,
    /// `max-lines`: at most this many lines per task unless a single file has more, at least 1; default 3000.
    pub max_lines: u64,
    /// `context-window`, `fill` and `token-factor`: how many tokens a task may have; absent where none of them is said.
    pub budget: Option<TokenBudget>,
    /// `[plan.scope] dir`: only files below this folder, without a trailing `/`; empty for all.
    pub scope_dir: String,
    /// `[plan.scope] files`: only files that this glob matches (compile it with [`PathGlobs::new`]); empty for all.
    pub scope_files: String,
    /// `[plan.vars]`: handed to the prompt template. Holds no dates.
    pub vars: BTreeMap<String, toml::Value>,
    /// `command`: prints the tasks; given exactly with `group = "command"`.
    pub command: Option<Vec<String>>,
    /// `list`: the file that lists the tasks, relative and inside the repository; only with `group = "list"`.
    pub list: Option<String>,
    /// `[[plan.task]]`: the tasks themselves; only with `group = "list"`.
    pub tasks: Vec<ListedTask>,
    /// `edges`: prints which file needs which, instead of reading it from the files.
    pub edges: Option<Vec<String>>,
}

/// `[plan] context-window`, `fill` and `token-factor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBudget {
    /// `context-window`: what the model can hold, in tokens; default 200,000.
    pub context_window: u64,
    /// `fill`: how much of it a task's sources may take, in thousandths; default 0.30.
    pub fill: u64,
    /// `token-factor`: what the model counts for what is counted here, in thousandths; default 1.15.
    pub factor: u64,
}

/// So much of the window may be taken by the sources, the prompt and the work, which is taken to be as long as the sources
/// are: models were seen to work badly long before the window is full.
const MOST_OF_WINDOW: u64 = 800;

impl TokenBudget {
    /// The most tokens of sources, by the model's count, beside a prompt of so many.
    pub fn sources(self, prompt: u64) -> u64 {
        let share = |thousandths: u64| self.context_window.saturating_mul(thousandths) / 1_000;
        share(self.fill).min(share(MOST_OF_WINDOW).saturating_sub(prompt) / 2)
    }

    /// Whether a prompt and sources of so many tokens leave room for the work.
    pub fn holds(self, prompt: u64, sources: u64) -> bool {
        let room = self.context_window.saturating_mul(MOST_OF_WINDOW) / 1_000;
        prompt.saturating_add(sources.saturating_mul(2)) <= room
    }
}

impl Default for TokenBudget {
    fn default() -> Self {
        Self { context_window: 200_000, fill: 300, factor: 1_150 }
    }
}

/// A `[[plan.task]]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListedTask {
    /// `id`: absent when it is to be named after its files.
    pub id: Option<String>,
    /// `files`: never empty.
    pub files: Vec<String>,
    /// `after`: the ids of tasks that land before it.
    pub after: Vec<String>,
    /// `priority`: higher goes first; default 0.
    pub priority: u32,
    /// `vars`: handed to the prompt template over those of the plan. Holds no dates.
    pub vars: BTreeMap<String, toml::Value>,
}

/// What becomes one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskSource {
    /// Each file.
    File,
    /// A folder with all below it, within the limits.
    Directory,
    /// Files that have to do with each other by what they import.
    Dependency,
    /// What a command prints.
    Command,
    /// What is listed in a file or in the job.
    List,
}

/// What waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskOrder {
    /// Nothing for anything.
    None,
    /// A task for those whose files its own import.
    Dependency,
    /// Nothing but what a task says itself; those with a higher priority go first.
    Priority,
}

/// `[agent]`: who does the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSection {
    /// `preset`: the name of what is known about the program; default `command`, of which nothing is.
    pub preset: String,
    /// `command`: program and arguments with placeholders. Never empty with the preset `command`; with any other it
    /// takes the place of the preset's program, or is empty.
    pub command: Vec<String>,
    /// `model`: the model, where it is not the program's own choice.
    pub model: Option<String>,
    /// `permissions`: the profile of what it may do; absent for the preset's own default.
    pub permissions: Option<String>,
    /// `args`: more arguments for the preset's program.
    pub args: Vec<String>,
    /// `max-turns`: at most so many turns for each session.
    pub max_turns: Option<u32>,
    /// `prompt`: the template's path, relative and inside the repository; absent for the built-in one.
    pub prompt: Option<String>,
    /// `timeout`: the longest that an attempt may take; default 30 minutes.
    pub timeout: Duration,
    /// `idle-timeout`: no progress for this long means that it hangs; default 10 minutes.
    pub idle_timeout: Duration,
    /// True if the job file sets `timeout`. The preset's timeout is used otherwise.
    pub timeout_is_set: bool,
    /// True if the job file sets `idle-timeout`. The preset's timeout is used otherwise.
    pub idle_timeout_is_set: bool,
    /// `env`: names of variables that are passed through.
    pub env: Vec<String>,
    /// `sandbox`.
    pub sandbox: Sandbox,
    /// `allow-empty`: whether an attempt that changes nothing may be good; default not.
    pub allow_empty: bool,
}

/// `[evaluate]`: an agent of its own that judges what the checks have accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluateSection {
    /// The program and how it is called; its `prompt` is the evaluator's.
    pub agent: AgentSection,
    /// `rounds`: how many opinions with findings a task may get, the last of which fails it; default 3.
    pub rounds: u32,
}

/// Whether the agent is fenced in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// It is not.
    Off,
}

/// `[presets.NAME]`: what the file says about programs. Their schema is that of the presets, which are no business of
/// this module: here they are data, with the text in which they stand.
#[derive(Debug, Clone, Default)]
pub struct PresetsSection {
    /// The tables, by name.
    pub tables: toml::Table,
    /// The file's name, as messages show it.
    pub file: String,
    /// The whole file.
    pub text: String,
}

impl PartialEq for PresetsSection {
    fn eq(&self, other: &Self) -> bool {
        self.tables == other.tables
    }
}

/// `[worktree]`: the places in which attempts and checks work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorktreeSection {
    /// `root`: where they lie, absolute or relative to the repository's top, with `{repo}` (see
    /// [`WorktreeSection::root_for`]); default `../{repo}.harness`.
    pub root: String,
    /// `setup`: commands that make a new place usable, in order.
    pub setup: Vec<Vec<String>>,
    /// `keep`: paths that git ignores and that stay from task to task.
    pub keep: PathGlobs,
}

impl WorktreeSection {
    /// The root with the name of the repository's folder put in.
    pub fn root_for(&self, repo: &str) -> String {
        self.root.replace(REPO, repo)
    }
}

/// The one placeholder of `[worktree] root`.
pub(super) const REPO: &str = "{repo}";

/// One `[[check]]`: a command that exits with 0 on a tree that is good, or one that is built in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `name`: unique in the job.
    pub name: String,
    /// `run`: program and arguments with placeholders; empty for a check that is built in, and for no other.
    pub run: Vec<String>,
    /// `ast-equal`: the built-in comparison of programs.
    pub ast_equal: Option<AstEqualCheck>,
    /// `output`, with `schema`: the built-in look at what was handed in.
    pub output_check: Option<OutputCheck>,
    /// `timeout`: default 5 minutes. Running longer is not the task's fault.
    pub timeout: Duration,
    /// `when`: on which trees it runs.
    pub when: CheckWhen,
    /// `version`: a command whose output is part of the verdict's key.
    pub version: Option<Vec<String>>,
    /// `cache`: whether a verdict is used again for the same tree; default yes.
    pub cache: bool,
}

/// `output = "…"` of a check: the file must be there, and must be what a schema says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputCheck {
    /// `output`: the path of `[output]`.
    pub path: String,
    /// `schema`: the JSON Schema's file, relative and inside the repository.
    pub schema: Option<String>,
}

/// `ast-equal = { … }`: files that must be the programs that they were, without their types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AstEqualCheck {
    /// `from`: the files before.
    pub from: PathGlobs,
    /// `to`: the files after.
    pub to: PathGlobs,
    /// `extensions`, `type-imports`, `define-fields`, `allow-ts-comments`, `max-any`: what is allowed beside types.
    pub options: AstEqualOptions,
}

/// On which trees a check runs: at least one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckWhen {
    /// On the candidate's own tree.
    pub task: bool,
    /// On the tree that will land.
    pub landing: bool,
}

/// `[scope]`: what a task may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeSection {
    /// `write`: default the task's own files.
    pub write: Vec<ScopePattern>,
    /// `always`: what every task may touch besides.
    pub always: PathGlobs,
    /// `read-only`: what no task may touch, whatever the others say.
    pub read_only: PathGlobs,
}

impl ScopeSection {
    /// Whether a task with these files may change this path.
    pub fn allows(&self, task_files: &[String], path: &str) -> bool {
        !self.read_only.matches(path)
            && (self.always.matches(path) || self.write.iter().any(|p| p.matches(task_files, path)))
    }
}

/// `[retry]`: how often what is tried again, and when a person is asked instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySection {
    /// `resume`: how often the same session goes on after a crash, a time-out or a dropped connection; default 2.
    pub resume: u32,
    /// `feedback`: new attempts with every finding so far; default 3.
    pub feedback: u32,
    /// `infra`: repetitions of one task, with back-off, after faults of the infrastructure; not charged to
    /// `feedback`; default 5.
    pub infra: u32,
    /// `redispatch`: how often failed tasks are done from scratch when all have ended; default 1.
    pub redispatch: u32,
    /// `redispatch-below`: only if at most this share failed, in millionths; default 0.05.
    pub redispatch_below: u32,
    /// `halt-above`: more failures than this share halt the run, in millionths; default 0.10.
    pub halt_above: u32,
    /// `halt-after`: but not before so many tasks have ended; default 20.
    pub halt_after: usize,
}

/// `[limits]`: what may be used at a time and in all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LimitsSection {
    /// `jobs`: agents at a time, at least 1; default 4.
    pub jobs: usize,
    /// `tokens`: for the run.
    pub tokens: Option<u64>,
    /// `tokens-per-task`: for a task with all its attempts.
    pub tokens_per_task: Option<u64>,
    /// `cost-usd`: US dollars for the run.
    pub cost_usd: Option<f64>,
    /// `cost-per-task`: US dollars for a task with all its attempts.
    pub cost_per_task: Option<f64>,
    /// `min-free-mb`: how much has to be free on the disk for an attempt to begin, in megabytes of a million bytes; default 100, and
    /// 0 never looks.
    pub min_free_mb: u64,
}

/// `[queue]`: how accepted work lands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSection {
    /// `merge`: the shape of what lands; default squash.
    pub merge: MergeStyle,
    /// `batch`: the most branches or tasks that are verified together as they would land; default 8.
    pub batch: usize,
    /// `ahead`: how many verifications of what would land may be under way; default 1.
    pub ahead: usize,
    /// `each`: whether every commit that lands has a verdict, and not only the last of a train; default not.
    pub each: bool,
    /// `keep-branches`: whether a task's branch stays when it has landed; default not.
    pub keep_branches: bool,
    /// `review`: whether a person has to approve what lands; default not.
    pub review: bool,
    /// `pre-land`: a command that may hold up a landing; default none.
    pub pre_land: Option<Vec<String>>,
    /// `post-land`: a command that is told of a landing; default none.
    pub post_land: Option<Vec<String>>,
    /// `trust-verdicts`: whether verdicts count that this run's own chain does not vouch for; default not.
    pub trust_verdicts: bool,
}

/// The shape of what lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeStyle {
    /// One commit per task.
    Squash,
    /// A merge commit per task, with the attempt's commits behind it.
    Merge,
}
