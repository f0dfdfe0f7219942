//! What the tips of a run's chains say, kept ready for those who only look.
//!
//! The index is derived and may go at any time. A record is found by the id of the commit that it tells of, so it can be of no
//! use but never out of date. It lies where agents can write: nobody who acts on what they read may use it, only `status`.

mod record;
#[cfg(test)]
mod tests;
pub(super) mod whole;

use std::cmp::Ordering;
use std::path::Path;

use record::Record;

use crate::ambient;
use crate::domain::id::Oid;
use crate::domain::state::TaskState;

/// The first bytes of the file: what it is, and the version of everything behind.
const MAGIC: &[u8; 8] = b"GHINDEX1";
/// The length of that, of a checksum, of the number of entries in the table and of the length of an id.
const HEAD: usize = 20;

/// An index as it was read.
#[derive(Debug)]
pub(super) struct Index {
    bytes: Vec<u8>,
    /// How many entries its table has: ids in order, each with where its record begins behind the table.
    count: usize,
    /// How long an id is.
    width: usize,
    /// Where the records begin.
    records: usize,
}

impl Index {
    /// Reads a file. One that is missing, damaged or of another version is none.
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

    /// What the index says of a commit: its tree and the state after it.
    pub(super) fn get(&self, commit: &Oid) -> Option<(Oid, TaskState)> {
        let entry = self.width + 4;
        let at = |n: usize| &self.bytes[HEAD + n * entry..HEAD + (n + 1) * entry];
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            let (id, offset) = at(middle).split_at(self.width);
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

    /// Writes an index of these tips: commit, its tree, the state after it. At once or not at all; a repository that cannot be
    /// written to has none.
    pub(super) fn write<'a>(
        path: &Path,
        tips: impl Iterator<Item = (&'a Oid, &'a Oid, &'a TaskState)>,
    ) {
        if let Some(bytes) = Self::bytes(tips) {
            put(path, &bytes);
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
        for number in [0, table.len(), width] {
            bytes.extend(u32::try_from(number).ok()?.to_le_bytes());
        }
        for (id, offset) in table {
            // Ids of one repository are of one length.
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

/// Puts a file in its place, at once or not at all.
fn put(path: &Path, bytes: &[u8]) {
    let new = path.with_extension(ambient::nonce());
    let written = path.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok())
        && std::fs::write(&new, bytes).is_ok()
        && std::fs::rename(&new, path).is_ok();
    if !written {
        std::fs::remove_file(new).ok();
    }
}
