//! Locks that the kernel gives back, and who holds them.
//!
//! A lock is an exclusive `flock` on a small file. It belongs to the open file, not to a process: a keeper inherits the
//! open file of its lock, and then the lock is held until *both* have closed it, without a gap. So nothing here ever
//! unlocks explicitly: that would take the lock from the keeper, too. Dropping closes, and closing is enough.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How often and how long apart a busy lock is tried again, since [`Lock::is_held`] holds it for a moment in others.
const TRIES: u32 = 5;
const APART: Duration = Duration::from_millis(10);

/// A lock that is held for as long as this value, or a copy of its open file in another process, lives.
#[derive(Debug)]
pub(crate) struct Lock(File);

/// Who holds a lock, in the words its holder wrote (empty if it had not come to that).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HolderText(pub String);

impl HolderText {
    /// The holder, if the words are those of a [`Holder`].
    pub(crate) fn holder(&self) -> Option<Holder> {
        Holder::parse(&self.0)
    }
}

impl fmt::Display for HolderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "a process that did not say" } else { &self.0 })
    }
}

/// One process, for messages and for asking it to stop; never for telling whether it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since the machine did; with it a reused number is told apart. 0 if not known.
    pub start: u64,
    /// The machine it runs on.
    pub host: String,
}

impl Holder {
    /// This process.
    pub(crate) fn this_process() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { pid, start: start_time(pid).unwrap_or(0), host }
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let rest = text.trim_end().strip_prefix("process ")?;
        let (pid, rest) = rest.split_once(" on ")?;
        let (host, start) = rest.rsplit_once(", started at tick ")?;
        Some(Self { pid: pid.parse().ok()?, start: start.parse().ok()?, host: host.to_owned() })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}, started at tick {}", self.pid, self.host, self.start)
    }
}

impl Lock {
    /// Takes the lock at `path` if it is free, makes the file if it is missing, and writes `info` into it (by custom a
    /// [`Holder`]) for those who come later.
    pub(crate) fn try_take(path: &Path, info: &str) -> io::Result<Result<Self, HolderText>> {
        let mut attempt = 0;
        loop {
            let file = open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, path)? => {
                    let lock = Self(file);
                    lock.describe(info)?;
                    return Ok(Ok(lock));
                }
                // The file was removed between opening and locking: this lock would be nobody's.
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if attempt >= TRIES => return Ok(Err(words(&file)?)),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(APART),
                Err(error) => return Err(error.into()),
            }
            attempt += 1;
        }
    }

    /// Waits until the lock at `path` is free and takes it. A missing file is made, since nobody holds it.
    pub(crate) fn wait(path: &Path) -> io::Result<Self> {
        loop {
            let file = open(path)?;
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) if is_at(&file, path)? => return Ok(Self(file)),
                Ok(()) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether somebody holds the lock at `path`, this process included. A missing file is free, and stays missing.
    /// "Held" can be late by a moment: a child that another thread has forked holds a copy of every open file until its
    /// exec. So it is a reason to wait for the lock, which then ends at once, and never one to give up.
    pub(crate) fn is_held(path: &Path) -> io::Result<bool> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        loop {
            // Shared, so that two who only ask do not answer each other.
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What the last holder of the lock at `path` wrote, whether it still holds it or not.
    pub(crate) fn last_holder(path: &Path) -> io::Result<HolderText> {
        words(&File::open(path)?)
    }

    /// Writes anew who holds the lock: a keeper does, once it has taken over from who started it.
    pub(crate) fn describe(&self, info: &str) -> io::Result<()> {
        self.0.write_all_at(info.as_bytes(), 0)?;
        self.0.set_len(info.len() as u64)
    }

    /// The same open file once more, to be handed to a child.
    pub(super) fn open_file(&self) -> io::Result<File> {
        self.0.try_clone()
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Lock {
    fn from(fd: OwnedFd) -> Self {
        Self(File::from(fd))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Whether the open file is still the one at the path.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match path.metadata() {
        Ok(there) => Ok((there.dev(), there.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn words(file: &File) -> io::Result<HolderText> {
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes)?;
    Ok(HolderText(String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}

/// When the process started, in clock ticks since the machine did (field 22 of `/proc/<pid>/stat`). `None` if there is
/// no such process, or no `/proc`.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    super::procfs::stat(pid).map(|seen| seen.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_taken_once_and_free_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!Lock::is_held(&path).unwrap());
        assert!(!path.exists());
        let held = Lock::try_take(&path, &Holder::this_process().to_string()).unwrap().unwrap();
        assert!(Lock::is_held(&path).unwrap());
        let by = Lock::try_take(&path, "me").unwrap().unwrap_err();
        assert_eq!(by.holder().unwrap(), Holder::this_process());
        drop(held);
        // Waited for, since a test beside this one may be just about to exec with a copy of everything open.
        drop(Lock::wait(&path).unwrap());
        drop(Lock::try_take(&path, "short").unwrap().unwrap());
        assert_eq!(Lock::last_holder(&path).unwrap(), HolderText("short".into()));
    }

    #[test]
    fn asking_does_not_make_others_believe_it_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let asked = open(&path).unwrap();
        flock(&asked, FlockOperation::NonBlockingLockShared).unwrap();
        std::thread::scope(|scope| {
            let taking = scope.spawn(|| Lock::try_take(&path, "me").unwrap().is_ok());
            std::thread::sleep(APART);
            drop(asked);
            assert!(taking.join().unwrap());
        });
    }

    #[test]
    fn a_lock_on_a_removed_file_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let old = Lock::try_take(&path, "old").unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&old.0, &path).unwrap());
        let _new = Lock::try_take(&path, "new").unwrap().unwrap();
        assert!(!is_at(&old.0, &path).unwrap());
    }

    #[test]
    fn a_holder_reads_what_it_writes() {
        let one = Holder { pid: 7, start: 99, host: "a, b on c".into() };
        assert_eq!(Holder::parse(&one.to_string()), Some(one));
        assert_eq!(Holder::parse("somebody"), None);
    }
}
