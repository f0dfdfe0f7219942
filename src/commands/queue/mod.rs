//! `queue`: the merge queue for branches. A branch lands when the target's own checks pass on the
//! merge of the branch into the target.

mod events;
mod list;
mod summary;
mod tasks;
mod work;

use std::path::Path;

use anyhow::{Result, bail};

pub(super) use self::events::joint_failure;
pub(super) use self::summary::QueueSummary;
use super::workspace::{self, who};
use crate::ambient;
use crate::cli::{self, QueueAction, QueueListArgs};
use crate::domain::id::Oid;
use crate::domain::queue::EntryId;
use crate::engine::queue::QueueContext;
use crate::error::{self, Advice};
use crate::landing::TargetHistory;
use crate::store::Store;
use crate::store::layout;
use crate::ui::Ui;
use crate::wire::queue::{Ejection, EntryCommit, QueueEvent};

/// `git harness queue`
pub(super) fn run(here: &Path, args: &cli::QueueArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let target = target(&store, args.target.as_deref())?;
    match &args.action {
        None => {
            let list = QueueListArgs { json: args.json, all: args.all };
            list::run(&store, &target, &list, ui)
        }
        Some(QueueAction::List(list)) => {
            let (json, all) = (args.json || list.json, args.all || list.all);
            list::run(&store, &target, &QueueListArgs { json, all }, ui)
        }
        Some(QueueAction::Add(add)) => add_branches(&store, &target, add, ui),
        Some(QueueAction::Remove(branches)) => remove(&store, &target, &branches.branches, ui),
        Some(QueueAction::Approve(branches)) => approve(&store, &target, &branches.branches, ui),
        Some(QueueAction::Reject(reject)) => request_changes(&store, &target, reject, ui),
        Some(QueueAction::Run(run)) => work::run(store, target, run, ui),
        Some(QueueAction::Sweep) => work::sweep(&store, &target, ui),
        Some(QueueAction::Pause) => {
            write(&store, &target, &[QueueEvent::Paused { by: who(&store) }])?;
            ui.status("paused: running verifications finish, and no new one starts");
            Ok(error::OK)
        }
        Some(QueueAction::Resume) => {
            write(&store, &target, &[QueueEvent::Resumed { by: who(&store) }])?;
            ui.status("resumed");
            Ok(error::OK)
        }
    }
}

/// The reason why nothing lands on a target.
#[derive(Debug)]
pub(super) struct LandingProblem {
    pub reason: String,
    /// True if the queue is paused.
    pub paused: bool,
}

/// Returns the known reason why nothing lands on a target: the problem that the queue's worker
/// reports or, without a worker, a pause.
pub(super) fn problem(store: &Store, target: &str) -> Result<Option<LandingProblem>> {
    let summary = QueueSummary::read(store, target)?;
    let paused = summary.paused;
    if summary.running {
        let context = context(store.clone(), target.to_owned())?;
        let problem = crate::engine::queue::status::read(&context).problem;
        return Ok(problem.map(|reason| LandingProblem { reason, paused }));
    }
    let short = layout::short(target);
    let reason =
        format!("the queue of `{short}` is paused: `git harness queue resume` continues it");
    Ok(paused.then_some(LandingProblem { reason, paused }))
}

/// Returns the full ref name of the target: of the branch `named`, else of the only branch with a
/// queue, else of `main` or `master`.
fn target(store: &Store, named: Option<&str>) -> Result<String> {
    let full = |name: &str| {
        if name.starts_with("refs/heads/") { name.to_owned() } else { format!("refs/heads/{name}") }
    };
    if let Some(name) = named {
        let full = full(name);
        if store.read(&full)?.is_none() {
            let hint = format!("make it with `git branch {name}`");
            return Err(Advice::new(format!("no branch `{name}`"), hint).into());
        }
        return store.resolve_branch(&full);
    }
    // A queue whose branch was deleted does not count.
    let mut queued = Vec::new();
    for target in store.queued_targets()? {
        if store.read(&target)?.is_some() {
            queued.push(target);
        }
    }
    if let [one] = queued.as_slice() {
        return Ok(one.clone());
    }
    let mut defaults = Vec::new();
    for name in ["main", "master"] {
        if store.read(&full(name))?.is_some() {
            let branch = store.resolve_branch(&full(name))?;
            if !defaults.contains(&branch) {
                defaults.push(branch);
            }
        }
    }
    match defaults.as_slice() {
        [only] => Ok(only.clone()),
        _ => {
            let message = "no target: several branches could receive the work";
            Err(Advice::new(message, "name the target with `--target BRANCH`").into())
        }
    }
}

