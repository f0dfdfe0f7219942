//! Which work tree has which branch checked out, read from plain files so that one broken entry hides no other.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Repo, link};

/// See [`Repo::checked_out_at`].
pub(super) fn checked_out_at(repo: &Repo, full_ref: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if let Some(work_dir) = repo.work_dir()
        && reserves(repo.common_dir(), full_ref)
    {
        found.push(work_dir.to_path_buf());
    }
    for admin in admin_dirs(repo.common_dir())? {
        if reserves(&admin, full_ref)
            && let Some(work_dir) = link::work_dir_of(&admin)
        {
            found.push(work_dir);
        }
    }
    Ok(found)
}

/// The admin folders of all linked worktrees, sorted.
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

/// Whether the work tree of this folder is on the branch, or will be when its rebase ends.
fn reserves(git_dir: &Path, full_ref: &str) -> bool {
    let on = |file: &str, prefix: &str| {
        std::fs::read_to_string(git_dir.join(file))
            .is_ok_and(|text| text.strip_prefix(prefix).is_some_and(|name| name.trim() == full_ref))
    };
    on("HEAD", "ref:") || on("rebase-merge/head-name", "") || on("rebase-apply/head-name", "")
}
