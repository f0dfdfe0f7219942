//! Starting a keeper process, and becoming one.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::{Environ, KeeperLink, Lock, keeper_link};

/// A keeper that this process has started. Dropping the handle does not affect the keeper.
#[derive(Debug)]
pub(crate) struct KeeperHandle {
    handle: duct::Handle,
}

impl KeeperHandle {
    /// Returns the process number of the keeper.
    #[cfg(test)]
    pub(super) fn pid(&self) -> i32 {
        self.handle.pids().first().map_or(0, |pid| pid.cast_signed())
    }

    /// Waits until the keeper has ended. The exit status has no meaning: the keeper publishes its
    /// result in a ref or a file.
    pub(crate) fn wait(self) -> io::Result<()> {
        self.handle.wait().map(drop)
    }

    /// Returns true if the keeper has ended, without waiting.
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        Ok(self.handle.try_wait()?.is_some())
    }
}

/// Starts `exe` with `args` as a keeper, which must call [`adopt_lock`] first. The keeper gets the
/// open file of `lock` as its standard input, so that the lock is held without a gap: by this
/// process until it drops `lock`, and by the keeper until it ends. The keeper's own output is
/// appended to `log`.
///
/// The keeper does not get its own process group here: a group leader cannot call `setsid`.
pub(crate) fn start_keeper(
    exe: &Path,
    args: &[OsString],
    lock: &Lock,
    env: &Environ,
    log: &Path,
) -> io::Result<KeeperHandle> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let handle = duct::cmd(exe, args)
        .full_env(env.pairs())
        .stdin_file(lock.open_file()?)
        .stdout_file(log.try_clone()?)
        .stderr_file(log)
        .unchecked()
        .start()?;
    Ok(KeeperHandle { handle })
}

/// Starts a keeper like [`start_keeper`], with a link that can send it further assignments.
pub(crate) fn start_linked_keeper(
    exe: &Path,
    args: &[OsString],
    lock: &Lock,
    env: &Environ,
    log: &Path,
) -> io::Result<(KeeperHandle, KeeperLink)> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let (ours, theirs) = keeper_link::pair()?;
    let handle = duct::cmd(exe, args)
        .full_env(env.pairs())
        .stdin_file(lock.open_file()?)
        .stdout_file(File::from(theirs))
        .stderr_file(log)
        .unchecked()
        .start()?;
    Ok((KeeperHandle { handle }, ours))
}

/// Makes this process a keeper: takes the lock from standard input, which becomes `/dev/null`, and
/// leaves the session and terminal of the parent process. From then on, orphans among the
/// descendants become children of this process.
///
/// The lock is closed on exec: an agent that inherited the lock would hold it after the keeper's
/// death.
pub(crate) fn adopt_lock() -> io::Result<Lock> {
    let stdin = rustix::stdio::stdin();
    let stat = rustix::fs::fstat(stdin)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        let text = "a keeper is started by git-harness itself: standard input is not a lock";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let lock = Lock::from(rustix::io::fcntl_dupfd_cloexec(stdin, 3)?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    match rustix::process::setsid() {
        // EPERM: this process already leads a group, because a shell started it. It then stays in
        // the shell's session.
        Ok(_) | Err(Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    become_reaper()?;
    Ok(lock)
}

/// Makes this process the reaper of orphans among its descendants. Only Linux supports this.
pub(super) fn become_reaper() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}

/// Sends SIGTERM to the process `pid` if its start time is still `start_time` (see
/// [`start_time`](super::start_time)). A `start_time` of 0 means unknown and matches every process.
/// Returns true if the signal was sent.
pub(crate) fn send_terminate(pid: i32, start_time: u64) -> io::Result<bool> {
    let Some(process) = Pid::from_raw(pid).filter(|_| pid > 1) else {
        return Ok(false);
    };
    match signal_checked(process, start_time) {
        Ok(sent) => Ok(sent),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(target_os = "linux")]
fn signal_checked(process: Pid, start: u64) -> rustix::io::Result<bool> {
    // The pidfd is opened before the start times are compared: it keeps referring to the same
    // process, even if the number is reused.
    let pidfd = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())?;
    let now = super::start_time(process.as_raw_nonzero().get());
    if now.is_none() || (start != 0 && now != Some(start)) {
        return Ok(false);
    }
    rustix::process::pidfd_send_signal(&pidfd, Signal::TERM)?;
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
fn signal_checked(process: Pid, _start: u64) -> rustix::io::Result<bool> {
    rustix::process::kill_process(process, Signal::TERM)?;
    Ok(true)
}
