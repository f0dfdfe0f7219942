//! The target journal: the write-ahead log of a target branch. The journal records every landing on
//! the branch.
//!
//! The order of a landing: all objects are made durable; one transaction moves the target by
//! compare-and-swap and writes the journal, the queue log and the notes. The move of the target is
//! the only commit point. After a crash, the merge queue worker finds in the target's history what
//! the queue log does not know. With the journal, a lost target branch can be created again.

use anyhow::{Context, Result};

use super::notes::NoteLines;
use super::{Expected, RefConflict, RefMove, Store, codec, layout};
use crate::ambient;
use crate::domain::id::Oid;
use crate::failpoint;
use crate::process::Lock;
use crate::repo;
use crate::wire::queue::QueueEvent;
use crate::wire::{VERSION, check_version};

/// The largest number of repetitions of a transaction when another process writes to one of its
/// refs.
const TRIES: u32 = 20;

/// The proof that this process holds a target's lock. Only the holder moves the target.
#[derive(Debug)]
pub struct TargetProof {
    target: String,
    key: String,
    _lock: Lock,
}

impl TargetProof {
    /// Returns the full name of the branch.
    pub fn target(&self) -> &str {
        &self.target
    }
}

/// A landing: the move of the target, with what is recorded in the same transaction.
#[derive(Debug)]
pub struct LandingMove<'a> {
    /// The tip of the target before the landing.
    pub old: &'a Oid,
    /// The tip of the target after the landing.
    pub new: &'a Oid,
    /// The expected tip of the queue log.
    pub log_tip: Option<&'a Oid>,
    /// The event for the queue log.
    pub event: &'a QueueEvent,
    /// Notes on the landed commits.
    pub notes: &'a NoteLines,
}

/// The outcome of an attempt to move the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// The target holds the landing.
    Landed,
    /// Another process moved the target first, or wrote to the queue log of the target. The caller
    /// must merge and verify again.
    TargetMoved,
}

impl Store {
    /// Takes a target's lock. Waits until the present holder releases the lock.
    pub fn hold_target(&self, target: &str) -> Result<TargetProof> {
        let key = layout::target_key(target);
        let path = self.local().target_lock(&key);
        super::make_parent(&path)?;
        let lock = Lock::wait(&path)
            .with_context(|| format!("cannot use the lock file {}", path.display()))?;
        Ok(TargetProof { target: target.to_owned(), key, _lock: lock })
    }

    /// Returns the tip that the journal last recorded for a target: the last parent of the
    /// journal's last landing. Returns `None` without a journal.
    pub fn journal_target(&self, target: &str) -> Result<Option<Oid>> {
        let name = layout::target_journal(&layout::target_key(target));
        let tip = self.read(&name)?;
        self.journaled_tip(&name, tip)
    }

    /// Returns the tip that [`Store::journal_target`] returns, if this copy of the repository wrote
    /// the last entry of the journal. Anybody can write an entry, and a clone has those of its
    /// origin: they prove nothing about the target.
    pub(crate) fn sealed_journal_target(&self, target: &str) -> Result<Option<Oid>> {
        let name = layout::target_journal(&layout::target_key(target));
        let Some(tip) = self.read(&name)? else { return Ok(None) };
        if self.is_sealed(&name, &tip)? { self.journaled_tip(&name, Some(tip)) } else { Ok(None) }
    }

    /// Returns the tip of the target that a journal recorded at the commit `next` or before it.
    fn journaled_tip(&self, name: &str, mut next: Option<Oid>) -> Result<Option<Oid>> {
        while let Some(entry) = next {
            let info = repo::commit_info(self.repo(), &entry)?;
            let trailers = codec::trailers(&info.message);
            check_version(name, trailers.get("Harness-V").copied())?;
            if trailers.get("Harness-Event") == Some(&"landed") {
                return Ok(info.parents.last().cloned());
            }
            // An intent of an earlier program. The last parent is the commit that was to land, and
            // the first of two parents is the preceding entry.
            next = if info.parents.len() > 1 { info.parents.into_iter().next() } else { None };
        }
        Ok(None)
    }

    /// Moves the target over a train. This move is the commit point. Journal, queue log and notes
    /// move in the same transaction. After a crash, recovery restores them from the target.
    ///
    /// Before this call, a barrier must make all objects durable: the target must not name what a
    /// power cut could take. The landing fails if the queue log has moved from `log_tip`: a new
    /// event may have removed one of the entries.
    pub fn land(&self, proof: &TargetProof, landing: &LandingMove<'_>) -> Result<Moved> {
        let LandingMove { old, new, log_tip, event, notes } = *landing;
        let mut tries = 0;
        loop {
            let expected = Expected::Value(old.clone());
            let mut moves = vec![RefMove::to(proof.target.clone(), new.clone(), expected)];
            moves.push(self.journal_move(proof, new)?);
            let events = std::slice::from_ref(event);
            moves.extend(self.queue_log_move(proof.target(), log_tip.cloned(), events)?);
            moves.extend(self.notes_move(layout::NOTES, notes)?);
            let moved = self.transact(&moves);
            failpoint::hit("land.target-moved");
            match moved {
                Ok(()) => {
                    self.record_moves(&moves);
                    return Ok(Moved::Landed);
                }
                Err(error) if error.is::<RefConflict>() => {
                    let moved = self.read(proof.target())?.as_ref() != Some(old);
                    if moved || self.read(&layout::queue_log(&proof.key))?.as_ref() != log_tip {
                        return Ok(Moved::TargetMoved);
                    }
                    // Another process wrote a note at the same time.
                    if tries == TRIES {
                        let target = proof.target();
                        return Err(error).with_context(|| {
                            format!(
                                "the target branch `{target}` cannot be moved; a stale `{target}.lock` in the \
                                 repository is a likely reason"
                            )
                        });
                    }
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Records the durable moves of a target's journal and queue log.
    pub(super) fn record_moves(&self, moves: &[RefMove]) {
        let of_target =
            |name: &str| name.starts_with(layout::TARGETS) || name.starts_with(layout::QUEUE_LOGS);
        for RefMove { name, new, .. } in moves.iter().filter(|moved| of_target(&moved.name)) {
            self.record_tips(name, new.iter().map(|tip| (name, tip)));
        }
    }

    /// Writes an entry whose last parent is the landed commit, and returns the move of the journal.
    /// With the landed commit as a parent, the target can be restored from the journal alone.
    fn journal_move(&self, proof: &TargetProof, new: &Oid) -> Result<RefMove> {
        let name = layout::target_journal(&proof.key);
        let old = self.read(&name)?;
        self.check_link(&name, old.as_ref())?;
        if old.is_none() {
            self.begin_record(&name);
        }
        let parents: Vec<Oid> = old.iter().chain([new]).cloned().collect();
        let message = format!(
            "landed as {}\n\nHarness-V: {}\nHarness-Event: landed\nHarness-Target: {}\nHarness-New: {new}\n\
             Harness-At: {}\nHarness-Nonce: {}\n",
            new.short(),
            VERSION,
            proof.target(),
            ambient::now().0,
            ambient::nonce(),
        );
        let tree = repo::write_tree(self.repo(), &[])?;
        let tip = super::chain::chain_commit(self, &name, &tree, &parents, &message)?;
        Ok(RefMove::to(name, tip, Expected::from_read(old)))
    }
}
