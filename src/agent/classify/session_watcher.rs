//! Observation of a running session. Its output is progress, the final event, or a sign that the
//! session can no longer succeed.

use std::time::Duration;

use serde_json::Value;

use super::stream_content::ParsedLine;
use super::terminal_text::normalize;
use crate::agent::preset::pattern::any_matches;
use crate::agent::preset::{EventText, OutputFormat, Preset};
use crate::domain::session::Class;

/// The longest part of an incomplete line that is kept, in bytes.
const LONGEST_LINE: usize = 4 << 20;

/// An output stream of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The meaning of a piece of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputMeaning {
    /// No meaning, such as a blank line.
    Nothing,
    /// No progress, such as a retry.
    Noise,
    /// Progress.
    Progress,
    /// The final event. The process should exit now.
    Final,
    /// The session cannot succeed any more.
    Hopeless(Class),
}

impl OutputMeaning {
    /// Returns the meaning of two consecutive pieces of output. `is_work` is true if the later
    /// piece is work.
    fn followed_by(self, later: Self, is_work: bool) -> Self {
        if matches!(self, Self::Hopeless(_)) {
            return self;
        }
        match later {
            Self::Hopeless(_) | Self::Final => later,
            // Only work supersedes a final event. A notice does not.
            Self::Progress if self == Self::Final && !is_work => self,
            Self::Progress => later,
            Self::Noise if self == Self::Nothing => later,
            Self::Noise | Self::Nothing => self,
        }
    }
}

/// An observer of a session's output. The observer keeps only incomplete lines.
#[derive(Debug)]
pub(crate) struct SessionWatcher {
    preset: Preset,
    stdout: PartialLine,
    stderr: PartialLine,
    session: Option<String>,
    answered: bool,
    /// For each give-up rule, the number of matching events since the last progress.
    give_up_counts: Vec<u32>,
    pending_give_up: Option<(Duration, Class)>,
}

/// A line without its end.
#[derive(Debug, Default)]
struct PartialLine {
    bytes: Vec<u8>,
    too_long: bool,
}

impl PartialLine {
    /// Appends bytes. `completes` is true if the bytes end the line; the line is then returned.
    /// Bytes beyond `LONGEST_LINE` are dropped.
    fn append(&mut self, bytes: &[u8], completes: bool) -> Option<Vec<u8>> {
        let room = LONGEST_LINE.saturating_sub(self.bytes.len());
        self.too_long |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        completes.then(|| std::mem::take(&mut self.bytes))
    }
}

impl SessionWatcher {
    /// Creates a watcher for a new session.
    pub(crate) fn new(preset: &Preset) -> Self {
        Self {
            give_up_counts: vec![0; preset.watch.hopeless.len()],
            preset: preset.clone(),
            stdout: PartialLine::default(),
            stderr: PartialLine::default(),
            session: None,
            answered: false,
            pending_give_up: None,
        }
    }

