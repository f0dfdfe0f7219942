//! `log`: the events of a run, or of one task.

use std::path::Path;

use anyhow::Result;

use super::names::{self, RunUse, TaskResolver};
use super::transcript;
use super::workspace::{self, Workspace};
use crate::cli as args;
use crate::domain::id::{Oid, RunId, TaskId, Timestamp};
use crate::domain::state::Phase;
use crate::error::{self, Advice};
use crate::store::{Store, codec, layout};
use crate::ui::{Ui, human, printable};
use crate::wire::cli;

/// An event of a chain.
struct LogEntry {
    at: u64,
    /// The task; none for an event of the run.
    task: Option<String>,
    commit: Oid,
    message: String,
}

/// `git harness log`
pub(super) fn run(here: &Path, args: &args::LogArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let (run, task) = resolve_names(&store, here, &args.names)?;
    if args.follow {
        let Some(task) = task else { return Err(no_task(&store, &run)?) };
        let label = Workspace::view(&store, &run)?.state().tasks.label(&task);
        return transcript::follow(&store, &run, (&task, &label), args.json, ui);
    }
    let mut entries = Vec::new();
    match &task {
        Some(task) => read(&store, &layout::task(&run, task), Some(task.as_str()), &mut entries)?,
        None => {
            read(&store, &layout::run(&run), None, &mut entries)?;
            for (name, _) in store.list(&layout::tasks(&run))? {
                read(&store, &name, name.rsplit('/').next(), &mut entries)?;
            }
        }
    }
    let workspace = Workspace::view(&store, &run)?;
    let label = |task: &str| {
        let tasks = &workspace.state().tasks;
        TaskId::parse(task).map_or_else(|_| task.to_owned(), |task| tasks.label(&task))
    };
    entries.sort_by(|a, b| (a.at, &a.task).cmp(&(b.at, &b.task)));
    for entry in &entries {
        if args.json {
            let trailers = codec::trailers(&entry.message);
            let data = trailers.get("Harness-Data").copied().unwrap_or("{}");
            ui.json(&cli::LogLine {
                v: cli::Version,
                run: run.as_str(),
                task: entry.task.as_deref(),
                at: entry.at,
                commit: entry.commit.as_str(),
                event: serde_json::from_str(data)?,
            })?;
        } else {
            let at = human::moment(Timestamp(entry.at));
            let subject = entry.message.lines().next().unwrap_or("");
            let subject = match entry.task.as_deref() {
                Some(task) => subject.replacen(task, &label(task), 1),
                None => subject.to_owned(),
            };
            ui.result(&printable(&format!("{at}  {subject}\n")));
        }
    }
    Ok(error::OK)
}

/// Returns the error for `--follow` without a task. The hint names the running tasks.
fn no_task(store: &Store, run: &RunId) -> Result<anyhow::Error> {
    let workspace = Workspace::load(store, run)?;
    let tasks = &workspace.state().tasks;
    let running = tasks.iter().filter(|(_, task)| task.phase == Phase::Running);
    let names: Vec<_> = running.map(|(id, _)| format!("`{run}/{}`", tasks.label(id))).collect();
    let hint = match names.as_slice() {
        [] => format!("no task is running; `git harness status {run}` lists them"),
        names => format!("running now: {}", names.join(", ")),
    };
    Ok(Advice::new("`--follow` needs a task".to_owned(), hint).into())
}

/// Reads the events of a chain, oldest first.
fn read(store: &Store, name: &str, task: Option<&str>, entries: &mut Vec<LogEntry>) -> Result<()> {
    let Some(tip) = store.read(name)? else {
        anyhow::bail!(
            "no chain at `{name}`; the chain of a swept task is in the archive of its run"
        );
    };
    // The caller sorts by time with a stable sort, so events of the same moment keep the chain's
    // order.
    for (commit, message) in store.messages(&tip)?.into_iter().rev() {
        let at = codec::trailers(&message).get("Harness-At").and_then(|v| v.parse().ok());
        let task = task.map(str::to_owned);
        entries.push(LogEntry { at: at.unwrap_or(0), task, commit, message });
    }
    Ok(())
}

/// Resolves the arguments: `[RUN] [TASK]`, `RUN/TASK`, or the name of a run or a task.
fn resolve_names(store: &Store, here: &Path, names: &[String]) -> Result<(RunId, Option<TaskId>)> {
    let resolve = |name: &str, run: Option<&str>| {
        let (run, task) = TaskResolver::new(store, here, run, RunUse::Read).resolve(name)?;
        Ok((run, Some(task)))
    };
    match names {
        [] => Ok((names::find_run(store, None, RunUse::Read)?, None)),
        [run, task] => resolve(task, Some(run)),
        [name, ..] => match store.runs()?.into_iter().find(|run| run.as_str() == name) {
            Some(run) => Ok((run, None)),
            None => resolve(name, None),
        },
    }
}
