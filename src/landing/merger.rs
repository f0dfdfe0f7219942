//! The merge of a candidate onto a commit of the target. The result is the same as with `git
//! merge`.
//!
//! If the two sides changed different files and removed nothing, each file is taken from the side
//! that changed it, in memory. Everything else is left to `git merge-tree`: content, renames,
//! several merge bases.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};

use crate::ambient;
use crate::domain::id::Oid;
use crate::process::{TreeMerge, TreeMergeOutput};
use crate::repo::{self, AttributeFiles, Author, AuthoredCommit, ChangedPaths, EncodedCommit};
use crate::store::Store;

/// The maximum number of entries in `Merger::changes`.
const MAX_CHANGES: usize = 256;

/// The merge bases of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MergeBases {
    /// The merge bases that git finds.
    OfHistory,
    /// This commit, which is the only merge base that git would find.
    Single(Oid),
    /// This commit instead of git's merge base: for a branch that is stacked on a squashed branch,
    /// whose commits are not on the target.
    Recorded(Oid),
}

/// The result of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MergeResult {
    /// The merge succeeded.
    Clean {
        /// The merged tree.
        tree: Oid,
    },
    /// The changes of the two sides conflict.
    Conflict {
        /// The conflicting paths, sorted. Bytes that are not UTF-8 are replaced.
        paths: Vec<String>,
    },
}

/// The paths that the target has changed since a merge base; `None` if the target has removed a
/// path or changed a type.
type TargetChanges = Option<Arc<ChangedPaths>>;

/// Merges candidates onto commits of the target.
#[derive(Debug)]
pub struct Merger {
    store: Store,
    attributes: AttributeFiles,
    /// The target's changes by merge base and by the target's tree.
    changes: Mutex<HashMap<(Oid, Oid), TargetChanges>>,
}

impl Merger {
    /// Creates a merger for the repository of a store.
    pub fn new(store: &Store) -> Self {
        let (attributes, changes) = (AttributeFiles::default(), Mutex::default());
        Self { store: store.clone(), attributes, changes }
    }

    /// Returns the `.gitattributes` files of trees.
    pub(crate) fn attributes(&self) -> &AttributeFiles {
        &self.attributes
    }

    /// Merges a candidate onto a commit.
    pub(crate) fn merge(
        &self,
        bases: &MergeBases,
        onto: &Oid,
        candidate: &Oid,
    ) -> Result<MergeResult> {
        if let Some(base) = self.single_base(bases, onto, candidate)?
            && let Some(tree) = self.by_path(&base, onto, candidate)?
        {
            return Ok(MergeResult::Clean { tree });
        }
        self.by_git(bases, onto, candidate, true)
    }

    /// Returns the paths in which a candidate conflicts with a commit, or `None` if the two merge
    /// cleanly. No object of the merge is kept.
    pub(crate) fn conflict(
        &self,
        bases: &MergeBases,
        onto: &Oid,
        candidate: &Oid,
    ) -> Result<Option<Vec<String>>> {
        if let Some(base) = self.single_base(bases, onto, candidate)?
            && let Some(change) = repo::simple_change(self.store.repo(), &base, candidate)?
            && let (_, Some(paths)) = self.target_changes(&base, onto)?
            && paths.is_disjoint(&change)
        {
            return Ok(None);
        }
        Ok(match self.by_git(bases, onto, candidate, false)? {
            MergeResult::Clean { .. } => None,
            MergeResult::Conflict { paths } => Some(paths),
        })
    }

    /// Reads a commit's author and message. git itself converts other encodings to UTF-8.
    pub(crate) fn authored_commit(&self, id: &Oid) -> Result<AuthoredCommit> {
        let EncodedCommit { commit, encoding } = repo::authored_commit(self.store.repo(), id)?;
        if encoding.is_none_or(|name| name.eq_ignore_ascii_case("utf-8")) {
            return Ok(commit);
        }
        let args = ["log", "-1", "--no-show-signature", "--encoding=UTF-8"];
        let args = [&args[..], &["--format=%an%x00%ae%x00%B", id.as_str()]].concat();
        let output = self.store.git().output(&args, b"")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut fields = text.splitn(3, '\0').map(str::to_owned);
        let (Some(0), Some(name), Some(email), Some(message)) =
            (output.code, fields.next(), fields.next(), fields.next())
        else {
            bail!("git cannot read {}: {}", id.short(), output.stderr);
        };
        Ok(AuthoredCommit { author: Author { name, email, ..commit.author }, message })
    }

    /// Returns the merge base, or the first of several.
    pub(crate) fn first_base(
        &self,
        bases: &MergeBases,
        onto: &Oid,
        candidate: &Oid,
    ) -> Result<Oid> {
        Ok(self.all_bases(bases, onto, candidate)?.swap_remove(0))
    }

    /// Returns the merge base, or `None` if there are several.
    fn single_base(&self, bases: &MergeBases, onto: &Oid, candidate: &Oid) -> Result<Option<Oid>> {
        let mut bases = self.all_bases(bases, onto, candidate)?;
        Ok(bases.pop().filter(|_| bases.is_empty()))
    }

    /// Returns the merge bases, at least one.
    fn all_bases(&self, bases: &MergeBases, onto: &Oid, candidate: &Oid) -> Result<Vec<Oid>> {
        match bases {
            MergeBases::Single(base) | MergeBases::Recorded(base) => Ok(vec![base.clone()]),
            MergeBases::OfHistory => {
                let bases = repo::merge_bases(self.store.repo(), onto, candidate)?;
                if bases.is_empty() {
                    bail!("{} has no history in common with the target", candidate.short());
                }
                Ok(bases)
            }
        }
    }

