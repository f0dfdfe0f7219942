//! Removal and replacement of files in folders that an agent may have changed. No function follows
//! a symbolic link.

use std::fs::Permissions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Replaces a file: writes a new file beside it and renames the new file over the old one. Links at
/// either path are replaced and not followed.
pub(super) fn replace_file(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".harness-new");
    let fresh = path.with_file_name(name);
    let written = (|| {
        remove_any(&fresh)?;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&fresh)?;
        file.write_all(content)?;
        drop(file);
        // A rename cannot put a file in the place of a folder.
        if std::fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()) {
            remove_any(path)?;
        }
        std::fs::rename(&fresh, path)
    })();
    written.with_context(|| format!("cannot write: {}", path.display()))
}

/// Deletes whatever is at a path, without following a link. If an agent has removed the permission
/// to delete, the permission is restored first. A missing path is not an error.
pub(crate) fn remove_any(path: &Path) -> std::io::Result<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let remove = || {
        if meta.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
    };
    match remove() {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == ErrorKind::PermissionDenied && meta.is_dir() => {
            open_up(path)?;
            remove()
        }
        Err(e) => Err(e),
    }
}

/// Reads a file that a stranger may have put there. Returns `None` unless it is a plain file of at
/// most `limit` bytes: a link would lead elsewhere, and a pipe would block.
pub(crate) fn read_plain(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    (meta.is_file() && meta.len() <= limit).then(|| std::fs::read(path).ok())?
}

/// Restores the owner's permissions on a folder and on all folders below.
fn open_up(dir: &Path) -> std::io::Result<()> {
    let mode = std::fs::symlink_metadata(dir)?.permissions().mode();
    if mode & 0o700 != 0o700 {
        std::fs::set_permissions(dir, Permissions::from_mode(mode | 0o700))?;
    }
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // The type in the listing is that of the link itself, never that of its target.
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
