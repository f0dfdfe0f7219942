//! Trees: lookups, comparison, and editing.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::objs::tree::{EntryKind, EntryMode};

/// An entry of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TreeEntry {
    pub mode: EntryMode,
    pub id: ObjectId,
}

/// A path that differs between two trees. At least one side exists. Neither side is a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathDifference {
    pub path: BString,
    pub before: Option<TreeEntry>,
    pub after: Option<TreeEntry>,
}

/// A path with its new entry (`Some`), or a path to remove (`None`).
pub(super) type TreeEdit = (BString, Option<(EntryKind, ObjectId)>);

/// Returns the tree of a commit or tag, or the tree itself.
pub(super) fn peel_to_tree(local: &gix::Repository, id: ObjectId) -> Result<ObjectId> {
    let object = local.find_object(id).with_context(|| format!("no such object: {id}"))?;
    if object.kind == gix::object::Kind::Tree {
        return Ok(id);
    }
    let tree = object.peel_to_tree().with_context(|| format!("this has no tree: {id}"))?;
    Ok(tree.id)
}

/// Returns the entries of a tree, by name.
fn entries(local: &gix::Repository, id: ObjectId) -> Result<BTreeMap<BString, TreeEntry>> {
    let tree = local.find_tree(id).with_context(|| format!("cannot read a tree: {id}"))?;
    let decoded = tree.decode().with_context(|| format!("cannot read a tree: {id}"))?;
    Ok(decoded
        .entries
        .iter()
        .map(|e| (e.filename.to_owned(), TreeEntry { mode: e.mode, id: e.oid.to_owned() }))
        .collect())
}

/// Returns the entry at a path. Reads one tree for each folder of the path.
pub(super) fn entry_at(
    local: &gix::Repository,
    root: ObjectId,
    path: &[u8],
) -> Result<Option<TreeEntry>> {
    let mut at = TreeEntry { mode: EntryKind::Tree.into(), id: root };
    for name in path.split(|b| *b == b'/') {
        if !at.mode.is_tree() {
            return Ok(None);
        }
        let tree =
            local.find_tree(at.id).with_context(|| format!("cannot read a tree: {}", at.id))?;
        let decoded = tree.decode().with_context(|| format!("cannot read a tree: {}", tree.id))?;
        let Some(found) = decoded.entries.iter().find(|e| e.filename == name.as_bstr()) else {
            return Ok(None);
        };
        at = TreeEntry { mode: found.mode, id: found.oid.to_owned() };
    }
    Ok(Some(at))
}

/// Returns every path that differs between two trees, sorted. Renames are not detected. The cost
/// follows the difference: equal folders are not read.
pub(super) fn differences(
    local: &gix::Repository,
    before: ObjectId,
    after: ObjectId,
) -> Result<Vec<PathDifference>> {
    let mut out = Vec::new();
    compare(local, Some(before), Some(after), BStr::new(""), &mut out)?;
    out.sort_by(|a, b| a.path.cmp(&b.path));
    // Paths are unique: the files of a folder that replaces a file have other paths than the file.
    Ok(out)
}

fn compare(
    local: &gix::Repository,
    before: Option<ObjectId>,
    after: Option<ObjectId>,
    prefix: &BStr,
    out: &mut Vec<PathDifference>,
) -> Result<()> {
    if before == after {
        return Ok(());
    }
    let old = before.map(|id| entries(local, id)).transpose()?.unwrap_or_default();
    let mut new = after.map(|id| entries(local, id)).transpose()?.unwrap_or_default();
    let mut pairs: Vec<(BString, Option<TreeEntry>, Option<TreeEntry>)> = Vec::new();
    for (name, entry) in old {
        let other = new.remove(&name);
        if other != Some(entry) {
            pairs.push((name, Some(entry), other));
        }
    }
    pairs.extend(new.into_iter().map(|(name, entry)| (name, None, Some(entry))));
    for (name, a, b) in pairs {
        let path = join(prefix, name.as_bstr());
        let subtree = |e: Option<TreeEntry>| e.filter(|e| e.mode.is_tree()).map(|e| e.id);
        let leaf = |e: Option<TreeEntry>| e.filter(|e| !e.mode.is_tree());
        if subtree(a).is_some() || subtree(b).is_some() {
            compare(local, subtree(a), subtree(b), path.as_bstr(), out)?;
        }
        if leaf(a).is_some() || leaf(b).is_some() {
            out.push(PathDifference { path, before: leaf(a), after: leaf(b) });
        }
    }
    Ok(())
}

/// Returns `prefix/name`, or `name` at the root.
pub(super) fn join(prefix: &BStr, name: &BStr) -> BString {
    let mut path = BString::from(Vec::with_capacity(prefix.len() + 1 + name.len()));
    if !prefix.is_empty() {
        path.extend_from_slice(prefix);
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Writes a tree with some paths set or removed. Removals come first, so that one call can turn a
/// file into a folder, or a folder into a file. Empty folders are removed.
pub(super) fn apply(
    local: &gix::Repository,
    base: ObjectId,
    edits: &[TreeEdit],
) -> Result<ObjectId> {
    if edits.is_empty() {
        return Ok(base);
    }
    let root = local.find_tree(base).with_context(|| format!("cannot read a tree: {base}"))?;
    // Use the editor without checks: the checking editor looks up every neighbour of a changed file
    // in the object database.
    let mut editor = root.edit().context("cannot read a tree")?.detach();
    for (path, _) in edits.iter().filter(|(_, entry)| entry.is_none()) {
        editor.remove(components(path)).with_context(|| super::at(path))?;
    }
    for (path, entry) in edits {
        if let Some((kind, id)) = entry {
            editor.upsert(components(path), *kind, *id).with_context(|| super::at(path))?;
        }
    }
    editor.write(|tree| super::objects::write(local, tree))
}

fn components(path: &BString) -> impl Iterator<Item = &BStr> {
    path.split(|b| *b == b'/').map(ByteSlice::as_bstr)
}

/// Refuses a path that git could not check out: empty parts, `.`, `..`, `.git`.
pub(super) fn check_path(path: &[u8]) -> Result<()> {
    for name in path.split(|b| *b == b'/') {
        if gix::validate::path::component(name.as_bstr(), None, name_rules()).is_err() {
            bail!("git does not allow this path in a tree: {}", path.as_bstr());
        }
    }
    Ok(())
}

/// Returns the rules for names in a tree: a name must be safe on the file systems that git protects
/// by default.
pub(super) fn name_rules() -> gix::validate::path::component::Options {
    gix::validate::path::component::Options {
        protect_windows: false,
        protect_hfs: true,
        protect_ntfs: true,
    }
}
