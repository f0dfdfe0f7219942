//! `poll`: one step of the loop. `while git harness poll; do sleep 60; done` is a complete driver.

use std::path::Path;

use anyhow::Result;

use super::names::{self, RunUse};
use super::workspace::{self, Workspace};
use super::{conclusion, sandbox, status};
use crate::cli;
use crate::domain::machine::{Observation, Request};
use crate::domain::state::RunPhase;
use crate::engine::{RunExit, RunOptions, RunReport};
use crate::error;
use crate::ui::outlook::Outlook;
use crate::ui::{Ui, human};

/// `git harness poll`
pub(super) fn run(here: &Path, args: &cli::PollArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = names::find_run(&store, args.run.as_deref(), RunUse::Change)?;
    let proof = match workspace::try_hold(&store, &run)? {
        Ok(proof) => proof,
        Err(held) => {
            // The process that holds the run takes the steps. This process only reports the state.
            ui.status(&format!("note: {held}"));
            let ended = Workspace::load(&store, &run)?.state().ended();
            return Ok(if ended { error::POLL_ENDED } else { error::OK });
        }
    };
    let workspace = Workspace::load_or_repair(&store, &run, &proof, ui)?;
    let state = workspace.state();
    if workspace.is_finished() {
        ui.status(&format!("run {run}: {}", human::counts(state)));
        return Ok(error::POLL_ENDED);
    }
    if state.phase == RunPhase::Cancelled {
        ui.status(&format!("the run `{run}` is cancelled"));
        return Ok(error::POLL_ENDED);
    }
    sandbox::announce(&store, &run, workspace.job()?, ui)?;
    let naming = status::naming(&store, &workspace)?;
    let mut lines = Ui::new(false);
    let mut report = |report: RunReport<'_>| lines.report(&report);
    let options = RunOptions { wait: false, ..RunOptions::default() };
    let mut engine = workspace.into_engine(proof, args.jobs, options, &mut report)?;
    if engine.state().waits_to_begin {
        // `start --paused` creates a run without starting it, and the first `poll` starts it. A run
        // that a person stopped stays stopped.
        engine.observe_and_settle(Observation::Requested(Request::Resume))?;
    }
    let stopped = engine.run()?;
    let state = engine.state().clone();
    drop(engine);
    workspace::record_poll(&store, &run)?;
    ui.status(&format!("run {run}: {}", human::counts(&state)));
    let facts = conclusion::facts(&store, &state, &naming, &stopped)?;
    let next = Outlook::new(&state, &facts, &naming).next();
    Ok(match stopped {
        RunExit::Ended => error::POLL_ENDED,
        RunExit::Later | RunExit::Interrupted(_) => error::OK,
        RunExit::Blocked => {
            for line in human::blocked(&state) {
                ui.status(&line);
            }
            ui.status(&next);
            error::NEEDS_PERSON
        }
        RunExit::Person(why) => {
            ui.status(&format!("needs a person: {why}"));
            ui.status(&next);
            error::NEEDS_PERSON
        }
    })
}
