//! The caches of downloaded packages in a sandbox, as overlays over the user's.
//!
//! Setup commands download what the commands after them need, often without a network. So their
//! changes stay with the worktree, below those of each assignment. An assignment's own changes are
//! thrown away: neither an agent nor the code of a check can change what a later one gets.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::files;
use crate::repo;
use crate::wire::keeper::{Assignment, SandboxSpec, WorktreeSpec};

/// The folder of the overlays in the folder of an assignment's sandbox.
const FOLDER: &str = "caches";

/// The folder of an overlay with its changes.
const UPPER: &str = "upper";

/// The folders of the overlays of an assignment.
#[derive(Debug, Clone, Default)]
pub(super) struct CacheFolders {
    /// The user's folders.
    caches: Vec<PathBuf>,
    /// The folder of the assignment's overlays.
    own: PathBuf,
    /// The folder of the overlays of setup commands. `None` if there are no such commands.
    setup: Option<PathBuf>,
}

impl CacheFolders {
    /// Returns the folders of an assignment, which may exist or not. `sandbox` is the folder of its
    /// sandbox.
    pub(super) fn at(sandbox: &Path, assignment: &Assignment, spec: &SandboxSpec) -> Self {
        let worktree = &assignment.worktree;
        let setup =
            (!worktree.setup.is_empty()).then(|| worktree.index.with_extension(files::CACHES));
        let has_overlays = spec.overlay.is_some();
        let caches = spec.caches.iter().filter(|_| has_overlays).cloned().collect();
        Self { caches, own: sandbox.join(FOLDER), setup }
    }

    /// Makes the folders. Removes the changes of an earlier assignment.
    pub(super) fn make(&self) -> Result<()> {
        repo::remove_any(&self.own)
            .with_context(|| format!("cannot remove {}", self.own.display()))?;
        for cache in &self.caches {
            let name = folder_name(cache);
            let mut layers = Vec::new();
            if let Some(setup) = self.setup.as_ref().map(|setup| setup.join(&name)) {
                make(&setup, &[cache])?;
                layers.push(setup.join(UPPER));
            }
            layers.push(cache.clone());
            make(&self.own.join(&name), &layers.iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Returns the overlays of the assignment's commands, with the caches.
    pub(super) fn of_commands(&self) -> Vec<(PathBuf, PathBuf)> {
        self.in_folder(&self.own)
    }

    /// Returns the overlays of setup commands, with the caches.
    pub(super) fn of_setup(&self) -> Vec<(PathBuf, PathBuf)> {
        self.setup.as_ref().map_or_else(Vec::new, |setup| self.in_folder(setup))
    }

    fn in_folder(&self, folder: &Path) -> Vec<(PathBuf, PathBuf)> {
        let overlay = |cache: &PathBuf| (folder.join(folder_name(cache)), cache.clone());
        self.caches.iter().map(overlay).collect()
    }
}

/// Removes the changes of setup commands to the caches of a worktree: the commands that run next
/// may be those of another commit.
pub(super) fn clear_setup(worktree: &WorktreeSpec) {
    let folder = worktree.index.with_extension(files::CACHES);
    for cache in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let upper = cache.path().join(UPPER);
        // What cannot be removed is used again, as before.
        repo::remove_any(&upper).and_then(|()| std::fs::create_dir_all(&upper)).ok();
    }
}

/// Returns the name of a cache's folder: its path, as one name.
fn folder_name(cache: &Path) -> String {
    cache.to_string_lossy().replace('/', "%")
}

/// Makes the folder of an overlay, with links to its lower layers.
fn make(folder: &Path, layers: &[&PathBuf]) -> Result<()> {
    let made = || format!("cannot make the folder of a cache: {}", folder.display());
    for name in [UPPER, "work", "merged"] {
        std::fs::create_dir_all(folder.join(name)).with_context(made)?;
    }
    for (number, layer) in layers.iter().enumerate() {
        let link = folder.join(number.to_string());
        if std::fs::read_link(&link).ok().as_ref() != Some(*layer) {
            repo::remove_any(&link).with_context(made)?;
            symlink(layer, &link).with_context(made)?;
        }
    }
    Ok(())
}
