//! The words of a program's protocol, which must not be redacted in its output.

use std::collections::BTreeSet;

use serde_json::Value;

use super::schema::Preset;

impl Preset {
    /// Returns true if a value is a word of the protocol or a part of such a word. A variable with
    /// such a value, for example `success`, holds no secret, and the events cannot be parsed if the
    /// word is redacted.
    pub(crate) fn is_protocol_word(&self, value: &str) -> bool {
        let mut words = BTreeSet::new();
        let rules = [
            serde_json::to_value(&self.output),
            serde_json::to_value(&self.session),
            serde_json::to_value(&self.usage),
            serde_json::to_value(&self.said),
            serde_json::to_value(&self.errors),
            serde_json::to_value(&self.watch),
        ];
        rules.into_iter().flatten().for_each(|rules| collect_words(&rules, &mut words));
        words.iter().any(|word| word.contains(value))
    }
}

/// Adds the names in pointers and the literal texts of rules.
fn collect_words(rules: &Value, words: &mut BTreeSet<String>) {
    let names = |text: &str| -> Vec<String> {
        let names = text.split('/').filter(|name| !name.contains(char::is_whitespace));
        names.map(str::to_owned).collect()
    };
    match rules {
        Value::String(text) => words.extend(names(text)),
        Value::Array(list) => list.iter().for_each(|rules| collect_words(rules, words)),
        Value::Object(fields) => {
            for (name, rules) in fields {
                if name.starts_with('/') {
                    words.extend(names(name));
                }
                // Regular expressions describe texts, not names.
                if !matches!(name.as_str(), "says" | "matches" | "lie") {
                    collect_words(rules, words);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::agent::preset::builtin;

    #[test]
    fn words_of_events_are_protocol_and_other_values_are_not() {
        let claude = builtin("claude").unwrap();
        for word in
            ["result", "success", "session_id", "sessio", "assistant", "is_error", "content"]
        {
            assert!(claude.is_protocol_word(word), "{word}");
        }
        for secret in ["sk-ant-123456", "correct horse", "Credit", "hunter2"] {
            assert!(!claude.is_protocol_word(secret), "{secret}");
        }
        assert!(builtin("codex").unwrap().is_protocol_word("turn.completed"));
    }
}
