//! `retry` and `skip`: asking a run for something, whoever holds it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::workspace;
use crate::ambient;
use crate::cli;
use crate::domain::event::Halt;
use crate::domain::id::RunId;
use crate::domain::state::{Phase, RunPhase};
use crate::engine::RunOptions;
use crate::engine::requests;
use crate::error;
use crate::store::Store;
use crate::store::load::LoadedRun;
use crate::ui::Ui;
use crate::wire::request::{RequestAnswer, WireRequest};

/// Makes requests of a run and waits until they are carried out: by whoever holds the run, else by this process.
pub(super) fn ask(
    store: &Store,
    run: &RunId,
    wires: &[WireRequest],
    ui: &Ui,
) -> Result<Vec<RequestAnswer>> {
    let mut open: Vec<PathBuf> = Vec::new();
    for wire in wires {
        open.push(requests::ask(store, run, wire)?);
    }
    let mut told = false;
    let mut answers: Vec<Option<RequestAnswer>> = vec![None; open.len()];
    loop {
        for (path, answer) in open.iter().zip(answers.iter_mut()) {
            if answer.is_none() {
                *answer = requests::collect(path)?;
            }
        }
        if answers.iter().all(Option::is_some) {
            return Ok(answers.into_iter().flatten().collect());
        }
        match workspace::try_hold(store, run)? {
            Ok(proof) => {
                let mut quiet = |_: crate::engine::RunReport<'_>| {};
                let options = RunOptions::default();
                let mut engine = workspace::open_engine(store, proof, None, options, &mut quiet)?;
                engine.serve_requests()?;
            }
            Err(held) => {
                if !told {
                    ui.status(&format!("asking the process that holds the run ({})", held.holder));
                    told = true;
                }
                ambient::pause(Duration::from_millis(50));
            }
        }
    }
}

/// Makes requests and tells the answers; the exit code is 1 if one had no effect.
pub(super) fn tell(store: &Store, run: &RunId, wires: &[WireRequest], ui: &Ui) -> Result<u8> {
    let answers = ask(store, run, wires, ui)?;
    for answer in &answers {
        ui.message(&if answer.done {
            answer.message.clone()
        } else {
            format!("error: {}", answer.message)
        });
    }
    Ok(if answers.iter().all(|a| a.done) { error::OK } else { error::INCOMPLETE })
}

/// `git harness retry`
pub(super) fn retry(here: &Path, args: &cli::RetryArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    if args.failed {
        let run = workspace::find_run(&store, args.run.as_deref())?;
        let state = workspace::load_run(&store, &run)?.ledger.state;
        let failed = state.tasks.iter().filter(|(_, s)| s.phase == Phase::Failed);
        let wires: Vec<_> =
            failed.map(|(t, _)| WireRequest::Retry { task: t.to_string() }).collect();
        if wires.is_empty() {
            ui.message(&format!("no task of the run `{run}` has failed"));
            return Ok(error::OK);
        }
        let code = tell(&store, &run, &wires, ui)?;
        hint_start(&store, &run, ui);
        return Ok(code);
    }
    let (run, wires) =
        named(&store, &args.tasks, args.run.as_deref(), |task| WireRequest::Retry { task })?;
    let code = tell(&store, &run, &wires, ui)?;
    hint_start(&store, &run, ui);
    Ok(code)
}

/// Says how what was asked gets carried out when nobody holds the run.
pub(super) fn hint_start(store: &Store, run: &RunId, ui: &Ui) {
    if workspace::driver(store, run).is_some() {
        return;
    }
    let halted = workspace::load_run(store, run).is_ok_and(|loaded| {
        let state = &loaded.ledger.state;
        state.phase == RunPhase::Halted && state.halt == Some(Halt::Failures)
    });
    let force = if halted { " --force" } else { "" };
    ui.status(&format!("hint: `git harness start --run {run}{force}` carries it out"));
}

/// `git harness skip`
pub(super) fn skip(here: &Path, args: &cli::SkipArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let message = args.message.clone();
    let wire = |task| WireRequest::Skip { task, message: message.clone() };
    let (run, wires) = named(&store, &args.tasks, None, wire)?;
    tell(&store, &run, &wires, ui)
}

/// The tasks that are named, all of one run and all of them known, as requests.
fn named(
    store: &Store,
    names: &[String],
    run: Option<&str>,
    wire: impl Fn(String) -> WireRequest,
) -> Result<(RunId, Vec<WireRequest>)> {
    let mut wires = Vec::new();
    let mut of: Option<(RunId, LoadedRun)> = None;
    for name in names {
        let (run, task) = workspace::resolve_task(store, name, run)?;
        let (of, loaded) = match &mut of {
            Some(of) => of,
            None => of.insert((run.clone(), workspace::load_run(store, &run)?)),
        };
        if *of != run {
            anyhow::bail!("the tasks are of two runs; name those of one at a time");
        }
        workspace::find_task(loaded, &task)?;
        wires.push(wire(task.to_string()));
    }
    let run = match of {
        Some((run, _)) => run,
        None => workspace::find_run(store, run)?,
    };
    Ok((run, wires))
}
