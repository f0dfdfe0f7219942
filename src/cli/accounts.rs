//! Arguments of `accounts`.

use clap::{Args, Subcommand};

/// `accounts`
#[derive(Debug, Args)]
pub struct AccountsArgs {
    /// The command; default a list of the closed accounts
    #[command(subcommand)]
    pub command: Option<AccountsCommand>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The commands of `accounts`.
#[derive(Debug, Subcommand)]
pub enum AccountsCommand {
    /// Open a closed account: agents start again, one first
    Open {
        /// The account, as `git harness accounts` lists it: PRESET or PRESET/MODEL
        #[arg(value_name = "NAME")]
        name: String,
    },
}
