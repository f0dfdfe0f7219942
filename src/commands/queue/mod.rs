//! `queue`: branches land on a target when its own checks pass with them.

mod list;
mod tasks;
mod work;

use std::path::Path;

use anyhow::{Result, bail};

use super::workspace;
use crate::ambient;
use crate::cli::{self, QueueAction};
use crate::domain::id::Oid;
use crate::domain::queue::EntryId;
use crate::engine::queue::Desk;
use crate::error::{self, Advice};
use crate::store::Store;
use crate::store::layout;
use crate::ui::Ui;
use crate::wire::queue::{Ejection, EntryCommit, QueueEvent};

/// `git harness queue`
pub(super) fn run(here: &Path, args: &cli::QueueArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let target = target(&store, args.target.as_deref())?;
    match &args.action {
        None => list::run(&store, &target, args.json, args.all, ui),
        Some(QueueAction::List(list)) => {
            list::run(&store, &target, args.json || list.json, args.all || list.all, ui)
        }
        Some(QueueAction::Add(add)) => add_branches(&store, &target, add, ui),
        Some(QueueAction::Remove(branches)) => remove(&store, &target, &branches.branches, ui),
        Some(QueueAction::Approve(branches)) => approve(&store, &target, &branches.branches, ui),
        Some(QueueAction::Reject(reject)) => send_back(&store, &target, reject, ui),
        Some(QueueAction::Run(run)) => work::run(store, target, run, ui),
        Some(QueueAction::Sweep) => work::sweep(&store, &target, ui),
        Some(QueueAction::Pause) => {
            write(&store, &target, &[QueueEvent::Paused { by: who(&store) }])?;
            ui.status("paused: what is being verified is finished, and nothing more is begun");
            Ok(error::OK)
        }
        Some(QueueAction::Resume) => {
            write(&store, &target, &[QueueEvent::Resumed { by: who(&store) }])?;
            ui.status("resumed");
            Ok(error::OK)
        }
    }
}

