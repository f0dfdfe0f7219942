//! A section of the job file. Errors are collected with their positions, and reading continues.

use std::cell::RefCell;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{JobError, ValueError, in_prose, position, suggest};
use super::keys::{RESERVED_KEYS, SectionKeys};
use super::values::unknown_word;

/// A TOML value with its position.
pub(super) type SpannedValue<'a> = Spanned<DeValue<'a>>;

/// A collector for the errors of a job file.
pub(super) struct ErrorCollector<'a> {
    text: &'a str,
    errors: RefCell<Vec<JobError>>,
}

impl<'a> ErrorCollector<'a> {
    /// Creates a collector without errors.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, errors: RefCell::new(Vec::new()) }
    }

    /// Adds an error at a byte offset.
    pub(super) fn add(&self, offset: usize, key: &str, error: ValueError) {
        let (line, column) = position(self.text, offset);
        let ValueError { message, hint } = error;
        self.errors.borrow_mut().push(JobError {
            line,
            column,
            key: key.to_owned(),
            message,
            hint,
        });
    }

    /// Returns the errors, sorted by position.
    pub(super) fn into_errors(self) -> Vec<JobError> {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|e| (e.line, e.column));
        errors
    }
}

/// A section of the job file, present or not.
pub(super) struct Section<'a> {
    errors: &'a ErrorCollector<'a>,
    /// The keys that the section may have.
    keys: &'static SectionKeys,
    /// The key path of the section, such as `check[0]`.
    path: String,
    table: Option<&'a DeTable<'a>>,
    /// The byte offset of the section, or `None` if the file has no such section.
    at: Option<usize>,
}

impl<'a> Section<'a> {
    /// Returns the file as a section.
    pub(super) fn top(errors: &'a ErrorCollector<'a>, table: &'a DeTable<'a>) -> Self {
        let keys = SectionKeys::of("");
        let top = Self { errors, keys, path: String::new(), table: Some(table), at: Some(0) };
        top.check_keys(table);
        top
    }

    /// Returns the subsection `key`. The subsection is empty if the file has no value for the key,
    /// or a value that is not a table.
    pub(super) fn section(&self, key: &'static str) -> Self {
        let path = self.path_of(key);
        // In contrast to `path`, the path in `keys` has no index for sections of a list.
        let parent = self.keys.path;
        let keys = SectionKeys::of(&if parent.is_empty() {
            key.to_owned()
        } else {
            format!("{parent}.{key}")
        });
        match self.find(key) {
            None => Self { errors: self.errors, keys, path, table: None, at: None },
            Some(value) => self.open(keys, path, value),
        }
    }

