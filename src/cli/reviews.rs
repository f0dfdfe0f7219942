//! What `review`, `approve` and `reject` take.

use clap::Args;

/// `review`
#[derive(Debug, Args)]
pub struct ReviewArgs {
    /// The task whose candidate is shown, as RUN/TASK; without it, all that wait are listed
    #[arg(value_name = "TASK")]
    pub task: Option<String>,
    /// The run
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Print it for programs
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<ReviewFormat>,
    /// Open it in git's difftool
    #[arg(long, requires = "task", conflicts_with = "format")]
    pub tool: bool,
    /// Do not use a pager
    #[arg(long)]
    pub no_pager: bool,
}

/// A form in which a candidate is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReviewFormat {
    /// As `git diff` does
    Patch,
    /// One object
    Json,
}

/// `approve`
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// The tasks, as RUN/TASK; the run may be left out where only one is active
    #[arg(value_name = "TASK", required_unless_present = "all")]
    pub tasks: Vec<String>,
    /// Every candidate that waits
    #[arg(long, conflicts_with = "tasks")]
    pub all: bool,
    /// With `--all`: only those that checks have passed
    #[arg(long, requires = "all")]
    pub passing: bool,
    /// The run
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
}

/// `reject`
#[derive(Debug, Args)]
pub struct RejectArgs {
    /// The task, as RUN/TASK; the run may be left out where only one is active
    #[arg(value_name = "TASK")]
    pub task: String,
    /// What is to be done otherwise, or `file:line:text` on a line of the candidate; may be repeated
    #[arg(short, long, value_name = "TEXT", required = true)]
    pub message: Vec<String>,
}
