//! The small files that tie a linked worktree to its repository: `.git`, `gitdir`, `commondir`.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder shared by all worktrees, given the git folder of one of them.
pub(super) fn common_dir_of(git_dir: &Path) -> Result<PathBuf> {
    let file = git_dir.join("commondir");
    match std::fs::read(&file) {
        Ok(text) => Ok(git_dir.join(path_of_line(&text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(git_dir.to_path_buf()),
        Err(error) => Err(error)
            .with_context(|| format!("cannot read the worktree's link: {}", file.display())),
    }
}

/// The work tree that an admin folder says it belongs to.
pub(super) fn work_dir_of(admin: &Path) -> Option<PathBuf> {
    let text = std::fs::read(admin.join("gitdir")).ok()?;
    let dot_git = admin.join(path_of_line(&text));
    if dot_git.file_name()? != ".git" {
        return None;
    }
    Some(dot_git.parent()?.to_path_buf())
}

/// A path as one line of a file holds it.
fn path_of_line(text: &[u8]) -> PathBuf {
    let end = text.iter().rposition(|b| *b != b'\n' && *b != b'\r').map_or(0, |last| last + 1);
    PathBuf::from(OsStr::from_bytes(&text[..end]))
}

/// A path, with something before it and a newline after it, as these files want it.
pub(super) fn line(prefix: &str, path: &Path) -> Vec<u8> {
    let mut text = prefix.as_bytes().to_vec();
    text.extend_from_slice(&path.to_path_buf().into_os_string().into_vec());
    text.push(b'\n');
    text
}

/// Replaces a file by way of a new one beside it. Never writes through a link: what stands at either path is replaced,
/// not followed.
pub(super) fn replace_file(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".harness-new");
    let fresh = path.with_file_name(name);
    let written = (|| {
        super::worktree::remove_any(&fresh)?;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&fresh)?;
        file.write_all(content)?;
        drop(file);
        // A folder in the way cannot be replaced by rename.
        if std::fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()) {
            super::worktree::remove_any(path)?;
        }
        std::fs::rename(&fresh, path)
    })();
    written.with_context(|| format!("cannot write: {}", path.display()))
}
