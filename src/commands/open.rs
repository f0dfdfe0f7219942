//! Opening the repository that git would use: around a folder, or as `GIT_DIR` and
//! `GIT_WORK_TREE` name it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::ambient;
use crate::error::Advice;
use crate::process;
use crate::repo::{NamedRepository, Repo};

/// Opens the repository around a folder. A repository of another user is refused unless git
/// accepts it.
pub(super) fn open_repo(here: &Path) -> Result<Repo> {
    let repo = match named_by_environment(here) {
        Some(named) => Repo::open_named(&named, here)?,
        None => Repo::discover(here)?,
    };
    // As for git, a repository that the environment names is the user's own choice.
    if ambient::variable("GIT_DIR").is_none() {
        refuse_foreign(&repo, here)?;
    }
    Ok(repo)
}

/// Returns the repository that `GIT_DIR` and `GIT_WORK_TREE` name. Relative paths are relative to
/// the current folder.
fn named_by_environment(here: &Path) -> Option<NamedRepository> {
    let path = |name: &str| {
        let value = ambient::variable(name).filter(|value| !value.is_empty())?;
        Some(here.join(PathBuf::from(value)))
    };
    let (git_dir, work_tree) = (path("GIT_DIR"), path("GIT_WORK_TREE"));
    (git_dir.is_some() || work_tree.is_some()).then_some(NamedRepository { git_dir, work_tree })
}

/// Fails with git's own message if git refuses the repository. Git is asked only if one of the
/// paths has another owner.
fn refuse_foreign(repo: &Repo, here: &Path) -> Result<()> {
    let mut paths = vec![repo.own_git_dir()];
    paths.extend(repo.top());
    let dot_git = repo.top().map(|top| top.join(".git"));
    paths.extend(dot_git.as_deref().filter(|path| path.is_file()));
    let sudo_user = ambient::variable("SUDO_UID").and_then(|id| id.parse().ok());
    // git's own tests set this variable so that git assumes another owner.
    let pretends = ambient::variable("GIT_TEST_ASSUME_DIFFERENT_OWNER").is_some();
    if !pretends && paths.iter().all(|path| process::is_own_path(path, sudo_user)) {
        return Ok(());
    }
    let Some(refusal) = process::refusal_of_git(here, &ambient::environment())? else {
        return Ok(());
    };
    let mut lines = refusal.lines().map(str::trim).filter(|line| !line.is_empty());
    let what = lines.next().unwrap_or("git refuses the repository");
    let what = what.strip_prefix("fatal: ").unwrap_or(what).to_owned();
    let hint = lines.collect::<Vec<_>>().join(" ");
    if hint.is_empty() {
        bail!(what);
    }
    Err(Advice::new(what, hint).into())
}
