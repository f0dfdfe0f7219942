//! `sweep`: remove the worktrees, branches and refs of landed work, and nothing else.

use std::path::Path;

use anyhow::Result;

use super::names::{self, RunUse};
use super::workspace::{self, Workspace};
use crate::cli as args;
use crate::engine::sweep_worktrees;
use crate::error;
use crate::store::layout;
use crate::ui::{Ui, human};
use crate::wire::cli;

/// `git harness sweep`
pub(super) fn run(here: &Path, args: &args::RunArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = names::find_run(&store, args.run.as_deref(), RunUse::Change)?;
    let proof = workspace::hold(&store, &run)?;
    let workspace = Workspace::load(&store, &run)?;
    let ctx = workspace.context()?;
    let worktrees = sweep_worktrees(&ctx, workspace.state())?;
    let swept = store.sweep(&proof, workspace.state(), ctx.job.queue.keep_branches)?;
    let (branches, chains) = (swept.branches, swept.chains);
    if args.json {
        let run = run.as_str();
        ui.json(&cli::Swept { v: cli::Version, run, worktrees, branches, chains })?;
    } else {
        let branches =
            if branches == 1 { "1 branch".to_owned() } else { format!("{branches} branches") };
        ui.result(&format!(
            "run {run}: removed {} and {branches}, folded {} into {}\n",
            human::number(worktrees, "worktree"),
            human::number(chains, "task chain"),
            layout::archive(&run)
        ));
    }
    Ok(error::OK)
}
