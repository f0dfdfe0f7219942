//! Verifications: runs checks, one after the other, on a tree in a worktree that no agent has used.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::AssignedWork;
use super::built_in;
use super::kept;
use super::network::{self, CommandNetwork};
use super::seal;
use super::setup::{self, SetupFailed};
use super::worktree::{PreparedWorktree, prepare, redactor};
use crate::domain::termination::Termination;
use crate::domain::verdict::HINT;
use crate::failpoint;
use crate::process::{self, Command, CommandResult, Confinement, Containment, StopFlag};
use crate::repo::{self, Repo};
use crate::wire::VERSION;
use crate::wire::keeper::{CheckOutcome, CheckStep, ChecksOutcome, ChecksWork, millis};

/// The number of bytes that are kept of each output stream of a check.
const CAP: u64 = 256 * 1024;

/// The number of bytes of a check's output that a finding quotes.
pub(super) const QUOTE: usize = 4_000;

/// The time limit of a `version` command.
const VERSION_TIMEOUT: Duration = Duration::from_secs(120);

/// The sandbox of a check, and the flag that stops it.
type Surroundings<'a> = (Option<&'a Confinement>, &'a StopFlag);

/// Runs the checks and writes the outcome. Returns true: the keeper may serve another assignment.
pub(super) fn keep(
    repo: &Repo,
    dir: &Path,
    assigned: &AssignedWork,
    work: &ChecksWork,
    stop: &StopFlag,
) -> Result<bool> {
    let mut outcome = ChecksOutcome {
        v: VERSION,
        tree: work.tree.clone(),
        fault: None,
        setup_failure: None,
        checks: Vec::with_capacity(work.checks.len()),
    };
    let ready = kept::discard_changed(repo, assigned).map_err(Interruption::from);
    match ready.and_then(|()| run_steps(repo, dir, assigned, work, stop, &mut outcome.checks)) {
        Ok(()) => {}
        Err(Interruption::Fault(fault)) => outcome.fault = Some(fault),
        Err(Interruption::SetupFailure(text)) => outcome.setup_failure = Some(text),
    }
    // Without a state, the worktree is made anew.
    kept::write_state(assigned).ok();
    failpoint::hit("keeper.before-outcome");
    seal::write_outcome(dir, &outcome, &assigned.assignment, &assigned.key)?;
    // The worktree is examined again before its next use.
    Ok(true)
}

/// The reason why not all checks have run.
#[derive(Debug)]
enum Interruption {
    /// An infrastructure fault.
    Fault(String),
    /// The set-up fails because of the work. The text is that of a finding.
    SetupFailure(String),
}

impl From<String> for Interruption {
    fn from(fault: String) -> Self {
        Self::Fault(fault)
    }
}

impl From<anyhow::Error> for Interruption {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast_ref::<SetupFailed>() {
            Some(failed) if failed.is_of_work => Self::SetupFailure(failed.finding()),
            Some(_) | None => Self::Fault(format!("{error:#}")),
        }
    }
}

/// Runs the checks in order, each on the commit that it asks for. Returns the first reason to stop
/// as an error.
fn run_steps(
    repo: &Repo,
    dir: &Path,
    assigned: &AssignedWork,
    work: &ChecksWork,
    stop: &StopFlag,
    outcomes: &mut Vec<CheckOutcome>,
) -> std::result::Result<(), Interruption> {
    let candidate = assigned.assignment.worktree.commit.as_str();
    let mut shown: Option<(PreparedWorktree, &str)> = None;
    for (number, step) in work.checks.iter().enumerate() {
        let put_back = step.put_back.as_ref().map(|rules| rules.commit.as_str());
        // Built-in checks read trees and need no worktree.
        let commit = put_back.unwrap_or(candidate);
        if step.built_in.is_none() && shown.as_ref().is_none_or(|(_, at)| *at != commit) {
            if let Some((prepared, _)) = &shown {
                ensure_unchanged(repo, &prepared.worktree)?;
            }
            shown = Some((prepare(repo, dir, assigned, commit, stop)?, commit));
        }
        failpoint::hit("keeper.before-check");
        let result = match &step.built_in {
            Some(built_in) => {
                let tree = put_back.unwrap_or(&work.tree);
                built_in::check(repo, assigned, tree, step, built_in).map(Ok)
            }
            None => {
                let sandbox = shown.as_ref().and_then(|(prepared, _)| prepared.sandbox.as_ref());
                check(dir, assigned, number, step, (sandbox, stop))
            }
        };
        outcomes.push(result.map_err(|error| format!("`{}`: {error:#}", step.name))??);
    }
    match &shown {
        Some((prepared, _)) => Ok(ensure_unchanged(repo, &prepared.worktree)?),
        None => Ok(()),
    }
}

