//! Arguments of `init`, `new` and `validate`.

use clap::Args;

/// `validate`
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The job file, or the NAME of `.harness/NAME/harness.toml`; default `harness.toml` at the
    /// repository's top
    #[arg(value_name = "JOB")]
    pub job: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Also make the plan, and exit with 1 on a warning, a hint or a plan without tasks
    #[arg(long)]
    pub strict: bool,
}

/// `new`
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The task, and the criteria for its completion
    #[arg(value_name = "DESCRIPTION")]
    pub description: String,
    /// The job's name; default the first words of the description
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The agent that writes and grades the job; default the agent of `harness.toml`, else `claude`
    #[arg(long, value_name = "PRESET")]
    pub preset: Option<String>,
    /// The agent's model
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The job whose `[agent]` writes the new job
    #[arg(long, value_name = "JOB")]
    pub job: Option<String>,
}

/// `init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Write the job to `.harness/NAME/` instead of `harness.toml` at the repository's top
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// The recipe; default `blank`
    #[arg(short, long, value_name = "RECIPE")]
    pub recipe: Option<String>,
    /// List the recipes
    #[arg(long, conflicts_with_all = ["name", "recipe", "force"])]
    pub list: bool,
    /// Overwrite existing files
    #[arg(short, long)]
    pub force: bool,
}
