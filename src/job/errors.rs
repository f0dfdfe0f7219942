//! The errors of a job file, in the form `file:line:column: message` with an optional hint.

use std::fmt;

/// An error in one value, without its position in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError {
    /// The message.
    pub message: String,
    /// The hint on how to fix the value.
    pub hint: Option<String>,
}

impl ValueError {
    /// Creates an error without a hint.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Adds a hint.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::error::Error for ValueError {}

/// An error in a job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    /// The line, counted from 1.
    pub line: usize,
    /// The column, in characters, counted from 1.
    pub column: usize,
    /// The path of the key, such as `agent.timeout` or `check[0].run`. Empty for a syntax error.
    pub key: String,
    /// The message.
    pub message: String,
    /// The hint on how to fix the value.
    pub hint: Option<String>,
}

/// All errors in a job file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobErrors {
    /// The name of the file in messages.
    pub file: String,
    /// The errors, sorted by position.
    pub errors: Vec<JobError>,
}

impl fmt::Display for JobErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.errors.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            let JobError { line, column, message, .. } = error;
            write!(f, "{}:{line}:{column}: {message}", self.file)?;
            error.hint.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))?;
        }
        Ok(())
    }
}

impl std::error::Error for JobErrors {}

/// Returns the line and the column of a byte offset. Both count from 1, the column in characters.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Returns the known name with the smallest edit distance to a written name, if the known name is
/// close enough to suggest.
pub(crate) fn suggest<'k>(
    written: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    // A third of the letters may be wrong: `tiemout` suggests `timeout`, but `colour` does not
    // suggest `goal`.
    let allowed = (written.chars().count() / 3).max(1);
    let lower = written.to_lowercase().replace('_', "-");
    known
        .into_iter()
        .map(|name| {
            (strsim::damerau_levenshtein(&lower, &name.to_lowercase().replace('_', "-")), name)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// Returns names as a list in prose, each in backticks: `a`, `b` and `c`. `last` is the word before
/// the last name, such as `and`.
pub(crate) fn in_prose<'k>(names: impl IntoIterator<Item = &'k str>, last: &str) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("`{n}`")).collect();
    match names.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((end, others)) => format!("{} {last} {end}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_from_one() {
        assert_eq!(position("a\nüb", 0), (1, 1));
        assert_eq!(position("a\nüb", 2), (2, 1));
        assert_eq!(position("a\nüb", 4), (2, 2));
        assert_eq!(position("a\nüb", 99), (2, 3));
    }

    #[test]
    fn only_close_names_are_suggested() {
        assert_eq!(suggest("tiemout", ["timeout", "prompt"]), Some("timeout"));
        assert_eq!(suggest("idle_timeout", ["timeout", "idle-timeout"]), Some("idle-timeout"));
        assert_eq!(suggest("colour", ["goal", "name"]), None);
    }
}
