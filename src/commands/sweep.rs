//! `sweep`: away with worktrees, branches and refs of what has landed; never what has not.

use std::path::Path;

use anyhow::Result;

use super::workspace;
use crate::cli;
use crate::engine::sweep_worktrees;
use crate::error;
use crate::ui::{Ui, human};

/// `git harness sweep`
pub(super) fn run(here: &Path, args: &cli::RunArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = workspace::find_run(&store, args.run.as_deref())?;
    let proof = workspace::hold(&store, &run)?;
    let loaded = workspace::load_run(&store, &run)?;
    let ctx = workspace::context(&store, &loaded)?;
    let worktrees = sweep_worktrees(&ctx, &loaded.ledger.state)?;
    let swept = store.sweep(&proof, &loaded.ledger.state, ctx.job.queue.keep_branches)?;
    if args.json {
        let value = serde_json::json!({
            "v": 1, "run": run.as_str(), "worktrees": worktrees, "branches": swept.branches, "chains": swept.chains,
        });
        ui.result(&format!("{value}\n"));
    } else {
        ui.result(&format!(
            "run {run}: removed {} and {}, folded {} into {}\n",
            human::number(worktrees, "worktree"),
            if swept.branches == 1 {
                "1 branch".into()
            } else {
                format!("{} branches", swept.branches)
            },
            human::number(swept.chains, "task chain"),
            crate::store::layout::archive(&run)
        ));
    }
    Ok(error::OK)
}
