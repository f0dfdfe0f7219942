//! The forms of keys, by issuer.

use std::cell::{Cell, OnceCell};

/// A class of bytes that a token consists of. Each class contains the classes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ByteClass {
    /// Capital letters and digits.
    Capital,
    /// Letters and digits.
    Alnum,
    /// `Alnum` and `-`, `_`: base64 for URLs.
    Word,
    /// `Word` and `.`.
    Dotted,
    /// `Dotted` and `~`, `+`, `/`, `=`: the value after `Bearer`, and plain base64.
    Token,
}

impl ByteClass {
    /// Returns true if the class contains a byte.
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

    /// Returns the end of the run of bytes of the class that starts at `at`.
    pub(super) fn run(self, text: &[u8], at: usize) -> usize {
        let rest = text.get(at..).unwrap_or_default();
        at + rest.iter().take_while(|byte| self.has(**byte)).count()
    }
}

/// A text under scan. The last run of each class is cached, since keys can begin within keys.
pub(super) struct ScannedText<'a> {
    /// The bytes of the text.
    pub(super) bytes: &'a [u8],
    /// The two bytes before the text.
    pub(super) before: [u8; 2],
    /// True if no more text follows.
    pub(super) last: bool,
    runs: [Cell<(usize, usize)>; 5],
    pem_ends: OnceCell<Vec<usize>>,
}

impl<'a> ScannedText<'a> {
    pub(super) fn new(bytes: &'a [u8], before: [u8; 2], last: bool) -> Self {
        Self { bytes, before, last, runs: Default::default(), pem_ends: OnceCell::new() }
    }

    fn run(&self, class: ByteClass, at: usize) -> usize {
        let known = &self.runs[class as usize];
        let (from, to) = known.get();
        if (from..to).contains(&at) {
            return to;
        }
        let to = class.run(self.bytes, at);
        known.set((at, to));
        to
    }

    /// Returns the positions of the ends of PEM blocks.
    fn pem_ends(&self) -> &[usize] {
        self.pem_ends.get_or_init(|| {
            let places = self.bytes.windows(PEM_END.len()).enumerate();
            places.filter_map(|(at, words)| (words == PEM_END).then_some(at)).collect()
        })
    }
}

/// A kind of key that is recognised by its prefix.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyRule {
    /// The prefix.
    pub(super) prefix: &'static str,
    /// The class of the bytes that follow.
    pub(super) class: ByteClass,
    /// The least number of bytes that must follow.
    pub(super) least: usize,
    /// True if the key must look random: it has a capital letter or a digit among the first `least`
    /// bytes after the prefix, and no word directly before the prefix. `task-runner-for-everything`
    /// and the CSS class `sk-folding-cube-animation` are not keys.
    pub(super) random: bool,
}

const fn rule(prefix: &'static str, class: ByteClass, least: usize) -> KeyRule {
    KeyRule { prefix, class, least, random: false }
}

/// All kinds of keys with a prefix.
pub(super) const RULES: &[KeyRule] = &[
    rule("sk-ant-", ByteClass::Word, 8),
    rule("sk-proj-", ByteClass::Word, 8),
    rule("sk-svcacct-", ByteClass::Word, 8),
    rule("sk-or-", ByteClass::Word, 8),
    KeyRule { prefix: "sk-", class: ByteClass::Word, least: 20, random: true },
    rule("sk_live_", ByteClass::Alnum, 16),
    rule("sk_test_", ByteClass::Alnum, 16),
    rule("rk_live_", ByteClass::Alnum, 16),
    rule("ghp_", ByteClass::Alnum, 20),
    rule("gho_", ByteClass::Alnum, 20),
    rule("ghu_", ByteClass::Alnum, 20),
    rule("ghs_", ByteClass::Alnum, 20),
    rule("ghr_", ByteClass::Alnum, 20),
    rule("github_pat_", ByteClass::Word, 20),
    rule("glpat-", ByteClass::Word, 16),
    rule("npm_", ByteClass::Alnum, 30),
    rule("hf_", ByteClass::Alnum, 30),
    rule("gsk_", ByteClass::Alnum, 40),
    rule("xai-", ByteClass::Alnum, 40),
    rule("sgamp_", ByteClass::Word, 16),
    rule("AKIA", ByteClass::Capital, 16),
    rule("ASIA", ByteClass::Capital, 16),
    rule("AIza", ByteClass::Word, 30),
    rule("ya29.", ByteClass::Word, 20),
    rule("xoxa-", ByteClass::Word, 10),
    rule("xoxb-", ByteClass::Word, 10),
    rule("xoxp-", ByteClass::Word, 10),
    rule("xoxr-", ByteClass::Word, 10),
    rule("xoxs-", ByteClass::Word, 10),
    rule("Bearer ", ByteClass::Token, 20),
    rule("bearer ", ByteClass::Token, 20),
    rule("Authorization: Basic ", ByteClass::Token, 8),
    rule("authorization: Basic ", ByteClass::Token, 8),
];

