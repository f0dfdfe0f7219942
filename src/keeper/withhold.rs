//! Known secrets in the work of an agent. A file that has one is left out of every commit, and kept
//! in a private folder of this program.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::leftover::withheld_folder;
use crate::domain::id::Oid;
use crate::process::{Environ, KnownSecrets};
use crate::repo::{self, PathContent, Repo};
use crate::wire::keeper::{Assignment, WithheldFile, Work};

/// The largest file that is searched for secrets.
const MAX_SEARCHED: u64 = 64 * 1024 * 1024;

/// The largest number of an agent's commits that are searched. A longer history is not kept.
const MAX_COMMITS: usize = 1_000;

/// The secrets that must not get into a commit, and the folder for the files that have them.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    /// The secrets.
    pub known: KnownSecrets,
    /// The folder, which may not exist.
    pub folder: PathBuf,
}

impl Secrets {
    /// Returns the secrets of an assignment's session: the variables that the job passes on.
    pub(crate) fn of(assignment: &Assignment, env: &Environ) -> Result<Self> {
        let (session, name) = match &assignment.work {
            Work::Attempt(work) => (&work.session, format!("{}.{}", work.task, work.attempt)),
            Work::Evaluation(_) | Work::Checks(_) => return Ok(Self::default()),
        };
        let values = session.secrets.iter().map(|name| (name.as_str(), env.value(name)));
        let values = values.filter_map(|(name, value)| Some((name, value?.as_bytes())));
        let known = KnownSecrets::new(values).context("cannot search for secrets")?;
        let folder = withheld_folder(&assignment.worktree.index, &name);
        Ok(Self { known, folder })
    }
}

/// A tree without the files that have secrets.
#[derive(Debug)]
pub(super) struct CleanTree {
    /// The tree.
    pub tree: Oid,
    /// The files that were left out. In the tree, they are as in the base, or missing.
    pub withheld: Vec<WithheldFile>,
}

/// Returns the tree with some files as they are in `base`: those that have a secret and have none
/// in `base`. A copy of each of these files is kept.
pub(super) fn withhold(
    repo: &Repo,
    (base, tree): (&Oid, &Oid),
    secrets: &Secrets,
) -> Result<CleanTree> {
    let withheld = find(repo, (base, tree), &secrets.known)?;
    let mut edits = Vec::new();
    for path in withheld.iter().map(|file| &file.path).collect::<BTreeSet<_>>() {
        let bytes = repo.read_blob_at(tree, path)?.unwrap_or_default();
        keep(secrets, path, &bytes)
            .with_context(|| format!("cannot keep a file with a secret: {path}"))?;
        edits.push((path.clone(), repo.entry_id(base, path)?));
    }
    let tree = match edits.is_empty() {
        true => tree.clone(),
        false => repo::edit_tree(repo, Some(tree), &edits)?,
    };
    Ok(CleanTree { tree, withheld })
}

/// Returns true if no commit from `base` to `head` has a secret.
pub(super) fn is_clean_history(
    repo: &Repo,
    (base, head): (&Oid, &Oid),
    secrets: &Secrets,
) -> Result<bool> {
    if secrets.known.is_empty() || base == head {
        return Ok(true);
    }
    let commits = repo::own_commits(repo, head, &[base], MAX_COMMITS)?;
    for (commit, _) in &commits {
        let info = repo::commit_info(repo, commit)?;
        let before = info.parents.first().unwrap_or(base);
        let has_secret = secrets.known.find(info.message.as_bytes()).is_some();
        if has_secret || !find(repo, (before, commit), &secrets.known)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(commits.len() < MAX_COMMITS)
}

/// Finds the files that have a secret in `tree` and none in `base`.
fn find(
    repo: &Repo,
    (base, tree): (&Oid, &Oid),
    known: &KnownSecrets,
) -> Result<Vec<WithheldFile>> {
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let (base, tree) = (repo.tree_of(base)?, repo.tree_of(tree)?);
    let mut found = Vec::new();
    for (path, content) in repo::changed_contents(repo, &base, &tree)? {
        let is_searched = match content {
            PathContent::File(size) => size <= MAX_SEARCHED,
            PathContent::Nothing | PathContent::Submodule => false,
        };
        if !is_searched {
            continue;
        }
        let link =
            || Ok::<_, anyhow::Error>(repo.read_link_at(&tree, &path)?.map(String::into_bytes));
        let bytes = match repo.read_blob_at(&tree, &path)? {
            Some(bytes) => Some(bytes),
            None => link()?,
        };
        let Some(bytes) = bytes else { continue };
        let Some((line, variable)) = known.find(&bytes) else { continue };
        let before = repo.read_blob_at(&base, &path).ok().flatten().unwrap_or_default();
        if known.find(&before).is_none() {
            found.push(WithheldFile { path, line, variable: variable.to_owned() });
        }
    }
    Ok(found)
}

/// Writes a copy of a file, which only this user can read.
fn keep(secrets: &Secrets, path: &str, bytes: &[u8]) -> Result<()> {
    let to = secrets.folder.join(path);
    let parent = to.parent().unwrap_or(&secrets.folder);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    repo::remove_any(&to)?;
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to)?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}
