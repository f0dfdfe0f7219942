//! Preparation of a worktree: creates a missing worktree, resets it to a commit, runs the setup
//! commands if their inputs have changed, and adds the files that the job provides.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::AssignedWork;
use super::attempt::make_ref;
use super::files;
use super::leftover::{commit_leftover, leftover_note};
use super::sandbox::AssignmentSandbox;
use super::session;
use super::setup::{self, SetupFailed};
use super::withhold::Secrets;
use crate::domain::id::Oid;
use crate::failpoint;
use crate::process::{self, Confinement, Redactor, StopFlag, TempFolder};
use crate::repo::{self, Head, Repo, UntrackedFiles, Worktree};
use crate::wire::keeper::{Work, WorktreeSpec};

/// The words of an evaluator's answer that are long enough to be redacted.
const ANSWER_WORDS: [&str; 1] = ["findings"];

/// Returns the redactor for all kept output. It removes the values of secret variables that are
/// passed on, and texts that look like keys.
pub(super) fn redactor(assigned: &AssignedWork) -> Result<Redactor> {
    let names: Vec<&String> = match &assigned.assignment.work {
        Work::Attempt(work) => work.session.secrets.iter().collect(),
        Work::Evaluation(work) => work.session.secrets.iter().collect(),
        Work::Checks(work) => work.checks.iter().flat_map(|step| &step.env).collect(),
    };
    // Checks need variables such as JAVA_HOME, and findings without paths help nobody.
    let is_path = |value: &OsStr| {
        matches!(assigned.assignment.work, Work::Checks(_)) && Path::new(value).is_absolute()
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
        .filter(|value| !is_protocol_word(value) && !is_path(value))
        .map(OsStr::as_bytes)
        .collect();
    Redactor::new(&values)
        .context("the values of the variables in `[agent] env` cannot be redacted")
}

/// A worktree that is ready for the commands of an assignment.
#[derive(Debug)]
pub(super) struct PreparedWorktree {
    /// The worktree.
    pub(super) worktree: Worktree,
    /// The sandbox of the commands, if they have one.
    pub(super) sandbox: Option<Confinement>,
    /// Sentences for people.
    pub(super) notes: Vec<String>,
}

/// Prepares the worktree of an assignment at a commit, and its sandbox. An agent also gets a
/// worktree whose set-up fails because of the work: the agent is to mend it.
///
/// # Errors
///
/// [`SetupFailed`] says whether the work is the cause.
pub(super) fn prepare(
    repo: &Repo,
    dir: &Path,
    assigned: &AssignedWork,
    commit: &str,
    stop: &StopFlag,
) -> Result<PreparedWorktree> {
    let notes = keep_leftover(repo, assigned)?.into_iter().collect();
    let prepare_at = |commit: &str, step| prepare_at(repo, dir, assigned, commit, step, stop);
    let is_for_agent = matches!(assigned.assignment.work, Work::Attempt(_));
    let is_of_work = |error: &anyhow::Error| {
        error.downcast_ref::<SetupFailed>().is_some_and(|failed| failed.is_of_work)
    };
    let control = assigned.assignment.worktree.setup_control.as_deref();
    let prepared = match prepare_with_control(&prepare_at, commit, control) {
        Err(error) if is_for_agent && is_of_work(&error) => prepare_at(commit, SetupStep::Skip),
        prepared => prepared,
    };
    Ok(PreparedWorktree { notes, ..prepared? })
}

/// Prepares a worktree. A set-up that fails is tried on the commit that the work started from, and
/// then once more.
fn prepare_with_control(
    prepare_at: &dyn Fn(&str, SetupStep) -> Result<PreparedWorktree>,
    commit: &str,
    control: Option<&str>,
) -> Result<PreparedWorktree> {
    let first = match prepare_at(commit, SetupStep::Run) {
        Err(error) => error,
        prepared => return prepared,
    };
    let may_be_of_work = first.downcast_ref().is_some_and(SetupFailed::may_be_of_work);
    let Some(control) = control.filter(|control| *control != commit && may_be_of_work) else {
        return Err(first);
    };
    if prepare_at(control, SetupStep::Run).is_err() {
        return Err(first);
    }
    prepare_at(commit, SetupStep::Run).map_err(|error| match error.downcast::<SetupFailed>() {
        Ok(failed) => failed.passed_on_control().into(),
        Err(other) => other,
    })
}

/// The set-up as a step of the preparation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SetupStep {
    /// The set-up runs if its mark asks for it.
    Run,
    /// There is no set-up.
    Skip,
}

