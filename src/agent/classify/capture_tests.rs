//! The captures of real programs, each with its class, and what must hold of them when they are damaged.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::{Intervention, SessionExit, classify};
use crate::agent::preset::{NAMES, builtin};
use crate::domain::id::Timestamp;
use crate::domain::session::{Class, SessionReport};

/// Sunday, 2026-11-22 15:10:00 UTC.
const NOW: Timestamp = Timestamp(1_795_360_200_000);

#[derive(Debug, Clone)]
struct Capture {
    name: String,
    preset: String,
    exit: i32,
    changed: Option<bool>,
    class: Class,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/captures")
}

fn captures() -> Vec<Capture> {
    let index = std::fs::read_to_string(folder().join("index.tsv")).unwrap();
    let read = |name: &str, what: &str| {
        std::fs::read(folder().join(format!("{name}.{what}"))).unwrap_or_default()
    };
    index
        .lines()
        .skip(1)
        .map(|row| {
            let cells: Vec<&str> = row.split('\t').collect();
            let [name, preset, _, exit, changed, class] = cells[..] else { panic!("{row}") };
            Capture {
                name: name.into(),
                preset: preset.into(),
                exit: exit.parse().unwrap(),
                changed: match changed {
                    "yes" => Some(true),
                    "no" => Some(false),
                    _ => None,
                },
                class: Class::parse(class).unwrap(),
                stdout: read(name, "stdout"),
                stderr: read(name, "stderr"),
            }
        })
        .collect()
}

fn read(capture: &Capture, stdout: &[u8], changed: Option<bool>) -> SessionReport {
    let preset = builtin(&capture.preset).unwrap();
    let ended = SessionExit { code: Some(capture.exit), ..SessionExit::default() };
    classify(&preset, ended, stdout, &capture.stderr, None, changed, NOW)
}

