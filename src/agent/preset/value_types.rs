//! Value types of presets with a syntax of their own.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::session::Class;
use crate::job::parse_duration;

/// A signal to stop a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum PresetSignal {
    /// SIGINT.
    Int,
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
}

/// The processes that receive a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PresetSignalTarget {
    /// The program's first process.
    Leader,
    /// The process group of the first process.
    Group,
    /// The first process and all its descendants.
    Tree,
}

/// An argument, or a group of arguments that is omitted if one of its placeholders has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Argument {
    /// An argument that is always present.
    One(String),
    /// Arguments that are present if all their placeholders have values: `["--model", "{model}"]`.
    Group(Vec<String>),
}

impl Argument {
    /// Returns the argument or the arguments of the group.
    pub(crate) fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Group(texts) => texts,
        }
    }
}

impl Serialize for Argument {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(text) => to.serialize_str(text),
            Self::Group(texts) => texts.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ArgumentVisitor)
    }
}

struct ArgumentVisitor;

impl<'de> Visitor<'de> for ArgumentVisitor {
    type Value = Argument;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an argument, or a list of arguments that is omitted as a whole")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Argument, E> {
        Ok(Argument::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Argument, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(Argument::Group(texts))
    }
}

/// A duration in the syntax of job files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PresetDuration(pub Duration);

impl Serialize for PresetDuration {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{}ms", self.0.as_millis()))
    }
}

impl<'de> Deserialize<'de> for PresetDuration {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parse_duration(&String::deserialize(from)?).map(Self).map_err(D::Error::custom)
    }
}

/// An inclusive range of exit codes or HTTP statuses: `429` or `"500-599"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodeRange {
    first: i32,
    last: i32,
}

impl CodeRange {
    /// Returns true if the range contains a code.
    pub(crate) fn contains(self, code: i32) -> bool {
        (self.first..=self.last).contains(&code)
    }
}

impl Serialize for CodeRange {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            to.serialize_i32(self.first)
        } else {
            to.collect_str(&format_args!("{}-{}", self.first, self.last))
        }
    }
}

impl<'de> Deserialize<'de> for CodeRange {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(CodeRangeVisitor)
    }
}

struct CodeRangeVisitor;

impl Visitor<'_> for CodeRangeVisitor {
    type Value = CodeRange;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a range such as \"500-599\"")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<CodeRange, E> {
        let number = i32::try_from(number).map_err(E::custom)?;
        Ok(CodeRange { first: number, last: number })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<CodeRange, E> {
        let number = i32::try_from(number).map_err(E::custom)?;
        Ok(CodeRange { first: number, last: number })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<CodeRange, E> {
        let range = text.split_once('-').and_then(|(first, last)| {
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then_some(CodeRange { first, last })
        });
        range.ok_or_else(|| E::custom(format!("is no range such as \"500-599\": `{text}`")))
    }
}

/// (De)serialization of a class by its name.
pub(super) mod class {
    use super::{Class, Deserialize, Deserializer, Error, Serializer};

    pub(crate) fn serialize<S: Serializer>(class: &Class, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(class.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Class, D::Error> {
        let name = String::deserialize(from)?;
        Class::parse(&name).ok_or_else(|| {
            let known: Vec<&str> = Class::ALL.iter().map(|class| class.as_str()).collect();
            D::Error::custom(format!("is no class: `{name}`; known are {}", known.join(", ")))
        })
    }
}
