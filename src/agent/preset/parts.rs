//! Values of a preset that are written in more than one way.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::session::Class;
use crate::job::parse_duration;

/// A signal.
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

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PresetSignalTarget {
    /// The process that we started.
    Leader,
    /// Its process group.
    Group,
    /// Everything that descends from it.
    Tree,
}

/// An argument, or a group of arguments that is left out when one of its placeholders has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Argument {
    /// Always there.
    One(String),
    /// There when everything in it has a value: `["--model", "{model}"]`.
    Group(Vec<String>),
}

impl Argument {
    /// Its texts.
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
        f.write_str("an argument, or a list of arguments that stand or fall together")
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

/// A duration, written as in a job file.
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

/// Numbers from one to another, both included: `429` or `"500-599"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodeRange {
    first: i32,
    last: i32,
}

impl CodeRange {
    /// Whether the number is one of them.
    pub(crate) fn hold(self, number: i32) -> bool {
        (self.first..=self.last).contains(&number)
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

/// A class by its word.
pub(super) mod class {
    use super::{Class, Deserialize, Deserializer, Error, Serializer};

    pub(crate) fn serialize<S: Serializer>(class: &Class, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(class.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Class, D::Error> {
        let word = String::deserialize(from)?;
        Class::parse(&word).ok_or_else(|| {
            let known: Vec<&str> = Class::ALL.iter().map(|class| class.as_str()).collect();
            D::Error::custom(format!("is no class: `{word}`; known are {}", known.join(", ")))
        })
    }
}
