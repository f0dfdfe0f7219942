//! A walk over a worktree that compares it with the record of its checkout.
//!
//! The walk lists each folder once and stats each file once. It follows no link and reads no file.

use std::collections::HashMap;
use std::fs::{DirEntry, Metadata, Permissions};
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use gix::bstr::{BStr, BString, ByteSlice};
use gix::index::State;
use gix::index::entry::stat::Time;
use gix::index::entry::{Mode, Stat};
use rayon::prelude::*;

use super::tree::join;

/// The time of a checkout, on the clock of the worktree's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct RecordStamp {
    pub secs: u32,
    pub nanos: u32,
}

/// The type of an untracked path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UntrackedKind {
    /// A file or a symbolic link.
    File,
    /// A folder, with everything below.
    Folder,
    /// A pipe, a socket or a device.
    Other,
}

/// The result of a walk. Files are given by their positions in the index.
#[derive(Debug, Default)]
pub(super) struct WalkResult {
    /// Existing files and links whose stat data differ, or whose modification time is too recent to
    /// rule out a change.
    pub maybe_changed: Vec<usize>,
    /// Files that are missing, or that were replaced by something other than a file or a link.
    pub missing: Vec<usize>,
    /// Submodules whose folders have content. An empty folder is as it was checked out.
    pub populated: Vec<usize>,
    /// The untracked paths. Paths inside an untracked folder are not listed.
    pub untracked: Vec<(BString, UntrackedKind)>,
}

impl WalkResult {
    fn absorb(mut self, other: Self) -> Self {
        self.maybe_changed.extend(other.maybe_changed);
        self.missing.extend(other.missing);
        self.populated.extend(other.populated);
        self.untracked.extend(other.untracked);
        self
    }
}

/// Walks a worktree. Positions and paths in the result are sorted.
pub(super) fn walk(root: &Path, state: &State, stamp: RecordStamp) -> Result<WalkResult> {
    let walker = Walker { state, stamp };
    let mut walk = walker.folder(root, BStr::new(""), 0..state.entries().len())?;
    walk.maybe_changed.sort_unstable();
    walk.missing.sort_unstable();
    walk.populated.sort_unstable();
    walk.untracked.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(walk)
}

struct Walker<'a> {
    state: &'a State,
    stamp: RecordStamp,
}

enum IndexedChild {
    File(usize),
    Folder(Range<usize>),
}

impl Walker<'_> {
    fn folder(&self, dir: &Path, prefix: &BStr, range: Range<usize>) -> Result<WalkResult> {
        let mut walk = WalkResult::default();
        let mut indexed = self.children(prefix, range);
        let mut folders = Vec::new();
        for entry in list(dir)? {
            let name = entry.file_name();
            let name = name.as_bytes().as_bstr();
            if prefix.is_empty() && name == ".git" {
                continue;
            }
            let child = indexed.remove(name.as_bytes());
            let Some(kind) = kind_of(&entry, dir)? else {
                // The entry vanished during the walk, so its files are missing.
                walk.missing.extend(child.into_iter().flat_map(IndexedChild::into_range));
                continue;
            };
            match (child, kind) {
                (Some(IndexedChild::File(at)), UntrackedKind::File) => match entry.metadata() {
                    Ok(meta) if self.looks_the_same(at, &meta) => {}
                    Ok(_) => walk.maybe_changed.push(at),
                    Err(e) if e.kind() == ErrorKind::NotFound => walk.missing.push(at),
                    Err(e) => return Err(e).with_context(|| cannot_read(dir)),
                },
                (Some(IndexedChild::File(at)), UntrackedKind::Folder) if self.is_submodule(at) => {
                    if !list(&entry.path())?.is_empty() {
                        walk.populated.push(at);
                    }
                }
                (Some(IndexedChild::Folder(range)), UntrackedKind::Folder) => {
                    folders.push((entry.path(), join(prefix, name), range));
                }
                (child, kind) => {
                    walk.missing.extend(child.into_iter().flat_map(IndexedChild::into_range));
                    walk.untracked.push((join(prefix, name), kind));
                }
            }
        }
        walk.missing.extend(indexed.into_values().flat_map(IndexedChild::into_range));
        let below = folders
            .into_par_iter()
            .map(|(dir, prefix, range)| self.folder(&dir, prefix.as_bstr(), range))
            .try_reduce(WalkResult::default, |a, b| Ok(a.absorb(b)))?;
        Ok(walk.absorb(below))
    }

    /// Returns the index entries in a folder, by name. The entries of a folder are contiguous in
    /// the index.
    fn children(&self, prefix: &BStr, range: Range<usize>) -> HashMap<&[u8], IndexedChild> {
        let skip = if prefix.is_empty() { 0 } else { prefix.len() + 1 };
        let mut by_name: HashMap<&[u8], IndexedChild> = HashMap::new();
        let entries = &self.state.entries()[range.clone()];
        for (at, entry) in range.zip(entries) {
            let rest = &entry.path(self.state)[skip..];
            match rest.find_byte(b'/') {
                None => {
                    by_name.insert(rest, IndexedChild::File(at));
                }
                Some(slash) => {
                    let folder =
                        by_name.entry(&rest[..slash]).or_insert(IndexedChild::Folder(at..at));
                    if let IndexedChild::Folder(range) = folder {
                        range.end = at + 1;
                    }
                }
            }
        }
        by_name
    }

    fn is_submodule(&self, at: usize) -> bool {
        self.state.entries()[at].mode == Mode::COMMIT
    }

    fn looks_the_same(&self, at: usize, meta: &Metadata) -> bool {
        let recorded = &self.state.entries()[at].stat;
        *recorded == stat_of(meta) && !is_too_young(recorded, self.stamp)
    }
}

