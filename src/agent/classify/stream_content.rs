//! From bytes to events and lines of text, and whether anything between them cannot be read.

use serde_json::{Deserializer, Value};

/// What was printed on one stream.
#[derive(Debug, Default)]
pub(super) struct StreamContent {
    /// Its events, in order.
    pub(super) events: Vec<Value>,
    /// Its lines that are no events, without colours.
    pub(super) plain: String,
    /// Whether something in it cannot be read.
    pub(super) broken: bool,
    /// Whether its middle was left out.
    pub(super) cut: bool,
}

/// Whether a line stands where the keeper left out the middle of a stream. What is beside it may be half a line.
fn is_mark(line: &str) -> bool {
    let number = line.trim().strip_prefix("[git-harness: ");
    let number = number.and_then(|rest| rest.strip_suffix(" bytes left out]"));
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

impl StreamContent {
    /// A stream of text for people.
    pub(super) fn text(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let cut = text.lines().any(is_mark);
        let broken = !cut && (std::str::from_utf8(bytes).is_err() || bytes.contains(&0));
        Self { events: Vec::new(), plain: words(&text), broken, cut }
    }
}

/// Without colours and carriage returns, and with plain quotes.
pub(super) fn words(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                // Parameters, up to the letter that ends the sequence.
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

/// Reads a stream of JSON: an object a line, objects over several lines, lists of objects, and text between them.
pub(super) fn read(bytes: &[u8]) -> StreamContent {
    let mut heard = StreamContent::default();
    let mut plain = String::new();
    // Line numbers of what cannot be read, and of what was left out: half a line beside a mark is no fault.
    let (mut faults, mut marks) = (Vec::new(), Vec::new());
    let (mut at, mut number) = (0, 0_usize);
    while at < bytes.len() {
        let end = line_end(bytes, at);
        let line = &bytes[at..end];
        number += 1;
        let begin = line.iter().take_while(|b| b.is_ascii_whitespace()).count();
        if let Some(b'{' | b'[') = line.get(begin)
            && let Some(after) = objects(bytes, at + begin, &mut heard.events)
        {
            number += bytes[at..after].iter().filter(|b| **b == b'\n').count();
            at = line_end(bytes, after) + 1;
            continue;
        }
        match std::str::from_utf8(line) {
            Ok(text) if is_mark(text) => marks.push(number),
            Ok(text) if !scrap(text) => {
                plain.push_str(text);
                plain.push('\n');
            }
            Ok(_) | Err(_) => faults.push(number),
        }
        at = end + 1;
    }
    let beside = |fault: &usize| marks.iter().any(|mark| mark.abs_diff(*fault) == 1);
    heard.broken = !faults.iter().all(beside);
    heard.cut = !marks.is_empty();
    heard.plain = words(&plain);
    heard
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| at + n)
}

/// Takes the objects that begin here and end where a line does; where they end. Nothing if it is anything else.
fn objects(bytes: &[u8], at: usize, events: &mut Vec<Value>) -> Option<usize> {
    let mut found = Vec::new();
    let mut here = at;
    loop {
        let mut stream = Deserializer::from_slice(&bytes[here..]).into_iter::<Value>();
        match stream.next()?.ok()? {
            object @ Value::Object(_) => found.push(object),
            Value::Array(list) if list.iter().all(Value::is_object) && !list.is_empty() => {
                found.extend(list);
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => return None,
        }
        here += stream.byte_offset();
        let rest = &bytes[here..line_end(bytes, here)];
        let blank = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        if blank == rest.len() {
            events.append(&mut found);
            return Some(here);
        }
        here += blank;
    }
}

/// Whether a line that is no event is what is left of one.
fn scrap(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('{')
        || line.starts_with("[{")
        || line == "["
        || line.contains('\0')
        || ["\":", "{\"", "\"}", "\",\""].iter().any(|sign| line.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> (usize, bool, String) {
        let heard = read(text.as_bytes());
        (heard.events.len(), heard.broken, heard.plain)
    }

    #[test]
    fn objects_lists_and_text_are_told_apart() {
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
            let (n, b, p) = shape(text);
            assert_eq!((n, b), (events, broken), "{text:?}");
            if !broken {
                assert_eq!(p, plain, "{text:?}");
            }
        }
        assert!(read(b"{\"a\":1}\n\xff\xfe\n").broken);
    }

    #[test]
    fn half_lines_beside_a_mark_are_no_fault() {
        let mark = "[git-harness: 70000 bytes left out]";
        assert!(is_mark(mark) && !is_mark("[git-harness: many bytes left out]"));
        let heard =
            read(format!("{{\"a\":1}}\n{{\"b\":\"xx\n{mark}\nyy\"}}\n{{\"c\":1}}\n").as_bytes());
        assert_eq!((heard.events.len(), heard.broken, heard.cut), (2, false, true));
        let heard = read(format!("{{\"b\":\"xx\n{{\"a\":1}}\n{mark}\n").as_bytes());
        assert!(heard.broken);
    }
}
