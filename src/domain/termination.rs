//! The termination of a supervised process.

/// The way in which a process ended: an agent, a check, or any other supervised command.
///
/// A termination never decides whether an agent's work is good. The checks decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Termination {
    /// The process exited by itself with this code.
    Exited(i32),
    /// A signal that the supervisor did not send ended the process.
    Signalled(i32),
    /// The process ran longer than its `timeout` and was stopped.
    TimedOut,
    /// The process printed nothing for its `idle-timeout` and was stopped.
    Idle,
    /// The process reported its end, did not exit, and was stopped. Its work counts as complete.
    Lingered,
    /// The process could not succeed any more and was stopped early.
    Hopeless,
    /// The process was stopped on request.
    Stopped,
    /// The process could not be started, for this reason.
    NotStarted(String),
    /// The keeper died before it recorded a termination.
    Lost,
}

impl Termination {
    /// Reads a termination from the text that [`Display`](std::fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(why) = text.strip_prefix("could not be started:") {
            return Some(Self::NotStarted(why.trim_start().to_owned()));
        }
        let number =
            |prefix: &str| text.strip_prefix(prefix).and_then(|digits| digits.parse().ok());
        let plain = [Self::TimedOut, Self::Idle, Self::Lingered, Self::Hopeless, Self::Stopped];
        number("exit ")
            .map(Self::Exited)
            .or_else(|| number("signal ").map(Self::Signalled))
            .or_else(|| plain.into_iter().chain([Self::Lost]).find(|t| t.to_string() == text))
    }

    /// Returns true if the process ran at all.
    pub fn began(&self) -> bool {
        match self {
            Self::NotStarted(_) => false,
            Self::Exited(_) | Self::Signalled(_) | Self::TimedOut | Self::Idle => true,
            Self::Stopped | Self::Lost | Self::Lingered | Self::Hopeless => true,
        }
    }

    /// Returns true if the process exited with code 0, or reported its end and had to be stopped.
    pub fn succeeded(&self) -> bool {
        match self {
            Self::Exited(code) => *code == 0,
            Self::Lingered => true,
            Self::Signalled(_) | Self::TimedOut | Self::Idle | Self::Hopeless => false,
            Self::Stopped | Self::NotStarted(_) | Self::Lost => false,
        }
    }

    /// Returns true if the process was stopped on request, was lost, or never started. Its work is
    /// then not verified.
    pub fn cut_off(&self) -> bool {
        match self {
            Self::Stopped | Self::NotStarted(_) | Self::Lost => true,
            Self::Exited(_)
            | Self::Signalled(_)
            | Self::TimedOut
            | Self::Idle
            | Self::Lingered
            | Self::Hopeless => false,
        }
    }
}

impl std::fmt::Display for Termination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit {code}"),
            Self::Signalled(signal) => write!(f, "signal {signal}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Idle => f.write_str("went silent"),
            Self::Lingered => f.write_str("had finished and did not leave"),
            Self::Hopeless => f.write_str("was ended, it could not succeed any more"),
            Self::Stopped => f.write_str("was stopped"),
            Self::NotStarted(why) => write!(f, "could not be started: {why}"),
            Self::Lost => f.write_str("was lost with its keeper"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Termination;

    #[test]
    fn termination_is_read_from_its_own_text() {
        let terminations = [
            Termination::Exited(0),
            Termination::Exited(-3),
            Termination::Signalled(9),
            Termination::TimedOut,
            Termination::Idle,
            Termination::Lingered,
            Termination::Hopeless,
            Termination::Stopped,
            Termination::NotStarted("exit 1".into()),
            Termination::NotStarted(String::new()),
            Termination::Lost,
        ];
        for termination in terminations {
            assert_eq!(Termination::parse(&termination.to_string()), Some(termination));
        }
        for text in ["", "exit", "exit x", "signal ", "vanished"] {
            assert_eq!(Termination::parse(text), None, "{text:?}");
        }
    }
}
