//! The branches that are checked out in work trees. They are read directly from git's files, so
//! that one broken entry does not hide the others.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Repo, link};

/// A work tree that has a branch checked out, or that will have the branch checked out when its
/// rebase ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkout {
    /// The git folder of the work tree.
    pub git_dir: PathBuf,
    /// The folder of the work tree's files.
    pub work_dir: PathBuf,
    /// True if a rebase of the branch is in progress there.
    pub rebasing: bool,
    /// The reason why the folder cannot be used: it is gone, or it is something else now.
    pub absent: Option<String>,
}

/// Returns the work trees that use a branch. A broken admin folder is skipped.
pub(crate) fn checkouts(repo: &Repo, full_ref: &str) -> Result<Vec<Checkout>> {
    let mut found = Vec::new();
    let mut add = |git_dir: &Path, work_dir: Option<PathBuf>, absent: Option<String>| {
        if let (Some(usage), Some(work_dir)) = (branch_use(git_dir, full_ref), work_dir) {
            let (git_dir, rebasing) = (git_dir.to_path_buf(), usage == BranchUse::Rebasing);
            found.push(Checkout { git_dir, work_dir, rebasing, absent });
        }
    };
    add(repo.common_dir(), repo.work_dir().map(Path::to_path_buf), None);
    for admin in admin_dirs(repo.common_dir())? {
        let work_dir = link::work_dir_of(&admin);
        let absent = work_dir.as_deref().and_then(|work_dir| absence(&admin, work_dir));
        add(&admin, work_dir, absent);
    }
    Ok(found)
}

/// Returns the reason why a folder is not the work tree of an admin folder, or `None` if it is.
fn absence(admin: &Path, work_dir: &Path) -> Option<String> {
    let reason = match std::fs::metadata(work_dir) {
        Ok(meta) if !meta.is_dir() => "a file is at its path",
        Ok(_) if link::points_to(work_dir, admin) => return None,
        Ok(_) => "the folder at its path is not this worktree; `git worktree repair` corrects that",
        Err(_) => "its folder is gone",
    };
    let lock = std::fs::read_to_string(admin.join("locked")).ok();
    let lock = lock.as_deref().map(|reason| match reason.lines().next().unwrap_or("").trim() {
        "" => "; it is locked".to_owned(),
        why => format!("; it is locked: {why}"),
    });
    Some(format!("{reason}{}", lock.unwrap_or_default()))
}

/// Returns the folders of the work trees. See [`Repo::checked_out_at`].
pub(super) fn checked_out_at(repo: &Repo, full_ref: &str) -> Result<Vec<PathBuf>> {
    let present = checkouts(repo, full_ref)?.into_iter().filter(|c| c.absent.is_none());
    Ok(present.map(|checkout| checkout.work_dir).collect())
}

/// Returns the admin folders of all linked worktrees, sorted.
pub(super) fn admin_dirs(common_dir: &Path) -> Result<Vec<PathBuf>> {
    let folder = common_dir.join("worktrees");
    let listing = match std::fs::read_dir(&folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot list the worktrees: {}", folder.display()));
        }
    };
    let mut dirs: Vec<PathBuf> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
    dirs.sort();
    Ok(dirs)
}

/// The way in which a work tree uses a branch.
#[derive(Debug, PartialEq, Eq)]
enum BranchUse {
    CheckedOut,
    Rebasing,
}

/// Returns the way in which the work tree of `git_dir` uses the branch, or `None` if it does not.
fn branch_use(git_dir: &Path, full_ref: &str) -> Option<BranchUse> {
    let names_branch = |file: &str, prefix: &str| {
        std::fs::read_to_string(git_dir.join(file))
            .is_ok_and(|text| text.strip_prefix(prefix).is_some_and(|name| name.trim() == full_ref))
    };
    if names_branch("HEAD", "ref:") {
        return Some(BranchUse::CheckedOut);
    }
    let rebasing =
        names_branch("rebase-merge/head-name", "") || names_branch("rebase-apply/head-name", "");
    rebasing.then_some(BranchUse::Rebasing)
}
