//! Requests to stop: the flag of this process, which `poll` can wait for, and the signals for other
//! processes.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A signal that asks a process to stop, or kills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopSignal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// The processes of a command that get a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalTarget {
    /// The main process.
    Leader,
    /// The processes that stayed in its process group.
    Group,
    /// All processes of the command.
    Tree,
}

/// A step in stopping a command. Programs differ: some clean up on SIGINT only, and only if their
/// child processes do not get the signal too; some forward nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopStep {
    /// The signal.
    pub signal: StopSignal,
    /// The processes that get the signal.
    pub target: SignalTarget,
    /// The time that all processes of the command have to end before the next step.
    pub wait: Duration,
}

/// A flag that is raised when this process is asked to stop. It stays raised until it is lowered.
#[derive(Debug)]
pub(crate) struct StopFlag {
    raised: Arc<AtomicBool>,
    wake: UnixStream,
    waker: UnixStream,
}

impl StopFlag {
    /// Creates a flag that is raised only by `raise`.
    pub(crate) fn new() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        Ok(Self { raised: Arc::new(AtomicBool::new(false)), wake, waker })
    }

    /// Creates the flag of a keeper. SIGTERM raises the flag. SIGINT and SIGHUP have no effect,
    /// since they come from a terminal that the keeper has left. They are caught and not ignored:
    /// an ignored signal would stay ignored in the agent.
    pub(crate) fn on_terminate() -> io::Result<Self> {
        let flag = Self::new()?;
        signal_hook::flag::register(SIGTERM, Arc::clone(&flag.raised))?;
        signal_hook::low_level::pipe::register(SIGTERM, flag.waker.try_clone()?)?;
        let unread = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGINT, Arc::clone(&unread))?;
        signal_hook::flag::register(SIGHUP, unread)?;
        Ok(flag)
    }

    /// Raises the flag.
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
        // A full pipe has already woken every reader.
        io::Write::write_all(&mut &self.waker, &[0]).ok();
    }

    /// Lowers the flag, so that this process can continue with other work.
    pub(crate) fn lower(&self) {
        self.raised.store(false, Ordering::SeqCst);
        // Drains the pipe.
        let mut sink = [0; 64];
        while (&self.wake).read(&mut sink).is_ok_and(|n| n > 0) {}
    }

    /// Returns true if the flag is raised.
    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }
}

/// Becomes readable when the flag is raised.
impl AsFd for StopFlag {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
