//! `sweep`: remove the worktrees, branches and refs of landed work, and nothing else.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::names::{self, RunUse};
use super::workspace::{self, Workspace};
use crate::ambient;
use crate::cli as args;
use crate::engine::queue::QueueContext;
use crate::engine::{disk_usage, sweep_worktrees, sweepable_worktrees};
use crate::error;
use crate::job;
use crate::store::{Store, layout};
use crate::ui::{Ui, human};
use crate::wire::cli;

/// `git harness sweep`
pub(super) fn run(here: &Path, args: &args::SweepArgs, ui: &Ui) -> Result<u8> {
    if args.dry_run {
        return preview(&workspace::open_read_only(here)?, args, ui);
    }
    let store = workspace::open_store(here)?;
    let run = names::find_run(&store, args.run.as_deref(), RunUse::Change)?;
    let proof = workspace::hold(&store, &run)?;
    let workspace = Workspace::load(&store, &run)?;
    let ctx = workspace.context()?;
    let swept = sweep_worktrees(&ctx, workspace.state())?;
    swept.notes.iter().for_each(|note| ui.message(note));
    let worktrees = swept.removed;
    let swept = store.sweep(&proof, workspace.state(), ctx.job.queue.keep_branches)?;
    let (branches, chains) = (swept.branches.len(), swept.chains.len());
    if args.json {
        let (run, dry_run, would_free) = (run.as_str(), false, None);
        ui.json(&cli::Swept {
            v: cli::Version,
            run,
            worktrees,
            branches,
            chains,
            dry_run,
            would_free,
        })?;
    } else {
        ui.result(&format!(
            "run {run}: removed {} and {}, folded {} into {}\n",
            human::number(worktrees, "worktree"),
            counted_branches(branches),
            human::number(chains, "task chain"),
            layout::archive(&run)
        ));
    }
    Ok(error::OK)
}

/// Shows what a sweep would remove. Writes nothing.
fn preview(store: &Store, args: &args::SweepArgs, ui: &Ui) -> Result<u8> {
    let run = names::find_run(store, args.run.as_deref(), RunUse::Change)?;
    let workspace = Workspace::load(store, &run)?;
    let (job, state) = (workspace.job()?, workspace.state());
    let target = workspace.loaded.manifest.target.clone();
    let program = ambient::program().context("cannot find this program's own file")?;
    let queue = QueueContext::new(store.clone(), target, program, ambient::environment());
    let folder = workspace::worktrees_root(store.repo(), job).join(run.as_str());
    let worktrees: Vec<(String, u64)> = sweepable_worktrees(store, state, &folder, (&queue, job))?
        .into_iter()
        .map(|path| (path.display().to_string(), disk_usage(path)))
        .collect();
    let bytes = worktrees.iter().map(|(_, bytes)| bytes).sum();
    let swept = store.swept_refs(state, job.queue.keep_branches)?;
    let (branches, chains) = (swept.branches.len(), swept.chains.len());
    let branch_names = swept.branches.iter().map(|(name, _)| name.as_str());
    let refs: Vec<&str> =
        branch_names.chain(swept.chains.iter().map(|(_, name, _)| name.as_str())).collect();
    if args.json {
        let paths = worktrees.iter();
        let paths = paths.map(|(path, bytes)| cli::SweepableWorktree { path, bytes: *bytes });
        let would_free = Some(cli::SpaceToFree { bytes, worktrees: paths.collect(), refs });
        ui.json(&cli::Swept {
            v: cli::Version,
            run: run.as_str(),
            worktrees: worktrees.len(),
            branches,
            chains,
            dry_run: true,
            would_free,
        })?;
        return Ok(error::OK);
    }
    let mut text = format!(
        "run {run}: would remove {} ({}) and {}, and fold {} into {}\n",
        human::number(worktrees.len(), "worktree"),
        job::format_size(bytes),
        counted_branches(branches),
        human::number(chains, "task chain"),
        layout::archive(&run)
    );
    for (path, bytes) in &worktrees {
        text.push_str(&format!("  {path}  {}\n", job::format_size(*bytes)));
    }
    text.extend(refs.iter().map(|name| format!("  {name}\n")));
    ui.result(&crate::ui::printable(&text));
    Ok(error::OK)
}

fn counted_branches(branches: usize) -> String {
    if branches == 1 { "1 branch".to_owned() } else { format!("{branches} branches") }
}
