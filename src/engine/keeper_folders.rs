//! The folders of keepers: which are in use, and which hold results that are already recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::work::assignment::EarlierResult;

/// The number of stale folders at which all of them are removed. On ext4, creating a file soon
/// after a removal takes many times as long (measured), so folders are removed rarely and in bulk.
const REMOVAL_BATCH: usize = 500;

/// The folders of a run's keepers, as far as the supervisor has to remember them.
#[derive(Debug, Default)]
pub(super) struct KeeperFolders {
    /// Worktrees of the keepers that an earlier supervisor started, by folder name.
    adopted: BTreeMap<String, String>,
    /// Names of folders whose results are already recorded.
    recorded: BTreeSet<String>,
    /// Folders to be removed.
    stale: Vec<PathBuf>,
}

impl KeeperFolders {
    /// Remembers the worktree of a keeper that an earlier supervisor started.
    pub(super) fn adopt(&mut self, name: String, worktree: String) {
        self.adopted.insert(name, worktree);
    }

    /// Returns the number of adopted keepers.
    pub(super) fn adopted(&self) -> usize {
        self.adopted.len()
    }

    /// Takes the worktree of an adopted keeper. A second call returns `None`.
    pub(super) fn take_adopted(&mut self, name: &str) -> Option<String> {
        self.adopted.remove(name)
    }

    /// Marks the folder of a keeper whose result is recorded, so that a later keeper of the same
    /// name does not use the result.
    pub(super) fn discard(&mut self, folder: PathBuf) {
        if let Some(name) = folder.file_name() {
            self.recorded.insert(name.to_string_lossy().into_owned());
        }
        self.discard_unique(folder);
    }

    /// Marks a folder that no later keeper uses.
    pub(super) fn discard_unique(&mut self, folder: PathBuf) {
        self.stale.push(folder);
    }

    /// Returns `Ignore` if the result in the folder of this name is already recorded, and forgets
    /// the name.
    pub(super) fn earlier_result(&mut self, name: &str) -> EarlierResult {
        if self.recorded.remove(name) { EarlierResult::Ignore } else { EarlierResult::Use }
    }

    /// Removes the stale folders if there are many. Call this when their results are durable.
    pub(super) fn remove_many(&mut self) {
        if self.stale.len() >= REMOVAL_BATCH {
            self.remove_all();
        }
    }

    /// Removes the stale folders. Errors are ignored: a later keeper replaces a folder that is
    /// left.
    pub(super) fn remove_all(&mut self) {
        for folder in std::mem::take(&mut self.stale) {
            std::fs::remove_dir_all(folder).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_result_is_ignored_once() {
        let mut folders = KeeperFolders::default();
        folders.discard(PathBuf::from("/nowhere/t.a.1"));
        assert_eq!(folders.earlier_result("t.a.1"), EarlierResult::Ignore);
        assert_eq!(folders.earlier_result("t.a.1"), EarlierResult::Use);
        folders.discard_unique(PathBuf::from("/nowhere/t.a.2"));
        assert_eq!(folders.earlier_result("t.a.2"), EarlierResult::Use);
    }

    #[test]
    fn adopted_worktree_is_used_once() {
        let mut folders = KeeperFolders::default();
        folders.adopt("t.a.1".into(), "c01".into());
        assert_eq!(folders.adopted(), 1);
        assert_eq!(folders.take_adopted("t.a.1").as_deref(), Some("c01"));
        assert_eq!(folders.take_adopted("t.a.1"), None);
    }
}
