//! The judgement itself: is there an end, does it say that all is well, and if not, what does?

use serde_json::Value;

use super::error_rules::{ErrorText, exit_class};
use super::stream_content::{StreamContent, words};
use super::{Intervention, SessionExit};
use crate::agent::preset::{EventText, OutputFormat, Preset, pattern::any_matches};
use crate::domain::session::Class;

/// What is known of a session.
pub(super) struct SessionEvidence<'a> {
    pub(super) preset: &'a Preset,
    pub(super) ended: SessionExit,
    pub(super) out: &'a StreamContent,
    pub(super) err: &'a StreamContent,
    pub(super) last_message: Option<&'a str>,
    pub(super) changed: Option<bool>,
}

/// What is to be made of it.
pub(super) struct Classification {
    pub(super) class: Class,
    pub(super) detail: Option<String>,
    /// Everything that was said about it, newest first.
    pub(super) words: Vec<String>,
}

impl Classification {
    fn new(class: Class, detail: impl Into<String>) -> Self {
        Self { class, detail: line(&detail.into()), words: Vec::new() }
    }
}

impl<'a> SessionEvidence<'a> {
    pub(super) fn verdict(&self) -> Classification {
        // It ended on its own and well, or what was seen cannot come to any good.
        let well = self.ended.ours.is_none() && self.left_well();
        if !well && let Some((class, said)) = self.for_good() {
            return Classification::new(class, said);
        }
        let good = match self.preset.output.format {
            OutputFormat::Text => self.text_end(),
            OutputFormat::Json | OutputFormat::Jsonl | OutputFormat::JsonArray => self.end(),
        };
        good.map_or_else(|| self.failed(), |message| self.done(message))
    }

    /// What nothing that came later takes back.
    fn for_good(&self) -> Option<(Class, String)> {
        let rules = || self.preset.watch.hopeless.iter().filter(|rule| rule.for_good);
        let events = self.out.events.iter().rev();
        let class = |event| rules().find(|rule| rule.when.matches(event)).map(|rule| rule.class);
        events.into_iter().find_map(|event| Some((class(event)?, self.saying(event).text)))
    }

