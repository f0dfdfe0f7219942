//! `retry` and `skip`, and the requests by which commands change a run, even one that another
//! process holds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::names::{self, RunUse, TaskResolver};
use super::workspace::{self, Workspace};
use crate::ambient;
use crate::cli;
use crate::domain::event::Halt;
use crate::domain::id::RunId;
use crate::domain::state::{Phase, RunPhase};
use crate::engine::requests;
use crate::engine::{RunOptions, RunReport};
use crate::error;
use crate::store::Store;
use crate::ui::Ui;
use crate::wire::request::{RequestAnswer, WireRequest};

/// The interval between polls for an answer.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A run and the means to send requests to it. A command that has loaded the run passes the loaded
/// run; other commands pass only its id.
#[derive(Debug)]
pub(super) struct Requests {
    store: Store,
    run: RunId,
    loaded: Option<Workspace>,
    halted: bool,
}

impl Requests {
    /// Creates requests to a run that is not loaded.
    pub(super) fn of_run(store: Store, run: RunId) -> Self {
        Self { store, run, loaded: None, halted: false }
    }

    /// Creates requests to a loaded run.
    pub(super) fn of(workspace: Workspace) -> Self {
        let state = workspace.state();
        let halted = state.phase == RunPhase::Halted && state.halt == Some(Halt::Failures);
        let (store, run) = (workspace.store.clone(), workspace.run().clone());
        Self { store, run, loaded: Some(workspace), halted }
    }

    /// Makes requests and waits until they are carried out: by the process that holds the run, or
    /// by this process if no process holds the run.
    pub(super) fn ask(&mut self, wires: &[WireRequest], ui: &Ui) -> Result<Vec<RequestAnswer>> {
        let mut open: Vec<PathBuf> = Vec::new();
        for wire in wires {
            open.push(requests::ask(&self.store, &self.run, wire)?);
        }
        let mut reported = false;
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
            match workspace::try_hold(&self.store, &self.run)? {
                Ok(proof) => {
                    let workspace = match self.loaded.take() {
                        Some(workspace) => workspace,
                        None => Workspace::load(&self.store, &self.run)?,
                    };
                    let mut quiet = |_: RunReport<'_>| {};
                    let mut engine =
                        workspace.into_engine(proof, None, RunOptions::default(), &mut quiet)?;
                    engine.serve_requests()?;
                }
                Err(held) => {
                    if !reported {
                        ui.status(&format!(
                            "asking the process that holds the run ({})",
                            held.holder
                        ));
                        reported = true;
                    }
                    ambient::pause(POLL_INTERVAL);
                }
            }
        }
    }

    /// Makes requests and prints the answers. The exit code is 1 if a request had no effect.
    pub(super) fn ask_and_report(&mut self, wires: &[WireRequest], ui: &Ui) -> Result<u8> {
        let answers = self.ask(wires, ui)?;
        for answer in &answers {
            ui.message(&if answer.done {
                answer.message.clone()
            } else {
                format!("error: {}", answer.message)
            });
        }
        Ok(if answers.iter().all(|a| a.done) { error::OK } else { error::INCOMPLETE })
    }

    /// If no supervisor holds the run, prints the command that carries out the requests.
    pub(super) fn hint_start(&self, ui: &Ui) {
        if workspace::supervisor_of(&self.store, &self.run).is_some() {
            return;
        }
        let force = if self.halted { " --force" } else { "" };
        ui.status(&format!("hint: `git harness start --run {}{force}` carries it out", self.run));
    }
}

/// `git harness retry`
pub(super) fn retry(here: &Path, args: &cli::RetryArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = args.run.as_deref();
    let (workspace, wires) = if args.failed {
        let run = names::find_run(&store, run, RunUse::Change)?;
        let workspace = Workspace::load(&store, &run)?;
        let failed = workspace.state().tasks.iter().filter(|(_, s)| s.phase == Phase::Failed);
        let wires: Vec<_> =
            failed.map(|(t, _)| WireRequest::Retry { task: t.to_string() }).collect();
        if wires.is_empty() {
            ui.message(&format!("no task of the run `{run}` has failed"));
            return Ok(error::OK);
        }
        (workspace, wires)
    } else {
        task_requests(&store, here, (args.tasks.as_slice(), run), |task| WireRequest::Retry {
            task,
        })?
    };
    let mut requests = Requests::of(workspace);
    let code = requests.ask_and_report(&wires, ui)?;
    requests.hint_start(ui);
    Ok(code)
}

/// `git harness skip`
pub(super) fn skip(here: &Path, args: &cli::SkipArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let message = args.message.clone();
    let wire = |task| WireRequest::Skip { task, message: message.clone() };
    let names = (args.tasks.as_slice(), args.run.as_deref());
    let (workspace, wires) = task_requests(&store, here, names, wire)?;
    Requests::of(workspace).ask_and_report(&wires, ui)
}

/// Opens the run of the named tasks and makes a request for each task. All tasks must belong to one
/// run.
fn task_requests(
    store: &Store,
    here: &Path,
    (names, run): (&[String], Option<&str>),
    wire: impl Fn(String) -> WireRequest,
) -> Result<(Workspace, Vec<WireRequest>)> {
    let mut wires = Vec::new();
    let mut resolver = TaskResolver::new(store, here, run, RunUse::Change);
    let mut named: Option<RunId> = None;
    for name in names {
        let (run, task) = resolver.resolve(name)?;
        if *named.get_or_insert_with(|| run.clone()) != run {
            anyhow::bail!("the tasks belong to two runs; name the tasks of one run at a time");
        }
        wires.push(wire(task.to_string()));
    }
    let run = match named {
        Some(run) => run,
        None => names::find_run(store, run, RunUse::Change)?,
    };
    Ok((resolver.take(&run)?, wires))
}
