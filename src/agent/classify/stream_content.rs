//! Parsing of a stream into events and lines of text.
//!
//! Programs and their tools print to the same stream, in any encoding. An unreadable line does not
//! affect the other lines: the parser skips the line and remembers its position.

use serde_json::{Deserializer, Value};

use super::terminal_text::{normalize, without_control_sequences};
use crate::contract::lenient_json;

/// The parsed content of a stream.
#[derive(Debug, Default)]
pub(super) struct StreamContent {
    /// The events, in order.
    pub(super) events: Vec<Value>,
    /// The lines that are not events, normalized.
    pub(super) plain: String,
    /// The offset in `plain` of the text after the last event.
    pub(super) tail_start: usize,
    /// For each line that cannot be read, the number of events before the line.
    pub(super) unreadable: Vec<usize>,
    /// True if the keeper cut out the middle of the stream.
    pub(super) cut: bool,
}

/// Returns true if a line marks the place where the keeper cut out the middle of a stream. The
/// lines before and after the mark may be incomplete.
fn is_cut_mark(line: &str) -> bool {
    let number = line.trim().strip_prefix("[git-harness: ");
    let number = number.and_then(|rest| rest.strip_suffix(" bytes left out]"));
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

impl StreamContent {
    /// Parses a stream of text.
    pub(super) fn from_text(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let cut = text.lines().any(is_cut_mark);
        Self { plain: normalize(&text), cut, ..Self::default() }
    }

    /// Parses a stream of JSON: an object per line, objects over several lines, lists of objects,
    /// and lines of text between them.
    pub(super) fn from_events(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        let mut plain = String::new();
        // `unreadable`: line numbers with the number of events before the line. `cut_marks`: the
        // line numbers of cut marks. The cut made the lines beside a mark incomplete, so those are
        // dropped from `unreadable` below.
        let (mut unreadable, mut cut_marks) = (Vec::new(), Vec::new());
        let (mut offset, mut number) = (0, 0_usize);
        while offset < bytes.len() {
            number += 1;
            let end = line_end(bytes, offset);
            if let Some(after) = parse_objects(bytes, offset, &mut content.events) {
                content.tail_start = plain.len();
                number += bytes[offset..after].iter().filter(|byte| **byte == b'\n').count();
                offset = line_end(bytes, after) + 1;
                continue;
            }
            let line = ParsedLine::new(&bytes[offset..end]);
            if is_cut_mark(&line.plain) {
                cut_marks.push(number);
            } else if line.unreadable
                && let Some((events, after)) = parse_block(bytes, offset)
            {
                content.events.extend(events);
                content.tail_start = plain.len();
                number += bytes[offset..after].iter().filter(|byte| **byte == b'\n').count();
                offset = line_end(bytes, after) + 1;
                continue;
            } else {
                if !line.events.is_empty() {
                    content.tail_start = plain.len();
                    content.events.extend(line.events);
                }
                plain.push_str(&line.plain);
                if !line.plain.is_empty() {
                    plain.push('\n');
                }
                if line.unreadable {
                    unreadable.push((number, content.events.len()));
                }
            }
            offset = end + 1;
        }
        let is_beside_mark = |line: usize| cut_marks.iter().any(|mark| mark.abs_diff(line) == 1);
        unreadable.retain(|(line, _)| !is_beside_mark(*line));
        content.unreadable = unreadable.into_iter().map(|(_, events)| events).collect();
        content.cut = !cut_marks.is_empty();
        content.plain = plain;
        content
    }

    /// Returns true if an unreadable line follows the event with this index. The line may have been
    /// an event.
    pub(super) fn is_unreadable_after(&self, index: usize) -> bool {
        self.unreadable.iter().any(|events| *events > index)
    }
}

/// A line, parsed alone.
#[derive(Debug, Default)]
pub(super) struct ParsedLine {
    /// The events on the line, in order.
    pub(super) events: Vec<Value>,
    /// The other text of the line, normalized.
    pub(super) plain: String,
    /// True if the line holds a part of an event that cannot be read.
    pub(super) unreadable: bool,
}

impl ParsedLine {
    /// Parses a line: events with text before, between and after them.
    pub(super) fn new(line: &[u8]) -> Self {
        let text = without_control_sequences(&String::from_utf8_lossy(line));
        let mut parsed = Self::default();
        let mut rest = text.trim();
        while !rest.is_empty() {
            if let Some((events, length)) = objects_at(rest) {
                parsed.events.extend(events);
                rest = rest[length..].trim_start();
            } else if let Some(at) = glued_event(rest) {
                parsed.plain.push_str(&normalize(&rest[..at]));
                rest = &rest[at..];
            } else {
                parsed.unreadable = is_event_fragment(rest);
                if !parsed.unreadable {
                    parsed.plain.push_str(&normalize(rest));
                }
                break;
            }
        }
        parsed
    }
}

/// Parses an object or a list of objects at the beginning of a text. Returns the objects and the
/// length of their text.
fn objects_at(text: &str) -> Option<(Vec<Value>, usize)> {
    match lenient_json::parse_prefix(text)? {
        (object @ Value::Object(_), length) => Some((vec![object], length)),
        (Value::Array(list), length) if !list.is_empty() && list.iter().all(Value::is_object) => {
            Some((list, length))
        }
        (
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_),
            _,
        ) => None,
    }
}

