//! Rendering of events. The form of an event selects the renderer, not the program: programs copy
//! each other's formats, so an unknown program may print known events.

mod claude;
mod codex;
mod others;

use std::collections::BTreeSet;

use serde_json::Value;

use super::shorten::{arguments, duration, first_lines, number, without_escapes};
use super::{TranscriptEntry, TranscriptKind};

/// The number of lines of a tool's result that are shown.
const RESULT_LINES: usize = 6;
/// The number of lines of a thought that are shown.
const THOUGHT_LINES: usize = 6;
/// The number of lines of a message to the agent that are shown.
const USER_LINES: usize = 12;
/// The number of lines of an error that are shown.
const ERROR_LINES: usize = 20;

/// The state that later events of a session need from its earlier events.
#[derive(Debug, Default)]
pub(super) struct EventContext {
    /// The pieces of an incomplete message.
    partial_message: String,
    /// The id of the incomplete message.
    message_id: String,
    /// The last message. The final event often repeats this message.
    last_message: String,
    /// The ids of rendered tool calls.
    rendered_calls: BTreeSet<String>,
    /// The sum of the steps' usage.
    usage: SessionUsage,
}

/// The usage of a session.
#[derive(Debug, Clone, Copy, Default)]
struct SessionUsage {
    input: u64,
    cached: u64,
    output: u64,
    cost: f64,
}

impl EventContext {
    /// Completes a message that came in pieces.
    pub(super) fn finish(&mut self, entries: &mut Vec<TranscriptEntry>) {
        let message = std::mem::take(&mut self.partial_message);
        self.push_message(&message, entries);
    }

    /// Adds a message of the agent.
    fn push_message(&mut self, text: &str, entries: &mut Vec<TranscriptEntry>) {
        let text = without_escapes(text);
        let text = text.trim();
        if !text.is_empty() {
            push(TranscriptKind::Agent, text.to_owned(), entries);
            text.clone_into(&mut self.last_message);
        }
    }

    /// Adds the result of a session, unless the last message was the same.
    fn push_result(
        &mut self,
        kind: TranscriptKind,
        text: &str,
        entries: &mut Vec<TranscriptEntry>,
    ) {
        let text = without_escapes(text);
        if text.trim() != self.last_message {
            push(kind, first_lines(&text, 100), entries);
            text.trim().clone_into(&mut self.last_message);
        }
    }
}

impl SessionUsage {
    fn describe(self) -> Vec<String> {
        let mut parts = Vec::new();
        for (count, kind) in [(self.input, "in"), (self.cached, "cached"), (self.output, "out")] {
            if count > 0 {
                parts.push(format!("{} {kind}", number(count)));
            }
        }
        if self.cost > 0.0 {
            parts.push(format!("${:.4}", self.cost));
        }
        parts
    }
}

/// Renders an event. Returns false for an unknown event.
pub(super) fn render(
    event: &Value,
    context: &mut EventContext,
    entries: &mut Vec<TranscriptEntry>,
) -> bool {
    let kind = text(event, "/type");
    let is_partial = matches!(kind, "message" | "assistant.message_delta");
    if !is_partial {
        context.finish(entries);
    }
    claude::render(kind, event, context, entries)
        || codex::render(kind, event, context, entries)
        || others::render(kind, event, context, entries)
}

/// Returns the text at a pointer, or an empty text.
fn text<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the count at a pointer, or zero.
fn count(event: &Value, pointer: &str) -> u64 {
    event.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

fn float(event: &Value, pointer: &str) -> f64 {
    event.pointer(pointer).and_then(Value::as_f64).unwrap_or_default()
}

fn list<'a>(event: &'a Value, pointer: &str) -> &'a [Value] {
    event.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Adds an entry, unless its text is blank.
fn push(kind: TranscriptKind, text: impl Into<String>, entries: &mut Vec<TranscriptEntry>) {
    let text = text.into();
    if !text.trim().is_empty() {
        entries.push(TranscriptEntry { kind, text });
    }
}

fn note(text: impl Into<String>, entries: &mut Vec<TranscriptEntry>) {
    push(TranscriptKind::Note, text, entries);
}

fn error(text: &str, entries: &mut Vec<TranscriptEntry>) {
    push(TranscriptKind::Error, first_lines(text, ERROR_LINES), entries);
}

fn tool(name: &str, input: &Value, entries: &mut Vec<TranscriptEntry>) {
    push(TranscriptKind::Tool, format!("{name}  {}", arguments(input)).trim_end(), entries);
}

/// Adds the result of a tool call, even if the result is empty.
fn result(text: &str, failed: bool, entries: &mut Vec<TranscriptEntry>) {
    let shown = first_lines(text, RESULT_LINES);
    let shown = if shown.trim().is_empty() { "(nothing)".to_owned() } else { shown };
    push(if failed { TranscriptKind::Error } else { TranscriptKind::Result }, shown, entries);
}

/// Adds the end of a session with its usage.
fn end(how: &str, usage: SessionUsage, turns: u64, ms: u64, entries: &mut Vec<TranscriptEntry>) {
    let mut parts = Vec::new();
    match turns {
        0 => {}
        1 => parts.push("1 turn".to_owned()),
        _ => parts.push(format!("{turns} turns")),
    }
    if ms > 0 {
        parts.push(duration(ms));
    }
    parts.extend(usage.describe());
    let details = parts.join(", ");
    let separator = if details.is_empty() || how.is_empty() { "" } else { ": " };
    push(TranscriptKind::End, format!("{how}{separator}{details}"), entries);
}

/// Returns a text, or the texts in a list of blocks.
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
