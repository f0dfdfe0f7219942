//! The queue log: the events of the merge queue of one target branch, as a chain of commits.
//!
//! Any process appends events by compare-and-swap. The queue is the fold over all events. The log
//! vouches for verdicts as a run's chains do.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::wire::WireResult;
use super::{Expected, Lost, RefMove, Store, codec, layout};
use crate::ambient;
use crate::domain::id::{Oid, Timestamp};
use crate::repo;

/// The number of times that a lost compare-and-swap is repeated.
const TRIES: u32 = 50;

/// Object ids as text.
mod id {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::domain::id::Oid;

    pub(super) fn serialize<S: Serializer>(id: &Oid, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(id.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Oid, D::Error> {
        Oid::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// An entry of the queue and its commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryCommit {
    /// The branch, without `refs/heads/`.
    pub entry: String,
    /// The commit.
    #[serde(with = "id")]
    pub commit: Oid,
}

/// The reason why an entry was ejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Ejection {
    /// The entry fails the checks, alone on the target's tip.
    Rejected {
        /// The output of the failed checks.
        finding: String,
    },
    /// The entry does not merge with the target's tip.
    Conflict {
        /// The paths in conflict.
        sides: Vec<ConflictedPath>,
    },
    /// A reviewer requested changes.
    ChangesRequested {
        /// The reviewer.
        by: String,
        /// The requested changes.
        message: String,
    },
    /// An entry that has to land first was ejected.
    Blocked {
        /// That entry.
        by: String,
    },
}

/// A path in conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictedPath {
    /// The path.
    pub path: String,
    /// The id of the merge base's blob; `None` if the merge base has no such file.
    pub base: Option<String>,
    /// The id of the target's blob.
    pub target: Option<String>,
    /// The id of the branch's blob.
    pub branch: Option<String>,
    /// The target's commits that touched the path since the merge base, newest first: id and subject.
    pub landed: Vec<(String, String)>,
}

/// An event of the queue log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum QueueEvent {
    /// A branch was added to the queue.
    Added {
        /// The branch and its commit.
        #[serde(flatten)]
        candidate: EntryCommit,
        /// A higher priority lands first.
        priority: i64,
        /// The entries that have to land first.
        after: Vec<String>,
        /// The target's tip at that time, on which the branch has not landed.
        #[serde(with = "id")]
        tip: Oid,
        /// The person who added the branch.
        by: String,
    },
    /// The branch has moved to another commit.
    Replaced(EntryCommit),
    /// A reviewer approved the entry.
    Approved {
        /// The reviewed commit.
        #[serde(flatten)]
        candidate: EntryCommit,
        /// The reviewer.
        by: String,
    },
    /// The entry was removed by a person, or its branch is gone.
    Removed {
        /// The entry.
        entry: String,
        /// The reason, with the person's name.
        why: String,
    },
    /// The queue was paused: no new train starts.
    Paused {
        /// The person who paused the queue.
        by: String,
    },
    /// The queue was resumed.
    Resumed {
        /// The person who resumed the queue.
        by: String,
    },
    /// The checks have passed or failed on a tree.
    Verified {
        /// A commit with that tree.
        #[serde(with = "id")]
        commit: Oid,
        /// The tree.
        #[serde(with = "id")]
        tree: Oid,
        /// The entries that the tree contains and the target does not.
        entries: Vec<String>,
        /// True if all checks passed.
        passed: bool,
        /// The results of the checks. The log vouches for the notes with their ids.
        results: Vec<WireResult>,
        /// The duration in milliseconds.
        ms: u64,
    },
    /// Entries have landed.
    Landed {
        /// The target before.
        #[serde(with = "id")]
        old: Oid,
        /// The target after.
        #[serde(with = "id")]
        new: Oid,
        /// The entries in the order in which they landed.
        entries: Vec<EntryCommit>,
    },
    /// An entry left the queue without having landed.
    Ejected {
        /// The entry and its commit.
        #[serde(flatten)]
        candidate: EntryCommit,
        /// The reason.
        #[serde(flatten)]
        reason: Ejection,
    },
}

/// An event of the queue log with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLogEntry {
    /// The time of writing.
    pub at: Timestamp,
    /// The event.
    pub event: QueueEvent,
}