    /// Returns the sections of the list `key`.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Self> {
        let path = self.path_of(key);
        let keys = SectionKeys::of(&path);
        let Some(value) = self.find(key) else {
            return Vec::new();
        };
        let Some(list) = value.get_ref().as_array() else {
            self.errors.add(value.span().start, &path, self.not_a_table(key, value.get_ref()));
            return Vec::new();
        };
        let open = |(n, value)| self.open(keys, format!("{path}[{n}]"), value);
        list.iter().enumerate().map(open).collect()
    }

    /// Opens a value as a section.
    fn open(&self, keys: &'static SectionKeys, path: String, value: &'a SpannedValue<'a>) -> Self {
        let at = value.span().start;
        let mut section = Self { errors: self.errors, keys, path, table: None, at: Some(at) };
        if let Some(table) = value.get_ref().as_table() {
            section.table = Some(table);
            section.check_keys(table);
        } else {
            let key = keys.path.rsplit('.').next().unwrap_or(keys.path);
            self.errors.add(at, &section.path, self.not_a_table(key, value.get_ref()));
        }
        section
    }

    /// Returns the error for a value that is not a section, or that is a section instead of a list
    /// of sections.
    fn not_a_table(&self, key: &str, value: &DeValue<'_>) -> ValueError {
        let header = self.keys.as_section(key);
        let expected = match value {
            DeValue::Table(_) => "a list of sections, not a single one".to_owned(),
            DeValue::Array(_) => "a single section, not a list".to_owned(),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => format!("a section, not {}", type_name(value)),
        };
        ValueError::new(format!("`{key}` must be {expected}"))
            .hint(format!("write it as {header}, with its keys in the lines below"))
    }

    /// Refuses unknown keys, and values of planned features.
    fn check_keys(&self, table: &DeTable<'_>) {
        if self.keys.keys.is_empty() {
            return;
        }
        for (key, value) in table {
            let name: &str = key.get_ref();
            if self.keys.has(name) {
                self.check_reserved(name, value);
            } else {
                self.errors.add(key.span().start, &self.path_of(name), self.unknown(name));
            }
        }
    }

    /// Refuses a reserved key unless it has the accepted value.
    fn check_reserved(&self, key: &str, value: &SpannedValue<'_>) {
        let mut reserved = RESERVED_KEYS.iter();
        let Some(reserved) = reserved.find(|r| r.section == self.keys.path && r.key == key) else {
            return;
        };
        let at = value.span().start;
        if reserved.accepted.is_empty() {
            let error = ValueError::new(format!(
                "`{key}` is not available yet: it comes with {}; leave it out",
                reserved.feature
            ));
            self.errors.add(at, &self.path_of(key), error);
            return;
        }
        let value_as_toml = if reserved.accepted.starts_with('"') {
            value.get_ref().as_str().map(|text| format!("\"{text}\"")).ok_or("a string")
        } else {
            value.get_ref().as_bool().map(|flag| flag.to_string()).ok_or("`true` or `false`")
        };
        match value_as_toml {
            Ok(written) if written == reserved.accepted => {}
            Ok(written) if reserved.planned.contains(&&*written) => {
                let error = ValueError::new(format!(
                    "`{key} = {written}` is not available yet: it comes with {}; use `{key} = {}`",
                    reserved.feature, reserved.accepted
                ));
                self.errors.add(at, &self.path_of(key), error);
            }
            Ok(written) => {
                let words = [reserved.accepted].into_iter().chain(reserved.planned.iter().copied());
                let words = words.map(|word| word.trim_matches('"'));
                self.add_error(at, key, unknown_word(written.trim_matches('"'), words));
            }
            Err(expected) => self.add_type_error(key, value, expected, None),
        }
    }

    /// Returns the error for an unknown key.
    fn unknown(&self, name: &str) -> ValueError {
        let error = ValueError::new(format!("unknown key `{name}` in {}", self.keys.header));
        let elsewhere = self.keys.elsewhere(name);
        if !elsewhere.is_empty() {
            return error.hint(format!("`{name}` belongs in {}", elsewhere.join(" or ")));
        }
        match suggest(name, self.keys.names()) {
            Some(near) if self.keys.path.is_empty() => {
                error.hint(format!("did you mean {}?", self.keys.as_section(near)))
            }
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("known are {}", in_prose(self.keys.names(), "and"))),
        }
    }

    /// Returns the path of a key of this section.
    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Returns true if the file has this section.
    pub(super) fn present(&self) -> bool {
        self.at.is_some()
    }

    /// Returns the table of the section, if there is one.
    pub(super) fn table(&self) -> Option<&'a DeTable<'a>> {
        self.table
    }

    /// Returns the value of a key.
    pub(super) fn find(&self, key: &'static str) -> Option<&'a SpannedValue<'a>> {
        debug_assert!(self.keys.has(key), "`{key}` is missing in keys.rs");
        self.table.and_then(|table| table.get(key))
    }

    /// Adds an error in the value of a key. The message is appended to the text "`key` in
    /// \[section\] ".
    pub(super) fn add_error(&self, at: usize, key: &str, error: ValueError) {
        let message = format!("`{key}` in {} {}", self.keys.header, error.message);
        self.errors.add(at, &self.path_of(key), ValueError { message, hint: error.hint });
    }

    /// Adds the error that a key is missing. Adds nothing if the section is not a table, which is
    /// an error of its own.
    pub(super) fn missing(&self, key: &str, hint: &str) {
        if self.table.is_some() || self.at.is_none() {
            let error =
                ValueError::new(format!("`{key}` is missing in {}", self.keys.header)).hint(hint);
            self.errors.add(self.at.unwrap_or(0), &self.path_of(key), error);
        }
    }

    /// Adds the error that a value has the wrong type.
    pub(super) fn add_type_error(
        &self,
        key: &str,
        value: &SpannedValue<'_>,
        expected: &str,
        hint: Option<String>,
    ) {
        let message = format!("must be {expected}, not {}", type_name(value.get_ref()));
        self.add_error(value.span().start, key, ValueError { message, hint });
    }
}

/// Returns the name of a value's type, with an article.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
