//! The supervision of one command: start, limits, output, and the end of its process tree.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::StopFlag;
use super::bubblewrap::SandboxFiles;
use super::cgroup::Cgroup;
use super::command::{Command, Containment};
use super::detach::become_reaper;
use super::output::{Drained, OutputFile};
use super::program::{self, build_expression, explain_start_error, start};
use super::stop::{SignalTarget, StopSignal, StopStep};
use super::tree::{KillCount, ProcessTree};
use super::watchdog::{Listener, OutputStream, Watchdog};
use crate::domain::termination::Termination;

/// The result of a supervised command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandResult {
    /// The termination of the main process.
    pub termination: Termination,
    /// The number of bytes that the command wrote to standard output.
    pub stdout_bytes: u64,
    /// The number of those bytes that the file keeps. The line that marks the omitted part does not
    /// count.
    pub stdout_kept: u64,
    /// The number of bytes that the command wrote to standard error.
    pub stderr_bytes: u64,
    /// The number of those bytes that the file keeps.
    pub stderr_kept: u64,
    /// The running time of the main process.
    pub wall: Duration,
    /// The number of processes of the command that outlived the main process and were killed.
    pub leftover: usize,
    /// The number of processes of the command that could not be killed, because they are stuck in
    /// the kernel.
    pub survivors: usize,
}

/// The polling interval for events that no descriptor reports: the end of processes other than the
/// main process and, on platforms without pidfds, the end of the main process.
const TICK: Duration = Duration::from_millis(20);

/// The largest number of reads from a pipe after the process tree has been killed.
const LAST_READS: usize = 16;

/// Runs a command and kills the processes that outlive the main process. When the function returns,
/// no process of the command is left, even one that tried to hide. [`CommandResult::survivors`]
/// counts the exceptions.
///
/// The termination is the wait status of the main process or, after a request to stop, the reason
/// for the request. Output is read until the main process has ended, and not until the pipe is
/// closed: a daemon can hold the pipe open.
pub(crate) fn run(command: &Command, stop: &StopFlag) -> io::Result<CommandResult> {
    supervise(command, stop, None)
}

/// Runs a command like [`run`], with a listener that interprets its output.
pub(crate) fn run_with_listener(
    command: &Command,
    stop: &StopFlag,
    listener: &mut dyn Listener,
) -> io::Result<CommandResult> {
    supervise(command, stop, Some(listener))
}

fn supervise(
    command: &Command,
    stop: &StopFlag,
    listener: Option<&mut dyn Listener>,
) -> io::Result<CommandResult> {
    let mut stdout = CapturedStream::new(
        OutputStream::Stdout,
        OutputFile::create(&command.stdout, command.cap, &command.redactor)?,
    )?;
    let mut stderr = CapturedStream::new(
        OutputStream::Stderr,
        OutputFile::create(&command.stderr, command.cap, &command.redactor)?,
    )?;
    if stop.is_raised() {
        return Ok(CommandResult::before_start(Termination::Stopped));
    }
    let program = match program::find(command) {
        Ok(program) => program,
        Err(why) => return Ok(CommandResult::before_start(Termination::NotStarted(why))),
    };
    let mut tree = match command.containment {
        Containment::Marker => ProcessTree::by_marker(&command.marker),
        Containment::OwnProcess | Containment::ControlGroup => {
            become_reaper()?;
            ProcessTree::by_parent(&command.marker)
        }
    }
    .in_sandbox(command.sandbox.is_some());
    let begun = Instant::now();
    let (handle, files) = {
        let (expression, files) =
            build_expression(command, &program, stdout.writer()?, stderr.writer()?)?;
        let group = match command.containment {
            Containment::Marker | Containment::OwnProcess => None,
            Containment::ControlGroup => Cgroup::enter(&command.marker),
        };
        let started = start(&expression);
        let group = group.and_then(Cgroup::leave);
        match started {
            Ok(handle) => {
                tree.started(handle.pids().first().map_or(0, |pid| pid.cast_signed()), group);
                (handle, files)
            }
            Err(error) => {
                return explain_start_error(&error, &program).map_or(Err(error), |why| {
                    Ok(CommandResult::before_start(Termination::NotStarted(why)))
                });
            }
        }
        // Drops the expression and this process's copies of the writing ends.
    };
    let watchdog = Watchdog::new(listener, begun);
    let mut watch = Supervision {
        command,
        stop,
        tree,
        handle,
        files,
        begun,
        stdout,
        stderr,
        watchdog,
        stop_progress: None,
    };
    let watched = watch.watch_until_end();
    if let Some(first) = watch.files.as_ref().and_then(SandboxFiles::first_process) {
        watch.tree.reap_sandbox(first);
    }
    // The tree is killed after an error, too.
    let kill_count = watch.tree.kill();
    let wall = watched.as_ref().map_or_else(|_| begun.elapsed(), |&wall| wall);
    watched?;
    watch.finish(wall, kill_count)
}