impl QueueEvent {
    /// The event's word and its sentence for people.
    fn describe(&self) -> (&'static str, String) {
        let landed = |entries: &[EntryCommit]| {
            entries.iter().map(|c| c.entry.as_str()).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Added { candidate: c, by, .. } => {
                ("added", format!("{} at {}, by {by}", c.entry, c.commit.short()))
            }
            Self::Replaced(c) => {
                ("replaced", format!("{} is at {} now", c.entry, c.commit.short()))
            }
            Self::Approved { candidate: c, by } => {
                ("approved", format!("{} at {}, by {by}", c.entry, c.commit.short()))
            }
            Self::Removed { entry, why } => ("removed", format!("{entry}: {why}")),
            Self::Paused { by } => ("paused", format!("by {by}")),
            Self::Resumed { by } => ("resumed", format!("by {by}")),
            Self::Verified { tree, entries, passed, .. } => (
                "verified",
                format!(
                    "{} {} with {}",
                    tree.short(),
                    if *passed { "passes" } else { "fails" },
                    if entries.is_empty() { "nothing".into() } else { entries.join(", ") }
                ),
            ),
            Self::Landed { new, entries, .. } => {
                ("landed", format!("{} as {}", landed(entries), new.short()))
            }
            Self::Ejected { candidate: c, reason } => (
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

    /// The commit that this event keeps reachable.
    fn kept_commit(&self) -> Option<&Oid> {
        match self {
            Self::Added { candidate: c, .. } | Self::Replaced(c) => Some(&c.commit),
            Self::Landed { new, .. } => Some(new),
            Self::Approved { .. }
            | Self::Removed { .. }
            | Self::Paused { .. }
            | Self::Resumed { .. }
            | Self::Verified { .. }
            | Self::Ejected { .. } => None,
        }
    }

    fn message(&self, target: &str) -> Result<String> {
        let (word, sentence) = self.describe();
        let mut text = format!(
            "{word}: {sentence}\n\nHarness-V: {}\nHarness-Event: {word}\nHarness-Target: {target}\n",
            codec::VERSION
        );
        if let Self::Verified { results, .. } = self {
            for result in results {
                text.push_str(&format!("Harness-Verdict: {}\n", result.id));
            }
        }
        text.push_str(&format!(
            "Harness-Data: {}\nHarness-At: {}\nHarness-Nonce: {}\n",
            serde_json::to_string(self)?,
            ambient::now().0,
            ambient::nonce()
        ));
        Ok(text)
    }
}

impl Store {
    /// The targets that have a queue log, by full name.
    pub fn queued_targets(&self) -> Result<Vec<String>> {
        let mut targets = Vec::new();
        for (name, tip) in self.list(layout::QUEUE_LOGS)? {
            let info = repo::commit_info(self.repo(), &tip)?;
            let trailers = codec::trailers(&info.message);
            let target = trailers.get("Harness-Target");
            targets.push((*target.with_context(|| format!("`{name}` cannot be read"))?).to_owned());
        }
        targets.sort();
        Ok(targets)
    }

    /// The tip of a target's queue log, and the events after the commit `after`, oldest first. Without
    /// `after`, all events.
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

    /// Appends events to a target's queue log. They are durable after the next barrier.
    pub fn append_queue_log(&self, target: &str, events: &[QueueEvent]) -> Result<()> {
        let mut tries = 0;
        loop {
            let old = self.read(&layout::queue_log(&layout::target_key(target)))?;
            let Some(append) = self.queue_log_move(target, old, events)? else { return Ok(()) };
            match self.transact(&[append]) {
                Err(error) if error.is::<Lost>() && tries < TRIES => tries += 1,
                other => return other.context("cannot write the queue log"),
            }
        }
    }

    /// The move that appends events to the queue log whose tip is `old`, for a transaction with other
    /// refs. `None` without events.
    pub(super) fn queue_log_move(
        &self,
        target: &str,
        old: Option<Oid>,
        events: &[QueueEvent],
    ) -> Result<Option<RefMove>> {
        let name = layout::queue_log(&layout::target_key(target));
        let tree = repo::write_tree(self.repo(), &[])?;
        let mut tip = old.clone();
        for event in events {
            let mut message = event.message(target)?;
            let mut parents: Vec<Oid> = tip.into_iter().collect();
            if parents.is_empty() {
                // The first parent of the log's first commit is not a commit of the log.
                message.push_str("Harness-First: true\n");
            }
            parents.extend(event.kept_commit().cloned());
            tip = Some(super::chain::state_commit(self, &tree, &parents, &message)?);
        }
        let moved = tip.filter(|tip| Some(tip) != old.as_ref());
        Ok(moved.map(|tip| RefMove::to(name, tip, Expected::from_read(old))))
    }
}
