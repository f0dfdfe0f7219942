//! The difference between two trees: as a list of paths, and as text for people and agents.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use gix::objs::tree::EntryKind;

use super::{Repo, object_id, tree};
use crate::domain::id::Oid;

/// The kind of a path's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    /// The path is new.
    Added,
    /// The path is gone.
    Deleted,
    /// The content or the executable bit changed.
    Modified,
    /// The type changed, for example from a file to a symbolic link.
    TypeChanged,
}

/// A path that differs. A rename appears as a deleted path and an added path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathChange {
    /// The path; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// The kind of change.
    pub kind: ChangeKind,
}

/// Returns the paths that change from `a` to `b` (trees or commits), sorted.
pub(crate) fn changed_paths(repo: &Repo, a: &Oid, b: &Oid) -> Result<Vec<PathChange>> {
    let local = repo.local();
    let (a, b) =
        (tree::peel_to_tree(&local, object_id(a)?)?, tree::peel_to_tree(&local, object_id(b)?)?);
    let differences = tree::differences(&local, a, b)?;
    Ok(differences
        .into_iter()
        .map(|d| PathChange { path: d.path.to_string(), kind: kind_of(&d) })
        .collect())
}

/// The content at a path that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathContent {
    /// The path is gone.
    Nothing,
    /// A file or a symbolic link of this many bytes.
    File(u64),
    /// A submodule.
    Submodule,
}

/// Returns the paths that change from `a` to `b` (trees or commits) with their content in `b`,
/// sorted.
pub(crate) fn changed_contents(
    repo: &Repo,
    a: &Oid,
    b: &Oid,
) -> Result<Vec<(String, PathContent)>> {
    let local = repo.local();
    let (a, b) =
        (tree::peel_to_tree(&local, object_id(a)?)?, tree::peel_to_tree(&local, object_id(b)?)?);
    let content = |difference: &tree::PathDifference| -> Result<PathContent> {
        Ok(match difference.after {
            None => PathContent::Nothing,
            Some(entry) if entry.mode.is_commit() => PathContent::Submodule,
            Some(entry) => {
                let header = local.find_header(entry.id);
                let header = header.with_context(|| super::at(&difference.path))?;
                PathContent::File(header.size())
            }
        })
    };
    let differences = tree::differences(&local, a, b)?;
    differences.iter().map(|d| Ok((d.path.to_string(), content(d)?))).collect()
}

/// Returns the submodules that are added, moved to another commit or removed from `a` to `b` (trees
/// or commits), sorted.
pub(crate) fn changed_submodules(repo: &Repo, a: &Oid, b: &Oid) -> Result<Vec<String>> {
    let local = repo.local();
    let (a, b) =
        (tree::peel_to_tree(&local, object_id(a)?)?, tree::peel_to_tree(&local, object_id(b)?)?);
    let differences = tree::differences(&local, a, b)?;
    let is_submodule = |difference: &&tree::PathDifference| {
        let mut sides = difference.before.iter().chain(&difference.after);
        sides.any(|entry| entry.mode.is_commit())
    };
    Ok(differences.iter().filter(is_submodule).map(|d| d.path.to_string()).collect())
}

fn kind_of(difference: &tree::PathDifference) -> ChangeKind {
    match (difference.before, difference.after) {
        (None, _) => ChangeKind::Added,
        (Some(_), None) => ChangeKind::Deleted,
        (Some(a), Some(b)) if a.mode.is_blob() == b.mode.is_blob() => ChangeKind::Modified,
        (Some(_), Some(_)) => ChangeKind::TypeChanged,
    }
}

/// Formats the change from `a` to `b` (trees or commits) as `git diff --no-renames` does, with
/// three lines of context, but without `index` lines and hunk headings. For binary files, only the
/// fact that they differ is shown. Bytes that are not UTF-8 are replaced.
pub(crate) fn unified_diff(repo: &Repo, a: &Oid, b: &Oid) -> Result<String> {
    let local = repo.local();
    let (a, b) =
        (tree::peel_to_tree(&local, object_id(a)?)?, tree::peel_to_tree(&local, object_id(b)?)?);
    let mut text = String::new();
    for difference in tree::differences(&local, a, b)? {
        // Git shows a change of type as a removal and an addition.
        if kind_of(&difference) == ChangeKind::TypeChanged {
            let removal = tree::PathDifference { after: None, ..difference.clone() };
            show(&local, &removal, &mut text)?;
            let addition = tree::PathDifference { before: None, ..difference };
            show(&local, &addition, &mut text)?;
        } else {
            show(&local, &difference, &mut text)?;
        }
    }
    Ok(text)
}

