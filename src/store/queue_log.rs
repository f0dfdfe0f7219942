//! The queue log: the events of the merge queue of one target branch, as a chain of commits.
//!
//! Any process appends events by compare-and-swap. The queue is the fold over all events. The log
//! vouches for verdicts as a run's chains do.

use anyhow::{Context, Result};

use super::{Expected, RefConflict, RefMove, Store, codec, layout};
use crate::ambient;
use crate::domain::id::{Oid, Timestamp};
use crate::repo;
use crate::wire::queue::{Ejection, LandedEntry, QueueEvent};
use crate::wire::{VERSION, check_version};

/// The largest number of times that a lost compare-and-swap is repeated.
const TRIES: u32 = 50;

/// An event of the queue log with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLogEntry {
    /// The time of writing.
    pub at: Timestamp,
    /// The event.
    pub event: QueueEvent,
}

/// Returns the name of an event and a sentence for people.
fn describe(event: &QueueEvent) -> (&'static str, String) {
    let landed = |entries: &[LandedEntry]| {
        entries.iter().map(|c| c.entry.as_str()).collect::<Vec<_>>().join(", ")
    };
    match event {
        QueueEvent::Added { candidate: c, by, .. } => {
            ("added", format!("{} at {}, by {by}", c.entry, c.commit.short()))
        }
        QueueEvent::Replaced(c) => {
            ("replaced", format!("{} is at {} now", c.entry, c.commit.short()))
        }
        QueueEvent::Approved { candidate: c, by } => {
            ("approved", format!("{} at {}, by {by}", c.entry, c.commit.short()))
        }
        QueueEvent::Removed { entry, why } => ("removed", format!("{entry}: {why}")),
        QueueEvent::Paused { by } => ("paused", format!("by {by}")),
        QueueEvent::Resumed { by } => ("resumed", format!("by {by}")),
        QueueEvent::Verified { tree, entries, passed, .. } => (
            "verified",
            format!(
                "{} {} with {}",
                tree.short(),
                if *passed { "passes" } else { "fails" },
                if entries.is_empty() { "nothing".into() } else { entries.join(", ") }
            ),
        ),
        QueueEvent::Landed { new, entries, .. } => {
            ("landed", format!("{} as {}", landed(entries), new.short()))
        }
        QueueEvent::Ejected { candidate: c, reason } => (
            "ejected",
            match reason {
                Ejection::Rejected { .. } => format!("{} fails the checks", c.entry),
                Ejection::Conflict { .. } => format!("{} conflicts", c.entry),
                Ejection::ChangesRequested { by, .. } => {
                    format!("{by} requested changes of {}", c.entry)
                }
                Ejection::Blocked { by } => format!("{} is blocked by {by}", c.entry),
            },
        ),
    }
}

/// Returns the commit that this event keeps reachable, as an extra parent of the event's commit.
fn kept_commit(event: &QueueEvent) -> Option<&Oid> {
    match event {
        QueueEvent::Added { candidate: c, .. } | QueueEvent::Replaced(c) => Some(&c.commit),
        QueueEvent::Landed { new, .. } => Some(new),
        QueueEvent::Approved { .. }
        | QueueEvent::Removed { .. }
        | QueueEvent::Paused { .. }
        | QueueEvent::Resumed { .. }
        | QueueEvent::Verified { .. }
        | QueueEvent::Ejected { .. } => None,
    }
}

fn message(event: &QueueEvent, target: &str) -> Result<String> {
    let (word, sentence) = describe(event);
    let mut text = format!(
        "{word}: {sentence}\n\nHarness-V: {VERSION}\nHarness-Event: {word}\nHarness-Target: {target}\n"
    );
    if let QueueEvent::Verified { results, .. } = event {
        for result in results {
            text.push_str(&format!("Harness-Verdict: {}\n", result.id));
        }
    }
    text.push_str(&format!(
        "Harness-Data: {}\nHarness-At: {}\nHarness-Nonce: {}\n",
        serde_json::to_string(event)?,
        ambient::now().0,
        ambient::nonce()
    ));
    Ok(text)
}

impl Store {
    /// Returns the targets that have a queue log, by full name.
    pub fn queued_targets(&self) -> Result<Vec<String>> {
        let mut targets = Vec::new();
        for (name, tip) in self.list(layout::QUEUE_LOGS)? {
            let info = repo::commit_info(self.repo(), &tip)?;
            let trailers = codec::trailers(&info.message);
            check_version(&name, trailers.get("Harness-V").copied())?;
            let target = trailers.get("Harness-Target");
            targets.push((*target.with_context(|| format!("`{name}` cannot be read"))?).to_owned());
        }
        targets.sort();
        Ok(targets)
    }

