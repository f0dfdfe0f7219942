//! Transcripts of captured outputs of all programs, and of random outputs.

use std::path::PathBuf;

use proptest::prelude::*;

use super::{TranscriptEntry, TranscriptKind, TranscriptReader, read};

fn captures() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/captures");
    let mut captures: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "stdout"))
        .map(|path| {
            (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())
        })
        .collect();
    captures.sort();
    assert!(captures.len() > 50, "{}", captures.len());
    captures
}

fn format_entries(entries: &[TranscriptEntry]) -> String {
    let format = |entry: &TranscriptEntry| {
        format!("{}| {}\n", entry.kind.as_str(), entry.text.replace('\n', "\n  "))
    };
    entries.iter().map(format).collect()
}

fn transcript_of_capture(name: &str) -> String {
    let all = captures();
    let (_, bytes) = all.iter().find(|(other, _)| other == name).unwrap();
    format_entries(&read(bytes))
}

#[test]
fn transcript_of_a_success_of_each_program() {
    let claude = r"note| session a1111111-1111-4111-8111-111111111111, claude-opus-4-8[1m]
agent| Step 1.
tool| Bash  printf 'edited by agent\n' >> edited.txt
result| (Bash completed with no output)
agent| All done (stub).
end| success: 2 turns, 0.2 s, 220 in, 40 cached, 14 out, $0.0015
";
    assert_eq!(transcript_of_capture("fin_claude"), claude);
    let codex = r#"agent| Step 1.
tool| shell  /bin/bash -lc "printf 'edited by agent\\n' >> edited.txt"
result| (nothing)
agent| All done (stub).
end| completed: 660 in, 120 cached, 42 out
"#;
    assert!(
        transcript_of_capture("fin_codex3").ends_with(codex),
        "{}",
        transcript_of_capture("fin_codex3")
    );
    let gemini = r"note| session 77777777-7777-4777-8777-777777777777, auto
user| append a line
agent| Step 1.
tool| run_shell_command  printf 'edited by agent\n' >> edited.txt
result| (nothing)
agent| All done (stub).
end| success: 0.6 s, 330 in, 60 cached, 21 out
";
    assert_eq!(transcript_of_capture("g_ok"), gemini);
    let opencode = r"agent| Step 1.
tool| bash  printf 'edited by agent\n' >> edited.txt
result| (no output)
agent| All done (stub).
end| stop: 220 in, 40 cached, 14 out
";
    assert_eq!(transcript_of_capture("o_ok"), opencode);
    let copilot = r"note| model gpt-4.1
user| append a line
agent| Step 1.
tool| bash  printf 'edited by agent\n' >> edited.txt
result| <shellId: 0 completed with exit code 0>
agent| All done (stub).
end| completed: 1.2 s
";
    assert_eq!(transcript_of_capture("p_ok"), copilot);
    // One object over many lines, and one list on one line.
    let json = "agent| All done (stub).\nend| completed: 330 in, 60 cached, 21 out\n";
    assert_eq!(transcript_of_capture("g_json"), json);
    assert!(transcript_of_capture("qwen_array_ok").contains("tool| run_shell_command  printf"));
    assert!(
        transcript_of_capture("a_ok").starts_with("text| Analytics")
            && !transcript_of_capture("a_ok").contains("\ntext|")
    );
}

#[test]
fn transcript_shows_errors_and_denials() {
    for (name, wanted) in [
        ("xe_401", "\nnote| Reconnecting... 5/5 (unexpected status 401"),
        ("xe_401", "\nerror| unexpected status 401 Unauthorized"),
        ("xe_401", "\nend| failed\n"),
        ("c_default_write", "error| denied: Write  {\"file_path\":\"/repo/edited.txt\""),
        (
            "ce2_dropall",
            "note| the model could not be asked (unknown), try 2 of 2\nerror| API Error",
        ),
        ("ce4_oauth_limit", "note| five hour limit: rejected\n"),
        ("cs_int_tool", "\nend| error during execution: 3 turns, 3.0 s"),
        ("gemini_maxturns", "\nerror| Reached max session turns"),
        ("opencode_e_401", "error| Incorrect API key provided"),
        ("copilot_e_401", "\nerror| Authentication failed with provider"),
        ("copilot_denied", "\nerror| Permission denied because"),
    ] {
        assert!(
            transcript_of_capture(name).contains(wanted),
            "{name}:\n{}",
            transcript_of_capture(name)
        );
    }
    // The final event repeats the error. The transcript does not.
    assert_eq!(transcript_of_capture("ce2_dropall").matches("Unable to connect").count(), 1);
    assert_eq!(transcript_of_capture("xe_401").matches("\nerror|").count(), 1);
}

