//! JSON documents held against a JSON Schema.
//!
//! Schemas of the drafts 4, 6, 7, 2019-09 and 2020-12, as their `$schema` says, the last where it says nothing. References
//! to other documents are not followed: a check must not depend on what a server says today.

use anyhow::{Result, anyhow};
use serde_json::Value;

/// What judges: part of the verdicts' key.
pub(crate) const ENGINE: &str = "json-schema 1";

/// No finding is made longer than that by what a document holds, in characters.
const SHOWN: usize = 200;

/// A schema that was understood.
#[derive(Debug)]
pub(crate) struct JsonSchema {
    validator: jsonschema::Validator,
}

impl JsonSchema {
    /// Reads a schema.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|e| anyhow!("not JSON: {e}"))?;
        let options = jsonschema::options().should_validate_formats(true);
        let validator =
            options.build(&value).map_err(|e| anyhow!("at {}: {e}", place(e.instance_path())))?;
        Ok(Self { validator })
    }

    /// What is wrong with a document, each with its place in it; empty when it is good.
    pub(crate) fn violations(&self, document: &[u8]) -> Vec<String> {
        let value: Value = match serde_json::from_slice(document) {
            Ok(value) => value,
            Err(error) => return vec![format!("it is not JSON: {error}")],
        };
        let told = |e: jsonschema::ValidationError<'_>| {
            let text = shorten(&e.to_string());
            format!("at {}: {text}", place(e.instance_path()))
        };
        self.validator.iter_errors(&value).map(told).collect()
    }
}

/// A JSON Pointer (RFC 6901) as people read it; the whole document has an empty one.
fn place(pointer: impl ToString) -> String {
    let pointer = pointer.to_string();
    if pointer.is_empty() { "the top".to_owned() } else { format!("`{pointer}`") }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    // What is wanted stands at the end, behind the value that is quoted.
    let half = SHOWN / 2;
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

    fn said(document: &str) -> String {
        JsonSchema::parse(FINDINGS).unwrap().violations(document.as_bytes()).join("\n")
    }

    #[test]
    fn a_good_document_has_no_violations() {
        assert_eq!(said(r#"{"findings": []}"#), "");
        assert_eq!(said(r#"{"findings": [{"line": 3, "text": "x", "more": 1}]}"#), "");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let text = said(r#"{"findings": [{"line": 3, "text": "x"}, {"line": 0}], "more": 1}"#);
        assert!(text.contains("at `/findings/1/line`: 0 is less than the minimum of 1"), "{text}");
        assert!(text.contains("at `/findings/1`: \"text\" is a required property"), "{text}");
        assert!(text.contains("at the top: ") && text.contains("'more'"), "{text}");
        assert!(
            said("{} x").starts_with("it is not JSON: trailing characters"),
            "{}",
            said("{} x")
        );
        assert!(said("").starts_with("it is not JSON: EOF"), "{}", said(""));
        let long = format!(r#"{{"findings": "{}"}}"#, "y".repeat(10_000));
        let text = said(&long);
        assert!(text.len() < 400 && text.ends_with("is not of type \"array\""), "{text}");
    }

    #[test]
    fn a_schema_that_is_none_says_where() {
        let wrong = |text| format!("{:#}", JsonSchema::parse(text).unwrap_err());
        assert!(wrong("{").starts_with("not JSON: "));
        let text = wrong(r#"{"properties": {"a": {"type": "nothing"}}}"#);
        assert!(text.contains("/properties/a/type"), "{text}");
        // Nothing is fetched.
        assert!(!wrong(r#"{"$ref": "https://example.invalid/schema.json"}"#).is_empty());
    }
}
