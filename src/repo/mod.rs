//! The user's repository: reading, writing objects, and managing worktrees.
//!
//! All access goes through `gix`, without a process for each call. This module moves no ref: only
//! the module `store` does. The one exception is a worktree's own `HEAD`, a file in its admin
//! folder.
//!
//! Two rules hold for every function that touches a worktree. Paths come from this program's own
//! records, never from files that an agent can write (`.git`, `commondir`). And no function follows
//! a symbolic link.

mod agent_index;
mod attributes;
mod authored;
mod bulk;
mod changes;
mod checked_out;
mod checkout_faults;
mod conflict_markers;
mod diff;
mod encoding;
mod files;
mod folder_identity;
mod half_moved;
mod handle;
mod heads;
mod link;
mod location;
mod merge;
mod named_files;
mod objects;
mod private_git;
mod reset;
mod seal;
mod snapshot;
mod tree;
mod unsafe_entries;
mod unsaved;
mod walk;
mod worktree;
mod worktree_cache;
mod worktree_record;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod misbehaviour;
#[cfg(test)]
mod misbehaviour_cases;
#[cfg(test)]
mod random_tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::domain::id::Oid;
pub use crate::domain::identity::Identity;
use handle::HandlePool;

pub(crate) use attributes::AttributeFiles;
pub(crate) use authored::{
    Author, AuthoredCommit, EncodedCommit, authored_commit, commit_content, own_commits,
};
pub(crate) use bulk::read_commits;
pub(crate) use changes::{FileChange, file_changes};
pub(crate) use checked_out::{index_has_moved, untracked_in_the_way};
pub(crate) use checkout_faults::{new_checkout_fault, unwritable_file};
pub(crate) use conflict_markers::{MarkerLine, added_conflict_markers};
pub(crate) use diff::{
    PathContent, changed_contents, changed_paths, changed_submodules, unified_diff,
};
pub(crate) use files::{read_plain, remove_any};
pub(crate) use folder_identity::{check_worktrees_folder, claim_worktrees_folder};
pub(crate) use half_moved::{FailedMove, HalfMoved, half_moved};
pub(crate) use handle::RepoHandle;
pub(crate) use heads::{Checkout, checkouts};
pub(crate) use location::NamedRepository;
pub(crate) use merge::{ChangedPaths, apply_change, merge_bases, simple_change};
pub(crate) use named_files::{files_named, names_any};
pub(crate) use objects::{
    Graft, commit_as, commit_info, edit_tree, edit_tree_entries, hash_files, read_blob,
    restore_paths, sha1_hex, stash_parts,
};
pub use objects::{commit, write_blob, write_tree};
pub(crate) use private_git::{PrivateGit, object_stores};
pub(crate) use reset::UntrackedFiles;
pub(crate) use seal::SealKey;
pub(crate) use snapshot::{modified_files, snapshot, snapshot_with_index};
pub(crate) use unsafe_entries::{UnsafeEntry, added_unsafe_entries};
pub(crate) use unsaved::unsaved_work;
pub(crate) use worktree::{
    Worktree, create_worktree, drop_registration, forget_registration, lost_worktree,
    open_worktree, recorded_paths, registrations, remove_worktree, set_damaged_aside,
};
pub(crate) use worktree_cache::set_walk_trust;

/// The content of a worktree's `HEAD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// The full name of a branch (`refs/heads/...`). Setting the `HEAD` does not move the branch.
    Branch(String),
    /// Detached at a commit.
    Detached,
}

/// A repository, opened once at its common folder. Cheap to clone. Each thread takes its own handle
/// with [`Repo::local`].
#[derive(Clone)]
pub struct Repo {
    shared: gix::ThreadSafeRepository,
    handles: HandlePool,
    common_dir: PathBuf,
    work_dir: Option<PathBuf>,
    /// The git folder of the linked worktree from which the repository was opened.
    linked: Option<PathBuf>,
    top: Option<PathBuf>,
}

impl std::fmt::Debug for Repo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repo").field("common_dir", &self.common_dir).finish_non_exhaustive()
    }
}

