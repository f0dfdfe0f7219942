//! The branches that are checked out in work trees. They are read directly from git's files, so
//! that one broken entry does not hide the others.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Repo, link, object_id, tree};
use crate::domain::id::Oid;

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
}

/// Returns the work trees that use a branch. A broken admin folder is skipped.
pub(crate) fn checkouts(repo: &Repo, full_ref: &str) -> Result<Vec<Checkout>> {
    let mut found = Vec::new();
    let mut add = |git_dir: &Path, work_dir: Option<PathBuf>| {
        // A work tree whose folder is gone is skipped. `git worktree prune` removes its entry
        // later.
        let work_dir = work_dir.filter(|folder| folder.is_dir());
        if let (Some(usage), Some(work_dir)) = (branch_use(git_dir, full_ref), work_dir) {
            let (git_dir, rebasing) = (git_dir.to_path_buf(), usage == BranchUse::Rebasing);
            found.push(Checkout { git_dir, work_dir, rebasing });
        }
    };
    add(repo.common_dir(), repo.work_dir().map(Path::to_path_buf));
    for admin in admin_dirs(repo.common_dir())? {
        add(&admin, link::work_dir_of(&admin));
    }
    Ok(found)
}

/// Returns the folders of the work trees. See [`Repo::checked_out_at`].
pub(super) fn checked_out_at(repo: &Repo, full_ref: &str) -> Result<Vec<PathBuf>> {
    Ok(checkouts(repo, full_ref)?.into_iter().map(|checkout| checkout.work_dir).collect())
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

/// Returns true if the index of a work tree has moved from the commit `old` to the commit `new`: no
/// path that differs between the commits still has its entry from `old`. An entry that equals
/// neither side was staged by the user and is ignored. Returns false if there is no index.
pub(crate) fn index_has_moved(repo: &Repo, git_dir: &Path, old: &Oid, new: &Oid) -> Result<bool> {
    let local = repo.local();
    let (a, b) = (
        tree::peel_to_tree(&local, object_id(old)?)?,
        tree::peel_to_tree(&local, object_id(new)?)?,
    );
    let path = git_dir.join("index");
    if !path.is_file() {
        return Ok(false);
    }
    let index = gix::index::File::at(&path, local.object_hash(), true, Default::default())
        .with_context(|| format!("cannot read {}", path.display()))?;
    for difference in tree::differences(&local, a, b)? {
        let indexed = index.entry_by_path(difference.path.as_ref()).map(|entry| entry.id);
        let id = |entry: &Option<_>| entry.as_ref().map(|entry: &tree::TreeEntry| entry.id);
        let (before, after) = (id(&difference.before), id(&difference.after));
        if indexed == before && before != after {
            return Ok(false);
        }
    }
    Ok(true)
}
