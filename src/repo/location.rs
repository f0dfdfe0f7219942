//! The paths of a repository: the ones that the caller names, the ones that cannot be used, and
//! the place of the worktrees.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{Repo, link};

/// A repository that the caller names, as `GIT_DIR` and `GIT_WORK_TREE` do for git.
#[derive(Debug)]
pub(crate) struct NamedRepository {
    /// The git folder, or a file that names it. `None` for the one around the current folder.
    pub git_dir: Option<PathBuf>,
    /// The work tree.
    pub work_tree: Option<PathBuf>,
}

impl Repo {
    /// Opens the repository that the caller names. `here` is the current folder, which is the work
    /// tree if nothing names another.
    pub(crate) fn open_named(named: &NamedRepository, here: &Path) -> Result<Self> {
        let mut repo = match &named.git_dir {
            None => Self::discover(here)?,
            Some(path) => {
                let git_dir = link::git_dir_at(path);
                if !git_dir.join("HEAD").is_file() {
                    bail!("not a git repository: '{}'", path.display());
                }
                Self::open(&git_dir, None)?
            }
        };
        let real = |path: &Path| {
            std::fs::canonicalize(path)
                .with_context(|| format!("cannot find the work tree: {}", path.display()))
        };
        if let Some(work_tree) = &named.work_tree {
            let work_tree = real(work_tree)?;
            if repo.linked.is_none() {
                repo.work_dir = Some(work_tree.clone());
            }
            repo.top = Some(work_tree);
        } else if repo.linked.is_some() || !repo.is_bare_or_elsewhere() {
            let here = real(here)?;
            // The main work tree follows landings. Git finds its path only from the inside.
            if repo.linked.is_none() && repo.work_dir.is_none() {
                repo.work_dir = Some(here.clone());
            }
            repo.top = Some(here);
        }
        repo.refuse_odd_paths()?;
        Ok(repo)
    }

    /// Returns true if the repository has no work tree, or if `core.worktree` names one.
    fn is_bare_or_elsewhere(&self) -> bool {
        let local = self.local();
        local.is_bare() || local.config_snapshot().string("core.worktree").is_some()
    }

    /// Returns the git folder of the work tree from which the repository was opened.
    pub(crate) fn own_git_dir(&self) -> &Path {
        self.linked.as_deref().unwrap_or(&self.common_dir)
    }

    /// Refuses a repository whose path cannot be written into git's link files or into messages.
    pub(super) fn refuse_odd_paths(&self) -> Result<()> {
        for path in [Some(self.common_dir()), self.work_dir(), self.top()].into_iter().flatten() {
            let problem = match path.to_str() {
                None => "is not UTF-8",
                Some(text) if text.contains('\n') => "has a line break",
                Some(_) => continue,
            };
            bail!("the path of the repository {problem}; move it to another folder: {path:?}");
        }
        Ok(())
    }

    /// Returns the folder to which `[worktree] root` is relative, and the name that stands for
    /// the repository there. A submodule's worktrees are placed beside the outermost superproject:
    /// inside, git would see them as untracked files of the superproject.
    pub(crate) fn worktree_anchor(&self) -> (PathBuf, String) {
        let own = self.work_dir().unwrap_or_else(|| self.common_dir());
        let mut outermost: Option<PathBuf> = None;
        let mut inner = own.to_path_buf();
        while let Some(outer) = superproject(&inner) {
            outermost = Some(outer.clone());
            inner = outer;
        }
        let Some(outermost) = outermost else { return (own.to_path_buf(), self.name()) };
        let name = |path: &Path| {
            let parts = path.components().filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
                Component::Prefix(_)
                | Component::RootDir
                | Component::CurDir
                | Component::ParentDir => None,
            });
            parts.collect::<Vec<_>>().join("-")
        };
        let outer_name = outermost.file_name().map(|n| name(Path::new(n))).unwrap_or_default();
        let inner_name = own.strip_prefix(&outermost).map(name).unwrap_or_default();
        (outermost, format!("{outer_name}.{inner_name}"))
    }
}

/// Returns the work tree that has a folder as its submodule.
fn superproject(work_dir: &Path) -> Option<PathBuf> {
    let outer = Repo::discover(work_dir.parent()?).ok()?;
    let top = outer.top()?.to_path_buf();
    let path = work_dir.strip_prefix(&top).ok()?.to_str()?;
    let opened = gix::open_opts(outer.own_git_dir(), super::open_options()).ok()?;
    let index = opened.index_or_empty().ok()?;
    let entry = index.entry_by_path(path.into())?;
    (entry.mode == gix::index::entry::Mode::COMMIT).then_some(top)
}
