//! Redaction of texts and of streams that are cut anywhere.

use proptest::prelude::*;

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};

use super::{REDACTED, Redactor, in_json};

fn redactor(values: &[&str]) -> Redactor {
    Redactor::new(values).unwrap()
}

/// Redacts a stream that arrives in these pieces.
fn streamed<'a>(redactor: &Redactor, pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let mut stream = redactor.stream();
    let mut clean = Vec::new();
    pieces.for_each(|piece| stream.push(piece, &mut clean));
    stream.finish(&mut clean);
    String::from_utf8_lossy(&clean).into_owned()
}

#[track_caller]
fn assert_clean(redactor: &Redactor, text: &str, wanted: &str) {
    assert_eq!(String::from_utf8_lossy(&redactor.clean(text.as_bytes())), wanted);
    for step in [1, 2, 3, 7, 19] {
        assert_eq!(streamed(redactor, text.as_bytes().chunks(step)), wanted, "by {step}");
    }
}

#[test]
fn redact_finds_values_in_json_and_base64() {
    let value = "p\"ss\\wörd-17";
    let redactor = redactor(&[value, "short", "  padded-value\n"]);
    let json = in_json(value);
    let twice = in_json(&json);
    for form in [value, &*json, &*twice] {
        assert_clean(&redactor, &format!("a {form}!"), "a [redacted]!");
    }
    for base64 in [BASE64_NOPAD, BASE64URL_NOPAD] {
        let whole = base64.encode(value.as_bytes());
        assert_clean(&redactor, &format!("({whole})"), "([redacted])");
        for lead in ["u:", "me:", "you:"] {
            let pair = base64.encode(format!("{lead}{value}").as_bytes());
            let output = redactor.clean(format!("({pair})").as_bytes());
            let output = String::from_utf8(output).unwrap();
            // The part before the value stays, and the digits that it shares with the value.
            assert!(
                output.contains(REDACTED) && output.len() < REDACTED.len() + 12,
                "{pair}: {output}"
            );
        }
    }
    assert_clean(&redactor, "short, padded-value, padded", "short, [redacted], padded");
}

#[test]
fn redact_replaces_overlapping_secrets_together() {
    let redactor = redactor(&["abcdef", "cdefgh", "sk-tiny"]);
    assert_clean(&redactor, "xabcdefghx abcdef", "x[redacted]x [redacted]");
    assert_clean(&redactor, "abcdefcdefgh", "[redacted][redacted]");
    assert_clean(&redactor, "sk-tiny sk-tinyAndAll0fAVeryL0ngKey", "[redacted] [redacted]");
}

/// Invented keys of every kind. None of them has ever been valid.
const KEYS: &[&str] = &[
    "sk-ant-fake-000",
    "sk-ant-api03-AAAA_bbbb-CCCC",
    "sk-proj-0123_abcdEFGH-ij",
    "sk-0123456789abcdef0123456789abcdef",
    "sk_live_0123456789abcdefABCD",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "gho_0123456789abcdefghijABCDEFGHIJ012345",
    "ghs_0123456789abcdefghijABCDEFGHIJ012345",
    "github_pat_0123456789abcdefghij_ABCDEFGHIJ",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "AIzaSyA-0123456789abcdefghijklmnopqrstu",
    "xoxb-0123456789-abcdefghij",
    "xoxp-0123456789-abcdefghij",
    "xoxa-0123456789-abcdefghij",
    "xoxr-0123456789-abcdefghij",
    "xoxs-0123456789-abcdefghij",
    "glpat-0123456789abcdefghij",
    "npm_0123456789abcdefghijABCDEFGHIJ012345",
    "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "Bearer abcdefghijklmnopqrst.uvw~+/x==",
    "Authorization: Basic dXNlcjpwYXNzd29yZA==",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl-_",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\\nMIIEvQIBADANBg==\\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQdG=\n-----END PGP PRIVATE KEY BLOCK-----",
];

#[test]
fn redact_knows_keys_of_every_kind() {
    let redactor = redactor(&[]);
    for key in KEYS {
        for (before, after) in [("", ""), ("KEY=", "\n"), ("\"", "\", x"), ("\\n", "\\n")] {
            let text = format!("{before}{key}{after}");
            assert_clean(&redactor, &text, &format!("{before}[redacted]{after}"));
        }
    }
}

#[test]
fn redact_keeps_text_that_only_begins_like_a_key() {
    let redactor = redactor(&[]);
    for text in [
        "task-runner-for-everything-in-2026",
        "the disk-Usage0123456789abcdef and a risk-1234567890123456789012345",
        ".sk-folding-cube-animation-delayed { }",
        "npm_config_cache_directory_for_everything",
        "hf_transformers_are_not_a_secret_of_anybody",
        "the bearer of this, a Bearer token, Bearer authentication",
        "ghp_ and sk-ant- are prefixes; AKIA is one too, AKIAshorT",
        "eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbXX0= is a map, eyJhbGciOiJIUzI1NiJ9.e is cut off",
        "-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgMIIEvQIBADANBg\n-----END CERTIFICATE-----",
        "a key begins with -----BEGIN PRIVATE KEY----- and then there is base64",
        "-----BEGIN ",
        "sk-",
    ] {
        assert_clean(&redactor, text, text);
    }
}

