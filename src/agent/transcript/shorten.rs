//! Shortened texts for transcripts.

use serde_json::Value;

/// The names of arguments that are a tool's main argument, in order of precedence.
const MAIN_ARGUMENTS: &[&str] = &[
    "command",
    "cmd",
    "file_path",
    "filePath",
    "path",
    "absolute_path",
    "pattern",
    "query",
    "url",
    "prompt",
    "skill",
    "input",
];

/// The names of arguments that only describe the other arguments for people.
const DESCRIPTIONS: &[&str] = &["description", "toolTitle", "intentionSummary"];

/// The number of characters of the main argument that are shown.
const MAIN_ARGUMENT_LENGTH: usize = 300;
/// The number of characters of any other argument that are shown.
const OTHER_ARGUMENT_LENGTH: usize = 60;

/// Removes terminal escape sequences, and text that a carriage return overwrites.
pub(super) fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\u{1b}', Some('[')) => {
                chars.next();
                while chars.next_if(|c| matches!(c, '0'..='?' | ' '..='/')).is_some() {}
                chars.next_if(|c| matches!(c, '@'..='~'));
            }
            ('\u{1b}', Some(']')) => {
                // A sequence that sets a title or a link. The sequence ends on the same line.
                while let Some(c) = chars.next_if(|c| *c != '\n') {
                    if c == '\u{7}' || c == '\u{1b}' && chars.next_if_eq(&'\\').is_some() {
                        break;
                    }
                }
            }
            ('\r', Some('\n') | None) => {}
            ('\r', Some(_)) => {
                let line = plain.rfind('\n').map_or(0, |at| at + 1);
                plain.truncate(line);
            }
            _ => plain.push(c),
        }
    }
    plain
}

/// Cuts a line after `most` characters.
pub(super) fn cut(line: &str, most: usize) -> String {
    match line.char_indices().nth(most) {
        None => line.to_owned(),
        Some((at, _)) => format!("{}…", &line[..at]),
    }
}

/// Returns the first lines of a text, and a line with the number of omitted lines.
pub(super) fn first_lines(text: &str, most: usize) -> String {
    let text = without_escapes(text);
    let text = text.trim_end();
    let mut lines = text.trim_start_matches(['\n', '\r']).lines();
    let mut shown: Vec<String> = lines.by_ref().take(most).map(|line| cut(line, 400)).collect();
    match lines.count() {
        0 => {}
        1 => shown.push("… 1 more line".to_owned()),
        omitted => shown.push(format!("… {omitted} more lines")),
    }
    shown.join("\n")
}

/// Formats JSON on one line and cuts the line.
pub(super) fn compact(value: &Value, most: usize) -> String {
    match value {
        Value::String(text) => cut(&text.split_whitespace().collect::<Vec<_>>().join(" "), most),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            cut(&value.to_string(), most)
        }
    }
}

/// Describes the arguments of a tool call.
pub(super) fn arguments(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // Some programs write the object as text.
        Value::String(text) => match serde_json::from_str(text) {
            Ok(inner @ Value::Object(_)) => arguments(&inner),
            Ok(_) | Err(_) => first_lines(text, 4),
        },
        Value::Object(all) => {
            let main = MAIN_ARGUMENTS.iter().find_map(|name| Some((*name, all.get(*name)?)));
            let mut text = match main {
                Some((_, Value::String(text))) => first_lines(text, 4),
                Some((_, Value::Array(list))) => {
                    let list: Vec<String> =
                        list.iter().map(|item| compact(item, MAIN_ARGUMENT_LENGTH)).collect();
                    cut(&list.join(" "), MAIN_ARGUMENT_LENGTH)
                }
                Some((_, other)) => compact(other, MAIN_ARGUMENT_LENGTH),
                None => String::new(),
            };
            let others = all.iter().filter(|(name, value)| {
                Some(name.as_str()) != main.map(|(name, _)| name)
                    && !DESCRIPTIONS.contains(&name.as_str())
                    && !matches!(value, Value::Null | Value::Bool(false))
            });
            let others: Vec<String> = others
                .map(|(name, value)| format!("{name}={}", compact(value, OTHER_ARGUMENT_LENGTH)))
                .collect();
            if !others.is_empty() {
                let separator = if text.is_empty() { "" } else { "  " };
                text.push_str(&format!(
                    "{separator}({})",
                    cut(&others.join(", "), MAIN_ARGUMENT_LENGTH)
                ));
            }
            text
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => compact(value, MAIN_ARGUMENT_LENGTH),
    }
}

/// Formats a number with thousands separators.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a duration.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..=99 => format!("{seconds}.{} s", ms % 1000 / 100),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}
