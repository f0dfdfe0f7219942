//! Distinct types for the names of runs, tasks and git objects.

use std::fmt;

/// The reason why a name was refused. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadName(pub String);

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadName {}

/// The id of a git object, in lower-case hex (40 or 64 digits).
///
/// An id is never empty: `git update-ref` deletes a ref whose new value is empty, as
/// git-update-ref(1) documents.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(Box<str>);

impl Oid {
    /// Parses an id as git prints it.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if hex && (text.len() == 40 || text.len() == 64) {
            Ok(Self(text.into()))
        } else {
            Err(BadName(format!("not an object id: {text:?}")))
        }
    }

    /// Returns the hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first seven digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..7]
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// The longest name that becomes part of a ref, in bytes. A component of 260 bytes causes an I/O
/// error (measured).
pub const MAX_NAME: usize = 100;

fn check_component(text: &str, what: &str) -> Result<(), BadName> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if text.is_empty() || text.len() > MAX_NAME {
        return Err(BadName(format!("{what} must have 1 to {MAX_NAME} characters: {text:?}")));
    }
    if !text.bytes().all(allowed) || text.starts_with('-') {
        return Err(BadName(format!(
            "{what} may hold only a-z, 0-9, `-` and `_`, and not start with `-`: {text:?}"
        )));
    }
    Ok(())
}

/// The name of a run: a component of its refs, `[a-z0-9_-]`, at most [`MAX_NAME`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Box<str>);

impl RunId {
    /// Parses a name. Accepts only names that are safe in a ref on every file system.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        check_component(text, "a run's name")?;
        Ok(Self(text.into()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a task in its run: a component of its refs.
///
/// The name `result` is reserved. The default target branch `harness/<run>/result` lives beside the
/// tasks' branches.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(Box<str>);

impl TaskId {
    /// Parses a name. Accepts only names that are safe in a ref on every file system.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        check_component(text, "a task's name")?;
        if text == "result" {
            return Err(BadName(
                "no task may be called `result`: that is the target branch".into(),
            ));
        }
        Ok(Self(text.into()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Encodes a path in the letters of an id. Different paths may have the same encoding.
pub fn encode_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 8);
    for c in path.chars() {
        match c {
            '/' => out.push_str("__"),
            '.' => out.push_str("_dot_"),
            'a'..='z' | '0'..='9' | '_' | '-' => out.push(c),
            'A'..='Z' => out.push(c.to_ascii_lowercase()),
            _ => out.push('-'),
        }
    }
    out
}

/// A time in milliseconds since the Unix epoch.
///
/// For display and for back-off across restarts only. Timeouts inside a process use a monotonic
/// clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Returns this time plus `ms` milliseconds.
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Returns the milliseconds since `earlier`; 0 if the clock went backwards.
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
