//! The only module that prints: results to standard output, messages to standard error.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the module that may use the standard streams"
)]

pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod outlook;
mod progress;
pub(crate) mod table;
pub(crate) mod tone;

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use serde::Serialize;

use crate::ambient;
use crate::engine::RunReport;
use crate::error::Advice;
use crate::store::ForeignMove;

/// The output of a command.
#[derive(Debug)]
pub(crate) struct Ui {
    quiet: bool,
    progress: Option<progress::Display>,
    /// The first error when writing a result.
    write_error: OnceLock<std::io::Error>,
}

impl Ui {
    /// Creates an output without a live display. `quiet` suppresses status lines.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, progress: None, write_error: OnceLock::new() }
    }

    /// Creates an output that shows progress: a live display on a terminal, lines elsewhere.
    pub(crate) fn with_progress(quiet: bool, total: usize) -> Self {
        let has_display = !quiet && std::io::stderr().is_terminal();
        let progress = has_display.then(|| progress::Display::new(total));
        Self { quiet, progress, write_error: OnceLock::new() }
    }

    /// Prints a result.
    pub(crate) fn result(&self, text: &str) {
        self.write(text.as_bytes());
    }

    /// Writes to standard output. A closed pipe is not an error.
    fn write(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                self.write_error.set(error).ok();
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Returns the first error when writing a result, such as a full disk.
    pub(crate) fn write_error(&self) -> Option<&std::io::Error> {
        self.write_error.get()
    }

    /// Prints a value as one line of JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.result(&format!("{}\n", serde_json::to_string(value)?));
        Ok(())
    }

    /// Prints a result that may be binary. On a terminal, control characters are escaped.
    pub(crate) fn result_bytes(&self, bytes: &[u8]) {
        if self.on_terminal() {
            self.result(&printable(&String::from_utf8_lossy(bytes)));
        } else {
            self.write(bytes);
        }
    }

    /// Returns true if results are coloured: on a terminal that supports colours, unless `NO_COLOR`
    /// is set.
    pub(crate) fn paints(&self) -> bool {
        let able = ambient::variable("TERM").is_none_or(|term| term != "dumb");
        self.on_terminal() && able && ambient::variable("NO_COLOR").is_none()
    }

    /// Returns true if results go to a terminal.
    pub(crate) fn on_terminal(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// Prints a status line, except with `--quiet`.
    pub(crate) fn status(&self, text: &str) {
        if !self.quiet {
            self.message(text);
        }
    }

    /// Prints a message even with `--quiet`.
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

    /// Prints an error with its causes and hints.
    pub(crate) fn error(&self, prefix: &str, error: &anyhow::Error) {
        let mut text = format!("{prefix}: {error}");
        let mut causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        // Some libraries repeat an error's text in its cause.
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
        for foreign in error.chain().filter_map(|e| e.downcast_ref::<ForeignMove>()) {
            text.push_str(&format!("\nhint: {}", foreign.hint()));
        }
        self.message(&text);
    }

    /// Prints an event of a run.
    pub(crate) fn report(&mut self, report: &RunReport) {
        let line = match report {
            RunReport::Task { task, event, ended, state } => {
                human::task_line(task, event, (*ended, state), self.has_display())
            }
            RunReport::Run(event, state) => human::run_line(event, state),
            RunReport::Note(text) => Some(format!("note: {text}")),
            RunReport::Tick(_) => None,
        };
        if let Some(line) = line {
            self.status(&line);
        }
        if let (
            Some(display),
            RunReport::Task { state, .. } | RunReport::Run(_, state) | RunReport::Tick(state),
        ) = (&mut self.progress, report)
        {
            display.update(state);
        }
    }

    /// Returns true if there is a live display.
    pub(crate) fn has_display(&self) -> bool {
        self.progress.is_some()
    }

    /// Removes the live display.
    pub(crate) fn finish(&mut self) {
        if let Some(display) = self.progress.take() {
            display.finish();
        }
    }

    /// Prints a new state of `--watch`: replaces the screen on a terminal, and appends elsewhere.
    pub(crate) fn redraw(&self, text: &str) {
        if std::io::stdout().is_terminal() {
            self.result(&format!("\x1b[H\x1b[2J{text}"));
        } else {
            self.result(text);
        }
    }
}

/// Escapes control characters (except newline and tab) and characters that change the direction of
/// text: output of agents and file names must not control the terminal.
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
    fn printable_escapes_control_characters() {
        assert_eq!(printable("a\x1b]52;c;x\x07b\tc\n"), "a\\u{1b}]52;c;x\\u{7}b\tc\n");
        assert_eq!(printable("\u{202e}"), "\\u{202e}");
    }
}
