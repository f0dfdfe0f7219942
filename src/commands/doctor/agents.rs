//! The installed agents and their versions.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::{Diagnosis, Severity, locate};
use crate::agent::preset::{NAMES, Preset, builtin};
use crate::ambient;
use crate::commands::job_file::LoadedJob;
use crate::domain::identity::Identity;
use crate::domain::termination::Termination;
use crate::process::{self, Command, Environ, StopFlag};

/// Time limit for a program to print its version. Some programs are slow to start.
const VERSION_TIMEOUT: Duration = Duration::from_secs(15);

/// Looks for the program of each preset. A missing program is a problem if the job uses the preset,
/// else a note.
pub(super) fn check(here: &Path, job: Option<&LoadedJob>, diagnoses: &mut Vec<Diagnosis>) {
    let evaluator = job.and_then(|job| job.evaluator.as_ref());
    let used: Vec<&Preset> = job.map(|job| &job.preset).into_iter().chain(evaluator).collect();
    let is_unused = |name: &&str| used.iter().all(|used| used.name != *name);
    for name in NAMES.into_iter().filter(is_unused) {
        if let Ok(preset) = builtin(name) {
            check_agent(here, &preset, false, diagnoses);
        }
    }
    for preset in used {
        check_agent(here, preset, true, diagnoses);
    }
}

fn check_agent(here: &Path, preset: &Preset, needed: bool, diagnoses: &mut Vec<Diagnosis>) {
    let Some(program) = &preset.detect.program else { return };
    let what = format!("agent {}", preset.name);
    let Some(path) = locate(Some(here), program) else {
        let level = if needed { Severity::Problem } else { Severity::Note };
        diagnoses.push((
            level,
            what,
            format!("program not found: {program}; tested with: {}", preset.tried),
        ));
        return;
    };
    let said = match version(here, preset) {
        Ok(version) => version,
        Err(problem) => format!("cannot tell its version: {problem:#}"),
    };
    let path = path.display();
    diagnoses.push((
        Severity::Ok,
        what.clone(),
        format!("{path}: {said}; tested with: {}", preset.tried),
    ));
    let matters = needed && (preset.root.refused || !preset.root.env.is_empty());
    if let Some(note) = preset.root.note.as_ref().filter(|_| matters && is_root()) {
        let level = if preset.root.refused { Severity::Problem } else { Severity::Note };
        diagnoses.push((level, what, format!("you are root: {note}")));
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns the version that an agent's program prints. The program runs in a clean environment and
/// under a short time limit.
fn version(here: &Path, preset: &Preset) -> Result<String> {
    if preset.detect.version.is_empty() {
        return Ok("version unknown".into());
    }
    let dir = ambient::temp_dir().join(format!("git-harness-{}", ambient::nonce()));
    std::fs::create_dir_all(&dir)?;
    let said = run_version_command(here, preset, &dir);
    std::fs::remove_dir_all(&dir)?;
    said
}

fn run_version_command(here: &Path, preset: &Preset, dir: &Path) -> Result<String> {
    let identity = Identity { name: "git harness".into(), email: "harness@localhost".into() };
    let mut env = Environ::for_command(&ambient::environment(), dir, &identity, &[]);
    for (name, value) in &preset.env.set {
        env.set(name, value);
    }
    let (stdout, stderr) = (dir.join("stdout"), dir.join("stderr"));
    let command = Command::new(&preset.detect.version, here, &ambient::nonce(), stdout, stderr)
        .env(env)
        .cap(16 * 1024)
        .timeout(VERSION_TIMEOUT)
        .grace(Duration::from_secs(1));
    let ended = process::run(&command, &StopFlag::new()?)?;
    let text = std::fs::read(&command.stdout)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    match (ended.termination, line) {
        (Termination::Exited(0), Some(line)) => Ok(line.chars().take(80).collect()),
        (termination, _) => anyhow::bail!("{}", describe_failure(&termination)),
    }
}

fn describe_failure(termination: &Termination) -> String {
    match termination {
        Termination::Exited(0) => "no output".into(),
        Termination::Exited(code) => format!("exit code {code}"),
        Termination::Signalled(signal) => format!("signal {signal}"),
        Termination::TimedOut => format!("no output within {} seconds", VERSION_TIMEOUT.as_secs()),
        Termination::NotStarted(why) => why.clone(),
        Termination::Idle
        | Termination::Lingered
        | Termination::Hopeless
        | Termination::Stopped
        | Termination::Lost => "stopped".into(),
    }
}
