//! Landing hooks: `[queue] pre-land` and `post-land` run before and after a landing.
//!
//! A hook is written by a person, not by an agent. Unlike a check, a hook can read the repository
//! with git. A hook that hangs is stopped, because nothing else can land while it runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::ambient;
use crate::domain::id::Oid;
use crate::domain::termination::Termination;
use crate::process::{self, Command, Environ, StopFlag};
use crate::repo;
use crate::store::{Store, layout};

/// The longest running time of a hook.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The number of bytes that are kept of each output stream.
const CAP: u64 = 64 * 1024;

/// A landing, as it is passed to hooks.
#[derive(Debug)]
pub(super) struct HookLanding<'a> {
    /// The full ref name of the target.
    pub target: &'a str,
    /// The tip before the landing.
    pub old: &'a Oid,
    /// The tip after the landing.
    pub new: &'a Oid,
    /// The landing entries: branches, or `RUN/TASK`, with `:` and the ids of fixed findings.
    pub entries: Vec<String>,
}

/// The context in which hooks run.
#[derive(Debug)]
pub(super) struct HookRunner<'a> {
    /// The repository.
    pub store: &'a Store,
    /// The committer.
    pub who: &'a repo::Identity,
    /// The environment of this process.
    pub environment: &'a BTreeMap<OsString, OsString>,
    /// Pinned files: the path in the repository, and the written copy.
    pub pinned: &'a [(String, PathBuf)],
    /// Raised by a signal, which also ends a hook.
    pub interrupt: &'a StopFlag,
}

/// A signal's request to end what the worker waits for: a remote or a hook.
#[derive(Debug)]
pub(super) struct QueueInterrupt {
    /// Stays raised: neither a remote nor a pre-land hook is waited for any longer.
    stop: StopFlag,
    /// Raised while a post-land hook runs.
    post_land: StopFlag,
}

impl QueueInterrupt {
    /// Creates a request that is not made yet.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { stop: StopFlag::new()?, post_land: StopFlag::new()? })
    }

    /// Makes the request.
    pub(super) fn raise(&self) {
        self.stop.raise();
        self.post_land.raise();
    }

    /// Returns true if the request was made.
    pub(super) fn is_raised(&self) -> bool {
        self.stop.is_raised()
    }

    /// Returns the flag that ends a hook. A landing that has happened must not lose its post-land
    /// hook to an earlier request: only a request from now on ends that hook.
    pub(super) fn for_hook(&self, pre: bool) -> &StopFlag {
        if pre {
            return &self.stop;
        }
        self.post_land.lower();
        &self.post_land
    }
}

impl HookRunner<'_> {
    /// Runs a hook. Returns a message if the hook fails.
    pub(super) fn run(&self, argv: &[String], landing: &HookLanding<'_>) -> Result<Option<String>> {
        let key = layout::target_key(landing.target);
        let folder = self.store.local().queue(&key).join("hook");
        let tmp = folder.join("tmp");
        std::fs::create_dir_all(&tmp)
            .with_context(|| format!("cannot make the folder {}", tmp.display()))?;
        let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
        let mut env = Environ::for_command(self.environment, &tmp, self.who, &[]);
        env.set("HARNESS_TARGET", landing.target);
        env.set("HARNESS_OLD", landing.old.as_str());
        env.set("HARNESS_NEW", landing.new.as_str());
        env.set("HARNESS_LANDS", landing.entries.join(" "));
        let repo = self.store.repo();
        let argv_expanded = argv.iter().map(|argument| self.argument(argument));
        let cwd = repo.work_dir().unwrap_or(repo.common_dir());
        let marker = ambient::nonce();
        let command = Command::new(argv_expanded, cwd, &marker, stdout.clone(), stderr.clone())
            .env(env)
            .cap(CAP)
            .timeout(TIMEOUT);
        let ended = process::run(&command, self.interrupt)?;
        if ended.termination == Termination::Exited(0) {
            return Ok(None);
        }
        let output = [stderr, stdout].iter().find_map(|path| last_line(path));
        let output = output.map_or_else(String::new, |line| format!(": {line}"));
        Ok(Some(format!("`{}`: {}{output}", argv.join(" "), ended.termination)))
    }

    /// Replaces the path of a pinned file by the path of its written copy.
    fn argument(&self, argument: &str) -> OsString {
        let relative = argument.strip_prefix("./").unwrap_or(argument);
        let pinned = self.pinned.iter().find(|(path, _)| path == relative);
        pinned.map_or_else(|| argument.into(), |(_, file)| file.into())
    }
}

fn last_line(path: &std::path::Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::QueueInterrupt;

    #[test]
    fn post_land_hook_is_ended_by_a_later_signal_only() {
        let interrupt = QueueInterrupt::new().unwrap();
        interrupt.raise();
        assert!(interrupt.is_raised() && interrupt.for_hook(true).is_raised());
        let hook = interrupt.for_hook(false);
        assert!(!hook.is_raised(), "the landing has happened, and its hook is due");
        interrupt.raise();
        assert!(hook.is_raised());
        assert!(interrupt.for_hook(true).is_raised(), "no later pre-land hook is waited for");
    }
}
