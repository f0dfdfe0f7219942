//! Work in a worktree that no commit has. It is saved before the worktree is reset or removed: an
//! agent may have left it before its keeper was killed, or a person may have written there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::worktree_record::WorktreeRecord;
use super::{Repo, Worktree, oid, snapshot, worktree_cache};
use crate::domain::id::Oid;

/// The extension of the file beside a worktree's record that names the tree that was saved last.
const SAVED: &str = "saved";

/// The content of a worktree that nobody has saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnsavedWork {
    /// The content.
    pub tree: Oid,
    /// The tree that was checked out.
    pub checked_out: Oid,
    /// The commit of the worktree's `HEAD`.
    pub head: Option<Oid>,
}

impl Worktree {
    /// Records that a ref keeps this tree, the content of the worktree.
    pub(crate) fn mark_saved(&self, tree: &Oid) -> Result<()> {
        let mark = mark(&self.index);
        // A torn mark names no tree. Then the content counts as unsaved.
        std::fs::write(&mark, tree.as_str())
            .with_context(|| format!("cannot write: {}", mark.display()))
    }
}

/// Returns the content of a recorded worktree, unless it is that of the checkout or was saved. A
/// folder that another one has replaced is not ours, and nothing removes it.
pub(crate) fn unsaved_work(
    repo: &Repo,
    dest: &Path,
    private_index: &Path,
) -> Result<Option<UnsavedWork>> {
    let Some(worktree) = super::worktree::recorded(repo, dest, private_index)? else {
        return Ok(None);
    };
    let record = WorktreeRecord::load(private_index, repo.local().object_hash())?;
    let Some(record) = record else { return Ok(None) };
    let is_ours = record.folder.map(|folder| folder.is_at(&worktree.path)).transpose()?;
    // This process has just saved the worktree, and nothing has run there since.
    if worktree_cache::has_trusted_walk(private_index) || is_ours != Some(true) {
        return Ok(None);
    }
    let checked_out = oid(record.tree);
    let tree = snapshot(repo, &worktree, &checked_out)?.tree;
    let is_saved =
        || std::fs::read_to_string(mark(private_index)).is_ok_and(|saved| saved == tree.as_str());
    if tree == checked_out || is_saved() {
        return Ok(None);
    }
    let head = worktree.head_commit(repo);
    Ok(Some(UnsavedWork { tree, checked_out, head }))
}

/// Returns the file that names the tree that was saved last.
pub(super) fn mark(private_index: &Path) -> PathBuf {
    private_index.with_extension(SAVED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fixture::RepoFixture;

    #[test]
    fn content_is_unsaved_until_it_is_marked_or_reset() {
        let fixture = RepoFixture::new();
        let commit = fixture.commit(&[("a", "one\n")], &[]);
        let worktree = fixture.worktree("p01", &commit);
        let unsaved = || unsaved_work(&fixture.repo, &worktree.path, &worktree.index).unwrap();
        assert_eq!(unsaved(), None);
        std::fs::write(worktree.path.join("a"), "two\n").unwrap();
        std::fs::write(worktree.path.join("new"), "untracked\n").unwrap();
        let work = unsaved().unwrap();
        assert_eq!(work.head.as_ref(), Some(&commit));
        let content = fixture.repo.read_blob_at(&work.tree, "new").unwrap().unwrap();
        assert_eq!(content, b"untracked\n");
        worktree.mark_saved(&work.tree).unwrap();
        assert_eq!(unsaved(), None);
        std::fs::write(worktree.path.join("new"), "and more\n").unwrap();
        assert!(unsaved().is_some());
        // Also if git has forgotten the worktree.
        std::fs::remove_dir_all(&worktree.admin).unwrap();
        assert!(unsaved().is_some());
    }

    #[test]
    fn folder_that_replaced_the_worktree_is_not_saved() {
        let fixture = RepoFixture::new();
        let commit = fixture.commit(&[("a", "one\n")], &[]);
        let worktree = fixture.worktree("p01", &commit);
        std::fs::rename(&worktree.path, worktree.path.with_extension("moved")).unwrap();
        std::fs::create_dir(&worktree.path).unwrap();
        std::fs::write(worktree.path.join("mine"), "precious\n").unwrap();
        assert_eq!(unsaved_work(&fixture.repo, &worktree.path, &worktree.index).unwrap(), None);
    }
}
