//! Preparation of a worktree: creates a missing worktree, resets it to a commit, runs the setup
//! commands once, and copies the pinned files over.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::AssignedWork;
use super::files;
use super::session;
use crate::domain::id::Oid;
use crate::domain::termination::Termination;
use crate::failpoint;
use crate::process::{self, Command, Containment, Redactor, StopFlag};
use crate::repo::{self, Head, Repo, Worktree};
use crate::wire::VERSION;
use crate::wire::keeper::{Work, WorktreeSpec};

/// The time limit of one setup command.
const SETUP_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The number of bytes that are kept of a setup command's output.
const SETUP_CAP: u64 = 64 * 1024;

/// The words of an evaluator's answer that are long enough to be redacted.
const ANSWER_WORDS: [&str; 1] = ["findings"];

/// Returns the redactor for all kept output. It removes the values of secret variables that are
/// passed on, and texts that look like keys.
pub(super) fn redactor(assigned: &AssignedWork) -> Result<Redactor> {
    let names: &[String] = match &assigned.assignment.work {
        Work::Attempt(work) => &work.session.secrets,
        Work::Evaluation(work) => &work.session.secrets,
        Work::Checks(_) => &[],
    };
    let preset = match &assigned.assignment.work {
        Work::Attempt(work) => session::preset(&work.session)?,
        Work::Evaluation(work) => session::preset(&work.session)?,
        Work::Checks(_) => None,
    };
    let is_protocol_word = |value: &&OsStr| {
        let value = value.to_str().map(str::trim);
        value.is_some_and(|value| {
            preset.as_ref().is_some_and(|preset| preset.is_protocol_word(value))
                || ANSWER_WORDS.contains(&value)
        })
    };
    let values: Vec<_> = names
        .iter()
        .filter_map(|name| assigned.env.value(name))
        .filter(|value| !is_protocol_word(value))
        .map(OsStr::as_bytes)
        .collect();
    Redactor::new(&values)
        .context("the values of the variables in `[agent] env` cannot be redacted")
}

/// Prepares the worktree of an assignment.
pub(super) fn prepare(
    repo: &Repo,
    dir: &Path,
    assigned: &AssignedWork,
    stop: &StopFlag,
) -> Result<Worktree> {
    let spec = &assigned.assignment.worktree;
    let commit = Oid::parse(&spec.commit)?;
    let head = spec.branch.clone().map_or(Head::Detached, Head::Branch);
    let worktree = open_or_create(repo, spec, &commit)?;
    failpoint::hit("keeper.worktree-created");
    worktree
        .reset_to(repo, &commit, &head, &spec.keep)
        .with_context(|| format!("cannot reset the worktree {}", spec.path.display()))?;
    failpoint::hit("keeper.worktree-reset");
    if set_up(dir, assigned, stop)? {
        worktree.reset_to(repo, &commit, &head, &spec.keep)?;
    }
    for (path, source) in &spec.overlay {
        let to = spec.path.join(path);
        let bytes = std::fs::read(source)
            .with_context(|| format!("the pinned file {} is gone", source.display()))?;
        if std::fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        replace_with_pinned(&to, source)
            .with_context(|| format!("cannot put the pinned `{path}` in place"))?;
    }
    Ok(worktree)
}

fn replace_with_pinned(to: &Path, source: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // The old file is removed first: an attempt may have left a link to another place.
    if to.symlink_metadata().is_ok() {
        std::fs::remove_file(to)?;
    }
    std::fs::copy(source, to)?;
    Ok(())
}

fn open_or_create(repo: &Repo, spec: &WorktreeSpec, commit: &Oid) -> Result<Worktree> {
    if spec.path.symlink_metadata().is_ok() {
        if let Ok(worktree) = repo::open_worktree(repo, &spec.path, &spec.index) {
            return Ok(worktree);
        }
        clear_damaged(repo, spec).with_context(|| {
            format!("cannot replace the damaged worktree {}", spec.path.display())
        })?;
    }
    forget_setup(spec);
    repo::create_worktree(repo, &spec.path, commit, &spec.index)
        .with_context(|| format!("cannot create the worktree {}", spec.path.display()))
}

/// Clears the path of a worktree that cannot be opened. The files of a worktree without a valid
/// record are kept under another name.
fn clear_damaged(repo: &Repo, spec: &WorktreeSpec) -> Result<()> {
    if repo::remove_worktree(repo, &spec.path, &spec.index).is_err() {
        return repo::set_damaged_aside(&spec.path, &spec.index);
    }
    Ok(())
}

/// Returns the path of the setup mark: the file that holds the setup commands that have run.
fn setup_mark(spec: &WorktreeSpec) -> std::path::PathBuf {
    spec.index.with_extension("setup")
}

fn forget_setup(spec: &WorktreeSpec) {
    // A missing file is fine. Any other error recurs when the mark is written.
    std::fs::remove_file(setup_mark(spec)).ok();
}

/// Runs the setup commands if they have not run in this worktree. Returns true if they ran.
fn set_up(dir: &Path, assigned: &AssignedWork, stop: &StopFlag) -> Result<bool> {
    let spec = &assigned.assignment.worktree;
    if spec.setup.is_empty() {
        return Ok(false);
    }
    // A mark of another version differs, so the commands run again.
    let text = serde_json::json!({ "v": VERSION, "setup": spec.setup }).to_string();
    let mark = setup_mark(spec);
    if std::fs::read_to_string(&mark).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    let redactor = redactor(assigned)?;
    for (number, argv) in spec.setup.iter().enumerate() {
        let stdout = dir.join(format!("setup-{number}.out"));
        let stderr = dir.join(format!("setup-{number}.err"));
        let (cwd, marker) = (&spec.path, &assigned.assignment.marker);
        let command = Command::new(argv, cwd, marker, stdout.clone(), stderr)
            .env(assigned.env.clone())
            .redactor(redactor.clone())
            .cap(SETUP_CAP)
            .timeout(SETUP_TIMEOUT)
            .containment(Containment::OwnProcess);
        let ended = process::run(&command, stop)?;
        if ended.termination != Termination::Exited(0) {
            let output = super::excerpt(&stdout, &command.stderr, 600);
            let (command, how) = (argv.join(" "), ended.termination);
            bail!("the setup command `{command}` did not succeed ({how}): {output}");
        }
    }
    process::write_atomic(&mark, text.as_bytes())?;
    std::fs::create_dir_all(dir.join(files::TMP))?;
    Ok(true)
}
