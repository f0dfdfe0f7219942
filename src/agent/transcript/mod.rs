//! Transcripts for people: what an agent printed, as who said and did what.
//!
//! Agents print events as JSON, each in its own terms, or plain text, or both mixed; and what is kept may begin or end
//! anywhere. So nothing is expected: what is known is told (`events`), JSON that is not known is shown shortened, and
//! the rest is shown as it is. It works while the agent runs, with what has been printed so far.

mod events;
mod shorten;
#[cfg(test)]
mod tests;

use serde_json::Value;

use events::EventContext;

/// Who said or did something, or what kind of thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TranscriptKind {
    /// The program about itself, such as the id of its session.
    Note,
    /// What the agent was told.
    User,
    /// What it said.
    Agent,
    /// What it thought.
    Thought,
    /// A tool it used, with what it told the tool.
    Tool,
    /// What the tool answered.
    Result,
    /// Something that went wrong.
    Error,
    /// How the session ended, and what it used.
    End,
    /// Text that is no event.
    Plain,
    /// An event that is not known.
    Other,
}

impl TranscriptKind {
    /// The word for it, in front of lines and in JSON.
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

/// One thing that was said or done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TranscriptEntry {
    /// By whom.
    pub kind: TranscriptKind,
    /// In words; several lines perhaps, without the last line's end.
    pub text: String,
}

/// The longest line, and the largest object over several lines, that is still taken for JSON.
const LARGEST: usize = 16 << 20;

/// Over how many lines an object may go.
const LINES: usize = 20_000;

/// Reads a transcript as it comes.
#[derive(Debug, Default)]
pub(crate) struct TranscriptReader {
    /// A line whose end has not come.
    line: Vec<u8>,
    /// An object that goes over several lines, so far, and over how many.
    object: String,
    lines: usize,
    memory: EventContext,
}

impl TranscriptReader {
    /// Takes the next bytes, in whatever pieces they come. Gives what is complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<TranscriptEntry> {
        let mut entries = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() > LARGEST {
                let line = std::mem::take(&mut self.line);
                self.take(&line, &mut entries);
            }
        }
        entries
    }

    /// Nothing more comes: gives what was not complete.
    pub(crate) fn finish(mut self) -> Vec<TranscriptEntry> {
        let mut entries = Vec::new();
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take(&line, &mut entries);
        }
        self.give_up(&mut entries);
        self.memory.finish(&mut entries);
        entries
    }

    fn take(&mut self, line: &[u8], entries: &mut Vec<TranscriptEntry>) {
        let line = String::from_utf8_lossy(line);
        let line = line.strip_suffix('\n').unwrap_or(&line);
        if self.object.is_empty() {
            self.begin(line, entries);
            return;
        }
        self.object.push('\n');
        self.object.push_str(line);
        self.lines += 1;
        // It can be complete only where it is closed as it was opened: at the beginning of a line.
        if line.starts_with(['}', ']']) {
            if let Ok(value) = serde_json::from_str(&self.object) {
                self.object.clear();
                self.value(&value, entries);
            } else {
                self.give_up(entries);
            }
        } else if self.object.len() > LARGEST || self.lines > LINES || !may_go_on(line) {
            self.give_up(entries);
        }
    }

    /// A line that is not within an object.
    fn begin(&mut self, line: &str, entries: &mut Vec<TranscriptEntry>) {
        let trimmed = line.trim();
        if trimmed.starts_with(['{', '[']) {
            match serde_json::from_str::<Value>(trimmed) {
                Ok(value @ (Value::Object(_) | Value::Array(_))) => {
                    self.value(&value, entries);
                    return;
                }
                Ok(_) => {}
                Err(error) if error.is_eof() && matches!(line.trim_end(), "{" | "[") => {
                    line.trim_end().clone_into(&mut self.object);
                    self.lines = 1;
                    return;
                }
                Err(_) => {}
            }
        }
        self.memory.finish(entries);
        plain(line, entries);
    }

    /// What looked like an object is none: shows its lines as they are.
    fn give_up(&mut self, entries: &mut Vec<TranscriptEntry>) {
        let object = std::mem::take(&mut self.object);
        if !object.is_empty() {
            self.memory.finish(entries);
            object.lines().for_each(|line| plain(line, entries));
        }
    }

    fn value(&mut self, value: &Value, entries: &mut Vec<TranscriptEntry>) {
        if let Value::Array(values) = value
            && values.iter().any(Value::is_object)
        {
            values.iter().for_each(|value| self.value(value, entries));
            return;
        }
        if !events::tell(value, &mut self.memory, entries) {
            self.memory.finish(entries);
            entries.push(TranscriptEntry {
                kind: TranscriptKind::Other,
                text: shorten::compact(value, 200),
            });
        }
    }
}

/// Whether a line may stand within an object that goes over several lines. Lines of such an object are indented.
fn may_go_on(line: &str) -> bool {
    line.is_empty() || line.starts_with([' ', '\t'])
}

/// A line of text; lines that follow each other are one entry.
fn plain(line: &str, entries: &mut Vec<TranscriptEntry>) {
    let line = shorten::plain(line);
    match entries.last_mut() {
        Some(TranscriptEntry { kind: TranscriptKind::Plain, text }) => {
            text.push('\n');
            text.push_str(&line);
        }
        Some(_) | None => entries.push(TranscriptEntry { kind: TranscriptKind::Plain, text: line }),
    }
}

/// Reads a whole transcript.
pub(crate) fn read(bytes: &[u8]) -> Vec<TranscriptEntry> {
    let mut reader = TranscriptReader::default();
    let mut entries = reader.push(bytes);
    for entry in reader.finish() {
        match (entries.last_mut(), entry) {
            (
                Some(TranscriptEntry { kind: TranscriptKind::Plain, text }),
                TranscriptEntry { kind: TranscriptKind::Plain, text: more },
            ) => {
                text.push('\n');
                text.push_str(&more);
            }
            (_, entry) => entries.push(entry),
        }
    }
    entries
}