/// The beginning of every signed web token: `{"` in base64.
pub(super) const JWT: &str = "eyJ";

/// The beginning and the end of private keys in PEM form.
pub(super) const PEM: &str = "-----BEGIN ";
const PEM_END: &[u8] = b"-----END";

/// The number of bytes that are searched for the end of a private key. The largest key in use is
/// half as long.
const PEM_MOST: usize = 16 * 1024;

/// The length in bytes, exclusive, of the longest first part of a web token.
const JWT_MOST: usize = 1024;

/// The least number of bytes in a run of base64 that counts as part of an unterminated private key.
const PEM_PART: usize = 20;

/// The meaning of the text at a prefix.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyMatch {
    /// There is no key.
    No,
    /// More text is needed.
    Open,
    /// A key that ends here, or that continues into the next piece with bytes of this class.
    Key(usize, Option<ByteClass>),
    /// A possible key without an end. Its [`parts`] are in this range.
    Parts(usize, usize),
    /// A secret in this range, some way behind the prefix.
    Span(usize, usize),
}

impl KeyRule {
    /// Judges the text that has the prefix at `start..end`.
    pub(super) fn match_at(&self, text: &ScannedText<'_>, start: usize, end: usize) -> KeyMatch {
        let to = text.run(self.class, end);
        let open = !text.last && to == text.bytes.len();
        if to - end < self.least {
            return if open { KeyMatch::Open } else { KeyMatch::No };
        }
        let byte = |back: usize| match start.checked_sub(back) {
            Some(at) => text.bytes[at],
            None => text.before[2 + start - back],
        };
        // The letter of an escape such as `\n` belongs to no word.
        let joined = byte(1).is_ascii_alphanumeric() && byte(2) != b'\\';
        let random = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        if self.random && (joined || !text.bytes[end..end + self.least].iter().any(random)) {
            return KeyMatch::No;
        }
        KeyMatch::Key(to, open.then_some(self.class))
    }
}

/// Judges a text that begins like a web token at `start`: a token has three parts with dots
/// between, and the second part is an object, too.
pub(super) fn match_jwt(text: &ScannedText<'_>, start: usize) -> KeyMatch {
    let dot = text.run(ByteClass::Word, start);
    let rest = &text.bytes[dot..];
    let second = b".eyJ";
    if dot - start >= JWT_MOST {
        return KeyMatch::No;
    }
    if !text.last && rest.len() < second.len() && second.starts_with(rest) {
        return KeyMatch::Open;
    }
    if dot - start < 8 || !rest.starts_with(second) {
        return KeyMatch::No;
    }
    let to = text.run(ByteClass::Dotted, dot);
    KeyMatch::Key(to, (!text.last && to == text.bytes.len()).then_some(ByteClass::Dotted))
}

/// Judges a text that begins like a PEM block at `start`, with its label at `label`.
pub(super) fn match_pem(text: &ScannedText<'_>, start: usize, label: usize) -> KeyMatch {
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
        return KeyMatch::Open;
    }
    let private = text[label..body].windows(11).any(|words| words == b"PRIVATE KEY");
    if !private || !rest.starts_with(dashes) {
        return KeyMatch::No;
    }
    let body = body + dashes.len();
    let most = start + PEM_MOST;
    let window = body..text.len().min(most).max(body);
    let next = ends.get(ends.partition_point(|at| *at < body));
    if let Some(at) = next.filter(|at| **at + PEM_END.len() <= window.end) {
        // The key ends after the dashes that follow the label.
        let label = at + PEM_END.len();
        let rest = &text[label..text.len().min(label + 60)];
        let end = rest.windows(dashes.len()).position(|words| words == dashes);
        return match end {
            Some(at) => KeyMatch::Key(label + at + dashes.len(), None),
            None if rest.len() < 60 && !last => KeyMatch::Open,
            None => KeyMatch::Key(label, None),
        };
    }
    if text.len() < most && !last {
        return KeyMatch::Open;
    }
    // Without an end, the text is a part of a key, or a text about keys.
    KeyMatch::Parts(window.start, window.end)
}

/// The end of a variable's name whose value is secret.
#[derive(Debug, Clone, Copy)]
pub(super) struct SecretName {
    /// The end of the name.
    pub(super) end: &'static str,
    /// True if the value must have a digit and a letter: the names of ordinary variables in source
    /// end so, too.
    random: bool,
}

const fn name(end: &'static str) -> SecretName {
    SecretName { end, random: false }
}

const fn common(end: &'static str) -> SecretName {
    SecretName { end, random: true }
}

/// The ends of all names whose values are secret.
pub(super) const SECRET_NAMES: &[SecretName] = &[
    name("_KEY"),
    name("APIKEY"),
    name("TOKEN"),
    name("SECRET"),
    name("PASSWORD"),
    name("PASSWD"),
    name("PASSPHRASE"),
    name("CREDENTIAL"),
    name("CREDENTIALS"),
    name("COOKIE"),
    common("_key"),
    common("apikey"),
    common("apiKey"),
    common("AccessKey"),
    common("token"),
    common("Token"),
    common("secret"),
    common("password"),
    common("Password"),
    common("passwd"),
];

