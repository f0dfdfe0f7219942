//! Error objects of servers and libraries, in any shape.

use serde_json::Value;

use super::error_rules::ErrorText;
use super::terminal_text::normalize;
use crate::contract::lenient_json;

/// The deepest level that is searched.
const DEEPEST: usize = 8;

/// The fields whose number is an HTTP status.
const STATUS_FIELDS: [&str; 6] =
    ["status", "statusCode", "status_code", "code", "http_status", "error_code"];

/// The fields that say nothing about the cause.
const IGNORED_FIELDS: [&str; 12] = [
    "request_id",
    "requestId",
    "id",
    "session_id",
    "sessionID",
    "uuid",
    "timestamp",
    "stack",
    "headers",
    "responseHeaders",
    "url",
    "param",
];

/// Returns the texts and the statuses of an error object. JSON inside a text is searched, too.
pub(super) fn text(error: &Value) -> ErrorText {
    let mut found = ErrorText::default();
    collect(error, 0, &mut found);
    found
}

fn collect(value: &Value, depth: usize, found: &mut ErrorText) {
    if depth > DEEPEST {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if IGNORED_FIELDS.contains(&name.as_str()) {
                    continue;
                }
                if STATUS_FIELDS.contains(&name.as_str()) {
                    let status = value.as_i64().or_else(|| value.as_str()?.parse().ok());
                    found.statuses.extend(status.and_then(|status| i32::try_from(status).ok()));
                }
                collect(value, depth + 1, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, depth + 1, found)),
        Value::String(text) => match lenient_json::parse_prefix(text.trim()) {
            Some((body, _)) => collect(&body, depth + 1, found),
            None => {
                found.text.push_str(&normalize(text));
                found.text.push('\n');
            }
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_object_is_read_in_every_shape() {
        for (json, text_part, statuses) in [
            (
                r#"{"type":"error","error":{"type":"x_error","message":"slow down"}}"#,
                "slow down",
                vec![],
            ),
            (
                r#"{"error":{"code":401,"message":"bad key","status":"UNAUTHENTICATED"}}"#,
                "UNAUTHENTICATED",
                vec![401],
            ),
            (r#"{"error":"overloaded","status":"503"}"#, "overloaded", vec![503]),
            (
                r#"{"error":{"message":"{\n \"error\": {\"code\": 429, \"message\": \"quota\"}}"}}"#,
                "quota",
                vec![429],
            ),
            (
                r#"{"errors":[{"detail":"gone","code":"model_not_found"}]}"#,
                "model_not_found",
                vec![],
            ),
        ] {
            let error = text(&serde_json::from_str(json).unwrap());
            assert!(error.text.contains(text_part), "{json}: {}", error.text);
            assert_eq!(error.statuses, statuses, "{json}");
        }
    }
}