    /// Returns the paths that the target changed from `base` to `onto`, with their key in
    /// `changes`.
    fn target_changes(&self, base: &Oid, onto: &Oid) -> Result<((Oid, Oid), TargetChanges)> {
        let repo = self.store.repo();
        let key = (base.clone(), repo.tree_of(onto)?);
        let known = |map: &HashMap<_, TargetChanges>| map.get(&key).cloned();
        if let Some(changes) = known(&self.remembered()) {
            return Ok((key, changes));
        }
        let change = repo::simple_change(repo, base, onto)?;
        let changes = change.map(|change| Arc::new(ChangedPaths::of(&change)));
        self.remember(key.clone(), changes.clone());
        Ok((key, changes))
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<(Oid, Oid), TargetChanges>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, key: (Oid, Oid), changes: TargetChanges) {
        let mut remembered = self.remembered();
        if remembered.len() >= MAX_CHANGES {
            remembered.clear();
        }
        remembered.insert(key, changes);
    }

    /// Merges by path and returns the merged tree. Returns `None` if git's result might differ.
    fn by_path(&self, base: &Oid, onto: &Oid, candidate: &Oid) -> Result<Option<Oid>> {
        let repo = self.store.repo();
        let Some(change) = repo::simple_change(repo, base, candidate)? else { return Ok(None) };
        let (key, Some(paths)) = self.target_changes(base, onto)? else { return Ok(None) };
        if !paths.is_disjoint(&change) {
            return Ok(None);
        }
        let tree = repo::apply_change(repo, onto, &change)?;
        // The next candidate is merged onto this tree. Removing the entry usually makes this the
        // only owner of the set, so that `unwrap_or_clone` need not copy it.
        self.remembered().remove(&key);
        let mut paths = Arc::unwrap_or_clone(paths);
        paths.add(&change);
        self.remember((key.0, tree.clone()), Some(Arc::new(paths)));
        Ok(Some(tree))
    }

    /// Merges by `git merge-tree`, with the attributes of `onto`. If `keep` is false, the merged
    /// objects are discarded.
    fn by_git(
        &self,
        bases: &MergeBases,
        onto: &Oid,
        candidate: &Oid,
        keep: bool,
    ) -> Result<MergeResult> {
        let git = self.store.git();
        let attributes = self.attributes_folder(onto)?;
        let (base, ours, theirs) = match bases {
            MergeBases::OfHistory | MergeBases::Single(_) => {
                (None, onto.clone(), candidate.clone())
            }
            MergeBases::Recorded(base) if git.takes_merge_base() => {
                (Some(base.as_str()), onto.clone(), candidate.clone())
            }
            // This version of git has no option for the merge base, so make two commits whose only
            // merge base is the recorded one.
            MergeBases::Recorded(base) => {
                (None, self.on_base(base, onto)?, self.on_base(base, candidate)?)
            }
        };
        let (ours, theirs, attributes) = (ours.as_str(), theirs.as_str(), attributes.as_path());
        let merge = TreeMerge { base, ours, theirs, attributes, keep };
        Ok(match git.merge_tree(&merge)? {
            TreeMergeOutput::Clean(tree) => MergeResult::Clean { tree: Oid::parse(&tree)? },
            TreeMergeOutput::Conflict(paths) => {
                MergeResult::Conflict { paths: paths.into_iter().collect() }
            }
        })
    }

    /// Creates a commit with the tree of `commit` whose only parent is `base`.
    fn on_base(&self, base: &Oid, commit: &Oid) -> Result<Oid> {
        let repo = self.store.repo();
        let tree = repo.tree_of(commit)?;
        let parents = std::slice::from_ref(base);
        repo::commit(repo, &tree, parents, "one side of a merge", &repo.identity(), 0)
    }

    /// Returns a folder with the `.gitattributes` files of a commit and nothing else. Folders are
    /// shared by all commits with the same files and are never deleted.
    fn attributes_folder(&self, commit: &Oid) -> Result<PathBuf> {
        let repo = self.store.repo();
        let files = self.attributes.of(repo, commit)?;
        let mut list = Vec::new();
        for (path, blob) in &files {
            list.extend_from_slice(path);
            list.push(0);
            list.extend_from_slice(blob.as_str().as_bytes());
            list.push(0);
        }
        let root = self.store.local().attributes();
        let folder = root.join(repo::sha1_hex([list.as_slice()])?);
        if folder.is_dir() {
            return Ok(folder);
        }
        // The folder is renamed only when it is complete, so a crash leaves no partial folder under
        // this name.
        let new = root.join(format!("new.{}", ambient::nonce()));
        let context = || format!("cannot write the attributes to {}", new.display());
        std::fs::create_dir_all(&new).with_context(context)?;
        for (path, blob) in &files {
            let to = new.join(std::ffi::OsStr::from_bytes(path));
            to.parent().map_or(Ok(()), std::fs::create_dir_all).with_context(context)?;
            std::fs::write(&to, repo::read_blob(repo, blob)?).with_context(context)?;
        }
        match std::fs::rename(&new, &folder) {
            Err(error) if !folder.is_dir() => Err(error).with_context(context),
            Err(_) => {
                std::fs::remove_dir_all(&new).ok();
                Ok(folder)
            }
            Ok(()) => Ok(folder),
        }
    }
}