/// Returns the offset of an event that begins behind other text on the same line, such as a
/// progress message without a line feed. The body of an error message is not an event.
fn glued_event(text: &str) -> Option<usize> {
    const TRIES: usize = 8;
    let mut from = 0;
    for _ in 0..TRIES {
        let at = from + text[from..].find("{\"")?;
        match lenient_json::parse_prefix(&text[at..]) {
            Some((object, length)) => {
                let kind = object.get("type").and_then(Value::as_str);
                if kind.is_some_and(|kind| kind != "error") {
                    return Some(at);
                }
                // Skip the object as a whole: objects inside it are no events.
                from = at + length;
            }
            None => from = at + 1,
        }
    }
    None
}

/// Returns true if a text that cannot be parsed looks like the beginning or the end of an event.
fn is_event_fragment(text: &str) -> bool {
    let begins = text.starts_with("{\"") || text.starts_with("[{\"") || matches!(text, "{" | "[");
    let count = |brace| text.matches(brace).count();
    let ends = text.ends_with(['}', ']']) && text.contains('"') && count('}') > count('{');
    begins || ends
}

/// Returns the offset of the next line feed, or of the end.
fn line_end(bytes: &[u8], from: usize) -> usize {
    let length = bytes[from..].iter().position(|byte| *byte == b'\n');
    length.map_or(bytes.len(), |length| from + length)
}

