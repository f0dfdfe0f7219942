//! What the commands take that are about job files: `init`, `new`, `validate`.

use clap::Args;

/// `validate`
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The job file, or the NAME of `.harness/NAME/harness.toml`; default `harness.toml` at the repository's top
    #[arg(value_name = "JOB")]
    pub job: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Make the plan, too, and fail where it has no tasks; exit with 1 where there is any warning or hint
    #[arg(long)]
    pub strict: bool,
}

/// `new`
#[derive(Debug, Args)]
pub struct NewArgs {
    /// What is to be done, and how one sees that it is done
    #[arg(value_name = "DESCRIPTION")]
    pub description: String,
    /// The job's name; default the first words of the description
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The agent that writes and grades it; default that of `harness.toml`, else `claude`
    #[arg(long, value_name = "PRESET")]
    pub preset: Option<String>,
    /// Its model
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The job whose `[agent]` is to write it
    #[arg(long, value_name = "JOB")]
    pub job: Option<String>,
}

/// `init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Write it to `.harness/NAME/` instead of `harness.toml` at the repository's top
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// The recipe; default `blank`
    #[arg(short, long, value_name = "RECIPE")]
    pub recipe: Option<String>,
    /// List the recipes
    #[arg(long, conflicts_with_all = ["name", "recipe", "force"])]
    pub list: bool,
    /// Write over what is there
    #[arg(short, long)]
    pub force: bool,
}
