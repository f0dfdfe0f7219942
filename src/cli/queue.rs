//! Arguments of `queue`.

use clap::{Args, Subcommand};

/// `queue`
#[derive(Debug, Args)]
pub struct QueueArgs {
    /// The branch on which branches land; default the only branch with a queue, else `main` or
    /// `master`
    #[arg(long, global = true, value_name = "BRANCH")]
    pub target: Option<String>,
    /// The action; default `list`
    #[command(subcommand)]
    pub action: Option<QueueAction>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Also list branches that have landed or left
    #[arg(long)]
    pub all: bool,
}

/// The actions of `queue`.
#[derive(Debug, Subcommand)]
pub enum QueueAction {
    /// Add branches, to land when the checks in the target's `harness.toml` pass with them
    Add(QueueAddArgs),
    /// Remove branches from the queue
    Remove(QueueBranchesArgs),
    /// Approve branches; needed if the target's job file has `[queue] review = "required"`
    Approve(QueueBranchesArgs),
    /// Request changes to branches, and remove them from the queue
    Reject(QueueRejectArgs),
    /// List the waiting branches
    List(QueueListArgs),
    /// Verify and land branches until the queue is empty
    Run(QueueRunArgs),
    /// Remove the worktrees in which trains are verified; the next `run` recreates them
    Sweep,
    /// Start no new verification until `resume`
    Pause,
    /// Continue after `pause`
    Resume,
}

/// `queue add`
#[derive(Debug, Args)]
pub struct QueueAddArgs {
    /// The branches
    #[arg(value_name = "BRANCH", required = true)]
    pub branches: Vec<String>,
    /// The priority, 0 at first; higher lands first, and each hour of waiting adds 1 to it
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub priority: Option<i64>,
    /// Land the branches only after this branch; may be repeated
    #[arg(long, value_name = "BRANCH")]
    pub after: Vec<String>,
}

/// `queue remove` and `queue approve`
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
    /// The requested changes
    #[arg(short, long, value_name = "TEXT", required = true)]
    pub message: String,
}

/// `queue list`
#[derive(Debug, Args)]
pub struct QueueListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Also list branches that have landed or left
    #[arg(long)]
    pub all: bool,
}

/// `queue run`
#[derive(Debug, Args)]
pub struct QueueRunArgs {
    /// Wait for more branches when the queue is empty
    #[arg(long)]
    pub follow: bool,
    /// Push each landing to this remote before the local target moves; if the remote branch has
    /// moved, verify again on top of it
    #[arg(long, value_name = "REMOTE")]
    pub push: Option<String>,
}
