//! Commands that tests run: their output, and commands that run beside the test.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Time limit for everything that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Output and exit code of a command, not yet compared with anything.
#[must_use = "snapshot it or assert on it"]
#[derive(Debug, Clone)]
pub(crate) struct CommandOutput {
    /// The exit code; 128 plus the number of the signal for a command that a signal ended.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl CommandOutput {
    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> AssertedOutput {
        assert_eq!(self.code, code, "another exit code was expected\n{self}");
        AssertedOutput { stdout: self.stdout, stderr: self.stderr, code }
    }

    /// Asserts that either stream contains `text`.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> AssertedOutput {
        let code = self.code;
        self.exits(code).says(text)
    }
}

impl fmt::Display for CommandOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_output(f, &self.stdout, &self.stderr, self.code)
    }
}

/// Output of a command on which a test has asserted something.
#[derive(Debug, Clone)]
pub(crate) struct AssertedOutput {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    code: i32,
}

impl AssertedOutput {
    /// Asserts that either stream contains `text`.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        let contains = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(contains, "the output should contain: {text}\n{self}");
        self
    }
}

impl fmt::Display for AssertedOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_output(f, &self.stdout, &self.stderr, self.code)
    }
}

fn write_output(f: &mut fmt::Formatter<'_>, stdout: &str, stderr: &str, code: i32) -> fmt::Result {
    write!(f, "--- stdout\n{stdout}--- stderr\n{stderr}--- exit {code}\n")
}

/// A command that runs beside the test. Its streams go to files.
pub(crate) struct RunningCommand {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl RunningCommand {
    pub(crate) fn new(child: Child, stdout: PathBuf, stderr: PathBuf) -> Self {
        Self { child, stdout, stderr }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Returns the output so far on standard error.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Returns the output so far on standard output.
    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until the command ends, and returns its output.
    pub(crate) fn wait(mut self) -> CommandOutput {
        use std::os::unix::process::ExitStatusExt as _;
        let since = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if since.elapsed() > PATIENCE {
                self.child.kill().ok();
                self.child.wait().ok();
                panic!("the command did not end in time\n{}", self.stderr());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let read =
            |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        CommandOutput { code, stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }
}

/// Sends a signal to a process. Does nothing if the process does not exist.
pub(crate) fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        kill_process(pid, signal).ok();
    }
}

/// Returns true if the process exists and is no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}
