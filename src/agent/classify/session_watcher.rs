//! Listening to a session while it runs: is there progress, is it over, is it hopeless?

use std::time::Duration;

use serde_json::Value;

use super::stream_content::words;
use crate::agent::preset::{EventText, OutputFormat, Preset, pattern::any_matches};
use crate::domain::session::Class;

/// The longest line of which everything is kept.
const LONGEST_LINE: usize = 4 << 20;

/// On which stream something was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputMeaning {
    /// Nothing that means anything.
    Nothing,
    /// It tries again: no progress.
    Noise,
    /// It works.
    Progress,
    /// Its last event: it should end now.
    Final,
    /// Nothing will come of it any more.
    Hopeless(Class),
}

/// Listens to one session. Of what was heard, only the line that is not complete yet is kept.
#[derive(Debug)]
pub(crate) struct SessionWatcher {
    preset: Preset,
    stdout: PartialLine,
    stderr: PartialLine,
    session: Option<String>,
    answered: bool,
    /// How often each rule of hopelessness has fitted since the last progress.
    times: Vec<u32>,
    patience: Option<(Duration, Class)>,
}

/// A line of which the end has not been heard.
#[derive(Debug, Default)]
struct PartialLine {
    bytes: Vec<u8>,
    too_long: bool,
}

impl PartialLine {
    /// Takes what comes up to the end of a line; the line when it is complete.
    fn take(&mut self, bytes: &[u8], complete: bool) -> Option<Vec<u8>> {
        let room = LONGEST_LINE.saturating_sub(self.bytes.len());
        self.too_long |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        complete.then(|| std::mem::take(&mut self.bytes))
    }
}

impl SessionWatcher {
    /// Nothing has been heard yet.
    pub(crate) fn new(preset: &Preset) -> Self {
        Self {
            times: vec![0; preset.watch.hopeless.len()],
            preset: preset.clone(),
            stdout: PartialLine::default(),
            stderr: PartialLine::default(),
            session: None,
            answered: false,
            patience: None,
        }
    }

