//! Validation of JSON documents against a JSON Schema.
//!
//! `$schema` selects one of the drafts 4, 6, 7, 2019-09 and 2020-12; the default is 2020-12.
//! References to other documents are refused, because the result of a check must not depend on a
//! server.

use std::error::Error;

use anyhow::{Result, anyhow};
use boon::{
    CompileError, Compiler, Draft, ErrorKind, SchemaIndex, Schemas, UrlLoader, ValidationError,
};
use serde_json::Value;

/// The name of the validator and its version, a part of the verdicts' key.
pub(crate) const ENGINE: &str = "json-schema 2";

/// The longest text of one violation, in characters. A document may hold values of any length.
const MAX_VIOLATION_CHARS: usize = 200;

/// The URL under which the schema itself is known to the compiler.
const SCHEMA_URL: &str = "harness:///schema.json";

/// A compiled schema.
pub(crate) struct JsonSchema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl std::fmt::Debug for JsonSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonSchema").finish_non_exhaustive()
    }
}

/// A loader that refuses every document: a schema must be complete in itself.
struct NoOtherDocuments;

impl UrlLoader for NoOtherDocuments {
    fn load(&self, url: &str) -> Result<Value, Box<dyn Error>> {
        Err(format!("references to other documents are not followed: {url}").into())
    }
}

impl JsonSchema {
    /// Parses a schema. The error names the location within the schema.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|e| anyhow!("not JSON: {e}"))?;
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.enable_format_assertions();
        compiler.use_loader(Box::new(NoOtherDocuments));
        let mut schemas = Schemas::new();
        compiler.add_resource(SCHEMA_URL, value).map_err(|e| schema_error(&e))?;
        let index = compiler.compile(SCHEMA_URL, &mut schemas).map_err(|e| schema_error(&e))?;
        Ok(Self { schemas, index })
    }

    /// Returns the violations of a document, each with its location. A valid document has none.
    pub(crate) fn violations(&self, document: &[u8]) -> Vec<String> {
        let value: Value = match serde_json::from_slice(document) {
            Ok(value) => value,
            Err(error) => return vec![format!("it is not JSON: {error}")],
        };
        match self.schemas.validate(&value, self.index) {
            Ok(()) => Vec::new(),
            Err(error) => violations(&error),
        }
    }
}

fn schema_error(error: &CompileError) -> anyhow::Error {
    if let CompileError::ValidationError { src, .. } = error {
        return anyhow!("{}", violations(src).join("; "));
    }
    anyhow!("{}", format!("{error:#}").replace(SCHEMA_URL, ""))
}

/// Returns the innermost causes of an error. For alternatives (`anyOf`, `oneOf`), these are the
/// causes of the alternative with the fewest violations.
fn violations(error: &ValidationError<'_, '_>) -> Vec<String> {
    let all = || error.causes.iter().flat_map(violations);
    let alternatives = matches!(error.kind, ErrorKind::AnyOf | ErrorKind::OneOf(None));
    let names_part =
        matches!(error.kind, ErrorKind::PropertyName { .. } | ErrorKind::ContentSchema);
    if error.causes.is_empty() {
        vec![violation(error)]
    } else if alternatives {
        let closest = error.causes.iter().map(violations).min_by_key(Vec::len).unwrap_or_default();
        let head = format!("{}; the closest alternative:", violation(error));
        std::iter::once(head).chain(closest).collect()
    } else if names_part {
        std::iter::once(violation(error)).chain(all()).collect()
    } else {
        all().collect()
    }
}

/// Formats one violation with the JSON Pointer (RFC 6901) of the value.
fn violation(error: &ValidationError<'_, '_>) -> String {
    let pointer = error.instance_location.to_string();
    let location = if pointer.is_empty() { "the top".to_owned() } else { format!("`{pointer}`") };
    format!("at {location}: {}", shorten(&error.kind.to_string()))
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= MAX_VIOLATION_CHARS {
        return text.to_owned();
    }
    // Both ends are kept: the message ends with the expectation, after the quoted value.
    let half = MAX_VIOLATION_CHARS / 2;
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
    fn json_schema_violations_name_their_location() {
        let text =
            violations(r#"{"findings": [{"line": 3, "text": "x"}, {"line": 0}], "more": 1}"#);
        assert!(text.contains("at `/findings/1/line`: must be >=1, but got 0"), "{text}");
        assert!(text.contains("at `/findings/1`: missing properties 'text'"), "{text}");
        assert!(text.contains("at the top: additionalProperties 'more' not allowed"), "{text}");
        let text = violations("{} x");
        assert!(text.starts_with("it is not JSON: trailing characters"), "{text}");
        let text = violations("");
        assert!(text.starts_with("it is not JSON: EOF"), "{text}");
    }

    #[test]
    fn json_schema_violation_of_a_long_value_is_shortened() {
        let schema = r#"{"properties": {"a": {"pattern": "^x$"}, "b": {"type": "array"}}}"#;
        let document = format!(r#"{{"a": "{0}", "b": "{0}"}}"#, "y".repeat(10_000));
        let text = JsonSchema::parse(schema).unwrap().violations(document.as_bytes()).join("\n");
        assert!(text.len() < 500, "{text}");
        assert!(text.contains("does not match pattern '^x$'"), "{text}");
        assert!(text.contains("at `/b`: want array, but got string"), "{text}");
    }

    #[test]
    fn json_schema_violations_of_alternatives_are_those_of_the_closest() {
        let schema = r#"{"anyOf": [{"required": ["a", "b"], "properties": {"a": {"type": "null"}}},
            {"required": ["c"]}]}"#;
        let text = JsonSchema::parse(schema).unwrap().violations(br#"{"a": 1}"#).join("\n");
        assert!(text.starts_with("at the top: anyOf failed; the closest alternative:"), "{text}");
        assert!(text.ends_with("at the top: missing properties 'c'"), "{text}");
    }

    #[test]
    fn json_schema_checks_formats() {
        let schema = JsonSchema::parse(r#"{"format": "date-time"}"#).unwrap();
        assert!(schema.violations(br#""2026-11-29T10:00:00Z""#).is_empty());
        assert!(!schema.violations(br#""yesterday""#).is_empty());
    }

    #[test]
    fn json_schema_that_is_invalid_names_the_location() {
        let error = |text| format!("{:#}", JsonSchema::parse(text).unwrap_err());
        assert!(error("{").starts_with("not JSON: "));
        let text = error(r#"{"properties": {"a": {"type": "nothing"}}}"#);
        assert!(text.contains("at `/properties/a/type`"), "{text}");
    }

    #[test]
    fn json_schema_refuses_references_to_other_documents() {
        for reference in ["https://example.invalid/schema.json", "file:///etc/passwd", "other.json"]
        {
            let text = format!(r#"{{"$ref": "{reference}"}}"#);
            let error = format!("{:#}", JsonSchema::parse(&text).unwrap_err());
            assert!(error.contains("not followed"), "{error}");
        }
        assert!(JsonSchema::parse(r##"{"$defs": {"a": {}}, "$ref": "#/$defs/a"}"##).is_ok());
    }
}
