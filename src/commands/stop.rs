//! `stop` and `cancel`.

use std::path::Path;

use anyhow::Result;

use super::names::{self, RunUse};
use super::request::Requests;
use super::workspace;
use crate::cli as args;
use crate::engine::recover;
use crate::error;
use crate::ui::{Ui, human};
use crate::wire::cli;
use crate::wire::request::WireRequest;

/// `git harness stop`
pub(super) fn run(here: &Path, args: &args::StopArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = names::find_run(&store, args.run.as_deref(), RunUse::Change)?;
    let mut requests = Requests::of_run(store.clone(), run.clone());
    let code = requests.ask_and_report(&[WireRequest::Stop { now: args.now }], ui)?;
    if args.now {
        // Agents may still be running, even if the run is paused already or its supervisor was
        // killed.
        let asked = recover::stop_all(&store, &run);
        if asked > 0 {
            let agents = human::number(asked, "agent");
            ui.status(&format!("asked {agents} to stop; their work so far is saved"));
        }
    }
    Ok(code)
}

/// `git harness cancel`
pub(super) fn cancel(here: &Path, args: &args::RunArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = names::find_run(&store, args.run.as_deref(), RunUse::Change)?;
    let code = Requests::of_run(store, run.clone()).ask_and_report(&[WireRequest::Cancel], ui)?;
    if args.json {
        let cancelled = code == error::OK;
        ui.json(&cli::Cancelled { v: cli::Version, run: run.as_str(), cancelled })?;
    }
    Ok(code)
}