    /// Hears some bytes: what the complete lines in them mean together.
    pub(crate) fn hear(&mut self, from: SessionStream, bytes: &[u8]) -> OutputMeaning {
        if self.preset.output.format != OutputFormat::Jsonl {
            return self.hear_text(from, bytes);
        }
        let mut pulse = OutputMeaning::Nothing;
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            let complete = part.ends_with(b"\n");
            let line = match from {
                SessionStream::Stdout => &mut self.stdout,
                SessionStream::Stderr => &mut self.stderr,
            };
            let Some(whole) = line.take(part, complete) else { continue };
            let too_long = std::mem::take(&mut line.too_long);
            let (heard, works) = self.line(from, &whole, too_long);
            pulse = match (pulse, heard) {
                (OutputMeaning::Hopeless(class), _) | (_, OutputMeaning::Hopeless(class)) => {
                    OutputMeaning::Hopeless(class)
                }
                // A notice behind the end does not take it back; work does.
                (OutputMeaning::Final, OutputMeaning::Progress) if !works => OutputMeaning::Final,
                (_, OutputMeaning::Final) => OutputMeaning::Final,
                (_, OutputMeaning::Progress) => OutputMeaning::Progress,
                (OutputMeaning::Nothing, OutputMeaning::Noise) => OutputMeaning::Noise,
                (earlier, OutputMeaning::Nothing | OutputMeaning::Noise) => earlier,
            };
        }
        pulse
    }

    /// The session's name, once it was told.
    pub(crate) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Whether the service has answered: then account and network are good.
    pub(crate) fn answered(&self) -> bool {
        self.answered
    }

    /// How long to go on listening if nothing but noise is heard, counted from what was heard last, and how the
    /// session has ended if so.
    pub(crate) fn patience(&self) -> Option<(Duration, Class)> {
        self.patience
    }

    /// Where output is no stream of events, all of it is progress, but lines that are known not to be.
    fn hear_text(&self, from: SessionStream, bytes: &[u8]) -> OutputMeaning {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return OutputMeaning::Nothing;
        }
        if from == SessionStream::Stderr && self.preset.output.format != OutputFormat::Text {
            return OutputMeaning::Noise;
        }
        let text = words(&String::from_utf8_lossy(bytes));
        let noise = self.preset.watch.noise_text.as_ref();
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        if lines.all(|line| noise.is_some_and(|noise| noise.matches(line))) {
            OutputMeaning::Noise
        } else {
            OutputMeaning::Progress
        }
    }

    /// One line, and whether it is work.
    fn line(&mut self, from: SessionStream, line: &[u8], too_long: bool) -> (OutputMeaning, bool) {
        if too_long {
            // Only what tools print is so long.
            self.progress();
            return (OutputMeaning::Progress, true);
        }
        let Some(event @ Value::Object(_)) = serde_json::from_slice(line).ok() else {
            let text = words(&String::from_utf8_lossy(line));
            let noise = self.preset.watch.noise_text.as_ref();
            let noisy = noise.is_some_and(|noise| noise.matches(&text));
            return match (from, text.trim().is_empty()) {
                (_, true) => (OutputMeaning::Nothing, false),
                (SessionStream::Stderr, false) if noisy => (OutputMeaning::Noise, false),
                (SessionStream::Stderr, false) => (OutputMeaning::Nothing, false),
                (SessionStream::Stdout, false) => (OutputMeaning::Noise, false),
            };
        };
        self.event(&event)
    }

    fn event(&mut self, event: &Value) -> (OutputMeaning, bool) {
        let pointers = &self.preset.session.pointers;
        if self.session.is_none() {
            self.session =
                pointers.iter().find_map(|pointer| pointer.text(event)).map(str::to_owned);
        }
        let works = any_matches(&self.preset.output.work, event);
        let answer = &self.preset.watch.answer;
        self.answered |= if answer.is_empty() { works } else { any_matches(answer, event) };
        if let Some(pulse) = self.hopeless(event) {
            return (pulse, works);
        }
        if any_matches(&self.preset.output.end, event) && self.ends(event) {
            return (OutputMeaning::Final, works);
        }
        let watch = &self.preset.watch;
        let progress = if watch.progress.is_empty() {
            works || !any_matches(&watch.noise, event)
        } else {
            any_matches(&watch.progress, event)
        };
        if progress {
            self.progress();
            return (OutputMeaning::Progress, works);
        }
        (OutputMeaning::Noise, works)
    }

    /// Whether an event that looks like an end says how it ended.
    fn ends(&self, event: &Value) -> bool {
        let Preset { output, said, errors, .. } = &self.preset;
        any_matches(&output.ok, event)
            || said.iter().any(|EventText { when, .. }| when.matches(event))
            || errors.iter().filter_map(|rule| rule.when.as_ref()).any(|when| when.matches(event))
    }

    fn hopeless(&mut self, event: &Value) -> Option<OutputMeaning> {
        for (rule, times) in self.preset.watch.hopeless.iter().zip(&mut self.times) {
            if !rule.when.matches(event) {
                continue;
            }
            *times += 1;
            if *times < rule.times.unwrap_or(1) {
                continue;
            }
            let Some(after) = rule.after else {
                return Some(OutputMeaning::Hopeless(rule.class));
            };
            self.patience = Some((after.0, rule.class));
        }
        None
    }

    fn progress(&mut self) {
        self.patience = None;
        self.times.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::classify::{Intervention, SessionExit, classify};
    use crate::agent::preset::builtin;
    use crate::domain::id::Timestamp;

    fn hear(watcher: &mut SessionWatcher, line: &str) -> OutputMeaning {
        watcher.hear(SessionStream::Stdout, format!("{line}\n").as_bytes())
    }

    #[test]
    fn a_codex_that_waits_for_a_quota_is_given_up_after_a_while() {
        let mut watcher = SessionWatcher::new(&builtin("codex").unwrap());
        let begun = r#"{"type":"thread.started","thread_id":"01a2"}"#;
        assert_eq!(hear(&mut watcher, begun), OutputMeaning::Progress);
        assert_eq!(watcher.session(), Some("01a2"));
        let again = r#"{"type":"error","message":"Reconnecting... 1/5 (exceeded retry limit, last status: 429 Too Many Requests)"}"#;
        assert_eq!(hear(&mut watcher, again), OutputMeaning::Noise);
        assert_eq!(watcher.patience(), Some((Duration::from_secs(20), Class::RateLimited)));
        let works = r#"{"type":"item.completed","item":{"id":"item_1","type":"agent_message","text":"Step 1."}}"#;
        assert_eq!(hear(&mut watcher, works), OutputMeaning::Progress);
        assert_eq!(watcher.patience(), None);
        assert_eq!(
            hear(&mut watcher, r#"{"type":"turn.completed","usage":{"input_tokens":1}}"#),
            OutputMeaning::Final
        );
    }

    #[test]
    fn a_wrong_key_and_a_loop_are_hopeless_at_once() {
        let mut claude = SessionWatcher::new(&builtin("claude").unwrap());
        let retry = r#"{"type":"system","subtype":"api_retry","attempt":1,"error_status":401,"error":"authentication_failed"}"#;
        assert_eq!(hear(&mut claude, retry), OutputMeaning::Hopeless(Class::Auth));
        let mut opencode = SessionWatcher::new(&builtin("opencode").unwrap());
        let over = r#"{"type":"error","sessionID":"ses_1","error":{"name":"ContextOverflowError","data":{"message":"x"}}}"#;
        assert_eq!(hear(&mut opencode, over), OutputMeaning::Hopeless(Class::ContextExceeded));
        assert_eq!(opencode.session(), Some("ses_1"));
    }

    #[test]
    fn a_claude_that_would_wait_out_a_limit_is_stopped_and_the_limit_known() {
        let line = |ms: u32| {
            format!(
                r#"{{"type":"system","subtype":"api_retry","attempt":1,"retry_delay_ms":{ms},"error_status":429,"error":"rate_limit","session_id":"s"}}"#
            )
        };
        let preset = builtin("claude").unwrap();
        assert_eq!(hear(&mut SessionWatcher::new(&preset), &line(509)), OutputMeaning::Noise);
        let limited = OutputMeaning::Hopeless(Class::RateLimited);
        assert_eq!(hear(&mut SessionWatcher::new(&preset), &line(20_000)), limited);
        let now = Timestamp(1_795_360_200_000);
        // What it prints when it is interrupted.
        let aborted = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_streaming"}"#;
        let read = |ours: Option<Intervention>| {
            let ended = SessionExit { code: Some(1), ours, ..SessionExit::default() };
            let out = [line(20_000).as_str(), if ours.is_some() { aborted } else { "" }].join("\n");
            let reading = classify(&preset, ended, out.as_bytes(), b"", None, Some(false), now);
            (reading.class, reading.resets_at)
        };
        let given_up = Intervention::GivenUp(Class::RateLimited);
        assert_eq!(read(Some(given_up)), (Class::RateLimited, Some(now.after_ms(20_000))));
        assert_eq!(read(None), (Class::RateLimited, None));
    }

    #[test]
    fn an_end_stands_until_work_goes_on() {
        let mut watcher = SessionWatcher::new(&builtin("claude").unwrap());
        let end = r#"{"type":"result","subtype":"success","is_error":false,"result":"x"}"#;
        let notice = r#"{"type":"system","subtype":"task_notification"}"#;
        let work = r#"{"type":"assistant","message":{"content":[]}}"#;
        assert_eq!(hear(&mut watcher, &format!("{end}\n{notice}")), OutputMeaning::Final);
        assert_eq!(hear(&mut watcher, &format!("{end}\n{work}")), OutputMeaning::Progress);
        let step = r#"{"type":"step_finish","part":{"reason":"tool-calls"}}"#;
        assert_eq!(
            hear(&mut SessionWatcher::new(&builtin("opencode").unwrap()), step),
            OutputMeaning::Progress
        );
    }

    #[test]
    fn lines_come_in_pieces_and_long_ones_are_not_kept() {
        let mut watcher = SessionWatcher::new(&builtin("codex").unwrap());
        assert_eq!(
            watcher.hear(SessionStream::Stdout, b"{\"type\":\"turn.comp"),
            OutputMeaning::Nothing
        );
        assert_eq!(
            watcher.hear(SessionStream::Stdout, b"leted\",\"usage\":{}}\n"),
            OutputMeaning::Final
        );
        let piece = vec![b'x'; LONGEST_LINE];
        for _ in 0..3 {
            assert_eq!(watcher.hear(SessionStream::Stdout, &piece), OutputMeaning::Nothing);
            assert!(watcher.stdout.bytes.len() <= LONGEST_LINE);
        }
        assert_eq!(
            watcher.hear(SessionStream::Stdout, b"\n{\"type\":\"error\",\"message\":\"x\"}\n"),
            OutputMeaning::Progress
        );
        assert!(watcher.stdout.bytes.is_empty());
    }

    #[test]
    fn of_text_everything_is_progress_but_known_noise() {
        let mut any = SessionWatcher::new(&builtin("command").unwrap());
        assert_eq!(any.hear(SessionStream::Stderr, b"working"), OutputMeaning::Progress);
        assert_eq!(any.hear(SessionStream::Stdout, b"\n"), OutputMeaning::Nothing);
        let mut aider = SessionWatcher::new(&builtin("aider").unwrap());
        assert_eq!(
            aider.hear(SessionStream::Stdout, b"Retrying in 0.2 seconds...\n"),
            OutputMeaning::Noise
        );
        let mut gemini = SessionWatcher::new(&builtin("gemini").unwrap());
        assert_eq!(
            gemini.hear(SessionStream::Stderr, b"Attempt 1 failed: x. Retrying after 5705ms...\n"),
            OutputMeaning::Noise
        );
        assert_eq!(gemini.hear(SessionStream::Stderr, b"some warning\n"), OutputMeaning::Nothing);
    }
}
