//! `[queue] pre-land` and `post-land`: programs that are told of a landing, before and after.
//!
//! They are a person's, not an agent's, and no checks: what they need of the repository they ask git for. One that hangs is ended,
//! because nothing else lands meanwhile.

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

/// How long one may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How much of what it prints is kept, in bytes.
const CAP: u64 = 64 * 1024;

/// A landing, as hooks are told of it.
#[derive(Debug)]
pub(super) struct HookLanding<'a> {
    /// The full name of the target.
    pub target: &'a str,
    /// Its tip before.
    pub old: &'a Oid,
    /// Its tip after.
    pub new: &'a Oid,
    /// What lands: branches, or `RUN/TASK`.
    pub entries: Vec<String>,
}

/// Where hooks run and what they get.
#[derive(Debug)]
pub(super) struct HookRunner<'a> {
    /// The repository.
    pub store: &'a Store,
    /// Who commits.
    pub who: &'a repo::Identity,
    /// The environment that this process was given.
    pub environment: &'a BTreeMap<OsString, OsString>,
    /// Files that commands name, as they are pinned, and where they were written out.
    pub pinned: &'a [(String, PathBuf)],
}

impl HookRunner<'_> {
    /// Runs one. What it says, if it does not succeed.
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
        let ended = process::run(&command, &StopFlag::new()?)?;
        if ended.termination == Termination::Exited(0) {
            return Ok(None);
        }
        let said = [stderr, stdout].iter().find_map(|path| last_line(path));
        let said = said.map_or_else(String::new, |line| format!(": {line}"));
        Ok(Some(format!("`{}`: {}{said}", argv.join(" "), ended.termination)))
    }

    /// A file that is pinned is meant as it is pinned.
    fn argument(&self, argument: &str) -> OsString {
        let plain = argument.strip_prefix("./").unwrap_or(argument);
        let pinned = self.pinned.iter().find(|(path, _)| path == plain);
        pinned.map_or_else(|| argument.into(), |(_, file)| file.into())
    }
}

fn last_line(path: &std::path::Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
}
