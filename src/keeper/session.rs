//! The session of an agent, by its preset: observes the output while the program runs, and
//! classifies the session at its end.

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
    self, Activity, Command, CommandResult, Confinement, Containment, Listener, OutputStream,
    Redactor, SignalTarget, StopFlag, StopSignal, StopStep,
};
use crate::wire::keeper::SessionWork;

/// The time that an agent may take to exit after its final message.
const LINGER: Duration = Duration::from_secs(10);

/// The number of bytes that are kept of each stream. Nobody reads a transcript of a gigabyte.
const CAP: u64 = 4 * 1024 * 1024;

/// The number of bytes that are written while the agent runs. The remaining bytes hold the end of
/// the output and are written when the program has ended.
pub(crate) const OUTPUT_HEAD: u64 = CAP - CAP / 4;

/// Observes an agent's output, and writes two files for supervisors: the id of the session, and the
/// sign that the service has answered.
pub(super) struct SessionListener<'a> {
    dir: &'a Path,
    watcher: SessionWatcher,
    session_written: bool,
    answer_written: bool,
    given_up: Option<Class>,
}

impl<'a> SessionListener<'a> {
    pub(super) fn new(preset: &Preset, dir: &'a Path) -> Self {
        Self {
            dir,
            watcher: SessionWatcher::new(preset),
            session_written: false,
            answer_written: false,
            given_up: None,
        }
    }

    /// Returns the class because of which the keeper gave up on the session. The class may not be
    /// evident from the output alone.
    pub(super) fn given_up(&self) -> Option<Class> {
        self.given_up.or_else(|| self.watcher.pending_give_up().map(|(_, class)| class))
    }

    /// Writes the files for supervisors. A failed write is ignored: a broken disk also fails the
    /// keeper's later writes, which report it.
    fn write_signs(&mut self) {
        if let (false, Some(id)) = (self.session_written, self.watcher.session()) {
            self.session_written = std::fs::write(self.dir.join(files::SESSION), id).is_ok();
        }
        if !self.answer_written && self.watcher.answered() {
            self.answer_written = std::fs::write(self.dir.join(files::ANSWERED), "").is_ok();
        }
    }
}

impl Listener for SessionListener<'_> {
    fn observe(&mut self, from: OutputStream, bytes: &[u8]) -> Activity {
        let stream = match from {
            OutputStream::Stdout => SessionStream::Stdout,
            OutputStream::Stderr => SessionStream::Stderr,
        };
        let meaning = self.watcher.observe(stream, bytes);
        self.write_signs();
        match meaning {
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

/// Returns the command of a session.
pub(super) fn command(
    dir: &Path,
    assigned: &AssignedWork,
    (work, preset): (&SessionWork, Option<&Preset>),
    redactor: &Redactor,
    sandbox: Option<Confinement>,
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
    .containment(Containment::ControlGroup)
    .sandbox(sandbox);
    if work.prompt_on_stdin { command.stdin_file(prompt) } else { command }
}

/// Runs a session's program. Returns the result of the command, and the class because of which the
/// keeper gave up on the session.
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

/// Runs a session's program whose last message is the result. Returns the result of the command,
/// the session report, and the last message. Without a preset, standard output is the last message.
pub(super) fn run_to_report(
    command: &Command,
    dir: &Path,
    preset: Option<&Preset>,
    stop: &StopFlag,
) -> Result<(CommandResult, Option<SessionReport>, Option<String>)> {
    let (ended, given_up) = run(command, dir, preset, stop)?;
    let termination = ended.termination.clone();
    let bytes = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
    let (report, last_message) = match preset {
        None => (None, Some(String::from_utf8_lossy(&bytes(files::STDOUT)).into_owned())),
        Some(_) if !termination.began() => (None, None),
        Some(preset) => {
            let message_file = message_file(dir);
            let exit = session_exit(&termination, given_up);
            let stdout = bytes(files::STDOUT);
            let last_message = final_message(preset, exit, &stdout, message_file.as_deref());
            (Some(read(preset, dir, &termination, given_up, None)), last_message)
        }
    };
    Ok((ended, report, last_message))
}

/// Returns the globs of files that the program leaves in its folder and that are not work.
pub(super) fn litter_globs(preset: &Preset) -> Result<GlobSet> {
    let mut globs = GlobSetBuilder::new();
    for pattern in &preset.litter {
        let glob = Glob::new(pattern);
        globs
            .add(glob.with_context(|| format!("not a glob in `litter` of the preset: {pattern}"))?);
    }
    globs.build().context("cannot use the globs in `litter` of the preset")
}

/// Returns the steps that stop an agent of this preset.
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

/// Returns the content of the file for the last message, if the program has written it. In a
/// sandbox an empty file is there from the beginning.
fn message_file(dir: &Path) -> Option<Vec<u8>> {
    std::fs::read(dir.join(files::LAST_MESSAGE)).ok().filter(|text| !text.is_empty())
}

/// Classifies a session by the files in its keeper's folder.
pub(super) fn read(
    preset: &Preset,
    dir: &Path,
    termination: &Termination,
    given_up: Option<Class>,
    changed: Option<bool>,
) -> SessionReport {
    let bytes = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
    let last_message = message_file(dir);
    classify(
        preset,
        session_exit(termination, given_up),
        &bytes(files::STDOUT),
        &bytes(files::STDERR),
        last_message.as_deref(),
        changed,
        ambient::now(),
    )
}

fn session_exit(termination: &Termination, given_up: Option<Class>) -> SessionExit {
    let ended_by_us =
        |intervention| SessionExit { intervention: Some(intervention), ..SessionExit::default() };
    match termination {
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
