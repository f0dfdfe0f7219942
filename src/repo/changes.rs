//! The difference between two trees for display: file by file, with both contents and with renames.

use anyhow::{Context, Result};
use gix::object::tree::diff::ChangeDetached;

use super::{Repo, object_id, tree};
use crate::domain::id::Oid;

/// A file that differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileChange {
    /// The new path, or the old path of a deleted file. Bytes that are not UTF-8 are replaced.
    pub path: String,
    /// The old path of a renamed file.
    pub from: Option<String>,
    /// The old content; `None` for a new file.
    pub before: Option<Vec<u8>>,
    /// The new content; `None` for a deleted file.
    pub after: Option<Vec<u8>>,
    /// True if either content is binary, by git's own rule.
    pub binary: bool,
}

/// Returns the files that differ between two trees (or commits), sorted by path. A rename is one
/// change. Renames are detected as in git (at least half of the lines are equal).
pub(crate) fn file_changes(repo: &Repo, a: &Oid, b: &Oid) -> Result<Vec<FileChange>> {
    let local = repo.local();
    let (a, b) =
        (tree::peel_to_tree(&local, object_id(a)?)?, tree::peel_to_tree(&local, object_id(b)?)?);
    let mut options = gix::diff::Options::default();
    options.track_path().track_rewrites(Some(gix::diff::Rewrites::default()));
    let (a, b) = (local.find_tree(a)?, local.find_tree(b)?);
    let changes = local.diff_tree_to_tree(Some(&a), Some(&b), options)?;
    let content = |mode: gix::object::tree::EntryMode, id: gix::ObjectId| -> Result<Vec<u8>> {
        if mode.is_commit() {
            // A submodule has no content here; git shows its id.
            return Ok(format!("Subproject commit {id}\n").into());
        }
        Ok(local.find_blob(id).context("a file cannot be read")?.take_data())
    };
    let mut found = Vec::new();
    for change in changes {
        let (path, from, before, after) = match change {
            ChangeDetached::Addition { location, entry_mode, id, .. } => {
                if entry_mode.is_tree() {
                    continue;
                }
                (location, None, None, Some(content(entry_mode, id)?))
            }
            ChangeDetached::Deletion { location, entry_mode, id, .. } => {
                if entry_mode.is_tree() {
                    continue;
                }
                (location, None, Some(content(entry_mode, id)?), None)
            }
            ChangeDetached::Modification {
                location,
                previous_entry_mode,
                previous_id,
                entry_mode,
                id,
            } => {
                if entry_mode.is_tree() || previous_entry_mode.is_tree() {
                    continue;
                }
                let before = content(previous_entry_mode, previous_id)?;
                (location, None, Some(before), Some(content(entry_mode, id)?))
            }
            ChangeDetached::Rewrite {
                source_location,
                source_entry_mode,
                source_id,
                location,
                entry_mode,
                id,
                ..
            } => {
                if entry_mode.is_tree() {
                    continue;
                }
                let before = content(source_entry_mode, source_id)?;
                (location, Some(source_location), Some(before), Some(content(entry_mode, id)?))
            }
        };
        let binary =
            [&before, &after].into_iter().flatten().any(|content| super::diff::is_binary(content));
        let text = |path: gix::bstr::BString| path.to_string();
        found.push(FileChange { path: text(path), from: from.map(text), before, after, binary });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::RepoFixture;
    use super::*;

    #[test]
    fn file_changes_report_a_rename_once_and_no_folders() {
        let fx = RepoFixture::new();
        let long: String = (0..40).map(|n| format!("line {n}\n")).collect();
        let edited = long.replace("line 5\n", "line five\n");
        let a = fx.tree(&[("d/old", &long), ("gone", "x\n"), ("bin", "\0a"), ("same", "s")]);
        let b = fx.tree(&[("e/new", &edited), ("fresh", "y\n"), ("bin", "\0b"), ("same", "s")]);
        let found = file_changes(&fx.repo, &a, &b).unwrap();
        let listed: Vec<_> =
            found.iter().map(|c| (c.path.as_str(), c.from.as_deref(), c.binary)).collect();
        let want = [
            ("bin", None, true),
            ("e/new", Some("d/old"), false),
            ("fresh", None, false),
            ("gone", None, false),
        ];
        assert_eq!(listed, want);
        assert_eq!(found[1].after.as_deref(), Some(edited.as_bytes()));
        assert_eq!((found[2].before.is_none(), found[3].after.is_none()), (true, true));
    }
}
