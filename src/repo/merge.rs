//! Three-way merge of trees. The result is a tree or a list of conflicts. No work tree, index or
//! ref is touched.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::merge::tree::TreatAsUnresolved;

use super::{Repo, object_id, oid, tree};
use crate::domain::id::Oid;

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

/// Returns the best common ancestor of two commits, or `None` if they share no history.
pub(crate) fn merge_base(repo: &Repo, a: &Oid, b: &Oid) -> Result<Option<Oid>> {
    if a == b {
        return Ok(Some(a.clone()));
    }
    let local = repo.local();
    let bases = local
        .merge_bases_many(object_id(a)?, &[object_id(b)?])
        .context("cannot read the history")?;
    Ok(bases.first().map(|base| oid(base.detach())))
}

/// Merges the changes from `base` to `theirs` into `ours`. Each argument is a commit or a tree.
pub(crate) fn merge(repo: &Repo, base: &Oid, ours: &Oid, theirs: &Oid) -> Result<MergeResult> {
    merge_in(&repo.local(), base, ours, theirs)
}

/// Returns the conflicting paths, or `None` if the merge would succeed. Nothing is written, so
/// thousands of branches can be checked after each landing.
pub(crate) fn conflicts(
    repo: &Repo,
    base: &Oid,
    ours: &Oid,
    theirs: &Oid,
) -> Result<Option<Vec<String>>> {
    Ok(match merge_in(&repo.in_memory(), base, ours, theirs)? {
        MergeResult::Clean { .. } => None,
        MergeResult::Conflict { paths } => Some(paths),
    })
}

fn merge_in(local: &gix::Repository, base: &Oid, ours: &Oid, theirs: &Oid) -> Result<MergeResult> {
    let base = tree::peel_to_tree(local, object_id(base)?)?;
    let ours = tree::peel_to_tree(local, object_id(ours)?)?;
    let theirs = tree::peel_to_tree(local, object_id(theirs)?)?;
    if let Some(merged) = merge_by_path(local, base, ours, theirs)? {
        return Ok(MergeResult::Clean { tree: oid(merged) });
    }
    merge_by_content(local, base, ours, theirs)
}

/// Merges by path if possible: if `ours` has the same entry as `base` at every path that `theirs`
/// changed, the entries of `theirs` are taken. The cost follows the size of the change from `base`
/// to `theirs`, and not the distance between `base` and `ours`.
///
/// Returns `None` if the result is not certain. Renames are covered: if `ours` renamed a path, the
/// path is missing in `ours` and so differs from `base`. If `theirs` renamed a folder, a merge by
/// path requires that `ours` did not touch the folder (see `folder_is_safe`).
fn merge_by_path(
    local: &gix::Repository,
    base: ObjectId,
    ours: ObjectId,
    theirs: ObjectId,
) -> Result<Option<ObjectId>> {
    if base == ours || ours == theirs {
        return Ok(Some(theirs));
    }
    if base == theirs {
        return Ok(Some(ours));
    }
    let mut edits: Vec<tree::TreeEdit> = Vec::new();
    let mut folders: BTreeSet<BString> = BTreeSet::new();
    for change in tree::differences(local, base, theirs)? {
        if tree::entry_at(local, ours, &change.path)? != change.before {
            return Ok(None);
        }
        // An addition or a removal may be half of a rename, or may collide with a rename. Neither
        // affects the result if the parent folder is safe (see `folder_is_safe`).
        let is_edit = change.before.is_some() && change.after.is_some();
        if !is_edit && let Some(slash) = change.path.rfind_byte(b'/') {
            folders.insert(change.path[..slash].into());
        }
        edits.push((change.path, change.after.map(|e| (e.mode.kind(), e.id))));
    }
    for folder in folders {
        if !folder_is_safe(local, base, ours, theirs, folder.as_bstr())? {
            return Ok(None);
        }
    }
    tree::apply(local, ours, &edits).map(Some)
}

