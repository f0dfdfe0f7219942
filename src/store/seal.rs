//! The seals of chains: the comparison of each chain with what this copy of the repository wrote.
//!
//! An agent can write notes, chains and files of keepers, but without the key (`seal_keys.rs`) it
//! cannot seal them. A clone has no key of its origin, so verdicts are asked again there. Chains
//! are compared at the start of a supervisor, by their tips, and later each time that a process
//! appends to them or reads them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};

use anyhow::Result;
use rayon::prelude::*;

use super::chain::Ledger;
use super::chain_record::ChainRecord;
use super::seal_keys::trusted_keys;
use super::{Expected, RefMove, Store, codec, layout};
use crate::domain::id::Oid;
use crate::repo;
use crate::wire::check_version;

/// The kind of the seals of chains, journals and queue logs.
const CHAIN: &str = "chain";

/// The trailer with the seal. It is the last line of a message.
const TRAILER: &str = "Harness-Seal: ";

/// The largest number of commits that are searched for the last sealed one.
const SEARCHED: usize = 100_000;

/// The error that another hand has moved a ref that only this copy moves.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForeignMove {
    /// Another hand has written to the chain.
    #[error("`{name}` is at {}, which this copy of the repository did not write; nothing was changed", tip.short())]
    Written {
        /// The ref.
        name: String,
        /// Its commit.
        tip: Oid,
        /// The last commit that this copy wrote, if it is known.
        last: Option<Oid>,
        /// The file of the key.
        key: PathBuf,
    },
    /// The seal names the key of another user or home. Nothing proves that it is theirs.
    #[error(
        "`{name}` is at {}, which is sealed with the key {signer} of another user or home; nothing was changed", tip.short()
    )]
    OtherKey {
        /// The ref.
        name: String,
        /// Its commit.
        tip: Oid,
        /// The last commit that this copy wrote, if it is known.
        last: Option<Oid>,
        /// The file of the own key.
        key: PathBuf,
        /// The id of the other key.
        signer: String,
    },
    /// The ref was deleted or set back.
    #[error("`{name}` was set back from {} by another hand; nothing was changed", last.short())]
    SetBack {
        /// The ref.
        name: String,
        /// Its commit, unless the ref is gone.
        tip: Option<Oid>,
        /// The last commit that this copy wrote.
        last: Oid,
        /// The file of the key.
        key: PathBuf,
    },
}

impl ForeignMove {
    /// Returns the steps that a person can take.
    pub(crate) fn hint(&self) -> String {
        let undo = |name: &str, last: &Oid, tip: Option<&Oid>| {
            let tip = tip.map(|tip| format!(" {tip}")).unwrap_or_default();
            format!("`git update-ref {name} {last}{tip}` undoes it")
        };
        match self {
            Self::SetBack { name, tip, last, key } => format!(
                "{}; if you restored an older copy of the repository, delete `{}`: then nothing so far counts as proof, \
                 and finished work is checked again",
                undo(name, last, tip.as_ref()),
                key.display()
            ),
            Self::OtherKey { name, tip, last, key, .. } => {
                let undo = last.as_ref().map(|last| format!(", {}", undo(name, last, Some(tip))));
                let file = key.file_name().unwrap_or_default().display();
                format!(
                    "if you trust that user, append the line of their `git-harness/keys/{file}` to `{}`, and yours to \
                     theirs; else `git log {name}` shows it{}",
                    trusted_keys(key).display(),
                    undo.unwrap_or_default()
                )
            }
            Self::Written { name, tip, last, key } => {
                let undo = last.as_ref().map(|last| format!(", {}", undo(name, last, Some(tip))));
                format!(
                    "`git log {name}` shows it{}; if you brought it from another copy, delete `{}`: then nothing so far \
                     counts as proof, and finished work is checked again",
                    undo.unwrap_or_default(),
                    key.display()
                )
            }
        }
    }
}

