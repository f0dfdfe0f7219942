//! The book of a target's queue: which branches came, what was said of them, and how each left.
//!
//! One chain for each target. Whoever has something to say adds to it, by compare-and-swap; who reads it from the beginning
//! knows the queue. It vouches for verdicts as a run's chains do.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::wire::WireResult;
use super::{Expected, Lost, RefMove, Store, codec, layout};
use crate::ambient;
use crate::domain::id::{Oid, Timestamp};
use crate::repo;

/// How often something is written again when others wrote at the same moment.
const TRIES: u32 = 50;

/// Ids as text.
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

/// A branch with the commit that it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The branch, without `refs/heads/`.
    pub entry: String,
    /// Its commit.
    #[serde(with = "id")]
    pub commit: Oid,
}

/// Why a branch left without having landed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Left {
    /// Alone on the target's tip it does not pass.
    Rejected {
        /// What the checks have printed.
        finding: String,
    },
    /// It does not merge with the target's tip.
    Conflict {
        /// Where, and what each side has there.
        sides: Vec<Sides>,
    },
    /// A person has read it and sent it back.
    SentBack {
        /// Who.
        by: String,
        /// What is to be done otherwise.
        words: String,
    },
    /// What it comes after left without having landed.
    Blocked {
        /// That branch.
        by: String,
    },
}

/// A path in conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides {
    /// The path.
    pub path: String,
    /// The blob where the two parted; none if there was no such file. Ids, as are the next two.
    pub base: Option<String>,
    /// The target's.
    pub target: Option<String>,
    /// The branch's.
    pub branch: Option<String>,
    /// Commits of the target that touched it since the two parted, newest first: id and subject.
    pub landed: Vec<(String, String)>,
}

/// Something that the book says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum BookEvent {
    /// A branch wants to land.
    Added {
        /// Which one, at which commit.
        #[serde(flatten)]
        candidate: Candidate,
        /// Higher goes first.
        priority: i64,
        /// What has to land before it.
        after: Vec<String>,
        /// The target's tip at that time: it has not landed on that.
        #[serde(with = "id")]
        tip: Oid,
        /// Who asked.
        by: String,
    },
    /// The branch has another commit.
    Replaced(Candidate),
    /// A person has read it, and lets it land.
    Approved {
        /// What was read.
        #[serde(flatten)]
        candidate: Candidate,
        /// Who.
        by: String,
    },
    /// It was taken out.
    Removed {
        /// Which one.
        entry: String,
        /// By whom and why.
        why: String,
    },
    /// Nothing more is begun.
    Paused {
        /// Who asked.
        by: String,
    },
    /// It goes on.
    Resumed {
        /// Who asked.
        by: String,
    },
    /// Checks have said something of a tree.
    Judged {
        /// A commit with that tree.
        #[serde(with = "id")]
        commit: Oid,
        /// The tree.
        #[serde(with = "id")]
        tree: Oid,
        /// The branches that are in it and not on the target.
        entries: Vec<String>,
        /// Whether it passes.
        passed: bool,
        /// What each check said, with the ids under which the book vouches for the notes.
        results: Vec<WireResult>,
        /// How long it took, in milliseconds.
        ms: u64,
    },
    /// These are on the target.
    Landed {
        /// The target before.
        #[serde(with = "id")]
        old: Oid,
        /// The target after.
        #[serde(with = "id")]
        new: Oid,
        /// In order.
        entries: Vec<Candidate>,
    },
    /// A branch has left without having landed.
    Left {
        /// Which one, at which commit.
        #[serde(flatten)]
        candidate: Candidate,
        /// Why.
        #[serde(flatten)]
        why: Left,
    },
}

/// An event and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: BookEvent,
}

