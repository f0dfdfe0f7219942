//! The identity of folders: enough to tell a folder from another one that was put in its place.
//!
//! An agent, a check or a person may replace a folder of ours by a link or by a folder of theirs.
//! A path alone therefore never decides that files may be deleted.

use std::fmt::{self, Display};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, bail};

/// The name of the file that records the identity of the folder of worktrees. The file lies beside
/// the records of the worktrees.
const FOLDER_RECORD: &str = "folder";

/// The identity of one folder. Two folders that exist at the same time never have the same
/// identity.
#[derive(Debug, Clone, Copy)]
pub(super) struct FolderIdentity {
    device: u64,
    inode: u64,
    /// The time of the folder's creation, in nanoseconds since 1970, where the file system has it.
    created: Option<u128>,
}

impl FolderIdentity {
    /// Returns the identity of the folder at a path, or `None` if no folder is there. A link is no
    /// folder.
    pub(super) fn of(path: &Path) -> Result<Option<Self>> {
        let meta = match std::fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(e).with_context(|| super::at(path.display())),
        };
        let created = meta.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let created = created.map(|since| since.as_nanos());
        Ok(meta.is_dir().then(|| Self { device: meta.dev(), inode: meta.ino(), created }))
    }

    /// Returns true if both are of one folder. After a reboot, a file system may have another
    /// device number, so the time of creation counts where both have it.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        let same_file_system = match (self.created, other.created) {
            (Some(created), Some(other)) => created == other,
            (Some(_) | None, None) | (None, Some(_)) => self.device == other.device,
        };
        self.inode == other.inode && same_file_system
    }

    /// Returns true if the folder with this identity is at a path.
    pub(super) fn is_at(&self, path: &Path) -> Result<bool> {
        Ok(Self::of(path)?.is_some_and(|found| self.is_of(&found)))
    }
}

impl Display for FolderIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.device, self.inode, self.created.unwrap_or(0))
    }
}

impl FromStr for FolderIdentity {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut numbers = text.split(' ');
        let mut next = || numbers.next().context("it lacks a number");
        let (device, inode) = (next()?.parse()?, next()?.parse()?);
        let created = Some(next()?.parse()?).filter(|created| *created != 0);
        Ok(Self { device, inode, created })
    }
}

/// Makes sure that the folder of worktrees is the recorded one. The first call makes the folder if
/// it is missing and records it. `records` is the folder of the worktrees' records.
pub(crate) fn claim_worktrees_folder(folder: &Path, records: &Path) -> Result<()> {
    let failed = || format!("cannot make a folder: {}", folder.display());
    check_worktrees_folder(folder, records)?;
    match (FolderIdentity::of(folder)?, recorded_folder(records)?) {
        (Some(found), Some(known)) if known.is_of(&found) => Ok(()),
        // If another folder is recorded, only an empty folder passes the check above.
        (Some(found), Some(_) | None) => record_folder(records, &found),
        (None, _) => {
            if let Some(parent) = folder.parent() {
                std::fs::create_dir_all(parent).with_context(failed)?;
            }
            match std::fs::create_dir(folder) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                    return Err(e).with_context(failed);
                }
                // Keepers of several worktrees start at once, and each may make the folder.
                Ok(()) | Err(_) => {}
            }
            let made = FolderIdentity::of(folder)?.with_context(|| replaced(folder, records))?;
            record_folder(records, &made)
        }
    }
}

/// Fails if something else is at the path of the folder of worktrees than the recorded folder. A
/// missing folder is fine, and so is an empty one, in which nothing can be lost: a sweep that was
/// killed leaves the record of a folder that is gone. `records` is the folder of the worktrees'
/// records.
pub(crate) fn check_worktrees_folder(folder: &Path, records: &Path) -> Result<()> {
    match (FolderIdentity::of(folder)?, recorded_folder(records)?) {
        (Some(found), Some(known))
            if !known.is_of(&found) && !super::walk::list(folder)?.is_empty() =>
        {
            bail!(replaced(folder, records))
        }
        (Some(_), Some(_) | None) => Ok(()),
        (None, _) if std::fs::symlink_metadata(folder).is_err() => Ok(()),
        (None, _) => bail!(replaced(folder, records)),
    }
}

fn replaced(folder: &Path, records: &Path) -> String {
    format!(
        "`{}` is not the folder that git-harness made for its worktrees: move it away, then start again (if you replaced \
         it yourself, delete `{}` instead)",
        folder.display(),
        records.join(FOLDER_RECORD).display()
    )
}

