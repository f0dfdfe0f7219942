//! The values of a section, by type: what a key must hold, and what is said when it holds something else.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::duration::parse_duration;
use super::errors::{ValueError, in_prose, nearest};
use super::globs::PathGlobs;
use super::placeholders::{self, CommandKind};
use super::section::{Section, SpannedValue, type_name};

/// A value of a closed list, and whether it can be used yet.
pub(super) enum Choice<T> {
    /// It can, and means this.
    Now(&'static str, T),
    /// It comes with this.
    Later(&'static str, &'static str),
}

impl<T> Choice<T> {
    fn name(&self) -> &'static str {
        match self {
            Self::Now(name, _) | Self::Later(name, _) => name,
        }
    }
}

/// A string and where it stands.
#[derive(Clone, Copy)]
pub(super) struct SpannedText<'a> {
    /// The string.
    pub(super) text: &'a str,
    /// Its byte offset.
    pub(super) at: usize,
}
impl<'a> Section<'a> {
    /// A string that is not blank.
    pub(super) fn text(&self, key: &'static str) -> Option<SpannedText<'a>> {
        let text = self.any_text(key)?;
        if text.text.trim().is_empty() {
            self.refuse(text.at, key, ValueError::new("may not be empty"));
            return None;
        }
        Some(text)
    }

    /// A string.
    pub(super) fn any_text(&self, key: &'static str) -> Option<SpannedText<'a>> {
        let value = self.find(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong(key, value, "a string", None);
        }
        text.map(|text| SpannedText { text, at: value.span().start })
    }

    /// True or false.
    pub(super) fn flag(&self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.find(key) else {
            return default;
        };
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(key, value, "`true` or `false`", None);
        }
        flag.unwrap_or(default)
    }

    /// A whole number and where it stands.
    pub(super) fn whole(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<(u64, usize)> {
        let value = self.find(key)?;
        let at = value.span().start;
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong(key, value, "a whole number", None);
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX);
        let (least, most) = (*range.start(), *range.end());
        if number < i128::from(least) {
            self.refuse(at, key, ValueError::new(format!("must be at least {least}: {number}")));
        } else if number > i128::from(most) {
            self.refuse(at, key, ValueError::new(format!("must be at most {most}: {integer}")));
        } else {
            return u64::try_from(number).ok().map(|n| (n, at));
        }
        None
    }

    /// A number, with or without a fraction.
    pub(super) fn decimal(
        &self,
        key: &'static str,
        range: RangeInclusive<f64>,
        expected: &str,
    ) -> Option<f64> {
        let value = self.find(key)?;
        let written = match value.get_ref() {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            DeValue::Integer(_)
            | DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                self.wrong(key, value, expected, None);
                return None;
            }
        };
        let number: f64 = written.parse().unwrap_or(f64::NAN);
        if range.contains(&number) {
            return Some(number);
        }
        let (least, most) = (range.start(), range.end());
        let fault = ValueError::new(format!("must be from {least} to {most}: {written}"));
        self.refuse(value.span().start, key, fault);
        None
    }