fn show(
    local: &gix::Repository,
    difference: &tree::PathDifference,
    text: &mut String,
) -> Result<()> {
    let path = difference.path.to_string();
    let content = |entry: Option<tree::TreeEntry>| -> Result<Vec<u8>> {
        match entry {
            // A submodule has no content here; git shows its id.
            Some(e) if e.mode.is_commit() => Ok(format!("Subproject commit {}\n", e.id).into()),
            Some(e) => Ok(local.find_blob(e.id).with_context(|| super::at(&path))?.take_data()),
            None => Ok(Vec::new()),
        }
    };
    let (old, new) = (content(difference.before)?, content(difference.after)?);
    let mode = |e: &tree::TreeEntry| mode_text(e.mode.kind());
    let old_name = quoted(&path, "a/");
    let new_name = quoted(&path, "b/");
    let _ = writeln!(text, "diff --git {old_name} {new_name}");
    match (&difference.before, &difference.after) {
        (None, Some(b)) => {
            let _ = writeln!(text, "new file mode {}", mode(b));
        }
        (Some(a), None) => {
            let _ = writeln!(text, "deleted file mode {}", mode(a));
        }
        (Some(a), Some(b)) if a.mode != b.mode => {
            let _ = writeln!(text, "old mode {}\nnew mode {}", mode(a), mode(b));
        }
        (Some(_) | None, Some(_) | None) => {}
    }
    if old == new {
        return Ok(());
    }
    let old_name = if difference.before.is_some() { old_name } else { "/dev/null".into() };
    let new_name = if difference.after.is_some() { new_name } else { "/dev/null".into() };
    if is_binary(&old) || is_binary(&new) {
        let _ = writeln!(text, "Binary files {old_name} and {new_name} differ");
        return Ok(());
    }
    let (old, new) = (String::from_utf8_lossy(&old), String::from_utf8_lossy(&new));
    let diff = similar::TextDiff::from_lines(old.as_ref(), new.as_ref());
    text.push_str(&diff.unified_diff().context_radius(3).header(&old_name, &new_name).to_string());
    Ok(())
}

fn mode_text(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Tree => "040000",
        EntryKind::Blob => "100644",
        EntryKind::BlobExecutable => "100755",
        EntryKind::Link => "120000",
        EntryKind::Commit => "160000",
    }
}

/// Returns true if the content is binary by git's own rule: a NUL byte in the first 8000 bytes.
pub(super) fn is_binary(content: &[u8]) -> bool {
    content.iter().take(8000).any(|b| *b == 0)
}

/// Quotes a name if it has control characters, quotes or backslashes. The escapes are those of
/// Rust, which resemble git's.
fn quoted(path: &str, prefix: &str) -> String {
    if path.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
        format!("{:?}", format!("{prefix}{path}"))
    } else {
        format!("{prefix}{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::RepoFixture;
    use super::*;

    #[test]
    fn changed_paths_list_every_kind_of_change() {
        let fx = RepoFixture::new();
        let a = fx.tree(&[("same", "1"), ("gone", "1"), ("d/edit", "1"), ("swap", "1")]);
        let b = fx.tree(&[("same", "1"), ("d/edit", "2"), ("swap/in", "1"), ("new", "1")]);
        let found: Vec<_> = changed_paths(&fx.repo, &a, &b)
            .unwrap()
            .into_iter()
            .map(|c| (c.path, c.kind))
            .collect();
        let want = [
            ("d/edit", ChangeKind::Modified),
            ("gone", ChangeKind::Deleted),
            ("new", ChangeKind::Added),
            ("swap", ChangeKind::Deleted),
            ("swap/in", ChangeKind::Added),
        ];
        assert_eq!(found, want.map(|(p, k)| (p.to_owned(), k)));
    }

    #[test]
    fn unified_diff_equals_that_of_git() {
        let fx = RepoFixture::new();
        let long: String = (0..40).map(|n| format!("line {n}\n")).collect();
        let edited = long.replace("line 5\n", "line five\n").replace("line 30\n", "");
        let a = fx.tree(&[("gone", "x\ny\n"), ("long", &long), ("no-end", "a"), ("bin", "\0a")]);
        let b = fx.tree(&[("new", "x\n"), ("long", &edited), ("no-end", "b"), ("bin", "\0b")]);
        let ours = unified_diff(&fx.repo, &a, &b).unwrap();
        let args = ["diff", "--no-renames", "--no-color", a.as_str(), b.as_str()];
        let theirs = fx.git(&args);
        // Git also prints `index` lines and a heading for each hunk.
        let tidy = |text: &str| -> Vec<String> {
            text.lines()
                .filter(|l| !l.starts_with("index "))
                .map(|l| match l.strip_prefix("@@ ").and_then(|rest| rest.split_once(" @@")) {
                    Some((place, _)) => format!("@@ {place} @@"),
                    None => l.to_owned(),
                })
                .collect()
        };
        assert_eq!(tidy(&ours), tidy(&theirs));
    }
}
