//! Exit codes, and errors with hints.

/// Everything that was requested succeeded.
pub const OK: u8 = 0;
/// Not everything succeeded: a task failed, a branch did not land, a check did not pass, a request
/// had no effect. `status --exit-code`: some tasks have not ended.
pub const INCOMPLETE: u8 = 1;
/// `poll`: every task has ended.
pub const POLL_ENDED: u8 = 2;
/// `status --exit-code`: there is no such run.
pub const NO_SUCH_RUN: u8 = 2;
/// The command stopped and needs a person.
pub const NEEDS_PERSON: u8 = 3;
/// A fatal error. git uses the same code.
pub const FATAL: u8 = 128;
/// Wrong usage. git uses the same code.
pub const USAGE: u8 = 129;
/// The base of the exit codes for signals. The code is this base plus the number of the signal that
/// ended the command, as in shells.
pub const SIGNAL_BASE: u8 = 128;

/// Returns the exit code of a process that ended because of a signal.
pub fn interrupted(signal: i32) -> u8 {
    SIGNAL_BASE.saturating_add(u8::try_from(signal).unwrap_or(0))
}

/// An error with hints on what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Advice {
    /// The message: the problem, the object that has the problem, and the reason.
    pub message: String,
    /// The steps to take, one for each line.
    pub hints: Vec<String>,
}

impl Advice {
    /// Creates an error with one hint.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hints: vec![hint.into()] }
    }
}
