//! The rules of classification: find the final event and test whether the event reports success. If
//! not, search for the cause of the failure.

use serde_json::Value;

use super::error_rules::{ErrorText, exit_class};
use super::json_error;
use super::stream_content::StreamContent;
use super::terminal_text::normalize;
use super::{Intervention, SessionExit};
use crate::agent::preset::pattern::{EventPattern, any_matches};
use crate::agent::preset::{EventText, OutputFormat, Preset};
use crate::domain::session::Class;

/// Everything that is known about a finished session.
pub(super) struct SessionEvidence<'a> {
    pub(super) preset: &'a Preset,
    pub(super) exit: SessionExit,
    pub(super) stdout: &'a StreamContent,
    pub(super) stderr: &'a StreamContent,
    /// The content of the file with the last message.
    pub(super) last_message: Option<&'a str>,
    /// True if the worktree changed, false if not, `None` if unknown.
    pub(super) changed: Option<bool>,
}

/// The class of a session and its reason.
pub(super) struct Classification {
    pub(super) class: Class,
    pub(super) detail: Option<String>,
    /// All error texts of the session, newest first.
    pub(super) texts: Vec<String>,
}

impl Classification {
    fn new(class: Class, detail: impl Into<String>) -> Self {
        Self { class, detail: single_line(&detail.into()), texts: Vec::new() }
    }
}

impl<'a> SessionEvidence<'a> {
    /// Classifies the session.
    pub(super) fn classify(&self) -> Classification {
        let exited_by_itself = self.exit.intervention.is_none() && self.has_clean_exit();
        if !exited_by_itself && let Some((class, text)) = self.permanent_failure() {
            return Classification::new(class, text);
        }
        let success = match self.preset.output.format {
            OutputFormat::Text => self.success_in_text(),
            OutputFormat::Json | OutputFormat::Jsonl | OutputFormat::JsonArray => {
                self.success_in_events()
            }
        };
        success.map_or_else(|| self.failure(), |message| self.success(&message))
    }

    /// Returns the newest failure that later work cannot supersede. The rules with `for-good`
    /// define such failures.
    fn permanent_failure(&self) -> Option<(Class, String)> {
        let rules = || self.preset.watch.hopeless.iter().filter(|rule| rule.permanent);
        let class = |event| rules().find(|rule| rule.when.matches(event)).map(|rule| rule.class);
        let mut events = self.stdout.events.iter().rev();
        events.find_map(|event| Some((class(event)?, self.error_text(event).text)))
    }

    /// Returns the index of the last final event, unless an event of work follows it.
    fn final_index(&self) -> Option<usize> {
        let output = &self.preset.output;
        let events = &self.stdout.events;
        let index = events.iter().rposition(|event| any_matches(&output.final_events, event))?;
        let work_follows = events[index + 1..].iter().any(|event| any_matches(&output.work, event));
        (!work_follows).then_some(index)
    }