#[test]
fn transcript_of_every_capture_has_no_unknown_events() {
    for (name, bytes) in captures() {
        let entries = read(&bytes);
        let unknown: Vec<_> = entries.iter().filter(|e| e.kind == TranscriptKind::Other).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
        assert_eq!(entries.is_empty(), bytes.trim_ascii().is_empty(), "{name}");
    }
}

#[test]
fn transcript_of_documented_events_of_cursor_and_goose() {
    let cursor = r#"{"type":"tool_call","subtype":"started","tool_call":{"shellToolCall":{"args":{"command":"ls"}}}}
{"type":"tool_call","subtype":"completed","tool_call":{"shellToolCall":{"args":{"command":"ls"},"result":{"success":{"stdout":"a\nb"}}}}}
{"type":"tool_call","subtype":"completed","tool_call":{"readToolCall":{"result":{"error":{"message":"no such file"}}}}}"#;
    let wanted = "tool| shell  ls\nresult| a\n  b\nerror| no such file\n";
    assert_eq!(format_entries(&read(cursor.as_bytes())), wanted);
    let goose = r#"{"type":"message","message":{"id":"m1","role":"assistant","content":[{"type":"text","text":"I will "}]}}
{"type":"message","message":{"id":"m1","role":"assistant","content":[{"type":"text","text":"look."},{"type":"toolRequest","id":"t","toolCall":{"status":"success","value":{"name":"shell","arguments":{"command":"ls"}}}}]}}
{"type":"message","message":{"id":"m2","role":"user","content":[{"type":"toolResponse","id":"t","toolResult":{"status":"success","value":{"content":[{"type":"text","text":"a"}]}}}]}}
{"type":"complete","total_tokens":7}"#;
    let wanted = "agent| I will look.\ntool| shell  ls\nresult| a\nend| completed\n";
    assert_eq!(format_entries(&read(goose.as_bytes())), wanted);
}

#[test]
fn transcript_shortens_tool_calls_and_results_but_no_messages() {
    let many = (1..=100).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
    let event = |kind: &str, block: serde_json::Value| {
        serde_json::json!({"type": kind, "message": {"content": [block]}}).to_string()
    };
    let result = event("user", serde_json::json!({"type": "tool_result", "content": many}));
    let wanted = "result| 1\n  2\n  3\n  4\n  5\n  6\n  … 94 more lines\n";
    assert_eq!(format_entries(&read(result.as_bytes())), wanted);
    let message = event("assistant", serde_json::json!({"type": "text", "text": many}));
    assert_eq!(format_entries(&read(message.as_bytes())).lines().count(), 100);
    let edit = serde_json::json!({
        "type": "tool_use", "name": "Edit",
        "input": {"file_path": "a.js", "old_string": "x".repeat(500), "new_string": "y", "replace_all": false},
    });
    let shown = format_entries(&read(event("assistant", edit).as_bytes()));
    assert!(shown.starts_with("tool| Edit  a.js  (old_string=xxx"), "{shown}");
    assert!(shown.ends_with("x…, new_string=y)\n") && shown.len() < 140, "{shown}");
}

#[test]
fn transcript_keeps_text_and_shortens_unknown_json() {
    let text = "plain\n{\"no\": \n[1/3] step\n{\n  half of\n[git-harness: 7 bytes left out]\n  an object\n}\n{}x";
    assert_eq!(
        read(text.as_bytes()),
        vec![TranscriptEntry { kind: TranscriptKind::Plain, text: text.to_owned() }]
    );
    let unknown = "{\"type\":\"new\",\"a\":[1,2]}";
    assert_eq!(
        read(unknown.as_bytes()),
        vec![TranscriptEntry { kind: TranscriptKind::Other, text: unknown.to_owned() }]
    );
    let painted = "\x1b[1;31mred\x1b[0m \x1b]0;title\x07and 10%\r99%\r100%\r\nnext\r\n";
    assert_eq!(format_entries(&read(painted.as_bytes())), "text| 100%\n  next\n");
}

