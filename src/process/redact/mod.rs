//! Taking secrets out of what is kept, before it reaches the disk: transcripts end in refs that people push.
//!
//! Secret are the values of the variables that a job passes on, as they are and as JSON and base64 write them, and what
//! looks like a key. The stream comes in pieces that end anywhere, so what may be the beginning of a secret is held back
//! until more has come; what is held is bounded by the longest secret, or by the longest private key. How the pieces are
//! cut makes no difference to what comes out.

mod rules;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};

use rules::{ByteClass, JWT, KeyMatch, KeyRule, PEM, RULES, ScannedText};

/// What stands for a secret.
pub(super) const REDACTED: &str = "[redacted]";

/// A shorter value is no secret, and would be found everywhere.
const SHORTEST: usize = 6;

/// How much there may be to look for, so that the fastest search for it is still small.
const SMALL: usize = 16 * 1024;

/// The redactor without values. A keeper needs one for each check.
static KEYS_ONLY: OnceLock<Redactor> = OnceLock::new();

/// What is found of a secret first.
#[derive(Clone, Copy)]
enum PatternKind {
    /// All of it.
    Value,
    /// The beginning of a key.
    Rule(&'static KeyRule),
    /// The beginning of a web token.
    Jwt,
    /// The beginning of a private key.
    Pem,
}

struct SecretPatterns {
    search: AhoCorasick,
    /// By the numbers of the search.
    signs: Vec<(Vec<u8>, PatternKind)>,
    longest: usize,
    /// With which bytes they begin.
    first: [bool; 256],
}

/// Knows what is secret.
#[derive(Clone)]
pub(crate) struct Redactor(Arc<SecretPatterns>);

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the values.
        write!(f, "Redactor({} signs)", self.0.signs.len())
    }
}

impl Redactor {
    /// A redactor for everything that looks like a key.
    pub(crate) fn keys_only() -> Self {
        KEYS_ONLY
            .get_or_init(|| Self::make::<&[u8]>(&[]).expect("the built-in patterns compile"))
            .clone()
    }

    /// A redactor for these values and for everything that looks like a key. Values of fewer than six bytes are left
    /// alone.
    pub(crate) fn new<V: AsRef<[u8]>>(values: &[V]) -> io::Result<Self> {
        if values.is_empty() { Ok(Self::keys_only()) } else { Self::make(values) }
    }

    fn make<V: AsRef<[u8]>>(values: &[V]) -> io::Result<Self> {
        let mut signs: Vec<(Vec<u8>, PatternKind)> = Vec::new();
        for value in values {
            let value = value.as_ref().trim_ascii();
            if value.len() >= SHORTEST {
                signs.extend(forms(value).into_iter().map(|form| (form, PatternKind::Value)));
            }
        }
        signs.sort_by(|(a, _), (b, _)| a.cmp(b));
        signs.dedup_by(|(a, _), (b, _)| a == b);
        let prefixes = RULES.iter().map(|rule| (rule.prefix, PatternKind::Rule(rule)));
        let prefixes = prefixes.chain([(JWT, PatternKind::Jwt), (PEM, PatternKind::Pem)]);
        signs.extend(prefixes.map(|(prefix, sign)| (prefix.as_bytes().to_vec(), sign)));
        let size: usize = signs.iter().map(|(text, _)| text.len()).sum();
        let kind =
            if size <= SMALL { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(kind))
            .build(signs.iter().map(|(text, _)| text))
            .map_err(io::Error::other)?;
        let longest = signs.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
        let mut first = [false; 256];
        for byte in signs.iter().filter_map(|(text, _)| text.first()) {
            first[usize::from(*byte)] = true;
        }
        Ok(Self(Arc::new(SecretPatterns { search, signs, longest, first })))
    }

    /// A whole text without its secrets.
    pub(crate) fn clean(&self, text: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(text.len());
        let mut stream = self.stream();
        stream.push(text, &mut clean);
        stream.finish(&mut clean);
        clean
    }

    /// The beginning of a stream.
    pub(super) fn stream(&self) -> RedactionStream {
        RedactionStream {
            known: Arc::clone(&self.0),
            held: Vec::new(),
            before: *b"\n\n",
            covered: 0,
            goes_on: None,
            suspect: 0,
        }
    }
}

/// A value as it may be written: as it is, in a JSON string, in a JSON string within one, in base64 alone or together
/// with something else, as `user:password` is.
fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![value.to_vec()];
    if let Ok(text) = std::str::from_utf8(value) {
        let once = in_json(text);
        forms.push(in_json(&once).into_bytes());
        forms.push(once.into_bytes());
    }
    for base64 in [BASE64_NOPAD, BASE64URL_NOPAD] {
        forms.push(base64.encode(value).into_bytes());
        for lead in 0..3 {
            let mut with = vec![0; lead];
            with.extend_from_slice(value);
            // Only the digits that are made of the value alone.
            let whole = with.len() * 8 / 6;
            let digits = base64.encode(&with);
            forms.push(digits.as_bytes()[(lead * 8).div_ceil(6)..whole].to_vec());
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

/// As a JSON string has it, without the quotes.
fn in_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// One stream on its way to the disk.
#[derive(Debug)]
pub(super) struct RedactionStream {
    known: Arc<SecretPatterns>,
    /// What has come and not gone on yet.
    held: Vec<u8>,
    /// What came right before that.
    before: [u8; 2],
    /// How much of what is held belongs to a secret that has been replaced already.
    covered: usize,
    /// The class of bytes that belong to that secret too, if they follow.
    goes_on: Option<ByteClass>,
    /// How much of what is held follows the beginning of a private key that does not end.
    suspect: usize,
}

impl fmt::Debug for SecretPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Known({} signs)", self.signs.len())
    }
}

