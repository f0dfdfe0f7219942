//! Reading of many commits at once, in the cheapest order.
//!
//! A pack holds the tips of a run's chains as deltas of one another, up to fifty deep. In pack
//! order, the base of each delta is already unpacked. In any other order, the same bases are
//! unpacked again and again (six times the work, measured with 10,000 tips). Loose objects are read
//! with `read` and not mapped with `mmap`: an unmap in one thread stops all other threads.

use std::path::Path;

use anyhow::Result;
use gix::objs::FindExt as _;
use gix::odb::pack;
use rayon::prelude::*;

use super::objects::{CommitInfo, commit_info, commit_info_of};
use super::{Repo, handle, object_id};
use crate::domain::id::Oid;

/// The smallest number of commits in a chunk, which one thread reads in sequence. Each chunk
/// has a fixed cost: the bases of its first commits must be unpacked.
const MIN_CHUNK: usize = 512;

/// The largest number of chunks for each thread. Several short chunks balance the load.
const CHUNKS_PER_THREAD: usize = 4;

/// The largest loose commit that this module reads, in bytes. The commits of this program have
/// fewer than two thousand bytes.
const MAX_LOOSE_SIZE: usize = 8192;

/// Reads commits as [`commit_info`] does and returns the results of `make` in the order of the ids.
/// At most one commit for each thread is held in memory at a time.
pub(crate) fn read_commits<T: Send>(
    repo: &Repo,
    ids: &[&Oid],
    make: impl Fn(Result<CommitInfo>) -> T + Sync,
) -> Result<Vec<T>> {
    let folder = repo.common_dir().join("objects");
    let mut order = object_positions(repo, &folder.join("pack"), ids)?;
    order.sort_unstable();
    let chunk =
        order.len().div_ceil(CHUNKS_PER_THREAD * rayon::current_num_threads()).max(MIN_CHUNK);
    let chunks: Vec<Vec<(usize, T)>> = order
        .par_chunks(chunk)
        .map(|chunk| {
            let reader = handle::sequential(&repo.shared);
            let mut buffer = Vec::with_capacity(MAX_LOOSE_SIZE);
            let mut read = Vec::with_capacity(chunk.len());
            for &(position, n) in chunk {
                let Some(id) = ids.get(n) else { continue };
                let info = match position {
                    ObjectPosition::Packed(..) => packed(&reader, id, &mut buffer),
                    ObjectPosition::Elsewhere => loose(repo, &folder, id),
                };
                // On failure, the ordinary lookup finds the commit or reports the error.
                read.push((n, make(info.map_or_else(|| commit_info(repo, id), Ok))));
            }
            read
        })
        .collect();
    let mut read: Vec<(usize, T)> = Vec::with_capacity(order.len());
    chunks.into_iter().for_each(|chunk| read.extend(chunk));
    read.sort_unstable_by_key(|(n, _)| *n);
    Ok(read.into_iter().map(|(_, made)| made).collect())
}

/// The position of an object in the object database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ObjectPosition {
    /// In a pack, at an offset.
    Packed(usize, u64),
    /// Loose, in an alternate repository, or missing.
    Elsewhere,
}

/// Returns the position of each object, with its index in `ids`.
fn object_positions(
    repo: &Repo,
    folder: &Path,
    ids: &[&Oid],
) -> Result<Vec<(ObjectPosition, usize)>> {
    let mut packs = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "idx") {
            // An index that `git repack` has just removed is skipped. An object without a known
            // position is still found by the ordinary lookup.
            packs.extend(pack::index::File::at(&path, repo.local().object_hash()).ok());
        }
    }
    let mut positions = Vec::with_capacity(ids.len());
    for (n, id) in ids.iter().enumerate() {
        let id = object_id(id)?;
        let found = packs.iter().enumerate().find_map(|(pack, index)| {
            Some(ObjectPosition::Packed(pack, index.pack_offset_at_index(index.lookup(id)?)))
        });
        positions.push((found.unwrap_or(ObjectPosition::Elsewhere), n));
    }
    Ok(positions)
}

/// Reads a commit from a pack into a reused buffer.
fn packed(reader: &gix::Repository, id: &Oid, buffer: &mut Vec<u8>) -> Option<CommitInfo> {
    commit_info_of(&reader.objects.find_commit(&object_id(id).ok()?, buffer).ok()?).ok()
}

/// Reads a small loose commit. Returns `None` if the commit is not loose or anything is unusual.
fn loose(repo: &Repo, objects: &Path, id: &Oid) -> Option<CommitInfo> {
    let (folder, name) = id.as_str().split_at_checked(2)?;
    let bytes = std::fs::read(objects.join(folder).join(name)).ok()?;
    let mut out = [0; MAX_LOOSE_SIZE];
    let (status, _, written) = gix::zlib::Inflate::default().once(&bytes, &mut out).ok()?;
    let text = out.get(..written)?;
    let (kind, size, header) = gix::objs::decode::loose_header(text).ok()?;
    let body = text.get(header..)?;
    let whole = status == gix::zlib::Status::StreamEnd && u64::try_from(body.len()).ok()? == size;
    if !whole || kind != gix::objs::Kind::Commit {
        return None;
    }
    let hash = repo.local().object_hash();
    commit_info_of(&gix::objs::CommitRef::from_bytes(body, hash).ok()?).ok()
}