/// Returns true if the name of a variable looks like that of a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words = ["KEY", "TOKEN", "SECRET", "PASS", "PWD", "CREDENTIAL", "COOKIE", "AUTH"];
    words.iter().any(|word| name.contains(word))
}

/// The shortest value of a secret name that is redacted.
const VALUE_LEAST: usize = 6;

/// The number of bytes after a name that are searched for the end of its value.
const VALUE_MOST: usize = 1024;

/// The number of bytes between a name and its value.
const SEPARATOR_MOST: usize = 12;

/// Judges the text after the end of a secret name at `end`: `NAME=value`, `NAME: value`, and both
/// with quotes. The value of a variable that names another one (`$NAME`, `{name}`) is no secret.
pub(super) fn match_name(text: &ScannedText<'_>, name: &SecretName, end: usize) -> KeyMatch {
    let (bytes, last) = (text.bytes, text.last);
    let limit = bytes.len().min(end + SEPARATOR_MOST);
    let is_cut = limit == bytes.len() && !last;
    let mut at = end;
    let mut assigned = false;
    while at < limit {
        match bytes[at] {
            b'=' | b':' => assigned = true,
            b'"' | b'\'' | b'\\' => {}
            b' ' | b'\t' if at > end => {}
            b' ' if bytes.get(at + 1).is_none_or(|next| b"=:".contains(next)) => {}
            _ => break,
        }
        at += 1;
    }
    if at == limit {
        return if is_cut { KeyMatch::Open } else { KeyMatch::No };
    }
    if !assigned {
        return KeyMatch::No;
    }
    let most = bytes.len().min(at + VALUE_MOST);
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || b"\"'`\\,;&<>()[]{}|".contains(byte);
    let to = bytes[at..most].iter().position(is_end).map_or(most, |length| at + length);
    if to == bytes.len() && to < at + VALUE_MOST && !last {
        return KeyMatch::Open;
    }
    let value = &bytes[at..to];
    let is_call = bytes.get(to).is_some_and(|byte| b"([{<".contains(byte));
    let is_reference = value.first().is_none_or(|byte| b"$%*".contains(byte));
    let has = |test: fn(&u8) -> bool| value.iter().any(test);
    let is_random = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    // A key in base64 may begin with a slash, but it is long.
    let is_path = [&b"./"[..], b"~/", b"/"].iter().any(|start| value.starts_with(start));
    let is_path = is_path && (value.len() < 40 || value.contains(&b'.'));
    if value.len() < VALUE_LEAST || is_call || is_reference || is_path || name.random && !is_random
    {
        return KeyMatch::No;
    }
    KeyMatch::Span(at, to)
}

/// The text before the authority of a URL.
pub(super) const URL: &str = "://";

/// The longest authority of a URL that is searched for a password.
const AUTHORITY_MOST: usize = 512;

/// Judges the text after the `://` of a URL at `end`: a password is between `:` and `@`.
pub(super) fn match_url(text: &ScannedText<'_>, end: usize) -> KeyMatch {
    let most = text.bytes.len().min(end + AUTHORITY_MOST);
    let to = authority_end(&text.bytes[..most], end);
    if to == text.bytes.len() && to < end + AUTHORITY_MOST && !text.last {
        return KeyMatch::Open;
    }
    match password(&text.bytes[..to], end) {
        Some((from, to)) => KeyMatch::Span(from, to),
        None => KeyMatch::No,
    }
}

/// Returns the end of the authority that starts at `at`.
fn authority_end(text: &[u8], at: usize) -> usize {
    let is_end = |byte: &u8| {
        byte.is_ascii_whitespace()
            || byte.is_ascii_control()
            || b"/?#\"'`\\<>(){}[]|,".contains(byte)
    };
    text[at..].iter().position(is_end).map_or(text.len(), |length| at + length)
}

/// Returns the range of the password in the authority that starts at `at`.
fn password(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let host = at + text[at..].iter().rposition(|byte| *byte == b'@')?;
    let from = at + text[at..host].iter().position(|byte| *byte == b':')? + 1;
    // A placeholder such as `$PASSWORD` is no password.
    (from < host && text[from] != b'$').then_some((from, host))
}

/// Returns the range of the password of a value that is a URL.
pub(super) fn dsn_password(value: &[u8]) -> Option<(usize, usize)> {
    let at = value.windows(URL.len()).position(|part| part == URL.as_bytes())? + URL.len();
    password(&value[..authority_end(value, at)], at)
}

/// Returns the long runs of base64 in a range of a text.
pub(super) fn parts(text: &[u8], from: usize, to: usize) -> Vec<(usize, usize)> {
    let text = &text[..to];
    let mut parts = Vec::new();
    let mut at = from;
    while at < to {
        let end = ByteClass::Token.run(text, at);
        if end - at >= PEM_PART {
            parts.push((at, end));
        }
        at = end.max(at + 1);
    }
    parts
}