impl BookEvent {
    fn told(&self) -> (&'static str, String) {
        let landed = |entries: &[Candidate]| {
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
            Self::Judged { tree, entries, passed, .. } => (
                "judged",
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
            Self::Left { candidate: c, why } => (
                "left",
                match why {
                    Left::Rejected { .. } => format!("{} was rejected", c.entry),
                    Left::Conflict { .. } => format!("{} conflicts", c.entry),
                    Left::SentBack { by, .. } => format!("{} was sent back by {by}", c.entry),
                    Left::Blocked { by } => format!("{} is blocked by {by}", c.entry),
                },
            ),
        }
    }

    /// What must not become unreachable as long as the book names it.
    fn holds(&self) -> Option<&Oid> {
        match self {
            Self::Added { candidate: c, .. } | Self::Replaced(c) => Some(&c.commit),
            Self::Landed { new, .. } => Some(new),
            Self::Approved { .. }
            | Self::Removed { .. }
            | Self::Paused { .. }
            | Self::Resumed { .. }
            | Self::Judged { .. }
            | Self::Left { .. } => None,
        }
    }

    fn message(&self, target: &str) -> Result<String> {
        let (word, sentence) = self.told();
        let mut text = format!(
            "{word}: {sentence}\n\nHarness-V: {}\nHarness-Event: {word}\nHarness-Target: {target}\n",
            codec::VERSION
        );
        if let Self::Judged { results, .. } = self {
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
    /// The targets that have a book, by full name.
    pub fn queues(&self) -> Result<Vec<String>> {
        let mut targets = Vec::new();
        for (name, tip) in self.list(layout::BOOKS)? {
            let info = repo::commit_info(self.repo(), &tip)?;
            let trailers = codec::trailers(&info.message);
            let target = trailers.get("Harness-Target");
            targets.push((*target.with_context(|| format!("`{name}` cannot be read"))?).to_owned());
        }
        targets.sort();
        Ok(targets)
    }

    /// What the book of a target says after a commit of it, oldest first, and its tip; all of it without one.
    pub fn book(&self, target: &str, after: Option<&Oid>) -> Result<(Option<Oid>, Vec<Written>)> {
        let name = layout::book(&layout::queue_key(target));
        let tip = self.read(&name)?;
        let mut found = Vec::new();
        let mut next = tip.clone().filter(|tip| Some(tip) != after);
        while let Some(commit) = next {
            let info = repo::commit_info(self.repo(), &commit)?;
            let trailers = codec::trailers(&info.message);
            let damaged = || format!("`{name}` cannot be read at {}", commit.short());
            let text = trailers.get("Harness-Data").copied().with_context(damaged)?;
            let event = serde_json::from_str(text).with_context(damaged)?;
            let at = trailers.get("Harness-At").and_then(|at| at.parse().ok()).unwrap_or(0);
            found.push(Written { at: Timestamp(at), event });
            let begins = trailers.has("Harness-Begins");
            next = if begins { None } else { info.parents.into_iter().next() };
            next = next.filter(|commit| Some(commit) != after);
        }
        found.reverse();
        Ok((tip, found))
    }

    /// Writes into the book of a target. It is durable after the next barrier.
    pub fn write_book(&self, target: &str, events: &[BookEvent]) -> Result<()> {
        let mut tries = 0;
        loop {
            let Some(write) = self.book_move(target, events)? else { return Ok(()) };
            match self.transact(&[write]) {
                Err(error) if error.is::<Lost>() && tries < TRIES => tries += 1,
                other => return other.context("cannot write the queue's book"),
            }
        }
    }

    fn book_move(&self, target: &str, events: &[BookEvent]) -> Result<Option<RefMove>> {
        let old = self.read(&layout::book(&layout::queue_key(target)))?;
        self.book_move_from(target, old, events)
    }

    /// The move by which events come into the book behind what was read of it, for a transaction with other refs: nobody has
    /// written anything since.
    pub(super) fn book_move_from(
        &self,
        target: &str,
        old: Option<Oid>,
        events: &[BookEvent],
    ) -> Result<Option<RefMove>> {
        let name = layout::book(&layout::queue_key(target));
        let tree = repo::write_tree(self.repo(), &[])?;
        let mut tip = old.clone();
        for event in events {
            let mut message = event.message(target)?;
            let mut parents: Vec<Oid> = tip.into_iter().collect();
            if parents.is_empty() {
                // Its first parent, if it has one, is no commit of the book.
                message.push_str("Harness-Begins: true\n");
            }
            parents.extend(event.holds().cloned());
            tip = Some(super::chain::state_commit(self, &tree, &parents, &message)?);
        }
        let moved = tip.filter(|tip| Some(tip) != old.as_ref());
        Ok(moved.map(|tip| RefMove::to(name, tip, Expected::from_read(old))))
    }
}
