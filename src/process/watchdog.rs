//! What a command is heard to say, and until when it may go on saying nothing.
//!
//! Bytes alone are no sign of life: an agent that cannot reach its model prints a line a minute about that for hours, and
//! one that has finished may wait for ever for a process it has forgotten. Who knows the program's language says what
//! its output means ([`Listener`]); the clocks are kept here.

use crate::domain::termination::Termination;
use std::fmt;
use std::time::{Duration, Instant};

/// Where bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What bytes meant. Where they meant several things, the latest in this list counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Activity {
    /// Nothing yet: a part of something.
    Nothing,
    /// That it lives but does not get on, such as that it waits and tries again.
    Noise,
    /// That it gets on.
    Progress,
    /// That it has finished. It may take a moment to tidy up, but it need not be waited for.
    Final,
    /// That it can only fail, however long it goes on.
    Hopeless,
}

/// Somebody who understands what a command prints, while it prints it.
pub(crate) trait Listener {
    /// Hears the next bytes of a stream, in whatever pieces they come. It hears everything, also what is not kept, and
    /// what is printed after the command was asked to stop.
    fn hear(&mut self, from: OutputStream, bytes: &[u8]) -> Activity;

    /// For how long nothing but [`Activity::Noise`] may come; asked again after everything that was heard, and counted from
    /// the first noise after which it is not `None`. That leaves it to the limits of the command.
    fn patience(&self) -> Option<Duration>;
}

/// How often `linger` a command has at most, once it has finished, whatever it still prints.
const LINGERS: u32 = 3;

/// The clocks of a command that runs.
pub(super) struct Watchdog<'a> {
    listener: Option<&'a mut dyn Listener>,
    /// When it last got on.
    progress: Instant,
    /// Since when there has been noise that patience is running out with, and no progress.
    noise: Option<Instant>,
    /// When it said that it had finished, and when it last printed anything.
    over: Option<(Instant, Instant)>,
    hopeless: Option<Instant>,
}

impl fmt::Debug for Watchdog<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ear").field("noise", &self.noise).field("over", &self.over).finish()
    }
}

impl<'a> Watchdog<'a> {
    pub(super) fn new(listener: Option<&'a mut dyn Listener>, begun: Instant) -> Self {
        Self { listener, progress: begun, noise: None, over: None, hopeless: None }
    }

    /// Hears bytes that came at this moment. Without a listener all of them are progress.
    pub(super) fn hear(&mut self, from: OutputStream, bytes: &[u8], now: Instant) {
        let heard = match &mut self.listener {
            Some(listener) => listener.hear(from, bytes),
            None => Activity::Progress,
        };
        if let Some((_, last)) = &mut self.over {
            *last = now;
        }
        match heard {
            Activity::Nothing => {}
            Activity::Noise => {
                // What came before the listener began to lose patience does not count.
                self.noise = self.patience().and(self.noise.or(Some(now)));
            }
            Activity::Progress => {
                self.progress = now;
                self.noise = None;
            }
            Activity::Final => {
                self.progress = now;
                self.noise = None;
                self.over = Some((now, now));
            }
            Activity::Hopeless => {
                self.hopeless.get_or_insert(now);
            }
        }
    }

    fn patience(&self) -> Option<Duration> {
        self.listener.as_ref().and_then(|listener| listener.patience())
    }

    /// When the command is to be stopped if nothing else comes, and as what. Who has finished is waited for a little, and
    /// nothing else counts against it any more.
    pub(super) fn deadline(
        &self,
        idle: Option<Duration>,
        linger: Duration,
    ) -> Option<(Instant, Termination)> {
        if let Some((finished, last)) = self.over {
            let quiet = last.checked_add(linger);
            let longest = finished.checked_add(linger.saturating_mul(LINGERS));
            return [quiet, longest]
                .into_iter()
                .flatten()
                .min()
                .map(|at| (at, Termination::Lingered));
        }
        let tried =
            self.noise.zip(self.patience()).and_then(|(since, most)| since.checked_add(most));
        let hopeless = [self.hopeless, tried].into_iter().flatten().min();
        let idle = idle.and_then(|idle| self.progress.checked_add(idle));
        match (hopeless, idle) {
            (Some(at), Some(idle)) if at > idle => Some((idle, Termination::Idle)),
            (Some(at), _) => Some((at, Termination::Hopeless)),
            (None, Some(idle)) => Some((idle, Termination::Idle)),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes bytes for what they are to mean.
    struct ScriptedMeaning {
        patience: Option<Duration>,
        calm: bool,
    }

    impl Listener for ScriptedMeaning {
        fn hear(&mut self, _: OutputStream, bytes: &[u8]) -> Activity {
            self.calm = bytes == b"harmless";
            match bytes {
                b"noise" | b"harmless" => Activity::Noise,
                b"progress" => Activity::Progress,
                b"final" => Activity::Final,
                b"hopeless" => Activity::Hopeless,
                _ => Activity::Nothing,
            }
        }

        fn patience(&self) -> Option<Duration> {
            self.patience.filter(|_| !self.calm)
        }
    }

    /// What is due, in seconds from the start, after things were heard at the seconds given. Idle is 60, lingering 10.
    fn due(patience: Option<u64>, heard: &[(u64, &str)]) -> Option<(u64, Termination)> {
        let begun = Instant::now();
        let mut told = ScriptedMeaning { patience: patience.map(Duration::from_secs), calm: false };
        let mut watchdog = Watchdog::new(Some(&mut told), begun);
        for (at, what) in heard {
            watchdog.hear(OutputStream::Stdout, what.as_bytes(), begun + Duration::from_secs(*at));
        }
        let due = watchdog.deadline(Some(Duration::from_secs(60)), Duration::from_secs(10));
        due.map(|(at, why)| ((at - begun).as_secs(), why))
    }

    #[test]
    fn only_progress_is_a_sign_of_life() {
        assert_eq!(due(None, &[]), Some((60, Termination::Idle)));
        assert_eq!(due(None, &[(50, "noise"), (55, "…")]), Some((60, Termination::Idle)));
        assert_eq!(due(None, &[(50, "progress")]), Some((110, Termination::Idle)));
        let begun = Instant::now();
        let mut watchdog = Watchdog::new(None, begun);
        watchdog.hear(OutputStream::Stderr, b"noise", begun + Duration::from_secs(5));
        let due = watchdog.deadline(Some(Duration::from_secs(60)), Duration::ZERO);
        assert_eq!(due, Some((begun + Duration::from_secs(65), Termination::Idle)));
        assert_eq!(watchdog.deadline(None, Duration::ZERO), None);
    }

    #[test]
    fn patience_begins_with_the_first_noise_and_progress_restores_it() {
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
    fn who_has_finished_is_waited_for_a_little_whatever_it_prints() {
        assert_eq!(due(None, &[(5, "final")]), Some((15, Termination::Lingered)));
        assert_eq!(due(None, &[(5, "final"), (9, "…")]), Some((19, Termination::Lingered)));
        let chatter = [(5, "final"), (14, "progress"), (23, "noise"), (32, "hopeless")];
        assert_eq!(due(Some(1), &chatter), Some((35, Termination::Lingered)));
        // It was not the end after all; this one may be.
        assert_eq!(due(None, &[(5, "final"), (20, "final")]), Some((30, Termination::Lingered)));
    }
}
