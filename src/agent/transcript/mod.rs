//! Transcripts for people: the messages and actions of an agent, from the agent's output.
//!
//! Programs print JSON events in their own formats, plain text, or both. The recorded output may
//! begin and end in the middle of an event. Known events are rendered (`events`), unknown JSON is
//! shortened, and any other text is kept. The reader also accepts the partial output of a running
//! agent.

mod events;
mod shorten;
#[cfg(test)]
mod tests;

use serde_json::Value;

use events::EventContext;

/// The author or the kind of a transcript entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TranscriptKind {
    /// Information of the program, such as the id of the session.
    Note,
    /// A message to the agent.
    User,
    /// A message of the agent.
    Agent,
    /// A thought of the agent.
    Thought,
    /// A tool call with its arguments.
    Tool,
    /// The result of a tool call.
    Result,
    /// An error.
    Error,
    /// The end of the session, with its usage.
    End,
    /// Text outside of events.
    Plain,
    /// An unknown event.
    Other,
}

impl TranscriptKind {
    /// Returns the name for output.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::User => "user",
            Self::Agent => "agent",
            Self::Thought => "thought",
            Self::Tool => "tool",
            Self::Result => "result",
            Self::Error => "error",
            Self::End => "end",
            Self::Plain => "text",
            Self::Other => "other",
        }
    }
}

/// A message or an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TranscriptEntry {
    /// The author or the kind.
    pub kind: TranscriptKind,
    /// The text: one or more lines, without a final line end.
    pub text: String,
}

/// The largest JSON value, in bytes.
const LARGEST_JSON: usize = 16 << 20;

/// The largest JSON value, in lines.
const MOST_JSON_LINES: usize = 20_000;

/// An incremental reader of transcripts.
#[derive(Debug, Default)]
pub(crate) struct TranscriptReader {
    /// A line without its end.
    line: Vec<u8>,
    /// The lines read so far of a JSON value that spans several lines.
    partial_json: String,
    /// The number of lines in `partial_json`.
    lines: usize,
    context: EventContext,
}

impl TranscriptReader {
    /// Reads the next bytes, and returns the complete entries.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<TranscriptEntry> {
        let mut entries = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() > LARGEST_JSON {
                let line = std::mem::take(&mut self.line);
                self.read_line(&line, &mut entries);
            }
        }
        entries
    }

    /// Returns the incomplete entries at the end of the output.
    pub(crate) fn finish(mut self) -> Vec<TranscriptEntry> {
        let mut entries = Vec::new();
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.read_line(&line, &mut entries);
        }
        self.flush_partial_json(&mut entries);
        self.context.finish(&mut entries);
        entries
    }

    fn read_line(&mut self, line: &[u8], entries: &mut Vec<TranscriptEntry>) {
        let line = String::from_utf8_lossy(line);
        let line = line.strip_suffix('\n').unwrap_or(&line);
        if self.partial_json.is_empty() {
            self.read_line_outside_json(line, entries);
            return;
        }
        self.partial_json.push('\n');
        self.partial_json.push_str(line);
        self.lines += 1;
        // Like the opening bracket, the closing bracket is not indented.
        if line.starts_with(['}', ']']) {
            if let Ok(value) = serde_json::from_str(&self.partial_json) {
                self.partial_json.clear();
                self.read_value(&value, entries);
            } else {
                self.flush_partial_json(entries);
            }
        } else if self.partial_json.len() > LARGEST_JSON
            || self.lines > MOST_JSON_LINES
            || !may_continue_json(line)
        {
            self.flush_partial_json(entries);
        }
    }

    /// Reads a line that does not continue a JSON value.
    fn read_line_outside_json(&mut self, line: &str, entries: &mut Vec<TranscriptEntry>) {
        let trimmed = line.trim();
        if trimmed.starts_with(['{', '[']) {
            match serde_json::from_str::<Value>(trimmed) {
                Ok(value @ (Value::Object(_) | Value::Array(_))) => {
                    self.read_value(&value, entries);
                    return;
                }
                Ok(_) => {}
                Err(error) if error.is_eof() && matches!(line.trim_end(), "{" | "[") => {
                    line.trim_end().clone_into(&mut self.partial_json);
                    self.lines = 1;
                    return;
                }
                Err(_) => {}
            }
        }
        self.context.finish(entries);
        push_text(line, entries);
    }

    /// Adds the lines of an invalid JSON value as text.
    fn flush_partial_json(&mut self, entries: &mut Vec<TranscriptEntry>) {
        let json = std::mem::take(&mut self.partial_json);
        if !json.is_empty() {
            self.context.finish(entries);
            json.lines().for_each(|line| push_text(line, entries));
        }
    }

    fn read_value(&mut self, value: &Value, entries: &mut Vec<TranscriptEntry>) {
        if let Value::Array(values) = value
            && values.iter().any(Value::is_object)
        {
            values.iter().for_each(|value| self.read_value(value, entries));
            return;
        }
        if !events::render(value, &mut self.context, entries) {
            self.context.finish(entries);
            entries.push(TranscriptEntry {
                kind: TranscriptKind::Other,
                text: shorten::compact(value, 200),
            });
        }
    }
}

/// Returns true if a line may continue a JSON value. Such lines are indented.
fn may_continue_json(line: &str) -> bool {
    line.is_empty() || line.starts_with([' ', '\t'])
}

/// Adds a line of text. Consecutive lines form one entry.
fn push_text(line: &str, entries: &mut Vec<TranscriptEntry>) {
    let line = shorten::without_escapes(line);
    match entries.last_mut() {
        Some(TranscriptEntry { kind: TranscriptKind::Plain, text }) => {
            text.push('\n');
            text.push_str(&line);
        }
        Some(_) | None => {
            entries.push(TranscriptEntry { kind: TranscriptKind::Plain, text: line });
        }
    }
}

/// Reads a complete transcript.
pub(crate) fn read(bytes: &[u8]) -> Vec<TranscriptEntry> {
    let mut reader = TranscriptReader::default();
    let mut entries = reader.push(bytes);
    for entry in reader.finish() {
        match entries.last_mut() {
            Some(TranscriptEntry { kind: TranscriptKind::Plain, text })
                if entry.kind == TranscriptKind::Plain =>
            {
                text.push('\n');
                text.push_str(&entry.text);
            }
            Some(_) | None => entries.push(entry),
        }
    }
    entries
}
