//! The watchdog of a running command: idle and hang detection on its output.
//!
//! Output alone is no sign of progress. An agent that cannot reach its model may print a line a
//! minute for hours, and an agent that has finished may wait for ever for a forgotten background
//! process. A [`Listener`] knows the output format of the program and reports the meaning of each
//! piece of output. The watchdog keeps the deadlines.

use crate::domain::termination::Termination;
use std::fmt;
use std::time::{Duration, Instant};

/// An output stream of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The meaning of a piece of output. If several meanings apply, the last variant wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Activity {
    /// No complete message yet.
    Nothing,
    /// The command lives and makes no progress. For example, it waits and tries again.
    Noise,
    /// The command makes progress.
    Progress,
    /// The command has finished. It may take a moment to clean up, but nobody needs to wait for
    /// that.
    Final,
    /// The command can only fail, however long it runs.
    Hopeless,
}

/// An interpreter of a command's output, called while the command runs.
pub(crate) trait Listener {
    /// Interprets the next bytes of a stream, which arrive in arbitrary pieces. The listener gets
    /// all output, also output that is not kept and output after a request to stop.
    fn observe(&mut self, from: OutputStream, bytes: &[u8]) -> Activity;

    /// Returns the longest time with nothing but [`Activity::Noise`], counted from the first noise
    /// for which the method returns a limit. The watchdog calls the method again after each piece
    /// of output. With `None`, only the limits of the command apply.
    fn noise_limit(&self) -> Option<Duration>;
}

/// The longest time that a finished command may take to exit, as a multiple of `linger`, whatever
/// it still prints.
const LINGER_FACTOR: u32 = 3;

/// The deadlines of a running command.
pub(super) struct Watchdog<'a> {
    listener: Option<&'a mut dyn Listener>,
    /// The time of the last progress.
    progress: Instant,
    /// The time of the first noise under a limit since the last progress.
    noise: Option<Instant>,
    /// The time at which the command reported that it had finished, and the time of its last
    /// output.
    finished: Option<(Instant, Instant)>,
    hopeless: Option<Instant>,
}

impl fmt::Debug for Watchdog<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog")
            .field("noise", &self.noise)
            .field("finished", &self.finished)
            .finish()
    }
}

impl<'a> Watchdog<'a> {
    pub(super) fn new(listener: Option<&'a mut dyn Listener>, begun: Instant) -> Self {
        Self { listener, progress: begun, noise: None, finished: None, hopeless: None }
    }

    /// Records bytes that arrived at a given moment. Without a listener, all output is progress.
    pub(super) fn observe(&mut self, from: OutputStream, bytes: &[u8], now: Instant) {
        let activity = match &mut self.listener {
            Some(listener) => listener.observe(from, bytes),
            None => Activity::Progress,
        };
        if let Some((_, last)) = &mut self.finished {
            *last = now;
        }
        match activity {
            Activity::Nothing => {}
            Activity::Noise => {
                // Noise from before the limit does not count.
                self.noise = self.noise_limit().and(self.noise.or(Some(now)));
            }
            Activity::Progress => {
                self.progress = now;
                self.noise = None;
            }
            Activity::Final => {
                self.progress = now;
                self.noise = None;
                self.finished = Some((now, now));
            }
            Activity::Hopeless => {
                self.hopeless.get_or_insert(now);
            }
        }
    }

    fn noise_limit(&self) -> Option<Duration> {
        self.listener.as_ref().and_then(|listener| listener.noise_limit())
    }

