//! Folders for temporary files of commands, with short paths.
//!
//! The path of a Unix socket has at most 107 bytes, and programs make their sockets in folders
//! below TMPDIR: `multiprocessing` of Python adds 33 bytes, `gpg-agent` 27. The private folder of
//! an assignment often has a longer path than that leaves. Then the temporary folder lies in the
//! user's TMPDIR, `/tmp` or `/var/tmp`, and a link in the private folder leads to it. Whoever
//! clears the private folder removes both, also after a kill: the link is made first.

use std::ffi::OsStr;
use std::fs::{DirBuilder, Metadata};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The largest length of the path in bytes.
const MAX_BYTES: usize = 60;

/// The beginning of the folder's name outside the private folder.
const PREFIX: &str = "git-harness-";

/// The temporary folder of one private folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TempFolder {
    /// The folder or link in the private folder.
    inside: PathBuf,
}

impl TempFolder {
    /// Names the temporary folder at this path inside a private folder. Nothing is created.
    pub(crate) fn new(inside: PathBuf) -> Self {
        Self { inside }
    }

    /// Creates the folder, empty, and returns its path, which is short if that is possible.
    /// `preferred` is the user's TMPDIR.
    pub(crate) fn create(&self, preferred: Option<&OsStr>) -> Result<PathBuf> {
        self.remove()?;
        let roots = [preferred.map(Path::new), Some(Path::new("/tmp")), Some("/var/tmp".as_ref())];
        for root in roots.into_iter().flatten().filter(|_| !is_short(&self.inside)) {
            let outside = root.join(self.name());
            if !root.is_absolute() || !is_short(&outside) || !is_free(&outside) {
                continue;
            }
            symlink(&outside, &self.inside).with_context(|| self.failed())?;
            if make_private(&outside).is_ok() {
                return Ok(outside);
            }
            std::fs::remove_file(&self.inside).with_context(|| self.failed())?;
        }
        self.create_inside()
    }

    /// Creates the folder inside the private folder, empty. In a sandbox, its path is short.
    pub(crate) fn create_inside(&self) -> Result<PathBuf> {
        self.remove()?;
        std::fs::create_dir_all(&self.inside).with_context(|| self.failed())?;
        Ok(self.inside.clone())
    }

    /// Creates the folder again if a command has removed it.
    pub(crate) fn restore(&self) -> Result<()> {
        let made = match self.outside() {
            Some(outside) if is_own_folder(&outside) => Ok(()),
            Some(outside) => make_private(&outside),
            None => std::fs::create_dir_all(&self.inside),
        };
        made.with_context(|| self.failed())
    }

    /// Removes the folder with its content.
    pub(crate) fn remove(&self) -> Result<()> {
        if let Some(outside) = self.outside().filter(|outside| is_own_folder(outside)) {
            remove(std::fs::remove_dir_all(&outside)).with_context(|| self.failed())?;
        }
        match std::fs::symlink_metadata(&self.inside) {
            Ok(meta) if meta.is_dir() => remove(std::fs::remove_dir_all(&self.inside)),
            Ok(_) => remove(std::fs::remove_file(&self.inside)),
            Err(_) => Ok(()),
        }
        .with_context(|| self.failed())
    }

    /// Removes the folder with its content, if it lies outside the private folder.
    pub(crate) fn remove_outside(&self) -> Result<()> {
        self.outside().map_or(Ok(()), |_| self.remove())
    }

    /// Returns the folder to which the link leads. A command may have changed the link, so only
    /// the name that belongs to this private folder counts.
    fn outside(&self) -> Option<PathBuf> {
        let target = std::fs::read_link(&self.inside).ok()?;
        (target.is_absolute() && target.file_name() == Some(self.name().as_ref())).then_some(target)
    }