/// Returns a reason as an error if the checks changed files of the tree: the results then do not
/// hold for the tree.
fn ensure_unchanged(repo: &Repo, worktree: &repo::Worktree) -> std::result::Result<(), String> {
    let altered = repo::modified_files(repo, worktree)
        .map_err(|error| format!("the worktree cannot be read after the checks: {error:#}"))?;
    let Some(first) = altered.first() else { return Ok(()) };
    Err(format!(
        "the checks changed `{first}`{}, so their results do not hold for the commit; a check must not change \
         tracked files",
        match altered.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        }
    ))
}

/// Runs one check. The inner error is the reason why the check could not run.
fn check(
    dir: &Path,
    assigned: &AssignedWork,
    number: usize,
    step: &CheckStep,
    surroundings: Surroundings<'_>,
) -> Result<std::result::Result<CheckOutcome, String>> {
    let name = &step.name;
    let mut version = String::new();
    if let Some(argv) = &step.version {
        let (ended, output) = run(
            dir,
            (assigned, step),
            &format!("version-{number}"),
            argv,
            VERSION_TIMEOUT,
            surroundings,
        )?;
        if ended.termination != Termination::Exited(0) {
            let how = ended.termination;
            return Ok(Err(format!("the version command of the check `{name}`: {how}: {output}")));
        }
        if !setup::note_version(&assigned.assignment.worktree, argv, &output)? {
            return Ok(Err(format!(
                "the version of the check `{name}` has changed since the worktree was set up, so the set-up runs again"
            )));
        }
        version = output;
    }
    let key = verdict_key(step, &version);
    if let Some(outcome) = known_outcome(step, &key) {
        return Ok(Ok(outcome));
    }
    let timeout = Duration::from_millis(step.timeout_ms);
    let (ended, output) =
        run(dir, (assigned, step), &format!("check-{number}"), &step.argv, timeout, surroundings)?;
    let ms = millis(ended.wall);
    let (passed, how) = match ended.termination {
        Termination::Exited(0) => (true, String::new()),
        // By the shell's convention, these codes mean that the program could not run (POSIX,
        // 2.8.2).
        Termination::Exited(code @ (126 | 127)) => {
            let hint = missing_dependencies(&assigned.assignment.worktree.path, "not found");
            return Ok(Err(format!(
                "the check `{name}` could not be run (exit {code}): {output}{hint}"
            )));
        }
        Termination::Exited(code) => (false, format!("exit {code}")),
        // A kill by the kernel or a person tells nothing about the tree. A crash of the check
        // itself is a result.
        Termination::Signalled(9 | 15) => {
            return Ok(Err(format!("the check `{name}` was killed from outside")));
        }
        Termination::Signalled(signal) => (false, format!("signal {signal}")),
        // `Lingered` and `Hopeless` do not occur: a check has no listener.
        Termination::TimedOut
        | Termination::Idle
        | Termination::Lingered
        | Termination::Hopeless => {
            let limit = Duration::from_millis(step.timeout_ms);
            return Ok(Err(format!("the check `{name}` took longer than its limit of {limit:?}")));
        }
        // A command of this process is never lost.
        Termination::Stopped | Termination::Lost => {
            return Ok(Err("the verification was stopped".into()));
        }
        Termination::NotStarted(why) => {
            return Ok(Err(format!("the check `{name}` could not be started: {why}")));
        }
    };
    let hint = missing_dependencies(&assigned.assignment.worktree.path, &output);
    let text = if passed { String::new() } else { format!("{how}\n{output}{hint}") };
    Ok(Ok(CheckOutcome { name: name.clone(), key, passed, known: None, ms, text }))
}

