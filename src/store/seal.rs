//! The key with which this copy of the repository seals its own records, and the comparison of
//! chains with it.
//!
//! The key lies outside of the repository, in `$XDG_STATE_HOME/git-harness/keys/`. An agent can
//! write notes, chains and files of keepers, but without the key it cannot seal them. A clone has
//! no key of its origin, so verdicts are asked again there. Chains are compared at the start of a
//! supervisor, by their tips, and later each time that a process appends to them or reads them.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::chain::Ledger;
use super::{Expected, RefMove, Store, codec, layout};
use crate::ambient;
use crate::domain::id::Oid;
use crate::repo::{self, Repo, SealKey};
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
    /// The ref was deleted or set back.
    #[error("`{name}` was set back from {} by another hand; nothing was changed", last.short())]
    SetBack {
        /// The ref.
        name: String,
        /// Its commit, unless the ref is gone.
        tip: Option<Oid>,
        /// The last commit that this copy wrote.
        last: Oid,
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
            Self::SetBack { name, tip, last } => {
                format!("{}, then start again", undo(name, last, tip.as_ref()))
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
    /// Returns the key of this copy of the repository. The first call generates and stores the key,
    /// in the repository if there is no other place. Where nothing can be written, it is that of
    /// this process only. Fails if a stored key cannot be read.
    pub(crate) fn seal_key(&self) -> Result<&SealKey> {
        if let Some(key) = self.seal_key.get() {
            return Ok(key);
        }
        let key = load_or_create(&key_files(self.repo()))?;
        Ok(self.seal_key.get_or_init(|| key))
    }

    /// Returns the message of a chain with its seal.
    pub(super) fn sealed_message(
        &self,
        tree: &Oid,
        parents: &[Oid],
        message: &str,
    ) -> Result<String> {
        if !message.contains("\nHarness-V: ") {
            // Notes and archives prove nothing by themselves.
            return Ok(message.to_owned());
        }
        let seal = self.seal_key()?.seal(CHAIN, &parts(tree, parents, message))?;
        Ok(format!("{message}{TRAILER}{seal}\n"))
    }

    /// Returns true if this copy of the repository wrote a commit of a chain.
    pub(super) fn is_sealed(&self, commit: &Oid) -> Result<bool> {
        let info = repo::commit_info(self.repo(), commit)?;
        let Some(at) = info.message.rfind(TRAILER) else { return Ok(false) };
        let (message, seal) = (&info.message[..at], info.message[at + TRAILER.len()..].trim_end());
        Ok(self.seal_key()?.has_sealed(CHAIN, &parts(&info.tree, &info.parents, message), seal))
    }

    /// Fails if another hand has written to the chains of a loaded run that this copy has written.
    pub(crate) fn check_chains(&self, ledger: &Ledger) -> Result<()> {
        let run = &ledger.state.id;
        let name = layout::run(run);
        let own = self.is_recorded(&name);
        self.check_tip(&name, &ledger.run_tip.commit, own)?;
        let tips: Vec<_> = ledger.tips.iter().collect();
        tips.par_iter()
            .try_for_each(|(task, tip)| self.check_tip(&layout::task(run, task), &tip.commit, own))
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
        if self.is_sealed(tip)? {
            return Ok(());
        }
        let info = repo::commit_info(self.repo(), tip)?;
        check_version(name, codec::trailers(&info.message).get("Harness-V").copied())?;
        let last = self.last_sealed(tip)?;
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
            (None, Some(tip)) => self.check_tip(name, tip, self.is_recorded(name)),
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
            Err(ForeignMove::SetBack { name, tip, last }.into())
        };
        let Some(tip) = tip else { return set_back() };
        let mut next = Some(tip.clone());
        while let Some(commit) = next.filter(|commit| commit != last) {
            if !self.is_sealed(&commit)? {
                // In a copy of the repository, the older commits are not sealed.
                let is_older = self.repo().is_ancestor(tip, last)?;
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
                    if !self.is_sealed(&tip)? {
                        return Ok(Some(self.foreign(name, tip, Some(last.clone()))));
                    }
                }
                tip => {
                    let (name, last) = (name.clone(), last.clone());
                    return Ok(Some(ForeignMove::SetBack { name, tip, last }.into()));
                }
            }
        }
        Ok(None)
    }

    fn foreign(&self, name: &str, tip: Oid, last: Option<Oid>) -> anyhow::Error {
        let key = key_files(self.repo()).into_iter().find(|file| file.is_file());
        let key = key.unwrap_or_default();
        ForeignMove::Written { name: name.to_owned(), tip, last, key }.into()
    }

    fn accepted_tips(&self) -> MutexGuard<'_, BTreeMap<String, Oid>> {
        self.accepted_tips.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records outside of the repository that this copy has made a chain. A chain that is replaced
    /// as a whole has no sealed commit. Errors are ignored: a replaced chain is then taken for a
    /// foreign one, whose verdicts do not count.
    pub(super) fn record_chain(&self, name: &str) {
        let Some(file) = self.chain_record(name) else { return };
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&file, name)).ok();
        }
    }

    fn is_recorded(&self, name: &str) -> bool {
        self.chain_record(name).is_some_and(|file| file.is_file())
    }

    /// Returns the path of the record of a chain. With another key it is another file.
    fn chain_record(&self, name: &str) -> Option<PathBuf> {
        let name = self.seal_key().ok()?.seal("record", &[name.as_bytes()]).ok()?;
        Some(ambient::state_folder()?.join("git-harness").join("chains").join(&name[..40]))
    }

    fn last_sealed(&self, tip: &Oid) -> Result<Option<Oid>> {
        let mut next = Some(tip.clone());
        for _ in 0..SEARCHED {
            let Some(commit) = next else { return Ok(None) };
            let info = repo::commit_info(self.repo(), &commit)?;
            if !codec::trailers(&info.message).has("Harness-V") {
                return Ok(None);
            }
            if self.is_sealed(&commit)? {
                return Ok(Some(commit));
            }
            next = info.parents.first().cloned();
        }
        Ok(None)
    }
}

