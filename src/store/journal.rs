//! The target journal: the write-ahead log of a target branch. The journal records every landing on
//! the branch.
//!
//! The order of a landing: all objects are made durable; one transaction writes the journal entry
//! and moves the target by compare-and-swap; notes and the task's chain follow. The move of the
//! target is the only commit point. Recovery reads the tip of the journal after a crash. If the
//! target contains the landing, the rest is rolled forward. Otherwise the landing is completed or
//! aborted.

use anyhow::{Context, Result, bail};

use super::notes::NoteLines;
use super::{Expected, RefConflict, RefMove, Store, codec, layout};
use crate::ambient;
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::verdict::CheckResult;
use crate::failpoint;
use crate::process::Lock;
use crate::repo;
use crate::wire::facts::WireResult;
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

/// A landing of one task: the move of the target, and the results that prove the new tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LandingRecord {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The attempt that made the candidate.
    pub attempt: u32,
    /// The accepted candidate.
    pub candidate: Oid,
    /// The tip of the target before the landing.
    pub old: Oid,
    /// The tip of the target after the landing.
    pub new: Oid,
    /// The tree of `new`, which was verified.
    pub tree: Oid,
    /// The results of the checks on that tree.
    pub results: Vec<CheckResult>,
}

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEntry {
    /// The intent: the target is about to move or has moved.
    Landing(LandingRecord),
    /// The landing has completed or was aborted; all its records are written.
    Settled,
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

    /// Reads the last entry of a target's journal.
    pub fn journal(&self, target: &str) -> Result<Option<JournalEntry>> {
        let name = layout::target_journal(&layout::target_key(target));
        let Some(tip) = self.read(&name)? else { return Ok(None) };
        let info = repo::commit_info(self.repo(), &tip)?;
        read_entry(&name, &info.message).map(Some)
    }

    /// Returns the tip that the journal last recorded for a target: the last parent of the
    /// journal's last entry. Returns `None` without a journal, or if the last landing was aborted.
    pub fn journal_target(&self, target: &str) -> Result<Option<Oid>> {
        let name = layout::target_journal(&layout::target_key(target));
        let Some(tip) = self.read(&name)? else { return Ok(None) };
        let info = repo::commit_info(self.repo(), &tip)?;
        let trailers = codec::trailers(&info.message);
        check_version(&name, trailers.get("Harness-V").copied())?;
        let landed = trailers.get("Harness-Event") != Some(&"aborted");
        Ok(if landed { info.parents.last().cloned() } else { None })
    }

    /// Returns the unsettled landings at the journal's tip, oldest first. They were journaled
    /// together.
    pub fn open_landings(&self, target: &str) -> Result<Vec<LandingRecord>> {
        let name = layout::target_journal(&layout::target_key(target));
        let mut landings: Vec<LandingRecord> = Vec::new();
        let mut next = self.read(&name)?;
        while let Some(entry) = next {
            let info = repo::commit_info(self.repo(), &entry)?;
            let landing = match read_entry(&name, &info.message)? {
                JournalEntry::Landing(landing) => landing,
                JournalEntry::Settled => break,
            };
            let is_predecessor =
                |next: &LandingRecord| next.run == landing.run && next.old == landing.new;
            if !landings.last().is_none_or(is_predecessor) {
                break;
            }
            landings.push(landing);
            // The last parent is the landed commit. The first of two parents is the preceding
            // entry.
            next = if info.parents.len() > 1 { info.parents.into_iter().next() } else { None };
        }
        landings.reverse();
        Ok(landings)
    }

    fn append(&self, proof: &TargetProof, event: &str, landing: &LandingRecord) -> Result<RefMove> {
        let old = self.read(&layout::target_journal(&proof.key))?;
        self.append_to(proof, old, event, std::slice::from_ref(landing))
    }

    /// Writes entries, one onto the other, and returns the move of the journal to the last.
    fn append_to(
        &self,
        proof: &TargetProof,
        old: Option<Oid>,
        event: &str,
        landings: &[LandingRecord],
    ) -> Result<RefMove> {
        let name = layout::target_journal(&proof.key);
        let tree = repo::write_tree(self.repo(), &[])?;
        let mut tip = old.clone();
        for landing in landings {
            let mut parents: Vec<Oid> = tip.into_iter().collect();
            // With the landed tip as a parent, the target can be restored from the journal alone.
            parents.push(landing.new.clone());
            let message = write_entry(proof.target(), event, landing)?;
            tip = Some(super::chain::state_commit(self, &tree, &parents, &message)?);
        }
        let tip = tip.context("a journal's entry needs a landing")?;
        Ok(RefMove::to(name, tip, Expected::from_read(old)))
    }

    /// Writes the intents of landings to the target journal, one onto the other. The entries take
    /// effect with [`Store::advance`]. Before that call, a barrier must make objects and verdicts
    /// durable: the target must not name what a power cut could take.
    pub fn intend(&self, proof: &TargetProof, landings: &[LandingRecord]) -> Result<RefMove> {
        let old = self.read(&layout::target_journal(&proof.key))?;
        self.append_to(proof, old, "landing", landings)
    }

    /// Moves the target over landings, each built on the preceding one. This move is the commit
    /// point. The same transaction moves the journal if `intent` is given.
    pub fn advance(
        &self,
        proof: &TargetProof,
        landings: &[LandingRecord],
        intent: Option<RefMove>,
    ) -> Result<Moved> {
        let (Some(first), Some(last)) = (landings.first(), landings.last()) else {
            return Ok(Moved::Landed);
        };
        let old = Expected::Value(first.old.clone());
        let mut moves: Vec<RefMove> = intent.into_iter().collect();
        moves.push(RefMove::to(proof.target.clone(), last.new.clone(), old));
        let moved = self.transact(&moves);
        failpoint::hit("land.target-moved");
        match moved {
            Ok(()) => Ok(Moved::Landed),
            Err(error) if error.is::<RefConflict>() => {
                if self.read(proof.target())?.as_ref() == Some(&first.old) {
                    // No process moved the target. Git failed for a reason that a person must see.
                    return Err(error).with_context(|| {
                        format!(
                            "the target branch `{}` cannot be moved; a stale `{}.lock` in the repository is a likely \
                             reason",
                            proof.target(),
                            proof.target()
                        )
                    });
                }
                Ok(Moved::TargetMoved)
            }
            Err(error) => Err(error),
        }
    }

    /// Moves the target from `old` to `new`, which contains the branches that land together. This
    /// move is the commit point. Journal, queue log and notes move in the same transaction. After a
    /// crash, recovery restores them from the target.
    ///
    /// Before this call, a barrier must make all objects durable. The landing fails if the queue
    /// log has moved from `log_tip`: a new event may have removed one of the branches.
    pub fn advance_over_branches(
        &self,
        proof: &TargetProof,
        (old, new): (&Oid, &Oid),
        log_tip: Option<&Oid>,
        event: &QueueEvent,
        notes: &NoteLines,
    ) -> Result<Moved> {
        let mut tries = 0;
        loop {
            let expected = Expected::Value(old.clone());
            let mut moves = vec![RefMove::to(proof.target.clone(), new.clone(), expected)];
            moves.push(self.journal_of_branches(proof, new)?);
            let events = std::slice::from_ref(event);
            moves.extend(self.queue_log_move(proof.target(), log_tip.cloned(), events)?);
            moves.extend(self.notes_move(layout::NOTES, notes)?);
            let moved = self.transact(&moves);
            failpoint::hit("land.target-moved");
            match moved {
                Ok(()) => return Ok(Moved::Landed),
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

    /// Writes a settled entry whose last parent is the landed commit, and returns the move of the
    /// journal.
    fn journal_of_branches(&self, proof: &TargetProof, new: &Oid) -> Result<RefMove> {
        let name = layout::target_journal(&proof.key);
        let old = self.read(&name)?;
        let parents: Vec<Oid> = old.iter().chain([new]).cloned().collect();
        let message = format!(
            "landed branches as {}\n\nHarness-V: {}\nHarness-Event: landed\nHarness-Target: {}\nHarness-New: {new}\n\
             Harness-At: {}\nHarness-Nonce: {}\n",
            new.short(),
            VERSION,
            proof.target(),
            ambient::now().0,
            ambient::nonce(),
        );
        let tree = repo::write_tree(self.repo(), &[])?;
        let tip = super::chain::state_commit(self, &tree, &parents, &message)?;
        Ok(RefMove::to(name, tip, Expected::from_read(old)))
    }

    /// Writes the journal entry that settles a landing. The caller puts the returned move into the
    /// transaction that records the landing on the task's chain.
    pub fn settle(
        &self,
        proof: &TargetProof,
        landing: &LandingRecord,
        landed: bool,
    ) -> Result<RefMove> {
        self.append(proof, if landed { "landed" } else { "aborted" }, landing)
    }
}

fn write_entry(target: &str, event: &str, landing: &LandingRecord) -> Result<String> {
    let wire: Vec<WireResult> = landing.results.iter().map(WireResult::from).collect();
    Ok(format!(
        "{event} {}/{} as {}\n\nHarness-V: {}\nHarness-Event: {event}\nHarness-Target: {target}\nHarness-Run: {}\n\
         Harness-Task: {}\nHarness-Attempt: {}\nHarness-Work: {}\nHarness-Old: {}\nHarness-New: {}\nHarness-Tree: {}\n\
         Harness-Results: {}\nHarness-At: {}\nHarness-Nonce: {}\n",
        landing.run,
        landing.task,
        landing.new.short(),
        VERSION,
        landing.run,
        landing.task,
        landing.attempt,
        landing.candidate,
        landing.old,
        landing.new,
        landing.tree,
        serde_json::to_string(&wire)?,
        ambient::now().0,
        ambient::nonce(),
    ))
}

/// Reads an entry of the journal `name`.
fn read_entry(name: &str, message: &str) -> Result<JournalEntry> {
    let trailers = codec::trailers(message);
    check_version(name, trailers.get("Harness-V").copied())?;
    let event = trailers.get("Harness-Event").copied();
    if event != Some("landing") {
        return match event {
            Some(_) => Ok(JournalEntry::Settled),
            None => bail!("`{name}` cannot be read: no `Harness-Event` trailer"),
        };
    }
    let landing = read_landing(&trailers).with_context(|| format!("`{name}` cannot be read"))?;
    Ok(JournalEntry::Landing(landing))
}

fn read_landing(trailers: &codec::Trailers<'_>) -> Result<LandingRecord> {
    let text =
        |key: &str| trailers.get(key).copied().with_context(|| format!("no `{key}` trailer"));
    let id = |key: &str| -> Result<Oid> { Ok(Oid::parse(text(key)?)?) };
    let results: Vec<WireResult> = serde_json::from_str(text("Harness-Results")?)?;
    Ok(LandingRecord {
        run: RunId::parse(text("Harness-Run")?)?,
        task: TaskId::parse(text("Harness-Task")?)?,
        attempt: text("Harness-Attempt")?.parse()?,
        candidate: id("Harness-Work")?,
        old: id("Harness-Old")?,
        new: id("Harness-New")?,
        tree: id("Harness-Tree")?,
        results: results.into_iter().map(CheckResult::from).collect(),
    })
}
