//! Classification of sessions from their output and exit status, by the rules of a preset.
//!
//! Structured events take precedence over texts, and texts take precedence over the exit code. An
//! exit code proves nothing on its own. A stream that stops in the middle is never a success. An
//! unreadable line does not affect the other lines.

#[cfg(test)]
mod capture_tests;
#[cfg(test)]
mod crafted_tests;
mod error_rules;
mod evidence;
mod json_error;
#[cfg(test)]
mod output_tests;
mod progress;
mod reset_time;
mod session_watcher;
mod stream_content;
mod terminal_text;
mod usage;
mod zone;

pub(crate) use session_watcher::{OutputMeaning, SessionStream, SessionWatcher};
pub(crate) use terminal_text::last_lines;

use super::preset::{OutputFormat, Preset};
use crate::domain::id::Timestamp;
use crate::domain::session::{Class, SessionReport};
use evidence::SessionEvidence;
use stream_content::StreamContent;

/// The end of a session's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SessionExit {
    /// The exit code; `None` if a signal ended the process.
    pub code: Option<i32>,
    /// The signal that ended the process.
    pub signal: Option<i32>,
    /// The harness's reason for ending the process.
    pub intervention: Option<Intervention>,
}

/// The harness's reason for ending a session. The exit code of such a session is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intervention {
    /// The session reached its timeout.
    TimedOut,
    /// The session made no progress for too long.
    Idle,
    /// The user or the supervisor stopped the session.
    Stopped,
    /// The session could not succeed any more; the class names the reason. The last output is about
    /// the interruption.
    GivenUp(Class),
    /// The process did not exit after the final event.
    Lingered,
}

/// Returns the final message of a successful session.
pub(crate) fn final_message(
    preset: &Preset,
    exit: SessionExit,
    stdout: &[u8],
    last_message: Option<&[u8]>,
) -> Option<String> {
    let last_message = last_message.map(String::from_utf8_lossy);
    let evidence = SessionEvidence {
        preset,
        exit,
        stdout: &stream_content(preset, stdout),
        stderr: &StreamContent::default(),
        last_message: last_message.as_deref(),
        changed: None,
    };
    evidence.final_message()
}

/// Classifies a session.
///
/// `last_message` is the content of the file into which the program writes its last message.
/// `changed` is true if the worktree changed, false if not, and `None` if unknown. `now` is the
/// time of the session's end. A reset time that is only a time of day means its next occurrence
/// after `now`, in UTC unless a zone is named. The keeper may have cut out the middle of a stream.
pub(crate) fn classify(
    preset: &Preset,
    exit: SessionExit,
    stdout: &[u8],
    stderr: &[u8],
    last_message: Option<&[u8]>,
    changed: Option<bool>,
    now: Timestamp,
) -> SessionReport {
    let stdout = stream_content(preset, stdout);
    let stderr = stream_content(preset, stderr);
    let last_message = last_message.map(String::from_utf8_lossy);
    let evidence = SessionEvidence {
        preset,
        exit,
        stdout: &stdout,
        stderr: &stderr,
        last_message: last_message.as_deref(),
        changed,
    };
    let classification = evidence.classify();
    let events: Vec<_> = stdout.events.iter().chain(&stderr.events).collect();
    let session = events
        .iter()
        .find_map(|event| preset.session.pointers.iter().find_map(|pointer| pointer.text(event)));
    let has_reset_time = matches!(classification.class, Class::RateLimited | Class::Overloaded);
    let given_up = matches!(exit.intervention, Some(Intervention::GivenUp(_)));
    let reset_time = || {
        let events = evidence.events_after_work();
        reset_time::find(preset, &events, &classification.texts, given_up, now)
    };
    let resets_at = has_reset_time.then(reset_time).flatten();
    let limited_model = (classification.class == Class::RateLimited)
        .then(|| evidence.limited_model(&classification.texts))
        .flatten();
    let report = usage::read(preset, &stdout);
    let progress = evidence.progress(&classification);
    SessionReport {
        class: classification.class,
        detail: classification.detail,
        session: session.map(str::to_owned),
        usage: report.usage,
        cumulative: report.cumulative,
        resets_at,
        limited_model,
        denials: evidence.denials(),
        progress,
    }
}

/// Parses a stream in the output format of the preset.
fn stream_content(preset: &Preset, bytes: &[u8]) -> StreamContent {
    match preset.output.format {
        OutputFormat::Text => StreamContent::from_text(bytes),
        OutputFormat::Json | OutputFormat::Jsonl | OutputFormat::JsonArray => {
            StreamContent::from_events(bytes)
        }
    }
}
