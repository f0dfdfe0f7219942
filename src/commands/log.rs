//! `log`: what has happened, from the chains.

use std::path::Path;

use anyhow::Result;

use super::{transcript, workspace};
use crate::cli;
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::state::Phase;
use crate::error::{self, Advice};
use crate::store::{Store, codec, layout};
use crate::ui::{Ui, human, printable};

struct LogEntry {
    at: u64,
    chain: String,
    commit: Oid,
    message: String,
}

/// `git harness log`
pub(super) fn run(here: &Path, args: &cli::LogArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let (run, task) = which(&store, &args.names)?;
    if args.follow {
        let Some(task) = task else { return Err(no_task(&store, &run)?) };
        return transcript::follow(&store, &run, &task, args.json, ui);
    }
    let mut entries = Vec::new();
    match &task {
        Some(task) => read(&store, &layout::task(&run, task), task.as_str(), &mut entries)?,
        None => {
            read(&store, &layout::run(&run), "", &mut entries)?;
            for (name, _) in store.list(&layout::tasks(&run))? {
                let task = name.rsplit('/').next().unwrap_or("").to_owned();
                read(&store, &name, &task, &mut entries)?;
            }
        }
    }
    entries.sort_by(|a, b| (a.at, &a.chain).cmp(&(b.at, &b.chain)));
    for entry in entries {
        let map = codec::trailers(&entry.message);
        let text = if args.json {
            let data = map.get("Harness-Data").copied().unwrap_or("{}");
            let data: serde_json::Value = serde_json::from_str(data)?;
            let task =
                if entry.chain.is_empty() { serde_json::Value::Null } else { entry.chain.into() };
            let line = serde_json::json!({
                "v": 1, "run": run.as_str(), "task": task, "at": entry.at,
                "commit": entry.commit.as_str(), "event": data,
            });
            format!("{line}\n")
        } else {
            let at = human::moment(crate::domain::id::Timestamp(entry.at));
            let subject = entry.message.lines().next().unwrap_or("");
            format!("{at}  {subject}\n")
        };
        ui.result(&if args.json { text } else { printable(&text) });
    }
    Ok(error::OK)
}

/// Only a task can be followed: names those that are running.
fn no_task(store: &Store, run: &RunId) -> Result<anyhow::Error> {
    let loaded = workspace::load_run(store, run)?;
    let state = &loaded.ledger.state;
    let running = state.tasks.iter().filter(|(_, task)| task.phase == Phase::Running);
    let names: Vec<_> = running.map(|(id, _)| format!("`{run}/{id}`")).collect();
    let hint = match names.as_slice() {
        [] => format!("none is running now; `git harness status {run}` lists them"),
        names => format!("running now: {}", names.join(", ")),
    };
    Ok(Advice::new("`--follow` follows one task, and none is named".to_owned(), hint).into())
}

fn read(store: &Store, name: &str, chain: &str, entries: &mut Vec<LogEntry>) -> Result<()> {
    let Some(tip) = store.read(name)? else {
        anyhow::bail!(
            "there is nothing at `{name}`; a task that was swept is in the archive of its run"
        );
    };
    // Newest first on the chain; events of one moment keep their order by being turned round before the stable sort.
    for (commit, message) in store.messages(&tip)?.into_iter().rev() {
        let at = codec::trailers(&message).get("Harness-At").and_then(|v| v.parse().ok());
        let (at, chain) = (at.unwrap_or(0), chain.to_owned());
        entries.push(LogEntry { at, chain, commit, message });
    }
    Ok(())
}

/// `[RUN] [TASK]`, `RUN/TASK`, or a single name that is a run's or a task's.
fn which(store: &Store, names: &[String]) -> Result<(RunId, Option<TaskId>)> {
    match names {
        [] => Ok((workspace::find_run(store, None)?, None)),
        [run, task] => {
            let (run, task) = workspace::resolve_task(store, task, Some(run))?;
            Ok((run, Some(task)))
        }
        [name, ..] => {
            let is_run =
                RunId::parse(name).is_ok_and(|r| store.runs().is_ok_and(|runs| runs.contains(&r)));
            if is_run {
                return Ok((RunId::parse(name)?, None));
            }
            let (run, task) = workspace::resolve_task(store, name, None)?;
            workspace::find_task(&workspace::load_run(store, &run)?, &task)?;
            Ok((run, Some(task)))
        }
    }
}