fn parts<'a>(tree: &'a Oid, parents: &'a [Oid], message: &'a str) -> Vec<&'a [u8]> {
    let parents = parents.iter().map(|parent| parent.as_str().as_bytes());
    [message.as_bytes(), tree.as_str().as_bytes()].into_iter().chain(parents).collect()
}

/// Returns the files in which the key may be stored: outside of the repository, and, for a process
/// without a folder for its state, in the repository.
fn key_files(repo: &Repo) -> Vec<PathBuf> {
    let common = repo.common_dir();
    let outside = || {
        let real = std::fs::canonicalize(common).ok()?;
        let name = repo::sha1_hex([real.as_os_str().as_bytes()]).ok()?;
        Some(ambient::state_folder()?.join("git-harness").join("keys").join(name))
    };
    outside().into_iter().chain([common.join("harness").join("seal-key")]).collect()
}

fn random_key() -> Result<SealKey> {
    let digits = format!("{}{}", ambient::nonce(), ambient::nonce());
    SealKey::from_hex(&digits).context("two nonces are no key")
}

fn load_or_create(files: &[PathBuf]) -> Result<SealKey> {
    for file in files {
        if let Some(key) = read_key(file)? {
            return Ok(key);
        }
    }
    let key = random_key()?;
    for file in files {
        // A file that cannot be written is no place for the key.
        if store_key(file, &key).is_ok() {
            return read_key(file)?.with_context(|| format!("the key is gone: {}", file.display()));
        }
    }
    Ok(key)
}

/// Reads a stored key. Returns `None` if there is none, or if its folder is closed to this user.
fn read_key(file: &Path) -> Result<Option<SealKey>> {
    let is_missing = |error: &std::io::Error| {
        use ErrorKind::{NotADirectory, NotFound, PermissionDenied};
        matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
    };
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let damaged = || {
        format!(
            "the key in {} is damaged: delete it, then finished work is checked again",
            file.display()
        )
    };
    SealKey::from_hex(&text).with_context(damaged).map(Some)
}

/// Stores a key durably, unless another process has stored one at the same time.
fn store_key(file: &Path, key: &SealKey) -> Result<()> {
    let folder = file.parent().context("the key has no folder")?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = file.with_extension(ambient::nonce());
    let mut options = std::fs::OpenOptions::new();
    let mut written = options.write(true).create_new(true).mode(0o600).open(&new)?;
    written.write_all(key.to_hex().as_bytes())?;
    written.sync_all()?;
    // A link never replaces a key.
    let linked = std::fs::hard_link(&new, file);
    std::fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
        Err(_) | Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_stored_once_in_the_first_place_that_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("closed"), "").unwrap();
        let files = [dir.path().join("closed/keys/a"), dir.path().join("open/key")];
        let first = load_or_create(&files).unwrap();
        assert!(files[1].is_file());
        assert_eq!(load_or_create(&files).unwrap().to_hex(), first.to_hex());
        std::fs::write(&files[1], "").unwrap();
        let error = load_or_create(&files).unwrap_err().to_string();
        assert!(error.contains("is damaged"), "{error}");
    }
}
