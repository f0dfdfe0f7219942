//! `poll`: one step of the loop. `while git harness poll; do sleep 60; done` is a complete driver.

use std::path::Path;

use anyhow::Result;

use super::{start, workspace};
use crate::cli;
use crate::domain::machine::{Observation, Request};
use crate::domain::state::RunPhase;
use crate::engine::{RunExit, RunOptions, RunReport};
use crate::error;
use crate::ui::{Ui, human};

/// `git harness poll`
pub(super) fn run(here: &Path, args: &cli::PollArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = workspace::find_run(&store, args.run.as_deref())?;
    let proof = match workspace::try_hold(&store, &run)? {
        Ok(proof) => proof,
        Err(held) => {
            // Somebody else takes the steps; what there is to say is how it stands.
            ui.status(&format!("note: {held}"));
            let state = workspace::load_run(&store, &run)?.ledger.state;
            return Ok(if state.ended() { error::ENDED } else { error::OK });
        }
    };
    let loaded = workspace::load_run(&store, &run)?;
    let state = &loaded.ledger.state;
    if start::over(&loaded) {
        ui.status(&format!("run {run}: {}", human::counts(state)));
        return Ok(error::ENDED);
    }
    if state.phase == RunPhase::Cancelled {
        ui.status(&format!("the run `{run}` is cancelled"));
        return Ok(error::ENDED);
    }
    let mut lines = Ui::new(false);
    let mut report = |report: RunReport<'_>| lines.report(&report);
    let options = RunOptions { wait: false, ..RunOptions::default() };
    let mut engine = workspace::open_engine(&store, proof, args.jobs, options, &mut report)?;
    if engine.state().waits_to_begin {
        // `start --paused` only made the run; driving it by `poll` is how it begins. A run that somebody stopped stays
        // stopped.
        engine.ask(Observation::Requested(Request::Resume))?;
    }
    let stopped = engine.run()?;
    let state = engine.state().clone();
    drop(engine);
    ui.status(&format!("run {run}: {}", human::counts(&state)));
    Ok(match stopped {
        RunExit::Ended => error::ENDED,
        RunExit::Later | RunExit::Interrupted(_) => error::OK,
        RunExit::Blocked => {
            for line in human::blocked(&state) {
                ui.status(&line);
            }
            error::PERSON
        }
        RunExit::Person(why) => {
            ui.status(&format!("needs a person: {why}"));
            error::PERSON
        }
    })
}
