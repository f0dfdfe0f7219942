//! Tokens, as models count them.
//!
//! The vocabulary is `o200k`, that of a public tokenizer. Other vendors' models count otherwise; by how much is the job's
//! `token-factor`.

use tiktoken_rs::o200k_base_singleton;

/// A row of characters without an end is cut here, in bytes: a tokenizer's time grows faster than such a row, and a cut
/// adds a token at most.
const ROW: usize = 4_096;

/// How many tokens a task may have, and how they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenLimit {
    /// The most tokens of the sources of one task, by the model's count. A single file always fits.
    pub most: u64,
    /// What the model counts for a thousand of ours.
    pub factor: u64,
}

impl TokenLimit {
    /// Our count as the model's, rounded up.
    pub(crate) fn model_tokens(self, counted: u64) -> u64 {
        counted.saturating_mul(self.factor).div_ceil(1_000)
    }
}

/// The tokens of a text; bytes that are not UTF-8 count as what stands for them.
pub(crate) fn count(text: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(text);
    let tokenizer = o200k_base_singleton();
    let mut rest = &*text;
    let mut sum = 0;
    while rest.len() > ROW {
        // The last end of a line within reach, so that no word is cut where there is another way.
        let mut reach = ROW;
        while !rest.is_char_boundary(reach) {
            reach -= 1;
        }
        let cut = rest[..reach].rfind('\n').map_or(reach, |end| end + 1);
        sum += tokenizer.count_ordinary(&rest[..cut]);
        rest = &rest[cut..];
    }
    sum += tokenizer.count_ordinary(rest);
    sum as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_the_public_vocabulary() {
        assert_eq!(count(b""), 0);
        assert_eq!(count(b"hello world"), 2);
        // `function`, ` add`, `(a`, `,`, ` b`, `)`, ` {\n`, ` `, ` return`, ` a`, ` +`, ` b`, `;\n`, `}\n`
        assert_eq!(count(b"function add(a, b) {\n  return a + b;\n}\n"), 14);
        assert!(count(&[0xff, 0xfe]) > 0);
    }

    #[test]
    fn long_rows_are_counted_in_pieces() {
        let row = "a".repeat(100_000);
        assert!(count(row.as_bytes()) > 5_000);
        let lines = "let x = 1;\n".repeat(2_000);
        assert_eq!(count(lines.as_bytes()), 2_000 * count(b"let x = 1;\n"));
        assert!(count("ü".repeat(10_000).as_bytes()) > 0);
    }

    #[test]
    fn the_models_count_is_rounded_up() {
        let budget = TokenLimit { most: 1, factor: 1_150 };
        assert_eq!((budget.model_tokens(100), budget.model_tokens(1)), (115, 2));
    }
}