    /// Observes output, and returns the combined meaning of all lines that the output completes.
    pub(crate) fn observe(&mut self, stream: SessionStream, bytes: &[u8]) -> OutputMeaning {
        if self.preset.output.format != OutputFormat::Jsonl {
            return self.observe_text(stream, bytes);
        }
        let mut combined = OutputMeaning::Nothing;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let completes = part.ends_with(b"\n");
            let partial = match stream {
                SessionStream::Stdout => &mut self.stdout,
                SessionStream::Stderr => &mut self.stderr,
            };
            let Some(line) = partial.append(part, completes) else { continue };
            let too_long = std::mem::take(&mut partial.too_long);
            let (meaning, is_work) = self.observe_line(stream, &line, too_long);
            combined = combined.followed_by(meaning, is_work);
        }
        combined
    }

    /// Returns the session's id, once reported.
    pub(crate) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Returns true if the service has answered. An answer proves that account and network work.
    pub(crate) fn answered(&self) -> bool {
        self.answered
    }

    /// Returns the time without progress after which the harness gives up on the session, and the
    /// class that the session then gets. The time starts at the last output.
    pub(crate) fn pending_give_up(&self) -> Option<(Duration, Class)> {
        self.pending_give_up
    }

    /// Observes output that is not a stream of events. Everything but known noise is progress.
    fn observe_text(&self, stream: SessionStream, bytes: &[u8]) -> OutputMeaning {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return OutputMeaning::Nothing;
        }
        if stream == SessionStream::Stderr && self.preset.output.format != OutputFormat::Text {
            return OutputMeaning::Noise;
        }
        let text = normalize(&String::from_utf8_lossy(bytes));
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        if lines.all(|line| self.is_noise_text(line)) {
            OutputMeaning::Noise
        } else {
            OutputMeaning::Progress
        }
    }

    fn is_noise_text(&self, text: &str) -> bool {
        self.preset.watch.noise_text.as_ref().is_some_and(|pattern| pattern.matches(text))
    }

    /// Returns the meaning of a line, and true if the line is work.
    fn observe_line(
        &mut self,
        stream: SessionStream,
        line: &[u8],
        too_long: bool,
    ) -> (OutputMeaning, bool) {
        if too_long {
            // Only events that carry the output of a tool are this long.
            self.reset_give_up();
            return (OutputMeaning::Progress, true);
        }
        let events = match serde_json::from_slice(line) {
            Ok(event @ Value::Object(_)) => vec![event],
            Ok(_) | Err(_) => {
                let parsed = ParsedLine::new(line);
                if parsed.events.is_empty() {
                    let is_blank = parsed.plain.trim().is_empty() && !parsed.unreadable;
                    return (self.meaning_of_text(stream, &parsed.plain, is_blank), false);
                }
                parsed.events
            }
        };
        let mut combined = (OutputMeaning::Nothing, false);
        for event in events {
            let is_work = any_matches(&self.preset.output.work, &event);
            let meaning = self.observe_event(&event, is_work);
            combined = (combined.0.followed_by(meaning, is_work), combined.1 || is_work);
        }
        combined
    }

    /// Returns the meaning of a line without an event.
    fn meaning_of_text(&self, stream: SessionStream, text: &str, is_blank: bool) -> OutputMeaning {
        match stream {
            SessionStream::Stdout if !is_blank => OutputMeaning::Noise,
            SessionStream::Stderr if self.is_noise_text(text) => OutputMeaning::Noise,
            SessionStream::Stdout | SessionStream::Stderr => OutputMeaning::Nothing,
        }
    }

    fn observe_event(&mut self, event: &Value, is_work: bool) -> OutputMeaning {
        let Preset { session, output, watch, .. } = &self.preset;
        if self.session.is_none() {
            let id = session.pointers.iter().find_map(|pointer| pointer.text(event));
            self.session = id.map(str::to_owned);
        }
        self.answered |=
            if watch.answer.is_empty() { is_work } else { any_matches(&watch.answer, event) };
        let is_progress = if watch.progress.is_empty() {
            is_work || !any_matches(&watch.noise, event)
        } else {
            any_matches(&watch.progress, event)
        };
        let is_final = any_matches(&output.final_events, event) && self.reports_result(event);
        if let Some(class) = self.hopeless_class(event) {
            OutputMeaning::Hopeless(class)
        } else if is_final {
            OutputMeaning::Final
        } else if is_progress {
            self.reset_give_up();
            OutputMeaning::Progress
        } else {
            OutputMeaning::Noise
        }
    }

    /// Returns true if a final event reports success or a known failure.
    fn reports_result(&self, event: &Value) -> bool {
        let Preset { output, said, errors, .. } = &self.preset;
        any_matches(&output.ok, event)
            || said.iter().any(|EventText { when, .. }| when.matches(event))
            || errors.iter().filter_map(|rule| rule.when.as_ref()).any(|when| when.matches(event))
    }

    /// Applies the give-up rules, and returns the session's class if the session is hopeless now.
    fn hopeless_class(&mut self, event: &Value) -> Option<Class> {
        for (rule, count) in self.preset.watch.hopeless.iter().zip(&mut self.give_up_counts) {
            if !rule.when.matches(event) {
                continue;
            }
            *count += 1;
            if *count < rule.times.unwrap_or(1) {
                continue;
            }
            let Some(after) = rule.after else {
                return Some(rule.class);
            };
            self.pending_give_up = Some((after.0, rule.class));
        }
        None
    }

    fn reset_give_up(&mut self) {
        self.pending_give_up = None;
        self.give_up_counts.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::classify::{Intervention, SessionExit, classify};
    use crate::agent::preset::builtin;
    use crate::domain::id::Timestamp;

    fn observe(watcher: &mut SessionWatcher, line: &str) -> OutputMeaning {
        watcher.observe(SessionStream::Stdout, format!("{line}\n").as_bytes())
    }

    #[test]
    fn watcher_gives_up_on_codex_waiting_for_a_quota_after_a_timeout() {
        let mut watcher = SessionWatcher::new(&builtin("codex").unwrap());
        let begun = r#"{"type":"thread.started","thread_id":"01a2"}"#;
        assert_eq!(observe(&mut watcher, begun), OutputMeaning::Progress);
        assert_eq!(watcher.session(), Some("01a2"));
        let again = r#"{"type":"error","message":"Reconnecting... 1/5 (exceeded retry limit, last status: 429 Too Many Requests)"}"#;
        assert_eq!(observe(&mut watcher, again), OutputMeaning::Noise);
        assert_eq!(watcher.pending_give_up(), Some((Duration::from_secs(20), Class::RateLimited)));
        let works = r#"{"type":"item.completed","item":{"id":"item_1","type":"agent_message","text":"Step 1."}}"#;
        assert_eq!(observe(&mut watcher, works), OutputMeaning::Progress);
        assert_eq!(watcher.pending_give_up(), None);
        assert_eq!(
            observe(&mut watcher, r#"{"type":"turn.completed","usage":{"input_tokens":1}}"#),
            OutputMeaning::Final
        );
    }

    #[test]
    fn watcher_gives_up_on_auth_failure_and_context_overflow_at_once() {
        let mut claude = SessionWatcher::new(&builtin("claude").unwrap());
        let retry = r#"{"type":"system","subtype":"api_retry","attempt":1,"error_status":401,"error":"authentication_failed"}"#;
        assert_eq!(observe(&mut claude, retry), OutputMeaning::Hopeless(Class::Auth));
        let mut opencode = SessionWatcher::new(&builtin("opencode").unwrap());
        let over = r#"{"type":"error","sessionID":"ses_1","error":{"name":"ContextOverflowError","data":{"message":"x"}}}"#;
        assert_eq!(observe(&mut opencode, over), OutputMeaning::Hopeless(Class::ContextExceeded));
        assert_eq!(opencode.session(), Some("ses_1"));
    }

    #[test]
    fn watcher_gives_up_on_claude_waiting_for_a_rate_limit_and_classify_knows_the_reset_time() {
        let line = |ms: u32| {
            format!(
                r#"{{"type":"system","subtype":"api_retry","attempt":1,"retry_delay_ms":{ms},"error_status":429,"error":"rate_limit","session_id":"s"}}"#
            )
        };
        let preset = builtin("claude").unwrap();
        assert_eq!(observe(&mut SessionWatcher::new(&preset), &line(509)), OutputMeaning::Noise);
        let limited = OutputMeaning::Hopeless(Class::RateLimited);
        assert_eq!(observe(&mut SessionWatcher::new(&preset), &line(20_000)), limited);
        let now = Timestamp(1_795_360_200_000);
        // The final event of an interrupted session.
        let aborted = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_streaming"}"#;
        let read = |intervention: Option<Intervention>| {
            let exit = SessionExit { code: Some(1), intervention, ..SessionExit::default() };
            let out = [line(20_000).as_str(), if intervention.is_some() { aborted } else { "" }]
                .join("\n");
            let report = classify(&preset, exit, out.as_bytes(), b"", None, Some(false), now);
            (report.class, report.resets_at)
        };
        let given_up = Intervention::GivenUp(Class::RateLimited);
        assert_eq!(read(Some(given_up)), (Class::RateLimited, Some(now.after_ms(20_000))));
        assert_eq!(read(None), (Class::RateLimited, None));
    }

    #[test]
    fn error_in_a_message_and_a_replayed_prompt_are_no_answer() {
        for (preset, line, answered) in [
            (
                "qwen",
                r#"{"type":"assistant","message":{"content":[{"type":"text","text":"[API Error: 401 x]"}]}}"#,
                false,
            ),
            (
                "qwen",
                r#"{"type":"assistant","message":{"content":[{"type":"text","text":"Step 1."}]}}"#,
                true,
            ),
            (
                "gemini",
                r#"{"type":"message","role":"assistant","content":"[API Error: 429]"}"#,
                false,
            ),
            (
                "claude",
                r#"{"type":"assistant","message":{"model":"<synthetic>","content":[{"type":"text","text":"x"}]}}"#,
                false,
            ),
            (
                "claude",
                r#"{"type":"user","isReplay":true,"message":{"content":"the prompt"}}"#,
                false,
            ),
            (
                "claude",
                r#"{"type":"user","message":{"content":[{"type":"tool_result","content":"x"}]}}"#,
                true,
            ),
            ("claude", "\u{1b}[2K{\"type\":\"assistant\",\"message\":{\"content\":[]}}", true),
        ] {
            let mut watcher = SessionWatcher::new(&builtin(preset).unwrap());
            observe(&mut watcher, line);
            assert_eq!(watcher.answered(), answered, "{preset} {line}");
        }
    }

    #[test]
    fn final_event_is_superseded_by_work_and_not_by_a_notice() {
        let mut watcher = SessionWatcher::new(&builtin("claude").unwrap());
        let end = r#"{"type":"result","subtype":"success","is_error":false,"result":"x"}"#;
        let notice = r#"{"type":"system","subtype":"task_notification"}"#;
        let work = r#"{"type":"assistant","message":{"content":[]}}"#;
        assert_eq!(observe(&mut watcher, &format!("{end}\n{notice}")), OutputMeaning::Final);
        assert_eq!(observe(&mut watcher, &format!("{end}\n{work}")), OutputMeaning::Progress);
        let step = r#"{"type":"step_finish","part":{"reason":"tool-calls"}}"#;
        assert_eq!(
            observe(&mut SessionWatcher::new(&builtin("opencode").unwrap()), step),
            OutputMeaning::Progress
        );
    }

    #[test]
    fn watcher_joins_partial_lines_and_drops_long_lines() {
        let mut watcher = SessionWatcher::new(&builtin("codex").unwrap());
        assert_eq!(
            watcher.observe(SessionStream::Stdout, b"{\"type\":\"turn.comp"),
            OutputMeaning::Nothing
        );
        assert_eq!(
            watcher.observe(SessionStream::Stdout, b"leted\",\"usage\":{}}\n"),
            OutputMeaning::Final
        );
        let piece = vec![b'x'; LONGEST_LINE];
        for _ in 0..3 {
            assert_eq!(watcher.observe(SessionStream::Stdout, &piece), OutputMeaning::Nothing);
            assert!(watcher.stdout.bytes.len() <= LONGEST_LINE);
        }
        assert_eq!(
            watcher.observe(SessionStream::Stdout, b"\n{\"type\":\"error\",\"message\":\"x\"}\n"),
            OutputMeaning::Progress
        );
        assert!(watcher.stdout.bytes.is_empty());
    }

    #[test]
    fn watcher_counts_text_as_progress_except_known_noise() {
        let mut any = SessionWatcher::new(&builtin("command").unwrap());
        assert_eq!(any.observe(SessionStream::Stderr, b"working"), OutputMeaning::Progress);
        assert_eq!(any.observe(SessionStream::Stdout, b"\n"), OutputMeaning::Nothing);
        let mut aider = SessionWatcher::new(&builtin("aider").unwrap());
        assert_eq!(
            aider.observe(SessionStream::Stdout, b"Retrying in 0.2 seconds...\n"),
            OutputMeaning::Noise
        );
        let mut gemini = SessionWatcher::new(&builtin("gemini").unwrap());
        assert_eq!(
            gemini
                .observe(SessionStream::Stderr, b"Attempt 1 failed: x. Retrying after 5705ms...\n"),
            OutputMeaning::Noise
        );
        assert_eq!(
            gemini.observe(SessionStream::Stderr, b"some warning\n"),
            OutputMeaning::Nothing
        );
    }
}