impl IndexedChild {
    fn into_range(self) -> Range<usize> {
        match self {
            Self::File(at) => at..at + 1,
            Self::Folder(range) => range,
        }
    }
}

/// Converts stat data to the form of git's index, with numbers truncated to 32 bits.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as in git's index")]
pub(super) fn stat_of(meta: &Metadata) -> Stat {
    Stat {
        mtime: Time { secs: meta.mtime() as u32, nsecs: meta.mtime_nsec() as u32 },
        ctime: Time { secs: meta.ctime() as u32, nsecs: meta.ctime_nsec() as u32 },
        dev: meta.dev() as u32,
        ino: meta.ino() as u32,
        uid: meta.uid(),
        gid: meta.gid(),
        size: meta.len() as u32,
    }
}

/// The resolution of a file system's clock, with a margin. The kernel advances the clock at each
/// tick, at least every 10 ms.
const TICK_NANOS: u64 = 11_000_000;

/// Returns true if a file was written after the record, or so shortly before that a later edit
/// could leave the same modification time. If the nanoseconds are zero, the file system may have a
/// resolution of one second, or of two seconds like FAT.
fn is_too_young(stat: &Stat, stamp: RecordStamp) -> bool {
    let nanos = |secs: u32, nanos: u32| u64::from(secs) * 1_000_000_000 + u64::from(nanos);
    let margin = if stat.mtime.nsecs == 0 { 2_000_000_000 } else { TICK_NANOS };
    nanos(stat.mtime.secs, stat.mtime.nsecs) + margin >= nanos(stamp.secs, stamp.nanos)
}

/// Returns the type of a folder's entry, or `None` if the entry is gone. If the entry is a folder,
/// restores the owner's permissions on that folder.
fn kind_of(entry: &DirEntry, dir: &Path) -> Result<Option<UntrackedKind>> {
    let kind = match entry.file_type() {
        Ok(kind) => kind,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| cannot_read(dir)),
    };
    Ok(Some(if kind.is_dir() {
        match entry.metadata() {
            Ok(meta) => unlock(&entry.path(), &meta)?,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| cannot_read(dir)),
        }
        UntrackedKind::Folder
    } else if kind.is_file() || kind.is_symlink() {
        UntrackedKind::File
    } else {
        UntrackedKind::Other
    }))
}

/// Restores the owner's permission to list and change a folder, which an agent may have removed.
/// Git does not store permissions of folders.
pub(super) fn unlock(dir: &Path, meta: &Metadata) -> Result<()> {
    let mode = meta.permissions().mode();
    if mode & 0o700 == 0o700 {
        return Ok(());
    }
    std::fs::set_permissions(dir, Permissions::from_mode(mode | 0o700))
        .with_context(|| format!("cannot open up a folder: {}", dir.display()))
}

/// Returns the entries of a folder, or an empty list if the folder is gone.
pub(super) fn list(dir: &Path) -> Result<Vec<DirEntry>> {
    match std::fs::read_dir(dir) {
        Ok(listing) => listing.collect::<std::io::Result<_>>().with_context(|| cannot_read(dir)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| cannot_read(dir)),
    }
}

/// Returns the content of an untracked folder, sorted by name.
pub(super) fn children(dir: &Path) -> Result<Vec<(BString, UntrackedKind)>> {
    let mut found = Vec::new();
    for entry in list(dir)? {
        if let Some(kind) = kind_of(&entry, dir)? {
            found.push((BString::from(entry.file_name().as_bytes()), kind));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn cannot_read(dir: &Path) -> String {
    format!("cannot read a folder: {}", dir.display())
}