/// What is known of a text so far.
struct ScanResult {
    /// Where secrets are, by their beginnings; they may overlap. With the class of bytes that go on with it.
    secrets: Vec<(usize, usize, Option<ByteClass>)>,
    /// From where on more text is needed.
    open: usize,
    /// To where parts of private keys are looked for.
    suspect: usize,
}

impl RedactionStream {
    /// Takes the next piece of the stream, and gives what of it is known to be no secret.
    pub(super) fn push(&mut self, bytes: &[u8], clean: &mut Vec<u8>) {
        if self.held.is_empty() {
            self.step(bytes, 0, false, clean);
        } else {
            let mut text = std::mem::take(&mut self.held);
            let was = text.len();
            text.extend_from_slice(bytes);
            self.step(&text, was, false, clean);
        }
    }

    /// The stream has ended: gives what was held.
    pub(super) fn finish(&mut self, clean: &mut Vec<u8>) {
        let text = std::mem::take(&mut self.held);
        self.step(&text, text.len(), true, clean);
    }

    /// Goes through the text, of which the first `was` bytes were held, and holds what is open.
    fn step(&mut self, text: &[u8], was: usize, last: bool, clean: &mut Vec<u8>) {
        let mut seen = self.known.look(text, self.before, self.suspect, last);
        // The secret that was begun goes on.
        let mut end = self.covered;
        let mut class = None;
        if let Some(goes_on) = self.goes_on {
            end = goes_on.run(text, was);
            class = (end == text.len()).then_some(goes_on);
        }
        seen.secrets.sort_unstable_by_key(|&(from, to, _)| (from, to));
        let mut at = end.min(seen.open);
        for (from, to, on) in seen.secrets {
            if from >= seen.open {
                break;
            }
            if from >= end {
                clean.extend_from_slice(&text[at..from]);
                clean.extend_from_slice(REDACTED.as_bytes());
            }
            end = end.max(to);
            class = class.max(on);
            at = end.min(seen.open);
        }
        clean.extend_from_slice(&text[at..seen.open]);
        self.covered = end.saturating_sub(seen.open);
        self.goes_on = class;
        self.suspect = seen.suspect.saturating_sub(seen.open);
        for &byte in text[..seen.open].iter().skip(seen.open.saturating_sub(2)) {
            self.before = [self.before[1], byte];
        }
        self.held.extend_from_slice(&text[seen.open..]);
    }
}

impl SecretPatterns {
    /// Finds the secrets of a text.
    fn look(&self, text: &[u8], before: [u8; 2], suspect: usize, last: bool) -> ScanResult {
        let open = if last { text.len() } else { self.begun(text) };
        let mut seen = ScanResult { secrets: Vec::new(), open, suspect };
        let mut suspects = vec![(0, suspect)];
        let whole = ScannedText::new(text, before, last);
        for found in self.search.find_overlapping_iter(text) {
            let (start, end) = (found.start(), found.end());
            let verdict = match self.signs[found.pattern().as_usize()].1 {
                PatternKind::Value => KeyMatch::Key(end, None),
                PatternKind::Rule(rule) => rule.judge(&whole, start, end),
                PatternKind::Jwt => rules::judge_jwt(&whole, start),
                PatternKind::Pem => rules::judge_pem(&whole, start, end),
            };
            match verdict {
                KeyMatch::No => {}
                KeyMatch::Open => seen.open = seen.open.min(start),
                KeyMatch::Key(to, class) => seen.secrets.push((start, to, class)),
                KeyMatch::Parts(from, to) => {
                    seen.suspect = seen.suspect.max(to);
                    match suspects.last_mut() {
                        Some((_, end)) if from <= *end => *end = to.max(*end),
                        Some(_) | None => suspects.push((from, to)),
                    }
                }
            }
        }
        for (from, to) in suspects {
            let parts = rules::parts(text, from, to).into_iter();
            seen.secrets.extend(parts.map(|(from, to)| (from, to, None)));
        }
        seen
    }

    /// Where the longest end of the text begins with which something might begin that is looked for.
    fn begun(&self, text: &[u8]) -> usize {
        let most = text.len().min(self.longest.saturating_sub(1));
        let begins = |end: &[u8]| {
            self.first[usize::from(end[0])]
                && self
                    .signs
                    .iter()
                    .any(|(sign, _)| sign.len() > end.len() && sign.starts_with(end))
        };
        let at = (text.len() - most..text.len()).find(|&at| begins(&text[at..]));
        at.unwrap_or(text.len())
    }
}
