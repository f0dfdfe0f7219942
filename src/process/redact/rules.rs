//! What keys look like, whoever issued them.

use std::cell::{Cell, OnceCell};

/// Bytes of which a token consists. Each class contains those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Capital letters and digits.
    Capital,
    /// Letters and digits.
    Alnum,
    /// And `-`, `_`: base64 for URLs.
    Word,
    /// And `.`.
    Dotted,
    /// And `~`, `+`, `/`, `=`: what may follow `Bearer`, and plain base64.
    Token,
}

impl Class {
    /// Whether a byte belongs to it.
    pub(super) fn has(self, byte: u8) -> bool {
        let least = match byte {
            b'A'..=b'Z' | b'0'..=b'9' => Self::Capital,
            b'a'..=b'z' => Self::Alnum,
            b'-' | b'_' => Self::Word,
            b'.' => Self::Dotted,
            b'~' | b'+' | b'/' | b'=' => Self::Token,
            _ => return false,
        };
        least <= self
    }

    /// To where bytes from `at` on belong to it.
    pub(super) fn run(self, text: &[u8], at: usize) -> usize {
        let rest = text.get(at..).unwrap_or_default();
        at + rest.iter().take_while(|byte| self.has(**byte)).count()
    }
}

/// A text that is looked at, in which no run of a class is measured twice: keys can begin within keys.
pub(super) struct Text<'a> {
    /// Its bytes.
    pub(super) bytes: &'a [u8],
    /// The two that came before.
    pub(super) before: [u8; 2],
    /// Whether nothing comes after.
    pub(super) last: bool,
    runs: [Cell<(usize, usize)>; 5],
    pem_ends: OnceCell<Vec<usize>>,
}

impl<'a> Text<'a> {
    pub(super) fn new(bytes: &'a [u8], before: [u8; 2], last: bool) -> Self {
        Self { bytes, before, last, runs: Default::default(), pem_ends: OnceCell::new() }
    }

    fn run(&self, class: Class, at: usize) -> usize {
        let known = &self.runs[class as usize];
        let (from, to) = known.get();
        if (from..to).contains(&at) {
            return to;
        }
        let to = class.run(self.bytes, at);
        known.set((at, to));
        to
    }

    /// Where blocks of PEM end.
    fn pem_ends(&self) -> &[usize] {
        self.pem_ends.get_or_init(|| {
            let places = self.bytes.windows(PEM_END.len()).enumerate();
            places.filter_map(|(at, words)| (words == PEM_END).then_some(at)).collect()
        })
    }
}

/// A kind of key that is known by how it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// How it begins.
    pub(super) prefix: &'static str,
    /// What follows.
    pub(super) class: Class,
    /// At least so many of that.
    pub(super) least: usize,
    /// Whether it must look random: with a capital letter or a digit among the least that must follow, and no word that
    /// goes on into the prefix. There are `task-runner-for-everything` and the style sheets' `sk-folding-cube-animation`.
    pub(super) random: bool,
}

const fn rule(prefix: &'static str, class: Class, least: usize) -> Rule {
    Rule { prefix, class, least, random: false }
}

/// The kinds of keys.
pub(super) const RULES: &[Rule] = &[
    rule("sk-ant-", Class::Word, 8),
    rule("sk-proj-", Class::Word, 8),
    rule("sk-svcacct-", Class::Word, 8),
    rule("sk-or-", Class::Word, 8),
    Rule { prefix: "sk-", class: Class::Word, least: 20, random: true },
    rule("sk_live_", Class::Alnum, 16),
    rule("sk_test_", Class::Alnum, 16),
    rule("rk_live_", Class::Alnum, 16),
    rule("ghp_", Class::Alnum, 20),
    rule("gho_", Class::Alnum, 20),
    rule("ghu_", Class::Alnum, 20),
    rule("ghs_", Class::Alnum, 20),
    rule("ghr_", Class::Alnum, 20),
    rule("github_pat_", Class::Word, 20),
    rule("glpat-", Class::Word, 16),
    rule("npm_", Class::Alnum, 30),
    rule("hf_", Class::Alnum, 30),
    rule("gsk_", Class::Alnum, 40),
    rule("xai-", Class::Alnum, 40),
    rule("sgamp_", Class::Word, 16),
    rule("AKIA", Class::Capital, 16),
    rule("ASIA", Class::Capital, 16),
    rule("AIza", Class::Word, 30),
    rule("ya29.", Class::Word, 20),
    rule("xoxa-", Class::Word, 10),
    rule("xoxb-", Class::Word, 10),
    rule("xoxp-", Class::Word, 10),
    rule("xoxr-", Class::Word, 10),
    rule("xoxs-", Class::Word, 10),
    rule("Bearer ", Class::Token, 20),
    rule("bearer ", Class::Token, 20),
    rule("Authorization: Basic ", Class::Token, 8),
    rule("authorization: Basic ", Class::Token, 8),
];

