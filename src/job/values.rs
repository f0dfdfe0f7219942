//! Typed access to the values of a section. A value of the wrong type is an error.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::duration::parse_duration;
use super::errors::{ValueError, suggest};
use super::globs::PathGlobs;
use super::placeholders::{self, CommandKind};
use super::section::{Section, SpannedValue, type_name};
use super::size::parse_size;

/// A string with its position.
#[derive(Clone, Copy)]
pub(super) struct SpannedText<'a> {
    /// The string.
    pub(super) text: &'a str,
    /// The byte offset.
    pub(super) at: usize,
}

impl<'a> Section<'a> {
    /// Returns the string value of a key. A blank string is an error.
    pub(super) fn text(&self, key: &'static str) -> Option<SpannedText<'a>> {
        let text = self.any_text(key)?;
        if text.text.trim().is_empty() {
            self.add_error(text.at, key, ValueError::new("may not be empty"));
            return None;
        }
        Some(text)
    }

    /// Returns the string value of a key, which may be blank.
    pub(super) fn any_text(&self, key: &'static str) -> Option<SpannedText<'a>> {
        let value = self.find(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.add_type_error(key, value, "a string", None);
        }
        text.map(|text| SpannedText { text, at: value.span().start })
    }

    /// Returns the boolean value of a key, or `default`.
    pub(super) fn flag(&self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.find(key) else {
            return default;
        };
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.add_type_error(key, value, "`true` or `false`", None);
        }
        flag.unwrap_or(default)
    }

    /// Returns the boolean that a key has, or `None` if the value is `word` or is missing.
    pub(super) fn flag_or(&self, key: &'static str, word: &'static str) -> Option<bool> {
        let value = self.find(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() && value.get_ref().as_str() != Some(word) {
            self.add_type_error(key, value, &format!("`true`, `false` or \"{word}\""), None);
        }
        flag
    }

    /// Returns the whole number that a key has, and the byte offset of the number. A number outside
    /// `range` is an error.
    pub(super) fn whole(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<(u64, usize)> {
        let value = self.find(key)?;
        let at = value.span().start;
        let DeValue::Integer(integer) = value.get_ref() else {
            self.add_type_error(key, value, "a whole number", None);
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX);
        let (least, most) = (*range.start(), *range.end());
        if number < i128::from(least) {
            self.add_error(at, key, ValueError::new(format!("must be at least {least}: {number}")));
        } else if number > i128::from(most) {
            self.add_error(at, key, ValueError::new(format!("must be at most {most}: {integer}")));
        } else {
            return u64::try_from(number).ok().map(|n| (n, at));
        }
        None
    }

    /// Returns the number that a key has, with or without a fraction. A number outside `range` is
    /// an error.
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
                self.add_type_error(key, value, expected, None);
                return None;
            }
        };
        let number: f64 = written.parse().unwrap_or(f64::NAN);
        if range.contains(&number) {
            return Some(number);
        }
        let (least, most) = (range.start(), range.end());
        let error = ValueError::new(format!("must be from {least} to {most}: {written}"));
        self.add_error(value.span().start, key, error);
        None
    }

    /// Returns the size in bytes that a key has, or `default`.
    pub(super) fn size(&self, key: &'static str, default: u64) -> u64 {
        let Some(value) = self.find(key) else {
            return default;
        };
        let Some(text) = value.get_ref().as_str() else {
            let hint = "a size has a unit, such as \"50MiB\"".to_owned();
            self.add_type_error(key, value, "a size such as \"50MiB\"", Some(hint));
            return default;
        };
        parse_size(text).unwrap_or_else(|error| {
            self.add_error(value.span().start, key, error);
            default
        })
    }