    /// Returns the name of the folder outside: a hash of the path inside. FNV-1a is stable between
    /// versions. Two folders with the same name would share a link's target, never a user.
    fn name(&self) -> String {
        let bytes = self.inside.as_os_str().as_bytes();
        let hash = |seed: u64| {
            let mix =
                |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            bytes.iter().fold(seed, mix)
        };
        format!("{PREFIX}{:016x}", hash(0xcbf2_9ce4_8422_2325))
    }

    fn failed(&self) -> String {
        format!("cannot make or remove the folder for temporary files {}", self.inside.display())
    }
}

fn is_short(path: &Path) -> bool {
    path.as_os_str().len() <= MAX_BYTES
}

/// Returns true if nothing is at a path. What a killed keeper left there is removed.
fn is_free(path: &Path) -> bool {
    if is_own_folder(path) {
        std::fs::remove_dir_all(path).ok();
    }
    path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Returns true if a path is a folder of this user that nobody else can enter.
fn is_own_folder(path: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    let is_private =
        |meta: &Metadata| meta.is_dir() && meta.uid() == user && meta.mode() & 0o077 == 0;
    path.symlink_metadata().is_ok_and(|meta| is_private(&meta))
}

fn make_private(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Ignores that a file was removed already.
fn remove(result: std::io::Result<()>) -> std::io::Result<()> {
    result.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a temporary folder inside a private folder with a long path.
    fn long(dir: &tempfile::TempDir) -> TempFolder {
        let private = dir.path().join("a-long-name".repeat(9));
        std::fs::create_dir(&private).unwrap();
        TempFolder::new(private.join("tmp"))
    }

    #[test]
    fn temporary_folder_has_a_short_path_and_is_removed_with_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let folder = long(&dir);
        let path = folder.create(None).unwrap();
        assert!(path.as_os_str().len() <= 60, "{}", path.display());
        assert_eq!(path.symlink_metadata().unwrap().mode() & 0o777, 0o700);
        std::fs::write(folder.inside.join("file"), "x").unwrap();
        assert!(path.join("file").exists(), "the link leads there");
        // A keeper that was killed left the folder behind.
        assert_eq!(folder.create(None).unwrap(), path);
        assert!(!path.join("file").exists(), "it is empty again");
        std::fs::remove_dir(&path).unwrap();
        folder.restore().unwrap();
        assert!(path.is_dir());
        folder.remove_outside().unwrap();
        assert!(!path.exists() && folder.inside.symlink_metadata().is_err());
    }

    #[test]
    fn temporary_folder_prefers_the_private_folder_and_then_the_tmpdir_of_the_user() {
        let dir = tempfile::tempdir().unwrap();
        let short = TempFolder::new(dir.path().join("tmp"));
        assert!(is_short(&short.inside), "{}", short.inside.display());
        assert_eq!(short.create(None).unwrap(), short.inside);
        short.remove_outside().unwrap();
        assert!(short.inside.is_dir());
        let folder = long(&dir);
        let path = folder.create(Some(dir.path().as_os_str())).unwrap();
        assert_eq!(path.parent(), Some(dir.path()));
        let elsewhere = folder.create(Some(OsStr::new("/no/such/folder"))).unwrap();
        assert_eq!(elsewhere.parent(), Some(Path::new("/tmp")));
        assert!(!path.exists());
        folder.remove().unwrap();
    }

    #[test]
    fn temporary_folder_never_uses_or_removes_the_files_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let folder = long(&dir);
        let precious = dir.path().join("precious");
        std::fs::create_dir(&precious).unwrap();
        std::fs::write(precious.join("file"), "x").unwrap();
        // Somebody has put a link at the path.
        let taken = dir.path().join(folder.name());
        symlink(&precious, &taken).unwrap();
        let path = folder.create(Some(dir.path().as_os_str())).unwrap();
        assert_eq!(path.parent(), Some(Path::new("/tmp")));
        folder.remove().unwrap();
        // A command has replaced the link inside.
        for target in [&precious, &taken] {
            symlink(target, &folder.inside).unwrap();
            folder.remove().unwrap();
            assert!(precious.join("file").exists() && folder.inside.symlink_metadata().is_err());
        }
    }
}