impl Store {
    /// Returns the message of a commit of a chain with its seal.
    pub(super) fn sealed_message(
        &self,
        name: &str,
        tree: &Oid,
        parents: &[Oid],
        message: &str,
    ) -> Result<String> {
        let seal = self.seal(CHAIN, &parts(name, tree, parents, message))?;
        Ok(format!("{message}{TRAILER}{seal}\n"))
    }

    /// Returns true if this copy of the repository, or another that a person trusts, wrote a commit
    /// of the chain `name`.
    pub(super) fn is_sealed(&self, name: &str, commit: &Oid) -> Result<bool> {
        let info = repo::commit_info(self.repo(), commit)?;
        let Some(at) = info.message.rfind(TRAILER) else { return Ok(false) };
        let (message, seal) = (&info.message[..at], info.message[at + TRAILER.len()..].trim_end());
        self.has_sealed(CHAIN, &parts(name, &info.tree, &info.parents, message), seal)
    }

    /// Fails if another hand has written to the chains or the archive of a loaded run that this
    /// copy has written, or has set one of them back.
    pub(crate) fn check_chains(&self, ledger: &Ledger) -> Result<()> {
        let run = &ledger.state.id;
        let name = layout::run(run);
        let record = self.read_record(&name);
        self.check_recorded(&name, &ledger.run_tip.commit, &record)?;
        let archive = layout::archive(run);
        if let Some(tip) = self.read(&archive)? {
            self.check_recorded(&archive, &tip, &record)?;
        }
        let tips: Vec<_> = ledger.tips.iter().collect();
        tips.par_iter().try_for_each(|(task, tip)| {
            self.check_recorded(&layout::task(run, task), &tip.commit, &record)
        })
    }

    fn check_recorded(&self, name: &str, tip: &Oid, record: &ChainRecord) -> Result<()> {
        self.check_tip(name, tip, record.exists)?;
        let last = record.tips.get(name);
        last.map_or(Ok(()), |last| self.check_descent(name, Some(tip), last))
    }

    /// Fails if another hand has written to the journal or the queue log of a target.
    pub(crate) fn check_target(&self, target: &str) -> Result<()> {
        let key = layout::target_key(target);
        let chains = [layout::target_journal(&key), layout::queue_log(&key)];
        chains.iter().try_for_each(|name| self.check_link(name, self.read(name)?.as_ref()))
    }

    /// Fails if the tip of a chain is not sealed, although this copy wrote an earlier commit of the
    /// chain, or although this copy made the chain (`own`).
    fn check_tip(&self, name: &str, tip: &Oid, own: bool) -> Result<()> {
        if self.is_sealed(name, tip)? {
            return Ok(());
        }
        let info = repo::commit_info(self.repo(), tip)?;
        if let Some(version) = codec::trailers(&info.message).get("Harness-V") {
            check_version(name, Some(*version))?;
        }
        let last = self.last_sealed(name, tip)?;
        if last.is_none() && !own {
            // The chain comes from another copy of the repository.
            return Ok(());
        }
        Err(self.foreign(name, tip.clone(), last))
    }

    /// Fails if another hand has moved a chain since this process saw the chain last. Every commit
    /// that came since must be sealed: other processes of this copy append, too. A process compares
    /// each tip before it appends to the tip or believes it.
    pub(super) fn check_link(&self, name: &str, tip: Option<&Oid>) -> Result<()> {
        let known = self.accepted_tips().get(name).cloned();
        let checked = match (known, tip) {
            (known, tip) if known.as_ref() == tip => return Ok(()),
            (None, Some(tip)) => self.check_recorded(name, tip, &self.read_record(name)),
            (Some(last), tip) => self.check_descent(name, tip, &last),
            (None, None) => return Ok(()),
        };
        match checked {
            Ok(()) => {
                self.accepted_tips().extend(tip.map(|tip| (name.to_owned(), tip.clone())));
                Ok(())
            }
            Err(error) => {
                // Another thread may have accepted a later tip since this one was read.
                let current = self.read(name)?;
                if current.as_ref() == tip {
                    Err(error)
                } else {
                    self.check_link(name, current.as_ref())
                }
            }
        }
    }