    /// Returns the last final event, unless an event of work follows it.
    fn final_event(&self) -> Option<&'a Value> {
        self.final_index().map(|index| &self.stdout.events[index])
    }

    /// Returns true if the exit status does not contradict a success. The status of a process that
    /// the harness ended is ignored.
    fn has_clean_exit(&self) -> bool {
        self.exit.intervention.is_some()
            || (self.exit.code == Some(0) && self.exit.signal.is_none())
    }

    /// Returns the final message if the final event reports success.
    fn success_in_events(&self) -> Option<String> {
        let output = &self.preset.output;
        if !self.has_clean_exit() {
            return None;
        }
        let message = match self.final_index() {
            Some(index) if self.stdout.is_unreadable_after(index) => return None,
            Some(index) => {
                let event = &self.stdout.events[index];
                any_matches(&output.ok, event).then(|| self.message_of(event))?
            }
            // The job's own arguments may select text output. In that case, a changed worktree
            // proves success.
            None if self.stdout.events.is_empty()
                && self.stdout.unreadable.is_empty()
                && self.changed == Some(true) =>
            {
                (self.exit.intervention.is_none() && !self.stdout.plain.trim().is_empty())
                    .then(|| self.stdout.plain.clone())?
            }
            None => return None,
        };
        (!self.is_failure_message(&message)).then_some(message)
    }

    /// Returns true if a final message reports a failure although its event reports success.
    fn is_failure_message(&self, message: &str) -> bool {
        let message = normalize(message);
        let failure_message = self.preset.output.failure_message.as_ref();
        if failure_message.is_some_and(|pattern| pattern.matches(&message)) {
            return true;
        }
        // Without work, the program itself wrote the message, not the model.
        self.stdout.events.len() > 1
            && self.changed != Some(true)
            && !self.has_worked()
            && ErrorText::new(message).class(self.preset).is_some()
    }

    /// Returns the final message for display. Text output is returned whole.
    pub(super) fn final_message(&self) -> Option<String> {
        let message = match self.final_event() {
            Some(event) => self.message_of(event),
            None if self.stdout.events.is_empty() => self.stdout.plain.clone(),
            None => return None,
        };
        Some(message).filter(|message| !message.trim().is_empty())
    }

    /// Returns the first of these messages that exists: the message of the final event, the last
    /// message of an earlier event, the content of the message file.
    fn message_of(&self, final_event: &Value) -> String {
        let output = &self.preset.output;
        let own = output.message.iter().find_map(|pointer| pointer.text(final_event));
        let earlier = |event: &Value| -> Option<String> {
            let rule = output.messages.iter().find(|rule| rule.when.matches(event))?;
            rule.text.iter().find_map(|pointer| pointer.text(event)).map(str::to_owned)
        };
        own.map(str::to_owned)
            .or_else(|| self.stdout.events.iter().rev().find_map(earlier))
            .or_else(|| self.last_message.map(str::to_owned))
            .unwrap_or_default()
    }

    /// Returns a pair: true if text output contains an answer, and the text after the last answer.
    /// Without an answer, the second value is the whole output.
    pub(super) fn text_after_answer(&self) -> (bool, &'a str) {
        let plain = self.stdout.plain.as_str();
        let Some(text) = &self.preset.output.text else {
            return (true, "");
        };
        let answer = text.end.regex().find_iter(plain).last();
        (answer.is_some(), answer.map_or(plain, |answer| &plain[answer.end()..]))
    }

    /// Returns the message `ok` if text output proves success.
    fn success_in_text(&self) -> Option<String> {
        if !self.has_clean_exit() {
            return None;
        }
        // An arbitrary program reports its result only by the exit code.
        let Some(text) = &self.preset.output.text else {
            let exited_with_zero = self.exit.code == Some(0) && self.exit.signal.is_none();
            return exited_with_zero.then(|| "ok".to_owned());
        };
        let plain = self.stdout.plain.as_str();
        let (has_answer, tail) = self.text_after_answer();
        if !has_answer || !plain.ends_with('\n') {
            return None;
        }
        if ErrorText::new(tail.to_owned()).class_by_preset_text(self.preset).is_some() {
            return None;
        }
        let announced = text.announced.as_ref().and_then(|p| p.regex().find_iter(plain).last());
        let completed = text.completed.as_ref().and_then(|p| p.regex().find_iter(plain).last());
        let is_pending = match (announced, completed) {
            (Some(announced), Some(completed)) => completed.start() < announced.start(),
            (Some(_), None) => true,
            (None, _) => false,
        };
        (!is_pending).then(|| "ok".to_owned())
    }

    /// Returns the number of denied tools.
    pub(super) fn denials(&self) -> u32 {
        let output = &self.preset.output;
        let events = &self.stdout.events;
        let final_event =
            events.iter().rev().find(|event| any_matches(&output.final_events, event));
        let in_final_event: usize = final_event
            .map_or(0, |event| output.denials.iter().map(|pointer| pointer.all(event).len()).sum());
        let single = events.iter().filter(|event| any_matches(&output.denied, event)).count();
        u32::try_from(in_final_event.max(single)).unwrap_or(u32::MAX)
    }

    /// Returns the number of operations that began and did not end.
    fn unfinished_operations(&self) -> usize {
        let Some(rule) = &self.preset.output.unfinished else {
            return 0;
        };
        let mut open: Vec<&str> = Vec::new();
        for event in &self.stdout.events {
            let Some(id) = rule.id.text(event) else { continue };
            if rule.done.matches(event) {
                open.retain(|other| *other != id);
            } else if rule.begun.matches(event) {
                open.push(id);
            }
        }
        // The missing ends may be in the part that the keeper cut out.
        if self.stdout.cut { 0 } else { open.len() }
    }

    /// Classifies a session that reports success. A session that changed nothing may have been
    /// unable to work.
    fn success(&self, message: &str) -> Classification {
        let output = &self.preset.output;
        let denials = self.denials();
        if self.changed != Some(true) {
            if denials > 0 {
                return Classification::new(Class::Blocked, format!("{denials} denied: {message}"));
            }
            if self.unfinished_operations() > 0 {
                let detail = "ended its turn while a command was still running, which was killed";
                return Classification::new(Class::Blocked, detail);
            }
            let has_messages = !output.message.is_empty() || !output.messages.is_empty();
            if has_messages && message.trim().is_empty() && !self.stdout.cut {
                return Classification::new(Class::Crashed, "ended without an answer");
            }
        }
        if output.unchanged_is_blocked && self.changed == Some(false) {
            let detail =
                "says that it is done and changed nothing: it may not have been allowed to write";
            return Classification::new(Class::Blocked, detail);
        }
        Classification { class: Class::Ok, detail: None, texts: Vec::new() }
    }

    /// Classifies a session that did not succeed.
    fn failure(&self) -> Classification {
        let (noise, evidence): (Vec<&Value>, Vec<&Value>) = self
            .events_after_work()
            .into_iter()
            .partition(|event| any_matches(&self.preset.watch.noise, event));
        let unstructured = self.unstructured_text();
        let mut classification = self.cause(&evidence, &noise, &unstructured);
        let texts = evidence.iter().chain(&noise).map(|event| self.error_text(event).text);
        classification.texts =
            texts.chain([unstructured.text]).filter(|text| !text.is_empty()).collect();
        classification
    }

    /// Determines the cause of a failure.
    fn cause(
        &self,
        evidence: &[&Value],
        noise: &[&Value],
        unstructured: &ErrorText,
    ) -> Classification {
        let reported = self.class_of_events(evidence);
        match self.exit.intervention {
            Some(Intervention::GivenUp(class)) => return self.cause_of_giving_up(class),
            None | Some(Intervention::Lingered) => {
                if let Some((class, text)) = reported {
                    return Classification::new(class, text);
                }
            }
            // An interrupted session may report a crash that only results from the interruption,
            // so a reported crash is ignored. Any other reported class takes precedence.
            Some(Intervention::TimedOut | Intervention::Idle | Intervention::Stopped) => {
                if let Some((class, text)) = reported.filter(|(class, _)| *class != Class::Crashed)
                {
                    return Classification::new(class, text);
                }
            }
        }
        if self.final_event().is_none()
            && let Some((class, text)) = self.class_of_events(noise)
        {
            return Classification::new(class, text);
        }
        match self.exit.intervention {
            Some(Intervention::TimedOut) => {
                Classification::new(Class::TimedOut, "ran for too long")
            }
            Some(Intervention::Idle) => {
                Classification::new(Class::TimedOut, "made no progress for too long")
            }
            Some(Intervention::GivenUp(class)) => self.cause_of_giving_up(class),
            Some(Intervention::Stopped) => Classification::new(Class::Crashed, "was stopped"),
            None | Some(Intervention::Lingered) => self.cause_in_text(unstructured, evidence),
        }
    }

    /// Classifies a session that the harness gave up on. Output about the interruption may look
    /// like work, so events before the last work count, too.
    fn cause_of_giving_up(&self, class: Class) -> Classification {
        let of_class =
            |event| self.class_of_events(&[event]).filter(|(reported, _)| *reported == class);
        let text = self.stdout.events.iter().rev().find_map(of_class).map(|(_, text)| text);
        let text = text.filter(|text| !text.trim().is_empty());
        Classification::new(class, text.unwrap_or_else(|| "was given up".to_owned()))
    }

    /// Returns the events after the last work, newest first. If the session has worked, standard
    /// error is about hooks and tools, so its events are left out.
    pub(super) fn events_after_work(&self) -> Vec<&'a Value> {
        let work = &self.preset.output.work;
        let stdout = self.stdout.events.iter().rev().take_while(|event| !any_matches(work, event));
        let stderr = self.stderr.events.iter().rev().filter(|_| !self.has_worked());
        stderr.chain(stdout).collect()
    }

    /// Returns the class and the text of the first event with a class. Event patterns of the preset
    /// take precedence over statuses and texts.
    fn class_of_events(&self, events: &[&Value]) -> Option<(Class, String)> {
        let by_pattern = |event: &&Value| {
            let matches = |pattern: &EventPattern| pattern.matches(event);
            let rule =
                self.preset.errors.iter().find(|rule| rule.when.as_ref().is_some_and(matches))?;
            Some((rule.class, self.error_text(event).text))
        };
        let by_text = |event: &&Value| {
            let error = self.error_text(event);
            Some((error.class(self.preset)?, error.text))
        };
        let (class, text) =
            events.iter().find_map(by_pattern).or_else(|| events.iter().find_map(by_text))?;
        if !text.trim().is_empty() {
            return Some((class, text));
        }
        // The event that determined the class has no text. Another event may have a text.
        let other = self.first_text(events);
        let json = || events.first().map(ToString::to_string).unwrap_or_default();
        Some((class, other.unwrap_or_else(json)))
    }

    /// Returns the first error text of the events.
    fn first_text(&self, events: &[&Value]) -> Option<String> {
        let mut texts = events.iter().map(|event| self.error_text(event).text);
        texts.find(|text| !text.trim().is_empty())
    }

    /// Returns the error text of an event. A final event that reports success has no error text,
    /// unless the message of the event reports a failure.
    fn error_text(&self, event: &Value) -> ErrorText {
        let output = &self.preset.output;
        let reports_success =
            any_matches(&output.final_events, event) && any_matches(&output.ok, event);
        if reports_success && !self.is_failure_message(&self.message_of(event)) {
            return ErrorText::default();
        }
        let mut error = ErrorText::default();
        for EventText { text, status, .. } in
            self.preset.said.iter().filter(|rule| rule.when.matches(event))
        {
            for value in text.iter().flat_map(|pointer| pointer.all(event)) {
                if let Some(text) = value.as_str() {
                    error.text.push_str(&normalize(text));
                    error.text.push('\n');
                }
            }
            for value in status.iter().flat_map(|pointer| pointer.all(event)) {
                let status = value.as_i64().or_else(|| value.as_str()?.parse().ok());
                error.statuses.extend(status.and_then(|status| i32::try_from(status).ok()));
            }
        }
        if reports_success && error.is_empty() {
            error.text = normalize(&self.message_of(event));
        }
        error
    }

    /// Returns the lines of a stream that are not events, without noise.
    fn lines(&self, plain: &str) -> String {
        let noise = self.preset.watch.noise_text.as_ref();
        let keep = |line: &&str| !noise.is_some_and(|noise| noise.matches(line));
        plain.lines().filter(keep).flat_map(|line| [line, "\n"]).collect()
    }

    /// Returns the text about a failure outside of the events that the preset describes. If the
    /// session has worked, only the end of standard output counts: the lines before are about the
    /// work.
    fn unstructured_text(&self) -> ErrorText {
        let has_worked = self.has_worked();
        let stderr = if has_worked { String::new() } else { self.lines(&self.stderr.plain) };
        let mut error = ErrorText::new(stderr);
        // Errors of servers and libraries, in a form that the preset does not describe.
        let is_unknown_error = |event: &&Value| {
            (event.get("error").is_some() || event.get("type").is_some_and(|kind| kind == "error"))
                && self.error_text(event).is_empty()
        };
        for event in self.events_after_work().into_iter().filter(is_unknown_error) {
            error.add(json_error::text(event));
        }
        if self.preset.output.format == OutputFormat::Text {
            // Only the end of the output is about the failure. The output before the end is about
            // the work.
            const LONGEST_TAIL: usize = 4096;
            let (_, tail) = self.text_after_answer();
            let from = tail.len().saturating_sub(LONGEST_TAIL);
            let from = (from..=tail.len()).find(|at| tail.is_char_boundary(*at)).unwrap_or(0);
            error.text.push_str(&tail[from..]);
        } else {
            let from = if has_worked { self.stdout.tail_start } else { 0 };
            error.text.push_str(&self.lines(&self.stdout.plain[from..]));
        }
        error
    }

    /// Determines the cause of a failure that no event reports: from the text, then from the exit
    /// code.
    fn cause_in_text(&self, unstructured: &ErrorText, evidence: &[&Value]) -> Classification {
        let format = self.preset.output.format;
        let code = self.exit.code.filter(|_| self.exit.signal.is_none());
        // The command line of a program that has worked is not wrong.
        let is_possible = |class: &Class| *class != Class::BadInput || !self.has_worked();
        let by_exit = code.and_then(|code| exit_class(self.preset, code)).filter(is_possible);
        // Shells report a signal as 128 plus its number.
        let was_killed = self.exit.signal.is_some()
            || (by_exit.is_none() && code.is_some_and(|code| (129..=160).contains(&code)));
        let has_rules = format != OutputFormat::Text || self.preset.output.text.is_some();
        let by_text = if was_killed || !has_rules {
            None
        } else if format == OutputFormat::Text && code == Some(0) {
            unstructured.class_by_preset_text(self.preset)
        } else {
            unstructured.class(self.preset).or_else(|| self.blocked_on_stderr())
        };
        let class = by_text.or(by_exit).unwrap_or(Class::Crashed);
        if !self.stdout.unreadable.is_empty() && by_text.is_none() {
            return Classification::new(class, self.describe_exit());
        }
        let last_line = || {
            let last = |text: &str| {
                let mut lines = text.lines().rev().map(str::trim);
                lines.find(|line| !line.is_empty()).map(str::to_owned)
            };
            last(&unstructured.text).or_else(|| last(&self.lines(&self.stderr.plain)))
        };
        let detail = self
            .first_text(evidence)
            .or_else(|| by_text.and_then(|class| self.line_of_class(unstructured, class)))
            .or_else(last_line)
            .unwrap_or_else(|| self.describe_exit());
        Classification::new(class, detail)
    }

    /// Returns the class `Blocked` if a rule of the preset finds a denial on standard error. A
    /// denial counts even if the session has worked.
    fn blocked_on_stderr(&self) -> Option<Class> {
        let stderr = ErrorText::new(self.lines(&self.stderr.plain));
        stderr.class_by_preset_text(self.preset).filter(|class| *class == Class::Blocked)
    }

    /// Returns the first line with this class.
    fn line_of_class(&self, unstructured: &ErrorText, class: Class) -> Option<String> {
        let has_class =
            |line: &&str| ErrorText::new((*line).to_owned()).class(self.preset) == Some(class);
        unstructured.text.lines().find(has_class).map(str::to_owned)
    }

    fn describe_exit(&self) -> String {
        let what = if !self.stdout.unreadable.is_empty() {
            "what it printed is cut off or garbled"
        } else {
            "it did not say how it ended"
        };
        match (self.exit.signal, self.exit.code) {
            (Some(signal), _) => format!("{what}; signal {signal} ended it"),
            (None, Some(code)) => format!("{what}; exit code {code}"),
            (None, None) => what.to_owned(),
        }
    }
}

/// Joins a text to one line and shortens the line. Returns `None` for an empty text.
fn single_line(text: &str) -> Option<String> {
    const LONGEST: usize = 300;
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    (!line.is_empty()).then_some(line)
}
