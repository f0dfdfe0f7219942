//! Arguments of `runs` and of the commands on single tasks.

use clap::Args;

/// `runs`
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Print JSON
    #[arg(long, conflicts_with = "porcelain")]
    pub json: bool,
    /// Print a line for each run in a stable format: run, state, done tasks, tasks, target
    #[arg(long)]
    pub porcelain: bool,
}

/// `show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The task: its path, its id, a part of either that no other task has, or RUN/TASK
    pub task: String,
    /// The run; default the only active run, else the newest
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Show the candidate's changes
    #[arg(long)]
    pub diff: bool,
    /// Show the prompt
    #[arg(long)]
    pub prompt: bool,
    /// Show the agent's transcript
    #[arg(long)]
    pub transcript: bool,
    /// The attempt; default the last
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The task: its path, its id, a part of either that no other task has, or RUN/TASK
    pub task: String,
    /// The run; default the only active run, else the newest unless several runs are active
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Set the worktree up again
    #[arg(long)]
    pub fresh: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `retry`
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The tasks, each by its path, its id, a part of either that no other task has, or RUN/TASK
    #[arg(required_unless_present = "failed")]
    pub tasks: Vec<String>,
    /// Retry every failed task of the run
    #[arg(long, conflicts_with = "tasks")]
    pub failed: bool,
    /// The run; default the only active run, else the newest unless several runs are active
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
}

/// `skip`
#[derive(Debug, Args)]
pub struct SkipArgs {
    /// The tasks, each by its path, its id, a part of either that no other task has, or RUN/TASK
    #[arg(required = true)]
    pub tasks: Vec<String>,
    /// The run; default the only active run, else the newest unless several runs are active
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// The reason
    #[arg(short, long, value_name = "TEXT")]
    pub message: String,
}
