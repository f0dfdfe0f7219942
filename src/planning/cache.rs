//! What is known of blobs, so that a plan that is made again need not read them again.
//!
//! All of it can be worked out from the blobs: a cache that is lost or not understood is an empty one.

use std::collections::HashMap;

use gix::ObjectId;
use serde::{Deserialize, Serialize};

/// The version of the form, and of how files are read: another one is an empty cache.
const VERSION: u32 = 1;

/// What is known of blobs.
#[derive(Debug, Default)]
pub(crate) struct PlanCache {
    /// Lines and bytes; nothing for what is no text.
    sizes: HashMap<ObjectId, Option<(u64, u64)>>,
    /// What is found in it, read as a file of this kind; nothing for what cannot be understood.
    facts: HashMap<(ObjectId, String), Option<Vec<String>>>,
    /// Tokens.
    tokens: HashMap<ObjectId, u64>,
    changed: bool,
}

#[derive(Serialize, Deserialize)]
struct CacheFile {
    v: u32,
    sizes: Vec<(String, Option<(u64, u64)>)>,
    facts: Vec<(String, String, Option<Vec<String>>)>,
    #[serde(default)]
    tokens: Vec<(String, u64)>,
}

impl PlanCache {
    /// Reads what [`Cache::written`] gave.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let Ok(wire) = serde_json::from_slice::<CacheFile>(bytes) else { return Self::default() };
        if wire.v != VERSION {
            return Self::default();
        }
        let id = |text: &str| ObjectId::from_hex(text.as_bytes()).ok();
        let sizes = wire.sizes.into_iter().filter_map(|(i, size)| Some((id(&i)?, size)));
        let facts = wire.facts.into_iter().filter_map(|(i, kind, f)| Some(((id(&i)?, kind), f)));
        let tokens = wire.tokens.into_iter().filter_map(|(i, n)| Some((id(&i)?, n)));
        Self {
            sizes: sizes.collect(),
            facts: facts.collect(),
            tokens: tokens.collect(),
            changed: false,
        }
    }

    /// All that is known, if something new is.
    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        if !self.changed {
            return None;
        }
        let mut sizes: Vec<_> = self.sizes.iter().map(|(i, size)| (i.to_string(), *size)).collect();
        sizes.sort_unstable();
        let each = self.facts.iter();
        let mut facts: Vec<_> =
            each.map(|((i, k), f)| (i.to_string(), k.clone(), f.clone())).collect();
        facts.sort_unstable();
        let mut tokens: Vec<_> = self.tokens.iter().map(|(i, n)| (i.to_string(), *n)).collect();
        tokens.sort_unstable();
        serde_json::to_vec(&CacheFile { v: VERSION, sizes, facts, tokens }).ok()
    }

    /// The lines and bytes of a blob, if known; nothing inside for what is no text.
    pub(super) fn size(&self, id: ObjectId) -> Option<Option<(u64, u64)>> {
        self.sizes.get(&id).copied()
    }

    pub(super) fn keep_size(&mut self, id: ObjectId, size: Option<(u64, u64)>) {
        self.changed |= self.sizes.insert(id, size).is_none();
    }

    /// The tokens of a blob, if known.
    pub(super) fn tokens(&self, id: ObjectId) -> Option<u64> {
        self.tokens.get(&id).copied()
    }

    pub(super) fn keep_tokens(&mut self, id: ObjectId, tokens: u64) {
        self.changed |= self.tokens.insert(id, tokens).is_none();
    }

    /// What is found in a blob, if known.
    pub(super) fn facts(&self, id: ObjectId, kind: &str) -> Option<&Option<Vec<String>>> {
        self.facts.get(&(id, kind.to_owned()))
    }

    pub(super) fn keep_facts(&mut self, id: ObjectId, kind: &str, facts: Option<Vec<String>>) {
        self.changed |= self.facts.insert((id, kind.to_owned()), facts).is_none();
    }
}