    /// Returns the tip of a target's queue log, and the events after the commit `after`
    /// (exclusive), oldest first. Without `after`, returns all events.
    pub fn queue_log(
        &self,
        target: &str,
        after: Option<&Oid>,
    ) -> Result<(Option<Oid>, Vec<QueueLogEntry>)> {
        let name = layout::queue_log(&layout::target_key(target));
        let tip = self.read(&name)?;
        let mut entries = Vec::new();
        let mut next = tip.clone().filter(|tip| Some(tip) != after);
        while let Some(commit) = next {
            let info = repo::commit_info(self.repo(), &commit)?;
            let trailers = codec::trailers(&info.message);
            check_version(&name, trailers.get("Harness-V").copied())?;
            let damaged = || format!("`{name}` cannot be read at {}", commit.short());
            let text = trailers.get("Harness-Data").copied().with_context(damaged)?;
            let event = serde_json::from_str(text).with_context(damaged)?;
            let at = trailers.get("Harness-At").and_then(|at| at.parse().ok()).unwrap_or(0);
            entries.push(QueueLogEntry { at: Timestamp(at), event });
            let is_first = trailers.has("Harness-First");
            next = if is_first { None } else { info.parents.into_iter().next() };
            next = next.filter(|commit| Some(commit) != after);
        }
        entries.reverse();
        Ok((tip, entries))
    }

    /// Reads the queue log as [`Store::queue_log`] does, for a process that acts on the events.
    /// Fails if another hand has moved the log since this process read it last.
    pub(crate) fn own_queue_log(
        &self,
        target: &str,
        after: Option<&Oid>,
    ) -> Result<(Option<Oid>, Vec<QueueLogEntry>)> {
        let name = layout::queue_log(&layout::target_key(target));
        self.check_link(&name, self.read(&name)?.as_ref())?;
        let (tip, entries) = self.queue_log(target, after)?;
        self.check_link(&name, tip.as_ref())?;
        Ok((tip, entries))
    }

    /// Returns the tip of a target's queue log.
    pub fn queue_log_tip(&self, target: &str) -> Result<Option<Oid>> {
        self.read(&layout::queue_log(&layout::target_key(target)))
    }

    /// Returns the last event of a target's queue log.
    pub fn last_queue_event(&self, target: &str) -> Result<Option<QueueEvent>> {
        let name = layout::queue_log(&layout::target_key(target));
        let Some(tip) = self.read(&name)? else { return Ok(None) };
        let info = repo::commit_info(self.repo(), &tip)?;
        let trailers = codec::trailers(&info.message);
        check_version(&name, trailers.get("Harness-V").copied())?;
        let text = trailers.get("Harness-Data").copied();
        let text = text.with_context(|| format!("`{name}` cannot be read"))?;
        Ok(Some(serde_json::from_str(text)?))
    }

    /// Appends events to a target's queue log. They are durable after the next barrier.
    pub fn append_queue_log(&self, target: &str, events: &[QueueEvent]) -> Result<()> {
        let mut tries = 0;
        loop {
            let old = self.read(&layout::queue_log(&layout::target_key(target)))?;
            let Some(append) = self.queue_log_move(target, old, events)? else { return Ok(()) };
            let moves = [append];
            match self.transact(&moves) {
                Ok(()) => {
                    self.record_moves(&moves);
                    return Ok(());
                }
                Err(error) if error.is::<RefConflict>() && tries < TRIES => tries += 1,
                Err(error) => return Err(error).context("cannot write the queue log"),
            }
        }
    }

    /// Returns the move that appends events to the queue log whose tip is `old`, for a transaction
    /// with other refs. Returns `None` without events.
    pub(super) fn queue_log_move(
        &self,
        target: &str,
        old: Option<Oid>,
        events: &[QueueEvent],
    ) -> Result<Option<RefMove>> {
        let name = layout::queue_log(&layout::target_key(target));
        let tree = repo::write_tree(self.repo(), &[])?;
        self.check_link(&name, old.as_ref())?;
        let mut tip = old.clone();
        if tip.is_none() {
            self.begin_record(&name);
        }
        for event in events {
            let mut message = message(event, target)?;
            let mut parents: Vec<Oid> = tip.into_iter().collect();
            if parents.is_empty() {
                // Marks the first commit of the log, whose first parent, if any, is not a commit of
                // the log.
                message.push_str("Harness-First: true\n");
            }
            parents.extend(kept_commit(event).cloned());
            tip = Some(super::chain::chain_commit(self, &name, &tree, &parents, &message)?);
        }
        let moved = tip.filter(|tip| Some(tip) != old.as_ref());
        Ok(moved.map(|tip| RefMove::to(name, tip, Expected::from_read(old))))
    }
}
