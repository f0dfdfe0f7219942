//! An agent's session seen from its keeper: listened to while it runs, and read when it has ended, by its preset.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::Deserialize as _;

use super::AssignedWork;
use super::files;
use crate::agent::classify::{
    Intervention, OutputMeaning, SessionExit, SessionStream, SessionWatcher, classify,
    final_message,
};
use crate::agent::preset::{self as presets, Preset};
use crate::ambient;
use crate::domain::session::{Class, SessionReport};
use crate::domain::termination::Termination;
use crate::process::{
    self, Activity, Command, CommandResult, Containment, Listener, OutputStream, Redactor,
    SignalTarget, StopFlag, StopSignal, StopStep,
};
use crate::wire::keeper::SessionWork;

/// How long an agent that has said that it has finished may still take to leave.
const LINGER: Duration = Duration::from_secs(10);

/// How much of each stream is kept, in bytes. A transcript is for reading; a gigabyte of it is for nobody.
const CAP: u64 = 4 * 1024 * 1024;

/// How much of that is there while the agent runs; the rest is the end of what it prints, and written then.
pub(crate) const OUTPUT_HEAD: u64 = CAP - CAP / 4;

/// Listens to an agent, and leaves word for supervisors: its session's id, and that it has got an answer.
pub(super) struct SessionListener<'a> {
    dir: &'a Path,
    watcher: SessionWatcher,
    known: bool,
    answered: bool,
    given_up: Option<Class>,
}

impl<'a> SessionListener<'a> {
    pub(super) fn new(preset: &Preset, dir: &'a Path) -> Self {
        Self {
            dir,
            watcher: SessionWatcher::new(preset),
            known: false,
            answered: false,
            given_up: None,
        }
    }

