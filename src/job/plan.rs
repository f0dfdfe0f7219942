//! `[plan]` of a validated job: the files of the job and their grouping into tasks.

use std::collections::BTreeMap;

use super::globs::PathGlobs;

/// `[plan]`: the files of the job, and their grouping into tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanSection {
    /// `include`: the files of the job. The default is all files.
    pub include: PathGlobs,
    /// `exclude`: the files to leave out. The default is none.
    pub exclude: PathGlobs,
    /// `group`: the source of tasks.
    pub group: TaskSource,
    /// `order`: the order of tasks.
    pub order: TaskOrder,
    /// `max-files`: the largest number of files in a task, at least 1. The default is 40.
    pub max_files: usize,
    /// `max-lines`: the largest number of lines in a task with several files, at least 1. The
    /// default is 3000.
    pub max_lines: u64,
    /// `context-window`, `fill` and `token-factor`: the token budget of a task. `None` if no key is
    /// set.
    pub budget: Option<TokenBudget>,
    /// `[plan.scope] dir`: the folder to which the plan is limited, without a trailing `/`. Empty
    /// for all files.
    pub scope_dir: String,
    /// `[plan.scope] files`: the glob to which the plan is limited, for [`PathGlobs::new`]. Empty
    /// for all files.
    pub scope_files: String,
    /// `[plan.vars]`: variables for the prompt template. No value is a date.
    pub vars: BTreeMap<String, toml::Value>,
    /// `command`: the command that prints the tasks. Set if and only if `group = "command"`.
    pub command: Option<Vec<String>>,
    /// `list`: the file with the tasks, inside the repository. Set only with `group = "list"`.
    pub list: Option<String>,
    /// `[[plan.task]]`: the tasks. Set only with `group = "list"`.
    pub tasks: Vec<ListedTask>,
    /// `edges`: the command that prints the import graph. `None` if imports are read from the
    /// files.
    pub edges: Option<Vec<String>>,
}

/// The token budget of a task: `[plan] context-window`, `fill` and `token-factor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBudget {
    /// `context-window`: the size of the model's context window in tokens. The default is 200,000.
    pub context_window: u64,
    /// `fill`: the share of the window for the sources of a task, in thousandths. The default is
    /// 0.30.
    pub fill: u64,
    /// `token-factor`: the number of the model's tokens for each counted token, in thousandths. The
    /// default is 1.15.
    pub factor: u64,
}

/// The share of the window for the prompt, the sources and the work, in thousandths. Models work
/// badly long before the window is full. The work is assumed to be as long as the sources.
const USABLE_SHARE: u64 = 800;

impl TokenBudget {
    /// Returns the largest number of source tokens for a prompt of `prompt` tokens. Both numbers
    /// are in the model's tokens.
    pub fn sources(self, prompt: u64) -> u64 {
        let share = |thousandths: u64| self.context_window.saturating_mul(thousandths) / 1_000;
        share(self.fill).min(share(USABLE_SHARE).saturating_sub(prompt) / 2)
    }

    /// Returns true if a prompt and sources of these sizes leave room for the work.
    pub fn holds(self, prompt: u64, sources: u64) -> bool {
        let room = self.context_window.saturating_mul(USABLE_SHARE) / 1_000;
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
    /// `id`, or `None` for a task that is named after its first file.
    pub id: Option<String>,
    /// `files`: never empty.
    pub files: Vec<String>,
    /// `after`: the ids of tasks that land before this task.
    pub after: Vec<String>,
    /// `priority`: a higher priority goes first. The default is 0.
    pub priority: u32,
    /// `vars`: variables for the prompt template, which override the variables of the plan. No
    /// value is a date.
    pub vars: BTreeMap<String, toml::Value>,
}

/// The source of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskSource {
    /// A task for each file.
    File,
    /// A task for each folder with all files below it, within the limits.
    Directory,
    /// A task for files that import each other or the same files.
    Dependency,
    /// The tasks that a command prints.
    Command,
    /// The tasks that a file or the job lists.
    List,
}

/// The order of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskOrder {
    /// No task waits for another.
    None,
    /// A task waits for the tasks whose files it imports.
    Dependency,
    /// A task waits only for the tasks in its `after`. Tasks with a higher priority go first.
    Priority,
}
