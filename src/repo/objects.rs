//! Objects: blobs, trees and commits, read and written. No ref is touched.

use anyhow::{Context, Result, bail};
use gix::ObjectId;
use gix::bstr::BString;
use gix::objs::tree::EntryKind;

use super::authored::Author;
use super::{Identity, Repo, object_id, oid, tree};
use crate::domain::id::Oid;

/// The content of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitInfo {
    /// The tree of the commit.
    pub tree: Oid,
    /// The parents of the commit, in order.
    pub parents: Vec<Oid>,
    /// The whole message. Bytes that are not UTF-8 are replaced.
    pub message: String,
    /// The committer's time, in seconds since the Unix epoch.
    pub time: i64,
}

/// The largest number of attempts to write an object. `git repack` and `git prune` can remove an
/// empty fan-out folder between its creation and the rename of the object into it.
const WRITE_ATTEMPTS: usize = 8;

/// Returns the SHA-1 of the concatenated parts in hex. The object format of the repository does not
/// matter.
pub(crate) fn sha1_hex<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<String> {
    let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
    parts.into_iter().for_each(|part| hasher.update(part));
    Ok(hasher.try_finalize().context("cannot hash with SHA-1")?.to_string())
}

/// Returns a hash of files: of the path, the length and the content of each, in order.
pub(crate) fn hash_files<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<String> {
    let mut bytes = Vec::new();
    for (path, content) in files {
        bytes.extend_from_slice(path.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&(content.len() as u64).to_be_bytes());
        bytes.extend_from_slice(content);
    }
    sha1_hex([bytes.as_slice()])
}

/// Repeats a write that fails because a folder vanished, up to [`WRITE_ATTEMPTS`] attempts in all.
pub(super) fn retry_write<T>(mut write: impl FnMut() -> gix::Result<T>) -> Result<T> {
    let mut attempt = 1;
    loop {
        match write() {
            Ok(written) => return Ok(written),
            Err(error) => {
                let vanished = error
                    .downcast_any_ref::<std::io::Error>()
                    .is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound);
                if !vanished || attempt == WRITE_ATTEMPTS {
                    return Err(error).context("cannot write to the object database");
                }
                attempt += 1;
            }
        }
    }
}

/// Writes an object.
pub(super) fn write(
    local: &gix::Repository,
    object: impl gix::objs::WriteTo + Copy,
) -> Result<ObjectId> {
    retry_write(|| local.write_object(object).map(gix::Id::detach))
}

/// Writes a blob.
pub fn write_blob(repo: &Repo, content: &[u8]) -> Result<Oid> {
    let local = repo.local();
    Ok(oid(retry_write(|| local.write_blob(content).map(gix::Id::detach))?))
}

/// Reads a blob.
pub(crate) fn read_blob(repo: &Repo, id: &Oid) -> Result<Vec<u8>> {
    let local = repo.local();
    let mut blob =
        local.find_blob(object_id(id)?).with_context(|| format!("no file has this id: {id}"))?;
    Ok(blob.take_data())
}

/// Writes a tree of plain files. Paths have `/` between their parts.
pub fn write_tree(repo: &Repo, entries: &[(String, Oid)]) -> Result<Oid> {
    let edits: Vec<_> = entries.iter().map(|(p, id)| (p.clone(), Some(id.clone()))).collect();
    edit_tree(repo, None, &edits)
}

/// Writes a tree that is `base_tree` with some paths set to a blob (`Some`) or removed (`None`).
/// Without `base_tree`, starts from the empty tree. An executable file or a link keeps its mode;
/// new paths are plain files.
pub(crate) fn edit_tree(
    repo: &Repo,
    base_tree: Option<&Oid>,
    upserts: &[(String, Option<Oid>)],
) -> Result<Oid> {
    let local = repo.local();
    let base = match base_tree {
        Some(id) => tree::peel_to_tree(&local, object_id(id)?)?,
        None => empty_tree(&local),
    };
    let mut edits: Vec<tree::TreeEdit> = Vec::with_capacity(upserts.len());
    for (path, id) in upserts {
        tree::check_path(path.as_bytes())?;
        let entry = match id {
            None => None,
            Some(id) => {
                let kind = match base_tree {
                    None => EntryKind::Blob,
                    Some(_) => match tree::entry_at(&local, base, path.as_bytes())? {
                        Some(old) if old.mode.is_blob_or_symlink() => old.mode.kind(),
                        Some(_) | None => EntryKind::Blob,
                    },
                };
                Some((kind, object_id(id)?))
            }
        };
        edits.push((BString::from(path.as_str()), entry));
    }
    if base_tree.is_none() {
        // The result may be the empty tree, which is not stored in every repository.
        write(&local, &gix::objs::Tree::empty())?;
    }
    Ok(oid(tree::apply(&local, base, &edits)?))
}

/// A path of a tree and its new object. The bool is true if the object is a tree. `None` removes
/// the path.
pub(crate) type Graft = (String, Option<(Oid, bool)>);

/// Writes a tree that is `base_tree` with some paths set to existing blobs or trees, or removed.
/// The cost follows the change: other entries are not read.
pub(crate) fn edit_tree_entries(repo: &Repo, base_tree: &Oid, grafts: &[Graft]) -> Result<Oid> {
    let local = repo.local();
    let mut edits: Vec<tree::TreeEdit> = Vec::with_capacity(grafts.len());
    for (path, what) in grafts {
        tree::check_path(path.as_bytes())?;
        let entry = match what {
            None => None,
            Some((id, is_tree)) => {
                let kind = if *is_tree { EntryKind::Tree } else { EntryKind::Blob };
                Some((kind, object_id(id)?))
            }
        };
        edits.push((BString::from(path.as_str()), entry));
    }
    Ok(oid(tree::apply(&local, object_id(base_tree)?, &edits)?))
}

