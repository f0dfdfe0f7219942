//! The little languages inside a preset: regular expressions, pointers into JSON, what an event must look like.

use std::collections::BTreeMap;
use std::fmt;

use regex::{Regex, RegexBuilder};
use serde::de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A regular expression, compiled when it is read. Capitals do not matter; `^` and `$` are those of lines.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// The compiled expression.
    pub(crate) fn regex(&self) -> &Regex {
        &self.0
    }

    /// Whether it matches anywhere.
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
        let bad = |e: regex::Error| {
            let said = e.to_string();
            let last = said.lines().last().unwrap_or_default().trim_start_matches("error: ");
            D::Error::custom(format!("is no regular expression: {last}: `{text}`"))
        };
        RegexBuilder::new(&text)
            .case_insensitive(true)
            .multi_line(true)
            .build()
            .map(Self)
            .map_err(bad)
    }
}

/// A JSON pointer (RFC 6901) in which `*` stands for every member of a list or an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pointer(Vec<String>);

impl Pointer {
    /// Reads a pointer.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("is no JSON pointer, which begins with `/`: `{text}`"));
        };
        let part = |part: &str| {
            let plain = part.replace("~1", "/").replace("~0", "\u{0}");
            let good = !plain.contains('~');
            good.then(|| plain.replace('\u{0}', "~"))
        };
        let parts: Option<Vec<String>> = rest.split('/').map(part).collect();
        parts.map(Self).ok_or_else(|| format!("holds a `~` that is not `~0` or `~1`: `{text}`"))
    }

    /// Everything that it points at; what is `null` is not there.
    pub(crate) fn all<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut here = vec![value];
        for part in &self.0 {
            here = here.into_iter().flat_map(|value| below(value, part)).collect();
        }
        here.retain(|value| !value.is_null());
        here
    }

    /// The first that it points at.
    pub(crate) fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.all(value).into_iter().next()
    }

    /// The first text that it points at.
    pub(crate) fn text<'v>(&self, value: &'v Value) -> Option<&'v str> {
        self.all(value).into_iter().find_map(Value::as_str)
    }
}

fn below<'v>(value: &'v Value, part: &str) -> Vec<&'v Value> {
    match value {
        Value::Array(list) if part == "*" => list.iter().collect(),
        Value::Object(map) if part == "*" => map.values().collect(),
        Value::Array(list) => {
            part.parse().ok().and_then(|n: usize| list.get(n)).into_iter().collect()
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

/// What an event must look like: `{ "/type" = "result", "/is_error" = true }`. All of it must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct EventPattern(BTreeMap<Pointer, ExpectedValue>);

impl EventPattern {
    /// Whether an event looks like this. Where a pointer has several ends, one of them is enough.
    pub(crate) fn fits(&self, event: &Value) -> bool {
        self.0.iter().all(|(pointer, want)| want.fits(&pointer.all(event)))
    }

    /// Whether it says nothing at all, and would fit everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether an event looks like one of these.
pub(crate) fn any(shapes: &[EventPattern], event: &Value) -> bool {
    shapes.iter().any(|shape| shape.fits(event))
}

/// What stands at a pointer.
#[derive(Debug, Clone, PartialEq)]
enum ExpectedValue {
    Flag(bool),
    Number(i64),
    Text(String),
    OneOf(Vec<Self>),
    Test(ValueTest),
}

/// A condition that is more than a value.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueTest {
    /// A text that this matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    matches: Option<Pattern>,
    /// Whether anything but `null` is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    present: Option<bool>,
    /// A number that is at least this.
    #[serde(default, rename = "at-least", skip_serializing_if = "Option::is_none")]
    least: Option<f64>,
}

impl ExpectedValue {
    fn fits(&self, found: &[&Value]) -> bool {
        match self {
            Self::Flag(flag) => found.iter().any(|value| value.as_bool() == Some(*flag)),
            Self::Number(number) => found.iter().any(|value| value.as_i64() == Some(*number)),
            Self::Text(text) => found.iter().any(|value| value.as_str() == Some(text)),
            Self::OneOf(wants) => wants.iter().any(|want| want.fits(found)),
            Self::Test(test) => {
                test.present.is_none_or(|present| present != found.is_empty())
                    && test.matches.as_ref().is_none_or(|pattern| {
                        found.iter().filter_map(|v| v.as_str()).any(|t| pattern.matches(t))
                    })
                    && test.least.is_none_or(|least| {
                        found.iter().filter_map(|v| v.as_f64()).any(|number| number >= least)
                    })
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
            Self::OneOf(wants) => wants.serialize(to),
            Self::Test(test) => test.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for ExpectedValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ExpectedValueVisitor)
    }
}

/// By hand and not `untagged`, so that what is wrong inside is said as it is and where it is.
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
        let mut wants = Vec::new();
        while let Some(want) = list.next_element()? {
            wants.push(want);
        }
        Ok(ExpectedValue::OneOf(wants))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ExpectedValue, A::Error> {
        let test = ValueTest::deserialize(MapAccessDeserializer::new(map))?;
        if test == ValueTest::default() {
            return Err(A::Error::custom("needs `matches`, `present` or `at-least`"));
        }
        Ok(ExpectedValue::Test(test))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(toml: &str) -> EventPattern {
        #[derive(Deserialize)]
        struct PatternFixture {
            when: EventPattern,
        }
        toml::from_str::<PatternFixture>(toml).unwrap().when
    }

    #[test]
    fn pointers_reach_through_lists_and_objects() {
        let value: Value =
            serde_json::from_str(r#"{"m":{"a":{"n":1},"b":{"n":2}},"l":["x",null],"a/b":3}"#)
                .unwrap();
        let all = |text| Pointer::parse(text).unwrap().all(&value).len();
        assert_eq!(
            (all("/m/*/n"), all("/l/*"), all("/l/0"), all("/a~1b"), all("/none/n")),
            (2, 1, 1, 1, 0)
        );
        for bad in ["type", "", "/a~2"] {
            assert!(Pointer::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Pointer::parse("/a~1b/*/c~0d").unwrap().to_string(), "/a~1b/*/c~0d");
    }

    #[test]
    fn a_shape_holds_where_all_of_it_holds() {
        let event: Value =
            serde_json::from_str(r#"{"type":"result","ok":true,"n":3,"x":null}"#).unwrap();
        for (toml, fits) in [
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
        ] {
            assert_eq!(shape(toml).fits(&event), fits, "{toml}");
            let json = serde_json::to_string(&shape(toml)).unwrap();
            assert_eq!(serde_json::from_str::<EventPattern>(&json).unwrap(), shape(toml), "{json}");
        }
    }
}
