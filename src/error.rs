//! Exit codes, and errors that carry one.

/// Every task has landed or was handed in; nothing is left to do.
pub const OK: u8 = 0;
/// It ended, but some task failed (`start`); some tasks have not ended (`status --exit-code`); a check did not pass.
pub const INCOMPLETE: u8 = 1;
/// Every task has ended (`poll`); no such run (`status --exit-code`).
pub const ENDED: u8 = 2;
/// It stopped for a person.
pub const PERSON: u8 = 3;
/// Fatal, git's own habit.
pub const FATAL: u8 = 128;
/// Usage, git's own habit.
pub const USAGE: u8 = 129;
/// Added to the signal that interrupted it.
pub const SIGNAL: u8 = 128;

/// An error with advice on what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Advice {
    /// What is wrong.
    pub message: String,
    /// What to do, a line each.
    pub hints: Vec<String>,
}

impl Advice {
    /// An error with one piece of advice.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hints: vec![hint.into()] }
    }
}
