//! The caches of downloaded packages in a sandbox, as overlays over the user's.
//!
//! Setup commands download what the commands after them need, often without a network. So their
//! changes stay with the worktree, below those of each assignment. An assignment's own changes are
//! thrown away: neither an agent nor the code of a check can change what a later one gets.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::files;
use crate::repo;
use crate::sandbox::{CacheOverlays, Overlay, UPPER, make_overlays};
use crate::wire::keeper::{SandboxSpec, WorktreeSpec};

/// The folder with the overlays of setup commands.
const SETUP: &str = "setup";

/// The folder with the overlays of other commands. Its folders stay for the next assignment: making
/// them costs more than mounting the overlays.
const COMMANDS: &str = "commands";

/// The overlays of a worktree.
#[derive(Debug, Clone, Default)]
pub(super) struct CacheFolders {
    /// The user's folders.
    caches: Vec<PathBuf>,
    /// The folder of all overlays of the worktree.
    folder: PathBuf,
    /// True if there are setup commands.
    has_setup: bool,
}

impl CacheFolders {
    /// Returns the overlays of a worktree, which may exist or not.
    pub(super) fn at(worktree: &WorktreeSpec, spec: &SandboxSpec) -> Self {
        let has_overlays = spec.overlay.is_some();
        let caches = spec.caches.iter().filter(|_| has_overlays).cloned().collect();
        let folder = worktree.index.with_extension(files::CACHES);
        Self { caches, folder, has_setup: !worktree.setup.is_empty() }
    }

    /// Makes the folders. Removes the changes of an earlier assignment.
    pub(super) fn make(&self) -> Result<()> {
        self.discard()?;
        let made = || format!("cannot make the folders of caches: {}", self.folder.display());
        make_overlays(&self.folder.join(SETUP), &self.of_setup()).with_context(made)?;
        make_overlays(&self.folder.join(COMMANDS), &self.of_commands()).with_context(made)
    }

    /// Removes the changes of commands other than setup commands.
    pub(super) fn discard(&self) -> Result<()> {
        let folder = self.folder.join(COMMANDS);
        // The folder itself, since a command may have changed its mode.
        self.of_commands().iter().map(|overlay| overlay.upper(&folder)).try_for_each(|upper| {
            repo::remove_any(&upper).with_context(|| format!("cannot remove {}", upper.display()))
        })
    }

    /// Returns the overlays that the commands of an assignment see.
    pub(super) fn commands(&self) -> CacheOverlays {
        self.mounted(COMMANDS, &self.of_commands())
    }

    /// Returns the overlays that setup commands see.
    pub(super) fn setup(&self) -> CacheOverlays {
        self.mounted(SETUP, &self.of_setup())
    }

    fn of_setup(&self) -> Vec<Overlay> {
        let caches = self.caches.iter().filter(|_| self.has_setup);
        caches.map(|cache| Overlay::new(cache, vec![cache.clone()])).collect()
    }

    fn of_commands(&self) -> Vec<Overlay> {
        let setup = self.folder.join(SETUP);
        let overlay = |cache: &PathBuf| {
            let plain = Overlay::new(cache, vec![cache.clone()]);
            match self.has_setup {
                true => Overlay::new(cache, vec![plain.upper(&setup), cache.clone()]),
                false => plain,
            }
        };
        self.caches.iter().map(overlay).collect()
    }

    fn mounted(&self, folder: &str, overlays: &[Overlay]) -> CacheOverlays {
        let merged = overlays.iter().map(Overlay::merged);
        let caches = merged.zip(self.caches.iter().cloned()).collect();
        CacheOverlays { folder: self.folder.join(folder), caches }
    }
}

/// Removes the changes of setup commands to the caches of a worktree: the commands that run next
/// may be those of another commit.
pub(super) fn clear_setup(worktree: &WorktreeSpec) {
    let folder = worktree.index.with_extension(files::CACHES).join(SETUP);
    for cache in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // What cannot be removed is used again, as before.
        let upper = cache.path().join(UPPER);
        repo::remove_any(&upper).and_then(|()| std::fs::create_dir(&upper)).ok();
    }
}
