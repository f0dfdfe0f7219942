//! The only module that prints: results to standard output, everything else to standard error.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the module that may use the standard streams"
)]

pub(crate) mod human;
pub(crate) mod json;
mod progress;
pub(crate) mod table;
pub(crate) mod tone;

use std::io::{IsTerminal, Write};

use crate::engine::RunReport;
use crate::error::Advice;

/// Where words go.
#[derive(Debug)]
pub(crate) struct Ui {
    quiet: bool,
    progress: Option<progress::Display>,
}

impl Ui {
    /// A plain one.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, progress: None }
    }

    /// One that shows progress: alive on a terminal, as plain lines elsewhere.
    pub(crate) fn with_progress(quiet: bool, total: usize) -> Self {
        let alive = !quiet && std::io::stderr().is_terminal();
        Self { quiet, progress: alive.then(|| progress::Display::new(total)) }
    }

    /// Prints a result. A reader that has gone away is no error.
    pub(crate) fn result(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
    }

    /// Prints a result that need not be text. A terminal gets what cannot do anything to it.
    pub(crate) fn result_bytes(&self, bytes: &[u8]) {
        if self.on_terminal() {
            self.result(&printable(&String::from_utf8_lossy(bytes)));
        } else {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush()).ok();
        }
    }

    /// Whether results go to a terminal.
    pub(crate) fn on_terminal(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// Says something to the person.
    pub(crate) fn status(&self, text: &str) {
        if !self.quiet {
            self.message(text);
        }
    }

    /// Says something even to a person who wants quiet.
    pub(crate) fn message(&self, text: &str) {
        let text = printable(text);
        match &self.progress {
            Some(display) => display.line(&text),
            None => {
                let mut err = std::io::stderr().lock();
                writeln!(err, "{text}").ok();
            }
        }
    }

    /// Says what went wrong, why, and what to do.
    pub(crate) fn error(&self, prefix: &str, error: &anyhow::Error) {
        let mut text = format!("{prefix}: {error}");
        let mut causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        // Libraries like to repeat what their own error says.
        causes.dedup();
        for cause in
            causes.iter().filter(|c| !text.contains(c.as_str())).cloned().collect::<Vec<_>>()
        {
            text.push_str(": ");
            text.push_str(&cause);
        }
        for advice in error.chain().filter_map(|e| e.downcast_ref::<Advice>()) {
            for hint in &advice.hints {
                text.push_str(&format!("\nhint: {hint}"));
            }
        }
        self.message(&text);
    }

    /// Tells what happened in a run.
    pub(crate) fn report(&mut self, report: &RunReport) {
        let line = match report {
            RunReport::Task(task, event, state) => {
                human::task_line(task, event, state, self.alive())
            }
            RunReport::Run(event, _) => human::run_line(event),
            RunReport::Note(text) => Some(format!("note: {text}")),
            RunReport::Tick(_) => None,
        };
        if let Some(line) = line {
            self.status(&line);
        }
        if let (
            Some(display),
            RunReport::Task(_, _, state) | RunReport::Run(_, state) | RunReport::Tick(state),
        ) = (&mut self.progress, report)
        {
            display.update(state);
        }
    }

    /// Whether there is a live display.
    pub(crate) fn alive(&self) -> bool {
        self.progress.is_some()
    }

    /// Takes the live display away.
    pub(crate) fn finish(&mut self) {
        if let Some(display) = self.progress.take() {
            display.finish();
        }
    }

    /// Makes way for the next picture of `--watch`.
    pub(crate) fn redraw(&self, text: &str) {
        if std::io::stdout().is_terminal() {
            self.result(&format!("\x1b[H\x1b[2J{text}"));
        } else {
            self.result(text);
        }
    }
}

/// Text that cannot do anything to a terminal: what agents and file names hold is shown, not obeyed.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let bidi = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c == '\n' || c == '\t' || !(c.is_control() || bidi) {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn escape_sequences_are_shown_and_not_obeyed() {
        assert_eq!(printable("a\x1b]52;c;x\x07b\tc\n"), "a\\u{1b}]52;c;x\\u{7}b\tc\n");
        assert_eq!(printable("\u{202e}"), "\\u{202e}");
    }
}
