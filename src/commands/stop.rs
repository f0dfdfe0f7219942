//! `stop` and `cancel`.

use std::path::Path;

use anyhow::Result;

use super::{request, workspace};
use crate::cli;
use crate::engine::recover;
use crate::ui::Ui;
use crate::wire::request::WireRequest;

/// `git harness stop`
pub(super) fn run(here: &Path, args: &cli::StopArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = workspace::find_run(&store, args.run.as_deref())?;
    let code = request::tell(&store, &run, &[WireRequest::Stop { now: args.now }], ui)?;
    if args.now {
        // Also when the run was paused already, or its supervisor was killed: agents may still be running.
        let asked = recover::stop_all(&store, &run);
        if asked > 0 {
            ui.status(&format!("asked {asked} agents to stop; what they did so far is saved"));
        }
    }
    Ok(code)
}

/// `git harness cancel`
pub(super) fn cancel(here: &Path, args: &cli::RunArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = workspace::find_run(&store, args.run.as_deref())?;
    let code = request::tell(&store, &run, &[WireRequest::Cancel], ui)?;
    if args.json {
        ui.result(&format!(
            "{}\n",
            serde_json::json!({"v": 1, "run": run.as_str(), "cancelled": code == 0})
        ));
    }
    Ok(code)
}
