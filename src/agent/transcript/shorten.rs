//! Short words for long things.

use serde_json::Value;

/// Which argument of a tool says what it does, by the names that tools have for it.
const TELLING: &[&str] = &[
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

/// What tools are told for people to read, which their other arguments say already.
const TALK: &[&str] = &["description", "toolTitle", "intentionSummary"];

/// How much of an argument is shown, in characters: of the telling one, and of each other.
const ARGUMENT: usize = 300;
const OTHER: usize = 60;

/// A text without what moves a cursor or paints: sequences of a terminal, and what a carriage return overwrote.
pub(super) fn plain(text: &str) -> String {
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
                // A title or a link: to its end, which is on the same line if it is one.
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

/// The first characters of a line.
pub(super) fn cut(line: &str, most: usize) -> String {
    match line.char_indices().nth(most) {
        None => line.to_owned(),
        Some((at, _)) => format!("{}…", &line[..at]),
    }
}

/// The first lines of a text, and how many more there are.
pub(super) fn first_lines(text: &str, most: usize) -> String {
    let text = plain(text);
    let text = text.trim_end();
    let mut lines = text.trim_start_matches(['\n', '\r']).lines();
    let mut shown: Vec<String> = lines.by_ref().take(most).map(|line| cut(line, 400)).collect();
    let more = lines.count();
    match (shown.last_mut(), more) {
        (_, 0) => {}
        (_, 1) => shown.push("… 1 more line".to_owned()),
        (_, more) => shown.push(format!("… {more} more lines")),
    }
    shown.join("\n")
}

/// JSON on one line, shortened.
pub(super) fn compact(value: &Value, most: usize) -> String {
    match value {
        Value::String(text) => cut(&text.split_whitespace().collect::<Vec<_>>().join(" "), most),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            cut(&value.to_string(), most)
        }
    }
}

/// What a tool was told.
pub(super) fn arguments(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // Some write the object as text.
        Value::String(text) => match serde_json::from_str(text) {
            Ok(inner @ Value::Object(_)) => arguments(&inner),
            Ok(_) | Err(_) => first_lines(text, 4),
        },
        Value::Object(all) => {
            let telling = TELLING.iter().find_map(|name| Some((*name, all.get(*name)?)));
            let mut text = match telling {
                Some((_, Value::String(text))) => first_lines(text, 4),
                Some((_, Value::Array(words))) => {
                    let words: Vec<String> =
                        words.iter().map(|word| compact(word, ARGUMENT)).collect();
                    cut(&words.join(" "), ARGUMENT)
                }
                Some((_, other)) => compact(other, ARGUMENT),
                None => String::new(),
            };
            let others = all.iter().filter(|(name, value)| {
                Some(name.as_str()) != telling.map(|(name, _)| name)
                    && !TALK.contains(&name.as_str())
                    && !matches!(value, Value::Null | Value::Bool(false))
            });
            let others: Vec<String> =
                others.map(|(name, value)| format!("{name}={}", compact(value, OTHER))).collect();
            if !others.is_empty() {
                let gap = if text.is_empty() { "" } else { "  " };
                text.push_str(&format!("{gap}({})", cut(&others.join(", "), ARGUMENT)));
            }
            text
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => compact(value, ARGUMENT),
    }
}

/// A number with its thousands apart.
pub(super) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length of time.
pub(super) fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..=99 => format!("{s}.{} s", ms % 1000 / 100),
        _ => format!("{} min {} s", s / 60, s % 60),
    }
}
