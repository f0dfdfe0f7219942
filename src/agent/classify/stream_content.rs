//! Parsing of a stream into events and lines of text.

use serde_json::{Deserializer, Value};

/// The parsed content of a stream.
#[derive(Debug, Default)]
pub(super) struct StreamContent {
    /// The events, in order.
    pub(super) events: Vec<Value>,
    /// The lines that are not events, normalized.
    pub(super) plain: String,
    /// True if a part of the stream cannot be parsed.
    pub(super) broken: bool,
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
        let broken = !cut && (std::str::from_utf8(bytes).is_err() || bytes.contains(&0));
        Self { events: Vec::new(), plain: normalize(&text), broken, cut }
    }

    /// Parses a stream of JSON: an object per line, objects over several lines, lists of objects,
    /// and lines of text between them.
    pub(super) fn from_events(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        let mut plain = String::new();
        // Line numbers. An incomplete line beside a cut mark does not break the stream.
        let (mut broken_lines, mut cut_marks) = (Vec::new(), Vec::new());
        let (mut offset, mut number) = (0, 0_usize);
        while offset < bytes.len() {
            let end = line_end(bytes, offset);
            let line = &bytes[offset..end];
            number += 1;
            let indent = line.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            if let Some(b'{' | b'[') = line.get(indent)
                && let Some(after) = parse_objects(bytes, offset + indent, &mut content.events)
            {
                number += bytes[offset..after].iter().filter(|byte| **byte == b'\n').count();
                offset = line_end(bytes, after) + 1;
                continue;
            }
            match std::str::from_utf8(line) {
                Ok(text) if is_cut_mark(text) => cut_marks.push(number),
                Ok(text) if !is_json_fragment(text) => {
                    plain.push_str(text);
                    plain.push('\n');
                }
                Ok(_) | Err(_) => broken_lines.push(number),
            }
            offset = end + 1;
        }
        let is_beside_mark = |line: &usize| cut_marks.iter().any(|mark| mark.abs_diff(*line) == 1);
        content.broken = !broken_lines.iter().all(is_beside_mark);
        content.cut = !cut_marks.is_empty();
        content.plain = normalize(&plain);
        content
    }
}

/// Removes colors and carriage returns, and replaces typographic quotes, spaces and hyphens.
pub(super) fn normalize(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                // The parameters, then the letter that ends the escape sequence.
                while chars.next_if(|c| !c.is_ascii_alphabetic()).is_some() {}
                chars.next();
            }
            '\r' => {}
            '‘' | '’' | '‛' | 'ʼ' => plain.push('\''),
            '“' | '”' => plain.push('"'),
            '\u{a0}' | '\u{202f}' | '\u{2009}' => plain.push(' '),
            '‐' | '‑' => plain.push('-'),
            c => plain.push(c),
        }
    }
    plain
}

/// Returns the offset of the next line feed, or of the end.
fn line_end(bytes: &[u8], from: usize) -> usize {
    let length = bytes[from..].iter().position(|byte| *byte == b'\n');
    length.map_or(bytes.len(), |length| from + length)
}

/// Parses the objects from an offset to the end of a line, and returns the offset of their end.
/// Returns `None` for any other text.
fn parse_objects(bytes: &[u8], from: usize, events: &mut Vec<Value>) -> Option<usize> {
    let mut objects = Vec::new();
    let mut offset = from;
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

/// Returns true if a line that is not an event looks like a part of an event.
fn is_json_fragment(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('{')
        || line.starts_with("[{")
        || line == "["
        || line.contains('\0')
        || ["\":", "{\"", "\"}", "\",\""].iter().any(|token| line.contains(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (usize, bool, String) {
        let content = StreamContent::from_events(text.as_bytes());
        (content.events.len(), content.broken, content.plain)
    }

    #[test]
    fn stream_of_objects_lists_and_text_is_parsed() {
        for (text, events, broken, plain) in [
            ("", 0, false, ""),
            ("{\"a\":1}\n{\"a\":2}", 2, false, ""),
            ("{\"a\":1}{\"a\":2}\n", 2, false, ""),
            ("[{\"a\":1},{\"a\":2}]\n", 2, false, ""),
            ("{\n \"a\": [\n1]\n}\n{\"b\":1}\n", 2, false, ""),
            ("banner [x]\n\x1b[31mred\x1b[0m\r\n{\"a\":1}\n", 1, false, "banner [x]\nred\n"),
            ("[WARN] x\n[1]\n", 0, false, "[WARN] x\n[1]\n"),
            ("You’ve “x”", 0, false, "You've \"x\"\n"),
            ("{\"a\":1}\n{\"a\":", 1, true, ""),
            ("{\"a\":1}\nype\":\"x\"}\n{\"a\":2}\n", 2, true, ""),
            ("{\"a\":1} junk\n{\"a\":2}\n", 1, true, ""),
            ("{\n \"a\": 1,\n", 0, true, " "),
        ] {
            let (parsed_events, is_broken, parsed_plain) = parse(text);
            assert_eq!((parsed_events, is_broken), (events, broken), "{text:?}");
            if !broken {
                assert_eq!(parsed_plain, plain, "{text:?}");
            }
        }
        assert!(StreamContent::from_events(b"{\"a\":1}\n\xff\xfe\n").broken);
    }

    #[test]
    fn incomplete_lines_beside_a_cut_mark_do_not_break_the_stream() {
        let mark = "[git-harness: 70000 bytes left out]";
        assert!(is_cut_mark(mark) && !is_cut_mark("[git-harness: many bytes left out]"));
        let content = StreamContent::from_events(
            format!("{{\"a\":1}}\n{{\"b\":\"xx\n{mark}\nyy\"}}\n{{\"c\":1}}\n").as_bytes(),
        );
        assert_eq!((content.events.len(), content.broken, content.cut), (2, false, true));
        let content =
            StreamContent::from_events(format!("{{\"b\":\"xx\n{{\"a\":1}}\n{mark}\n").as_bytes());
        assert!(content.broken);
    }
}