/// Joins consecutive entries of plain text. The pieces of a stream determine where such entries are
/// split.
fn joined(entries: Vec<TranscriptEntry>) -> Vec<TranscriptEntry> {
    let mut all: Vec<TranscriptEntry> = Vec::new();
    for entry in entries {
        match all.last_mut() {
            Some(last)
                if last.kind == TranscriptKind::Plain && entry.kind == TranscriptKind::Plain =>
            {
                last.text.push('\n');
                last.text.push_str(&entry.text);
            }
            Some(_) | None => all.push(entry),
        }
    }
    all
}

fn in_pieces(bytes: &[u8], size: usize) -> Vec<TranscriptEntry> {
    let mut reader = TranscriptReader::default();
    let mut entries: Vec<TranscriptEntry> =
        bytes.chunks(size).flat_map(|piece| reader.push(piece)).collect();
    entries.extend(reader.finish());
    joined(entries)
}

#[test]
fn transcript_is_independent_of_the_pieces_of_the_stream() {
    for (name, bytes) in captures() {
        for size in [1, 7, 4096] {
            assert_eq!(in_pieces(&bytes, size), read(&bytes), "{name} by {size}");
        }
    }
}

proptest! {
    #[test]
    fn transcript_of_random_bytes_is_independent_of_the_pieces(bytes in prop::collection::vec(any::<u8>(), 0..400), size in 1..50usize) {
        prop_assert_eq!(in_pieces(&bytes, size), read(&bytes));
    }

    #[test]
    fn transcript_of_damaged_captures_is_independent_of_the_pieces(
        number in any::<prop::sample::Index>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..40usize, "[\\[\\]{}\",:0-9a-z\n\\\\ ]{0,6}"), 0..6),
        size in 1..200usize,
    ) {
        let all = captures();
        let mut bytes = number.get(&all).1.clone();
        for (at, length, with) in cuts {
            let at = at.index(bytes.len() + 1);
            let end = bytes.len().min(at + length);
            bytes.splice(at..end, with.into_bytes());
        }
        prop_assert_eq!(in_pieces(&bytes, size), read(&bytes));
    }

    #[test]
    fn transcript_of_events_with_random_fields_does_not_panic(
        kind in prop::sample::select(KINDS),
        names in prop::collection::vec((prop::sample::select(NAMES), 0..6usize), 0..8),
    ) {
        let mut event = serde_json::json!({"type": kind});
        for (name, value) in names {
            event[name] = match value {
                0 => serde_json::json!(null),
                1 => serde_json::json!("text\u{1b}"),
                2 => serde_json::json!(-1),
                3 => serde_json::json!([{"type": "text", "text": 1}, 7, {"type": "tool_use"}]),
                4 => serde_json::json!({"content": {"a": "b"}, "type": "agent_message", "input_tokens": u64::MAX}),
                _ => serde_json::json!(u64::MAX),
            };
        }
        // The content of the transcript does not matter. There must be no panic.
        prop_assert!(read(event.to_string().as_bytes()).len() < 20);
    }
}

const KINDS: &[&str] = &[
    "system",
    "assistant",
    "user",
    "result",
    "rate_limit_event",
    "tool_call",
    "thinking",
    "turn.completed",
    "turn.failed",
    "error",
    "item.completed",
    "init",
    "message",
    "tool_use",
    "tool_result",
    "step_finish",
    "complete",
    "notification",
    "tool.execution_complete",
    "",
];

const NAMES: &[&str] = &[
    "message",
    "subtype",
    "part",
    "data",
    "item",
    "usage",
    "stats",
    "error",
    "content",
    "tool_call",
    "delta",
    "role",
    "result",
    "response",
    "modelUsage",
    "exitCode",
    "rate_limit_info",
    "permission_denials",
    "errors",
    "num_turns",
];
