//! A plan: the tasks of a job at one commit, a pure function of both.

use super::id::TaskId;

/// One sub-task: the files it is about, and what must have landed before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its name in refs; unique in the plan, also without regard to case.
    pub id: TaskId,
    /// Repository-relative paths (`/`-separated, UTF-8), sorted. Never empty.
    pub files: Vec<String>,
    /// Tasks that must be done first, sorted. No task waits for itself, be it through others.
    pub after: Vec<TaskId>,
    /// Sum of the lines of its files.
    pub lines: u64,
    /// Estimate of the tokens of its files' text (see the planning layer for how).
    pub tokens: u64,
    /// How deep in the dependency graph it is; 0 for a task without dependencies.
    pub level: u32,
    /// What its prompt is told besides the job's variables: a JSON object, or empty.
    pub vars: String,
}

/// All tasks of a run, in the order in which they are dispatched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The tasks, unique by id.
    pub tasks: Vec<Task>,
}