#[test]
fn redact_hides_an_unterminated_private_key() {
    let redactor = redactor(&[]);
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n";
    let head = "-----BEGIN PRIVATE KEY-----\n";
    let hidden = format!("{head}[redacted]\n[redacted]\nno more");
    assert_clean(&redactor, &format!("{head}{line}{line}no more"), &hidden);
    // Too long to be held back, and full of possible beginnings of other secrets.
    let lines = format!("{line}a word\nsk-\n-----BEGIN PRIVATE KEY-----\n").repeat(300);
    let text = format!("{head}{lines}");
    let whole = redactor.clean(text.as_bytes());
    assert!(!String::from_utf8_lossy(&whole).contains("MIIEvQ"));
    for step in [64, 1000, 4096, 20_000] {
        let pieces = text.as_bytes().chunks(step);
        assert_eq!(streamed(&redactor, pieces).as_bytes(), whole, "by {step}");
    }
}

#[test]
fn redact_hides_the_last_part_of_an_unterminated_private_key() {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC";
    let redactor = redactor(&[&*format!("{line}-and-more")]);
    let text = format!("-----BEGIN PRIVATE KEY-----\n{}", format!("{line}\n").repeat(600));
    let whole = redactor.clean(text.as_bytes());
    for cut in 16 * 1024..16 * 1024 + 40 {
        let (first, rest) = text.as_bytes().split_at(cut);
        assert_eq!(streamed(&redactor, [first, rest].into_iter()).as_bytes(), whole, "{cut}");
    }
}

#[test]
fn redact_holds_a_bounded_number_of_bytes() {
    let redactor = redactor(&["a-value-of-no-great-length"]);
    let floods = [
        "-----BEGIN PRIVATE KEY-----\n",
        "-----BEGIN RSA ",
        "eyJ",
        "sk-ant-0123456789",
        "a-value-of-",
        "Bearer ",
        "x",
    ];
    for flood in floods {
        let mut stream = redactor.stream();
        let mut clean = Vec::new();
        let piece = flood.repeat(4000 / flood.len());
        for _ in 0..30 {
            stream.push(piece.as_bytes(), &mut clean);
            assert!(stream.held.len() < 17_000, "{flood}: {} bytes", stream.held.len());
            clean.clear();
        }
    }
}

const NEAR: &[&str] = &[
    "sk-",
    "sk-ant-",
    "eyJ",
    "eyJabcdefgh.",
    "Bearer ",
    "-----BEGIN ",
    "-----BEGIN PRIVATE KEY-----",
    "-----END",
    "-----",
    "ghp_",
    "AKIA",
    "hun",
    "hunter",
    "hunter2-",
    "\"",
    "\\n",
    "\n",
    " ",
    ".",
    "aGVs",
    "é",
];

/// Generates pieces that are secrets, pieces that only begin like secrets, and other pieces.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(NEAR).prop_map(str::to_owned),
        2 => "[a-zA-Z0-9]{1,24}",
        1 => prop::sample::select(KEYS).prop_map(str::to_owned),
        1 => Just(SECRET.to_owned()),
        1 => Just("ter2-is-\"no\"".to_owned()),
    ]
}

const SECRET: &str = "hunter2-is-\"no\"-password";

fn cut<'a>(text: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    at.sort_unstable();
    let ends = at.iter().copied().chain([text.len()]);
    let begins = [0].into_iter().chain(at.iter().copied());
    begins.zip(ends).map(|(from, to)| &text[from..to]).collect()
}

proptest! {
    #[test]
    fn redact_of_a_stream_does_not_depend_on_the_cuts(
        pieces in prop::collection::vec(piece(), 0..30),
        cuts in prop::collection::vec(any::<usize>(), 0..30),
    ) {
        let redactor = redactor(&[SECRET, "ter2-is-\"no\""]);
        let text = pieces.concat();
        let whole = String::from_utf8(redactor.clean(text.as_bytes())).unwrap();
        prop_assert_eq!(&streamed(&redactor, cut(text.as_bytes(), &cuts).into_iter()), &whole);
        prop_assert_eq!(&streamed(&redactor, text.as_bytes().chunks(1)), &whole);
        prop_assert!(!whole.contains(SECRET));
        // For the plainest kind, `sk-` after a letter is part of a word.
        for key in KEYS.iter().filter(|key| !key.starts_with("sk-0")) {
            prop_assert!(!whole.contains(key), "{} in {}", key, whole);
        }
    }

    #[test]
    fn redact_keeps_text_without_secrets(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        words in prop::collection::vec("(sk-|ghp_|eyJ|AKIA|Bearer |-----BEGIN |hunter2|)[a-z]{0,5}[ \n]", 0..20),
        cuts in prop::collection::vec(any::<usize>(), 0..10),
    ) {
        let redactor = redactor(&[SECRET]);
        let mut text = words.concat().into_bytes();
        text.extend(bytes);
        let mut stream = redactor.stream();
        let mut clean = Vec::new();
        cut(&text, &cuts).into_iter().for_each(|piece| stream.push(piece, &mut clean));
        stream.finish(&mut clean);
        prop_assert_eq!(clean, text);
    }
}
