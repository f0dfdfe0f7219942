//! Validation of JSON documents against a JSON Schema.
//!
//! `$schema` selects one of the drafts 4, 6, 7, 2019-09 and 2020-12; the default is 2020-12.
//! References to other documents are not resolved, because the result of a check must not depend on
//! a server.

use anyhow::{Result, anyhow};
use serde_json::Value;

/// The version of the validator. Recorded verdicts are valid for this version only.
pub(crate) const ENGINE: &str = "json-schema 1";

/// The longest message about a violation, in characters.
const LONGEST_MESSAGE: usize = 200;

/// A parsed schema.
#[derive(Debug)]
pub(crate) struct JsonSchema {
    validator: jsonschema::Validator,
}

impl JsonSchema {
    /// Parses a schema.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|e| anyhow!("not JSON: {e}"))?;
        let options = jsonschema::options().should_validate_formats(true);
        let validator = options
            .build(&value)
            .map_err(|e| anyhow!("at {}: {e}", describe_path(e.instance_path())))?;
        Ok(Self { validator })
    }

    /// Returns the violations in a document, each with its path.
    pub(crate) fn violations(&self, document: &[u8]) -> Vec<String> {
        let value: Value = match serde_json::from_slice(document) {
            Ok(value) => value,
            Err(error) => return vec![format!("it is not JSON: {error}")],
        };
        let describe = |e: jsonschema::ValidationError<'_>| {
            let text = shorten(&e.to_string());
            format!("at {}: {text}", describe_path(e.instance_path()))
        };
        self.validator.iter_errors(&value).map(describe).collect()
    }
}

/// Formats a JSON Pointer (RFC 6901) for people. The pointer to the whole document is empty.
fn describe_path(pointer: impl ToString) -> String {
    let pointer = pointer.to_string();
    if pointer.is_empty() { "the top".to_owned() } else { format!("`{pointer}`") }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= LONGEST_MESSAGE {
        return text.to_owned();
    }
    // The message ends with the expectation, after the quoted value.
    let half = LONGEST_MESSAGE / 2;
    let head: String = text.chars().take(half).collect();
    let tail: Vec<char> = text.chars().rev().take(half).collect();
    format!("{head} … {}", tail.into_iter().rev().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::JsonSchema;

    const FINDINGS: &str = r#"{
        "type": "object", "required": ["findings"], "additionalProperties": false,
        "properties": {"findings": {"type": "array", "items": {
            "type": "object", "required": ["line", "text"],
            "properties": {"line": {"type": "integer", "minimum": 1}, "text": {"type": "string"}}
        }}}
    }"#;

    fn violations(document: &str) -> String {
        JsonSchema::parse(FINDINGS).unwrap().violations(document.as_bytes()).join("\n")
    }

    #[test]
    fn json_schema_accepts_a_valid_document() {
        assert_eq!(violations(r#"{"findings": []}"#), "");
        assert_eq!(violations(r#"{"findings": [{"line": 3, "text": "x", "more": 1}]}"#), "");
    }

    #[test]
    fn json_schema_violations_have_a_path() {
        let text =
            violations(r#"{"findings": [{"line": 3, "text": "x"}, {"line": 0}], "more": 1}"#);
        assert!(text.contains("at `/findings/1/line`: 0 is less than the minimum of 1"), "{text}");
        assert!(text.contains("at `/findings/1`: \"text\" is a required property"), "{text}");
        assert!(text.contains("at the top: ") && text.contains("'more'"), "{text}");
        assert!(
            violations("{} x").starts_with("it is not JSON: trailing characters"),
            "{}",
            violations("{} x")
        );
        assert!(violations("").starts_with("it is not JSON: EOF"), "{}", violations(""));
        let long = format!(r#"{{"findings": "{}"}}"#, "y".repeat(10_000));
        let text = violations(&long);
        assert!(text.len() < 400 && text.ends_with("is not of type \"array\""), "{text}");
    }

    #[test]
    fn invalid_json_schema_is_an_error_with_a_path() {
        let error = |text| format!("{:#}", JsonSchema::parse(text).unwrap_err());
        assert!(error("{").starts_with("not JSON: "));
        let text = error(r#"{"properties": {"a": {"type": "nothing"}}}"#);
        assert!(text.contains("/properties/a/type"), "{text}");
        // References are not fetched.
        assert!(!error(r#"{"$ref": "https://example.invalid/schema.json"}"#).is_empty());
    }
}
