//! Classification of error texts, HTTP statuses and exit codes by rules: first the rules of a
//! preset, then the rules for all programs.

use crate::agent::preset::{ErrorRule, Preset, common};
use crate::domain::session::Class;

/// An error text, and the HTTP statuses that were reported with the text.
#[derive(Debug, Clone, Default)]
pub(super) struct ErrorText {
    /// The normalized text.
    pub(super) text: String,
    pub(super) statuses: Vec<i32>,
}

impl ErrorText {
    /// Returns an error text without statuses.
    pub(super) fn new(text: String) -> Self {
        Self { text, statuses: Vec::new() }
    }

    /// Appends another error text.
    pub(super) fn add(&mut self, other: Self) {
        self.text.push_str(&other.text);
        self.statuses.extend(other.statuses);
    }

    /// Returns true if there is neither a text nor a status.
    pub(super) fn is_empty(&self) -> bool {
        self.statuses.is_empty() && self.text.trim().is_empty()
    }

    /// Returns the class of the first matching rule. The rules of the preset come first.
    pub(super) fn class(&self, preset: &Preset) -> Option<Class> {
        let mut statuses = self.statuses.clone();
        statuses.extend(statuses_in_text(&self.text));
        let matches = |rule: &&ErrorRule| {
            rule.says.as_ref().is_some_and(|pattern| pattern.matches(&self.text))
                || rule.status.iter().any(|range| statuses.iter().any(|n| range.contains(*n)))
        };
        preset.errors.iter().chain(&common().errors).find(matches).map(|rule| rule.class)
    }

    /// Returns the class of the first matching text rule of the preset.
    pub(super) fn class_by_preset_text(&self, preset: &Preset) -> Option<Class> {
        let matches = |rule: &&ErrorRule| {
            rule.says.as_ref().is_some_and(|pattern| pattern.matches(&self.text))
        };
        preset.errors.iter().find(matches).map(|rule| rule.class)
    }
}

/// Returns the HTTP statuses in a text.
fn statuses_in_text(text: &str) -> Vec<i32> {
    let mut statuses = Vec::new();
    for pattern in &common().status_in_words {
        for captures in pattern.regex().captures_iter(text) {
            statuses.extend(captures.get(1).and_then(|digits| digits.as_str().parse::<i32>().ok()));
        }
    }
    statuses
}

/// Returns the class of an exit code.
pub(super) fn exit_class(preset: &Preset, code: i32) -> Option<Class> {
    let matches = |rule: &&ErrorRule| rule.exit.iter().any(|range| range.contains(code));
    preset.errors.iter().chain(&common().errors).find(matches).map(|rule| rule.class)
}
