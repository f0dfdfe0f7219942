//! What `queue` takes.

use clap::{Args, Subcommand};

/// `queue`
#[derive(Debug, Args)]
pub struct QueueArgs {
    /// The branch that receives the work; default the only one with a queue, else `main` or `master`
    #[arg(long, global = true, value_name = "BRANCH")]
    pub target: Option<String>,
    /// What to do; without it, the queue is listed
    #[command(subcommand)]
    pub action: Option<QueueAction>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Also those that have landed or left
    #[arg(long)]
    pub all: bool,
}

/// What to do with a queue.
#[derive(Debug, Subcommand)]
pub enum QueueAction {
    /// Let branches land when the checks of the target's own `harness.toml` pass with them
    Add(QueueAddArgs),
    /// Take branches out
    Remove(QueueBranchesArgs),
    /// Say that branches have been read and may land, where `[queue] review = "required"`
    Approve(QueueBranchesArgs),
    /// Send branches back, with words for whoever made them
    Reject(QueueRejectArgs),
    /// List what waits, and what is being verified
    List(QueueListArgs),
    /// Work the queue off, until it is empty
    Run(QueueRunArgs),
    /// Remove the worktrees in which trains were verified; the next `run` makes them again
    Sweep,
    /// Begin nothing more, until `resume`
    Pause,
    /// Go on after `pause`
    Resume,
}

/// `queue add`
#[derive(Debug, Args)]
pub struct QueueAddArgs {
    /// The branches
    #[arg(value_name = "BRANCH", required = true)]
    pub branches: Vec<String>,
    /// Higher goes first; an hour of waiting is worth one
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i64,
    /// They land only when this branch has; may be repeated
    #[arg(long, value_name = "BRANCH")]
    pub after: Vec<String>,
}

/// Branches.
#[derive(Debug, Args)]
pub struct QueueBranchesArgs {
    /// The branches
    #[arg(value_name = "BRANCH", required = true)]
    pub branches: Vec<String>,
}

/// `queue reject`
#[derive(Debug, Args)]
pub struct QueueRejectArgs {
    /// The branches
    #[arg(value_name = "BRANCH", required = true)]
    pub branches: Vec<String>,
    /// What is to be done otherwise
    #[arg(short, long, value_name = "TEXT", required = true)]
    pub message: String,
}

/// `queue list`
#[derive(Debug, Args)]
pub struct QueueListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Also those that have landed or left
    #[arg(long)]
    pub all: bool,
}

/// `queue run`
#[derive(Debug, Args)]
pub struct QueueRunArgs {
    /// Stay when it is empty, and wait for more
    #[arg(long)]
    pub follow: bool,
    /// Push every landing to this remote first; if it has moved there, everything is verified anew on that
    #[arg(long, value_name = "REMOTE")]
    pub push: Option<String>,
}
