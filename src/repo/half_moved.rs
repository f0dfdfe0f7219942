//! The remains of a failed move of a checkout: git writes the files one after the other and the
//! index last, so a full disk or a read-only folder leaves files of both commits.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use gix::objs::tree::EntryKind;

use super::tree::{self, TreeEntry};
use super::{Checkout, Repo, object_id, oid};
use crate::domain::id::{Oid, Timestamp};

/// The time in milliseconds by which the clock of a file system is late at most: a tick.
const COARSE_MS: u64 = 10;

/// The files of a checkout that a failed move has written or removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HalfMoved {
    /// The files of the old commit that are missing, or that have the content of the new one.
    pub restore: Vec<PathBuf>,
    /// The files of the new commit that the old one does not have.
    pub remove: Vec<PathBuf>,
}

/// A failed move of a checkout.
pub(crate) struct FailedMove<'a> {
    /// The checkout.
    pub checkout: &'a Checkout,
    /// The commit whose files the checkout had.
    pub old: &'a Oid,
    /// The commit whose files the checkout was to get.
    pub new: &'a Oid,
    /// The time at which the move began. What was written before is the user's.
    pub since: Timestamp,
    /// Returns true if the content of a file is that of a blob after the filters of the checkout.
    pub is_converted: &'a dyn Fn(&Path, &Oid) -> Result<bool>,
}

/// The state of a path in a checkout.
enum FileState {
    Missing,
    /// The content of the old commit.
    Old,
    /// The content of the new commit, or the beginning of it.
    New,
    Other,
}

/// Returns what a failed move of a checkout has left behind.
pub(crate) fn half_moved(repo: &Repo, failed: &FailedMove<'_>) -> Result<HalfMoved> {
    let local = repo.local();
    let (a, b) = (
        tree::peel_to_tree(&local, object_id(failed.old)?)?,
        tree::peel_to_tree(&local, object_id(failed.new)?)?,
    );
    let work_dir = &failed.checkout.work_dir;
    let mut found = HalfMoved::default();
    for difference in tree::differences(&local, a, b)? {
        let path = PathBuf::from(OsStr::from_bytes(&difference.path));
        if !is_reachable(work_dir, &path) || !is_younger(&work_dir.join(&path), failed.since) {
            continue;
        }
        let (before, after) = (difference.before, difference.after);
        let mut state = state(&local, &work_dir.join(&path), before, after)?;
        if let (FileState::Other, Some(after)) = (&state, after)
            && (failed.is_converted)(&path, &oid(after.id))?
        {
            state = FileState::New;
        }
        match (before, after, state) {
            (Some(_), _, FileState::Missing) | (Some(_), Some(_), FileState::New) => {
                found.restore.push(path);
            }
            (None, Some(_), FileState::New) => found.remove.push(path),
            (None, _, FileState::Missing)
            | (_, None, FileState::New)
            | (_, _, FileState::Old | FileState::Other) => {}
        }
    }
    Ok(found)
}

/// Returns true if every existing folder above a path is a folder, and not a link.
fn is_reachable(top: &Path, path: &Path) -> bool {
    let mut at = top.to_path_buf();
    let folders = path.parent().into_iter().flat_map(Path::components);
    for part in folders.filter(|part| matches!(part, Component::Normal(_))) {
        at.push(part);
        match std::fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return false,
            Err(error) => return error.kind() == std::io::ErrorKind::NotFound,
        }
    }
    true
}

/// Returns true if a file, or for a missing file the folder above, has changed since a time. False
/// on a file system that does not count so exactly.
fn is_younger(file: &Path, since: Timestamp) -> bool {
    let found = file.ancestors().find_map(|at| std::fs::symlink_metadata(at).ok());
    let changed = found.map(|meta| (meta.ctime(), meta.ctime_nsec() / 1_000_000));
    let changed = changed.and_then(|(s, ms)| u64::try_from(s * 1_000 + ms).ok());
    changed.is_some_and(|changed| changed + COARSE_MS >= since.0)
}

fn state(
    local: &gix::Repository,
    file: &Path,
    before: Option<TreeEntry>,
    after: Option<TreeEntry>,
) -> Result<FileState> {
    let meta = match std::fs::symlink_metadata(file) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(FileState::Missing);
        }
        Err(_) => return Ok(FileState::Other),
    };
    let is_link = meta.is_symlink();
    let content = if is_link {
        std::fs::read_link(file).map(|target| target.as_os_str().as_bytes().to_vec())
    } else if meta.is_file() {
        std::fs::read(file)
    } else {
        return Ok(FileState::Other);
    };
    let Ok(content) = content else { return Ok(FileState::Other) };
    let blob = |entry: Option<TreeEntry>| {
        let entry = entry.filter(|entry| match entry.mode.kind() {
            EntryKind::Link => is_link,
            EntryKind::Blob | EntryKind::BlobExecutable => !is_link,
            EntryKind::Tree | EntryKind::Commit => false,
        });
        entry.map(|entry| local.find_blob(entry.id).map(|mut blob| blob.take_data())).transpose()
    };
    if blob(before)?.is_some_and(|old| old == content) {
        return Ok(FileState::Old);
    }
    let is_new = blob(after)?.is_some_and(|new| new.starts_with(&content));
    Ok(if is_new { FileState::New } else { FileState::Other })
}
