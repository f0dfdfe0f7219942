//! What this process remembers of the place that it put right last: a keeper works in one place again and again, and
//! reading its own note back costs as much as the work when the repository is large.
//!
//! Nothing here is state: without it everything is read from the note and from the place itself.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::walk::WalkResult;
use super::worktree_record::WorktreeRecord;

/// Tells whether a note is still the file that was written: it is only ever replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    dev: u64,
    ino: u64,
    size: u64,
    changed: (i64, i64),
}

struct CachedRecord {
    file: PathBuf,
    seal: FileIdentity,
    record: WorktreeRecord,
    walk: Option<WalkResult>,
}

static TRUSTED: AtomicBool = AtomicBool::new(false);
static KEPT: Mutex<Option<CachedRecord>> = Mutex::new(None);

fn kept() -> MutexGuard<'static, Option<CachedRecord>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seal(file: &Path) -> Option<FileIdentity> {
    let meta = file.symlink_metadata().ok()?;
    let changed = (meta.ctime(), meta.ctime_nsec());
    Some(FileIdentity { dev: meta.dev(), ino: meta.ino(), size: meta.len(), changed })
}

/// Remembers a note that was just written.
pub(super) fn keep(file: &Path, record: WorktreeRecord) {
    let file = file.to_path_buf();
    *kept() = seal(&file).map(|seal| CachedRecord { file, seal, record, walk: None });
}

/// Remembers a note without writing it, if what this process wrote is there still and is good enough for whoever comes
/// after it; otherwise gives it back, to be written.
pub(super) fn renew(file: &Path, record: WorktreeRecord) -> Option<WorktreeRecord> {
    let mut kept = kept();
    match kept.as_mut().filter(|kept| kept.file == file) {
        Some(kept) if seal(file) == Some(kept.seal) => {
            kept.record = record;
            kept.walk = None;
            None
        }
        Some(_) | None => Some(record),
    }
}

/// The note, if this process wrote it last.
pub(super) fn record(file: &Path) -> Option<WorktreeRecord> {
    let kept = kept();
    let kept = kept.as_ref().filter(|kept| kept.file == file)?;
    (seal(file) == Some(kept.seal)).then(|| kept.record.clone())
}

/// Remembers what a walk over the place has shown, held against the note that is there now.
pub(super) fn keep_walk(file: &Path, walk: WalkResult) {
    if let Some(kept) = kept().as_mut().filter(|kept| kept.file == file) {
        kept.walk = Some(walk);
    }
}

/// What the last walk over the place has shown, if that was held against the note that is there now, and if nobody can
/// have been there since (see [`trust`]). It is given once.
pub(super) fn walk(file: &Path) -> Option<WalkResult> {
    let mut kept = kept();
    let kept = kept.as_mut().filter(|kept| kept.file == file)?;
    let walk = kept.walk.take()?;
    (TRUSTED.load(Ordering::Relaxed) && seal(file) == Some(kept.seal)).then_some(walk)
}

/// Says whether a place may be taken to look as it did when it was saved: a keeper knows, when hardly any time has
/// passed and nothing that it started is left. Otherwise every reset looks for itself.
pub(crate) fn trust(yes: bool) {
    TRUSTED.store(yes, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::super::fixture::RepoFixture;
    #[test]
    fn a_saved_place_is_only_taken_to_look_the_same_where_that_is_known() {
        let fx = RepoFixture::new();
        let commit = fx.commit(&[("a", "one\n"), ("b", "one\n")], &[]);
        let worktree = fx.worktree("p", &commit);
        let a = worktree.path.join("a");
        // Trust is one switch for a process, and other tests run beside this one: it is only ever off here.
        std::fs::write(&a, "left\n").unwrap();
        super::super::snapshot(&fx.repo, &worktree, &commit).unwrap();
        std::fs::write(worktree.path.join("b"), "somebody else\n").unwrap();
        fx.reset(&worktree, &commit, &[]);
        assert_eq!(std::fs::read_to_string(&a).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(worktree.path.join("b")).unwrap(), "one\n");
    }
}
