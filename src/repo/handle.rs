//! Handles of a repository for one thread at a time, kept for the next who needs one: what a handle has read of the
//! object database, it need not read again.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gix::odb::pack::cache::lru::MemoryCappedHashmap;

/// How many handles wait at most; each remembers up to twice [`CACHE`] bytes.
const SPARE: usize = 8;

/// How much a handle remembers of what it has read, and as much of what that was made from, in bytes.
const CACHE: usize = 4 * 1024 * 1024;

/// How much is remembered of what lies before something in a pack, in bytes: two hundred of our commits.
const BASES: usize = 512 * 1024;

/// Handles that nobody uses at the moment.
#[derive(Clone, Default)]
pub(super) struct HandlePool(Arc<Mutex<Vec<gix::Repository>>>);

impl HandlePool {
    fn spare(&self) -> MutexGuard<'_, Vec<gix::Repository>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, shared: &gix::ThreadSafeRepository) -> RepoHandle {
        let waiting = self.spare().pop();
        let local = waiting.unwrap_or_else(|| fresh(shared));
        RepoHandle { local: Some(local), home: self.clone() }
    }
}

/// A handle of its own, for whoever changes its settings.
pub(super) fn fresh(shared: &gix::ThreadSafeRepository) -> gix::Repository {
    let mut local = shared.to_thread_local();
    // Diffs and merges read the same few trees again and again.
    local.object_cache_size_if_unset(CACHE);
    // Objects in a pack are deltas of others in it, up to fifty deep; without this, all of them are unpacked for each.
    local.objects.set_pack_cache(|| Box::new(MemoryCappedHashmap::new(CACHE)));
    local
}

/// A handle for whoever reads much of a pack once, in the order in which it lies there: of what was read before, only the last
/// bases are needed again.
pub(super) fn in_order(shared: &gix::ThreadSafeRepository) -> gix::Repository {
    let mut local = shared.to_thread_local();
    local.object_cache_size(None);
    local.objects.set_pack_cache(|| Box::new(MemoryCappedHashmap::new(BASES)));
    local
}

/// A handle that is given back when it is dropped.
pub struct RepoHandle {
    /// `None` only while it is being dropped.
    local: Option<gix::Repository>,
    home: HandlePool,
}

impl RepoHandle {
    /// From now on it writes to memory only, of which it has nothing yet.
    pub(super) fn forget(&mut self) {
        if let Some(local) = &mut self.local {
            local.objects.enable_object_memory();
            local.objects.reset_object_memory();
        }
    }
}

impl Deref for RepoHandle {
    type Target = gix::Repository;

    fn deref(&self) -> &gix::Repository {
        match &self.local {
            Some(local) => local,
            None => unreachable!("only a drop takes it"),
        }
    }
}

impl Drop for RepoHandle {
    fn drop(&mut self) {
        let mut spare = self.home.spare();
        if spare.len() < SPARE {
            spare.extend(self.local.take());
        }
    }
}
