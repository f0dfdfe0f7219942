//! Locks that the kernel releases, and the processes that hold them.
//!
//! A lock is an exclusive `flock` on a small file. It belongs to the open file and not to a
//! process: a keeper inherits the open file of its lock. The lock passes to the keeper without a
//! gap: it is held until *both* processes have closed the file. Nothing here unlocks explicitly,
//! since that would take the lock from the keeper, too. Dropping a lock closes its file.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Retries for a busy lock: [`Lock::is_held`] in another process holds it for a moment.
const TRIES: u32 = 5;
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// A lock. It is held as long as this value, or a copy of its open file in another process, exists.
#[derive(Debug)]
pub(crate) struct Lock(File);

/// The description of a lock's holder, as the holder wrote it. Empty if the holder has not written
/// one yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HolderText(pub String);

impl HolderText {
    /// Parses the description of a [`Holder`].
    pub(crate) fn holder(&self) -> Option<Holder> {
        Holder::parse(&self.0)
    }
}

impl fmt::Display for HolderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "an unknown process" } else { &self.0 })
    }
}

/// The process that holds a lock, for messages and for signals. Only the lock itself tells if the
/// process lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The process number.
    pub pid: i32,
    /// The start time in clock ticks since boot, which distinguishes a process that reuses the
    /// number. 0 if not known.
    pub start: u64,
    /// The host name.
    pub host: String,
}

impl Holder {
    /// Describes this process.
    pub(crate) fn this_process() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { pid, start: start_time(pid).unwrap_or(0), host }
    }

    /// Parses the format of [`Display`](fmt::Display).
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
    /// Takes the lock at `path` if it is free, creates the file if it is missing, and writes `info`
    /// into it (by convention a [`Holder`]) for later processes.
    pub(crate) fn try_take(path: &Path, info: &str) -> io::Result<Result<Self, HolderText>> {
        let taken = Self::take_if_free(path)?;
        if let Ok(lock) = &taken {
            lock.describe(info)?;
        }
        Ok(taken)
    }

    /// Takes the lock at `path` if it is free, without overwriting the description of the last
    /// holder. A missing file is created.
    pub(crate) fn try_take_undescribed(path: &Path) -> io::Result<Option<Self>> {
        Ok(Self::take_if_free(path)?.ok())
    }

    fn take_if_free(path: &Path) -> io::Result<Result<Self, HolderText>> {
        let mut attempt = 0;
        loop {
            let file = open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, path)? => return Ok(Ok(Self(file))),
                // The file was removed between opening and locking, so no other process would
                // respect this lock.
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if attempt >= TRIES => return Ok(Err(read_holder(&file)?)),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(RETRY_PAUSE),
                Err(error) => return Err(error.into()),
            }
            attempt += 1;
        }
    }

    /// Waits until the lock at `path` is free and takes it. A missing file is created.
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

    /// Returns true if a process holds the lock at `path`, this process included. The lock of a
    /// missing file is free, and the file is not created.
    ///
    /// The answer "held" can be outdated for a moment: a child that another thread has forked holds
    /// a copy of every open file until its exec. So a caller that gets "held" must not give up
    /// because of it; it may wait for the lock.
    pub(crate) fn is_held(path: &Path) -> io::Result<bool> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        loop {
            // A shared lock: two processes that only query the lock do not see each other.
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the description that the last holder of the lock at `path` wrote, whether it still
    /// holds the lock or not.
    pub(crate) fn last_holder(path: &Path) -> io::Result<HolderText> {
        read_holder(&File::open(path)?)
    }

    /// Replaces the description of the holder. A keeper does so once it has taken over the lock.
    pub(crate) fn describe(&self, info: &str) -> io::Result<()> {
        self.0.write_all_at(info.as_bytes(), 0)?;
        self.0.set_len(info.len() as u64)
    }

    /// Returns a copy of the open file, to be inherited by a child.
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

/// Returns true if the open file is still the file at the path.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match path.metadata() {
        Ok(current) => Ok((current.dev(), current.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_holder(file: &File) -> io::Result<HolderText> {
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes)?;
    Ok(HolderText(String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}

/// Returns the start time of a process in clock ticks since boot (field 22 of `/proc/<pid>/stat`).
/// Returns `None` if there is no such process, or no `/proc`.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    super::procfs::stat(pid).map(|process| process.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_exclusive_and_released_on_drop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!Lock::is_held(&path).unwrap());
        assert!(!path.exists());
        let held = Lock::try_take(&path, &Holder::this_process().to_string()).unwrap().unwrap();
        assert!(Lock::is_held(&path).unwrap());
        let by = Lock::try_take(&path, "me").unwrap().unwrap_err();
        assert_eq!(by.holder().unwrap(), Holder::this_process());
        drop(held);
        // Waits for the lock: a test that runs in parallel may be about to exec, with a copy of
        // every open file.
        drop(Lock::wait(&path).unwrap());
        drop(Lock::try_take(&path, "short").unwrap().unwrap());
        assert_eq!(Lock::last_holder(&path).unwrap(), HolderText("short".into()));
    }

    #[test]
    fn lock_can_be_taken_while_another_process_queries_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let asked = open(&path).unwrap();
        flock(&asked, FlockOperation::NonBlockingLockShared).unwrap();
        std::thread::scope(|scope| {
            let taking = scope.spawn(|| Lock::try_take(&path, "me").unwrap().is_ok());
            std::thread::sleep(RETRY_PAUSE);
            drop(asked);
            assert!(taking.join().unwrap());
        });
    }

    #[test]
    fn lock_on_a_removed_file_is_void() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let old = Lock::try_take(&path, "old").unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&old.0, &path).unwrap());
        let _new = Lock::try_take(&path, "new").unwrap().unwrap();
        assert!(!is_at(&old.0, &path).unwrap());
    }

    #[test]
    fn lock_holder_round_trips_through_its_text() {
        let one = Holder { pid: 7, start: 99, host: "a, b on c".into() };
        assert_eq!(Holder::parse(&one.to_string()), Some(one));
        assert_eq!(Holder::parse("somebody"), None);
    }
}
