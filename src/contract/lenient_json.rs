//! Lenient parsing of JSON from programs that print almost valid JSON.
//!
//! Serializers in other languages emit lone surrogates, `NaN`, numbers out of range and raw control
//! characters, and redaction replaces numbers with a mark. All of that leaves the structure of the
//! document readable. A document without its end is never completed.

use serde_json::Value;

/// The mark of redaction, which may take the place of a number.
const REDACTED: &str = "[redacted]";

/// The deepest level that is kept. A deeper value becomes `null`. `serde_json` refuses documents
/// with more than 128 levels.
const DEEPEST: usize = 100;

/// Parses the JSON object or array at the beginning of a text. Returns the value and the length of
/// its text. Returns `None` if the document is not complete or not JSON.
pub(crate) fn parse_prefix(text: &str) -> Option<(Value, usize)> {
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    if let Some(Ok(value)) = values.next() {
        return Some((value, values.byte_offset()));
    }
    let (repaired, length) = repair(text)?;
    Some((serde_json::from_str(&repaired).ok()?, length))
}

/// Returns the document at the beginning of a text as valid JSON, and the length of its original
/// text. Only values change, never the structure.
fn repair(text: &str) -> Option<(String, usize)> {
    let mut repair = Repair { text, at: 0, depth: 0, out: String::with_capacity(text.len()) };
    // The first character of the last token. A word outside of the place of a value shows that the
    // text is prose, not JSON.
    let mut last = ':';
    while let Some(c) = repair.peek() {
        if c.is_whitespace() {
            repair.keep();
            continue;
        }
        let begins_value = matches!(last, ':' | ',' | '[');
        let begins_key = last == '{';
        last = c;
        match c {
            '"' if begins_value || begins_key => repair.string()?,
            '[' if begins_value && repair.rest().starts_with(REDACTED) => repair.word(),
            '{' | '[' if begins_value => {
                repair.depth += 1;
                if repair.depth == DEEPEST + 1 {
                    repair.out.push_str("null");
                }
                repair.keep();
            }
            '}' | ']' => {
                repair.keep();
                repair.depth = repair.depth.checked_sub(1)?;
                if repair.depth == 0 {
                    return Some((repair.out, repair.at));
                }
            }
            ',' | ':' => repair.keep(),
            _ if begins_value => repair.word(),
            _ => return None,
        }
    }
    None
}

/// The state of a repair.
struct Repair<'t> {
    text: &'t str,
    /// The offset of the next character.
    at: usize,
    /// The number of open objects and arrays.
    depth: usize,
    out: String,
}

impl Repair<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn push(&mut self, text: &str) {
        if self.depth <= DEEPEST {
            self.out.push_str(text);
        }
    }

    /// Keeps the next character.
    fn keep(&mut self) {
        if let Some(c) = self.peek() {
            self.push(c.encode_utf8(&mut [0; 4]));
            self.at += c.len_utf8();
        }
    }

    /// Keeps a literal. Replaces a word that is no JSON with `null`.
    fn word(&mut self) {
        let start = self.at;
        while let Some(c) = self.peek() {
            if self.rest().starts_with(REDACTED) {
                self.at += REDACTED.len();
            } else if c.is_whitespace() || matches!(c, ',' | ':' | '{' | '}' | '[' | ']' | '"') {
                break;
            } else {
                self.at += c.len_utf8();
            }
        }
        let word = &self.text[start..self.at];
        let is_json = serde_json::from_str::<Value>(word).is_ok();
        let word = if is_json { word.to_owned() } else { "null".to_owned() };
        self.push(&word);
    }

    /// Keeps a string. Returns `None` if the string does not end on its line.
    fn string(&mut self) -> Option<()> {
        self.keep();
        loop {
            match self.peek()? {
                '"' => {
                    self.keep();
                    return Some(());
                }
                '\\' => self.escape()?,
                '\n' => return None,
                c if c.is_control() => {
                    self.push(" ");
                    self.at += c.len_utf8();
                }
                _ => self.keep(),
            }
        }
    }

    /// Keeps an escape sequence. A lone surrogate becomes U+FFFD. The backslash of an invalid
    /// sequence is dropped.
    fn escape(&mut self) -> Option<()> {
        let unit = |text: &str| {
            let digits = text.strip_prefix("\\u")?.get(..4)?;
            u16::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
        };
        let rest = self.rest();
        let next = rest[1..].chars().next()?;
        let (text, length) = match unit(rest) {
            Some(0xd800..=0xdbff) => match rest.get(6..).and_then(unit) {
                Some(0xdc00..=0xdfff) => (rest[..12].to_owned(), 12),
                Some(_) | None => ("\\ufffd".to_owned(), 6),
            },
            Some(0xdc00..=0xdfff) => ("\\ufffd".to_owned(), 6),
            Some(_) => (rest[..6].to_owned(), 6),
            None if matches!(next, '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => {
                (rest[..2].to_owned(), 2)
            }
            None => (String::new(), 1),
        };
        self.push(&text);
        self.at += length;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Option<Value> {
        parse_prefix(text).map(|(value, _)| value)
    }

    #[test]
    fn lenient_json_keeps_the_structure_of_almost_valid_documents() {
        for (text, expected) in [
            (r#"{"a":"\ud83d\u2026 x"}"#, json!({"a": "\u{fffd}… x"})),
            (r#"{"a":"\udc00"}"#, json!({"a": "\u{fffd}"})),
            (r#"{"a":"\ud83d\ude00 \ud83d"}"#, json!({"a": "😀 \u{fffd}"})),
            (r#"{"a":"\ud83dz"}"#, json!({"a": "\u{fffd}z"})),
            (
                r#"{"a":NaN,"b":-Infinity,"c":1e999,"d":undefined}"#,
                json!({"a": null, "b": null, "c": null, "d": null}),
            ),
            (
                r#"{"a":[redacted],"b":12[redacted]3,"c":[NaN, 1]}"#,
                json!({"a": null, "b": null, "c": [null, 1]}),
            ),
            (r#"{"a":"C:\[redacted]\x1"}"#, json!({"a": "C:[redacted]x1"})),
            ("{\"a\":\"tab\there\u{1b}[0m\",\"b\":NaN}", json!({"a": "tab here [0m", "b": null})),
            ("{\n \"a\": NaN,\n \"b\": [\n1]\n}", json!({"a": null, "b": [1]})),
            (r#"{"a":"\u00zz"}"#, json!({"a": "u00zz"})),
        ] {
            assert_eq!(value(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn lenient_json_replaces_deep_values_with_null() {
        let deep = format!("{{\"a\":{}\"x\"{},\"b\":1}}", "[".repeat(400), "]".repeat(400));
        assert_eq!(value(&deep).unwrap()["b"], 1);
        let deep = format!("{{\"a\":{}1{},\"b\":2}}", "{\"k\":".repeat(400), "}".repeat(400));
        assert_eq!(value(&deep).unwrap()["b"], 2);
    }

    #[test]
    fn lenient_json_never_completes_a_document() {
        for text in [
            r#"{"a":"#,
            r#"{"a":"x"#,
            r#"{"a":{"b":NaN}"#,
            "{\"a\":\"x\n{\"b\":1}\n",
            r#"{"a":NaN {"b":1}}"#,
            r#"{level: 'info'}"#,
            "[1",
            "text",
            "\"text\"",
            "",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
        let text = r#"{"a":NaN} and more"#;
        assert_eq!(parse_prefix(text).map(|(_, length)| length), Some(9));
    }
}
