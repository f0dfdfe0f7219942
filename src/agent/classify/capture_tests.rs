//! Classification of captured outputs of real programs, whole and damaged.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::terminal_text::without_control_sequences;
use super::{Intervention, SessionExit, classify};
use crate::agent::preset::{NAMES, builtin};
use crate::contract::lenient_json;
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
    let exit = SessionExit { code: Some(capture.exit), ..SessionExit::default() };
    classify(&preset, exit, stdout, &capture.stderr, None, changed, NOW)
}

#[test]
fn classify_every_capture() {
    let all = captures();
    assert!(all.len() > 60);
    let mismatches: Vec<String> = all
        .iter()
        .map(|capture| (capture, read(capture, &capture.stdout, capture.changed)))
        .filter(|(capture, report)| capture.class != report.class)
        .map(|(capture, report)| {
            let (class, detail) = (report.class, &report.detail);
            format!("{}: {class} and not {}: {detail:?}", capture.name, capture.class)
        })
        .collect();
    assert!(mismatches.is_empty(), "{mismatches:#?}");
}

/// Compares the reports of all captures with `expected.jsonl`. `UPDATE_EXPECTED=1` writes the file.
#[test]
fn classify_reports_session_usage_and_reset_time_of_every_capture() {
    let mut lines = String::new();
    for capture in captures() {
        let report = read(&capture, &capture.stdout, capture.changed);
        let tokens = report.usage.tokens.map(|t| [t.input, t.output, t.cache_read, t.cache_write]);
        let line = json!({
            "capture": capture.name,
            "session": report.session,
            "tokens": tokens,
            "cumulative": report.cumulative,
            "nano_usd": report.usage.cost.map(|cost| cost.0),
            "resets_at": report.resets_at.map(|at| at.0),
            "denials": report.denials,
            "detail": report.detail,
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

/// Returns the offset at which the final event of a successful capture ends. A capture that is cut
/// before this offset is a failure.
fn end_of(capture: &Capture) -> usize {
    let text = std::str::from_utf8(&capture.stdout).unwrap();
    let mark = match capture.preset.as_str() {
        "aider" => "Applied edit to edited.txt\n",
        _ => "}",
    };
    text.rfind(mark).unwrap() + mark.len()
}

fn successful_captures() -> Vec<Capture> {
    let successful: Vec<Capture> =
        captures().into_iter().filter(|c| c.class == Class::Ok).collect();
    assert!(successful.len() >= 10);
    successful
}

#[test]
fn classify_capture_cut_at_a_line_end_as_failure() {
    for capture in successful_captures() {
        let end = end_of(&capture);
        let lines =
            capture.stdout.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(n, _)| n + 1);
        for at in lines.chain([0, 1, end - 1]).filter(|at| *at < end) {
            for changed in [None, Some(true), Some(false)] {
                let report = read(&capture, &capture.stdout[..at], changed);
                assert_ne!(report.class, Class::Ok, "{} cut at {at}", capture.name);
            }
        }
    }
}

/// Returns true if a capture is long enough to lose its middle. A stream on a single line would
/// lose its only event.
fn is_long(capture: &Capture) -> bool {
    capture.stdout.len() > 2500 && capture.stdout.iter().filter(|b| **b == b'\n').count() > 3
}

#[test]
fn classify_capture_without_its_middle_as_success() {
    for capture in successful_captures().into_iter().filter(is_long) {
        // The keeper keeps the head and the tail, with a mark between them.
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
fn classify_timeout_and_idle_before_the_report_of_an_interrupted_session() {
    let find = |name: &str| captures().into_iter().find(|c| c.name == name).unwrap();
    let class_after = |name: &str, intervention| {
        let capture = find(name);
        let preset = builtin(&capture.preset).unwrap();
        let exit = SessionExit { code: None, signal: Some(9), intervention: Some(intervention) };
        classify(&preset, exit, &capture.stdout, &capture.stderr, None, None, NOW).class
    };
    for (name, intervention, class) in [
        ("cs_int_tool", Intervention::TimedOut, Class::TimedOut),
        ("cs_term_tool", Intervention::Idle, Class::TimedOut),
        ("cs_term_tool", Intervention::Stopped, Class::Crashed),
        // The session printed its final event, but the process did not exit.
        ("fin_claude", Intervention::Lingered, Class::Ok),
        ("fin_claude", Intervention::TimedOut, Class::Ok),
        ("ce4_oauth_limit", Intervention::Lingered, Class::RateLimited),
        ("xe_429", Intervention::Idle, Class::RateLimited),
    ] {
        assert_eq!(class_after(name, intervention), class, "{name} {intervention:?}");
    }
    // The session reported nothing but retries.
    let capture = find("xe_429");
    let text = String::from_utf8(capture.stdout).unwrap();
    let waiting: String = text.lines().take(4).map(|line| format!("{line}\n")).collect();
    let stopped =
        SessionExit { code: None, signal: Some(15), intervention: Some(Intervention::Stopped) };
    let report =
        classify(&builtin("codex").unwrap(), stopped, waiting.as_bytes(), b"", None, None, NOW);
    assert_eq!(report.class, Class::RateLimited);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn classify_cut_capture_as_failure(pick in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), changed in any::<Option<bool>>()) {
        let all = successful_captures();
        let capture = pick.get(&all);
        let at = at.index(end_of(capture));
        let report = read(capture, &capture.stdout[..at], changed);
        prop_assert!(report.class != Class::Ok, "{} cut at {at}", capture.name);
    }

    #[test]
    fn classify_garbled_capture_as_success_only_if_its_final_event_is_readable(
        pick in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
        junk in prop::collection::vec(prop::sample::select(vec![0_u8, 0xff, 0xfe, 0x80, 0xc0]), 1..40), changed in any::<Option<bool>>(),
    ) {
        let all = successful_captures();
        let capture = pick.get(&all);
        let at = at.index(end_of(capture) - 1);
        let mut stdout = capture.stdout.clone();
        // Junk that replaces a line feed joins the final event with the line before it.
        let final_line = stdout.trim_ascii_end().iter().rposition(|byte| *byte == b'\n');
        let is_touched = final_line.is_none_or(|newline| at + junk.len() > newline + 1);
        for (old, new) in stdout[at..].iter_mut().zip(junk) {
            *old = new;
        }
        let report = read(capture, &stdout, changed);
        // The last line holds the final event. Text and documents over several lines have none.
        let text = without_control_sequences(&String::from_utf8_lossy(&stdout));
        let last = text.trim_end().lines().next_back().unwrap_or_default();
        let has_final_line = capture.stdout.trim_ascii_end().ends_with(b"}") && is_long(capture);
        let is_damaged = has_final_line && is_touched && lenient_json::parse_prefix(last).is_none();
        prop_assert!(report.class != Class::Ok || !is_damaged, "{} garbled at {at}", capture.name);
    }

    #[test]
    fn classify_random_bytes_as_failure(
        preset in prop::sample::select(NAMES.to_vec()), code in any::<Option<i32>>(), signal in prop::option::of(1..32_i32),
        stdout in prop::collection::vec(any::<u8>(), 0..400), stderr in prop::collection::vec(any::<u8>(), 0..200), changed in any::<Option<bool>>(),
    ) {
        let exit = SessionExit { code, signal, intervention: None };
        let report = classify(&builtin(preset).unwrap(), exit, &stdout, &stderr, None, changed, NOW);
        // A program that prints text and changes files may have succeeded.
        if preset != "command" && changed != Some(true) {
            prop_assert!(report.class != Class::Ok);
        }
    }

    #[test]
    fn classify_shuffled_pieces_of_captures_without_panic(
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
        let exit = SessionExit { code: Some(code), ..SessionExit::default() };
        let report = classify(&builtin(preset).unwrap(), exit, &stdout, &stdout, None, None, NOW);
        prop_assert!(report.detail.is_none_or(|detail| !detail.contains('\n')));
    }
}
