//! Redaction of secrets from output before the output is written to the disk. Transcripts are
//! stored in refs, which people push.
//!
//! Secrets are the values of the variables that a job passes on (plain, in JSON strings, in base64,
//! hex and URLs), everything that looks like a key, the values of names that look secret
//! (`NAME=value`), and the passwords of URLs. A stream arrives in pieces that end anywhere, so
//! text that may be the beginning of a secret is held back until more has arrived. The amount is
//! bounded by the longest secret, or by the longest private key. The result does not depend on the
//! sizes of the pieces.

mod rules;
mod secret_values;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

use rules::{
    ByteClass, JWT, KeyMatch, KeyRule, PEM, RULES, SECRET_NAMES, ScannedText, SecretName, URL,
};
pub(crate) use secret_values::KnownSecrets;

/// The replacement of a secret.
pub(super) const REDACTED: &str = "[redacted]";

/// The shortest value that is redacted. Shorter values would match everywhere.
const SHORTEST: usize = 6;

/// The largest total size of the patterns for a DFA, the fastest search. A larger DFA would take
/// too much memory.
const MAX_DFA_SIZE: usize = 16 * 1024;

/// The redactor without values, built once. A keeper needs it for each check.
static KEYS_ONLY: OnceLock<Redactor> = OnceLock::new();

/// The kind of secret that a pattern belongs to.
#[derive(Clone, Copy)]
enum PatternKind {
    /// The pattern is the whole secret.
    Value,
    /// The pattern is the prefix of a key.
    Rule(&'static KeyRule),
    /// The pattern is the beginning of a web token.
    Jwt,
    /// The pattern is the beginning of a private key.
    Pem,
    /// The pattern is the end of a name whose value is secret.
    Name(&'static SecretName),
    /// The pattern is the `://` of a URL, which may have a password.
    Url,
}

struct SecretPatterns {
    search: AhoCorasick,
    /// The patterns and their kinds, indexed by pattern number.
    patterns: Vec<(Vec<u8>, PatternKind)>,
    longest: usize,
    /// True for each byte that is the first byte of a pattern.
    first: [bool; 256],
}

/// A filter that replaces secrets.
#[derive(Clone)]
pub(crate) struct Redactor(Arc<SecretPatterns>);

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values themselves are never printed.
        write!(f, "Redactor({} signs)", self.0.patterns.len())
    }
}

impl Redactor {
    /// Returns a redactor for everything that looks like a key.
    pub(crate) fn keys_only() -> Self {
        KEYS_ONLY
            .get_or_init(|| Self::make::<&[u8]>(&[]).expect("the built-in patterns compile"))
            .clone()
    }

    /// Creates a redactor for these values and for everything that looks like a key. Values of
    /// fewer than six bytes are ignored.
    pub(crate) fn new<V: AsRef<[u8]>>(values: &[V]) -> io::Result<Self> {
        if values.is_empty() { Ok(Self::keys_only()) } else { Self::make(values) }
    }

    fn make<V: AsRef<[u8]>>(values: &[V]) -> io::Result<Self> {
        let mut patterns: Vec<(Vec<u8>, PatternKind)> = Vec::new();
        for value in values {
            let value = value.as_ref().trim_ascii();
            if value.len() >= SHORTEST {
                patterns.extend(
                    encodings(value).into_iter().map(|encoding| (encoding, PatternKind::Value)),
                );
            }
        }
        patterns.sort_by(|(a, _), (b, _)| a.cmp(b));
        patterns.dedup_by(|(a, _), (b, _)| a == b);
        let prefixes = RULES.iter().map(|rule| (rule.prefix, PatternKind::Rule(rule)));
        let names = SECRET_NAMES.iter().map(|name| (name.end, PatternKind::Name(name)));
        let prefixes = prefixes.chain(names).chain([
            (JWT, PatternKind::Jwt),
            (PEM, PatternKind::Pem),
            (URL, PatternKind::Url),
        ]);
        patterns.extend(prefixes.map(|(prefix, pattern)| (prefix.as_bytes().to_vec(), pattern)));
        let size: usize = patterns.iter().map(|(text, _)| text.len()).sum();
        let kind = if size <= MAX_DFA_SIZE {
            AhoCorasickKind::DFA
        } else {
            AhoCorasickKind::ContiguousNFA
        };
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(kind))
            .build(patterns.iter().map(|(text, _)| text))
            .map_err(io::Error::other)?;
        let longest = patterns.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
        let mut first = [false; 256];
        for byte in patterns.iter().filter_map(|(text, _)| text.first()) {
            first[usize::from(*byte)] = true;
        }
        Ok(Self(Arc::new(SecretPatterns { search, patterns, longest, first })))
    }

    /// Redacts a whole text.
    pub(crate) fn clean(&self, text: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(text.len());
        let mut stream = self.stream();
        stream.push(text, &mut clean);
        stream.finish(&mut clean);
        clean
    }

    /// Starts the redaction of a stream.
    pub(super) fn stream(&self) -> RedactionStream {
        RedactionStream {
            patterns: Arc::clone(&self.0),
            held: Vec::new(),
            before: *b"\n\n",
            covered: 0,
            continuation: None,
            suspect: 0,
        }
    }
}

