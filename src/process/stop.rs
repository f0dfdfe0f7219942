//! Being asked to stop, in a form that `poll` can wait for; and how others are asked.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A signal that asks a process to stop, or ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopSignal {
    /// SIGINT, as from a terminal.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// Which processes of a command get a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalTarget {
    /// The one that was started.
    Leader,
    /// Those that stayed in its process group.
    Group,
    /// All of them, wherever they are.
    Tree,
}

/// One step of the way in which a command is asked to stop. Programs differ in what makes them tidy up: some hear
/// SIGINT, and only if their tools do not get it too; some pass on nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopStep {
    /// The signal.
    pub signal: StopSignal,
    /// Who gets it.
    pub target: SignalTarget,
    /// How long all of the command's processes have then to go, before the next step.
    pub wait: Duration,
}

/// Says whether this process was asked to stop. Once asked, always asked, until it is lowered.
#[derive(Debug)]
pub(crate) struct StopFlag {
    asked: Arc<AtomicBool>,
    wake: UnixStream,
    waker: UnixStream,
}

impl StopFlag {
    /// A flag that only `ask` raises.
    pub(crate) fn new() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        Ok(Self { asked: Arc::new(AtomicBool::new(false)), wake, waker })
    }

    /// The flag of a keeper: SIGTERM raises it. SIGINT and SIGHUP are let pass, since they come from a terminal that the
    /// keeper has nothing to do with. (They are caught and not ignored: an ignored signal would stay ignored in the
    /// agent.)
    pub(crate) fn on_terminate() -> io::Result<Self> {
        let flag = Self::new()?;
        signal_hook::flag::register(SIGTERM, Arc::clone(&flag.asked))?;
        signal_hook::low_level::pipe::register(SIGTERM, flag.waker.try_clone()?)?;
        let nobody = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGINT, Arc::clone(&nobody))?;
        signal_hook::flag::register(SIGHUP, nobody)?;
        Ok(flag)
    }

    /// Raises the flag.
    #[cfg(test)]
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        // A full pipe has woken everybody already.
        io::Write::write_all(&mut &self.waker, &[0]).ok();
    }

    /// Lowers the flag, for somebody who goes on with something else after having stopped.
    pub(crate) fn lower(&self) {
        self.asked.store(false, Ordering::SeqCst);
        // Until nothing is left to read.
        let mut sink = [0; 64];
        while (&self.wake).read(&mut sink).is_ok_and(|n| n > 0) {}
    }

    /// Whether the flag was raised.
    pub(crate) fn is_raised(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Readable from the moment the flag is raised.
impl AsFd for StopFlag {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
