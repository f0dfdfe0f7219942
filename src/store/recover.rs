//! Recovery of refs: removes stale locks, and quarantines refs that a power cut left empty or
//! dangling.
//!
//! Measured: one zero-length ref below `refs/harness/` makes the user's `git fetch` and `git gc`
//! fail. A killed `git update-ref` leaves its `.lock` for ever. Recovery touches only refs of a run
//! whose lock this process holds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{RunProof, Store, layout};
use crate::ambient;

/// The least age of a stale lock. A younger lock may belong to a `git update-ref` that outlives its
/// killed supervisor and ends soon.
const YOUNG: Duration = Duration::from_secs(2);

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

    fn quarantine(&self, path: &Path, name: &str) -> Result<()> {
        let file_name = name.replace('/', "__");
        let to = self.local().quarantine().join(format!("{file_name}.{}", ambient::now().0));
        super::make_parent(&to)?;
        std::fs::rename(path, &to)
            .with_context(|| format!("cannot move the broken ref {} away", path.display()))
    }

    /// Returns the names of all broken refs below `refs/harness/`. `doctor` reports them.
    pub fn broken_refs(&self) -> Result<Vec<String>> {
        let mut loose = Vec::new();
        files_below(&self.repo().common_dir().join(layout::ROOT), &mut loose)?;
        let mut broken = Vec::new();
        for path in loose {
            let Ok(name) = path.strip_prefix(self.repo().common_dir()) else { continue };
            let name = name.to_string_lossy().into_owned();
            if !name.ends_with(".lock") && self.is_broken(&path)? {
                broken.push(name);
            }
        }
        Ok(broken)
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