/// The full name of the target.
fn target(store: &Store, named: Option<&str>) -> Result<String> {
    let full = |name: &str| {
        if name.starts_with("refs/heads/") { name.to_owned() } else { format!("refs/heads/{name}") }
    };
    if let Some(name) = named {
        let full = full(name);
        if store.read(&full)?.is_none() {
            let hint = format!("make it first: `git branch {name}`");
            return Err(Advice::new(format!("there is no branch `{name}`"), hint).into());
        }
        return Ok(full);
    }
    if let [one] = store.queued_targets()?.as_slice() {
        return Ok(one.clone());
    }
    let mut found = Vec::new();
    for name in ["main", "master"] {
        if store.read(&full(name))?.is_some() {
            found.push(full(name));
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        _ => {
            let what = "which branch receives the work?";
            Err(Advice::new(what, "name it with `--target BRANCH`").into())
        }
    }
}

fn who(store: &Store) -> String {
    let who = store.repo().identity();
    format!("{} <{}>", who.name, who.email)
}

/// Writes into the book; it is durable when this returns.
fn write(store: &Store, target: &str, events: &[QueueEvent]) -> Result<()> {
    store.append_queue_log(target, events)?;
    store.barrier()
}

fn desk(store: Store, target: String) -> Result<Desk> {
    Ok(Desk::new(store, target, ambient::program()?, ambient::environment()))
}

/// A branch by any of its names, and its commit.
fn branch(store: &Store, name: &str) -> Result<EntryCommit> {
    let short = layout::short(name);
    let entry = EntryId::parse(short)?;
    match store.read(&format!("refs/heads/{entry}"))? {
        Some(commit) => Ok(EntryCommit { entry: entry.to_string(), commit }),
        None => {
            let hint = "a queue takes local branches: `git branch --list` names them";
            Err(Advice::new(format!("there is no branch `{short}`"), hint).into())
        }
    }
}

fn add_branches(store: &Store, target: &str, add: &cli::QueueAddArgs, ui: &Ui) -> Result<u8> {
    // Also says now, and not only when it is worked off, that there are no rules to judge a branch by.
    let desk = desk(store.clone(), target.to_owned())?;
    let tip = desk.tip()?;
    let rules = desk.rules(&tip)?;
    let summary = list::QueueSummary::of(store, target)?;
    let after = dependencies(store, &summary, &tip, &add.after, &add.branches)?;
    let mut events = Vec::new();
    let mut said = Vec::new();
    for name in &add.branches {
        let candidate = branch(store, name)?;
        let entry = candidate.entry.clone();
        if format!("refs/heads/{entry}") == target {
            bail!("`{entry}` is the target itself");
        }
        if crate::repo::merge_base(store.repo(), &tip, &candidate.commit)?.is_none() {
            bail!("`{entry}` has no history in common with `{}`", desk.short());
        }
        if store.repo().is_ancestor(&candidate.commit, &tip)? {
            said.push(format!("{entry}: is on `{}` already", desk.short()));
            continue;
        }
        let commit = candidate.commit.short().to_owned();
        said.push(format!("{entry}: at {commit}, waits to land on `{}`", desk.short()));
        let (priority, after) = (add.priority, after.clone());
        let (tip, by) = (tip.clone(), who(store));
        events.push(QueueEvent::Added { candidate, priority, after, tip, by });
    }
    if !events.is_empty() {
        write(store, target, &events)?;
    }
    said.iter().for_each(|line| ui.status(line));
    if rules.job.queue.review && !events.is_empty() {
        ui.status("each needs an approval: `git harness queue approve BRANCH`");
    }
    if !events.is_empty() && !summary.is_worked_off() {
        ui.status("`git harness queue run` works the queue off");
    }
    Ok(error::OK)
}

/// What has to land before: entries of the queue, or added with them; what is on the target is no matter any more.
fn dependencies(
    store: &Store,
    summary: &list::QueueSummary,
    tip: &Oid,
    after: &[String],
    together: &[String],
) -> Result<Vec<String>> {
    let mut needed = Vec::new();
    for name in after {
        let short = layout::short(name);
        if summary.waits(short) || together.iter().any(|other| other == short) {
            needed.push(short.to_owned());
            continue;
        }
        let landed = match store.read(&format!("refs/heads/{short}"))? {
            Some(commit) => summary.landed(short) || store.repo().is_ancestor(&commit, tip)?,
            None => summary.landed(short),
        };
        if !landed {
            let what = format!("`{short}` is not in the queue and has not landed");
            return Err(Advice::new(
                what,
                format!("add it first: `git harness queue add {short}`"),
            )
            .into());
        }
    }
    Ok(needed)
}

fn waiting(summary: &list::QueueSummary, name: &str) -> Result<String> {
    let short = layout::short(name);
    if summary.waits(short) {
        return Ok(short.to_owned());
    }
    let hint = "`git harness queue list` shows what is";
    Err(Advice::new(format!("`{short}` is not in the queue"), hint).into())
}

fn remove(store: &Store, target: &str, names: &[String], ui: &Ui) -> Result<u8> {
    let summary = list::QueueSummary::of(store, target)?;
    let why = format!("taken out by {}", who(store));
    let names: Vec<String> =
        names.iter().map(|name| waiting(&summary, name)).collect::<Result<_>>()?;
    let removed = |entry: &String| QueueEvent::Removed { entry: entry.clone(), why: why.clone() };
    write(store, target, &names.iter().map(removed).collect::<Vec<_>>())?;
    names.iter().for_each(|name| ui.status(&format!("{name}: taken out; the branch is as it was")));
    Ok(error::OK)
}

fn approve(store: &Store, target: &str, names: &[String], ui: &Ui) -> Result<u8> {
    let summary = list::QueueSummary::of(store, target)?;
    let by = who(store);
    let mut events = Vec::new();
    for name in names {
        let candidate = branch(store, &waiting(&summary, name)?)?;
        ui.status(&format!("{}: approved at {}", candidate.entry, candidate.commit.short()));
        events.push(QueueEvent::Approved { candidate, by: by.clone() });
    }
    write(store, target, &events)?;
    if !summary.is_worked_off() {
        ui.status("`git harness queue run` works the queue off");
    }
    Ok(error::OK)
}

fn send_back(store: &Store, target: &str, args: &cli::QueueRejectArgs, ui: &Ui) -> Result<u8> {
    let summary = list::QueueSummary::of(store, target)?;
    let mut events = Vec::new();
    for name in &args.branches {
        let candidate = branch(store, &waiting(&summary, name)?)?;
        ui.status(&format!(
            "{}: sent back; it can be added again when it has changed",
            candidate.entry
        ));
        let why = Ejection::ChangesRequested { by: who(store), message: args.message.clone() };
        events.push(QueueEvent::Ejected { candidate, reason: why });
    }
    write(store, target, &events)?;
    Ok(error::OK)
}
