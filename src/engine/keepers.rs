//! The keepers that stand by their places: each is handed case after case, and is replaced when it has gone.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

use crate::keeper::files;
use crate::process::{self, Environ, KeeperHandle, KeeperLink, Lock};

/// The keepers that this process has started, by place. When it is dropped, those that have nothing to do end, and
/// those that have something finish it and end then.
#[derive(Debug, Default)]
pub(crate) struct Keepers {
    standing: Mutex<BTreeMap<String, IdleKeeper>>,
}

#[derive(Debug)]
struct IdleKeeper {
    line: KeeperLink,
    handle: KeeperHandle,
    /// The lock of its last case.
    lock: PathBuf,
}

impl Keepers {
    /// Gives a case to the keeper of a place, or to a new one. The lock is held by it when this returns.
    pub(super) fn give(
        &self,
        program: &Path,
        worktree: &str,
        dir: &Path,
        lock: &Lock,
        env: &Environ,
    ) -> Result<()> {
        let path = dir.join(files::LOCK);
        let old = self.lock().remove(worktree);
        if let Some(mut old) = old {
            if old.line.send(dir, lock, env).is_ok() {
                old.lock = path;
                self.lock().insert(worktree.to_owned(), old);
                return Ok(());
            }
            dismiss(old);
        }
        let args: [OsString; 2] = ["keeper".into(), dir.as_os_str().to_owned()];
        let (handle, line) =
            process::start_linked_keeper(program, &args, lock, env, &dir.join(files::LOG))
                .with_context(|| format!("cannot start a keeper from {}", program.display()))?;
        self.lock().insert(worktree.to_owned(), IdleKeeper { line, handle, lock: path });
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, IdleKeeper>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Keepers {
    fn drop(&mut self) {
        let standing = std::mem::take(&mut *self.lock());
        // All lines first, so that they end side by side.
        let left: Vec<_> = standing
            .into_values()
            .map(|IdleKeeper { line, handle, lock }| {
                drop(line);
                (handle, lock)
            })
            .collect();
        for (handle, lock) in left {
            wait_if_idle(handle, &lock);
        }
    }
}

fn dismiss(IdleKeeper { line, handle, lock }: IdleKeeper) {
    drop(line);
    wait_if_idle(handle, &lock);
}

/// Reaps a keeper whose line is closed, unless it is at work: it ends when it is done.
fn wait_if_idle(handle: KeeperHandle, lock: &Path) {
    if matches!(Lock::is_held(lock), Ok(false)) {
        handle.wait().ok();
    }
}
