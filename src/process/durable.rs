//! Files that survive a power cut.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells the temporary files of this process apart.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// A file name that no other call, in this process or another, uses at the same time.
pub(super) fn unique(stem: &str) -> OsString {
    let nth = COUNT.fetch_add(1, Ordering::Relaxed);
    OsString::from(format!(".{stem}.{}.{nth}.tmp", std::process::id()))
}

/// Forces everything that was written to the file system of `path` (a directory or a file) to the disk: the barrier
/// before anything is acknowledged. One call covers any number of objects and refs, with the directories they were
/// renamed in, which git itself never forces.
///
/// Where the platform has no such call the directory itself is forced, and who wrote the files must have forced those.
pub(crate) fn sync_fs(path: &Path) -> io::Result<()> {
    let at = File::open(path)?;
    #[cfg(target_os = "linux")]
    return Ok(rustix::fs::syncfs(&at)?);
    #[cfg(not(target_os = "linux"))]
    return at.sync_all();
}

/// How many bytes of a file system are free for this user, of which any path is given.
pub(crate) fn free_space(path: &Path) -> io::Result<u64> {
    let of = rustix::fs::statvfs(path)?;
    Ok(of.f_bavail.saturating_mul(of.f_frsize))
}

/// Puts `bytes` at `path` so that a reader sees the old file or the new one and never a part, and so that the new one
/// is on the disk when this returns. The only way this program writes a file that matters.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, None)
}

/// The same for a file that can be run, as scripts must be; with the folders around it, and only if it is not there as it should be.
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
        // After a failed rename the temporary file is still there; after a failed sync of the directory it is not.
        fs::remove_file(&tmp).ok();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_else() {
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
    fn a_failed_write_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(write_atomic(&path, b"x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_atomic(&dir.path().join("gone/file"), b"x").is_err());
    }
}
