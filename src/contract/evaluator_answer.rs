//! The answer of an evaluator: a JSON object `{"pass": true|false, "findings": […]}`, in the last
//! message or in a file.
//!
//! Models put text and fences around the object, so the parser searches for the object. The content
//! of the object is valid as a whole or refused.

use std::collections::BTreeMap;

use serde_json::Value;

use super::lenient_json;

/// A valid answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EvaluatorAnswer {
    /// True if the evaluator accepts the work.
    pub pass: bool,
    /// The findings; at least one if the work is not accepted.
    pub findings: Vec<AnswerFinding>,
}

/// A finding of an evaluator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnswerFinding {
    /// The text for people and agents.
    pub text: String,
    /// The identity of the finding: canonical JSON without the position, which moves when the file
    /// changes.
    pub key: String,
}

/// The fields with a position in a file.
const POSITION_FIELDS: [&str; 6] = ["line", "column", "col", "end_line", "endLine", "lines"];

/// The fields with the description of the problem, in order of precedence.
const PROBLEM_FIELDS: [&str; 6] = ["problem", "message", "finding", "description", "text", "title"];

/// Parses an answer. The error text completes a sentence that starts with "its answer".
pub(crate) fn parse(text: &str) -> Result<EvaluatorAnswer, String> {
    let object = find_object(text).ok_or("has no JSON object with `pass`")?;
    let Some(pass) = object.get("pass").and_then(Value::as_bool) else {
        return Err("has a `pass` that is neither `true` nor `false`".into());
    };
    let list = match object.get("findings") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(list)) => list.as_slice(),
        Some(_) => return Err("has `findings` that are no list".into()),
    };
    let findings = list.iter().map(parse_finding).collect::<Result<Vec<_>, _>>()?;
    if !pass && findings.is_empty() {
        return Err("says `\"pass\": false` without any finding".into());
    }
    Ok(EvaluatorAnswer { pass, findings })
}

/// Returns the last top-level object with a field `pass`.
fn find_object(text: &str) -> Option<Value> {
    let mut last = None;
    let mut from = 0;
    while let Some(open) = text[from..].find('{').map(|open| from + open) {
        match lenient_json::parse_prefix(&text[open..]) {
            Some((value, length)) => {
                from = open + length;
                if value.get("pass").is_some() {
                    last = Some(value);
                }
            }
            None => from = open + 1,
        }
    }
    last
}

fn parse_finding(value: &Value) -> Result<AnswerFinding, String> {
    let empty = || Err("has a finding that says nothing".to_owned());
    match value {
        Value::String(text) if text.trim().is_empty() => empty(),
        Value::String(text) => {
            Ok(AnswerFinding { text: text.trim().to_owned(), key: value.to_string() })
        }
        Value::Object(fields) if fields.is_empty() => empty(),
        Value::Object(fields) => {
            let is_kept = |(name, _): &(&String, &Value)| !POSITION_FIELDS.contains(&name.as_str());
            let key: BTreeMap<_, _> = fields.iter().filter(is_kept).collect();
            let key = serde_json::to_string(&key).unwrap_or_default();
            Ok(AnswerFinding { text: describe(fields), key })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            Err("has a finding that is neither a text nor an object".into())
        }
    }
}

