//! One walk over a place, against what we know was put there.
//!
//! It lists each folder once and stats each file once, never follows a link, and reads no file.

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
use gix::index::entry::Stat;
use gix::index::entry::stat::Time;
use rayon::prelude::*;

use super::tree::join;
use super::worktree_record::RecordStamp;

/// What stands at a path that we did not put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UntrackedKind {
    /// A file or a symbolic link.
    File,
    /// A folder, with all that is in it.
    Folder,
    /// A pipe, a socket, a device.
    Other,
}

/// What a walk found. Numbers are positions in the index that it was held against.
#[derive(Debug, Default)]
pub(super) struct WalkResult {
    /// Files and links that are there, but look different, or are too young to tell.
    pub doubtful: Vec<usize>,
    /// Files that are not there, or have something else than a file or a link in their place.
    pub missing: Vec<usize>,
    /// The topmost paths that the index does not have.
    pub untracked: Vec<(BString, UntrackedKind)>,
}

impl WalkResult {
    fn absorb(mut self, other: Self) -> Self {
        self.doubtful.extend(other.doubtful);
        self.missing.extend(other.missing);
        self.untracked.extend(other.untracked);
        self
    }
}

/// Walks a place. Positions and paths come out sorted.
pub(super) fn walk(root: &Path, state: &State, stamp: RecordStamp) -> Result<WalkResult> {
    let walker = Walker { state, stamp };
    let mut walk = walker.folder(root, BStr::new(""), 0..state.entries().len())?;
    walk.doubtful.sort_unstable();
    walk.missing.sort_unstable();
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
        let mut known = self.children(prefix, range);
        let mut folders = Vec::new();
        for entry in list(dir)? {
            let name = entry.file_name();
            let name = name.as_bytes().as_bstr();
            if prefix.is_empty() && name == ".git" {
                continue;
            }
            let looked = known.remove(name.as_bytes());
            let Some(kind) = kind_of(&entry, dir)? else {
                // It went while we looked; what we knew there is missing.
                walk.missing.extend(looked.into_iter().flat_map(IndexedChild::into_range));
                continue;
            };
            match (looked, kind) {
                (Some(IndexedChild::File(at)), UntrackedKind::File) => match entry.metadata() {
                    Ok(meta) if self.looks_the_same(at, &meta) => {}
                    Ok(_) => walk.doubtful.push(at),
                    Err(e) if e.kind() == ErrorKind::NotFound => walk.missing.push(at),
                    Err(e) => return Err(e).with_context(|| cannot_read(dir)),
                },
                (Some(IndexedChild::Folder(range)), UntrackedKind::Folder) => {
                    folders.push((entry.path(), join(prefix, name), range));
                }
                (looked, kind) => {
                    walk.missing.extend(looked.into_iter().flat_map(IndexedChild::into_range));
                    walk.untracked.push((join(prefix, name), kind));
                }
            }
        }
        walk.missing.extend(known.into_values().flat_map(IndexedChild::into_range));
        let below = folders
            .into_par_iter()
            .map(|(dir, prefix, range)| self.folder(&dir, prefix.as_bstr(), range))
            .try_reduce(WalkResult::default, |a, b| Ok(a.absorb(b)))?;
        Ok(walk.absorb(below))
    }

    /// What the index has in a folder, by name. Entries of one folder are neighbours.
    fn children(&self, prefix: &BStr, range: Range<usize>) -> HashMap<&[u8], IndexedChild> {
        let skip = if prefix.is_empty() { 0 } else { prefix.len() + 1 };
        let mut known: HashMap<&[u8], IndexedChild> = HashMap::new();
        let entries = &self.state.entries()[range.clone()];
        for (at, entry) in range.zip(entries) {
            let rest = &entry.path(self.state)[skip..];
            match rest.find_byte(b'/') {
                None => {
                    known.insert(rest, IndexedChild::File(at));
                }
                Some(slash) => {
                    let folder =
                        known.entry(&rest[..slash]).or_insert(IndexedChild::Folder(at..at));
                    if let IndexedChild::Folder(range) = folder {
                        range.end = at + 1;
                    }
                }
            }
        }
        known
    }

    fn looks_the_same(&self, at: usize, meta: &Metadata) -> bool {
        let known = &self.state.entries()[at].stat;
        *known == stat_of(meta) && !is_too_young(known, self.stamp)
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

/// Stat data as git's index keeps it; numbers are cut to 32 bits there.
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

/// How coarse a file system's clock may be: the kernel moves it on with its tick, at most 10 ms.
const TICK_NANOS: u64 = 11_000_000;

/// Whether a file was written so shortly before our note that a later edit could have left the same times. A file
/// system that keeps whole seconds (or two, as FAT) shows no nanoseconds at all.
fn is_too_young(stat: &Stat, stamp: RecordStamp) -> bool {
    let nanos = |secs: u32, nanos: u32| u64::from(secs) * 1_000_000_000 + u64::from(nanos);
    let margin = if stat.mtime.nsecs == 0 { 2_000_000_000 } else { TICK_NANOS };
    nanos(stat.mtime.secs, stat.mtime.nsecs) + margin >= nanos(stamp.secs, stamp.nanos)
}

/// What an entry of a folder is; nothing if it is gone. A folder that we could not work in is opened up.
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

/// Gives us back the right to list and change a folder that an agent closed. Git keeps no such bits.
pub(super) fn unlock(dir: &Path, meta: &Metadata) -> Result<()> {
    let mode = meta.permissions().mode();
    if mode & 0o700 == 0o700 {
        return Ok(());
    }
    std::fs::set_permissions(dir, Permissions::from_mode(mode | 0o700))
        .with_context(|| format!("cannot open up a folder: {}", dir.display()))
}

/// The entries of a folder; none if it is gone.
pub(super) fn list(dir: &Path) -> Result<Vec<DirEntry>> {
    match std::fs::read_dir(dir) {
        Ok(listing) => listing.collect::<std::io::Result<_>>().with_context(|| cannot_read(dir)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| cannot_read(dir)),
    }
}

/// What is in an untracked folder, sorted by name.
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
