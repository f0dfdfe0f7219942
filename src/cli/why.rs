//! Arguments of `why` and `blame`.

use clap::Args;

/// `why`
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The commit; default HEAD
    #[arg(value_name = "COMMIT")]
    pub commit: Option<String>,
    /// Write the origin as a note on the commit
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
    /// The commit; default HEAD
    #[arg(value_name = "REVISION")]
    pub revision: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
