//! The live display: two lines at the bottom of the terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::human;
use crate::domain::state::{Phase, RunState};

/// The largest number of running tasks that the display names.
const NAMED: usize = 4;

/// The display.
#[derive(Debug)]
pub(super) struct Display {
    bar: ProgressBar,
}

impl Display {
    /// Creates a display for `total` tasks.
    pub(super) fn new(total: usize) -> Self {
        let bar = ProgressBar::with_draw_target(
            Some(total as u64),
            ProgressDrawTarget::stderr_with_hz(10),
        );
        let template = "{spinner} {wide_bar} {pos}/{len}  {elapsed}  {prefix}\n  {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar }
    }

    /// Shows the current state.
    pub(super) fn update(&self, state: &RunState) {
        self.bar.set_position(state.tasks.count_ended() as u64);
        let failed = state.count(&Phase::Failed);
        self.bar.set_prefix(if failed > 0 { format!("{failed} failed") } else { String::new() });
        let running: Vec<_> = state.tasks.in_phase(&Phase::Running).map(|(id, _)| id).collect();
        let mut text = human::counts(state);
        if !running.is_empty() {
            let more = running.len().saturating_sub(NAMED);
            let named = running.iter().take(NAMED).map(|id| state.tasks.label(id));
            let named = named.collect::<Vec<_>>().join(" ");
            text = format!("{text} · {named}");
            if more > 0 {
                text.push_str(&format!(" and {more} more"));
            }
        }
        self.bar.set_message(text);
    }

    /// Prints a line above the display.
    pub(super) fn line(&self, text: &str) {
        self.bar.println(text);
    }

    /// Removes the display.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
