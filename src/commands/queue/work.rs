//! `queue run` and `queue sweep`. One process works on a queue; other processes watch it.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::events;
use super::summary::QueueSummary;
use crate::ambient;
use crate::cli;
use crate::commands::workspace;
use crate::engine::queue::{self, QueueExit, QueueOptions, QueueReport};
use crate::error::{self, Advice};
use crate::process::{Holder, Lock};
use crate::store::Store;
use crate::ui::{Ui, human};

/// The polling interval of a process that watches.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// `git harness queue run`
pub(super) fn run(store: Store, target: String, args: &cli::QueueRunArgs, ui: &Ui) -> Result<u8> {
    let context = Arc::new(super::context(store.clone(), target.clone())?);
    let path = queue::worker_lock(&context)?;
    let lock = Lock::try_take(&path, &Holder::this_process().to_string())
        .with_context(|| format!("cannot use the lock file {}", path.display()))?;
    let before = QueueSummary::read(&store, &target)?.tally();
    let tally =
        || Ok::<_, anyhow::Error>(QueueSummary::read(&store, &target)?.tally().since(before));
    let lock = match lock {
        Ok(lock) => lock,
        Err(holder) => {
            ui.status(&format!("another process works on this queue ({holder}); watching it"));
            match watch(&store, &target, &path, args.follow, ui)? {
                Some(lock) => lock,
                None => return Ok(landed_code(tally()?.all_landed())),
            }
        }
    };
    let owner = format!("queue {target}");
    store.watch_settings(&owner);
    store.open_settings(&owner);
    store.check_target(&target)?;
    let last_note = RefCell::new(String::new());
    let ended = {
        let report = Box::new(|report: QueueReport<'_>| {
            if let QueueReport::Note(text) = &report {
                last_note.borrow_mut().clone_from(text);
            }
            events::report(&report, ui);
        });
        let options = QueueOptions { follow: args.follow, push: args.push.clone() };
        queue::run(&context, workspace::open_run(&store), &options, report)?
    };
    drop(lock);
    store.close_settings(&owner);
    Ok(match ended {
        QueueExit::Empty => {
            let tally = tally()?;
            ui.status(&format!("the queue is empty: {}", tally.text()));
            landed_code(tally.all_landed())
        }
        QueueExit::Waiting(why) | QueueExit::NeedsPerson(why) => {
            // A held landing was reported when the hold began.
            let is_reported = *last_note.borrow() == why;
            let why = if is_reported { "the note above says why" } else { &why };
            ui.message(&format!("stopped for a person: {why}"));
            error::NEEDS_PERSON
        }
        QueueExit::Later => error::OK,
        QueueExit::Interrupted(signal) => {
            ui.message("interrupted; `git harness queue run` continues");
            error::interrupted(signal)
        }
    })
}

fn landed_code(all_landed: bool) -> u8 {
    if all_landed { error::OK } else { error::INCOMPLETE }
}

/// `git harness queue sweep`
pub(super) fn sweep(store: &Store, target: &str, ui: &Ui) -> Result<u8> {
    let context = super::context(store.clone(), target.to_owned())?;
    let path = queue::worker_lock(&context)?;
    let Ok(_lock) = Lock::try_take(&path, &Holder::this_process().to_string())? else {
        let hint = "stop it first: its worktrees are in use";
        return Err(Advice::new("another process works on this queue", hint).into());
    };
    let removed = context.sweep(None)?;
    ui.status(&format!("removed {}", human::number(removed, "worktree")));
    Ok(error::OK)
}

/// Prints new events of the queue until the queue is empty, or forever with `follow`. Returns the
/// lock if the process that worked on the queue exits first.
fn watch(store: &Store, target: &str, path: &Path, follow: bool, ui: &Ui) -> Result<Option<Lock>> {
    let (mut last, _) = store.queue_log(target, None)?;
    loop {
        let (tip, entries) = store.queue_log(target, last.as_ref())?;
        last = tip;
        entries.iter().for_each(|entry| events::report(&QueueReport::Event(&entry.event), ui));
        if let Ok(lock) = Lock::try_take(path, &Holder::this_process().to_string())? {
            return Ok(Some(lock));
        }
        if !follow && QueueSummary::read(store, target)?.is_empty() {
            return Ok(None);
        }
        ambient::pause(WATCH_INTERVAL);
    }
}
