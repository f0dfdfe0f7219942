//! A pool of repository handles. A handle serves one thread at a time. The next thread reuses the
//! handle's object cache.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gix::odb::pack::cache::lru::MemoryCappedHashmap;

/// The largest number of idle handles. Each handle caches up to twice [`CACHE`] bytes.
const MAX_IDLE: usize = 8;

/// The size in bytes of each of a handle's two caches: one for objects, one for delta bases of
/// packs.
const CACHE: usize = 4 * 1024 * 1024;

/// The size in bytes of the cache for delta bases in a sequential read. The cache holds about two
/// hundred of the commits that this program writes.
const BASES: usize = 512 * 1024;

/// The idle handles.
#[derive(Clone, Default)]
pub(super) struct HandlePool(Arc<Mutex<Vec<gix::Repository>>>);

impl HandlePool {
    fn idle(&self) -> MutexGuard<'_, Vec<gix::Repository>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, shared: &gix::ThreadSafeRepository) -> RepoHandle {
        let idle = self.idle().pop();
        let local = idle.unwrap_or_else(|| unpooled(shared));
        RepoHandle { local: Some(local), pool: self.clone() }
    }
}

/// Creates a handle outside of the pool, whose settings may be changed.
pub(super) fn unpooled(shared: &gix::ThreadSafeRepository) -> gix::Repository {
    let mut local = shared.to_thread_local();
    // Diffs and merges read the same few trees again and again.
    local.object_cache_size_if_unset(CACHE);
    // An object in a pack may be the end of a chain of up to fifty deltas. Without the cache, the
    // whole chain is unpacked for each object.
    local.objects.set_pack_cache(|| Box::new(MemoryCappedHashmap::new(CACHE)));
    local
}

/// Creates a handle for reading a large part of a pack once, in pack order. A small cache is
/// enough, since only recent bases are needed again.
pub(super) fn sequential(shared: &gix::ThreadSafeRepository) -> gix::Repository {
    let mut local = shared.to_thread_local();
    local.object_cache_size(None);
    local.objects.set_pack_cache(|| Box::new(MemoryCappedHashmap::new(BASES)));
    local
}

/// A handle that returns to its pool when it is dropped.
pub struct RepoHandle {
    /// `None` only during the drop.
    local: Option<gix::Repository>,
    pool: HandlePool,
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
        let mut idle = self.pool.idle();
        if idle.len() < MAX_IDLE {
            idle.extend(self.local.take());
        }
    }
}
