//! Classification of crafted outputs of sessions: noise, encoding faults, error bodies, wordings.

use std::path::{Path, PathBuf};

use super::{SessionExit, classify};
use crate::agent::preset::builtin;
use crate::domain::id::Timestamp;
use crate::domain::session::{Class, Cost, SessionProgress, SessionReport, Tokens};

/// Sunday, 2026-11-22 15:10:00 UTC.
const NOW: Timestamp = Timestamp(1_795_360_200_000);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/outputs")
}

/// Returns the rows of the index: name, preset, exit code, change, class.
fn index() -> Vec<[String; 5]> {
    let text = std::fs::read_to_string(folder().join("index.tsv")).unwrap();
    let row = |line: &str| {
        let cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
        cells.try_into().unwrap()
    };
    text.lines().skip(1).map(row).collect()
}

fn read_output([name, preset, exit, changed, _]: &[String; 5]) -> SessionReport {
    let bytes =
        |what: &str| std::fs::read(folder().join(format!("{name}.{what}"))).unwrap_or_default();
    let exit = SessionExit { code: Some(exit.parse().unwrap()), ..SessionExit::default() };
    let preset = builtin(preset).unwrap();
    let changed = Some(changed == "yes");
    classify(&preset, exit, &bytes("stdout"), &bytes("stderr"), None, changed, NOW)
}

fn report(name: &str) -> SessionReport {
    read_output(index().iter().find(|row| row[0] == name).unwrap())
}

#[test]
fn classify_every_crafted_output() {
    let rows = index();
    let mismatches: Vec<String> = rows
        .iter()
        .map(|row| (row, read_output(row)))
        .filter(|(row, report)| row[4] != report.class.as_str())
        .map(|(row, r)| format!("{}: {} and not {}: {:?}", row[0], r.class, row[4], r.detail))
        .collect();
    assert!(mismatches.is_empty(), "{mismatches:#?}");
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".stdout").map(str::to_owned)
        })
        .collect();
    let mut named: Vec<String> = rows.iter().map(|row| row[0].clone()).collect();
    files.sort_unstable();
    named.sort_unstable();
    assert_eq!(files, named, "index.tsv names the files");
}

#[test]
fn work_is_an_answer_and_an_error_in_a_message_is_none() {
    for (name, progress) in [
        ("image-too-large", SessionProgress::Answered),
        ("worked-mcp-429", SessionProgress::Answered),
        ("qwen-401-as-message", SessionProgress::Started),
        ("insufficient-balance", SessionProgress::Started),
        ("synthetic-without-error", SessionProgress::Started),
        ("needs-an-update", SessionProgress::Silent),
        ("stderrjson-claude-401json", SessionProgress::Silent),
    ] {
        assert_eq!(report(name).progress, progress, "{name}");
    }
}

#[test]
fn tokens_of_a_session_without_a_result_are_the_sum_of_its_messages() {
    let message = |id: &str, input: u64| {
        format!(
            r#"{{"type":"assistant","message":{{"id":"{id}","content":[],"usage":{{"input_tokens":{input},"output_tokens":1,"cache_read_input_tokens":500}}}}}}"#
        )
    };
    let lines = [message("a", 20), message("a", 20), message("b", 30)].join("\n");
    let preset = builtin("claude").unwrap();
    let exit = SessionExit { signal: Some(9), ..SessionExit::default() };
    let usage =
        |stdout: &str| classify(&preset, exit, stdout.as_bytes(), b"", None, None, NOW).usage;
    let tokens = Tokens { input: 50, output: 2, cache_read: 1000, cache_write: 0 };
    assert_eq!(usage(&lines).tokens, Some(tokens));
    // A result covers the messages before it.
    let result = r#"{"type":"result","subtype":"success","is_error":false,"result":"x","total_cost_usd":0.5,"usage":{"input_tokens":60,"output_tokens":7}}"#;
    let usage = usage(&format!("{lines}\n{result}\n{}\n{}\n", message("b", 30), message("c", 5)));
    let tokens = Tokens { input: 65, output: 8, cache_read: 500, cache_write: 0 };
    assert_eq!((usage.tokens, usage.cost), (Some(tokens), Cost::from_usd(0.5)));
    // Without counts, the tokens are unknown.
    assert_eq!(report("codex-usagenull").usage.tokens, None);
    assert_eq!(report("codex-without-usage").usage.tokens, None);
}

#[test]
fn limit_of_one_model_is_reported_with_the_model() {
    for (text, model) in [
        ("You've reached your Opus limit · resets 9pm (UTC)", Some("opus")),
        (
            "Rate limit reached for gpt-5-codex in organization org-1 on requests per min",
            Some("gpt-5-codex"),
        ),
        ("You've hit your weekly limit · resets Nov 25, 4pm (UTC)", None),
    ] {
        let preset = builtin("claude").unwrap();
        let exit = SessionExit { code: Some(1), ..SessionExit::default() };
        let report = classify(&preset, exit, b"", text.as_bytes(), None, Some(false), NOW);
        assert_eq!(
            (report.class, report.limited_model.as_deref()),
            (Class::RateLimited, model),
            "{text}"
        );
    }
}