/// Returns true if an addition to or a removal from `folder` has the same meaning in `ours` as in
/// `base`. For the folder and each of its parents: the type is the same in `base` and `ours`,
/// `ours` neither removed nor created the folder, and if `theirs` removed the folder, `ours` did
/// not touch it.
fn folder_is_safe(
    local: &gix::Repository,
    base: ObjectId,
    ours: ObjectId,
    theirs: ObjectId,
    folder: &BStr,
) -> Result<bool> {
    let ends = folder.find_iter(b"/").chain(std::iter::once(folder.len()));
    for end in ends {
        let part = &folder[..end];
        let in_base = tree::entry_at(local, base, part)?;
        let in_ours = tree::entry_at(local, ours, part)?;
        let in_theirs = tree::entry_at(local, theirs, part)?;
        let is_tree = |e: Option<tree::TreeEntry>| e.is_some_and(|e| e.mode.is_tree());
        if is_tree(in_base) != is_tree(in_ours) || (in_base.is_some() != in_ours.is_some()) {
            return Ok(false);
        }
        if is_tree(in_base) && !is_tree(in_theirs) && in_ours != in_base {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Merges by content: line by line if both sides changed a file. Renames are followed.
fn merge_by_content(
    local: &gix::Repository,
    base: ObjectId,
    ours: ObjectId,
    theirs: ObjectId,
) -> Result<MergeResult> {
    let labels = gix::merge::blob::builtin_driver::text::Labels {
        ancestor: Some("base".into()),
        current: Some("target".into()),
        other: Some("task".into()),
    };
    let options = local.tree_merge_options().context("cannot read the merge settings")?;
    // The merge writes the blobs of merged files, so a write may have to be retried.
    let merge = || local.merge_trees(base, ours, theirs, labels, options.clone());
    let outcome = super::objects::retry_write(merge).context("cannot merge")?;
    let criterion = TreatAsUnresolved::git();
    if !outcome.has_unresolved_conflicts(criterion) {
        return Ok(MergeResult::Clean { tree: super::objects::write_edited(local, outcome.tree)? });
    }
    let paths: BTreeSet<String> = outcome
        .conflicts
        .iter()
        .filter(|c| c.is_unresolved(criterion))
        .flat_map(|c| [c.ours.location().to_string(), c.theirs.location().to_string()])
        .filter(|path| !path.is_empty())
        .collect();
    Ok(MergeResult::Conflict { paths: paths.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{RandomFiles, RepoFixture};
    use super::*;

    fn tree(fx: &RepoFixture, files: &[(&str, &str)]) -> Oid {
        fx.tree(files)
    }

    #[test]
    fn merge_takes_both_sides_and_reports_conflicts() {
        let fx = RepoFixture::new();
        let base = tree(&fx, &[("a", "1\n"), ("d/b", "1\n"), ("d/c", "1\n")]);
        let ours = tree(&fx, &[("a", "2\n"), ("d/b", "1\n"), ("d/c", "1\n")]);
        let theirs = tree(&fx, &[("a", "1\n"), ("d/b", "2\n"), ("e/new", "1\n")]);
        let want = tree(&fx, &[("a", "2\n"), ("d/b", "2\n"), ("e/new", "1\n")]);
        assert_eq!(
            merge(&fx.repo, &base, &ours, &theirs).unwrap(),
            MergeResult::Clean { tree: want }
        );

        let theirs = tree(&fx, &[("a", "3\n"), ("d/b", "1\n"), ("d/c", "1\n")]);
        let conflict = MergeResult::Conflict { paths: vec!["a".into()] };
        assert_eq!(merge(&fx.repo, &base, &ours, &theirs).unwrap(), conflict);
    }

    #[test]
    fn merge_conflicts_where_a_file_meets_a_folder() {
        let fx = RepoFixture::new();
        let base = tree(&fx, &[("a", "1\n")]);
        let ours = tree(&fx, &[("a", "1\n"), ("x", "file\n")]);
        let theirs = tree(&fx, &[("a", "1\n"), ("x/y", "1\n")]);
        let merged = merge(&fx.repo, &base, &ours, &theirs).unwrap();
        assert!(matches!(merged, MergeResult::Conflict { .. }), "{merged:?}");
    }

    #[test]
    fn merge_by_path_equals_the_merge_by_content() {
        let fx = RepoFixture::new();
        let local = fx.repo.local();
        let (mut quick, mut clean) = (0, 0);
        for seed in 0..400 {
            let mut random = RandomFiles::new(seed);
            let base = random.files(12);
            let ours = random.edited(&base);
            let theirs = random.edited(&base);
            let [base, ours, theirs] =
                [base, ours, theirs].map(|files| object_id(&fx.tree_of(&files)).unwrap());
            let Some(by_path) = merge_by_path(&local, base, ours, theirs).unwrap() else {
                continue;
            };
            quick += 1;
            match merge_by_content(&local, base, ours, theirs).unwrap() {
                MergeResult::Clean { tree } => {
                    assert_eq!(tree, oid(by_path), "seed {seed}");
                    clean += 1;
                }
                MergeResult::Conflict { paths } => panic!("seed {seed}: conflict at {paths:?}"),
            }
        }
        assert!(quick > 50 && clean > 50, "the quick way was hardly tried: {quick}, {clean}");
    }

    #[test]
    fn merge_base_is_the_common_ancestor() {
        let fx = RepoFixture::new();
        let root = fx.commit(&[("a", "1")], &[]);
        let left = fx.commit(&[("a", "2")], std::slice::from_ref(&root));
        let right = fx.commit(&[("a", "3")], std::slice::from_ref(&root));
        let alone = fx.commit(&[("a", "4")], &[]);
        assert_eq!(merge_base(&fx.repo, &left, &right).unwrap(), Some(root.clone()));
        assert_eq!(merge_base(&fx.repo, &left, &alone).unwrap(), None);
        assert!(fx.repo.is_ancestor(&root, &left).unwrap());
        assert!(!fx.repo.is_ancestor(&left, &right).unwrap());
    }
}
