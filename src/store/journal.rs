//! The journal of a target branch, and the one way in which the branch moves.
//!
//! Order: all objects are made durable; then the journal's entry and the target move, in one transaction and by
//! compare-and-swap; the target is the only commit point. Notes and the task's chain follow. A crash anywhere is mended by
//! looking at the journal's tip: either the target contains the landing, and the rest is rolled forward, or it does not,
//! and it happens then or never.

use anyhow::{Context, Result, bail};

use super::notes::NoteLines;
use super::{Expected, Lost, RefMove, Store, codec, layout};
use crate::ambient;
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::verdict::CheckResult;
use crate::failpoint;
use crate::process::Lock;
use crate::repo;
use crate::wire::facts::WireResult;
use crate::wire::queue::QueueEvent;
use crate::wire::{VERSION, check_version};

/// How often a transaction is tried again when somebody else wrote to one of its refs.
const TRIES: u32 = 20;

/// The proof that this process alone moves a target branch.
#[derive(Debug)]
pub struct TargetProof {
    target: String,
    key: String,
    _lock: Lock,
}

impl TargetProof {
    /// The full name of the branch.
    pub fn target(&self) -> &str {
        &self.target
    }
}

/// One landing: what moves where, and what proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LandingRecord {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// Whose work.
    pub attempt: u32,
    /// The commit that was accepted.
    pub candidate: Oid,
    /// The target before.
    pub old: Oid,
    /// The target after.
    pub new: Oid,
    /// The tree of `new`: the one that was verified.
    pub tree: Oid,
    /// The results earned on that tree.
    pub results: Vec<CheckResult>,
}

/// What the journal's tip says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEntry {
    /// The target was about to move, or has moved.
    Landing(LandingRecord),
    /// The landing is over and everything about it is written.
    Settled,
}

/// How an attempt to move the target ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// It holds the landing.
    Landed,
    /// Somebody moved it first, or said something about what was to land: look, merge and verify anew.
    TargetMoved,
}

impl Store {
    /// Takes the lock of a target's queue, waiting for whoever lands there at the moment.
    pub fn hold_target(&self, target: &str) -> Result<TargetProof> {
        let key = layout::target_key(target);
        let path = self.local().target_lock(&key);
        super::make_parent(&path)?;
        let lock = Lock::wait(&path)
            .with_context(|| format!("cannot use the lock file {}", path.display()))?;
        Ok(TargetProof { target: target.to_owned(), key, _lock: lock })
    }

    /// What the journal of a target says last.
    pub fn journal(&self, target: &str) -> Result<Option<JournalEntry>> {
        let name = layout::target_journal(&layout::target_key(target));
        let Some(tip) = self.read(&name)? else { return Ok(None) };
        let info = repo::commit_info(self.repo(), &tip)?;
        read_entry(&name, &info.message).map(Some)
    }

    /// The tip that the journal last recorded for a target: its commits have it as their last parent.
    pub fn journal_target(&self, target: &str) -> Result<Option<Oid>> {
        let name = layout::target_journal(&layout::target_key(target));
        let Some(tip) = self.read(&name)? else { return Ok(None) };
        let info = repo::commit_info(self.repo(), &tip)?;
        let trailers = codec::trailers(&info.message);
        check_version(&name, trailers.get("Harness-V").copied())?;
        let landed = trailers.get("Harness-Event") != Some(&"aborted");
        Ok(if landed { info.parents.last().cloned() } else { None })
    }

    /// The landings at the journal's tip that are not settled, oldest first: those that were journaled together.
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
            let together =
                |next: &LandingRecord| next.run == landing.run && next.old == landing.new;
            if !landings.last().is_none_or(together) {
                break;
            }
            landings.push(landing);
            // The last parent is what landed; before it is the entry before, if there is one.
            next = if info.parents.len() > 1 { info.parents.into_iter().next() } else { None };
        }
        landings.reverse();
        Ok(landings)
    }

    fn append(&self, proof: &TargetProof, word: &str, landing: &LandingRecord) -> Result<RefMove> {
        let old = self.read(&layout::target_journal(&proof.key))?;
        self.append_to(proof, old, word, std::slice::from_ref(landing))
    }

    /// Entries one after the other, of which the last is what the journal will hold.
    fn append_to(
        &self,
        proof: &TargetProof,
        old: Option<Oid>,
        word: &str,
        landings: &[LandingRecord],
    ) -> Result<RefMove> {
        let name = layout::target_journal(&proof.key);
        let tree = repo::write_tree(self.repo(), &[])?;
        let mut tip = old.clone();
        for landing in landings {
            let mut parents: Vec<Oid> = tip.into_iter().collect();
            // The landed tip is a parent, so that the target can be made again from the journal alone.
            parents.push(landing.new.clone());
            let message = write_entry(proof.target(), word, landing)?;
            tip = Some(super::chain::state_commit(self, &tree, &parents, &message)?);
        }
        let tip = tip.context("a journal's entry needs a landing")?;
        Ok(RefMove::to(name, tip, Expected::from_read(old)))
    }

    /// Writes the journal's entries for landings, each onto the one before. They count from [`Store::advance`] on, before
    /// which there must be a barrier: what the target is about to name, and what led to it, is on the disk before the
    /// target names it.
    pub fn intend(&self, proof: &TargetProof, landings: &[LandingRecord]) -> Result<RefMove> {
        let old = self.read(&layout::target_journal(&proof.key))?;
        self.append_to(proof, old, "landing", landings)
    }

    /// Moves the target over landings of which each is built on the one before: the commit point. The journal's entries
    /// come into force in the same transaction, when they are not there yet.
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
            Err(error) if error.is::<Lost>() => {
                if self.read(proof.target())?.as_ref() == Some(&first.old) {
                    // Nobody moved it: git could not, for a reason that a person must see.
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

    /// Moves the target over branches that land together: the commit point. Journal, book and notes follow in the same
    /// transaction; what is missing of them after a crash is found on the target.
    ///
    /// There must have been a barrier: what the target is about to name is on the disk. And nobody may have written into the book
    /// since it was read up to `book`: it could have been that one of the branches is not to land.
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
                Err(error) if error.is::<Lost>() => {
                    let moved = self.read(proof.target())?.as_ref() != Some(old);
                    if moved || self.read(&layout::queue_log(&proof.key))?.as_ref() != log_tip {
                        return Ok(Moved::TargetMoved);
                    }
                    // Somebody wrote a note.
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

    /// A settled entry whose last parent is what landed.
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

    /// The journal entry that ends a landing; it goes into the transaction that records it on the task's chain.
    pub fn settle(
        &self,
        proof: &TargetProof,
        landing: &LandingRecord,
        landed: bool,
    ) -> Result<RefMove> {
        self.append(proof, if landed { "landed" } else { "aborted" }, landing)
    }
}

fn write_entry(target: &str, word: &str, landing: &LandingRecord) -> Result<String> {
    let wire: Vec<WireResult> = landing.results.iter().map(WireResult::from).collect();
    Ok(format!(
        "{word} {}/{} as {}\n\nHarness-V: {}\nHarness-Event: {word}\nHarness-Target: {target}\nHarness-Run: {}\n\
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
