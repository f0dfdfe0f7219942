//! The plan: the tasks of a job at one commit. The plan is a pure function of the job and the
//! commit.

use super::id::TaskId;

/// A task: its files and its dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The name in refs. Unique in the plan, even if case is ignored.
    pub id: TaskId,
    /// The files as repository-relative paths (`/`-separated, UTF-8), sorted. Never empty.
    pub files: Vec<String>,
    /// The tasks that must be done first, sorted. There are no cycles.
    pub after: Vec<TaskId>,
    /// The number of lines in the files.
    pub lines: u64,
    /// The estimated number of tokens in the files. The planning layer makes the estimate.
    pub tokens: u64,
    /// The depth in the dependency graph; 0 for a task without dependencies.
    pub level: u32,
    /// The task's own prompt variables as a JSON object, or empty.
    pub vars: String,
}

/// The tasks of a run, in dispatch order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The tasks, unique by id.
    pub tasks: Vec<Task>,
}