    /// The last event that says that it is over, unless work went on behind it.
    fn last(&self) -> Option<&'a Value> {
        let output = &self.preset.output;
        let at = self.out.events.iter().rposition(|event| any_matches(&output.end, event))?;
        let reopened =
            self.out.events[at + 1..].iter().any(|event| any_matches(&output.work, event));
        (!reopened).then(|| &self.out.events[at])
    }

    /// Whether the process ended as one that is content, or was only ended because it did not go.
    fn left_well(&self) -> bool {
        self.ended.ours.is_some() || (self.ended.code == Some(0) && self.ended.signal.is_none())
    }

    /// The final message of a session whose end is there and good.
    fn end(&self) -> Option<String> {
        let output = &self.preset.output;
        if self.out.broken || !self.left_well() {
            return None;
        }
        let message = match self.last() {
            Some(end) => any_matches(&output.ok, end).then(|| self.message(end))?,
            // Text for people, if a job's own arguments ask for it: a change is the proof.
            None if self.out.events.is_empty() && self.changed == Some(true) => {
                (self.ended.ours.is_none() && !self.out.plain.trim().is_empty())
                    .then(|| self.out.plain.clone())?
            }
            None => return None,
        };
        let lies = output.lie.as_ref().is_some_and(|lie| lie.matches(&words(&message)));
        (!lies).then_some(message)
    }

    /// The final message, for those who want to read it. Of text for people, everything is taken.
    pub(super) fn said(&self) -> Option<String> {
        let said = match self.last() {
            Some(end) => self.message(end),
            None if self.out.events.is_empty() => self.out.plain.clone(),
            None => return None,
        };
        Some(said).filter(|said| !said.trim().is_empty())
    }

    /// The final message: in the end's event, in the last event that has one, or in its file.
    fn message(&self, end: &Value) -> String {
        let output = &self.preset.output;
        let here = output.message.iter().find_map(|pointer| pointer.text(end));
        let texts = |event: &Value| -> Option<String> {
            let said = output.messages.iter().find(|said| said.when.matches(event))?;
            said.text.iter().find_map(|pointer| pointer.text(event)).map(str::to_owned)
        };
        here.map(str::to_owned)
            .or_else(|| self.out.events.iter().rev().find_map(texts))
            .or_else(|| self.last_message.map(str::to_owned))
            .unwrap_or_default()
    }

    /// Of text, everything behind the last sign of an answer; all of it where there is none.
    fn tail(&self) -> (bool, &'a str) {
        let plain = self.out.plain.as_str();
        let Some(text) = &self.preset.output.text else {
            return (true, "");
        };
        let last = text.end.regex().find_iter(plain).last();
        (last.is_some(), last.map_or(plain, |last| &plain[last.end()..]))
    }

    fn text_end(&self) -> Option<String> {
        if !self.left_well() {
            return None;
        }
        // A program of which nothing is known says by its exit code how it went, and by nothing else.
        let Some(text) = &self.preset.output.text else {
            let zero = self.ended.code == Some(0) && self.ended.signal.is_none();
            return zero.then(|| "ok".to_owned());
        };
        let plain = self.out.plain.as_str();
        let (ended, tail) = self.tail();
        if self.out.broken || !ended || !plain.ends_with('\n') {
            return None;
        }
        if ErrorText::words(tail.to_owned()).own_class(self.preset).is_some() {
            return None;
        }
        let promised = text.promise.as_ref().and_then(|p| p.regex().find_iter(plain).last());
        let kept = text.kept.as_ref().and_then(|p| p.regex().find_iter(plain).last());
        let open = match (promised, kept) {
            (Some(promised), Some(kept)) => kept.start() < promised.start(),
            (Some(_), None) => true,
            (None, _) => false,
        };
        (!open).then(|| "ok".to_owned())
    }

    /// How many tools were denied.
    pub(super) fn denials(&self) -> u32 {
        let output = &self.preset.output;
        let told = self.out.events.iter().rev().find(|event| any_matches(&output.end, event));
        let in_end: usize =
            told.map_or(0, |end| output.denials.iter().map(|pointer| pointer.all(end).len()).sum());
        let each =
            self.out.events.iter().filter(|event| any_matches(&output.denied, event)).count();
        u32::try_from(in_end.max(each)).unwrap_or(u32::MAX)
    }

    /// What was begun and not finished.
    fn unfinished(&self) -> usize {
        let Some(rule) = &self.preset.output.unfinished else {
            return 0;
        };
        let mut open: Vec<&str> = Vec::new();
        for event in &self.out.events {
            let Some(id) = rule.id.text(event) else { continue };
            if rule.done.matches(event) {
                open.retain(|other| *other != id);
            } else if rule.begun.matches(event) {
                open.push(id);
            }
        }
        // What was left out may have had the ends.
        if self.out.cut { 0 } else { open.len() }
    }

    /// It says that it is done. What changed decides whether it could do anything.
    fn done(&self, message: String) -> Classification {
        let output = &self.preset.output;
        let denials = self.denials();
        if self.changed != Some(true) {
            if denials > 0 {
                return Classification::new(Class::Blocked, format!("{denials} denied: {message}"));
            }
            if self.unfinished() > 0 {
                let said = "ended its turn while a command was still running, which was killed";
                return Classification::new(Class::Blocked, said);
            }
            let speaks = !output.message.is_empty() || !output.messages.is_empty();
            if speaks && message.trim().is_empty() && !self.out.cut {
                return Classification::new(Class::Crashed, "ended without an answer");
            }
        }
        if output.unchanged_is_blocked && self.changed == Some(false) {
            let said =
                "says that it is done and changed nothing: it may not have been allowed to write";
            return Classification::new(Class::Blocked, said);
        }
        Classification { class: Class::Ok, detail: None, words: Vec::new() }
    }

    /// It is not good; what does it say?
    fn failed(&self) -> Classification {
        let newest = self.newest();
        let (noise, evidence): (Vec<&Value>, Vec<&Value>) =
            newest.into_iter().partition(|event| any_matches(&self.preset.watch.noise, event));
        let raw = self.raw();
        let told = self.told(&evidence);
        let mut verdict = match (&told, self.ended.ours) {
            (_, Some(Intervention::GivenUp(class))) => {
                // Being interrupted may have looked like work: not only the newest.
                let fitting = |event| self.told(&[event]).filter(|told| told.0 == class);
                let said = self.out.events.iter().rev().find_map(fitting);
                let said = said.map(|(_, said)| said).filter(|said| !said.trim().is_empty());
                Classification::new(class, said.unwrap_or_else(|| "was given up".to_owned()))
            }
            (Some((class, said)), None | Some(Intervention::Lingered)) => {
                Classification::new(*class, said.clone())
            }
            (Some((class, said)), Some(_)) if *class != Class::Crashed => {
                Classification::new(*class, said.clone())
            }
            _ => match (self.told(&noise), self.ended.ours) {
                (Some((class, said)), _) if self.last().is_none() => {
                    Classification::new(class, said)
                }
                (_, Some(Intervention::TimedOut)) => {
                    Classification::new(Class::TimedOut, "ran for too long")
                }
                (_, Some(Intervention::Idle)) => {
                    Classification::new(Class::TimedOut, "made no progress for too long")
                }
                (_, Some(Intervention::GivenUp(class))) => {
                    Classification::new(class, "was given up")
                }
                (_, Some(Intervention::Stopped)) => {
                    Classification::new(Class::Crashed, "was stopped")
                }
                (_, None | Some(Intervention::Lingered)) => self.unstructured(&raw, &evidence),
            },
        };
        let sayings = evidence.iter().chain(&noise).map(|event| self.saying(event).text);
        verdict.words = sayings.chain([raw.text]).filter(|text| !text.is_empty()).collect();
        verdict
    }

    /// The events behind the last work, newest first.
    fn newest(&self) -> Vec<&'a Value> {
        let work = &self.preset.output.work;
        let out = self.out.events.iter().rev().take_while(|event| !any_matches(work, event));
        self.err.events.iter().rev().chain(out).collect()
    }

    /// What events say: by their shape, the newest first; then by status and words, the newest first.
    fn told(&self, events: &[&Value]) -> Option<(Class, String)> {
        let by_shape = |event: &&Value| {
            let fits = |shape: &crate::agent::preset::pattern::EventPattern| shape.matches(event);
            let rule =
                self.preset.errors.iter().find(|rule| rule.when.as_ref().is_some_and(fits))?;
            Some((rule.class, self.saying(event).text))
        };
        let by_words = |event: &&Value| {
            let saying = self.saying(event);
            Some((saying.class(self.preset)?, saying.text))
        };
        let found =
            events.iter().find_map(by_shape).or_else(|| events.iter().find_map(by_words))?;
        if !found.1.trim().is_empty() {
            return Some(found);
        }
        // The shape was enough for the class; the words are another event's.
        let spoken =
            events.iter().map(|event| self.saying(event).text).find(|t| !t.trim().is_empty());
        let shape = || events.first().map(ToString::to_string).unwrap_or_default();
        Some((found.0, spoken.unwrap_or_else(shape)))
    }

    /// What an event says. An end that is good says nothing, unless it lies: its message is not about a failure.
    fn saying(&self, event: &Value) -> ErrorText {
        let output = &self.preset.output;
        let good = any_matches(&output.end, event) && any_matches(&output.ok, event);
        if good && !output.lie.as_ref().is_some_and(|lie| lie.matches(&words(&self.message(event))))
        {
            return ErrorText::default();
        }
        let mut saying = ErrorText::default();
        for EventText { text, status, .. } in
            self.preset.said.iter().filter(|said| said.when.matches(event))
        {
            for found in text.iter().flat_map(|pointer| pointer.all(event)) {
                if let Some(text) = found.as_str() {
                    saying.text.push_str(&words(text));
                    saying.text.push('\n');
                }
            }
            for found in status.iter().flat_map(|pointer| pointer.all(event)) {
                let number = found.as_i64().or_else(|| found.as_str()?.parse().ok());
                saying.status.extend(number.and_then(|n| i32::try_from(n).ok()));
            }
        }
        if good && saying.is_empty() {
            saying.text = words(&self.message(event));
        }
        saying
    }

    /// The lines that are no events: of standard error, and of standard output.
    fn raw(&self) -> ErrorText {
        let noise = self.preset.watch.noise_text.as_ref();
        let lines = |heard: &StreamContent| -> String {
            let keep = |line: &&str| !noise.is_some_and(|noise| noise.matches(line));
            heard.plain.lines().filter(keep).flat_map(|line| [line, "\n"]).collect()
        };
        let mut text = lines(self.err);
        // Errors in a form that the preset does not know, as a server or a library put them.
        let known = |event: &&Value| self.preset.said.iter().any(|said| said.when.matches(event));
        let strange = |event: &&&Value| {
            event.get("error").is_some()
                && !any_matches(&self.preset.watch.noise, event)
                && !known(event)
        };
        for event in self.newest().iter().filter(strange) {
            text.push_str(&words(&event.to_string()));
            text.push('\n');
        }
        if self.preset.output.format == OutputFormat::Text {
            // Of what it says itself only the end: before that stands its work.
            let (_, tail) = self.tail();
            let from = tail.len().saturating_sub(4096);
            let from = (from..=tail.len()).find(|n| tail.is_char_boundary(*n)).unwrap_or(0);
            text.push_str(&tail[from..]);
        } else {
            text.push_str(&lines(self.out));
        }
        ErrorText::words(text)
    }

    /// What is left where no event says anything: the lines, then the exit code.
    fn unstructured(&self, raw: &ErrorText, evidence: &[&Value]) -> Classification {
        let spoken =
            evidence.iter().map(|event| self.saying(event).text).find(|t| !t.trim().is_empty());
        let code = self.ended.code.filter(|_| self.ended.signal.is_none());
        let by_exit = code.and_then(|code| exit_class(self.preset, code));
        let killed = self.ended.signal.is_some()
            || (by_exit.is_none() && code.is_some_and(|code| (129..=160).contains(&code)));
        let known =
            self.preset.output.format != OutputFormat::Text || self.preset.output.text.is_some();
        let by_words = if killed || !known {
            None
        } else if self.preset.output.format == OutputFormat::Text && code == Some(0) {
            raw.own_class(self.preset)
        } else {
            raw.class(self.preset)
        };
        let class = by_words.or(by_exit).unwrap_or(Class::Crashed);
        let last = raw.text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let detail = spoken.or_else(|| by_words.and_then(|class| self.telling_line(raw, class)));
        let detail =
            detail.or_else(|| last.map(str::to_owned)).unwrap_or_else(|| self.how_it_went());
        Classification::new(
            class,
            if self.out.broken && by_words.is_none() { self.how_it_went() } else { detail },
        )
    }

    /// The line that has the class.
    fn telling_line(&self, raw: &ErrorText, class: Class) -> Option<String> {
        let tells =
            |line: &&str| ErrorText::words((*line).to_owned()).class(self.preset) == Some(class);
        raw.text.lines().find(tells).map(str::to_owned)
    }

    fn how_it_went(&self) -> String {
        let what = if self.out.broken {
            "what it printed is cut off or garbled"
        } else {
            "it did not say how it ended"
        };
        match (self.ended.signal, self.ended.code) {
            (Some(signal), _) => format!("{what}; signal {signal} ended it"),
            (None, Some(code)) => format!("{what}; exit code {code}"),
            (None, None) => what.to_owned(),
        }
    }
}

/// On one line, and not too long.
fn line(text: &str) -> Option<String> {
    const MOST: usize = 300;
    let one: Vec<&str> = text.split_whitespace().collect();
    let one = one.join(" ");
    let short: String = one.chars().filter(|c| !c.is_control()).take(MOST).collect();
    (!short.is_empty()).then_some(short)
}