    /// Returns the time at which the command is to be stopped if no more output arrives, and the
    /// termination to report then. After the command has reported its end, only the limits based on
    /// `linger` apply.
    pub(super) fn deadline(
        &self,
        idle: Option<Duration>,
        linger: Duration,
    ) -> Option<(Instant, Termination)> {
        if let Some((finished, last)) = self.finished {
            let quiet = last.checked_add(linger);
            let longest = finished.checked_add(linger.saturating_mul(LINGER_FACTOR));
            return [quiet, longest]
                .into_iter()
                .flatten()
                .min()
                .map(|at| (at, Termination::Lingered));
        }
        let noisy =
            self.noise.zip(self.noise_limit()).and_then(|(since, limit)| since.checked_add(limit));
        let hopeless = [self.hopeless, noisy].into_iter().flatten().min();
        let idle = idle.and_then(|idle| self.progress.checked_add(idle));
        match (hopeless, idle) {
            (Some(at), Some(idle)) if at > idle => Some((idle, Termination::Idle)),
            (Some(at), Some(_) | None) => Some((at, Termination::Hopeless)),
            (None, Some(idle)) => Some((idle, Termination::Idle)),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener that takes each piece of output as the name of an [`Activity`].
    struct ScriptedMeaning {
        noise_limit: Option<Duration>,
        calm: bool,
    }

    impl Listener for ScriptedMeaning {
        fn observe(&mut self, _: OutputStream, bytes: &[u8]) -> Activity {
            self.calm = bytes == b"harmless";
            match bytes {
                b"noise" | b"harmless" => Activity::Noise,
                b"progress" => Activity::Progress,
                b"final" => Activity::Final,
                b"hopeless" => Activity::Hopeless,
                _ => Activity::Nothing,
            }
        }

        fn noise_limit(&self) -> Option<Duration> {
            self.noise_limit.filter(|_| !self.calm)
        }
    }

    /// Returns the deadline in seconds after the start, for output at the given seconds. The idle
    /// limit is 60 seconds, the linger limit 10.
    fn due(noise_limit: Option<u64>, output: &[(u64, &str)]) -> Option<(u64, Termination)> {
        let begun = Instant::now();
        let mut listener =
            ScriptedMeaning { noise_limit: noise_limit.map(Duration::from_secs), calm: false };
        let mut watchdog = Watchdog::new(Some(&mut listener), begun);
        for (at, what) in output {
            watchdog.observe(
                OutputStream::Stdout,
                what.as_bytes(),
                begun + Duration::from_secs(*at),
            );
        }
        let due = watchdog.deadline(Some(Duration::from_secs(60)), Duration::from_secs(10));
        due.map(|(at, why)| ((at - begun).as_secs(), why))
    }

    #[test]
    fn idle_timeout_counts_from_the_last_progress() {
        assert_eq!(due(None, &[]), Some((60, Termination::Idle)));
        assert_eq!(due(None, &[(50, "noise"), (55, "…")]), Some((60, Termination::Idle)));
        assert_eq!(due(None, &[(50, "progress")]), Some((110, Termination::Idle)));
        let begun = Instant::now();
        let mut watchdog = Watchdog::new(None, begun);
        watchdog.observe(OutputStream::Stderr, b"noise", begun + Duration::from_secs(5));
        let due = watchdog.deadline(Some(Duration::from_secs(60)), Duration::ZERO);
        assert_eq!(due, Some((begun + Duration::from_secs(65), Termination::Idle)));
        assert_eq!(watchdog.deadline(None, Duration::ZERO), None);
    }

    #[test]
    fn noise_limit_starts_with_the_first_noise_and_progress_resets_it() {
        let tries = [(1, "noise"), (2, "noise"), (3, "…")];
        assert_eq!(due(Some(20), &tries), Some((21, Termination::Hopeless)));
        let again = [(1, "noise"), (2, "progress"), (9, "noise")];
        assert_eq!(due(Some(20), &again), Some((29, Termination::Hopeless)));
        assert_eq!(due(Some(20), &[(1, "noise"), (2, "progress")]), Some((62, Termination::Idle)));
        let harmless = [(1, "harmless"), (30, "harmless"), (40, "noise")];
        assert_eq!(due(Some(15), &harmless), Some((55, Termination::Hopeless)));
        assert_eq!(due(Some(100), &[(1, "noise")]), Some((60, Termination::Idle)));
        assert_eq!(
            due(None, &[(1, "progress"), (2, "hopeless")]),
            Some((2, Termination::Hopeless))
        );
    }

    #[test]
    fn finished_command_lingers_for_a_bounded_time_whatever_it_prints() {
        assert_eq!(due(None, &[(5, "final")]), Some((15, Termination::Lingered)));
        assert_eq!(due(None, &[(5, "final"), (9, "…")]), Some((19, Termination::Lingered)));
        let chatter = [(5, "final"), (14, "progress"), (23, "noise"), (32, "hopeless")];
        assert_eq!(due(Some(1), &chatter), Some((35, Termination::Lingered)));
        // A second report of the end restarts the linger limit.
        assert_eq!(due(None, &[(5, "final"), (20, "final")]), Some((30, Termination::Lingered)));
    }
}
