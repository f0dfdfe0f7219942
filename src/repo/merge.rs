//! The part of merging that needs no content: each path is taken from the side that changed it.
//! The result is a tree. No work tree, index or ref is touched.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use gix::bstr::{BString, ByteSlice};

use super::{Repo, object_id, oid, tree};
use crate::domain::id::Oid;

/// Returns the best common ancestors of two commits: several in a criss-cross history, none if the
/// two share no history.
pub(crate) fn merge_bases(repo: &Repo, a: &Oid, b: &Oid) -> Result<Vec<Oid>> {
    if a == b {
        return Ok(vec![a.clone()]);
    }
    let local = repo.local();
    let bases = local
        .merge_bases_many(object_id(a)?, &[object_id(b)?])
        .context("cannot read the history")?;
    Ok(bases.iter().map(|base| oid(base.detach())).collect())
}

/// The change of one side of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SideChange {
    /// The changed paths with their new entries.
    edits: Vec<tree::TreeEdit>,
}

/// Returns the change from `base` to `side`, two commits or trees. Returns `None` if the change
/// removes a path or changes the type of one, or concerns a submodule. A rename removes a path.
pub(crate) fn simple_change(repo: &Repo, base: &Oid, side: &Oid) -> Result<Option<SideChange>> {
    let local = repo.local();
    let base = tree::peel_to_tree(&local, object_id(base)?)?;
    let side = tree::peel_to_tree(&local, object_id(side)?)?;
    let mut edits = Vec::new();
    for change in tree::differences(&local, base, side)? {
        let Some(after) = change.after else { return Ok(None) };
        let same_type = change.before.is_none_or(|before| {
            before.mode.is_link() == after.mode.is_link() && !before.mode.is_commit()
        });
        if !same_type || after.mode.is_commit() {
            return Ok(None);
        }
        edits.push((change.path, Some((after.mode.kind(), after.id))));
    }
    Ok(Some(SideChange { edits }))
}

/// The paths that one side of a merge changes, none of which the side removes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChangedPaths(BTreeSet<BString>);

impl ChangedPaths {
    /// Returns the paths of a change.
    pub(crate) fn of(change: &SideChange) -> Self {
        let mut paths = Self::default();
        paths.add(change);
        paths
    }

    /// Adds the paths of a change.
    pub(crate) fn add(&mut self, change: &SideChange) {
        self.0.extend(change.edits.iter().map(|(path, _)| path.clone()));
    }

    /// Returns true if no path of the change is one of these paths, a folder of one, or below one.
    pub(crate) fn is_disjoint(&self, change: &SideChange) -> bool {
        change.edits.iter().all(|(path, _)| {
            let mut folder = path.clone();
            folder.push(b'/');
            let next = self.0.range(folder.clone()..).next();
            let is_folder = next.is_some_and(|other| other.starts_with(&folder));
            let mut above = path.find_iter(b"/").map(|end| path[..end].as_bstr());
            !is_folder
                && !self.0.contains(path)
                && !above.any(|folder| self.0.contains(&BString::from(folder)))
        })
    }
}

/// Writes the tree of `ours`, a commit or tree, with the other side's change.
///
/// The result is git's own if the two sides changed different files and removed none: git takes
/// each changed path from the side that changed it, before it looks at any content, and only a
/// removed path can be the source of a rename.
pub(crate) fn apply_change(repo: &Repo, ours: &Oid, change: &SideChange) -> Result<Oid> {
    let local = repo.local();
    let ours = tree::peel_to_tree(&local, object_id(ours)?)?;
    Ok(oid(tree::apply(&local, ours, &change.edits)?))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::RepoFixture;
    use super::*;

    /// Merges two sides by path if that is allowed.
    fn by_path(fx: &RepoFixture, [base, ours, theirs]: [&[(&str, &str)]; 3]) -> Option<Oid> {
        let [base, ours, theirs] = [base, ours, theirs].map(|files| fx.tree(files));
        let paths = ChangedPaths::of(&simple_change(&fx.repo, &base, &ours).unwrap()?);
        let change = simple_change(&fx.repo, &base, &theirs).unwrap()?;
        let disjoint = paths.is_disjoint(&change);
        disjoint.then(|| apply_change(&fx.repo, &ours, &change).unwrap())
    }

    #[test]
    fn disjoint_edits_and_additions_merge_by_path() {
        let fx = RepoFixture::new();
        let base: &[_] = &[("a", "1"), ("d/b", "1"), ("d/c", "1")];
        let ours: &[_] = &[("a", "2"), ("d/b", "1"), ("d/c", "1"), ("d.new", "1")];
        let theirs: &[_] = &[("a", "1"), ("d/b", "2"), ("d/c", "1"), ("e/new", "1")];
        let want = [("a", "2"), ("d/b", "2"), ("d/c", "1"), ("d.new", "1"), ("e/new", "1")];
        assert_eq!(by_path(&fx, [base, ours, theirs]), Some(fx.tree(&want)));
    }

    #[test]
    fn shared_paths_folders_removals_and_new_types_do_not_merge_by_path() {
        let fx = RepoFixture::new();
        let base: &[_] = &[("a", "1"), ("b", "1")];
        let edit: &[_] = &[("a", "1"), ("b", "2")];
        let removal: &[_] = &[("b", "1")];
        let rename: &[_] = &[("c", "1"), ("b", "1")];
        let file: &[_] = &[("a", "1"), ("b", "1"), ("x", "file")];
        let folder: &[_] = &[("a", "1"), ("b", "1"), ("x/y", "1")];
        let pairs = [[edit, edit], [edit, removal], [edit, rename], [file, folder]];
        for [one, other] in pairs {
            assert_eq!(by_path(&fx, [base, one, other]), None, "{one:?} and {other:?}");
            assert_eq!(by_path(&fx, [base, other, one]), None, "{other:?} and {one:?}");
        }
    }

    #[test]
    fn merge_bases_are_the_common_ancestors() {
        let fx = RepoFixture::new();
        let root = fx.commit(&[("a", "1")], &[]);
        let left = fx.commit(&[("a", "2")], std::slice::from_ref(&root));
        let right = fx.commit(&[("a", "3")], std::slice::from_ref(&root));
        let alone = fx.commit(&[("a", "4")], &[]);
        let bases = |a: &Oid, b: &Oid| merge_bases(&fx.repo, a, b).unwrap();
        assert_eq!(bases(&left, &right), std::slice::from_ref(&root));
        assert_eq!(bases(&left, &alone), []);
        let cross = [[&left, &right], [&right, &left]]
            .map(|parents| fx.commit(&[("a", "5")], &parents.map(Clone::clone)));
        assert_eq!(bases(&cross[0], &cross[1]).len(), 2);
        assert!(fx.repo.is_ancestor(&root, &left).unwrap());
        assert!(!fx.repo.is_ancestor(&left, &right).unwrap());
    }
}
