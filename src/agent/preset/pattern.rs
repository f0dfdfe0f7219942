//! The languages inside a preset: regular expressions, pointers into JSON, and event patterns.

use std::collections::BTreeMap;
use std::fmt;

use regex::{Regex, RegexBuilder};
use serde::de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A compiled regular expression. Case is ignored, and `^` and `$` match at line boundaries.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// Returns the compiled expression.
    pub(crate) fn regex(&self) -> &Regex {
        &self.0
    }

    /// Returns true if the expression matches anywhere in `text`.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let invalid = |error: regex::Error| {
            let message = error.to_string();
            let last = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
            D::Error::custom(format!("is no regular expression: {last}: `{text}`"))
        };
        RegexBuilder::new(&text)
            .case_insensitive(true)
            .multi_line(true)
            .build()
            .map(Self)
            .map_err(invalid)
    }
}

/// A JSON pointer (RFC 6901) in which `*` stands for every member of a list or an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pointer(Vec<String>);

impl Pointer {
    /// Parses a pointer.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("is no JSON pointer, which begins with `/`: `{text}`"));
        };
        let unescape = |part: &str| {
            let unescaped = part.replace("~1", "/").replace("~0", "\u{0}");
            let is_valid = !unescaped.contains('~');
            is_valid.then(|| unescaped.replace('\u{0}', "~"))
        };
        let parts: Option<Vec<String>> = rest.split('/').map(unescape).collect();
        parts.map(Self).ok_or_else(|| format!("holds a `~` that is not `~0` or `~1`: `{text}`"))
    }

    /// Returns all values at the pointer except `null`.
    pub(crate) fn all<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut values = vec![value];
        for part in &self.0 {
            values = values.into_iter().flat_map(|value| children(value, part)).collect();
        }
        values.retain(|value| !value.is_null());
        values
    }

    /// Returns the first value at the pointer.
    pub(crate) fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.all(value).into_iter().next()
    }

    /// Returns the first text at the pointer.
    pub(crate) fn text<'v>(&self, value: &'v Value) -> Option<&'v str> {
        self.all(value).into_iter().find_map(Value::as_str)
    }
}

/// Returns the children of a value that one part of a pointer selects.
fn children<'v>(value: &'v Value, part: &str) -> Vec<&'v Value> {
    match value {
        Value::Array(list) if part == "*" => list.iter().collect(),
        Value::Object(map) if part == "*" => map.values().collect(),
        Value::Array(list) => {
            part.parse().ok().and_then(|index: usize| list.get(index)).into_iter().collect()
        }
        Value::Object(map) => map.get(part).into_iter().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|part| write!(f, "/{}", part.replace('~', "~0").replace('/', "~1")))
    }
}

impl Serialize for Pointer {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// A pattern of events: `{ "/type" = "result", "/is_error" = true }`. All conditions must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct EventPattern(BTreeMap<Pointer, ExpectedValue>);

impl EventPattern {
    /// Returns true if the event matches. If a pointer selects several values, one matching value
    /// suffices.
    pub(crate) fn matches(&self, event: &Value) -> bool {
        self.0.iter().all(|(pointer, expected)| expected.matches(&pointer.all(event)))
    }

    /// Returns true if the pattern has no conditions and matches every event.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns true if one of the patterns matches the event.
pub(crate) fn any_matches(patterns: &[EventPattern], event: &Value) -> bool {
    patterns.iter().any(|pattern| pattern.matches(event))
}

/// The expected value at a pointer.
#[derive(Debug, Clone, PartialEq)]
enum ExpectedValue {
    Flag(bool),
    Number(i64),
    Text(String),
    OneOf(Vec<Self>),
    Test(ValueTest),
}

/// A condition on the values at a pointer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueTest {
    /// A pattern that a text at the pointer must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    matches: Option<Pattern>,
    /// True if a value must be present, false if it must be absent. `null` counts as absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    present: Option<bool>,
    /// The lower bound of a number.
    #[serde(default, rename = "at-least", skip_serializing_if = "Option::is_none")]
    at_least: Option<f64>,
    /// The value that no value at the pointer may have. An absent value is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not: Option<Box<ExpectedValue>>,
}

impl ExpectedValue {
    fn matches(&self, values: &[&Value]) -> bool {
        match self {
            Self::Flag(flag) => values.iter().any(|value| value.as_bool() == Some(*flag)),
            Self::Number(number) => values.iter().any(|value| value.as_i64() == Some(*number)),
            Self::Text(text) => values.iter().any(|value| value.as_str() == Some(text)),
            Self::OneOf(expected) => expected.iter().any(|value| value.matches(values)),
            Self::Test(test) => {
                test.present.is_none_or(|present| present != values.is_empty())
                    && test.matches.as_ref().is_none_or(|pattern| {
                        values
                            .iter()
                            .filter_map(|value| value.as_str())
                            .any(|text| pattern.matches(text))
                    })
                    && test.at_least.is_none_or(|at_least| {
                        values
                            .iter()
                            .filter_map(|value| value.as_f64())
                            .any(|number| number >= at_least)
                    })
                    && test.not.as_ref().is_none_or(|refused| !refused.matches(values))
            }
        }
    }
}

impl Serialize for ExpectedValue {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Flag(flag) => to.serialize_bool(*flag),
            Self::Number(number) => to.serialize_i64(*number),
            Self::Text(text) => to.serialize_str(text),
            Self::OneOf(expected) => expected.serialize(to),
            Self::Test(test) => test.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for ExpectedValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ExpectedValueVisitor)
    }
}

