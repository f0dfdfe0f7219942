//! The index of a run's tips: a cache for commands that only read.
//!
//! The index is derived and may be deleted at any time. The key of a record is the commit that the
//! record describes, so a record never becomes wrong: when a chain moves on, the record is just not
//! looked up any more. Agents can write to the file. Therefore only commands such as `status` use
//! the index, and no decision relies on it.

mod record;
pub(super) mod snapshot;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::path::Path;

use record::Record;

use crate::ambient;
use crate::domain::id::Oid;
use crate::domain::state::TaskState;

/// The first bytes of the file: the type of the file and the version of the format.
const MAGIC: &[u8; 8] = b"GHINDEX1";
/// The length of the header in bytes: magic, checksum, number of table rows, length of an id.
const HEAD: usize = 20;

/// An index in memory.
#[derive(Debug)]
pub(super) struct Index {
    bytes: Vec<u8>,
    /// The number of table rows. A row has an id and the offset of its record. Rows are sorted by
    /// id.
    count: usize,
    /// The length of an id in bytes.
    width: usize,
    /// The offset of the first record.
    records: usize,
}

impl Index {
    /// Reads an index. Returns `None` if the file is missing, damaged or of another version.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let number = |at: usize| -> Option<usize> {
            let four = bytes.get(at..at + 4)?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(four)).ok()
        };
        let sum = usize::try_from(crc32fast::hash(bytes.get(12..)?)).ok()?;
        if bytes.get(..8)? != MAGIC || number(8)? != sum {
            return None;
        }
        let (count, width) = (number(12)?, number(16)?);
        let records = HEAD.checked_add(count.checked_mul(width.checked_add(4)?)?)?;
        (records <= bytes.len()).then_some(Self { bytes, count, width, records })
    }

    /// Returns the tree of a commit and the state after the commit's event.
    pub(super) fn get(&self, commit: &Oid) -> Option<(Oid, TaskState)> {
        let row_len = self.width + 4;
        let row = |n: usize| &self.bytes[HEAD + n * row_len..HEAD + (n + 1) * row_len];
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            let (id, offset) = row(middle).split_at(self.width);
            match id.cmp(commit.as_str().as_bytes()) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => {
                    let offset = u32::from_le_bytes(offset.try_into().ok()?);
                    let from = self.records.checked_add(usize::try_from(offset).ok()?)?;
                    let record = self.bytes.get(from..)?;
                    return postcard::take_from_bytes::<Record>(record).ok()?.0.state();
                }
            }
        }
        None
    }

    /// Replaces the index. A tip is a commit, its tree, and the state after its event. On an error,
    /// the old index stays.
    pub(super) fn write<'a>(
        path: &Path,
        tips: impl Iterator<Item = (&'a Oid, &'a Oid, &'a TaskState)>,
    ) {
        if let Some(bytes) = Self::bytes(tips) {
            replace_file(path, &bytes);
        }
    }

    fn bytes<'a>(tips: impl Iterator<Item = (&'a Oid, &'a Oid, &'a TaskState)>) -> Option<Vec<u8>> {
        let mut records = Vec::new();
        let mut table = Vec::new();
        for (commit, tree, state) in tips {
            table.push((commit.as_str(), u32::try_from(records.len()).ok()?));
            records.extend(postcard::to_stdvec(&Record::of(tree, state)).ok()?);
        }
        table.sort_unstable();
        let width = table.first().map_or(0, |(id, _)| id.len());
        let mut bytes = MAGIC.to_vec();
        // The checksum covers the bytes that follow it. It replaces the zero at the end.
        for number in [0, table.len(), width] {
            bytes.extend(u32::try_from(number).ok()?.to_le_bytes());
        }
        for (id, offset) in table {
            // All ids of a repository have the same length.
            if id.len() != width {
                return None;
            }
            bytes.extend(id.as_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes.extend(records);
        let sum = crc32fast::hash(&bytes[12..]);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        Some(bytes)
    }
}

/// Replaces a file by a rename. On an error, the old file stays.
fn replace_file(path: &Path, bytes: &[u8]) {
    let new = path.with_extension(ambient::nonce());
    let written = path.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok())
        && std::fs::write(&new, bytes).is_ok()
        && std::fs::rename(&new, path).is_ok();
    if !written {
        std::fs::remove_file(new).ok();
    }
}
