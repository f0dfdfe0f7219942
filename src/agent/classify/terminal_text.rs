//! Text as a terminal would show it: without control sequences, with plain punctuation.

/// Removes control sequences of terminals, control characters and byte order marks.
pub(super) fn without_control_sequences(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                // The parameters, then the letter that ends the sequence.
                Some('[') => {
                    while chars.next_if(|c| !('\u{40}'..='\u{7e}').contains(c)).is_some() {}
                    chars.next();
                }
                // A command with a text: title, progress, hyperlink. BEL or ESC \ ends the text.
                // An event never belongs to the text.
                Some(']' | 'P' | '_' | '^' | 'X') => {
                    while let Some(c) = chars.next_if(|c| !matches!(c, '{' | '\n')) {
                        if c == '\u{7}' {
                            break;
                        }
                        if c == '\u{1b}' {
                            chars.next_if_eq(&'\\');
                            break;
                        }
                    }
                }
                // A sequence with an intermediate character, such as ESC ( B.
                Some('(' | ')' | '*' | '+' | '#' | '%' | ' ') => {
                    chars.next();
                }
                Some(_) | None => {}
            },
            '\u{feff}' => {}
            '\n' | '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

/// Removes control sequences, and replaces typographic quotes, spaces and hyphens.
pub(super) fn normalize(text: &str) -> String {
    let replace = |c: char| match c {
        '‘' | '’' | '‛' | 'ʼ' => '\'',
        '“' | '”' => '"',
        '\u{a0}' | '\u{202f}' | '\u{2009}' => ' ',
        '‐' | '‑' => '-',
        c => c,
    };
    without_control_sequences(text).chars().map(replace).collect()
}

/// The largest number of lines that [`last_lines`] returns.
const LAST_LINES: usize = 10;
/// The largest number of characters of each of these lines.
const LAST_LINE: usize = 300;

/// Returns the last lines of a stream that are not blank. Returns `None` if there are none. A long
/// line is cut at its end.
pub(crate) fn last_lines(bytes: &[u8]) -> Option<String> {
    let text = without_control_sequences(&String::from_utf8_lossy(bytes).replace('\r', "\n"));
    let cut = |line: &str| match line.char_indices().nth(LAST_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    };
    let lines: Vec<_> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    (!last.is_empty()).then(|| last.iter().map(|line| cut(line)).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_of_a_stream_are_plain_and_bounded() {
        let stream = "first\n\x1b[31merror:\x1b[0m no such option\r\n\n  \nhelp: x\n";
        let expected = "first\nerror: no such option\nhelp: x";
        assert_eq!(last_lines(stream.as_bytes()).as_deref(), Some(expected));
        assert_eq!(last_lines(b"\n \n"), None);
        let many: String = (0..40).map(|n| format!("{n}{}\n", "é".repeat(400))).collect();
        let last = last_lines(many.as_bytes()).unwrap();
        assert_eq!((last.lines().count(), last.chars().count()), (10, 10 * 301 + 9));
        assert!(last.starts_with("30é"), "{last}");
    }

    #[test]
    fn control_sequences_are_removed_and_text_is_kept() {
        for (text, plain) in [
            ("\x1b[1;31mred\x1b[0m\r", "red"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b]9;4;3;\x1b\\text", "text"),
            ("\x1b]9;4;3;{\"a\":1}", "{\"a\":1}"),
            ("\x1b(Btext\x1b7\x1b[?25l", "text"),
            ("\u{feff}a\0b\u{8}c\td", "abc\td"),
            ("\x1b", ""),
        ] {
            assert_eq!(without_control_sequences(text), plain, "{text:?}");
        }
        assert_eq!(normalize("You’ve “x”\u{202f}a‑b"), "You've \"x\" a-b");
    }
}
