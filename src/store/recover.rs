//! Mending our own refs: stale locks, and refs that a power cut left empty or pointing nowhere.
//!
//! Measured: one zero-length ref below `refs/harness/` makes the user's `git fetch` and `git gc` fail. And a killed
//! `git update-ref` leaves its `.lock` for ever. Only refs that this process holds by a lock of its own are touched.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{RunProof, Store, layout};
use crate::ambient;

/// A lock younger than this may belong to a `git update-ref` that is finishing although its supervisor was killed.
const YOUNG: Duration = Duration::from_secs(2);

impl Store {
    /// Removes stale locks and quarantines broken refs of a run that we hold. `alive` says whether the keeper of an
    /// attempt ref lives: its lock is not ours to remove. Says what was done, a line each.
    pub fn mend(&self, proof: &RunProof, alive: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
        let run = proof.run();
        let mut said = Vec::new();
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
            if let Some(of) = name.strip_suffix(".lock") {
                if !alive(of) && self.remove_stale(&path)? {
                    said.push(format!("removed the stale lock of `{of}`"));
                }
            } else if self.is_broken(&path)? {
                self.quarantine(&path, &name)?;
                said.push(format!("put the broken ref `{name}` into quarantine"));
            }
        }
        Ok(said)
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

    /// Whether a loose ref of ours is empty, garbage, or names an object that is not there.
    fn is_broken(&self, path: &Path) -> Result<bool> {
        let Ok(bytes) = std::fs::read(path) else { return Ok(false) };
        let text = String::from_utf8_lossy(&bytes);
        let Ok(id) = gix::ObjectId::from_hex(text.trim_end().as_bytes()) else { return Ok(true) };
        let repo = self.repo().local();
        // Our refs all point at commits; a commit of zero bytes (a power cut) does not parse.
        Ok(repo.find_commit(id).ok().is_none_or(|c| c.decode().is_err()))
    }

    fn quarantine(&self, path: &Path, name: &str) -> Result<()> {
        let safe = name.replace('/', "__");
        let to = self.local().quarantine().join(format!("{safe}.{}", ambient::now().0));
        super::make_parent(&to)?;
        std::fs::rename(path, &to)
            .with_context(|| format!("cannot move the broken ref {} away", path.display()))
    }

    /// Broken refs of ours in the whole repository, by name: what `doctor` reports.
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

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files_below(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}