/// Returns the forms in which a value may be written: plain, in a JSON string, in a JSON string
/// within a JSON string, in hex, in a URL, and in base64, alone or as a part of a longer text such
/// as `user:password`.
fn encodings(value: &[u8]) -> Vec<Vec<u8>> {
    let mut encodings = vec![value.to_vec()];
    if let Ok(text) = std::str::from_utf8(value) {
        let once = in_json(text);
        encodings.push(in_json(&once).into_bytes());
        encodings.push(once.into_bytes());
    }
    for base64 in [BASE64_NOPAD, BASE64URL_NOPAD] {
        encodings.push(base64.encode(value).into_bytes());
        for lead in 0..3 {
            let mut with = vec![0; lead];
            with.extend_from_slice(value);
            // Only the base64 digits that depend on the value alone, and not on its neighbours.
            let whole = with.len() * 8 / 6;
            let digits = base64.encode(&with);
            encodings.push(digits.as_bytes()[(lead * 8).div_ceil(6)..whole].to_vec());
        }
    }
    encodings.extend([HEXLOWER.encode(value).into_bytes(), HEXUPPER.encode(value).into_bytes()]);
    encodings.extend([in_url(value, true), in_url(value, false)]);
    encodings.retain(|encoding| encoding.len() >= SHORTEST);
    encodings
}

/// Escapes a value as in a URL, with capital or small hex digits.
fn in_url(value: &[u8], capital: bool) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(value.len());
    for byte in value {
        match byte {
            b'-' | b'.' | b'_' | b'~' => escaped.push(*byte),
            byte if byte.is_ascii_alphanumeric() => escaped.push(*byte),
            byte if capital => escaped.extend(format!("%{byte:02X}").bytes()),
            byte => escaped.extend(format!("%{byte:02x}").bytes()),
        }
    }
    escaped
}

/// Escapes a text as in a JSON string, without the quotes.
fn in_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// The redaction of one stream.
#[derive(Debug)]
pub(super) struct RedactionStream {
    patterns: Arc<SecretPatterns>,
    /// The bytes that have arrived and were not passed on yet.
    held: Vec<u8>,
    /// The two bytes before the held bytes.
    before: [u8; 2],
    /// The number of held bytes that belong to a secret that has already been replaced.
    covered: usize,
    /// The class of bytes that continue the replaced secret.
    continuation: Option<ByteClass>,
    /// The number of held bytes that follow the beginning of an unterminated private key.
    suspect: usize,
}

impl fmt::Debug for SecretPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretPatterns({} signs)", self.patterns.len())
    }
}

/// The result of scanning a text.
struct ScanResult {
    /// The start and end of each secret, with the class of bytes that continue it. Secrets may
    /// overlap.
    secrets: Vec<(usize, usize, Option<ByteClass>)>,
    /// The position from which the result is undecided until more text arrives.
    open: usize,
    /// The end of the range in which parts of private keys are redacted.
    suspect: usize,
}

impl RedactionStream {
    /// Adds the next piece of the stream. Appends the redacted text to `clean`, as far as the
    /// redaction is certain.
    pub(super) fn push(&mut self, bytes: &[u8], clean: &mut Vec<u8>) {
        if self.held.is_empty() {
            self.step(bytes, 0, false, clean);
        } else {
            let mut text = std::mem::take(&mut self.held);
            let held_length = text.len();
            text.extend_from_slice(bytes);
            self.step(&text, held_length, false, clean);
        }
    }

