//! The schema of the rules for all programs.

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use super::schema::ErrorRule;

/// The rules for all programs: `common.toml`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct CommonRules {
    /// Patterns of an HTTP status in a text. The first group is the status.
    pub status_in_words: Vec<Pattern>,
    /// Errors about the content of one conversation. They say nothing about the account or the
    /// command line.
    pub about_conversation: Vec<Pattern>,
    /// Patterns of the model that a limit applies to. The first group is the model's name, or a
    /// part of the name.
    pub limited_model: Vec<Pattern>,
    /// Classes of failures.
    pub errors: Vec<ErrorRule>,
}
