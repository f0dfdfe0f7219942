//! How a session ended, told from what it left: pure, by the rules of its preset.
//!
//! What is structured counts before words, and words before the exit code, which proves nothing on its own. A stream
//! that stops in the middle or holds what cannot be read is never good, whatever else it says.

#[cfg(test)]
mod capture_tests;
#[cfg(test)]
mod crafted_tests;
mod error_rules;
mod evidence;
mod reset_time;
mod session_watcher;
mod stream_content;
mod usage;

pub(crate) use session_watcher::{OutputMeaning, SessionStream, SessionWatcher};

use super::preset::{OutputFormat, Preset};
use crate::domain::id::Timestamp;
use crate::domain::session::{Class, SessionReport};
use evidence::SessionEvidence;
use stream_content::StreamContent;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SessionExit {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What we did to it.
    pub ours: Option<Intervention>,
}

/// What we did to end a process. Its exit code means nothing then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intervention {
    /// It ran for too long.
    TimedOut,
    /// It made no progress for too long.
    Idle,
    /// Somebody asked for it.
    Stopped,
    /// Nothing could come of it any more, for this reason; what it printed when it was stopped is about that alone.
    GivenUp(Class),
    /// It had said its last word and did not go.
    Lingered,
}

/// The last message of a session that ended well, as its program's preset says where that is.
pub(crate) fn final_message(
    preset: &Preset,
    ended: SessionExit,
    stdout: &[u8],
    last_message: Option<&[u8]>,
) -> Option<String> {
    let structured = preset.output.format != OutputFormat::Text;
    let out = if structured { stream_content::read(stdout) } else { StreamContent::text(stdout) };
    let last_message = last_message.map(String::from_utf8_lossy);
    let err = StreamContent::text(&[]);
    let case = SessionEvidence {
        preset,
        ended,
        out: &out,
        err: &err,
        last_message: last_message.as_deref(),
        changed: None,
    };
    case.said()
}

/// Reads what a session left. `last_message` is the file in which the program leaves its last message; `changed` says
/// whether the worktree changed, where that is known; `now` is when it ended, for limits that lift at a time of day.
/// A time of day without a zone is read in UTC. What was printed may have been cut in the middle, as keepers do.
pub(crate) fn classify(
    preset: &Preset,
    ended: SessionExit,
    stdout: &[u8],
    stderr: &[u8],
    last_message: Option<&[u8]>,
    changed: Option<bool>,
    now: Timestamp,
) -> SessionReport {
    let structured = preset.output.format != OutputFormat::Text;
    let out = if structured { stream_content::read(stdout) } else { StreamContent::text(stdout) };
    let err = if structured { stream_content::read(stderr) } else { StreamContent::text(stderr) };
    let last_message = last_message.map(String::from_utf8_lossy);
    let case = SessionEvidence {
        preset,
        ended,
        out: &out,
        err: &err,
        last_message: last_message.as_deref(),
        changed,
    };
    let verdict = case.verdict();
    let every: Vec<_> = out.events.iter().chain(&err.events).collect();
    let session = every
        .iter()
        .find_map(|event| preset.session.pointers.iter().find_map(|pointer| pointer.text(event)));
    let lifts = matches!(verdict.class, Class::RateLimited | Class::Overloaded);
    let stopped = matches!(ended.ours, Some(Intervention::GivenUp(_)));
    let told = || reset_time::find(preset, &every, &verdict.words, stopped, now);
    let used = usage::read(preset, &out);
    SessionReport {
        class: verdict.class,
        detail: verdict.detail,
        session: session.map(str::to_owned),
        usage: used.usage,
        cumulative: used.cumulative,
        resets_at: lifts.then(told).flatten(),
        denials: case.denials(),
    }
}
