//! `queue run`: one process works a queue off; others watch it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::list;
use crate::ambient;
use crate::cli;
use crate::domain::queue::{EntryId, TrainKind};
use crate::engine::queue::{Ended, Options, Told, Worker};
use crate::error::{self, Advice};
use crate::process::Lock;
use crate::store::{Store, layout, make_parent};
use crate::ui::{Ui, human};
use crate::wire::queue::{Ejection, QueueEvent, TargetCommit};

/// How often a viewer looks.
const WATCH: Duration = Duration::from_millis(500);

/// How many lines of a finding are shown.
const SHOWN: usize = 20;

pub(super) fn run(store: Store, target: String, args: &cli::QueueRunArgs, ui: &Ui) -> Result<u8> {
    let path = store.local().integrator_lock(&layout::target_key(&target));
    make_parent(&path)?;
    let lock = Lock::try_take(&path, "works off a queue")
        .with_context(|| format!("cannot use the lock file {}", path.display()))?;
    let lock = match lock {
        Ok(lock) => lock,
        Err(holder) => {
            ui.status(&format!(
                "another process works this queue off ({holder}); this one watches"
            ));
            match watch(&store, &target, &path, args.follow, ui)? {
                Some(lock) => lock,
                None => return Ok(error::OK),
            }
        }
    };
    let before = list::QueueSummary::of(&store, &target)?.tally();
    let ended = {
        let desk = Arc::new(super::desk(store.clone(), target.clone())?);
        let mut report = |told: Told<'_>| tell(&told, ui);
        Worker::new(desk, Options { follow: args.follow, push: args.push.clone() }, &mut report)?
            .work()?
    };
    drop(lock);
    let tally = list::QueueSummary::of(&store, &target)?.tally().since(before);
    Ok(match ended {
        Ended::Empty => {
            ui.status(&format!("the queue is empty: {}", tally.text()));
            if tally.left_any() { error::ENDED } else { error::OK }
        }
        Ended::Waits(what) => {
            ui.message(&what);
            error::INCOMPLETE
        }
        Ended::Person(what) => {
            ui.message(&what);
            error::PERSON
        }
        Ended::Interrupted(signal) => {
            ui.message("interrupted; `git harness queue run` goes on where this ended");
            error::SIGNAL.saturating_add(u8::try_from(signal).unwrap_or(0))
        }
    })
}

/// `queue sweep`: the worktrees go, unless somebody works the queue off.
pub(super) fn sweep(store: &Store, target: &str, ui: &Ui) -> Result<u8> {
    let path = store.local().integrator_lock(&layout::target_key(target));
    make_parent(&path)?;
    let Ok(_lock) = Lock::try_take(&path, "sweeps a queue")? else {
        let hint = "stop it first: its worktrees are in use";
        return Err(Advice::new("a process works this queue off", hint).into());
    };
    let desk = super::desk(store.clone(), target.to_owned())?;
    let removed = desk.sweep()?;
    ui.status(&format!("{} removed", human::number(removed, "worktree")));
    Ok(error::OK)
}

/// Tells what the book says until it is empty, or until nobody works it off any more: then it is ours to do.
fn watch(store: &Store, target: &str, path: &Path, follow: bool, ui: &Ui) -> Result<Option<Lock>> {
    let (mut last, _) = store.queue_log(target, None)?;
    loop {
        let (tip, written) = store.queue_log(target, last.as_ref())?;
        last = tip;
        written.iter().for_each(|w| tell(&Told::Book(&w.event), ui));
        if let Ok(lock) = Lock::try_take(path, "works off a queue")? {
            return Ok(Some(lock));
        }
        if !follow && list::QueueSummary::of(store, target)?.is_empty() {
            return Ok(None);
        }
        ambient::pause(WATCH);
    }
}

fn names(entries: &[EntryId]) -> String {
    if entries.is_empty() {
        return "the target's own tip".into();
    }
    entries.iter().map(EntryId::as_str).collect::<Vec<_>>().join(", ")
}

fn tell(told: &Told<'_>, ui: &Ui) {
    match told {
        Told::Note(text) => ui.status(&format!("note: {text}")),
        Told::Verifies(kind, entries) => {
            let what = match kind {
                TrainKind::Lane => "screens",
                TrainKind::Integrate => "verifies",
                TrainKind::Confirm => "tries alone",
            };
            ui.status(&format!("{what} {}", names(entries)));
        }
        Told::Book(event) => {
            for line in lines(event) {
                ui.status(&line);
            }
        }
    }
}

fn lines(event: &QueueEvent) -> Vec<String> {
    match event {
        QueueEvent::Added { candidate, .. } => {
            vec![format!("{}: added at {}", candidate.entry, candidate.commit.short())]
        }
        QueueEvent::Replaced(c) => {
            vec![format!("{}: is at {} now, and is verified anew", c.entry, c.commit.short())]
        }
        QueueEvent::Approved { candidate, by } => {
            vec![format!("{}: approved by {by}", candidate.entry)]
        }
        QueueEvent::Removed { entry, why } => vec![format!("{entry}: {why}")],
        QueueEvent::Paused { by } => vec![format!("paused by {by}")],
        QueueEvent::Resumed { by } => vec![format!("resumed by {by}")],
        QueueEvent::Verified { passed, ms, .. } => {
            let took = human::duration(*ms);
            vec![if *passed { format!("passes ({took})") } else { format!("fails ({took})") }]
        }
        QueueEvent::Landed { new, entries, .. } => {
            let names: Vec<&str> = entries.iter().map(|c| c.entry.as_str()).collect();
            vec![format!("landed: {} as {}", names.join(", "), new.short())]
        }
        QueueEvent::Ejected { candidate, reason: why } => left(&candidate.entry, why),
    }
}

/// What there is to say of a branch that did not land.
pub(super) fn left(entry: &str, why: &Ejection) -> Vec<String> {
    match why {
        Ejection::Blocked { by } => {
            vec![format!("{entry}: blocked: it comes after `{by}`, which did not land")]
        }
        Ejection::ChangesRequested { by, message: words } => {
            let mut said = vec![format!("{entry}: sent back by {by}")];
            said.extend(words.lines().map(|line| format!("    {line}")));
            said
        }
        Ejection::Rejected { finding } => {
            let mut said = vec![format!("{entry}: rejected: alone on the target it does not pass")];
            said.extend(finding.lines().take(SHOWN).map(|line| format!("    {line}")));
            said
        }
        Ejection::Conflict { sides } => {
            let mut said = vec![format!(
                "{entry}: conflicts with the target; merge that into it and add it again"
            )];
            for side in sides {
                said.push(format!("    {}", side.path));
                let blob = |id: &Option<String>| {
                    id.as_deref().map_or("no file", |id| id.get(..12).unwrap_or(id)).to_owned()
                };
                if side.base.is_some() || side.target.is_some() || side.branch.is_some() {
                    said.push(format!(
                        "        base {}, target {}, branch {}",
                        blob(&side.base),
                        blob(&side.target),
                        blob(&side.branch)
                    ));
                }
                for TargetCommit { id: commit, subject: title } in &side.landed {
                    let short = commit.get(..12).unwrap_or(commit);
                    said.push(format!("        changed on the target by {short} {title}"));
                }
            }
            said
        }
    }
}
