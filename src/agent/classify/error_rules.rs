//! From words and statuses to a class, by the rules of a preset and those that hold for all.

use crate::agent::preset::{ErrorRule, Preset, common};
use crate::domain::session::Class;

/// What was said at one place: words, and HTTP statuses that stood beside them.
#[derive(Debug, Clone, Default)]
pub(super) struct ErrorText {
    /// The words, plain.
    pub(super) text: String,
    /// The statuses.
    pub(super) status: Vec<i32>,
}

impl ErrorText {
    /// Words alone.
    pub(super) fn words(text: String) -> Self {
        Self { text, status: Vec::new() }
    }

    /// Whether it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.status.is_empty() && self.text.trim().is_empty()
    }

    /// Its class: the first rule that fits, those of the preset first.
    pub(super) fn class(&self, preset: &Preset) -> Option<Class> {
        let mut status = self.status.clone();
        status.extend(in_words(&self.text));
        let fits = |rule: &&ErrorRule| {
            rule.says.as_ref().is_some_and(|says| says.matches(&self.text))
                || rule.status.iter().any(|codes| status.iter().any(|n| codes.contains(*n)))
        };
        preset.errors.iter().chain(&common().errors).find(fits).map(|rule| rule.class)
    }

    /// Its class by the rules of the preset alone.
    pub(super) fn own_class(&self, preset: &Preset) -> Option<Class> {
        let fits =
            |rule: &&ErrorRule| rule.says.as_ref().is_some_and(|says| says.matches(&self.text));
        preset.errors.iter().find(fits).map(|rule| rule.class)
    }
}

/// HTTP statuses in words.
fn in_words(text: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for pattern in &common().status_in_words {
        for captures in pattern.regex().captures_iter(text) {
            found.extend(captures.get(1).and_then(|number| number.as_str().parse::<i32>().ok()));
        }
    }
    found
}

/// The class of an exit code.
pub(super) fn exit_class(preset: &Preset, code: i32) -> Option<Class> {
    let fits = |rule: &&ErrorRule| rule.exit.iter().any(|codes| codes.contains(code));
    preset.errors.iter().chain(&common().errors).find(fits).map(|rule| rule.class)
}
