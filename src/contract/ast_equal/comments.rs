//! The comments that a compiler listens to.

use std::collections::BTreeMap;

/// Comments that take the compiler's word away.
const SILENCE: &[&str] = &["@ts-nocheck", "@ts-ignore", "@ts-expect-error"];

/// Comments that say what JSX is compiled to.
const PRAGMAS: &[&str] = &["@jsx", "@jsxFrag", "@jsxImportSource", "@jsxRuntime"];

/// A comment that means something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DirectiveComment {
    /// `@ts-ignore`, or the whole pragma.
    pub words: String,
    /// Whether it silences the compiler; a pragma otherwise.
    pub silences: bool,
    /// Where the comment begins, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

/// What a comment says to a compiler, line by line.
pub(super) fn spoken(text: &str, start: usize, end: usize) -> Vec<DirectiveComment> {
    let comment = text.get(start..end).unwrap_or("");
    let inner = comment.trim_end_matches("*/");
    let line = |line: &str| {
        let said = line.trim_start_matches(|c: char| c == '/' || c == '*' || c.is_whitespace());
        let first = said.split(|c: char| c.is_whitespace() || c == ':').next().unwrap_or("");
        let found = |words: String, silences| DirectiveComment { words, silences, start, end };
        if let Some(word) = SILENCE.iter().find(|word| said.starts_with(**word)) {
            Some(found((*word).to_owned(), true))
        } else if PRAGMAS.contains(&first) {
            let words: Vec<_> = said.split_whitespace().take(2).collect();
            Some(found(words.join(" "), false))
        } else {
            None
        }
    };
    inner.lines().filter_map(line).collect()
}

/// What is on the right and not on the left, or more often: each with the number of those that are on the left.
pub(super) fn added<'a>(
    left: &[DirectiveComment],
    right: &'a [DirectiveComment],
) -> Vec<&'a DirectiveComment> {
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    left.iter().for_each(|spoken| *known.entry(&spoken.words).or_default() += 1);
    let new = |spoken: &&DirectiveComment| match known.get_mut(spoken.words.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        Some(_) | None => true,
    };
    right.iter().filter(new).collect()
}

#[cfg(test)]
mod tests {
    use super::{added, spoken};

    fn words(text: &str) -> Vec<String> {
        spoken(text, 0, text.len()).into_iter().map(|s| s.words).collect()
    }

    #[test]
    fn a_compiler_listens_to_the_beginning_of_a_line_of_a_comment() {
        assert_eq!(words("// @ts-nocheck"), ["@ts-nocheck"]);
        assert_eq!(words("/// @ts-ignore because"), ["@ts-ignore"]);
        assert_eq!(words("/* @ts-expect-error: TS2345 */"), ["@ts-expect-error"]);
        assert_eq!(words("/**\n * Text.\n * @ts-ignore\n */"), ["@ts-ignore"]);
        assert_eq!(words("/** @jsx h */"), ["@jsx h"]);
        assert_eq!(words("/** @jsxImportSource preact */"), ["@jsxImportSource preact"]);
        assert!(words("// see @ts-ignore").is_empty());
        assert!(words("// @ts-check").is_empty());
        assert!(words("/** @param {number} a */").is_empty());
    }

    #[test]
    fn what_was_there_before_is_not_new() {
        let of = |text: &str| spoken(text, 0, text.len());
        let (one, two) = (of("// @ts-ignore"), of("/* @ts-ignore\n@ts-ignore */"));
        assert_eq!(added(&one, &one).len(), 0);
        assert_eq!(added(&one, &two).len(), 1);
        assert_eq!(added(&two, &one).len(), 0);
    }
}