    /// Fails unless all commits of a chain after `last` are sealed.
    fn check_descent(&self, name: &str, tip: Option<&Oid>, last: &Oid) -> Result<()> {
        let set_back = || {
            let (name, tip, last) = (name.to_owned(), tip.cloned(), last.clone());
            Err(ForeignMove::SetBack { name, tip, last, key: self.key_file() }.into())
        };
        let Some(tip) = tip else { return set_back() };
        let mut next = Some(tip.clone());
        while let Some(commit) = next.filter(|commit| commit != last) {
            if !self.is_sealed(name, &commit)? {
                // Below a sealed tip are only commits of before the chain, or of another copy.
                let is_older = commit != *tip || self.repo().is_ancestor(tip, last)?;
                let foreign = || Err(self.foreign(name, tip.clone(), Some(last.clone())));
                return if is_older { set_back() } else { foreign() };
            }
            let info = repo::commit_info(self.repo(), &commit)?;
            let is_first = codec::trailers(&info.message).has("Harness-First");
            next = if is_first { None } else { info.parents.into_iter().next() };
            if next.is_none() {
                return set_back();
            }
        }
        Ok(())
    }

    /// Returns the error that another hand has moved one of the chains, whose moves git refused.
    pub(super) fn foreign_move<'a>(
        &self,
        moves: impl Iterator<Item = &'a RefMove>,
    ) -> Result<Option<anyhow::Error>> {
        for RefMove { name, old: expected, .. } in moves {
            let Expected::Value(last) = expected else { continue };
            let tip = self.read(name)?;
            let is_set_back = match &tip {
                Some(tip) if tip == last => continue,
                Some(tip) => self.repo().is_ancestor(tip, last)?,
                None => true,
            };
            match tip {
                Some(tip) if !is_set_back => {
                    if !self.is_sealed(name, &tip)? {
                        return Ok(Some(self.foreign(name, tip, Some(last.clone()))));
                    }
                }
                tip => {
                    let (name, last) = (name.clone(), last.clone());
                    return Ok(Some(
                        ForeignMove::SetBack { name, tip, last, key: self.key_file() }.into(),
                    ));
                }
            }
        }
        Ok(None)
    }

    fn foreign(&self, name: &str, tip: Oid, last: Option<Oid>) -> anyhow::Error {
        let message = repo::commit_info(self.repo(), &tip).map(|info| info.message);
        let message = message.unwrap_or_default();
        let signer = message
            .rfind(TRAILER)
            .and_then(|at| self.unknown_key(message[at + TRAILER.len()..].trim_end()));
        let (name, key) = (name.to_owned(), self.key_file());
        match signer {
            Some(signer) => ForeignMove::OtherKey { name, tip, last, key, signer }.into(),
            None => ForeignMove::Written { name, tip, last, key }.into(),
        }
    }

    fn accepted_tips(&self) -> MutexGuard<'_, BTreeMap<String, Oid>> {
        self.accepted_tips.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_sealed(&self, name: &str, tip: &Oid) -> Result<Option<Oid>> {
        let mut next = Some(tip.clone());
        for _ in 0..SEARCHED {
            let Some(commit) = next else { return Ok(None) };
            let info = repo::commit_info(self.repo(), &commit)?;
            if !codec::trailers(&info.message).has("Harness-V") {
                return Ok(None);
            }
            if self.is_sealed(name, &commit)? {
                return Ok(Some(commit));
            }
            next = info.parents.first().cloned();
        }
        Ok(None)
    }
}

/// Returns what the seal of a commit covers. With the name of the chain, the commit counts for no
/// other one.
fn parts<'a>(name: &'a str, tree: &'a Oid, parents: &'a [Oid], message: &'a str) -> Vec<&'a [u8]> {
    let parents = parents.iter().map(|parent| parent.as_str().as_bytes());
    let own = [name, message, tree.as_str()].map(str::as_bytes);
    own.into_iter().chain(parents).collect()
}