impl CommandResult {
    fn before_start(termination: Termination) -> Self {
        Self {
            termination,
            stdout_bytes: 0,
            stdout_kept: 0,
            stderr_bytes: 0,
            stderr_kept: 0,
            wall: Duration::ZERO,
            leftover: 0,
            survivors: 0,
        }
    }
}

/// An output stream of the command: a pipe, and the file that keeps its content.
pub(super) struct CapturedStream {
    source: OutputStream,
    reader: Option<PipeReader>,
    writer: Option<PipeWriter>,
    kept: OutputFile,
}

impl CapturedStream {
    pub(super) fn new(source: OutputStream, kept: OutputFile) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        // Only the reading end is non-blocking: a command that writes to a non-blocking pipe would
        // lose output.
        rustix::io::ioctl_fionbio(&reader, true)?;
        // A larger pipe means fewer context switches. The call fails if the user's limit for all
        // pipes is reached, which does no harm.
        #[cfg(target_os = "linux")]
        rustix::pipe::fcntl_setpipe_size(&reader, 256 * 1024).ok();
        Ok(Self { source, reader: Some(reader), writer: Some(writer), kept })
    }

    pub(super) fn writer(&mut self) -> io::Result<PipeWriter> {
        self.writer.take().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Reads a limited amount of the available output. Returns true if there was any.
    fn drain(&mut self, watchdog: &mut Watchdog<'_>) -> io::Result<bool> {
        let Some(reader) = &mut self.reader else {
            return Ok(false);
        };
        let mut observe = |bytes: &[u8]| watchdog.observe(self.source, bytes, Instant::now());
        match self.kept.drain(reader, &mut observe)? {
            Drained::Nothing => Ok(false),
            Drained::Some(_) => Ok(true),
            Drained::Closed => {
                self.reader = None;
                Ok(false)
            }
        }
    }

    pub(super) fn finish(mut self, watchdog: &mut Watchdog<'_>) -> io::Result<(u64, u64)> {
        for _ in 0..LAST_READS {
            if !self.drain(watchdog)? {
                break;
            }
        }
        self.kept.finish()
    }
}

/// A request to stop, and the progress of the steps that carry it out.
struct StopProgress {
    reason: Termination,
    /// The index of the next step.
    next: usize,
    until: Instant,
    scanned: Instant,
}

/// A running command and everything that is needed to watch it.
struct Supervision<'a, 'l> {
    command: &'a Command,
    stop: &'a StopFlag,
    tree: ProcessTree,
    handle: duct::Handle,
    /// The files of the sandbox, if there is one.
    files: Option<SandboxFiles>,
    begun: Instant,
    stdout: CapturedStream,
    stderr: CapturedStream,
    watchdog: Watchdog<'l>,
    stop_progress: Option<StopProgress>,
}

impl Supervision<'_, '_> {
    /// Watches the command until it has ended or all stop steps have passed. Returns the running
    /// time of the main process.
    fn watch_until_end(&mut self) -> io::Result<Duration> {
        #[cfg(target_os = "linux")]
        let pidfd = self.pidfd()?;
        #[cfg(not(target_os = "linux"))]
        let pidfd: Option<OwnedFd> = None;
        let mut ran = None;
        loop {
            if ran.is_none() && self.handle.try_wait()?.is_some() {
                ran = Some(self.begun.elapsed());
            }
            let now = Instant::now();
            let due = match &mut self.stop_progress {
                None => {
                    if let Some(ran) = ran {
                        return Ok(ran);
                    }
                    let limit = self.begun.checked_add(self.command.timeout);
                    let limit = limit.map(|at| (at, Termination::TimedOut));
                    let silence = self.watchdog.deadline(self.command.idle, self.command.linger);
                    let first = [limit, silence].into_iter().flatten().min_by_key(|(at, _)| *at);
                    let reason = if self.stop.is_raised() {
                        Some(Termination::Stopped)
                    } else {
                        first.as_ref().filter(|(at, _)| *at <= now).map(|(_, why)| why.clone())
                    };
                    if let Some(reason) = reason {
                        self.stop_progress =
                            Some(StopProgress { reason, next: 0, until: now, scanned: now });
                        self.take_stop_step(true);
                        continue;
                    }
                    first.map(|(at, _)| at - now)
                }
                Some(progress) => {
                    // The main process may be a wrapper that ends at once. The processes that it
                    // started get the same grace period.
                    let tree_has_ended = ran.is_some() && now >= progress.scanned + TICK && {
                        progress.scanned = now;
                        self.tree.living().is_empty()
                    };
                    let until = progress.until;
                    if tree_has_ended || now >= until && !self.take_stop_step(ran.is_none()) {
                        return Ok(ran.unwrap_or_else(|| self.begun.elapsed()));
                    }
                    Some(until.saturating_duration_since(now).min(TICK))
                }
            };
            let wakes = pidfd.as_ref().filter(|_| ran.is_none());
            self.wait(wakes, due)?;
            self.stdout.drain(&mut self.watchdog)?;
            self.stderr.drain(&mut self.watchdog)?;
        }
    }

