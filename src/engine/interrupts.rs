//! The signals that the supervisor has received.

use std::time::{Duration, Instant};

use signal_hook::consts::SIGINT;

/// The interval after a signal in which a second signal of the same kind is an echo. `git` forwards
/// Ctrl-C to its subcommands, which have already got the signal from the terminal (seen with git
/// 2.47).
const ECHO_INTERVAL: Duration = Duration::from_millis(300);

/// The time that keepers have after a stop request: their grace period, and time to save the work.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// The response to a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignalResponse {
    /// Start nothing new, and let the agents finish their attempts.
    Drain,
    /// Ask the agents to stop.
    StopAgents,
    /// Nothing: the signal is an echo, or the agents were asked before.
    Nothing,
}

/// The signals that a supervisor has received: the first drains, the second stops the agents, the
/// third exits.
#[derive(Debug, Default)]
pub(super) struct Interrupts {
    count: u32,
    last: Option<(i32, Instant)>,
    stopping_since: Option<Instant>,
}

impl Interrupts {
    /// Counts a signal, and returns the response to it. Only Ctrl-C drains: other signals stop the
    /// agents at once.
    pub(super) fn receive(&mut self, signal: i32, now: Instant) -> SignalResponse {
        let is_echo = |(last, at): (i32, Instant)| {
            last == signal && now.saturating_duration_since(at) < ECHO_INTERVAL
        };
        if self.last.is_some_and(is_echo) {
            return SignalResponse::Nothing;
        }
        self.last = Some((signal, now));
        self.count += 1;
        if signal == SIGINT && self.count == 1 {
            return SignalResponse::Drain;
        }
        if self.is_stopping() {
            return SignalResponse::Nothing;
        }
        self.stopping_since = Some(now);
        SignalResponse::StopAgents
    }

    /// Returns the last signal. No new work starts after a signal.
    pub(super) fn signal(&self) -> Option<i32> {
        self.last.map(|(signal, _)| signal)
    }

    /// Returns the last signal, if the supervisor must exit without waiting for anything.
    pub(super) fn exit_signal(&self) -> Option<i32> {
        self.signal().filter(|_| self.count > 2)
    }

    /// Returns true if the agents were asked to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping_since.is_some()
    }

    /// Returns true if the agents were asked to stop so long ago that the supervisor leaves them.
    pub(super) fn has_timed_out(&self, now: Instant) -> bool {
        let waited = |since: Instant| now.saturating_duration_since(since);
        self.stopping_since.is_some_and(|since| waited(since) > STOP_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use signal_hook::consts::SIGTERM;

    use super::*;
    use crate::ambient;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn first_interrupt_drains_second_stops_third_exits() {
        let (mut interrupts, start) = (Interrupts::default(), ambient::instant());
        assert_eq!((interrupts.signal(), interrupts.exit_signal()), (None, None));
        assert_eq!(interrupts.receive(SIGINT, start), SignalResponse::Drain);
        assert_eq!((interrupts.signal(), interrupts.is_stopping()), (Some(SIGINT), false));
        assert_eq!(interrupts.receive(SIGINT, start + SECOND), SignalResponse::StopAgents);
        assert!(interrupts.is_stopping() && interrupts.exit_signal().is_none());
        assert_eq!(interrupts.receive(SIGINT, start + 2 * SECOND), SignalResponse::Nothing);
        assert_eq!(interrupts.exit_signal(), Some(SIGINT));
    }

    #[test]
    fn echo_of_an_interrupt_does_not_stop_the_agents() {
        let (mut interrupts, start) = (Interrupts::default(), ambient::instant());
        interrupts.receive(SIGINT, start);
        let echo = start + ECHO_INTERVAL - Duration::from_millis(1);
        assert_eq!(interrupts.receive(SIGINT, echo), SignalResponse::Nothing);
        assert!(!interrupts.is_stopping());
        assert_eq!(interrupts.receive(SIGTERM, echo), SignalResponse::StopAgents);
    }

    #[test]
    fn stop_times_out_after_the_first_stop_request() {
        let (mut interrupts, start) = (Interrupts::default(), ambient::instant());
        assert_eq!(interrupts.receive(SIGTERM, start), SignalResponse::StopAgents);
        interrupts.receive(SIGTERM, start + STOP_TIMEOUT);
        assert!(!interrupts.has_timed_out(start + STOP_TIMEOUT));
        assert!(interrupts.has_timed_out(start + STOP_TIMEOUT + SECOND));
    }
}