/// Parses objects that start at `from`, the beginning of a line, and end at the end of this line or
/// of a later one. Appends them to `events` and returns the offset of their end. Returns `None` for
/// any other text.
fn parse_objects(bytes: &[u8], from: usize, events: &mut Vec<Value>) -> Option<usize> {
    let mut objects = Vec::new();
    let blank = |at: usize| bytes[at..].iter().take_while(|byte| **byte == b' ').count();
    let mut offset = from + blank(from);
    if !matches!(bytes.get(offset), Some(b'{' | b'[')) {
        return None;
    }
    loop {
        let mut stream = Deserializer::from_slice(&bytes[offset..]).into_iter::<Value>();
        match stream.next()?.ok()? {
            object @ Value::Object(_) => objects.push(object),
            Value::Array(list) if list.iter().all(Value::is_object) && !list.is_empty() => {
                objects.extend(list);
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => return None,
        }
        offset += stream.byte_offset();
        let rest = &bytes[offset..line_end(bytes, offset)];
        let blank = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if blank == rest.len() {
            events.append(&mut objects);
            return Some(offset);
        }
        offset += blank;
    }
}

/// Parses a pretty-printed document with small faults. It begins at `from`, the beginning of a
/// line, and ends on a later line. Returns the objects and the offset of their end.
fn parse_block(bytes: &[u8], from: usize) -> Option<(Vec<Value>, usize)> {
    // Pretty-printed JSON has only opening brackets on its first line.
    let first = bytes[from..line_end(bytes, from)].trim_ascii();
    if !matches!(first, b"{" | b"[" | b"[{") {
        return None;
    }
    let text = String::from_utf8_lossy(bytes[from..].trim_ascii_start());
    let (events, length) = objects_at(&text)?;
    // `from_utf8_lossy` may change lengths, so the end is found by counting lines.
    let lines = text[..length].matches('\n').count();
    let mut end = line_end(bytes, from);
    for _ in 0..lines {
        end = line_end(bytes, end + 1);
    }
    Some((events, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (usize, bool, String) {
        let content = StreamContent::from_events(text.as_bytes());
        (content.events.len(), !content.unreadable.is_empty(), content.plain)
    }

    #[test]
    fn stream_of_objects_lists_and_text_is_parsed() {
        for (text, events, unreadable, plain) in [
            ("", 0, false, ""),
            ("{\"a\":1}\n{\"a\":2}", 2, false, ""),
            ("{\"a\":1}{\"a\":2}\n", 2, false, ""),
            ("[{\"a\":1},{\"a\":2}]\n", 2, false, ""),
            ("{\n \"a\": [\n1]\n}\n{\"b\":1}\n", 2, false, ""),
            ("{\n \"a\": [\nNaN]\n}\n{\"b\":1}\n", 2, false, ""),
            ("banner [x]\n\x1b[31mred\x1b[0m\r\n{\"a\":1}\n", 1, false, "banner [x]\nred\n"),
            ("[WARN] x\n[1]\n", 0, false, "[WARN] x\n[1]\n"),
            ("You’ve “x”", 0, false, "You've \"x\"\n"),
            ("{\"a\":1}\n{\"a\":", 1, true, ""),
            ("{\"a\":1}\nype\":\"x\"}\n{\"a\":2}\n", 2, true, ""),
            ("{\"a\":1} junk\n{\"a\":2}\n", 2, false, "junk\n"),
            ("{\n \"a\": 1,\n", 0, true, "\"a\": 1,\n"),
            (
                "npm warn config cache \"min-age\": ignored\n",
                0,
                false,
                "npm warn config cache \"min-age\": ignored\n",
            ),
            ("{ level: 'info', n: 1 }\n", 0, false, "{ level: 'info', n: 1 }\n"),
            (
                "Error: 429 {\"error\":{\"type\":\"x\"}}\n",
                0,
                false,
                "Error: 429 {\"error\":{\"type\":\"x\"}}\n",
            ),
            (
                "API Error: 401 {\"type\":\"error\"}\n",
                0,
                false,
                "API Error: 401 {\"type\":\"error\"}\n",
            ),
        ] {
            assert_eq!(parse(text), (events, unreadable, plain.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn encoding_fault_does_not_hide_the_events_of_a_stream() {
        let bytes = |text: &str| text.as_bytes().to_vec();
        for (what, noise) in [
            ("Latin-1 text", b"caf\xe9 is not UTF-8".to_vec()),
            ("Latin-1 in an event", b"{\"text\":\"caf\xe9\"}".to_vec()),
            ("zeros", vec![0; 5]),
            ("zero in an event", b"{\"text\":\"a\0b\"}".to_vec()),
            ("byte order mark", bytes("\u{feff}{\"a\":1}")),
            ("color", bytes("\x1b[1;31m{\"a\":1}\x1b[0m")),
            ("terminal title", bytes("\x1b]0;working\x07{\"a\":1}")),
            ("progress report", bytes("\x1b]9;4;1;50\x1b\\{\"a\":1}\x1b]9;4;0;\x07")),
            ("hyperlink", bytes("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\")),
            ("lone surrogate", bytes(r#"{"text":"\ud83d"}"#)),
            ("not a number", bytes(r#"{"n":NaN,"m":1e999}"#)),
            ("redacted number", bytes(r#"{"n":[redacted]}"#)),
            ("log line with braces", bytes("debug { a: 1, b: [2 }")),
            ("carriage return", bytes("10%\r20%\r{\"type\":\"x\"}")),
        ] {
            let mut stream = b"{\"type\":\"first\"}\n".to_vec();
            stream.extend_from_slice(&noise);
            stream.extend_from_slice(b"\n{\"type\":\"last\"}\n");
            let content = StreamContent::from_events(&stream);
            assert!(content.unreadable.is_empty(), "{what}: {content:?}");
            assert_eq!(content.events[0]["type"], "first", "{what}");
            assert_eq!(content.events.last().unwrap()["type"], "last", "{what}");
            let has_event = noise.contains(&b'"');
            assert_eq!(content.events.len(), if has_event { 3 } else { 2 }, "{what}");
        }
    }

    #[test]
    fn event_behind_text_on_one_line_is_parsed() {
        let (events, unreadable, plain) = parse("Loading… {\"type\":\"result\"}]9;4;0;\n");
        assert_eq!((events, unreadable, plain.as_str()), (1, false, "Loading… ]9;4;0;\n"));
    }

    #[test]
    fn incomplete_lines_beside_a_cut_mark_are_not_unreadable() {
        let mark = "[git-harness: 70000 bytes left out]";
        assert!(is_cut_mark(mark) && !is_cut_mark("[git-harness: many bytes left out]"));
        let content = StreamContent::from_events(
            format!("{{\"a\":1}}\n{{\"b\":\"xx\n{mark}\nyy\"}}\n{{\"c\":1}}\n").as_bytes(),
        );
        assert_eq!((content.events.len(), content.unreadable.len(), content.cut), (2, 0, true));
        let content =
            StreamContent::from_events(format!("{{\"b\":\"xx\n{{\"a\":1}}\n{mark}\n").as_bytes());
        assert!(!content.unreadable.is_empty());
    }
}
