//! The link over which a supervisor sends a keeper one assignment after the other, so that not
//! every assignment needs a new process.
//!
//! An assignment is sent as a folder, its environment variables, and the open file of its lock,
//! which travels inside the message. The lock is held without a gap: by the sender, by the message
//! in transit, and by the keeper. If the keeper dies before it has read the message, the kernel
//! drops the message and with it the lock.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::{Environ, Lock, StopFlag};

/// The size of a message's header in bytes. The header is the length of the body; the descriptor
/// of the lock is sent along with it.
const HEADER_SIZE: usize = 8;
/// The longest accepted body. No folder path with its environment is longer, so a longer message
/// does not come from a supervisor.
const MAX_BODY: u64 = 64 * 1024 * 1024;

/// The supervisor's end. When this end is dropped, the keeper finishes its assignment and exits.
#[derive(Debug)]
pub(crate) struct KeeperLink(UnixStream);

/// The keeper's end.
#[derive(Debug)]
pub(crate) struct KeeperInbox(UnixStream);

/// An assignment, as the keeper receives it.
#[derive(Debug)]
pub(crate) struct ReceivedAssignment {
    /// The folder of the assignment.
    pub dir: PathBuf,
    /// The lock that is held while the assignment is worked on.
    pub lock: Lock,
    /// The environment variables.
    pub env: Environ,
}

/// Creates both ends. The keeper's end is a plain descriptor, which becomes the keeper's standard
/// output.
pub(super) fn pair() -> io::Result<(KeeperLink, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((KeeperLink(ours), theirs.into()))
}

impl KeeperLink {
    /// Sends an assignment. From here on the keeper holds the lock, even if the sender drops its
    /// own copy.
    pub(crate) fn send(&self, dir: &Path, lock: &Lock, env: &Environ) -> io::Result<()> {
        let mut body = dir.as_os_str().as_bytes().to_vec();
        for (name, value) in env.iter() {
            body.push(0);
            body.extend_from_slice(name.as_bytes());
            body.push(b'=');
            body.extend_from_slice(value.as_bytes());
        }
        let head = (body.len() as u64).to_le_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [lock.as_fd()];
        if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let flags = SendFlags::NOSIGNAL;
        let sent = loop {
            match sendmsg(&self.0, &[IoSlice::new(&head)], &mut ancillary, flags) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        (&self.0).write_all(&head[sent..])?;
        (&self.0).write_all(&body)
    }
}

impl KeeperInbox {
    /// Takes over the link, if this process was started with a link as its standard output.
    /// Standard output is then redirected to standard error.
    pub(crate) fn adopt() -> io::Result<Option<Self>> {
        let stdout = rustix::stdio::stdout();
        let stat = rustix::fs::fstat(stdout)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Socket {
            return Ok(None);
        }
        let stream = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(stdout, 3)?);
        rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
        Ok(Some(Self(stream)))
    }

    /// Waits for the next assignment. Returns `None` when the supervisor has gone, or when the stop
    /// flag is raised. Fails with [`io::ErrorKind::TimedOut`] if none comes `within` a time.
    pub(crate) fn next(
        &self,
        stop: &StopFlag,
        within: Option<Duration>,
    ) -> io::Result<Option<ReceivedAssignment>> {
        let until = within.map(|within| Instant::now() + within);
        loop {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if stop.is_raised() {
                return Ok(None);
            }
            if !fds[0].revents().is_empty() {
                return self.receive();
            }
        }
    }

    /// Returns true if the supervisor still holds its end.
    pub(crate) fn is_connected(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        poll(&mut fds, Some(&Timespec::default())).is_ok() && fds[0].revents().is_empty()
    }

    fn receive(&self) -> io::Result<Option<ReceivedAssignment>> {
        let mut head = [0; HEADER_SIZE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(&mut head)];
            match recvmsg(&self.0, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                other => break other?.bytes,
            }
        };
        if received == 0 {
            return Ok(None);
        }
        let rights = ancillary.drain().find_map(|message| {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message { fds.next() } else { None }
        });
        let not_an_assignment = || io::Error::new(io::ErrorKind::InvalidData, "not an assignment");
        let lock = Lock::from(rights.ok_or_else(not_an_assignment)?);
        (&self.0).read_exact(&mut head[received..])?;
        let length = u64::from_le_bytes(head);
        if length > MAX_BODY {
            return Err(not_an_assignment());
        }
        let mut body = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        (&self.0).read_exact(&mut body)?;
        let mut parts = body.split(|byte| *byte == 0);
        let dir = OsString::from_vec(parts.next().unwrap_or_default().to_vec());
        let mut env = Environ::empty();
        for pair in parts {
            let at = pair.iter().position(|byte| *byte == b'=').ok_or_else(not_an_assignment)?;
            env.set(OsStr::from_bytes(&pair[..at]), OsStr::from_bytes(&pair[at + 1..]));
        }
        Ok(Some(ReceivedAssignment { dir: dir.into(), lock, env }))
    }
}

/// Redirects standard output and standard error of this process to the end of a file.
pub(crate) fn redirect_output(log: &Path) -> io::Result<()> {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    rustix::stdio::dup2_stdout(&file)?;
    rustix::stdio::dup2_stderr(&file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (KeeperLink, KeeperInbox) {
        let (link, theirs) = pair().unwrap();
        (link, KeeperInbox(theirs.into()))
    }

    fn env() -> Environ {
        let mut env = Environ::empty();
        env.set("PLAIN", "a=b c").set("EMPTY", "").set("LONG", "x".repeat(100_000));
        env
    }

    #[test]
    fn assignment_arrives_whole_and_its_lock_is_always_held() {
        let (link, inbox) = ends();
        let stop = StopFlag::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        for _ in 0..3 {
            let lock = Lock::try_take(&path, "").unwrap().unwrap();
            link.send(dir.path(), &lock, &env()).unwrap();
            drop(lock);
            assert!(Lock::is_held(&path).unwrap(), "the lock was released in transit");
            let handed = inbox.next(&stop, None).unwrap().unwrap();
            assert_eq!((handed.dir.as_path(), &handed.env), (dir.path(), &env()));
            assert!(Lock::is_held(&path).unwrap());
            drop(handed);
            drop(Lock::wait(&path).unwrap());
        }
        assert!(inbox.is_connected());
        drop(link);
        assert!(!inbox.is_connected());
        assert!(inbox.next(&stop, None).unwrap().is_none());
    }

    #[test]
    fn lock_of_an_unread_assignment_is_released() {
        let (link, inbox) = ends();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::try_take(&path, "").unwrap().unwrap();
        link.send(dir.path(), &lock, &Environ::empty()).unwrap();
        drop((lock, inbox));
        let lock = Lock::wait(&path).unwrap();
        assert!(link.send(dir.path(), &lock, &Environ::empty()).is_err());
        assert!(Lock::is_held(&path).unwrap(), "the lock is still held by the sender");
    }

    #[test]
    fn inbox_without_an_assignment_gives_up_at_its_deadline() {
        let (link, inbox) = ends();
        let stop = StopFlag::new().unwrap();
        let error = inbox.next(&stop, Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(link);
    }

    #[test]
    fn stop_flag_keeps_the_inbox_from_receiving() {
        let (link, inbox) = ends();
        let stop = StopFlag::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::try_take(&dir.path().join("lock"), "").unwrap().unwrap();
        link.send(dir.path(), &lock, &Environ::empty()).unwrap();
        stop.raise();
        assert!(inbox.next(&stop, None).unwrap().is_none());
        stop.lower();
        assert!(inbox.next(&stop, None).unwrap().is_some());
    }
}