/// A visitor. Serde's `untagged` would hide the error inside a value.
struct ExpectedValueVisitor;

impl<'de> Visitor<'de> for ExpectedValueVisitor {
    type Value = ExpectedValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list of values, `{ matches = \"…\" }` or `{ present = true }`")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<ExpectedValue, E> {
        Ok(ExpectedValue::Flag(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<ExpectedValue, E> {
        Ok(ExpectedValue::Number(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<ExpectedValue, E> {
        i64::try_from(number).map(ExpectedValue::Number).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ExpectedValue, E> {
        Ok(ExpectedValue::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ExpectedValue, A::Error> {
        let mut expected = Vec::new();
        while let Some(value) = list.next_element()? {
            expected.push(value);
        }
        Ok(ExpectedValue::OneOf(expected))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ExpectedValue, A::Error> {
        let test = ValueTest::deserialize(MapAccessDeserializer::new(map))?;
        if test == ValueTest::default() {
            return Err(A::Error::custom("needs `matches`, `present`, `at-least` or `not`"));
        }
        Ok(ExpectedValue::Test(test))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(toml: &str) -> EventPattern {
        #[derive(Deserialize)]
        struct PatternFixture {
            when: EventPattern,
        }
        toml::from_str::<PatternFixture>(toml).unwrap().when
    }

    #[test]
    fn pointer_with_a_wildcard_selects_members_of_lists_and_objects() {
        let value: Value =
            serde_json::from_str(r#"{"m":{"a":{"n":1},"b":{"n":2}},"l":["x",null],"a/b":3}"#)
                .unwrap();
        let all = |text| Pointer::parse(text).unwrap().all(&value).len();
        assert_eq!(
            (all("/m/*/n"), all("/l/*"), all("/l/0"), all("/a~1b"), all("/none/n")),
            (2, 1, 1, 1, 0)
        );
        for invalid in ["type", "", "/a~2"] {
            assert!(Pointer::parse(invalid).is_err(), "{invalid}");
        }
        assert_eq!(Pointer::parse("/a~1b/*/c~0d").unwrap().to_string(), "/a~1b/*/c~0d");
    }

    #[test]
    fn event_pattern_matches_if_all_conditions_hold() {
        let event: Value =
            serde_json::from_str(r#"{"type":"result","ok":true,"n":3,"x":null}"#).unwrap();
        for (toml, matches) in [
            (r#"when = { "/type" = "result", "/ok" = true, "/n" = 3 }"#, true),
            (r#"when = { "/type" = "result", "/ok" = false }"#, false),
            (r#"when = { "/type" = ["init", "result"] }"#, true),
            (r#"when = { "/type" = { matches = "^res" } }"#, true),
            (r#"when = { "/type" = { matches = "^es" } }"#, false),
            (r#"when = { "/x" = { present = false }, "/n" = { present = true } }"#, true),
            (r#"when = { "/x" = { present = true } }"#, false),
            (r#"when = { "/n" = { at-least = 3 } }"#, true),
            (r#"when = { "/n" = { at-least = 3.5 } }"#, false),
            (r#"when = { "/type" = { at-least = 0 } }"#, false),
            (r#"when = { "/ok" = { not = false } }"#, true),
            (r#"when = { "/ok" = { not = true } }"#, false),
            (r#"when = { "/none" = { not = true } }"#, true),
            (r#"when = { "/type" = { not = { matches = "^res" } } }"#, false),
            (r#"when = { "/type" = { not = ["init", "user"] } }"#, true),
        ] {
            assert_eq!(pattern(toml).matches(&event), matches, "{toml}");
            let json = serde_json::to_string(&pattern(toml)).unwrap();
            assert_eq!(
                serde_json::from_str::<EventPattern>(&json).unwrap(),
                pattern(toml),
                "{json}"
            );
        }
    }
}