/// Formats the fields of a finding as text.
fn describe(fields: &serde_json::Map<String, Value>) -> String {
    let format = |value: &Value| match value.as_str() {
        Some(text) => text.trim().to_owned(),
        None => value.to_string(),
    };
    let problem = PROBLEM_FIELDS.into_iter().find(|name| fields.contains_key(*name));
    let file = fields.get("file").or_else(|| fields.get("path"));
    let mut position = file.map(format).unwrap_or_default();
    if let (false, Some(line)) = (position.is_empty(), fields.get("line")) {
        position = format!("{position}:{}", format(line));
    }
    let mut text = match (position.is_empty(), problem.and_then(|name| fields.get(name))) {
        (true, Some(problem)) => format(problem),
        (false, Some(problem)) => format!("`{position}`: {}", format(problem)),
        (true, None) => String::new(),
        (false, None) => format!("`{position}`"),
    };
    let rest = fields.iter().filter(|(name, _)| {
        Some(name.as_str()) != problem && !matches!(name.as_str(), "file" | "path" | "line")
    });
    for (name, value) in rest.collect::<BTreeMap<_, _>>() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("- {name}: {}", format(value)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn evaluator_answer_is_found_within_other_text() {
        let bare = r#"{"pass": true, "findings": []}"#;
        for text in [
            bare.to_owned(),
            format!("I looked at everything.\n\n```json\n{bare}\n```\nDone."),
            format!("A set {{1, 2}} and {{\"a\": {{\"pass\": 3}}}}, then\n{bare}"),
            r#"{"pass": false, "findings": ["draft"]} no: {"pass": true}"#.to_owned(),
        ] {
            let answer = parse(&text).unwrap();
            assert!(answer.pass && answer.findings.is_empty(), "{text}");
        }
    }

    #[test]
    fn evaluator_answer_with_invalid_characters_is_read() {
        for text in [
            "\u{feff}{\"pass\": true}",
            r#"{"pass": true, "note": "cut emoji \ud83d", "score": NaN}"#,
            "{\"pass\": true, \"note\": \"a\u{1b}[0m\u{0}b\"}",
        ] {
            assert!(parse(text).unwrap().pass, "{text}");
        }
        let answer = parse(r#"{"pass": false, "findings": ["wrong \ud800"]}"#).unwrap();
        assert_eq!(answer.findings[0].text, "wrong \u{fffd}");
    }

    #[test]
    fn evaluator_findings_are_formatted_as_text() {
        let answer = parse(
            r#"{"pass": false, "findings": ["no tests", {"file": "a.js", "line": 3, "problem": "wrong sign",
                "suggestion": "use `-`", "severity": "high"}]}"#,
        )
        .unwrap();
        let texts: Vec<_> = answer.findings.iter().map(|f| f.text.as_str()).collect();
        assert_eq!(
            texts,
            ["no tests", "`a.js:3`: wrong sign\n- severity: high\n- suggestion: use `-`"]
        );
    }

    #[test]
    fn evaluator_finding_keeps_its_key_when_its_position_changes() {
        let key = |line: u32, problem: &str| {
            let text = format!(
                r#"{{"pass": false, "findings": [{{"problem": "{problem}", "line": {line}, "file": "a.js"}}]}}"#
            );
            parse(&text).unwrap().findings.remove(0).key
        };
        assert_eq!(key(3, "wrong sign"), key(4, "wrong sign"));
        assert_ne!(key(3, "wrong sign"), key(3, "wrong name"));
        let reordered = parse(
            r#"{"findings": [{"file": "a.js", "problem": "wrong sign", "line": 9}], "pass": false}"#,
        );
        assert_eq!(key(3, "wrong sign"), reordered.unwrap().findings[0].key);
    }

    #[test]
    fn invalid_evaluator_answer_is_refused_with_the_reason() {
        for (text, why) in [
            ("Looks good to me!", "has no JSON object with `pass`"),
            (r#"{"passed": true}"#, "has no JSON object with `pass`"),
            (r#"{"pass": "yes"}"#, "has a `pass` that is neither `true` nor `false`"),
            (r#"{"pass": false}"#, "says `\"pass\": false` without any finding"),
            (r#"{"pass": false, "findings": "bad"}"#, "has `findings` that are no list"),
            (r#"{"pass": false, "findings": [" "]}"#, "has a finding that says nothing"),
            (r#"{"pass": false, "findings": [{}]}"#, "has a finding that says nothing"),
            (
                r#"{"pass": false, "findings": [1]}"#,
                "has a finding that is neither a text nor an object",
            ),
            ("", "has no JSON object with `pass`"),
        ] {
            assert_eq!(parse(text).unwrap_err(), why, "{text}");
        }
    }
}
