//! The small files that tie a linked worktree to its repository: `.git`, `gitdir`, `commondir`.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Returns the folder that all worktrees share, given the git folder of one of them.
pub(super) fn common_dir_of(git_dir: &Path) -> Result<PathBuf> {
    let file = git_dir.join("commondir");
    match std::fs::read(&file) {
        Ok(text) => Ok(git_dir.join(path_of_line(&text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(git_dir.to_path_buf()),
        Err(error) => Err(error)
            .with_context(|| format!("cannot read the worktree's link: {}", file.display())),
    }
}

/// Returns the git folder at a path, which may be a file that names the folder.
pub(super) fn git_dir_at(path: &Path) -> PathBuf {
    let text = if path.is_file() { std::fs::read(path).unwrap_or_default() } else { Vec::new() };
    let folder = path.parent().unwrap_or(Path::new(""));
    let named = text.strip_prefix(b"gitdir:").map(|named| path_of_line(named.trim_ascii_start()));
    named.map_or_else(|| path.to_path_buf(), |named| folder.join(named))
}

/// Returns the work tree that an admin folder's `gitdir` file names.
pub(super) fn work_dir_of(admin: &Path) -> Option<PathBuf> {
    let text = std::fs::read(admin.join("gitdir")).ok()?;
    let dot_git = admin.join(path_of_line(&text));
    if dot_git.file_name()? != ".git" {
        return None;
    }
    Some(dot_git.parent()?.to_path_buf())
}

/// Returns true if the `.git` file of a linked worktree names the admin folder.
pub(super) fn points_to(work_dir: &Path, admin: &Path) -> bool {
    let dot_git = work_dir.join(".git");
    let is_file = std::fs::symlink_metadata(&dot_git).is_ok_and(|meta| meta.is_file());
    let text = std::fs::read(&dot_git).unwrap_or_default();
    let named = text
        .strip_prefix(b"gitdir:")
        .map(|path| work_dir.join(path_of_line(path.trim_ascii_start())));
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    is_file
        && named.is_some_and(|named| real(&named).is_some_and(|named| Some(named) == real(admin)))
}

/// Parses a path from the single line of a file.
fn path_of_line(text: &[u8]) -> PathBuf {
    let end = text.iter().rposition(|b| *b != b'\n' && *b != b'\r').map_or(0, |last| last + 1);
    PathBuf::from(OsStr::from_bytes(&text[..end]))
}

/// Formats a path as the single line of a file, with a prefix.
pub(super) fn line(prefix: &str, path: &Path) -> Vec<u8> {
    let mut text = prefix.as_bytes().to_vec();
    text.extend_from_slice(&path.to_path_buf().into_os_string().into_vec());
    text.push(b'\n');
    text
}
