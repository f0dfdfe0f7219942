//! The index of a user's work tree, compared with commits, and files that a checkout would lose.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gix::bstr::{BStr, ByteSlice as _};
use gix::index::entry::{Mode, Stage};
use gix::objs::tree::EntryKind;

use super::{Checkout, Repo, object_id, tree};
use crate::domain::id::Oid;

/// The kind of a file in an index, and the id of its content.
type IndexedFile = (EntryKind, gix::ObjectId);

/// The index of a work tree.
struct WorkTreeIndex<'a> {
    local: &'a gix::Repository,
    file: gix::index::File,
}

impl<'a> WorkTreeIndex<'a> {
    /// Reads the index in a git folder. Returns `None` if there is none.
    fn read(local: &'a gix::Repository, git_dir: &Path) -> Result<Option<Self>> {
        let path = git_dir.join("index");
        if !path.is_file() {
            return Ok(None);
        }
        let file = gix::index::File::at(&path, local.object_hash(), true, Default::default())
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(Self { local, file }))
    }

    /// Returns the mode and the id of a path. A sparse index has one entry for a folder outside of
    /// the cone, so the path is looked up in the tree of that entry.
    fn entry(&self, path: &BStr) -> Result<Option<IndexedFile>> {
        if let Some(entry) = self.file.entry_by_path(path) {
            let mode = entry.mode.to_tree_entry_mode();
            return Ok(mode.map(|mode| (mode.kind(), entry.id)));
        }
        if !self.file.is_sparse() {
            return Ok(None);
        }
        for end in path.find_iter("/") {
            let (folder, rest) = path.split_at(end + 1);
            let folder = self.file.entry_by_path_and_stage(folder.as_bstr(), Stage::Unconflicted);
            if let Some(folder) = folder.filter(|folder| folder.mode == Mode::DIR) {
                let entry = tree::entry_at(self.local, folder.id, rest)?;
                return Ok(entry.map(indexed));
            }
        }
        Ok(None)
    }

    /// Returns true if a file of the work tree is tracked by a name in other case: a file system
    /// that ignores case has one file for both names.
    fn has_in_other_case(&self, work_dir: &Path, name: &BStr) -> bool {
        let number = |name: &BStr| {
            let file = work_dir.join(OsStr::from_bytes(name));
            std::fs::symlink_metadata(file).ok().map(|meta| (meta.dev(), meta.ino()))
        };
        let same = number(name);
        let mut entries = self.file.entries().iter().map(|entry| entry.path(&self.file));
        entries.any(|path| path.eq_ignore_ascii_case(name) && number(path) == same)
    }
}

/// Returns a tree's entry in the form in which the index stores it.
fn indexed(entry: tree::TreeEntry) -> IndexedFile {
    (entry.mode.kind(), entry.id)
}

/// Returns true if the index of a work tree has moved from the commit `old` to the commit `new`: no
/// path that differs between the commits still has its entry from `old`. An entry that equals
/// neither side was staged by the user and is ignored. Returns false if there is no index.
pub(crate) fn index_has_moved(repo: &Repo, git_dir: &Path, old: &Oid, new: &Oid) -> Result<bool> {
    let local = repo.local();
    let (a, b) = (
        tree::peel_to_tree(&local, object_id(old)?)?,
        tree::peel_to_tree(&local, object_id(new)?)?,
    );
    let Some(index) = WorkTreeIndex::read(&local, git_dir)? else { return Ok(false) };
    for difference in tree::differences(&local, a, b)? {
        let before = difference.before.map(indexed);
        if index.entry(difference.path.as_ref())? == before {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the first file in a checkout that git does not track and that the way from the commit
/// `old` to the commit `new` would overwrite or remove. Git itself protects untracked files, but
/// not ignored files.
pub(crate) fn untracked_in_the_way(
    repo: &Repo,
    checkout: &Checkout,
    old: &Oid,
    new: &Oid,
) -> Result<Option<PathBuf>> {
    let local = repo.local();
    let (a, b) = (
        tree::peel_to_tree(&local, object_id(old)?)?,
        tree::peel_to_tree(&local, object_id(new)?)?,
    );
    let ignores_case = local.config_snapshot().boolean("core.ignoreCase").unwrap_or(false);
    let mut index = None;
    for difference in tree::differences(&local, a, b)? {
        if difference.after.is_none() || difference.before.is_some() {
            continue;
        }
        let path = PathBuf::from(OsStr::from_bytes(&difference.path));
        let Some(in_the_way) = files_at(&checkout.work_dir, &path)? else { continue };
        if index.is_none() {
            index = WorkTreeIndex::read(&local, &checkout.git_dir)?;
        }
        for file in in_the_way {
            let name = file.as_os_str().as_bytes().as_bstr();
            let tracked = match &index {
                Some(index) => {
                    index.entry(name)?.is_some()
                        || ignores_case && index.has_in_other_case(&checkout.work_dir, name)
                }
                None => false,
            };
            if !tracked {
                return Ok(Some(file));
            }
        }
    }
    Ok(None)
}

/// Returns the files that must go before a file can be written to `path` below `top`: the file
/// there, the files in a folder there, or a file in the place of a parent folder. Returns `None` if
/// there are none.
fn files_at(top: &Path, path: &Path) -> Result<Option<Vec<PathBuf>>> {
    let mut at = PathBuf::new();
    for part in path.components() {
        at.push(part);
        match std::fs::symlink_metadata(top.join(&at)) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Ok(Some(vec![at])),
            Err(_) => return Ok(None),
        }
    }
    let mut files = Vec::new();
    let mut folders = vec![at];
    while let Some(folder) = folders.pop() {
        let listing = std::fs::read_dir(top.join(&folder))
            .with_context(|| format!("cannot list {}", top.join(&folder).display()))?;
        for entry in listing {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            match entry.file_type()?.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    Ok(Some(files).filter(|files| !files.is_empty()))
}
