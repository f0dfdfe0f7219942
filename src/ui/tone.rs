//! A little emphasis, where there is a terminal.

/// How loud a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As any other.
    Plain,
    /// In the background.
    Faint,
    /// Worth a look.
    Strong,
    /// What somebody does.
    Action,
    /// What went wrong.
    Bad,
    /// A line that is new.
    Added,
    /// A line that is gone.
    Removed,
    /// Words in a line that are new.
    AddedWord,
    /// Words in a line that are gone.
    RemovedWord,
}

impl Tone {
    /// The text in this tone; as it is where nothing is painted. The text must be printable already.
    pub(crate) fn paint(self, text: &str, paints: bool) -> String {
        let code = match self {
            _ if !paints || text.is_empty() => return text.to_owned(),
            Self::Plain => return text.to_owned(),
            Self::Faint => "2",
            Self::Strong => "1",
            Self::Action => "36",
            Self::Bad | Self::Removed => "31",
            Self::Added => "32",
            Self::AddedWord => "7;32",
            Self::RemovedWord => "7;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::Tone;

    #[test]
    fn only_a_terminal_is_painted() {
        assert_eq!(Tone::Bad.paint("x", false), "x");
        assert_eq!(Tone::Bad.paint("x", true), "\x1b[31mx\x1b[0m");
        assert_eq!((&*Tone::Plain.paint("x", true), &*Tone::Bad.paint("", true)), ("x", ""));
    }
}
