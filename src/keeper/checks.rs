//! Keeping a verification: checks run one after the other on a tree, in a place that no agent has used.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::AssignedWork;
use super::built_in;
use super::worktree::{prepare, redactor};
use crate::domain::termination::Termination;
use crate::failpoint;
use crate::process::{self, Command, CommandResult, Containment, StopFlag};
use crate::repo::{self, Repo};
use crate::wire::VERSION;
use crate::wire::keeper::{CheckOutcome, CheckStep, ChecksOutcome, ChecksWork, millis};

/// How much of each stream of a check is kept, in bytes.
const CAP: u64 = 256 * 1024;

/// How much of a check's output a finding quotes, in bytes.
pub(super) const QUOTE: usize = 4_000;

/// How long a `version` command may take.
const VERSION_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs the checks and writes down what they said. Says whether nothing that it started is left.
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
        checks: Vec::with_capacity(work.checks.len()),
    };
    // What is built in looks at trees and needs no place.
    let needs_worktree = work.checks.iter().any(|step| step.built_in.is_none());
    let ready = needs_worktree.then(|| prepare(repo, dir, assigned, stop)).transpose();
    match ready {
        Err(error) => outcome.fault = Some(format!("{error:#}")),
        Ok(worktree) => {
            for (number, step) in work.checks.iter().enumerate() {
                failpoint::hit("keeper.before-check");
                let said = match &step.built_in {
                    Some(what) => built_in::check(repo, assigned, &work.tree, step, what).map(Ok),
                    None => check(dir, assigned, number, step, stop),
                };
                match said {
                    Ok(Ok(result)) => outcome.checks.push(result),
                    Ok(Err(fault)) => outcome.fault = Some(fault),
                    Err(error) => outcome.fault = Some(format!("`{}`: {error:#}", step.name)),
                }
                if outcome.fault.is_some() {
                    break;
                }
            }
            if let (Some(worktree), None) = (worktree, &outcome.fault) {
                outcome.fault = changed(repo, &worktree, assigned);
            }
        }
    }
    failpoint::hit("keeper.before-outcome");
    outcome.write(dir)?;
    // The place is looked at again before the next.
    Ok(true)
}

/// Why what the checks have said is not about the tree, if they have changed files of it.
fn changed(repo: &Repo, worktree: &repo::Worktree, assigned: &AssignedWork) -> Option<String> {
    let laid_over: Vec<String> =
        assigned.assignment.worktree.overlay.iter().map(|(path, _)| path.clone()).collect();
    match repo::modified_files(repo, worktree, &laid_over) {
        Err(error) => Some(format!("the place cannot be looked at after the checks: {error:#}")),
        Ok(altered) => altered.first().map(|first| {
            format!(
                "the checks have changed `{first}`{}, so that what they say is not about what was committed; a check must leave \
                 the files that git knows as they are",
                match altered.len() {
                    1 => String::new(),
                    n => format!(" and {} more", n - 1),
                }
            )
        }),
    }
}

/// One check; the inner error says why it could not be run.
fn check(
    dir: &Path,
    assigned: &AssignedWork,
    number: usize,
    step: &CheckStep,
    stop: &StopFlag,
) -> Result<std::result::Result<CheckOutcome, String>> {
    let name = &step.name;
    let mut version = String::new();
    if let Some(argv) = &step.version {
        let (ended, said) =
            run(dir, assigned, &format!("version-{number}"), argv, VERSION_TIMEOUT, stop)?;
        if ended.termination != Termination::Exited(0) {
            let how = ended.termination;
            return Ok(Err(format!("the version command of the check `{name}`: {how}: {said}")));
        }
        version = said;
    }
    let key = verdict_key(step, &version);
    if let Some(outcome) = known(step, &key) {
        return Ok(Ok(outcome));
    }
    let timeout = Duration::from_millis(step.timeout_ms);
    let (ended, said) = run(dir, assigned, &format!("check-{number}"), &step.argv, timeout, stop)?;
    let ms = millis(ended.wall);
    let (passed, how) = match ended.termination {
        Termination::Exited(0) => (true, String::new()),
        // By the shell's convention these mean that the program could not be run (POSIX, 2.8.2).
        Termination::Exited(code @ (126 | 127)) => {
            return Ok(Err(format!("the check `{name}` could not be run (exit {code}): {said}")));
        }
        Termination::Exited(code) => (false, format!("exit {code}")),
        // What the kernel or a person killed says nothing about the tree; a crash of the check itself does.
        Termination::Signalled(9 | 15) => {
            return Ok(Err(format!("the check `{name}` was killed from outside")));
        }
        Termination::Signalled(signal) => (false, format!("signal {signal}")),
        // Nobody listens to a check, so the last two cannot be.
        Termination::TimedOut
        | Termination::Idle
        | Termination::Lingered
        | Termination::Hopeless => {
            let limit = step.timeout_ms / 1000;
            return Ok(Err(format!("the check `{name}` took longer than its limit of {limit} s")));
        }
        // A command that ran under this process is never lost.
        Termination::Stopped | Termination::Lost => {
            return Ok(Err("the verification was stopped".into()));
        }
        Termination::NotStarted(why) => {
            return Ok(Err(format!("the check `{name}` could not be started: {why}")));
        }
    };
    let text = if passed { String::new() } else { format!("{how}\n{said}") };
    Ok(Ok(CheckOutcome { name: name.clone(), key, passed, known: None, ms, text }))
}

/// The outcome that need not be earned again, if there is one with this key.
pub(super) fn known(step: &CheckStep, key: &str) -> Option<CheckOutcome> {
    let known = step.known.iter().find(|k| k.key == key)?;
    Some(CheckOutcome {
        name: step.name.clone(),
        key: key.to_owned(),
        passed: known.passed,
        known: Some(known.id.clone()),
        ms: 0,
        text: known.text.clone(),
    })
}

/// What makes a verdict reusable beside the tree: arguments, pinned files, system, and what the version command says.
pub(crate) fn verdict_key(step: &CheckStep, version: &str) -> String {
    let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let parts = serde_json::json!([step.key_argv, step.salt, system, version]);
    let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
    hasher.update(parts.to_string().as_bytes());
    hasher.try_finalize().map_or_else(|_| String::new(), |id| id.to_string())
}

fn run(
    dir: &Path,
    assigned: &AssignedWork,
    file: &str,
    argv: &[String],
    timeout: Duration,
    stop: &StopFlag,
) -> Result<(CommandResult, String)> {
    let (stdout, stderr) = (dir.join(format!("{file}.out")), dir.join(format!("{file}.err")));
    let command = Command::new(
        argv,
        &assigned.assignment.worktree.path,
        &assigned.assignment.marker,
        stdout,
        stderr,
    )
    .env(assigned.env.clone())
    .redactor(redactor(assigned)?)
    .cap(CAP)
    .timeout(timeout)
    .containment(Containment::OwnProcess);
    let ended = process::run(&command, stop)?;
    let said = super::excerpt(&command.stdout, &command.stderr, QUOTE);
    Ok((ended, said))
}