/// Settings of this program's handles. If a packed-refs file exists, every ref update takes the
/// lock of that file, and git's default timeouts (100 ms and 1 s) were too short for eight writers
/// (measured). `core.safecrlf` only guards line ends; its error would make finished work impossible
/// to save.
const OVERRIDES: [&str; 3] =
    ["core.packedRefsTimeout=30000", "core.filesRefLockTimeout=10000", "core.safecrlf=false"];

/// Returns the options for opening the repository. `GIT_*` variables that point into another
/// repository are ignored: git sets them for hooks and aliases.
fn open_options() -> gix::open::Options {
    let mut permissions = gix::open::Permissions::all();
    permissions.env.objects = gix::sec::Permission::Deny;
    permissions.env.git_prefix = gix::sec::Permission::Deny;
    gix::open::Options::default()
        .permissions(permissions)
        // Git has accepted a repository of another owner before it is used.
        .with(gix::sec::Trust::Full)
        .open_path_as_is(true)
        .config_overrides(OVERRIDES)
}

impl Repo {
    /// Opens the repository of a folder. The folder may be in the work tree or in a linked
    /// worktree, or may be the `.git` folder, a bare repository or a mirror clone.
    pub fn discover(dir: &Path) -> Result<Self> {
        let (found, _trust) = gix::discover::upwards(dir)
            .with_context(|| format!("no git repository here or above: {}", dir.display()))?;
        let (git_dir, top) = found.into_repository_and_work_tree_directories();
        let repo = Self::open(&git_dir, top)?;
        repo.refuse_odd_paths()?;
        Ok(repo)
    }

    /// Opens the repository of a git folder. `top` is the work tree in which the folder was found.
    fn open(git_dir: &Path, top: Option<PathBuf>) -> Result<Self> {
        let common_dir = link::common_dir_of(git_dir)?;
        let common_dir = std::fs::canonicalize(&common_dir).with_context(|| {
            format!("cannot find the repository's folder: {}", common_dir.display())
        })?;
        let shared = gix::ThreadSafeRepository::open_opts(&common_dir, open_options())
            .with_context(|| format!("cannot open the repository: {}", common_dir.display()))?;
        let local = shared.to_thread_local();
        refuse_unsupported(&local, &common_dir)?;
        let bare = local.is_bare();
        let work_dir = match local.workdir() {
            Some(path) if !bare => Some(
                std::fs::canonicalize(path)
                    .with_context(|| format!("cannot find the work tree: {}", path.display()))?,
            ),
            Some(_) | None => None,
        };
        let linked = std::fs::canonicalize(git_dir).ok().filter(|own| *own != common_dir);
        // A separate git folder does not name its work tree. Git finds that work tree only from the
        // inside, by the `.git` file.
        let inside = top.as_deref().filter(|_| linked.is_none() && !bare);
        let work_dir = work_dir.or_else(|| inside.and_then(|top| std::fs::canonicalize(top).ok()));
        let top = match (&linked, top) {
            (Some(_), Some(top)) => std::fs::canonicalize(top).ok(),
            (Some(_), None) | (None, Some(_) | None) => work_dir.clone(),
        };
        Ok(Self { shared, handles: HandlePool::default(), common_dir, work_dir, linked, top })
    }

    /// Returns the linked or main work tree from which the repository was opened, or else the main
    /// work tree. The path is absolute and without links.
    pub fn top(&self) -> Option<&Path> {
        self.top.as_deref()
    }

    /// Returns the folder that all worktrees share: `.git`, or the bare repository itself. The path
    /// is absolute and without links.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// Returns the main work tree, or `None` for a bare repository. The path is absolute and
    /// without links.
    pub fn work_dir(&self) -> Option<&Path> {
        self.work_dir.as_deref()
    }