    /// Returns the duration that a key has, or `default`.
    pub(super) fn duration(&self, key: &'static str, default: Duration) -> Duration {
        let Some(value) = self.find(key) else {
            return default;
        };
        let at = value.span().start;
        match value.get_ref() {
            DeValue::String(text) => parse_duration(text).unwrap_or_else(|error| {
                self.add_error(at, key, error);
                default
            }),
            DeValue::Integer(number) => {
                let hint = format!("for seconds write `{key} = \"{}s\"`", number.as_str());
                self.add_type_error(key, value, "a duration such as \"30m\"", Some(hint));
                default
            }
            DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                self.add_type_error(key, value, "a duration such as \"30m\"", None);
                default
            }
        }
    }

    /// Returns the value that `choices` assigns to the word in the file, or `default`.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&'static str, T)],
        default: T,
    ) -> T {
        let Some(SpannedText { text, at }) = self.any_text(key) else {
            return default;
        };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        self.add_error(at, key, unknown_word(text, choices.iter().map(|(word, _)| *word)));
        default
    }

    /// Returns a list of strings.
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
            self.add_type_error(key, value, "a list of strings", hint());
            return None;
        };
        let mut texts = Vec::with_capacity(list.len());
        for item in list {
            let Some(text) = item.get_ref().as_str() else {
                let message = format!("must hold only strings, not {}", type_name(item.get_ref()));
                self.add_error(item.span().start, key, ValueError { message, hint: hint() });
                return None;
            };
            texts.push(SpannedText { text, at: item.span().start });
        }
        Some(texts)
    }

    /// Returns a list of globs.
    pub(super) fn globs(&self, key: &'static str) -> Option<PathGlobs> {
        let texts = self.texts(key, "[\"src/**\"]")?;
        let mut patterns = Vec::with_capacity(texts.len());
        for SpannedText { text, at } in texts {
            match PathGlobs::new(&[text]) {
                Ok(_) => patterns.push(text),
                Err(error) => self.add_error(at, key, error),
            }
        }
        PathGlobs::new(&patterns)
            .map_err(|error| {
                self.add_error(self.find(key).map_or(0, |v| v.span().start), key, error);
            })
            .ok()
    }

    /// Returns a command: a program and its arguments.
    pub(super) fn argv(&self, key: &'static str, command_kind: CommandKind) -> Option<Vec<String>> {
        self.argv_of(key, self.find(key)?, command_kind)
    }

    /// Returns a command from a value. Only the placeholders of this kind of command are allowed.
    pub(super) fn argv_of(
        &self,
        key: &str,
        value: &'a SpannedValue<'a>,
        command_kind: CommandKind,
    ) -> Option<Vec<String>> {
        let example = "[\"program\", \"argument\"]";
        if let DeValue::String(text) = value.get_ref() {
            // A shell command line is a common mistake, so the hint shows the correct form.
            let hint = format!("for a shell command write [\"sh\", \"-c\", {text:?}]");
            self.add_type_error(key, value, "a list of program and arguments", Some(hint));
            return None;
        }
        let texts = self.texts_of(key, value, example)?;
        let Some(program) = texts.first() else {
            let error =
                ValueError::new("may not be empty").hint(format!("write it like {example}"));
            self.add_error(value.span().start, key, error);
            return None;
        };
        if program.text.trim().is_empty() {
            self.add_error(program.at, key, ValueError::new("must begin with a program"));
            return None;
        }
        for SpannedText { text, at } in &texts {
            if text.contains('\0') {
                self.add_error(
                    *at,
                    key,
                    ValueError::new("holds a NUL byte, which no argument can"),
                );
            }
            if let Err(error) = placeholders::validate(text, command_kind) {
                self.add_error(*at, key, error);
            }
        }
        Some(texts.iter().map(|t| t.text.to_owned()).collect())
    }
}

/// Returns the error for a word that is not one of the known words.
pub(super) fn unknown_word<'k>(
    text: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> ValueError {
    let error = ValueError::new(format!("has an unknown value: \"{text}\""));
    match suggest(text, known.clone()) {
        Some(near) => error.hint(format!("did you mean \"{near}\"?")),
        None => {
            let known: Vec<String> = known.map(|k| format!("\"{k}\"")).collect();
            error.hint(format!("known are {}", known.join(", ")))
        }
    }
}