fn prepare_at(
    repo: &Repo,
    dir: &Path,
    assigned: &AssignedWork,
    commit: &str,
    step: SetupStep,
    stop: &StopFlag,
) -> Result<PreparedWorktree> {
    let spec = &assigned.assignment.worktree;
    let commit = Oid::parse(commit)?;
    let head = spec.branch.clone().map_or(Head::Detached, Head::Branch);
    let worktree = open_or_create(repo, spec, &commit)?;
    failpoint::hit("keeper.worktree-created");
    worktree
        .reset_to(repo, &commit, &head, &spec.keep)
        .with_context(|| format!("cannot reset the worktree {}", spec.path.display()))?;
    failpoint::hit("keeper.worktree-reset");
    let source = (&assigned.assignment, &assigned.env);
    let mut sandbox = AssignmentSandbox::prepare(repo, dir, source, &worktree)?;
    let confinement = sandbox.as_ref().map(AssignmentSandbox::setup_confinement);
    let untracked = match assigned.assignment.work {
        // A new file that git does not ignore would be part of the candidate.
        Work::Attempt(_) => UntrackedFiles::RemoveUnignored,
        Work::Checks(_) | Work::Evaluation(_) => UntrackedFiles::Spare,
    };
    let restore = || {
        let stats = worktree.reset_sparing(repo, &commit, &head, &spec.keep, untracked)?;
        // The setup may have changed the private `.git`.
        sandbox = AssignmentSandbox::prepare(repo, dir, source, &worktree)?;
        Ok(stats.spared > 0)
    };
    let surroundings = (confinement.as_ref(), stop);
    match step {
        SetupStep::Run => setup::set_up(repo, dir, (assigned, &worktree), surroundings, restore)?,
        SetupStep::Skip => {}
    }
    // A setup command may have removed it.
    TempFolder::new(dir.join(files::TMP)).restore()?;
    for (path, source) in &spec.provided {
        // A file of the commit is judged, whatever the job has at its path.
        if !repo.has_entry(&commit, path)? {
            provide(&spec.path, path, source)
                .with_context(|| format!("cannot provide the job's file `{path}`"))?;
        }
    }
    let sandbox = sandbox.as_ref().map(AssignmentSandbox::confinement);
    Ok(PreparedWorktree { worktree, sandbox, notes: Vec::new() })
}

/// Keeps the work in a worktree that no attempt has recorded, before the worktree is reset. Work
/// that cannot be saved stays where it is, under another name. Returns a sentence for people.
fn keep_leftover(repo: &Repo, assigned: &AssignedWork) -> Result<Option<String>> {
    let spec = &assigned.assignment.worktree;
    let Some(prefix) = &spec.leftovers else { return Ok(None) };
    let secrets = Secrets::of(&assigned.assignment, &assigned.env)?;
    let leftover = match commit_leftover(repo, (&spec.path, &spec.index), &secrets) {
        Ok(None) => return Ok(None),
        Ok(Some(leftover)) => leftover,
        Err(error) => {
            let aside = repo::set_damaged_aside(&spec.path, &spec.index)?;
            let aside = aside.unwrap_or_else(|| spec.path.clone());
            let (path, aside) = (spec.path.display(), aside.display());
            return Ok(Some(format!(
                "{path} has work that cannot be saved, so the folder is now {aside}: {error:#}"
            )));
        }
    };
    let name = format!("{prefix}{}", leftover.commit.short());
    make_ref(repo, &assigned.env, &name, &leftover.commit)?;
    // The reset that follows must not reach the disk before the commit.
    process::sync_fs(repo.common_dir()).context("the file system could not be synced")?;
    Ok(Some(leftover_note(&spec.path, &name, &leftover, &secrets.folder)))
}

/// Copies a file to a path of a worktree. Follows no symbolic link: a candidate chooses where its
/// links lead, and what lies there is the user's.
fn provide(root: &Path, path: &str, source: &Path) -> Result<()> {
    let mut to = root.to_path_buf();
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
        to.push(folder);
        match to.symlink_metadata() {
            Ok(found) if found.is_dir() => {}
            Ok(_) => bail!("{} is not a folder", to.display()),
            Err(error) if error.kind() == ErrorKind::NotFound => std::fs::create_dir(&to)?,
            Err(error) => return Err(error.into()),
        }
    }
    to.push(name);
    if to.symlink_metadata().is_ok() {
        std::fs::remove_file(&to)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&to)?;
    let mut source = std::fs::File::open(source)
        .with_context(|| format!("the pinned file {} is gone", source.display()))?;
    std::io::copy(&mut source, &mut file)?;
    // Many of the files are scripts.
    file.set_permissions(source.metadata()?.permissions())?;
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
    setup::forget(spec);
    repo::create_worktree(repo, &spec.path, commit, &spec.index)
        .with_context(|| format!("cannot create the worktree {}", spec.path.display()))
}

/// Clears the path of a worktree that cannot be opened. The files of a worktree without a valid
/// record are kept under another name.
fn clear_damaged(repo: &Repo, spec: &WorktreeSpec) -> Result<()> {
    if repo::remove_worktree(repo, &spec.path, &spec.index).is_err() {
        return repo::set_damaged_aside(&spec.path, &spec.index).map(drop);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::provide;

    #[test]
    fn provided_file_never_goes_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for folder in ["work", "mine", "work/real"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        std::fs::write(at("source"), "from the job").unwrap();
        std::fs::write(at("mine/x.sh"), "precious").unwrap();
        symlink(at("mine"), at("work/tools")).unwrap();
        symlink(at("mine/x.sh"), at("work/real/x.sh")).unwrap();
        // A folder that is a link.
        let error = provide(&at("work"), "tools/x.sh", &at("source")).unwrap_err();
        assert!(error.to_string().ends_with("work/tools is not a folder"), "{error:#}");
        assert!(provide(&at("work"), "tools/sub/x.sh", &at("source")).is_err());
        // The file itself is a link.
        provide(&at("work"), "real/x.sh", &at("source")).unwrap();
        assert!(!at("work/real/x.sh").is_symlink());
        assert_eq!(std::fs::read_to_string(at("work/real/x.sh")).unwrap(), "from the job");
        assert_eq!(std::fs::read_to_string(at("mine/x.sh")).unwrap(), "precious");
        assert!(!at("mine/sub").exists());
    }

    #[test]
    fn provided_file_keeps_its_mode_and_gets_its_folders() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        crate::process::write_executable(&source, b"#!/bin/sh\n").unwrap();
        provide(dir.path(), "a/b/x.sh", &source).unwrap();
        let made = dir.path().join("a/b/x.sh").metadata().unwrap();
        assert_eq!(made.permissions().mode() & 0o111, 0o111);
    }
}
