//! What an evaluator answers: one JSON object, `{"pass": true|false, "findings": […]}`, as its last message or in a file.
//!
//! Models put words and fences around what they were told to say alone, so the object is looked for; what is in it is
//! taken at its word or refused.

use std::collections::BTreeMap;

use serde_json::Value;

/// An answer that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EvaluatorAnswer {
    /// Whether the work is good.
    pub pass: bool,
    /// What is wrong with it. Not empty unless it is good.
    pub findings: Vec<AnswerFinding>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnswerFinding {
    /// For people and agents.
    pub text: String,
    /// What it is, in one canonical line: without the place in the file, which moves whenever the file is touched.
    pub key: String,
}

/// The fields that say where in a file something is.
const PLACES: [&str; 6] = ["line", "column", "col", "end_line", "endLine", "lines"];

/// The fields that say what is wrong, the first that is there.
const WORDS: [&str; 6] = ["problem", "message", "finding", "description", "text", "title"];

/// Reads an answer.
pub(crate) fn read(text: &str) -> Result<EvaluatorAnswer, String> {
    let object = find(text).ok_or("has no JSON object with `pass`")?;
    let Some(pass) = object.get("pass").and_then(Value::as_bool) else {
        return Err("has a `pass` that is neither `true` nor `false`".into());
    };
    let list = match object.get("findings") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(list)) => list.as_slice(),
        Some(_) => return Err("has `findings` that are no list".into()),
    };
    let findings = list.iter().map(remark).collect::<Result<Vec<_>, _>>()?;
    if !pass && findings.is_empty() {
        return Err("says `\"pass\": false` without any finding".into());
    }
    Ok(EvaluatorAnswer { pass, findings })
}

/// The last object with `pass` that is in no other object.
fn find(text: &str) -> Option<Value> {
    let mut found = None;
    let mut from = 0;
    while let Some(at) = text[from..].find('{').map(|at| from + at) {
        let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                from = at + values.byte_offset();
                if value.get("pass").is_some() {
                    found = Some(value);
                }
            }
            Some(Err(_)) | None => from = at + 1,
        }
    }
    found
}

fn remark(value: &Value) -> Result<AnswerFinding, String> {
    let empty = || Err("has a finding that says nothing".to_owned());
    match value {
        Value::String(text) if text.trim().is_empty() => empty(),
        Value::String(text) => {
            Ok(AnswerFinding { text: text.trim().to_owned(), key: value.to_string() })
        }
        Value::Object(fields) if fields.is_empty() => empty(),
        Value::Object(fields) => {
            let kept = |(name, _): &(&String, &Value)| !PLACES.contains(&name.as_str());
            let key: BTreeMap<_, _> = fields.iter().filter(kept).collect();
            let key = serde_json::to_string(&key).unwrap_or_default();
            Ok(AnswerFinding { text: words(fields), key })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            Err("has a finding that is neither a text nor an object".into())
        }
    }
}

/// A finding's fields as a person would write them.
fn words(fields: &serde_json::Map<String, Value>) -> String {
    let plain = |value: &Value| match value.as_str() {
        Some(text) => text.trim().to_owned(),
        None => value.to_string(),
    };
    let said = WORDS.into_iter().find(|word| fields.contains_key(*word));
    let file = fields.get("file").or_else(|| fields.get("path"));
    let mut place = file.map(plain).unwrap_or_default();
    if let (false, Some(line)) = (place.is_empty(), fields.get("line")) {
        place = format!("{place}:{}", plain(line));
    }
    let mut text = match (place.is_empty(), said.and_then(|word| fields.get(word))) {
        (true, Some(said)) => plain(said),
        (false, Some(said)) => format!("`{place}`: {}", plain(said)),
        (true, None) => String::new(),
        (false, None) => format!("`{place}`"),
    };
    let rest = fields.iter().filter(|(name, _)| {
        Some(name.as_str()) != said && !matches!(name.as_str(), "file" | "path" | "line")
    });
    for (name, value) in rest.collect::<BTreeMap<_, _>>() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("- {name}: {}", plain(value)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_object_is_found_in_what_models_say() {
        let bare = r#"{"pass": true, "findings": []}"#;
        for text in [
            bare.to_owned(),
            format!("I looked at everything.\n\n```json\n{bare}\n```\nDone."),
            format!("A set {{1, 2}} and {{\"a\": {{\"pass\": 3}}}}, then\n{bare}"),
            r#"{"pass": false, "findings": ["draft"]} no: {"pass": true}"#.to_owned(),
        ] {
            let answer = read(&text).unwrap();
            assert!(answer.pass && answer.findings.is_empty(), "{text}");
        }
    }

    #[test]
    fn findings_are_told_as_a_person_would() {
        let answer = read(
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
    fn a_finding_is_the_same_when_only_its_place_has_moved() {
        let key = |line: u32, problem: &str| {
            let text = format!(
                r#"{{"pass": false, "findings": [{{"problem": "{problem}", "line": {line}, "file": "a.js"}}]}}"#
            );
            read(&text).unwrap().findings.remove(0).key
        };
        assert_eq!(key(3, "wrong sign"), key(4, "wrong sign"));
        assert_ne!(key(3, "wrong sign"), key(3, "wrong name"));
        let turned = read(
            r#"{"findings": [{"file": "a.js", "problem": "wrong sign", "line": 9}], "pass": false}"#,
        );
        assert_eq!(key(3, "wrong sign"), turned.unwrap().findings[0].key);
    }

    #[test]
    fn what_is_no_answer_is_refused_with_the_reason() {
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
            assert_eq!(read(text).unwrap_err(), why, "{text}");
        }
    }
}