#[test]
fn every_capture_gets_its_class() {
    let all = captures();
    assert!(all.len() > 60);
    let wrong: Vec<String> = all
        .iter()
        .map(|capture| (capture, read(capture, &capture.stdout, capture.changed)))
        .filter(|(capture, reading)| capture.class != reading.class)
        .map(|(capture, r)| {
            format!("{}: {} and not {}: {:?}", capture.name, r.class, capture.class, r.detail)
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is read from each capture beside its class, as `expected.jsonl` has it. `UPDATE_EXPECTED=1` writes it anew.
#[test]
fn every_capture_tells_what_it_told() {
    let mut lines = String::new();
    for capture in captures() {
        let reading = read(&capture, &capture.stdout, capture.changed);
        let tokens = reading.usage.tokens.map(|t| [t.input, t.output, t.cache_read, t.cache_write]);
        let line = json!({
            "capture": capture.name,
            "session": reading.session,
            "tokens": tokens,
            "cumulative": reading.cumulative,
            "nano_usd": reading.usage.cost.map(|cost| cost.0),
            "resets_at": reading.resets_at.map(|at| at.0),
            "denials": reading.denials,
            "detail": reading.detail,
        });
        lines.push_str(&format!("{line}\n"));
    }
    let file = folder().join("expected.jsonl");
    if crate::ambient::variable("UPDATE_EXPECTED").is_some() {
        std::fs::write(&file, &lines).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    for (line, expected) in lines.lines().zip(expected.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(lines.lines().count(), expected.lines().count());
}

/// Where the end of a good capture ends: what is cut before that is not good.
fn end_of(capture: &Capture) -> usize {
    let text = std::str::from_utf8(&capture.stdout).unwrap();
    let mark = match capture.preset.as_str() {
        "aider" => "Applied edit to edited.txt\n",
        _ => "}",
    };
    text.rfind(mark).unwrap() + mark.len()
}

fn good() -> Vec<Capture> {
    let good: Vec<Capture> = captures().into_iter().filter(|c| c.class == Class::Ok).collect();
    assert!(good.len() >= 10);
    good
}

#[test]
fn a_stream_that_ends_with_a_line_too_early_is_not_good() {
    for capture in good() {
        let end = end_of(&capture);
        let lines =
            capture.stdout.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(n, _)| n + 1);
        for at in lines.chain([0, 1, end - 1]).filter(|at| *at < end) {
            for changed in [None, Some(true), Some(false)] {
                let reading = read(&capture, &capture.stdout[..at], changed);
                assert_ne!(reading.class, Class::Ok, "{} cut at {at}", capture.name);
            }
        }
    }
}

/// Whether there is a middle to be cut out: of a stream on a single line, nothing would be left.
fn is_long(capture: &Capture) -> bool {
    capture.stdout.len() > 2500 && capture.stdout.iter().filter(|b| **b == b'\n').count() > 3
}

#[test]
fn what_was_cut_out_of_the_middle_does_not_matter() {
    for capture in good().into_iter().filter(is_long) {
        // As the keeper cuts: the head and the tail, and a line between. The tail has the end.
        let end = String::from_utf8_lossy(&capture.stdout).trim_end().rfind('\n').unwrap();
        let (head, tail) = (end / 3, end / 2);
        let mut cut = capture.stdout[..head].to_vec();
        cut.extend_from_slice(b"\n[git-harness: 9 bytes left out]\n");
        cut.extend_from_slice(&capture.stdout[tail..]);
        let (whole, cut) = (read(&capture, &capture.stdout, None), read(&capture, &cut, None));
        assert_eq!(cut.class, Class::Ok, "{}: {:?}", capture.name, cut.detail);
        assert_eq!(cut.session, whole.session, "{}", capture.name);
    }
}

#[test]
fn our_own_timers_outweigh_what_an_interrupted_session_says() {
    let find = |name: &str| captures().into_iter().find(|c| c.name == name).unwrap();
    let ended = |name: &str, ours| {
        let capture = find(name);
        let preset = builtin(&capture.preset).unwrap();
        let ended = SessionExit { code: None, signal: Some(9), ours: Some(ours) };
        classify(&preset, ended, &capture.stdout, &capture.stderr, None, None, NOW).class
    };
    for (name, ours, class) in [
        ("cs_int_tool", Intervention::TimedOut, Class::TimedOut),
        ("cs_term_tool", Intervention::Idle, Class::TimedOut),
        ("cs_term_tool", Intervention::Stopped, Class::Crashed),
        // It had said how it ended, and only did not go.
        ("fin_claude", Intervention::Lingered, Class::Ok),
        ("fin_claude", Intervention::TimedOut, Class::Ok),
        ("ce4_oauth_limit", Intervention::Lingered, Class::RateLimited),
        ("xe_429", Intervention::Idle, Class::RateLimited),
    ] {
        assert_eq!(ended(name, ours), class, "{name} {ours:?}");
    }
    // All that it said was that it would try again.
    let capture = find("xe_429");
    let text = String::from_utf8(capture.stdout).unwrap();
    let waiting: String = text.lines().take(4).map(|line| format!("{line}\n")).collect();
    let stopped = SessionExit { code: None, signal: Some(15), ours: Some(Intervention::Stopped) };
    let reading =
        classify(&builtin("codex").unwrap(), stopped, waiting.as_bytes(), b"", None, None, NOW);
    assert_eq!(reading.class, Class::RateLimited);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_stream_that_is_cut_is_not_good(pick in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), changed in any::<Option<bool>>()) {
        let all = good();
        let capture = pick.get(&all);
        let at = at.index(end_of(capture));
        let reading = read(capture, &capture.stdout[..at], changed);
        prop_assert!(reading.class != Class::Ok, "{} cut at {at}", capture.name);
    }

    #[test]
    fn a_stream_that_is_garbled_is_not_good(
        pick in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
        junk in prop::collection::vec(prop::sample::select(vec![0_u8, 0xff, 0xfe, 0x80, 0xc0]), 1..40), changed in any::<Option<bool>>(),
    ) {
        let all = good();
        let capture = pick.get(&all);
        let at = at.index(end_of(capture) - 1);
        let mut stdout = capture.stdout.clone();
        for (old, new) in stdout[at..].iter_mut().zip(junk) {
            *old = new;
        }
        let reading = read(capture, &stdout, changed);
        prop_assert!(reading.class != Class::Ok, "{} garbled at {at}", capture.name);
    }

    #[test]
    fn nothing_panics_and_nonsense_is_not_good(
        preset in prop::sample::select(NAMES.to_vec()), code in any::<Option<i32>>(), signal in prop::option::of(1..32_i32),
        stdout in prop::collection::vec(any::<u8>(), 0..400), stderr in prop::collection::vec(any::<u8>(), 0..200), changed in any::<Option<bool>>(),
    ) {
        let ended = SessionExit { code, signal, ours: None };
        let reading = classify(&builtin(preset).unwrap(), ended, &stdout, &stderr, None, changed, NOW);
        let prose = std::str::from_utf8(&stdout).is_ok_and(|text| !text.trim().is_empty());
        if preset != "command" && !prose {
            prop_assert!(reading.class != Class::Ok);
        }
    }

    #[test]
    fn pieces_of_real_streams_in_any_order_do_not_panic(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6),
        preset in prop::sample::select(NAMES.to_vec()), code in 0..260_i32,
    ) {
        let all = captures();
        let mut stdout = Vec::new();
        for (pick, from, to) in picks {
            let bytes = &pick.get(&all).stdout;
            let (from, to) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
            stdout.extend_from_slice(&bytes[from.min(to)..from.max(to)]);
        }
        let ended = SessionExit { code: Some(code), ..SessionExit::default() };
        let reading = classify(&builtin(preset).unwrap(), ended, &stdout, &stdout, None, None, NOW);
        prop_assert!(reading.detail.is_none_or(|detail| !detail.contains('\n')));
    }
}
