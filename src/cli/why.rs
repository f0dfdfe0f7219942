//! What `why` and `blame` take.

use clap::Args;

/// `why`
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The commit; default HEAD
    #[arg(value_name = "COMMIT")]
    pub commit: Option<String>,
    /// Write what was found as a note on it
    #[arg(long)]
    pub repair: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `blame`
#[derive(Debug, Args)]
pub struct BlameArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: String,
    /// As of this commit; default HEAD
    #[arg(value_name = "REVISION")]
    pub revision: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
