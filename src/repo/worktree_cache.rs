//! The cached record of the worktree that this process reset last. A keeper uses one worktree again
//! and again. In a large repository, reading the record takes as long as the reset itself.
//!
//! The cache is only an optimisation: without it, everything is read from the record and from the
//! worktree itself.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::walk::WalkResult;
use super::worktree_record::WorktreeRecord;

/// The identity of a record's file. A record is always written to a new file, so another identity
/// means another record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    dev: u64,
    ino: u64,
    size: u64,
    changed: (i64, i64),
}

struct CachedRecord {
    file: PathBuf,
    identity: FileIdentity,
    record: WorktreeRecord,
    walk: Option<WalkResult>,
}

static TRUSTED: AtomicBool = AtomicBool::new(false);
static CACHED: Mutex<Option<CachedRecord>> = Mutex::new(None);

fn cached() -> MutexGuard<'static, Option<CachedRecord>> {
    CACHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file_identity(file: &Path) -> Option<FileIdentity> {
    let meta = file.symlink_metadata().ok()?;
    let changed = (meta.ctime(), meta.ctime_nsec());
    Some(FileIdentity { dev: meta.dev(), ino: meta.ino(), size: meta.len(), changed })
}

/// Caches a record that was just written.
pub(super) fn put(file: &Path, record: WorktreeRecord) {
    let file = file.to_path_buf();
    *cached() =
        file_identity(&file).map(|identity| CachedRecord { file, identity, record, walk: None });
}

/// Replaces the cached record and leaves the older record on the disk, if the file is still the one
/// that this process wrote. Otherwise returns the record, and the caller must write it.
pub(super) fn replace(file: &Path, record: WorktreeRecord) -> Option<WorktreeRecord> {
    let mut cached = cached();
    match cached.as_mut().filter(|cached| cached.file == file) {
        Some(cached) if file_identity(file) == Some(cached.identity) => {
            cached.record = record;
            cached.walk = None;
            None
        }
        Some(_) | None => Some(record),
    }
}

/// Returns the cached record, if the file is still the one that this process wrote.
pub(super) fn record(file: &Path) -> Option<WorktreeRecord> {
    let cached = cached();
    let cached = cached.as_ref().filter(|cached| cached.file == file)?;
    (file_identity(file) == Some(cached.identity)).then(|| cached.record.clone())
}

/// Caches the result of a walk over the worktree against the current record.
pub(super) fn keep_walk(file: &Path, walk: WalkResult) {
    if let Some(cached) = cached().as_mut().filter(|cached| cached.file == file) {
        cached.walk = Some(walk);
    }
}

/// Takes the cached walk, if the walk used the current record and the worktree cannot have changed
/// since (see [`set_walk_trust`]).
pub(super) fn walk(file: &Path) -> Option<WalkResult> {
    let mut cached = cached();
    let cached = cached.as_mut().filter(|cached| cached.file == file)?;
    let walk = cached.walk.take()?;
    (TRUSTED.load(Ordering::Relaxed) && file_identity(file) == Some(cached.identity))
        .then_some(walk)
}

/// Returns true if [`walk`] would return a cached walk: a snapshot has just been taken.
pub(super) fn has_trusted_walk(file: &Path) -> bool {
    let cached = cached();
    let cached = cached.as_ref().filter(|cached| cached.file == file && cached.walk.is_some());
    TRUSTED.load(Ordering::Relaxed)
        && cached.is_some_and(|cached| file_identity(file) == Some(cached.identity))
}

/// Sets whether cached walks are valid. A keeper trusts a walk if hardly any time has passed since
/// the walk and no process that the keeper started is still running. Without trust, every reset
/// walks again.
pub(crate) fn set_walk_trust(trusted: bool) {
    TRUSTED.store(trusted, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::super::fixture::RepoFixture;
    #[test]
    fn reset_walks_the_worktree_again_without_trust() {
        let fx = RepoFixture::new();
        let commit = fx.commit(&[("a", "one\n"), ("b", "one\n")], &[]);
        let worktree = fx.worktree("p", &commit);
        let a = worktree.path.join("a");
        // The trust is global to the process, and other tests run in parallel. So this test does
        // not set it.
        std::fs::write(&a, "left\n").unwrap();
        super::super::snapshot(&fx.repo, &worktree, &commit).unwrap();
        std::fs::write(worktree.path.join("b"), "somebody else\n").unwrap();
        fx.reset(&worktree, &commit, &[]);
        assert_eq!(std::fs::read_to_string(&a).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(worktree.path.join("b")).unwrap(), "one\n");
    }
}
