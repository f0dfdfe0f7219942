//! What events mean. Which program wrote them is told by their shape: programs copy each other's forms, and one that is
//! not known may well speak a language that is.

mod claude;
mod codex;
mod others;

use std::collections::BTreeSet;

use serde_json::Value;

use super::shorten::{arguments, duration, first_lines, number, plain};
use super::{TranscriptEntry, TranscriptKind};

/// How many lines are shown of what a tool answered, of what was thought, of what was told, and of what went wrong.
const RESULT: usize = 6;
const THOUGHT: usize = 6;
const USER: usize = 12;
const ERROR: usize = 20;

/// What later events are told by.
#[derive(Debug, Default)]
pub(super) struct EventContext {
    /// What is said in pieces, so far, and the id of the message that they are of.
    said: String,
    message: String,
    /// What was said last: it is often said again at the end.
    last: String,
    /// Tools whose use has been told, by their ids.
    used: BTreeSet<String>,
    /// What steps used so far, where only steps say.
    spent: SessionUsage,
}

/// What a session used.
#[derive(Debug, Clone, Copy, Default)]
struct SessionUsage {
    input: u64,
    cached: u64,
    output: u64,
    cost: f64,
}

impl EventContext {
    /// Tells what was said in pieces.
    pub(super) fn finish(&mut self, out: &mut Vec<TranscriptEntry>) {
        let said = std::mem::take(&mut self.said);
        self.agent(&said, out);
    }

    fn agent(&mut self, text: &str, out: &mut Vec<TranscriptEntry>) {
        let text = plain(text);
        let text = text.trim();
        if !text.is_empty() {
            push(TranscriptKind::Agent, text.to_owned(), out);
            text.clone_into(&mut self.last);
        }
    }

    /// What is told as the result of a session, if it was not said before.
    fn conclusion(&mut self, kind: TranscriptKind, text: &str, out: &mut Vec<TranscriptEntry>) {
        let text = plain(text);
        if text.trim() != self.last {
            push(kind, first_lines(&text, 100), out);
            text.trim().clone_into(&mut self.last);
        }
    }
}

impl SessionUsage {
    fn words(self) -> Vec<String> {
        let mut words = Vec::new();
        for (n, what) in [(self.input, "in"), (self.cached, "cached"), (self.output, "out")] {
            if n > 0 {
                words.push(format!("{} {what}", number(n)));
            }
        }
        if self.cost > 0.0 {
            words.push(format!("${:.4}", self.cost));
        }
        words
    }
}

/// Tells an event. Whether it is one that is known.
pub(super) fn tell(
    event: &Value,
    memory: &mut EventContext,
    out: &mut Vec<TranscriptEntry>,
) -> bool {
    let kind = text(event, "/type");
    let in_pieces = matches!(kind, "message" | "assistant.message_delta");
    if !in_pieces {
        memory.finish(out);
    }
    claude::tell(kind, event, memory, out)
        || codex::tell(kind, event, memory, out)
        || others::tell(kind, event, memory, out)
}

/// A text in an event; empty if there is none.
fn text<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A count in an event.
fn count(event: &Value, pointer: &str) -> u64 {
    event.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

fn float(event: &Value, pointer: &str) -> f64 {
    event.pointer(pointer).and_then(Value::as_f64).unwrap_or_default()
}

fn list<'a>(event: &'a Value, pointer: &str) -> &'a [Value] {
    event.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Adds an entry, if there is anything to say.
fn push(kind: TranscriptKind, text: impl Into<String>, out: &mut Vec<TranscriptEntry>) {
    let text = text.into();
    if !text.trim().is_empty() {
        out.push(TranscriptEntry { kind, text });
    }
}

fn note(text: impl Into<String>, out: &mut Vec<TranscriptEntry>) {
    push(TranscriptKind::Note, text, out);
}

fn error(text: &str, out: &mut Vec<TranscriptEntry>) {
    push(TranscriptKind::Error, first_lines(text, ERROR), out);
}

fn tool(name: &str, told: &Value, out: &mut Vec<TranscriptEntry>) {
    push(TranscriptKind::Tool, format!("{name}  {}", arguments(told)).trim_end(), out);
}

/// What a tool answered; an answer without words is one too.
fn result(text: &str, failed: bool, out: &mut Vec<TranscriptEntry>) {
    let shown = first_lines(text, RESULT);
    let shown = if shown.trim().is_empty() { "(nothing)".to_owned() } else { shown };
    push(if failed { TranscriptKind::Error } else { TranscriptKind::Result }, shown, out);
}

/// The end of a session: how, and what it used.
fn end(how: &str, spent: SessionUsage, turns: u64, ms: u64, out: &mut Vec<TranscriptEntry>) {
    let mut words = Vec::new();
    match turns {
        0 => {}
        1 => words.push("1 turn".to_owned()),
        _ => words.push(format!("{turns} turns")),
    }
    if ms > 0 {
        words.push(duration(ms));
    }
    words.extend(spent.words());
    let words = words.join(", ");
    let gap = if words.is_empty() || how.is_empty() { "" } else { ": " };
    push(TranscriptKind::End, format!("{how}{gap}{words}"), out);
}

/// Text, or a list of blocks of which some are text.
fn all_text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => {
            let texts = blocks.iter().map(|block| {
                match (block.as_str(), text(block, "/text"), text(block, "/type")) {
                    (Some(text), _, _) => text.to_owned(),
                    (None, "", "" | "text") => String::new(),
                    (None, "", kind) => format!("[{kind}]"),
                    (None, text, _) => text.to_owned(),
                }
            });
            texts.collect::<Vec<_>>().join("\n")
        }
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}
