//! The paths that an agent has made git track: by a commit, or by `git add`.
//!
//! Git's ignore rules do not apply to a tracked file, so a file that was added with `git add -f` is
//! part of the agent's work. `HEAD` and the index only say which paths are tracked. The content of
//! a file always comes from the worktree.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gix::ObjectId;
use gix::bstr::{BStr, BString};
use gix::index::State;
use gix::index::entry::Mode;

use super::worktree_record::WorktreeRecord;
use super::{Repo, Worktree, object_id, reset, tree};

/// The largest index that is read. An index has about 100 bytes for each file.
const MAX_INDEX_BYTES: u64 = 1 << 30;

/// The paths that git tracks in a worktree, but not in the commit that was checked out.
#[derive(Debug, Default)]
pub(super) struct AgentIndex {
    files: BTreeSet<BString>,
    submodules: BTreeMap<BString, ObjectId>,
}

impl AgentIndex {
    /// Reads `HEAD` of a worktree and the index that git used there. Whatever cannot be read tracks
    /// nothing: an agent may have left anything there.
    pub(super) fn read(
        repo: &Repo,
        local: &gix::Repository,
        worktree: &Worktree,
        record: &WorktreeRecord,
        index: &Path,
    ) -> Self {
        let mut tracked = Self::default();
        let head = worktree.head_commit(repo).and_then(|head| object_id(&head).ok());
        let head = head.and_then(|head| tree::peel_to_tree(local, head).ok());
        let differences = head.and_then(|head| tree::differences(local, record.tree, head).ok());
        for difference in differences.into_iter().flatten() {
            match difference.after {
                Some(entry) if entry.mode.is_commit() => {
                    tracked.submodules.insert(difference.path, entry.id);
                }
                Some(_) if difference.before.is_none() => {
                    tracked.files.insert(difference.path);
                }
                Some(_) | None => {}
            }
        }
        if let Some(state) = read_index(local, index) {
            for entry in state.entries() {
                let path = entry.path(&state);
                let known = record.state.entry_by_path(path);
                if entry.mode == Mode::COMMIT && known.is_none_or(|known| known.id != entry.id) {
                    tracked.submodules.insert(path.to_owned(), entry.id);
                } else if known.is_none() {
                    tracked.files.insert(path.to_owned());
                }
            }
        }
        tracked
    }

    /// Returns true if git tracks a path that the commit that was checked out does not have.
    pub(super) fn has_any(&self) -> bool {
        !self.files.is_empty() || !self.submodules.is_empty()
    }

    /// Returns true if git tracks a file at this path.
    pub(super) fn has_file(&self, path: &BStr) -> bool {
        self.files.contains(path)
    }

    /// Returns true if git tracks a file or a submodule below this folder.
    pub(super) fn has_below(&self, folder: &BStr) -> bool {
        let prefix = tree::join(folder, BStr::new(""));
        let is_below = |path: Option<&BString>| path.is_some_and(|path| path.starts_with(&prefix));
        is_below(self.files.range(prefix.clone()..).next())
            || is_below(self.submodules.range(prefix.clone()..).next().map(|(path, _)| path))
    }

    /// Returns the submodules whose folder is in the worktree. For git, the removal of the folder
    /// removes the submodule.
    pub(super) fn submodules(&self, worktree: &Worktree) -> Vec<(BString, ObjectId)> {
        let is_there = |(path, _): &(&BString, &ObjectId)| {
            tree::check_path(path).is_ok() && reset::is_real_folder(&worktree.path, path)
        };
        let found = self.submodules.iter().filter(is_there);
        found.map(|(path, id)| (path.clone(), *id)).collect()
    }
}

/// Reads a plain file that git used as an index.
fn read_index(local: &gix::Repository, path: &Path) -> Option<State> {
    let meta = path.symlink_metadata().ok()?;
    if !meta.is_file() || meta.len() > MAX_INDEX_BYTES {
        return None;
    }
    let bytes = std::fs::read(path).ok()?;
    let hash = local.object_hash();
    let options = gix::index::decode::Options { thread_limit: Some(1), ..Default::default() };
    let epoch = State::new(hash).timestamp();
    State::from_bytes(&bytes, epoch, hash, options).ok().map(|(state, _)| state)
}

/// Returns true if an untracked folder is the work tree of a repository of its own, as git sees it.
pub(super) fn is_repository(root: &Path, folder: &BStr) -> bool {
    let link = root.join(OsStr::from_bytes(folder)).join(".git");
    let Ok(meta) = std::fs::metadata(&link) else { return false };
    if meta.is_dir() {
        return link.join("HEAD").symlink_metadata().is_ok();
    }
    let is_short = meta.is_file() && meta.len() < 64 * 1024;
    is_short && std::fs::read(&link).is_ok_and(|text| text.starts_with(b"gitdir:"))
}
