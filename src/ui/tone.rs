//! Emphasis on a terminal.

use anstyle::{AnsiColor, Color, Style};

/// The emphasis of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// No emphasis.
    Plain,
    /// Less visible than plain text.
    Faint,
    /// Headings.
    Strong,
    /// Actions of an agent.
    Action,
    /// Errors.
    Bad,
    /// Added lines.
    Added,
    /// Removed lines.
    Removed,
    /// Added words in a line.
    AddedWord,
    /// Removed words in a line.
    RemovedWord,
}

impl Tone {
    /// Returns the text in this tone, or the plain text unless `paints`. The text must have passed
    /// `ui::printable` already.
    pub(crate) fn paint(self, text: &str, paints: bool) -> String {
        if !paints || text.is_empty() || self == Self::Plain {
            return text.to_owned();
        }
        let style = self.style();
        format!("{style}{text}{style:#}")
    }

    fn style(self) -> Style {
        let colour = |colour: AnsiColor| Style::new().fg_color(Some(Color::Ansi(colour)));
        match self {
            Self::Plain => Style::new(),
            Self::Faint => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
            Self::Action => colour(AnsiColor::Cyan),
            Self::Bad | Self::Removed => colour(AnsiColor::Red),
            Self::Added => colour(AnsiColor::Green),
            Self::AddedWord => colour(AnsiColor::Green).invert(),
            Self::RemovedWord => colour(AnsiColor::Red).invert(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tone;

    #[test]
    fn text_is_painted_on_request_only() {
        assert_eq!(Tone::Bad.paint("x", false), "x");
        assert_eq!(Tone::Bad.paint("x", true), "\x1b[31mx\x1b[0m");
        assert_eq!((&*Tone::Plain.paint("x", true), &*Tone::Bad.paint("", true)), ("x", ""));
    }
}