    /// Takes the next stop step. Skips steps that signal only the main process if it has ended.
    /// Returns false if no step is left.
    fn take_stop_step(&mut self, main_lives: bool) -> bool {
        let default_steps = [StopStep {
            signal: StopSignal::Terminate,
            target: SignalTarget::Tree,
            wait: self.command.grace,
        }];
        let steps: &[StopStep] =
            if self.command.stop.is_empty() { &default_steps } else { &self.command.stop };
        let Some(progress) = &mut self.stop_progress else { return false };
        while let Some(step) = steps.get(progress.next) {
            progress.next += 1;
            if step.target == SignalTarget::Leader && !main_lives {
                continue;
            }
            self.tree.signal(step.signal, step.target);
            progress.scanned = Instant::now();
            progress.until = progress.scanned.checked_add(step.wait).unwrap_or(progress.scanned);
            return true;
        }
        false
    }

    /// Opens a descriptor that becomes readable when the main process ends. Returns `None` if the
    /// process has already ended and was reaped.
    #[cfg(target_os = "linux")]
    fn pidfd(&self) -> io::Result<Option<OwnedFd>> {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let pid = self.handle.pids().first().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        Ok(pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())).transpose()?)
    }

    /// Waits until there is output to read, the main process ends, the stop flag is raised, or the
    /// time `due` has passed.
    fn wait(&self, pidfd: Option<&OwnedFd>, due: Option<Duration>) -> io::Result<()> {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(4);
        fds.extend([&self.stdout.reader, &self.stderr.reader].into_iter().flatten().map(readable));
        fds.extend(pidfd.map(readable));
        if self.stop_progress.is_none() {
            fds.push(readable(self.stop));
        }
        let due = if cfg!(target_os = "linux") {
            due
        } else {
            Some(due.map_or(TICK, |due| due.min(TICK)))
        };
        // Rounded up, so that the deadline has passed when the poll returns.
        let timeout = due.map(|due| due + Duration::from_millis(1)).map(|due| Timespec {
            tv_sec: due.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: due.subsec_nanos().into(),
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the remaining output and assembles the result.
    fn finish(mut self, wall: Duration, kill_count: KillCount) -> io::Result<CommandResult> {
        let (stdout_bytes, stdout_kept) = self.stdout.finish(&mut self.watchdog)?;
        let (stderr_bytes, stderr_kept) = self.stderr.finish(&mut self.watchdog)?;
        let termination = match self.stop_progress {
            Some(progress) => {
                // Reaps the main process. A process that is stuck in the kernel is left to init.
                self.handle.try_wait()?;
                progress.reason
            }
            None => {
                let status = self.handle.wait()?.status;
                match (status.code(), status.signal()) {
                    (Some(code), Some(_) | None) => match &self.files {
                        None => Termination::Exited(code),
                        Some(files) if files.has_run()? => sandboxed_termination(code),
                        Some(_) => return Err(sandbox_error(self.command)),
                    },
                    (None, signal) => Termination::Signalled(signal.unwrap_or(0)),
                }
            }
        };
        let KillCount { ended, survivors } = kill_count;
        // The kernel kills the processes of a sandbox together, so none is left behind.
        let leftover = if self.files.is_some() { 0 } else { ended };
        Ok(CommandResult {
            termination,
            stdout_bytes,
            stdout_kept,
            stderr_bytes,
            stderr_kept,
            wall,
            leftover,
            survivors,
        })
    }
}

/// Returns the termination of a command by the exit code of its sandbox. The sandbox reports a
/// signal as a shell does. Only the signals that are sent from outside are told from exit codes.
fn sandboxed_termination(code: i32) -> Termination {
    match code - 128 {
        signal @ (9 | 15) => Termination::Signalled(signal),
        _ => Termination::Exited(code),
    }
}

/// Returns the error of a sandbox that could not be set up.
fn sandbox_error(command: &Command) -> io::Error {
    let text = std::fs::read_to_string(&command.stderr).unwrap_or_default();
    let why = text.lines().next_back().unwrap_or("bwrap gave no reason").to_owned();
    io::Error::other(format!("the sandbox could not be set up: {why}"))
}

fn readable(fd: &impl AsFd) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::IN)
}