/// How every signed web token begins: `{"` in base64.
pub(super) const JWT: &str = "eyJ";

/// How private keys in text form begin, and how they end.
pub(super) const PEM: &str = "-----BEGIN ";
const PEM_END: &[u8] = b"-----END";

/// How much text is looked through for the end of a private key. The largest in use has half of it.
const PEM_MOST: usize = 16 * 1024;

/// How long the first part of a web token may be.
const JWT_MOST: usize = 1024;

/// How long a word of base64 must be, after the beginning of a private key that does not end, to be a part of it.
const PEM_PART: usize = 20;

/// What the text at a prefix is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No key.
    No,
    /// That is not to be told before more of the text is there.
    Open,
    /// A key that ends here, or goes on into what comes, as long as that is of this class.
    Key(usize, Option<Class>),
    /// What may be a key that has no end: [`parts`] of it are between here and there.
    Parts(usize, usize),
}

impl Rule {
    /// What the text is that has the prefix at `start..end`.
    pub(super) fn judge(&self, text: &Text<'_>, start: usize, end: usize) -> Verdict {
        let to = text.run(self.class, end);
        let open = !text.last && to == text.bytes.len();
        if to - end < self.least {
            return if open { Verdict::Open } else { Verdict::No };
        }
        let byte = |back: usize| match start.checked_sub(back) {
            Some(at) => text.bytes[at],
            None => text.before[2 + start - back],
        };
        // The letter of an escape such as `\n` belongs to no word.
        let joined = byte(1).is_ascii_alphanumeric() && byte(2) != b'\\';
        let random = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        if self.random && (joined || !text.bytes[end..end + self.least].iter().any(random)) {
            return Verdict::No;
        }
        Verdict::Key(to, open.then_some(self.class))
    }
}

/// What the text is that begins like a web token at `start`: three parts with dots between, the second an object too.
pub(super) fn judge_jwt(text: &Text<'_>, start: usize) -> Verdict {
    let dot = text.run(Class::Word, start);
    let rest = &text.bytes[dot..];
    let second = b".eyJ";
    if dot - start >= JWT_MOST {
        return Verdict::No;
    }
    if !text.last && rest.len() < second.len() && second.starts_with(rest) {
        return Verdict::Open;
    }
    if dot - start < 8 || !rest.starts_with(second) {
        return Verdict::No;
    }
    let to = text.run(Class::Dotted, dot);
    Verdict::Key(to, (!text.last && to == text.bytes.len()).then_some(Class::Dotted))
}

/// What the text is that begins like a block of PEM at `start`, its label at `label`.
pub(super) fn judge_pem(text: &Text<'_>, start: usize, label: usize) -> Verdict {
    let (last, ends) = (text.last, text.pem_ends());
    let text = text.bytes;
    let name = text[label..]
        .iter()
        .take(40)
        .take_while(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || **byte == b' ');
    let body = label + name.count();
    let dashes = b"-----";
    let rest = &text[body..];
    if rest.len() < dashes.len() && dashes.starts_with(rest) && !last {
        return Verdict::Open;
    }
    let private = text[label..body].windows(11).any(|words| words == b"PRIVATE KEY");
    if !private || !rest.starts_with(dashes) {
        return Verdict::No;
    }
    let body = body + dashes.len();
    let most = start + PEM_MOST;
    let window = body..text.len().min(most).max(body);
    let next = ends.get(ends.partition_point(|at| *at < body));
    if let Some(at) = next.filter(|at| **at + PEM_END.len() <= window.end) {
        // To the dashes after the label.
        let label = at + PEM_END.len();
        let rest = &text[label..text.len().min(label + 60)];
        let end = rest.windows(dashes.len()).position(|words| words == dashes);
        return match end {
            Some(at) => Verdict::Key(label + at + dashes.len(), None),
            None if rest.len() < 60 && !last => Verdict::Open,
            None => Verdict::Key(label, None),
        };
    }
    if text.len() < most && !last {
        return Verdict::Open;
    }
    // It does not end, so it is a part of a key, or somebody writes about keys.
    Verdict::Parts(window.start, window.end)
}

/// The long words of base64 in a text, from here to there.
pub(super) fn parts(text: &[u8], from: usize, to: usize) -> Vec<(usize, usize)> {
    let text = &text[..to];
    let mut parts = Vec::new();
    let mut at = from;
    while at < to {
        let end = Class::Token.run(text, at);
        if end - at >= PEM_PART {
            parts.push((at, end));
        }
        at = end.max(at + 1);
    }
    parts
}