    /// Why it was given up, if it was: what it printed may not say.
    pub(super) fn given_up(&self) -> Option<Class> {
        self.given_up.or_else(|| self.watcher.pending_give_up().map(|(_, class)| class))
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

impl Listener for SessionListener<'_> {
    fn observe(&mut self, from: OutputStream, bytes: &[u8]) -> Activity {
        let stream = match from {
            OutputStream::Stdout => SessionStream::Stdout,
            OutputStream::Stderr => SessionStream::Stderr,
        };
        let heard = self.watcher.observe(stream, bytes);
        self.leave_word();
        match heard {
            OutputMeaning::Nothing => Activity::Nothing,
            OutputMeaning::Noise => Activity::Noise,
            OutputMeaning::Progress => Activity::Progress,
            OutputMeaning::Final => Activity::Final,
            OutputMeaning::Hopeless(class) => {
                self.given_up = Some(class);
                Activity::Hopeless
            }
        }
    }

    fn noise_limit(&self) -> Option<Duration> {
        self.watcher.pending_give_up().map(|(time, _)| time)
    }
}

/// Returns the preset of a session's program.
pub(super) fn preset(work: &SessionWork) -> Result<Option<Preset>> {
    let preset = work.preset.as_ref().map(Preset::deserialize).transpose();
    preset.context("the assignment's preset cannot be read")
}

/// The command that begins a session.
pub(super) fn command(
    dir: &Path,
    assigned: &AssignedWork,
    (work, preset): (&SessionWork, Option<&Preset>),
    redactor: &Redactor,
) -> Command {
    let prompt = dir.join(files::PROMPT);
    let (stdout, stderr) = (dir.join(files::STDOUT), dir.join(files::STDERR));
    let linger = preset.and_then(|p| p.timeouts.grace).map_or(LINGER, |grace| grace.0);
    let command = Command::new(
        &work.argv,
        &assigned.assignment.worktree.path,
        &assigned.assignment.marker,
        stdout,
        stderr,
    )
    .env(assigned.env.clone())
    .redactor(redactor.clone())
    .cap(CAP)
    .timeout(Duration::from_millis(work.timeout_ms))
    .idle(work.idle_ms.map(Duration::from_millis))
    .linger(linger)
    .stop_steps(preset.map(stop_steps).unwrap_or_default())
    .containment(Containment::ControlGroup);
    if work.prompt_on_stdin { command.stdin_file(prompt) } else { command }
}

/// Runs a session's program. Beside how it ended: why it was given up, if it was.
pub(super) fn run(
    command: &Command,
    dir: &Path,
    preset: Option<&Preset>,
    stop: &StopFlag,
) -> Result<(CommandResult, Option<Class>)> {
    let Some(preset) = preset else { return Ok((process::run(command, stop)?, None)) };
    let mut listener = SessionListener::new(preset, dir);
    let ended = process::run_with_listener(command, stop, &mut listener)?;
    Ok((ended, listener.given_up()))
}

/// Runs a session's program of which only the words count: how it ended, what is to be read of it, and its last message.
/// A program of which nothing is known says it on its standard output.
pub(super) fn hold(
    command: &Command,
    dir: &Path,
    preset: Option<&Preset>,
    stop: &StopFlag,
) -> Result<(CommandResult, Option<SessionReport>, Option<String>)> {
    let (ended, given_up) = run(command, dir, preset, stop)?;
    let ending = ended.termination.clone();
    let bytes = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
    let (reading, said) = match preset {
        None => (None, Some(String::from_utf8_lossy(&bytes(files::STDOUT)).into_owned())),
        Some(_) if !ending.began() => (None, None),
        Some(preset) => {
            let last = std::fs::read(dir.join(files::LAST_MESSAGE)).ok();
            let ended = exit(&ending, given_up);
            let stdout = bytes(files::STDOUT);
            let said = final_message(preset, ended, &stdout, last.as_deref());
            (Some(read(preset, dir, &ending, given_up, None)), said)
        }
    };
    Ok((ended, reading, said))
}

/// Returns the globs of the files that the program leaves in its folder and that nobody wants.
pub(super) fn litter_globs(preset: &Preset) -> Result<GlobSet> {
    let mut globs = GlobSetBuilder::new();
    for pattern in &preset.litter {
        let glob = Glob::new(pattern);
        globs
            .add(glob.with_context(|| format!("not a glob in `litter` of the preset: {pattern}"))?);
    }
    globs.build().context("cannot use the globs in `litter` of the preset")
}

/// How an agent of this preset is asked to stop.
pub(super) fn stop_steps(preset: &Preset) -> Vec<StopStep> {
    let step = |step: &presets::PresetStopStep| StopStep {
        signal: match step.signal {
            presets::PresetSignal::Int => StopSignal::Interrupt,
            presets::PresetSignal::Term => StopSignal::Terminate,
            presets::PresetSignal::Kill => StopSignal::Kill,
        },
        target: match step.whom {
            presets::PresetSignalTarget::Leader => SignalTarget::Leader,
            presets::PresetSignalTarget::Group => SignalTarget::Group,
            presets::PresetSignalTarget::Tree => SignalTarget::Tree,
        },
        wait: step.wait.0,
    };
    preset.stop.iter().map(step).collect()
}

/// Reads what a session left in its keeper's folder.
pub(super) fn read(
    preset: &Preset,
    dir: &Path,
    ending: &Termination,
    given_up: Option<Class>,
    changed: Option<bool>,
) -> SessionReport {
    let bytes = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
    let last_message = std::fs::read(dir.join(files::LAST_MESSAGE)).ok();
    classify(
        preset,
        exit(ending, given_up),
        &bytes(files::STDOUT),
        &bytes(files::STDERR),
        last_message.as_deref(),
        changed,
        ambient::now(),
    )
}

fn exit(ending: &Termination, given_up: Option<Class>) -> SessionExit {
    let ended_by_us =
        |intervention| SessionExit { intervention: Some(intervention), ..SessionExit::default() };
    match ending {
        Termination::Exited(code) => SessionExit { code: Some(*code), ..SessionExit::default() },
        Termination::Signalled(signal) => {
            SessionExit { signal: Some(*signal), ..SessionExit::default() }
        }
        Termination::TimedOut => ended_by_us(Intervention::TimedOut),
        Termination::Idle => ended_by_us(Intervention::Idle),
        Termination::Lingered => ended_by_us(Intervention::Lingered),
        Termination::Hopeless => {
            ended_by_us(given_up.map_or(Intervention::Stopped, Intervention::GivenUp))
        }
        Termination::Stopped | Termination::NotStarted(_) | Termination::Lost => {
            ended_by_us(Intervention::Stopped)
        }
    }
}