/// Appends events to the queue log. The events are durable when the function returns.
fn write(store: &Store, target: &str, events: &[QueueEvent]) -> Result<()> {
    store.append_queue_log(target, events)?;
    store.barrier()
}

/// Creates the context for work on the queue.
fn context(store: Store, target: String) -> Result<QueueContext> {
    Ok(QueueContext::new(store, target, ambient::program()?, ambient::environment()))
}

/// Resolves a branch name to its queue entry and commit.
fn branch(store: &Store, name: &str) -> Result<EntryCommit> {
    let short = layout::short(name);
    let entry = EntryId::parse(short)?;
    match store.read(&format!("refs/heads/{entry}"))? {
        Some(commit) => Ok(EntryCommit { entry: entry.to_string(), commit }),
        None => {
            let hint = "a queue takes local branches; `git branch --list` names them";
            Err(Advice::new(format!("no branch `{short}`"), hint).into())
        }
    }
}

/// A branch that is added to the queue.
enum AddedBranch {
    /// The branch wants to land.
    Waits(EntryCommit),
    /// The target contains the branch.
    Contained(String),
}

/// Adds branches. If one branch is refused, the others are still added.
fn add_branches(store: &Store, target: &str, add: &cli::QueueAddArgs, ui: &Ui) -> Result<u8> {
    // Reading the rules now reports a missing `harness.toml` before anything is queued.
    let context = context(store.clone(), target.to_owned())?;
    let tip = context.tip()?;
    let rules = context.rules(&tip)?;
    let summary = QueueSummary::read(store, target)?;
    let (mut waiting, mut contained, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for name in &add.branches {
        match examine(&context, &tip, name) {
            Ok(AddedBranch::Waits(candidate)) => waiting.push(candidate),
            Ok(AddedBranch::Contained(entry)) => contained.push(entry),
            Err(error) if add.branches.len() == 1 => return Err(error),
            Err(error) => refused.push(error),
        }
    }
    refused.iter().for_each(|error| ui.error("error", error));
    let together: Vec<&str> = waiting.iter().map(|candidate| candidate.entry.as_str()).collect();
    let after = dependencies(store, &summary, &tip, &add.after, &together)?;
    let mut events = Vec::new();
    let mut lines = Vec::new();
    for candidate in waiting {
        let (entry, commit) = (&candidate.entry, candidate.commit.short());
        lines.push(format!("{entry}: queued at {commit} to land on `{}`", context.short()));
        // A branch that waits keeps its place.
        let row = summary.branches.get(entry).filter(|row| row.is_waiting());
        let priority = add.priority.or(row.map(|row| row.priority)).unwrap_or(0);
        let known = row.map(|row| &row.after).filter(|_| add.after.is_empty());
        let after = known.unwrap_or(&after).clone();
        let (tip, by) = (tip.clone(), who(store));
        let attempt = None;
        events.push(QueueEvent::Added { candidate, attempt, priority, after, tip, by });
    }
    lines
        .extend(contained.iter().map(|entry| format!("{entry}: already on `{}`", context.short())));
    if !events.is_empty() {
        write(store, target, &events)?;
    }
    lines.iter().for_each(|line| ui.status(line));
    if rules.job.queue.review && !events.is_empty() {
        ui.status("each branch needs an approval: `git harness queue approve BRANCH`");
    }
    if rules.reviews_rules() {
        for event in &events {
            let QueueEvent::Added { candidate, .. } = event else { continue };
            let changed = context.changed_rule_files(&rules, &tip, &candidate.commit)?;
            if let Some(file) = changed.first() {
                let entry = &candidate.entry;
                ui.status(&format!(
                    "{entry}: changes the rule file `{file}` and needs an approval: `git harness queue approve {entry}`"
                ));
            }
        }
    }
    if !events.is_empty() && !summary.running {
        ui.status("hint: `git harness queue run` verifies and lands them");
    }
    Ok(match (refused.is_empty(), lines.is_empty()) {
        (true, _) => error::OK,
        (false, false) => error::INCOMPLETE,
        (false, true) => error::FATAL,
    })
}

/// Returns the branch as a queue entry. A branch that can never land is an error.
fn examine(context: &QueueContext, tip: &Oid, name: &str) -> Result<AddedBranch> {
    let store = &context.store;
    let candidate = branch(store, name)?;
    let entry = &candidate.entry;
    if store.resolve_branch(&format!("refs/heads/{entry}"))? == context.target {
        bail!("`{entry}` is the target itself");
    }
    let bases = crate::repo::merge_bases(store.repo(), tip, &candidate.commit)?;
    let Some(base) = bases.first() else {
        bail!("`{entry}` and `{}` have no common history", context.short());
    };
    let submodules = crate::repo::changed_submodules(store.repo(), base, &candidate.commit)?;
    if let Some(path) = submodules.first() {
        let hint = "a queue cannot check out submodules: land this branch by hand";
        let what = format!("`{entry}` adds, moves or removes the submodule `{path}`");
        return Err(Advice::new(what, hint).into());
    }
    // A branch whose landing was reverted is queued: the worker rejects it and names the revert.
    let contained = store.repo().is_ancestor(&candidate.commit, tip)?
        && !is_reverted(store, tip, &candidate.commit)?;
    let added = if contained {
        AddedBranch::Contained(candidate.entry)
    } else {
        AddedBranch::Waits(candidate)
    };
    Ok(added)
}

/// Returns true if a candidate that the target contains was reverted there.
fn is_reverted(store: &Store, tip: &Oid, candidate: &Oid) -> Result<bool> {
    let mut history = TargetHistory::default();
    history.update(store.repo(), tip, None)?;
    Ok(history.reverted_by(store.repo(), candidate)?.is_some())
}

/// Returns the branches of `--after` that have not landed yet. A branch that is neither queued nor
/// landed is an error. `together` holds the branches that the same command adds; they count as
/// queued.
fn dependencies(
    store: &Store,
    summary: &QueueSummary,
    tip: &Oid,
    after: &[String],
    together: &[&str],
) -> Result<Vec<String>> {
    let mut needed = Vec::new();
    for name in after {
        let short = layout::short(name);
        if summary.is_waiting(short) || together.contains(&short) {
            needed.push(short.to_owned());
            continue;
        }
        let landed = match store.read(&format!("refs/heads/{short}"))? {
            Some(commit) => summary.has_landed(short) || store.repo().is_ancestor(&commit, tip)?,
            None => summary.has_landed(short),
        };
        if !landed {
            let message = format!("`{short}` is not in the queue and has not landed");
            return Err(Advice::new(
                message,
                format!("add it first: `git harness queue add {short}`"),
            )
            .into());
        }
    }
    Ok(needed)
}

/// Returns the short name of a branch that waits. Fails for any other branch.
fn waiting_branch(summary: &QueueSummary, name: &str) -> Result<String> {
    let short = layout::short(name);
    if summary.is_waiting(short) {
        return Ok(short.to_owned());
    }
    let hint = "`git harness queue list` shows the queue";
    Err(Advice::new(format!("`{short}` is not in the queue"), hint).into())
}

fn remove(store: &Store, target: &str, names: &[String], ui: &Ui) -> Result<u8> {
    let summary = QueueSummary::read(store, target)?;
    let why = format!("removed by {}", who(store));
    let names: Vec<String> =
        names.iter().map(|name| waiting_branch(&summary, name)).collect::<Result<_>>()?;
    let removed = |entry: &String| QueueEvent::Removed { entry: entry.clone(), why: why.clone() };
    write(store, target, &names.iter().map(removed).collect::<Vec<_>>())?;
    names
        .iter()
        .for_each(|name| ui.status(&format!("{name}: removed from the queue; the branch stays")));
    Ok(error::OK)
}

fn approve(store: &Store, target: &str, names: &[String], ui: &Ui) -> Result<u8> {
    let summary = QueueSummary::read(store, target)?;
    let by = who(store);
    let mut events = Vec::new();
    for name in names {
        let candidate = branch(store, &waiting_branch(&summary, name)?)?;
        ui.status(&format!("{}: approved at {}", candidate.entry, candidate.commit.short()));
        events.push(QueueEvent::Approved { candidate, by: by.clone() });
    }
    write(store, target, &events)?;
    if !summary.running {
        ui.status("hint: `git harness queue run` verifies and lands them");
    }
    Ok(error::OK)
}

fn request_changes(
    store: &Store,
    target: &str,
    args: &cli::QueueRejectArgs,
    ui: &Ui,
) -> Result<u8> {
    let summary = QueueSummary::read(store, target)?;
    let mut events = Vec::new();
    for name in &args.branches {
        let candidate = branch(store, &waiting_branch(&summary, name)?)?;
        ui.status(&format!(
            "{}: changes requested; add the branch again after changing it",
            candidate.entry
        ));
        let why = Ejection::ChangesRequested { by: who(store), message: args.message.clone() };
        events.push(QueueEvent::Ejected { candidate, reason: why });
    }
    write(store, target, &events)?;
    Ok(error::OK)
}