/// Writes `tree` with some paths as they are in `from`: those that differ and for which `selects`
/// returns true. Returns the new tree and these paths.
pub(crate) fn restore_paths(
    repo: &Repo,
    tree: &Oid,
    from: &Oid,
    selects: &dyn Fn(&str) -> bool,
) -> Result<(Oid, Vec<String>)> {
    let local = repo.local();
    let tree = tree::peel_to_tree(&local, object_id(tree)?)?;
    let from = tree::peel_to_tree(&local, object_id(from)?)?;
    let (mut edits, mut paths): (Vec<tree::TreeEdit>, _) = (Vec::new(), Vec::new());
    for difference in tree::differences(&local, from, tree)? {
        let path = difference.path.to_string();
        if selects(&path) {
            let entry = difference.before.map(|entry| (entry.mode.kind(), entry.id));
            edits.push((difference.path, entry));
            paths.push(path);
        }
    }
    Ok((oid(tree::apply(&local, tree, &edits)?), paths))
}

/// Returns the id of the empty tree.
pub(super) fn empty_tree(local: &gix::Repository) -> ObjectId {
    ObjectId::empty_tree(local.object_hash())
}

/// Writes a commit object. Author and committer are the same, and the time is UTC.
pub fn commit(
    repo: &Repo,
    tree: &Oid,
    parents: &[Oid],
    message: &str,
    author: &Identity,
    time_secs: i64,
) -> Result<Oid> {
    let who = signature(author, time_secs);
    write_commit(repo, tree, parents, message, who.clone(), who)
}

/// Writes a commit object with another author than the committer.
pub(crate) fn commit_as(
    repo: &Repo,
    author: &Author,
    tree: &Oid,
    parents: &[Oid],
    message: &str,
    committer: &Identity,
    time_secs: i64,
) -> Result<Oid> {
    let author = gix::actor::Signature {
        name: printable(&author.name).into(),
        email: printable(&author.email).into(),
        time: gix::date::Time { seconds: author.seconds, offset: author.offset },
    };
    write_commit(repo, tree, parents, message, author, signature(committer, time_secs))
}

fn signature(who: &Identity, seconds: i64) -> gix::actor::Signature {
    gix::actor::Signature {
        name: printable(&who.name).into(),
        email: printable(&who.email).into(),
        time: gix::date::Time { seconds, offset: 0 },
    }
}

fn write_commit(
    repo: &Repo,
    tree: &Oid,
    parents: &[Oid],
    message: &str,
    author: gix::actor::Signature,
    committer: gix::actor::Signature,
) -> Result<Oid> {
    let local = repo.local();
    let tree = object_id(tree)?;
    // A commit whose tree is missing would break every later `git fsck` of the user.
    if !local.has_object(tree) {
        bail!("cannot commit a tree that is not there: {tree}");
    }
    if tree.is_empty_tree() {
        write(&local, &gix::objs::Tree::empty())?;
    }
    let mut message = message.to_owned();
    if !message.ends_with('\n') {
        message.push('\n');
    }
    let commit = gix::objs::Commit {
        tree,
        parents: parents.iter().map(object_id).collect::<Result<_>>()?,
        author,
        committer,
        encoding: None,
        message: message.into(),
        extra_headers: Vec::new(),
    };
    Ok(oid(write(&local, &commit)?))
}

/// Removes the characters that would end the field of a signature, as git does.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() && *c != '<' && *c != '>')
        .collect::<String>()
        .trim()
        .into()
}

/// Returns the trees of an entry of the stash with the names under which they are kept: the files,
/// what was staged if it differs, and the untracked files if there are any.
pub(crate) fn stash_parts(repo: &Repo, entry: &Oid, name: &str) -> Result<Vec<(String, Oid)>> {
    let info = commit_info(repo, entry)?;
    let mut parts = vec![(name.to_owned(), info.tree.clone())];
    let tree_of = |parent: usize| info.parents.get(parent).map(|id| repo.tree_of(id)).transpose();
    let (before, staged) = (tree_of(0)?, tree_of(1)?);
    if let Some(staged) = staged.filter(|tree| *tree != info.tree && before.as_ref() != Some(tree))
    {
        parts.push((format!("{name}-index"), staged));
    }
    parts.extend(tree_of(2)?.map(|untracked| (format!("{name}-untracked"), untracked)));
    Ok(parts)
}

/// Reads a commit.
pub(crate) fn commit_info(repo: &Repo, id: &Oid) -> Result<CommitInfo> {
    let local = repo.local();
    let commit = local
        .find_commit(object_id(id)?)
        .with_context(|| format!("no commit has this id: {id}"))?;
    let decoded = commit.decode().with_context(|| format!("cannot read a commit: {id}"))?;
    commit_info_of(&decoded).with_context(|| format!("a commit without a time: {id}"))
}

/// Extracts the content of a decoded commit.
pub(super) fn commit_info_of(commit: &gix::objs::CommitRef<'_>) -> Result<CommitInfo> {
    Ok(CommitInfo {
        tree: oid(commit.tree()),
        parents: commit.parents().map(oid).collect(),
        message: commit.message.to_string(),
        time: commit.committer()?.seconds(),
    })
}
