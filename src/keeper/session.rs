//! An agent's session seen from its keeper: listened to while it runs, and read when it has ended, by its preset.

use std::path::Path;
use std::time::Duration;

use super::files;
use crate::agent::classify::{Exit, Ours, Pulse, Stream, Watcher, classify};
use crate::agent::preset::{self, Preset};
use crate::ambient;
use crate::domain::event::Ending;
use crate::domain::session::{Class, Reading};
use crate::process::{Heard, Listener, Signal, Source, StopStep, Whom};

/// Listens to an agent, and leaves word for supervisors: its session's id, and that it has got an answer.
pub(super) struct Ear<'a> {
    dir: &'a Path,
    watcher: Watcher,
    known: bool,
    answered: bool,
    given_up: Option<Class>,
}

impl<'a> Ear<'a> {
    pub(super) fn new(preset: &Preset, dir: &'a Path) -> Self {
        Self { dir, watcher: Watcher::new(preset), known: false, answered: false, given_up: None }
    }

    /// Why it was given up, if it was: what it printed may not say.
    pub(super) fn given_up(&self) -> Option<Class> {
        self.given_up.or_else(|| self.watcher.patience().map(|(_, class)| class))
    }

    /// Words for supervisors. A disk that does not take them is met again by everything else.
    fn leave_word(&mut self) {
        if let (false, Some(id)) = (self.known, self.watcher.session()) {
            self.known = std::fs::write(self.dir.join(files::SESSION), id).is_ok();
        }
        if !self.answered && self.watcher.answered() {
            self.answered = std::fs::write(self.dir.join(files::ANSWERED), "").is_ok();
        }
    }
}

impl Listener for Ear<'_> {
    fn hear(&mut self, from: Source, bytes: &[u8]) -> Heard {
        let stream = match from {
            Source::Stdout => Stream::Stdout,
            Source::Stderr => Stream::Stderr,
        };
        let heard = self.watcher.hear(stream, bytes);
        self.leave_word();
        match heard {
            Pulse::Nothing => Heard::Nothing,
            Pulse::Noise => Heard::Noise,
            Pulse::Progress => Heard::Progress,
            Pulse::Final => Heard::Final,
            Pulse::Hopeless(class) => {
                self.given_up = Some(class);
                Heard::Hopeless
            }
        }
    }

    fn patience(&self) -> Option<Duration> {
        self.watcher.patience().map(|(time, _)| time)
    }
}

/// Whether a name is that of something the program leaves in its folder and nobody wants.
pub(super) fn is_litter(preset: &Preset, name: &str) -> bool {
    preset.litter.iter().any(|pattern| match pattern.split_once('*') {
        None => name == pattern,
        Some((head, tail)) => {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
    })
}

/// How an agent of this preset is asked to stop.
pub(super) fn stop_steps(preset: &Preset) -> Vec<StopStep> {
    let step = |step: &preset::StopStep| StopStep {
        signal: match step.signal {
            preset::Signal::Int => Signal::Interrupt,
            preset::Signal::Term => Signal::Terminate,
            preset::Signal::Kill => Signal::Kill,
        },
        whom: match step.whom {
            preset::Whom::Leader => Whom::Leader,
            preset::Whom::Group => Whom::Group,
            preset::Whom::Tree => Whom::Tree,
        },
        wait: step.wait.0,
    };
    preset.stop.iter().map(step).collect()
}

/// Reads what a session left in its keeper's folder.
pub(super) fn read(
    preset: &Preset,
    dir: &Path,
    ending: &Ending,
    given_up: Option<Class>,
    changed: bool,
) -> Reading {
    let bytes = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
    let last_message = std::fs::read(dir.join(files::LAST_MESSAGE)).ok();
    classify(
        preset,
        exit(ending, given_up),
        &bytes(files::STDOUT),
        &bytes(files::STDERR),
        last_message.as_deref(),
        Some(changed),
        ambient::now(),
    )
}

fn exit(ending: &Ending, given_up: Option<Class>) -> Exit {
    let ours = |ours| Exit { ours: Some(ours), ..Exit::default() };
    match ending {
        Ending::Exited(code) => Exit { code: Some(*code), ..Exit::default() },
        Ending::Signalled(signal) => Exit { signal: Some(*signal), ..Exit::default() },
        Ending::TimedOut => ours(Ours::TimedOut),
        Ending::Idle => ours(Ours::Idle),
        Ending::Lingered => ours(Ours::Lingered),
        Ending::Hopeless => ours(given_up.map_or(Ours::Stopped, Ours::GivenUp)),
        Ending::Stopped | Ending::NotStarted(_) | Ending::Lost => ours(Ours::Stopped),
    }
}
