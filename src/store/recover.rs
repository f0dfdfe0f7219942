//! Recovery of refs: removes stale locks, and quarantines refs that a power cut left empty or
//! dangling.
//!
//! Measured: one zero-length ref below `refs/harness/` makes the user's `git fetch` and `git gc`
//! fail. A killed `git update-ref` leaves its `.lock` for ever. Recovery touches only refs of a run
//! whose lock this process holds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{RefMove, RunProof, Store, layout};
use crate::ambient;
use crate::domain::id::{Oid, RunId};

/// The least age of a stale lock. A younger lock may belong to a `git update-ref` that outlives its
/// killed supervisor and ends soon.
const YOUNG: Duration = Duration::from_secs(2);

/// The end of the names of git's lock files.
const LOCK_END: &str = ".lock";

/// The branches of tasks.
const BRANCHES: &str = "refs/heads/harness/";

impl Store {
    /// Removes stale locks and quarantines broken refs of a run that this process holds. The
    /// function `alive` takes the name of a ref and returns true if the ref belongs to an attempt
    /// whose keeper lives; the lock of such a ref stays. Returns one line for each repair.
    pub fn repair_refs(
        &self,
        proof: &RunProof,
        alive: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>> {
        let run = proof.run();
        let mut repairs = Vec::new();
        let folders = [layout::tasks(run), layout::attempts(run), layout::branches(run)];
        let mut loose = Vec::new();
        for folder in &folders {
            files_below(&self.repo().common_dir().join(folder), &mut loose)?;
        }
        let own = self.repo().common_dir().join(layout::run(run));
        loose.push(own.clone());
        loose.push(PathBuf::from(format!("{}.lock", own.display())));
        for path in loose {
            let Ok(name) = path.strip_prefix(self.repo().common_dir()) else { continue };
            let name = name.to_string_lossy().into_owned();
            if let Some(locked) = name.strip_suffix(".lock") {
                if !alive(locked) && self.remove_stale(&path)? {
                    repairs.push(format!("removed the stale lock of `{locked}`"));
                }
            } else if self.is_broken(&path)? {
                self.quarantine(&path, &name)?;
                repairs.push(format!("moved the broken ref `{name}` to quarantine"));
            }
        }
        Ok(repairs)
    }

    /// Removes the lock of a ref that a keeper was writing when it died. The processes of the
    /// keeper must have ended.
    pub(crate) fn remove_lock_of_dead_keeper(&self, name: &str) -> Result<()> {
        self.remove_stale(&self.repo().common_dir().join(format!("{name}.lock")))?;
        Ok(())
    }

    fn remove_stale(&self, path: &Path) -> Result<bool> {
        let Ok(meta) = path.symlink_metadata() else { return Ok(false) };
        let age = meta.modified()?.elapsed().unwrap_or_default();
        if age < YOUNG {
            ambient::pause(YOUNG - age);
            if path.symlink_metadata().is_err() {
                return Ok(false);
            }
        }
        std::fs::remove_file(path)
            .with_context(|| format!("cannot remove the stale lock {}", path.display()))?;
        Ok(true)
    }

    /// Returns true if a loose ref is empty, is no id, or names a missing object.
    fn is_broken(&self, path: &Path) -> Result<bool> {
        let Ok(bytes) = std::fs::read(path) else { return Ok(false) };
        let text = String::from_utf8_lossy(&bytes);
        let Ok(id) = gix::ObjectId::from_hex(text.trim_end().as_bytes()) else { return Ok(true) };
        let repo = self.repo().local();
        // All refs of this program name commits. A commit of zero bytes (a power cut) does not
        // parse.
        Ok(repo.find_commit(id).ok().is_none_or(|commit| commit.decode().is_err()))
    }

    fn quarantine_file(&self, name: &str) -> PathBuf {
        let file_name = name.replace('/', "__");
        self.local().quarantine().join(format!("{file_name}.{}", ambient::now().0))
    }

    fn quarantine(&self, path: &Path, name: &str) -> Result<()> {
        let to = self.quarantine_file(name);
        super::make_parent(&to)?;
        std::fs::rename(path, &to)
            .with_context(|| format!("cannot move the broken ref {} away", path.display()))
    }

    /// Moves the chains of a run that cannot be read into quarantine: an object of them is damaged.
    /// Returns one line for each. The run's own chain stays, since nothing could replace it.
    pub(crate) fn quarantine_chains(&self, proof: &RunProof) -> Result<Vec<String>> {
        let mut repairs = Vec::new();
        for (name, tip) in self.list(&layout::tasks(proof.run()))? {
            let Err(error) = self.check_chain(&tip) else { continue };
            let to = self.quarantine_file(&name);
            super::make_parent(&to)?;
            std::fs::write(&to, format!("{tip}\n"))
                .with_context(|| format!("cannot write {}", to.display()))?;
            self.transact(&[RefMove::delete(name.clone(), tip)])?;
            repairs.push(format!("moved the chain `{name}` to quarantine: {error:#}"));
        }
        Ok(repairs)
    }

    /// Reads every event of a chain and every file of its last tree.
    fn check_chain(&self, tip: &Oid) -> Result<()> {
        self.messages(tip)?;
        let repo = self.repo().local();
        let tree = gix::ObjectId::from_hex(self.repo().tree_of(tip)?.as_str().as_bytes())?;
        let mut next = vec![tree];
        while let Some(id) = next.pop() {
            let tree = repo.find_tree(id).with_context(|| format!("cannot read the tree {id}"))?;
            for entry in tree.iter() {
                let entry = entry.with_context(|| format!("cannot read the tree {id}"))?;
                match entry.mode() {
                    mode if mode.is_tree() => next.push(entry.object_id()),
                    mode if mode.is_commit() => {}
                    _ => {
                        let id = entry.object_id();
                        repo.find_header(id)
                            .with_context(|| format!("cannot read the file {id}"))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the names of the chains of tasks that cannot be read, with the reasons.
    pub(crate) fn damaged_chains(&self, run: &RunId) -> Result<Vec<(String, String)>> {
        let chains = self.list(&layout::tasks(run))?.into_iter();
        let damage = |(name, tip): (String, Oid)| {
            self.check_chain(&tip).err().map(|error| (name, format!("{error:#}")))
        };
        Ok(chains.filter_map(damage).collect())
    }

    /// Returns the names of all broken refs of this program: state, branches of tasks, and notes.
    pub fn broken_refs(&self) -> Result<Vec<String>> {
        let mut broken = Vec::new();
        for (name, path) in self.own_ref_files()? {
            if !name.ends_with(LOCK_END) && self.is_broken(&path)? {
                broken.push(name);
            }
        }
        Ok(broken)
    }

    /// Returns the lock files of this program's refs that are older than `least`.
    pub(crate) fn ref_locks(&self, least: Duration) -> Result<Vec<PathBuf>> {
        let is_old = |path: &Path| {
            let modified = path.symlink_metadata().and_then(|meta| meta.modified());
            modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= least))
        };
        let files = self.own_ref_files()?.into_iter();
        let locks = files.filter(|(name, path)| name.ends_with(LOCK_END) && is_old(path));
        Ok(locks.map(|(_, path)| path).collect())
    }

    /// Moves a broken ref into quarantine.
    pub(crate) fn quarantine_ref(&self, name: &str) -> Result<()> {
        self.quarantine(&self.repo().common_dir().join(name), name)
    }

    /// Returns the loose refs of this program and their locks: names and files.
    fn own_ref_files(&self) -> Result<Vec<(String, PathBuf)>> {
        let common_dir = self.repo().common_dir();
        let mut loose = Vec::new();
        for root in [layout::ROOT, BRANCHES] {
            files_below(&common_dir.join(root), &mut loose)?;
        }
        let notes = [layout::NOTES, layout::VERDICTS].map(|name| common_dir.join(name));
        for path in notes {
            let lock = PathBuf::from(format!("{}{LOCK_END}", path.display()));
            loose.extend([path, lock].into_iter().filter(|path| path.is_file()));
        }
        let name = |path: PathBuf| {
            let name = path.strip_prefix(common_dir).ok()?.to_string_lossy().into_owned();
            Some((name, path))
        };
        Ok(loose.into_iter().filter_map(name).collect())
    }
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files_below(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
