//! Being asked to stop, in a form that `poll` can wait for.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Says whether this process was asked to stop. Once asked, always asked.
#[derive(Debug)]
pub struct StopFlag {
    asked: Arc<AtomicBool>,
    wake: UnixStream,
    waker: UnixStream,
}

impl StopFlag {
    /// A flag that only [`ask`](Self::ask) raises.
    ///
    /// # Errors
    /// If no socket pair can be made.
    pub fn new() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        Ok(Self { asked: Arc::new(AtomicBool::new(false)), wake, waker })
    }

    /// The flag of a keeper: SIGTERM raises it. SIGINT and SIGHUP are let pass, since they come from a terminal that the
    /// keeper has nothing to do with. (They are caught and not ignored: an ignored signal would stay ignored in the
    /// agent.)
    ///
    /// # Errors
    /// If no socket pair can be made or a handler cannot be set.
    pub fn on_terminate() -> io::Result<Self> {
        let flag = Self::new()?;
        signal_hook::flag::register(SIGTERM, Arc::clone(&flag.asked))?;
        signal_hook::low_level::pipe::register(SIGTERM, flag.waker.try_clone()?)?;
        let nobody = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGINT, Arc::clone(&nobody))?;
        signal_hook::flag::register(SIGHUP, nobody)?;
        Ok(flag)
    }

    /// Raises the flag.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        // A full pipe has woken everybody already.
        (&self.waker).write_all(&[0]).ok();
    }

    /// Whether the flag was raised.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Readable from the moment the flag is raised.
impl AsFd for StopFlag {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
