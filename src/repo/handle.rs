//! Pooled handles of a repository, one for each thread at a time. The next user of a handle profits
//! from its object cache.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gix::odb::pack::cache::lru::MemoryCappedHashmap;

/// The most idle handles. Each caches up to twice [`CACHE`] bytes.
const SPARE: usize = 8;

/// The size of a handle's object cache, and of its cache for pack bases, in bytes.
const CACHE: usize = 4 * 1024 * 1024;

/// The size of the cache for pack bases in a sequential read, in bytes: two hundred of our commits.
const BASES: usize = 512 * 1024;

/// The idle handles.
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

/// Creates an unpooled handle, whose settings may be changed.
pub(super) fn fresh(shared: &gix::ThreadSafeRepository) -> gix::Repository {
    let mut local = shared.to_thread_local();
    // Diffs and merges read the same few trees again and again.
    local.object_cache_size_if_unset(CACHE);
    // Objects in a pack are chains of up to fifty deltas. Without the cache, the whole chain is
    // unpacked for each object.
    local.objects.set_pack_cache(|| Box::new(MemoryCappedHashmap::new(CACHE)));
    local
}

/// Creates a handle for reading much of a pack once, in pack order. Only the last bases are needed
/// again.
pub(super) fn in_order(shared: &gix::ThreadSafeRepository) -> gix::Repository {
    let mut local = shared.to_thread_local();
    local.object_cache_size(None);
    local.objects.set_pack_cache(|| Box::new(MemoryCappedHashmap::new(BASES)));
    local
}

/// A handle that returns to its pool when it is dropped.
pub struct RepoHandle {
    /// `None` only during the drop.
    local: Option<gix::Repository>,
    home: HandlePool,
}

impl RepoHandle {
    /// Makes the handle write to memory only, and clears that memory.
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
