//! The owner of a repository, as git judges it before it reads the repository's configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::git::{REPOSITORY_VARIABLES, isolated, locate};

/// Returns true if a path belongs to the user of this process or, under `sudo`, to the user who
/// called it. A path that cannot be read is left to git.
pub(crate) fn is_own_path(path: &Path, sudo_user: Option<u32>) -> bool {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return false };
    let user = rustix::process::geteuid();
    meta.uid() == user.as_raw() || (user.is_root() && sudo_user == Some(meta.uid()))
}

/// Asks the user's git about the repository around a folder. Returns the message with which git
/// refuses the repository, or `None` if git accepts it.
pub(crate) fn refusal_of_git(
    dir: &Path,
    environment: &BTreeMap<OsString, OsString>,
) -> Result<Option<String>> {
    let (exe, _) = locate(environment)?;
    let passes = |name: &OsString| !REPOSITORY_VARIABLES.iter().any(|local| name == local);
    let env: BTreeMap<&OsString, &OsString> =
        environment.iter().filter(|(name, _)| passes(name)).collect();
    let run = isolated(duct::cmd(&exe, ["rev-parse", "--git-dir"]).dir(dir).full_env(env))
        .stdin_null()
        .stdout_null()
        .stderr_capture()
        .run()
        .with_context(|| format!("cannot start git: {}", exe.display()))?;
    let refused = !run.status.success();
    Ok(refused.then(|| String::from_utf8_lossy(&run.stderr).trim().to_owned()))
}
