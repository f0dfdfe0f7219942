//! One section of the file: which keys it has, and where. Whatever is wrong is noted with its position, and reading
//! goes on.

use std::cell::RefCell;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{JobError, ValueError, in_prose, nearest, position};
use super::keys::SectionKeys;

/// A value and where it stands.
pub(super) type SpannedValue<'a> = Spanned<DeValue<'a>>;

/// Where things that are wrong are noted.
pub(super) struct ErrorCollector<'a> {
    text: &'a str,
    found: RefCell<Vec<JobError>>,
}

impl<'a> ErrorCollector<'a> {
    /// Nothing is wrong with this text so far.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, found: RefCell::new(Vec::new()) }
    }

    /// Notes a fault at a byte offset.
    pub(super) fn add(&self, offset: usize, key: &str, fault: ValueError) {
        let (line, column) = position(self.text, offset);
        let ValueError { message, hint } = fault;
        self.found.borrow_mut().push(JobError { line, column, key: key.to_owned(), message, hint });
    }

    /// Everything noted, by position.
    pub(super) fn into_errors(self) -> Vec<JobError> {
        let mut errors = self.found.into_inner();
        errors.sort_by_key(|e| (e.line, e.column));
        errors
    }
}
/// One section.
pub(super) struct Section<'a> {
    report: &'a ErrorCollector<'a>,
    known: &'static SectionKeys,
    /// Its key path, such as `check[0]`.
    path: String,
    table: Option<&'a DeTable<'a>>,
    /// Where it begins; nothing if the file does not have it.
    at: Option<usize>,
}

impl<'a> Section<'a> {
    /// The file as a whole.
    pub(super) fn top(report: &'a ErrorCollector<'a>, table: &'a DeTable<'a>) -> Self {
        let known = SectionKeys::of("");
        let top = Self { report, known, path: String::new(), table: Some(table), at: Some(0) };
        top.check_keys(table);
        top
    }

    /// The section below this one under `key`; without keys when the file does not have it or has no table there.
    pub(super) fn section(&self, key: &'static str) -> Self {
        let path = self.path_of(key);
        // Of one section of a list the path has a number, and what is known of it has none.
        let below = self.known.path;
        let known = SectionKeys::of(&if below.is_empty() {
            key.to_owned()
        } else {
            format!("{below}.{key}")
        });
        match self.find(key) {
            None => Self { report: self.report, known, path, table: None, at: None },
            Some(value) => self.table_of(known, path, value),
        }
    }

    /// The sections of a list of tables under `key`.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Self> {
        let path = self.path_of(key);
        let known = SectionKeys::of(&path);
        let Some(value) = self.find(key) else {
            return Vec::new();
        };
        let Some(list) = value.get_ref().as_array() else {
            self.report.add(value.span().start, &path, self.not_a_table(key, value.get_ref()));
            return Vec::new();
        };
        let open = |(n, value)| self.table_of(known, format!("{path}[{n}]"), value);
        list.iter().enumerate().map(open).collect()
    }

    fn table_of(
        &self,
        known: &'static SectionKeys,
        path: String,
        value: &'a SpannedValue<'a>,
    ) -> Self {
        let at = value.span().start;
        let mut section = Self { report: self.report, known, path, table: None, at: Some(at) };
        if let Some(table) = value.get_ref().as_table() {
            section.table = Some(table);
            section.check_keys(table);
        } else {
            let key = known.path.rsplit('.').next().unwrap_or(known.path);
            self.report.add(at, &section.path, self.not_a_table(key, value.get_ref()));
        }
        section
    }

    fn not_a_table(&self, key: &str, value: &DeValue<'_>) -> ValueError {
        let header = self.known.as_section(key);
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

    /// Refuses keys that do not exist.
    fn check_keys(&self, table: &DeTable<'_>) {
        if self.known.keys.is_empty() {
            return;
        }
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !self.known.has(name) {
                self.report.add(key.span().start, &self.path_of(name), self.unknown(name));
            }
        }
    }

    fn unknown(&self, name: &str) -> ValueError {
        let fault = ValueError::new(format!("unknown key `{name}` in {}", self.known.header));
        let elsewhere = self.known.elsewhere(name);
        if !elsewhere.is_empty() {
            return fault.hint(format!("`{name}` belongs in {}", elsewhere.join(" or ")));
        }
        match nearest(name, self.known.names()) {
            Some(near) if self.known.path.is_empty() => {
                fault.hint(format!("did you mean {}?", self.known.as_section(near)))
            }
            Some(near) => fault.hint(format!("did you mean `{near}`?")),
            None => fault.hint(format!("known are {}", in_prose(self.known.names(), "and"))),
        }
    }

    /// The path of a key of this section.
    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Whether the file has this section.
    pub(super) fn present(&self) -> bool {
        self.at.is_some()
    }

    /// The keys, where there is a table.
    pub(super) fn table(&self) -> Option<&'a DeTable<'a>> {
        self.table
    }

    /// The value of a key.
    pub(super) fn find(&self, key: &'static str) -> Option<&'a SpannedValue<'a>> {
        debug_assert!(self.known.has(key), "`{key}` is missing in keys.rs");
        self.table.and_then(|table| table.get(key))
    }

    /// Notes a fault of a key's value. The message goes on after "`key` in \[section\] ".
    pub(super) fn refuse(&self, at: usize, key: &str, fault: ValueError) {
        let message = format!("`{key}` in {} {}", self.known.header, fault.message);
        self.report.add(at, &self.path_of(key), ValueError { message, hint: fault.hint });
    }

    /// Notes that a key is missing, unless the whole section is broken.
    pub(super) fn missing(&self, key: &str, hint: &str) {
        if self.table.is_some() || self.at.is_none() {
            let fault =
                ValueError::new(format!("`{key}` is missing in {}", self.known.header)).hint(hint);
            self.report.add(self.at.unwrap_or(0), &self.path_of(key), fault);
        }
    }

    /// Notes that a value cannot be used yet, and what to write instead.
    pub(super) fn later(&self, at: usize, key: &str, value: &str, feature: &str, instead: &str) {
        let fault = ValueError::new(format!(
            "`{key} = {value}` is not available yet: it comes with {feature}; {instead}"
        ));
        self.report.add(at, &self.path_of(key), fault);
    }

    /// Notes a value of the wrong type.
    pub(super) fn wrong(
        &self,
        key: &str,
        value: &SpannedValue<'_>,
        expected: &str,
        hint: Option<String>,
    ) {
        let message = format!("must be {expected}, not {}", type_name(value.get_ref()));
        self.refuse(value.span().start, key, ValueError { message, hint });
    }
}

/// What kind of value it is, with an article.
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
