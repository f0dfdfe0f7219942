//! Making a place ready: registered if it is new, reset to a commit, set up once, with the pinned files laid over it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::AssignedWork;
use super::files;
use crate::domain::id::Oid;
use crate::domain::termination::Termination;
use crate::failpoint;
use crate::process::{self, Command, Containment, Redactor, StopFlag};
use crate::repo::{self, Head, Repo, Worktree};
use crate::wire::keeper::{Work, WorktreeSpec};

/// How long one setup command may take.
const SETUP_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// How much of a setup command's output is kept, in bytes.
const SETUP_CAP: u64 = 64 * 1024;

/// What is taken out of all that is kept of the commands: the values of the variables that the job passes on, and keys.
pub(super) fn redactor(assigned: &AssignedWork) -> Result<Redactor> {
    let names: &[String] = match &assigned.assignment.work {
        Work::Attempt(work) => &work.session.secrets,
        Work::Evaluation(work) => &work.session.secrets,
        Work::Checks(_) => &[],
    };
    let values: Vec<_> =
        names.iter().filter_map(|name| assigned.env.value(name)).map(OsStr::as_bytes).collect();
    Redactor::new(&values)
        .context("the values of the variables in `[agent] env` cannot be redacted")
}

/// Makes the place ready.
pub(super) fn prepare(
    repo: &Repo,
    dir: &Path,
    assigned: &AssignedWork,
    stop: &StopFlag,
) -> Result<Worktree> {
    let wanted = &assigned.assignment.worktree;
    let commit = Oid::parse(&wanted.commit)?;
    let head = wanted.branch.clone().map_or(Head::Detached, Head::Branch);
    let worktree = open_or_make(repo, wanted, &commit)?;
    failpoint::hit("keeper.place-made");
    worktree
        .reset_to(repo, &commit, &head, &wanted.keep)
        .with_context(|| format!("cannot reset the place {}", wanted.path.display()))?;
    failpoint::hit("keeper.place-reset");
    if set_up(dir, assigned, stop)? {
        worktree.reset_to(repo, &commit, &head, &wanted.keep)?;
    }
    for (path, source) in &wanted.overlay {
        let to = wanted.path.join(path);
        let bytes = std::fs::read(source)
            .with_context(|| format!("the pinned file {} is gone", source.display()))?;
        if std::fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        lay_over(&to, source)
            .with_context(|| format!("cannot put the pinned `{path}` in place"))?;
    }
    Ok(worktree)
}

fn lay_over(to: &Path, source: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // Removed first: what an attempt left there may be a link to somewhere else.
    if to.symlink_metadata().is_ok() {
        std::fs::remove_file(to)?;
    }
    std::fs::copy(source, to)?;
    Ok(())
}

fn open_or_make(repo: &Repo, wanted: &WorktreeSpec, commit: &Oid) -> Result<Worktree> {
    if wanted.path.symlink_metadata().is_ok() {
        if let Ok(worktree) = repo::open_worktree(repo, &wanted.path, &wanted.index) {
            return Ok(worktree);
        }
        renew(repo, wanted)
            .with_context(|| format!("cannot renew the place {}", wanted.path.display()))?;
    }
    forget_setup(wanted);
    repo::create_worktree(repo, &wanted.path, commit, &wanted.index)
        .with_context(|| format!("cannot make the worktree {}", wanted.path.display()))
}

/// Removes a place whose record is damaged. The path is one of ours, below the run's own folder, and what an attempt
/// left in it was saved when the attempt ended.
fn renew(repo: &Repo, wanted: &WorktreeSpec) -> Result<()> {
    if repo::remove_worktree(repo, &wanted.path, &wanted.index).is_ok() {
        return Ok(());
    }
    if wanted.index.symlink_metadata().is_ok() {
        std::fs::remove_file(&wanted.index)?;
    }
    let meta = wanted.path.symlink_metadata()?;
    if meta.is_dir() {
        std::fs::remove_dir_all(&wanted.path)?;
    } else {
        std::fs::remove_file(&wanted.path)?;
    }
    Ok(())
}

/// The file that says with which setup a place was made.
fn setup_mark(wanted: &WorktreeSpec) -> std::path::PathBuf {
    wanted.index.with_extension("setup")
}

fn forget_setup(wanted: &WorktreeSpec) {
    // Missing is as good as removed; anything else shows when it is written anew.
    std::fs::remove_file(setup_mark(wanted)).ok();
}

/// Runs the setup commands if the place has not seen them. Says whether they ran.
fn set_up(dir: &Path, assigned: &AssignedWork, stop: &StopFlag) -> Result<bool> {
    let wanted = &assigned.assignment.worktree;
    if wanted.setup.is_empty() {
        return Ok(false);
    }
    let text = serde_json::to_string(&wanted.setup)?;
    let mark = setup_mark(wanted);
    if std::fs::read_to_string(&mark).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    let redactor = redactor(assigned)?;
    for (number, argv) in wanted.setup.iter().enumerate() {
        let stdout = dir.join(format!("setup-{number}.out"));
        let stderr = dir.join(format!("setup-{number}.err"));
        let (cwd, marker) = (&wanted.path, &assigned.assignment.marker);
        let command = Command::new(argv, cwd, marker, stdout.clone(), stderr)
            .env(assigned.env.clone())
            .redactor(redactor.clone())
            .cap(SETUP_CAP)
            .timeout(SETUP_TIMEOUT)
            .containment(Containment::OwnProcess);
        let ended = process::run(&command, stop)?;
        if ended.termination != Termination::Exited(0) {
            let said = super::excerpt(&stdout, &command.stderr, 600);
            bail!("the setup command `{}` did not succeed ({}): {said}", argv.join(" "), {
                ended.termination
            });
        }
    }
    process::write_atomic(&mark, text.as_bytes())?;
    std::fs::create_dir_all(dir.join(files::TMP))?;
    Ok(true)
}