/// Reads the identity of the folder of worktrees, or `None` if none is recorded.
fn recorded_folder(records: &Path) -> Result<Option<FolderIdentity>> {
    let file = records.join(FOLDER_RECORD);
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            let parsed = text.trim_end().parse();
            parsed.map(Some).with_context(|| format!("this file is damaged: {}", file.display()))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| super::at(file.display())),
    }
}

fn record_folder(records: &Path, identity: &FolderIdentity) -> Result<()> {
    let file = records.join(FOLDER_RECORD);
    // Each process has a file of its own: several keepers may record the same folder at once.
    let new = records.join(format!("{FOLDER_RECORD}.{}", std::process::id()));
    std::fs::create_dir_all(records)
        .and_then(|()| std::fs::write(&new, format!("{identity}\n")))
        .and_then(|()| std::fs::rename(&new, &file))
        .with_context(|| format!("cannot write: {}", file.display()))
}

/// Clears a path without deleting anything: a link is removed, everything else gets another name in
/// the same folder. Returns the new path if something was renamed.
pub(super) fn set_aside(path: &Path) -> Result<Option<PathBuf>> {
    let failed = || format!("cannot move out of the way: {}", path.display());
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => {
            std::fs::remove_file(path).with_context(failed)?;
            return Ok(None);
        }
        Ok(_) => {}
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(e).with_context(failed),
    }
    for number in 1..10_000 {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".aside-{number}"));
        let aside = path.with_file_name(name);
        if std::fs::symlink_metadata(&aside).is_err() {
            std::fs::rename(path, &aside).with_context(failed)?;
            return Ok(Some(aside));
        }
    }
    bail!("too many folders were moved out of the way: {}", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn identity_differs_for_a_folder_that_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("folder"), dir.path().join("other"));
        std::fs::create_dir(&path).unwrap();
        std::fs::create_dir(&other).unwrap();
        let identity = FolderIdentity::of(&path).unwrap().unwrap();
        let read: FolderIdentity = identity.to_string().parse().unwrap();
        assert!(read.is_at(&path).unwrap() && !read.is_at(&other).unwrap());
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        assert!(!read.is_at(&path).unwrap(), "nothing is there");
        symlink(dir.path().join("moved"), &path).unwrap();
        assert!(!read.is_at(&path).unwrap(), "a link to the folder is not the folder");
        let rebooted = FolderIdentity { device: identity.device + 1, ..identity };
        assert_eq!(rebooted.is_of(&identity), identity.created.is_some());
    }

    #[test]
    fn claimed_folder_is_made_once_and_refused_when_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, records) = (dir.path().join("a/b"), dir.path().join("records"));
        claim_worktrees_folder(&folder, &records).unwrap();
        claim_worktrees_folder(&folder, &records).unwrap();
        check_worktrees_folder(&folder, &records).unwrap();
        std::fs::rename(&folder, dir.path().join("moved")).unwrap();
        check_worktrees_folder(&folder, &records).unwrap();
        symlink(dir.path().join("moved"), &folder).unwrap();
        assert!(claim_worktrees_folder(&folder, &records).is_err());
        assert!(check_worktrees_folder(&folder, &records).is_err());
        assert_eq!(set_aside(&folder).unwrap(), None);
        assert!(dir.path().join("moved").is_dir(), "only the link is removed");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("mine"), "precious").unwrap();
        assert!(claim_worktrees_folder(&folder, &records).is_err());
        let aside = set_aside(&folder).unwrap().unwrap();
        assert!(aside.is_dir() && !folder.exists());
        claim_worktrees_folder(&folder, &records).unwrap();
    }

    #[test]
    fn empty_folder_is_claimed_although_another_is_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, records) = (dir.path().join("a"), dir.path().join("records"));
        claim_worktrees_folder(&folder, &records).unwrap();
        // A sweep removes the folder, and is killed before its records are gone.
        std::fs::rename(&folder, dir.path().join("old")).unwrap();
        std::fs::create_dir(&folder).unwrap();
        check_worktrees_folder(&folder, &records).unwrap();
        claim_worktrees_folder(&folder, &records).unwrap();
        std::fs::write(folder.join("p01"), "").unwrap();
        check_worktrees_folder(&folder, &records).unwrap();
    }
}