    /// Returns the name of the repository: the name of its folder, without `.git`.
    pub fn name(&self) -> String {
        let folder = match &self.work_dir {
            Some(work_dir) => work_dir.as_path(),
            // A bare repository may itself be called `.git`. The name is then that of its parent
            // folder.
            None if self.common_dir.file_name().is_some_and(|n| n == ".git") => {
                self.common_dir.parent().unwrap_or(&self.common_dir)
            }
            None => &self.common_dir,
        };
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".git").unwrap_or(&name);
        if name.is_empty() { "repository".into() } else { name.into() }
    }

    /// Takes a handle for this thread.
    pub fn local(&self) -> RepoHandle {
        self.handles.take(&self.shared)
    }

    /// Creates a handle whose settings may be changed.
    fn own_local(&self) -> gix::Repository {
        handle::unpooled(&self.shared)
    }

    /// Resolves a revision to a commit. `HEAD` means the `HEAD` of the work tree from which the
    /// repository was opened.
    pub fn resolve_commit(&self, rev: &str) -> Result<Oid> {
        let own;
        let shared;
        let local: &gix::Repository = if let Some(git_dir) = &self.linked {
            own = gix::open_opts(git_dir, open_options())
                .with_context(|| format!("cannot open the worktree: {}", git_dir.display()))?;
            &own
        } else {
            shared = self.local();
            &shared
        };
        let named = match local.rev_parse_single(rev) {
            Ok(named) => named,
            Err(_) if rev == "HEAD" && local.head().is_ok_and(|head| head.is_unborn()) => {
                bail!("this repository has no commit yet: `git commit` makes the first")
            }
            // The other errors of gix only describe the search, so they are not shown.
            Err(error) if error.to_string().contains("ambiguous") => {
                return Err(error).with_context(|| format!("more than one commit: {rev}"));
            }
            Err(_) => bail!("no commit has this name: {rev}"),
        };
        let found =
            named.object().with_context(|| format!("cannot read what this names: {rev}"))?;
        let commit = found
            .peel_to_kind(gix::object::Kind::Commit)
            .with_context(|| format!("this does not name a commit: {rev}"))?;
        Ok(oid(commit.id))
    }

    /// Returns the tree of a commit. A tree's id is returned unchanged.
    pub fn tree_of(&self, id: &Oid) -> Result<Oid> {
        Ok(oid(tree::peel_to_tree(&self.local(), object_id(id)?)?))
    }

    /// Reads a file in a tree (or in a commit's tree). Returns `None` if there is no *file* at the
    /// path.
    pub fn read_blob_at(&self, tree: &Oid, path: &str) -> Result<Option<Vec<u8>>> {
        let local = self.local();
        let root = tree::peel_to_tree(&local, object_id(tree)?)?;
        match tree::entry_at(&local, root, path.as_bytes())? {
            Some(entry) if entry.mode.is_blob() => {
                Ok(Some(local.find_blob(entry.id).with_context(|| at(path))?.take_data()))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Returns the text of the symbolic link at a path of a tree, or `None` if there is no link.
    pub fn read_link_at(&self, tree: &Oid, path: &str) -> Result<Option<String>> {
        let local = self.local();
        let root = tree::peel_to_tree(&local, object_id(tree)?)?;
        match tree::entry_at(&local, root, path.as_bytes())? {
            Some(entry) if entry.mode.is_link() => {
                let text = local.find_blob(entry.id).with_context(|| at(path))?.take_data();
                Ok(String::from_utf8(text).ok())
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Returns true if a tree has an entry at a path.
    pub fn has_entry(&self, tree: &Oid, path: &str) -> Result<bool> {
        let local = self.local();
        let root = tree::peel_to_tree(&local, object_id(tree)?)?;
        Ok(tree::entry_at(&local, root, path.as_bytes())?.is_some())
    }

    /// Returns the id of a tree's entry at a path.
    pub fn entry_id(&self, tree: &Oid, path: &str) -> Result<Option<Oid>> {
        let local = self.local();
        let root = tree::peel_to_tree(&local, object_id(tree)?)?;
        Ok(tree::entry_at(&local, root, path.as_bytes())?.map(|entry| oid(entry.id)))
    }

    /// Returns the committer from the user's configuration, or a default on a machine without an
    /// identity.
    pub fn identity(&self) -> Identity {
        let local = self.local();
        let configured = match local.committer() {
            Some(Ok(signature)) => Some(Identity {
                name: signature.name.to_string(),
                email: signature.email.to_string(),
            }),
            Some(Err(_)) | None => None,
        };
        configured
            .filter(|i| !i.name.trim().is_empty() && !i.email.trim().is_empty())
            .unwrap_or_else(|| Identity {
                name: "git-harness".into(),
                email: "git-harness@localhost".into(),
            })
    }

    /// Returns every work tree, main or linked, that has the branch checked out or is rebasing it.
    /// A broken admin folder is skipped.
    pub fn checked_out_at(&self, full_ref: &str) -> Result<Vec<PathBuf>> {
        heads::checked_out_at(self, full_ref)
    }

    /// Returns all values of a git setting, as the user has configured it.
    pub fn settings(&self, key: &str) -> Vec<String> {
        let local = self.local();
        let config = local.config_snapshot();
        let values = config.plumbing().raw_values(key).unwrap_or_default();
        values.iter().map(ToString::to_string).collect()
    }

    /// Returns the settings in the repository's own configuration file: keys and values. Returns
    /// none if the file cannot be read.
    pub fn local_settings(&self) -> Vec<(String, String)> {
        let file = self.common_dir.join("config");
        let source = gix::config::Source::Local;
        let Ok(config) = gix::config::File::from_path_no_includes(file, source) else {
            return Vec::new();
        };
        let mut settings = Vec::new();
        for section in config.sections() {
            let header = section.header();
            let name = header.name().to_string();
            let prefix = match header.subsection_name() {
                Some(subsection) => format!("{name}.{subsection}"),
                None => name,
            };
            for key in section.value_names() {
                for value in section.values(&key) {
                    settings.push((format!("{prefix}.{key}"), value.to_string()));
                }
            }
        }
        settings
    }

    /// Returns true if `a` is `b` or one of its ancestors.
    pub fn is_ancestor(&self, a: &Oid, b: &Oid) -> Result<bool> {
        if a == b {
            return Ok(true);
        }
        let local = self.local();
        let (a, b) = (object_id(a)?, object_id(b)?);
        let bases = local.merge_bases_many(a, &[b]).context("cannot read the history")?;
        Ok(bases.iter().any(|base| base.detach() == a))
    }
}

/// Refuses a repository in which writes would be lost or reads would be incomplete.
fn refuse_unsupported(local: &gix::Repository, common_dir: &Path) -> Result<()> {
    let config = local.config_snapshot();
    if let Some(storage) = config.string("extensions.refStorage")
        && storage.as_slice() != b"files"
    {
        bail!(
            "refs of this repository are kept in a format that git-harness cannot write; convert it with \
             `git refs migrate --ref-format=files`: {storage}"
        );
    }
    if local.is_shallow().context("cannot tell whether the clone is shallow")? {
        bail!(
            "this clone is shallow, so that results could not be merged; fetch the rest with \
             `git fetch --unshallow`: {}",
            common_dir.display()
        );
    }
    let promisor = config.plumbing().sections_by_name("remote").into_iter().flatten().any(|s| {
        s.value("promisor").is_some_and(|v| {
            let value = v.to_ascii_lowercase();
            value != b"false" && value != b"no" && value != b"off" && value != b"0"
        })
    });
    if config.string("extensions.partialClone").is_some() || promisor {
        bail!(
            "this is a partial clone, so that files may be missing when they are needed; make a full one with \
             `git clone` without `--filter`: {}",
            common_dir.display()
        );
    }
    Ok(())
}

/// Converts an object id of gix to an id.
fn oid(id: gix::ObjectId) -> Oid {
    Oid::parse(&id.to_string()).expect("gix prints ids as lower-case hex")
}

/// Converts an id to an object id of gix.
fn object_id(id: &Oid) -> Result<gix::ObjectId> {
    gix::ObjectId::from_hex(id.as_str().as_bytes()).with_context(|| format!("not an id here: {id}"))
}

/// Returns an error context that names a path.
fn at(path: impl std::fmt::Display) -> String {
    format!("at this path: {path}")
}