    /// A duration.
    pub(super) fn duration(&self, key: &'static str, default: Duration) -> Duration {
        let Some(value) = self.find(key) else {
            return default;
        };
        let at = value.span().start;
        match value.get_ref() {
            DeValue::String(text) => parse_duration(text).unwrap_or_else(|fault| {
                self.refuse(at, key, fault);
                default
            }),
            DeValue::Integer(number) => {
                let hint = format!("for seconds write `{key} = \"{}s\"`", number.as_str());
                self.wrong(key, value, "a duration such as \"30m\"", Some(hint));
                default
            }
            DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                self.wrong(key, value, "a duration such as \"30m\"", None);
                default
            }
        }
    }

    /// One word of a closed list.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, of: &[Choice<T>], default: T) -> T {
        let Some(SpannedText { text, at }) = self.any_text(key) else {
            return default;
        };
        match of.iter().find(|choice| choice.name() == text) {
            Some(Choice::Now(_, meaning)) => return *meaning,
            Some(Choice::Later(_, feature)) => {
                let now: Vec<String> = of
                    .iter()
                    .filter(|choice| matches!(choice, Choice::Now(..)))
                    .map(|choice| format!("{key} = \"{}\"", choice.name()))
                    .collect();
                let instead = format!("use {}", in_prose(now.iter().map(String::as_str), "or"));
                self.later(at, key, &format!("\"{text}\""), feature, &instead);
            }
            None => {
                let fault = unknown_word(text, of.iter().map(Choice::name));
                self.refuse(at, key, fault);
            }
        }
        default
    }

    /// A list of strings.
    pub(super) fn texts(&self, key: &'static str, example: &str) -> Option<Vec<SpannedText<'a>>> {
        self.texts_of(key, self.find(key)?, example)
    }

    fn texts_of(
        &self,
        key: &str,
        value: &'a SpannedValue<'a>,
        example: &str,
    ) -> Option<Vec<SpannedText<'a>>> {
        let hint = || Some(format!("write it like `{key} = {example}`"));
        let DeValue::Array(list) = value.get_ref() else {
            self.wrong(key, value, "a list of strings", hint());
            return None;
        };
        let mut texts = Vec::with_capacity(list.len());
        for item in list {
            let Some(text) = item.get_ref().as_str() else {
                let message = format!("must hold only strings, not {}", type_name(item.get_ref()));
                self.refuse(item.span().start, key, ValueError { message, hint: hint() });
                return None;
            };
            texts.push(SpannedText { text, at: item.span().start });
        }
        Some(texts)
    }

    /// A list of globs.
    pub(super) fn globs(&self, key: &'static str) -> Option<PathGlobs> {
        let texts = self.texts(key, "[\"src/**\"]")?;
        let mut good = Vec::with_capacity(texts.len());
        for SpannedText { text, at } in texts {
            match PathGlobs::new(&[text]) {
                Ok(_) => good.push(text),
                Err(fault) => self.refuse(at, key, fault),
            }
        }
        PathGlobs::new(&good)
            .map_err(|fault| self.refuse(self.find(key).map_or(0, |v| v.span().start), key, fault))
            .ok()
    }

    /// A command: program and arguments.
    pub(super) fn argv(&self, key: &'static str, audience: CommandKind) -> Option<Vec<String>> {
        self.argv_of(key, self.find(key)?, audience)
    }

    /// A command: program and arguments, with placeholders that its audience knows.
    pub(super) fn argv_of(
        &self,
        key: &str,
        value: &'a SpannedValue<'a>,
        audience: CommandKind,
    ) -> Option<Vec<String>> {
        let example = "[\"program\", \"argument\"]";
        if let DeValue::String(text) = value.get_ref() {
            // A command line of a shell is the mistake that everyone makes: say how it is meant.
            let hint = format!("for a shell command write [\"sh\", \"-c\", {text:?}]");
            self.wrong(key, value, "a list of program and arguments", Some(hint));
            return None;
        }
        let texts = self.texts_of(key, value, example)?;
        let Some(program) = texts.first() else {
            let fault =
                ValueError::new("may not be empty").hint(format!("write it like {example}"));
            self.refuse(value.span().start, key, fault);
            return None;
        };
        if program.text.trim().is_empty() {
            self.refuse(program.at, key, ValueError::new("must begin with a program"));
            return None;
        }
        for SpannedText { text, at } in &texts {
            if text.contains('\0') {
                self.refuse(*at, key, ValueError::new("holds a NUL byte, which no argument can"));
            }
            if let Err(fault) = placeholders::validate(text, audience) {
                self.refuse(*at, key, fault);
            }
        }
        Some(texts.iter().map(|t| t.text.to_owned()).collect())
    }
}
/// A word that is not on a closed list.
pub(super) fn unknown_word<'k>(
    text: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> ValueError {
    let fault = ValueError::new(format!("has an unknown value: \"{text}\""));
    match nearest(text, known.clone()) {
        Some(near) => fault.hint(format!("did you mean \"{near}\"?")),
        None => {
            let known: Vec<String> = known.map(|k| format!("\"{k}\"")).collect();
            fault.hint(format!("known are {}", known.join(", ")))
        }
    }
}
