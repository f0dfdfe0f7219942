//! Token counts.
//!
//! Tokens are counted with the public vocabulary `o200k`. A model with another vocabulary counts
//! differently. The key `token-factor` of a job holds the ratio.

use tiktoken_rs::o200k_base_singleton;

/// The longest piece of text that is tokenized at once, in bytes. The tokenizer takes more than
/// linear time for a long line. A cut adds at most one token.
const MAX_PIECE: usize = 4_096;

/// The limit on the tokens of a task, and the way in which tokens are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenLimit {
    /// The largest number of tokens in the sources of one task, by the model's count. A single file
    /// always fits.
    pub max_tokens: u64,
    /// The number of the model's tokens for a thousand counted tokens.
    pub factor: u64,
}

impl TokenLimit {
    /// Converts a count by `o200k` to the model's count, rounded up.
    pub(crate) fn model_tokens(self, counted: u64) -> u64 {
        counted.saturating_mul(self.factor).div_ceil(1_000)
    }
}

/// Counts the tokens of a text. Bytes that are not UTF-8 are replaced first.
pub(crate) fn count_tokens(text: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(text);
    let tokenizer = o200k_base_singleton();
    let mut rest = &*text;
    let mut sum = 0;
    while rest.len() > MAX_PIECE {
        // Cut after the last newline in the piece, if there is one, so that no word is cut.
        let mut reach = MAX_PIECE;
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
    fn tokens_are_counted_with_the_o200k_vocabulary() {
        assert_eq!(count_tokens(b""), 0);
        assert_eq!(count_tokens(b"hello world"), 2);
        // `function`, ` add`, `(a`, `,`, ` b`, `)`, ` {\n`, ` `, ` return`, ` a`, ` +`, ` b`,
        // `;\n`, `}\n`
        assert_eq!(count_tokens(b"function add(a, b) {\n  return a + b;\n}\n"), 14);
        assert!(count_tokens(&[0xff, 0xfe]) > 0);
    }

    #[test]
    fn long_text_is_tokenized_in_pieces() {
        let row = "a".repeat(100_000);
        assert!(count_tokens(row.as_bytes()) > 5_000);
        let lines = "let x = 1;\n".repeat(2_000);
        assert_eq!(count_tokens(lines.as_bytes()), 2_000 * count_tokens(b"let x = 1;\n"));
        assert!(count_tokens("ü".repeat(10_000).as_bytes()) > 0);
    }

    #[test]
    fn model_tokens_are_rounded_up() {
        let limit = TokenLimit { max_tokens: 1, factor: 1_150 };
        assert_eq!((limit.model_tokens(100), limit.model_tokens(1)), (115, 2));
    }
}
