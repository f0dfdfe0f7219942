//! Files of a worktree's commit that a list of names or globs selects.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};

use super::worktree_record::WorktreeRecord;
use super::{Repo, Worktree, reset};

/// Returns the paths and blobs of the commit's files at `paths`, or that the patterns match, sorted
/// by path. A pattern without `/` matches a name in any folder.
pub(crate) fn files_named(
    repo: &Repo,
    worktree: &Worktree,
    patterns: &[String],
    paths: &BTreeSet<&str>,
) -> Result<Vec<(String, String)>> {
    let patterns = reset::path_set(patterns)?.unwrap_or_default();
    let record = WorktreeRecord::load(&worktree.index, repo.local().object_hash())?
        .with_context(|| format!("no record of the worktree {}", worktree.path.display()))?;
    let state = &record.state;
    let entries = state.entries().iter().map(|entry| (entry.path(state), entry.id));
    let is_path = |path: &[u8]| std::str::from_utf8(path).is_ok_and(|path| paths.contains(path));
    let found =
        entries.filter(|(path, _)| is_path(path) || patterns.is_match(OsStr::from_bytes(path)));
    Ok(found.map(|(path, id)| (path.to_string(), id.to_string())).collect())
}

/// Returns true if one of the changed paths is in `paths` or matches a pattern, as in
/// [`files_named`].
pub(crate) fn names_any<'a>(
    patterns: &[String],
    paths: &BTreeSet<&str>,
    mut changed: impl Iterator<Item = &'a str>,
) -> Result<bool> {
    let patterns = reset::path_set(patterns)?.unwrap_or_default();
    Ok(changed.any(|path| paths.contains(path) || patterns.is_match(path)))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::RepoFixture;
    use super::*;

    #[test]
    fn files_are_named_in_any_folder_and_by_path() {
        let fx = RepoFixture::new();
        let files = [("lock", "1"), ("a/lock", "2"), ("a/b/req-x.txt", "3"), ("a/other", "4")];
        let worktree = fx.worktree("p", &fx.commit(&files, &[]));
        let found = |patterns: &[&str], paths: &[&str]| -> Vec<String> {
            let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
            let found =
                files_named(&fx.repo, &worktree, &patterns, &paths.iter().copied().collect())
                    .unwrap();
            found.into_iter().map(|(path, _)| path).collect()
        };
        assert_eq!(found(&["lock"], &["other"]), ["a/lock", "lock"]);
        assert_eq!(found(&["a/lock", "req*.txt"], &["lock"]), ["a/b/req-x.txt", "a/lock", "lock"]);
        assert_eq!(found(&[], &["other", "a"]), [""; 0]);
    }
}