/// Texts of programs that did not find a package.
const NOT_FOUND: [&str; 6] = [
    "not found",
    "Cannot find module",
    "Cannot find package",
    "missing packages",
    "Could not resolve",
    "could not determine executable",
];

/// Returns a line with a hint if a check did not find a package in a worktree whose dependencies
/// are not installed, else an empty text. A project without dependencies needs no folder for them.
fn missing_dependencies(worktree: &Path, output: &str) -> String {
    let manifest = std::fs::read_to_string(worktree.join("package.json")).unwrap_or_default();
    let is_installed = ["node_modules", ".pnp.cjs"].iter().any(|name| worktree.join(name).exists());
    if is_installed
        || !manifest.to_ascii_lowercase().contains("dependencies\"")
        || !NOT_FOUND.iter().any(|text| output.contains(text))
    {
        return String::new();
    }
    format!(
        "\n{HINT}the worktree has no `node_modules`; `[worktree] setup` installs the dependencies, for example \
         `setup = [[\"npm\", \"ci\"]]`"
    )
}

/// Returns the recorded outcome with this key, if there is one.
pub(super) fn known_outcome(step: &CheckStep, key: &str) -> Option<CheckOutcome> {
    let verdict = step.known.iter().find(|k| k.key == key)?;
    Some(CheckOutcome {
        name: step.name.clone(),
        key: key.to_owned(),
        passed: verdict.passed,
        known: Some(verdict.id.clone()),
        ms: 0,
        text: verdict.text.clone(),
    })
}

/// Returns the part of a verdict's key that does not depend on the tree: arguments, provided files,
/// rule files that were put back, system, and output of the `version` command.
pub(crate) fn verdict_key(step: &CheckStep, version: &str) -> String {
    let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let mut parts = serde_json::json!([step.key_argv, step.salt, system, version]);
    if let Some(parts) = parts.as_array_mut() {
        let further =
            [("setup", serde_json::json!(step.setup)), ("env", serde_json::json!(step.env))];
        let given = [!step.setup.is_empty(), !step.env.is_empty()];
        parts.extend(
            further
                .into_iter()
                .zip(given)
                .filter(|(_, given)| *given)
                .map(|((name, value), _)| serde_json::json!({ name: value })),
        );
    }
    repo::sha1_hex([parts.to_string().as_bytes()]).unwrap_or_default()
}

/// Returns the part of a verdict's key that describes the set-up: its commands, and the patterns of
/// its inputs. The inputs themselves are part of the tree. Empty without a set-up.
pub(crate) fn setup_key(setup: &[Vec<String>], inputs: &[String]) -> String {
    if setup.is_empty() {
        return String::new();
    }
    let parts = serde_json::json!([setup, inputs]);
    repo::sha1_hex([parts.to_string().as_bytes()]).unwrap_or_default()
}

fn run(
    dir: &Path,
    (assigned, step): (&AssignedWork, &CheckStep),
    file: &str,
    argv: &[String],
    timeout: Duration,
    (sandbox, stop): Surroundings<'_>,
) -> Result<(CommandResult, String)> {
    let (stdout, stderr) = (dir.join(format!("{file}.out")), dir.join(format!("{file}.err")));
    let command = Command::new(
        argv,
        &assigned.assignment.worktree.path,
        &assigned.assignment.marker,
        stdout,
        stderr,
    )
    .env(assigned.environment(&step.env))
    .redactor(redactor(assigned)?)
    .cap(CAP)
    .timeout(timeout)
    .containment(Containment::OwnProcess)
    .sandbox(sandbox.cloned());
    let (command, connected) = network::connect_check(dir, assigned, step, command)?;
    let ended = process::run(&command, stop)?;
    let denied = connected.map(CommandNetwork::close).unwrap_or_default();
    let mut output = super::excerpt(&command.stdout, &command.stderr, QUOTE);
    for line in denied {
        output.push_str(&format!("\n{HINT}the sandbox denied the check a host: {line}"));
    }
    Ok((ended, output))
}
