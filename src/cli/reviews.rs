//! Arguments of `review`, `approve` and `reject`.

use clap::Args;

/// `review`
#[derive(Debug, Args)]
pub struct ReviewArgs {
    /// The task: its path, its id, a part of either that no other task has, or RUN/TASK; default
    /// list all waiting candidates
    #[arg(value_name = "TASK")]
    pub task: Option<String>,
    /// The run; default the only active run, else the newest; in a list, all runs
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Print the candidate in a format for programs
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<ReviewFormat>,
    /// Open the candidate in `git difftool`
    #[arg(long, requires = "task", conflicts_with = "format")]
    pub tool: bool,
    /// Do not use a pager
    #[arg(long)]
    pub no_pager: bool,
}

/// A form in which a candidate is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReviewFormat {
    /// A patch, as from `git diff`
    Patch,
    /// A JSON object
    Json,
}

/// `approve`
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// The tasks, each by its path, its id, a part of either that no other task has, or RUN/TASK
    #[arg(value_name = "TASK", required_unless_present = "all")]
    pub tasks: Vec<String>,
    /// Approve every waiting candidate
    #[arg(long, conflicts_with = "tasks")]
    pub all: bool,
    /// With `--all`: approve only candidates that have passed checks
    #[arg(long, requires = "all")]
    pub passing: bool,
    /// The run; default the only active run, else the newest unless several runs are active
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
}

/// `reject`
#[derive(Debug, Args)]
pub struct RejectArgs {
    /// The task: its path, its id, a part of either that no other task has, or RUN/TASK
    #[arg(value_name = "TASK")]
    pub task: String,
    /// The run; default the only active run, else the newest unless several runs are active
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// The requested changes, or `file:line:text` for a line of the candidate; may be repeated
    #[arg(short, long, value_name = "TEXT", required = true)]
    pub message: Vec<String>,
}
