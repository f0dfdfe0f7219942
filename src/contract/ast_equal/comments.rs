//! Comments that are directives for a compiler.

use std::collections::BTreeMap;

/// Directives that suppress errors of the compiler.
const SUPPRESSIONS: &[&str] = &["@ts-nocheck", "@ts-ignore", "@ts-expect-error"];

/// Directives that select the compilation of JSX.
const PRAGMAS: &[&str] = &["@jsx", "@jsxFrag", "@jsxImportSource", "@jsxRuntime"];

/// A directive in a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DirectiveComment {
    /// The directive, such as `@ts-ignore`, or a pragma with its argument.
    pub text: String,
    /// True for a suppression, false for a pragma.
    pub suppresses: bool,
    /// The start offset of the comment, in bytes.
    pub start: usize,
    /// The end offset of the comment, in bytes.
    pub end: usize,
}

/// Returns the directives in a comment.
pub(super) fn directives(text: &str, start: usize, end: usize) -> Vec<DirectiveComment> {
    let comment = text.get(start..end).unwrap_or("");
    let inner = comment.trim_end_matches("*/");
    let line = |line: &str| {
        let content = line.trim_start_matches(|c: char| c == '/' || c == '*' || c.is_whitespace());
        let first = content.split(|c: char| c.is_whitespace() || c == ':').next().unwrap_or("");
        let directive =
            |text: String, suppresses| DirectiveComment { text, suppresses, start, end };
        if let Some(word) = SUPPRESSIONS.iter().find(|word| content.starts_with(**word)) {
            Some(directive((*word).to_owned(), true))
        } else if PRAGMAS.contains(&first) {
            let words: Vec<_> = content.split_whitespace().take(2).collect();
            Some(directive(words.join(" "), false))
        } else {
            None
        }
    };
    inner.lines().filter_map(line).collect()
}

/// Returns the directives on the right that have no counterpart on the left. Each repetition needs
/// its own counterpart.
pub(super) fn added<'a>(
    left: &[DirectiveComment],
    right: &'a [DirectiveComment],
) -> Vec<&'a DirectiveComment> {
    let mut unmatched: BTreeMap<&str, usize> = BTreeMap::new();
    left.iter().for_each(|directive| *unmatched.entry(&directive.text).or_default() += 1);
    let is_new = |directive: &&DirectiveComment| match unmatched.get_mut(directive.text.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        Some(_) | None => true,
    };
    right.iter().filter(is_new).collect()
}

#[cfg(test)]
mod tests {
    use super::{added, directives};

    fn texts(text: &str) -> Vec<String> {
        directives(text, 0, text.len()).into_iter().map(|directive| directive.text).collect()
    }

    #[test]
    fn compiler_directive_stands_at_the_beginning_of_a_comment_line() {
        assert_eq!(texts("// @ts-nocheck"), ["@ts-nocheck"]);
        assert_eq!(texts("/// @ts-ignore because"), ["@ts-ignore"]);
        assert_eq!(texts("/* @ts-expect-error: TS2345 */"), ["@ts-expect-error"]);
        assert_eq!(texts("/**\n * Text.\n * @ts-ignore\n */"), ["@ts-ignore"]);
        assert_eq!(texts("/** @jsx h */"), ["@jsx h"]);
        assert_eq!(texts("/** @jsxImportSource preact */"), ["@jsxImportSource preact"]);
        assert!(texts("// see @ts-ignore").is_empty());
        assert!(texts("// @ts-check").is_empty());
        assert!(texts("/** @param {number} a */").is_empty());
    }

    #[test]
    fn compiler_directive_of_the_original_is_not_added() {
        let parse = |text: &str| directives(text, 0, text.len());
        let (one, two) = (parse("// @ts-ignore"), parse("/* @ts-ignore\n@ts-ignore */"));
        assert_eq!(added(&one, &one).len(), 0);
        assert_eq!(added(&one, &two).len(), 1);
        assert_eq!(added(&two, &one).len(), 0);
    }
}