    /// Ends the stream and appends the rest to `clean`.
    pub(super) fn finish(&mut self, clean: &mut Vec<u8>) {
        let text = std::mem::take(&mut self.held);
        self.step(&text, text.len(), true, clean);
    }

    /// Redacts a text whose first `held_length` bytes were held, and holds back the end that is
    /// still undecided.
    fn step(&mut self, text: &[u8], held_length: usize, last: bool, clean: &mut Vec<u8>) {
        let mut scan = self.patterns.scan(text, self.before, self.suspect, last);
        // A secret from the previous piece may continue.
        let mut end = self.covered;
        let mut class = None;
        if let Some(continuation) = self.continuation {
            end = continuation.run(text, held_length);
            class = (end == text.len()).then_some(continuation);
        }
        scan.secrets.sort_unstable_by_key(|&(from, to, _)| (from, to));
        let mut at = end.min(scan.open);
        for (from, to, on) in scan.secrets {
            if from >= scan.open {
                break;
            }
            if from >= end {
                clean.extend_from_slice(&text[at..from]);
                clean.extend_from_slice(REDACTED.as_bytes());
            }
            end = end.max(to);
            class = class.max(on);
            at = end.min(scan.open);
        }
        clean.extend_from_slice(&text[at..scan.open]);
        self.covered = end.saturating_sub(scan.open);
        self.continuation = class;
        self.suspect = scan.suspect.saturating_sub(scan.open);
        for &byte in text[..scan.open].iter().skip(scan.open.saturating_sub(2)) {
            self.before = [self.before[1], byte];
        }
        self.held.extend_from_slice(&text[scan.open..]);
    }
}

impl SecretPatterns {
    /// Finds the secrets in a text.
    fn scan(&self, text: &[u8], before: [u8; 2], suspect: usize, last: bool) -> ScanResult {
        let open = if last { text.len() } else { self.open_prefix(text) };
        let mut result = ScanResult { secrets: Vec::new(), open, suspect };
        let mut suspects = vec![(0, suspect)];
        let mut spans: Vec<(usize, usize)> = Vec::new();
        let whole = ScannedText::new(text, before, last);
        for hit in self.search.find_overlapping_iter(text) {
            let (start, end) = (hit.start(), hit.end());
            let key_match = match self.patterns[hit.pattern().as_usize()].1 {
                PatternKind::Value => KeyMatch::Key(end, None),
                PatternKind::Rule(rule) => rule.match_at(&whole, start, end),
                PatternKind::Jwt => rules::match_jwt(&whole, start),
                PatternKind::Pem => rules::match_pem(&whole, start, end),
                PatternKind::Name(name) => rules::match_name(&whole, name, end),
                PatternKind::Url => rules::match_url(&whole, end),
            };
            match key_match {
                KeyMatch::No => {}
                KeyMatch::Open => result.open = result.open.min(start),
                KeyMatch::Key(to, class) => result.secrets.push((start, to, class)),
                KeyMatch::Span(from, to) => {
                    result.secrets.push((from, to, None));
                    spans.push((start, to));
                }
                KeyMatch::Parts(from, to) => {
                    result.suspect = result.suspect.max(to);
                    match suspects.last_mut() {
                        Some((_, end)) if from <= *end => *end = to.max(*end),
                        Some(_) | None => suspects.push((from, to)),
                    }
                }
            }
        }
        // A secret behind its name is recognised only together with the name.
        spans.sort_unstable();
        for (start, to) in spans.into_iter().rev() {
            if start < result.open && to > result.open {
                result.open = start;
            }
        }
        for (from, to) in suspects {
            let parts = rules::parts(text, from, to).into_iter();
            result.secrets.extend(parts.map(|(from, to)| (from, to, None)));
        }
        result
    }

    /// Returns the start of the longest suffix of the text that is a proper prefix of a pattern.
    fn open_prefix(&self, text: &[u8]) -> usize {
        let most = text.len().min(self.longest.saturating_sub(1));
        let begins = |end: &[u8]| {
            self.first[usize::from(end[0])]
                && self
                    .patterns
                    .iter()
                    .any(|(pattern, _)| pattern.len() > end.len() && pattern.starts_with(end))
        };
        let at = (text.len() - most..text.len()).find(|&at| begins(&text[at..]));
        at.unwrap_or(text.len())
    }
}
