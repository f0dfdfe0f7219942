//! What is wrong in a job file, and where: `file:line:column: message`, and a hint where there is something to say.

use std::fmt;

/// What is wrong with one value, before it is known where in the file that value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError {
    /// What is wrong, in a sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ValueError {
    /// A fault whose message says everything.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The same fault, with something to do about it.
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

/// One thing that is wrong in a job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    /// The line, counted from 1.
    pub line: usize,
    /// The column, in characters, counted from 1.
    pub column: usize,
    /// The key it is about, such as `agent.timeout` or `check[0].run`; empty for a fault of the file as a whole.
    pub key: String,
    /// What is wrong, in a sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Everything that was found wrong in a job file, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobErrors {
    /// The file's name, as messages show it.
    pub file: String,
    /// What was found, by position.
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

/// Line and column (both from 1, the column in characters) of a byte offset.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The candidate that is nearest to what was written, if any is near enough to be meant.
pub(crate) fn nearest<'k>(
    written: &str,
    candidates: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    // A third of the letters may be wrong: `tiemout` is `timeout`, `colour` is not `goal`.
    let allowed = (written.chars().count() / 3).max(1);
    let lower = written.to_lowercase().replace('_', "-");
    candidates
        .into_iter()
        .map(|name| {
            (strsim::damerau_levenshtein(&lower, &name.to_lowercase().replace('_', "-")), name)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// Names as a list in prose: `a`, `b` and `c`, each in backticks.
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
    fn only_what_is_near_is_suggested() {
        assert_eq!(nearest("tiemout", ["timeout", "prompt"]), Some("timeout"));
        assert_eq!(nearest("idle_timeout", ["timeout", "idle-timeout"]), Some("idle-timeout"));
        assert_eq!(nearest("colour", ["goal", "name"]), None);
    }
}
