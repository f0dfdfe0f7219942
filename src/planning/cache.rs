//! A cache of the facts that planning reads from blobs: sizes, import facts and token counts.
//!
//! The blobs are the source of all entries, so a lost or unreadable cache counts as empty.

use std::collections::HashMap;

use gix::ObjectId;
use serde::{Deserialize, Serialize};

use super::imports::ImportFact;

/// The version of the format and of the parsers. A cache with another version counts as empty.
const VERSION: u32 = 2;

/// Sizes, import facts and token counts by blob id.
#[derive(Debug, Default)]
pub(crate) struct PlanCache {
    /// The sizes, or `None` for binary blobs.
    sizes: HashMap<ObjectId, Option<TextSize>>,
    /// The import facts by blob and by the file extension that selected the parser. `None` if the
    /// blob cannot be parsed.
    facts: HashMap<(ObjectId, String), Option<Vec<ImportFact>>>,
    /// The token counts.
    tokens: HashMap<ObjectId, u64>,
    /// True if an entry was added since the cache was read.
    changed: bool,
}

/// The size of a text blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct TextSize {
    /// The number of lines. A last line without a newline counts.
    pub lines: u64,
    /// The number of bytes.
    pub bytes: u64,
}

/// The cache as JSON.
#[derive(Serialize, Deserialize)]
struct CacheFile {
    v: u32,
    sizes: Vec<(String, Option<TextSize>)>,
    facts: Vec<(String, String, Option<Vec<ImportFact>>)>,
    tokens: Vec<(String, u64)>,
}

impl PlanCache {
    /// Reads a cache from the bytes of [`PlanCache::to_bytes`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let Ok(file) = serde_json::from_slice::<CacheFile>(bytes) else { return Self::default() };
        if file.v != VERSION {
            return Self::default();
        }
        let id = |text: &str| ObjectId::from_hex(text.as_bytes()).ok();
        let sizes = file.sizes.into_iter().filter_map(|(i, size)| Some((id(&i)?, size)));
        let facts = file.facts.into_iter().filter_map(|(i, ext, f)| Some(((id(&i)?, ext), f)));
        let tokens = file.tokens.into_iter().filter_map(|(i, n)| Some((id(&i)?, n)));
        Self {
            sizes: sizes.collect(),
            facts: facts.collect(),
            tokens: tokens.collect(),
            changed: false,
        }
    }

    /// Returns the cache as bytes, or `None` if no entry was added since the cache was read.
    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        if !self.changed {
            return None;
        }
        let mut sizes: Vec<_> = self.sizes.iter().map(|(i, size)| (i.to_string(), *size)).collect();
        sizes.sort_unstable();
        let facts = self.facts.iter();
        let mut facts: Vec<_> =
            facts.map(|((i, ext), f)| (i.to_string(), ext.clone(), f.clone())).collect();
        facts.sort_unstable();
        let mut tokens: Vec<_> = self.tokens.iter().map(|(i, n)| (i.to_string(), *n)).collect();
        tokens.sort_unstable();
        serde_json::to_vec(&CacheFile { v: VERSION, sizes, facts, tokens }).ok()
    }

    /// Returns the size of a blob if it is in the cache. The inner `None` stands for a binary blob.
    pub(super) fn size(&self, id: ObjectId) -> Option<Option<TextSize>> {
        self.sizes.get(&id).copied()
    }

    /// Records the size of a blob.
    pub(super) fn insert_size(&mut self, id: ObjectId, size: Option<TextSize>) {
        self.changed |= self.sizes.insert(id, size).is_none();
    }

    /// Returns the token count of a blob if it is in the cache.
    pub(super) fn tokens(&self, id: ObjectId) -> Option<u64> {
        self.tokens.get(&id).copied()
    }

    /// Records the token count of a blob.
    pub(super) fn insert_tokens(&mut self, id: ObjectId, tokens: u64) {
        self.changed |= self.tokens.insert(id, tokens).is_none();
    }

    /// Returns the import facts of a blob, parsed as a file with this extension, if they are in the
    /// cache.
    pub(super) fn facts(&self, id: ObjectId, ext: &str) -> Option<&Option<Vec<ImportFact>>> {
        self.facts.get(&(id, ext.to_owned()))
    }

    /// Records the import facts of a blob, parsed as a file with this extension.
    pub(super) fn insert_facts(&mut self, id: ObjectId, ext: &str, facts: Option<Vec<ImportFact>>) {
        self.changed |= self.facts.insert((id, ext.to_owned()), facts).is_none();
    }
}
