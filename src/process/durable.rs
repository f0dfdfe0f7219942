//! Files that survive a power cut.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that makes the names of this process's temporary files unique.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Returns a file name that no other call, in this process or another, uses at the same time.
pub(super) fn unique(stem: &str) -> OsString {
    let nth = COUNT.fetch_add(1, Ordering::Relaxed);
    OsString::from(format!(".{stem}.{}.{nth}.tmp", std::process::id()))
}

/// Syncs the file system of `path` (a directory or a file) to the disk. This is the barrier before
/// an acknowledgement. One call covers any number of objects and refs, and the directories in which
/// they were renamed, which git itself never syncs.
///
/// On a platform without `syncfs`, only `path` itself is synced, and each writer must have synced
/// its files.
pub(crate) fn sync_fs(path: &Path) -> io::Result<()> {
    let at = File::open(path)?;
    #[cfg(target_os = "linux")]
    return Ok(rustix::fs::syncfs(&at)?);
    #[cfg(not(target_os = "linux"))]
    return at.sync_all();
}

/// Returns the number of bytes that this user may still write to the file system of `path`.
pub(crate) fn free_space(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Replaces the file at `path`. A reader sees either the old or the new content, and never a part.
/// The new content is on the disk when the function returns. Every important file is written this
/// way.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, None)
}

/// Writes an executable file like [`write_atomic`] and creates its folders. Does nothing if the
/// file has this content and is executable.
pub(crate) fn write_executable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let runs = path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o100 != 0);
    if runs && fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    write(path, bytes, Some(Permissions::from_mode(0o755)))
}

fn write(path: &Path, bytes: &[u8], mode: Option<Permissions>) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        let text = format!("not the path of a file: {}", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let tmp = dir.join(unique(&name.to_string_lossy()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&tmp)?;
        file.write_all(bytes)?;
        if let Some(mode) = mode {
            file.set_permissions(mode)?;
        }
        file.sync_all()?;
        fs::rename(&tmp, path)?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        // After a failed rename the temporary file still exists; after a failed sync of the
        // directory it does not.
        fs::remove_file(&tmp).ok();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atomic_write_replaces_the_file_and_leaves_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_atomic(&path, b"one, which is longer").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        sync_fs(dir.path()).unwrap();
        sync_fs(&path).unwrap();
    }

    #[test]
    fn failed_atomic_write_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(write_atomic(&path, b"x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_atomic(&dir.path().join("gone/file"), b"x").is_err());
    }
}
