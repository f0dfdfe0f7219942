//! Keeper processes, one for each worktree in use. A keeper serves one assignment after the other.
//! A keeper that has exited is replaced.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

use super::assignment::Executor;
use crate::failpoint;
use crate::keeper::files;
use crate::process::{self, Environ, KeeperHandle, KeeperLink, Lock};

/// The variables of a keeper's own process, beside those of git and of tests.
const PLAIN: [&str; 5] = ["PATH", "HOME", "LANG", "TERM", "TMPDIR"];

/// The keepers that this process has started, by worktree. When this value is dropped, idle keepers
/// exit at once, and busy keepers exit after their assignment.
#[derive(Debug)]
pub(crate) struct Keepers {
    /// The program of which a keeper is a subcommand.
    program: PathBuf,
    idle: Mutex<BTreeMap<String, StartedKeeper>>,
}

#[derive(Debug)]
struct StartedKeeper {
    link: KeeperLink,
    handle: KeeperHandle,
    /// The lock of the keeper's last assignment.
    lock: PathBuf,
}

impl Keepers {
    /// Creates the pool of a program's keepers, without keepers.
    pub(crate) fn new(program: PathBuf) -> Self {
        Self { program, idle: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, StartedKeeper>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Executor for Keepers {
    /// Gives an assignment's folder to the keeper of a worktree, or to a new keeper.
    fn hand_over(&self, worktree: &str, dir: &Path, lock: &Lock, env: &Environ) -> Result<()> {
        let path = dir.join(files::LOCK);
        let old = self.lock().remove(worktree);
        if let Some(mut old) = old {
            if old.link.send(dir, lock, env).is_ok() {
                old.lock = path;
                self.lock().insert(worktree.to_owned(), old);
                return Ok(());
            }
            close_and_reap(old);
        }
        let args: [OsString; 2] = ["keeper".into(), dir.as_os_str().to_owned()];
        let failed = || format!("cannot start a keeper from {}", self.program.display());
        let own = process_environment(env);
        let log = dir.join(files::LOG);
        let (handle, link) = process::start_linked_keeper(&self.program, &args, lock, &own, &log)
            .with_context(failed)?;
        // If the keeper has died already, it never took over, and the caller replaces it.
        link.send(dir, lock, env).ok();
        self.lock().insert(worktree.to_owned(), StartedKeeper { link, handle, lock: path });
        Ok(())
    }
}

/// Returns the environment of the keeper's own process. Others can read it in `/proc`, so it has
/// nothing that a job names.
fn process_environment(env: &Environ) -> Environ {
    let mut own = Environ::empty();
    for (name, value) in env.iter() {
        let text = name.to_string_lossy();
        let is_plain = PLAIN.contains(&text.as_ref()) || text.starts_with("GIT_");
        if is_plain || [failpoint::COUNTER, failpoint::AT].contains(&text.as_ref()) {
            own.set(name, value);
        }
    }
    own
}

impl Drop for Keepers {
    fn drop(&mut self) {
        let keepers = std::mem::take(&mut *self.lock());
        // Close all links first, so that the keepers end concurrently.
        let left: Vec<_> = keepers
            .into_values()
            .map(|StartedKeeper { link, handle, lock }| {
                drop(link);
                (handle, lock)
            })
            .collect();
        for (handle, lock) in left {
            wait_if_idle(handle, &lock);
        }
    }
}

fn close_and_reap(StartedKeeper { link, handle, lock }: StartedKeeper) {
    drop(link);
    wait_if_idle(handle, &lock);
}

/// Reaps a keeper whose link is closed. A busy keeper is not awaited: it exits after its
/// assignment.
fn wait_if_idle(handle: KeeperHandle, lock: &Path) {
    if matches!(Lock::is_held(lock), Ok(false)) {
        handle.wait().ok();
    }
}
