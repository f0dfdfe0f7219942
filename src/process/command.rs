//! The description of a supervised command: program, environment and limits.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Confinement, Environ, Redactor, StopStep};

/// The default of [`Command::cap`].
const DEFAULT_CAP: u64 = 64 * 1024;

/// The default of [`Command::grace`].
const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// The standard input of a command. Every variant reaches the end of input: some programs would
/// otherwise wait for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// `/dev/null`.
    Null,
    /// A file.
    File(PathBuf),
}

/// The method for finding all processes of a command, in order to kill them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Containment {
    /// The marker in the environment. For a parent process that has other children as well.
    Marker,
    /// The marker, and parenthood. For a process that runs nothing but the command, such as a
    /// keeper: every child that did not exist before the start belongs to the command.
    OwnProcess,
    /// As `OwnProcess`, plus a control group if the system permits one. A control group also
    /// catches processes that start while the tree is being killed. Entering and leaving a group
    /// takes tens of milliseconds (measured), too much for anything shorter than an agent's
    /// session.
    ControlGroup,
}

/// A command, and the limits it runs under.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    /// The program and its arguments. A program with a `/` is resolved against `cwd`; any other is
    /// searched in PATH.
    pub argv: Vec<OsString>,
    /// The working directory.
    pub cwd: PathBuf,
    /// All environment variables, except for the marker, which is added at the start.
    pub env: Environ,
    /// The standard input.
    pub stdin: Stdin,
    /// The secrets that are removed from the output before the output is written to disk.
    pub redactor: Redactor,
    /// The file that receives standard output. It is created or truncated.
    pub stdout: PathBuf,
    /// The file that receives standard error. It is created or truncated.
    pub stderr: PathBuf,
    /// The number of bytes that are kept of each stream: three quarters from its beginning, the
    /// rest from its end.
    pub cap: u64,
    /// The longest time that the command may run.
    pub timeout: Duration,
    /// The longest time without output on both streams or, with a listener, without progress.
    pub idle: Option<Duration>,
    /// The longest silence after a listener has reported that the command has finished.
    pub linger: Duration,
    /// The value of `HARNESS_MARK` in all processes of the command, unique for each keeper.
    pub marker: String,
    /// The steps by which the command is asked to stop, taken in turn until all its processes have
    /// ended. Processes that are left after the last step are killed. Without steps, all processes
    /// get SIGTERM and have `grace` to end.
    pub stop: Vec<StopStep>,
    /// The time between SIGTERM and SIGKILL if `stop` is empty.
    pub grace: Duration,
    /// The method for finding the processes of the command.
    pub containment: Containment,
    /// The sandbox; `None` for a command with the rights of this process. Program, arguments,
    /// environment and `cwd` name paths of the machine, which are translated.
    pub sandbox: Option<Confinement>,
}

impl Command {
    /// Describes a command with no environment variables, no standard input and no time limit.
    ///
    /// The output goes to the files `stdout` and `stderr`, with everything that looks like a key
    /// removed. `marker` identifies the processes and must be unique.
    pub(crate) fn new<A: Into<OsString>>(
        argv: impl IntoIterator<Item = A>,
        cwd: &Path,
        marker: &str,
        stdout: PathBuf,
        stderr: PathBuf,
    ) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            cwd: cwd.to_path_buf(),
            env: Environ::empty(),
            stdin: Stdin::Null,
            redactor: Redactor::keys_only(),
            stdout,
            stderr,
            cap: DEFAULT_CAP,
            timeout: Duration::MAX,
            idle: None,
            linger: Duration::ZERO,
            marker: marker.to_owned(),
            stop: Vec::new(),
            grace: DEFAULT_GRACE,
            containment: Containment::Marker,
            sandbox: None,
        }
    }

    /// Sets all environment variables.
    pub(crate) fn env(self, env: Environ) -> Self {
        Self { env, ..self }
    }

    /// Sets the file that the command reads.
    pub(crate) fn stdin_file(self, path: PathBuf) -> Self {
        Self { stdin: Stdin::File(path), ..self }
    }

    /// Sets the secrets that are removed from the output.
    pub(crate) fn redactor(self, redactor: Redactor) -> Self {
        Self { redactor, ..self }
    }

    /// Sets the number of bytes that are kept of each stream.
    pub(crate) fn cap(self, cap: u64) -> Self {
        Self { cap, ..self }
    }

    /// Sets the longest time that the command may run.
    pub(crate) fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sets the longest time without output or progress.
    pub(crate) fn idle(self, idle: Option<Duration>) -> Self {
        Self { idle, ..self }
    }

    /// Sets the longest silence after the command has finished.
    pub(crate) fn linger(self, linger: Duration) -> Self {
        Self { linger, ..self }
    }

    /// Sets the steps by which the command is asked to stop.
    pub(crate) fn stop_steps(self, stop: Vec<StopStep>) -> Self {
        Self { stop, ..self }
    }

    /// Sets the time between SIGTERM and SIGKILL.
    pub(crate) fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Sets the sandbox.
    pub(crate) fn sandbox(self, sandbox: Option<Confinement>) -> Self {
        Self { sandbox, ..self }
    }

    /// Sets the method for finding the processes of the command.
    pub(crate) fn containment(self, containment: Containment) -> Self {
        Self { containment, ..self }
    }
}
