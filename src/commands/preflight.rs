//! Preflight: the faults of a job on this machine that are known before a run is made or continued.

use std::path::Path;

use anyhow::Result;

use super::job_file::{self, LoadedJob};
use super::workspace;
use crate::agent::preset::{COMMAND, Preset};
use crate::ambient;
use crate::domain::id::Oid;
use crate::engine::low_disk;
use crate::error::Advice;
use crate::job::{AgentSection, Job, placeholders};
use crate::process;
use crate::store::Store;

/// Refuses a job whose programs are missing. `base` is the commit of a new run: the files that it
/// has, or that are pinned, are not missing.
pub(super) fn check_programs(store: &Store, job: &LoadedJob, base: Option<&Oid>) -> Result<()> {
    let mut faults = Vec::new();
    let evaluator = job.job.evaluate.as_ref().map(|evaluate| &evaluate.agent);
    let agents = [
        ("agent", Some(&job.job.agent), Some(&job.preset)),
        ("evaluator", evaluator, job.evaluator.as_ref()),
    ];
    for (subject, agent, preset) in agents {
        let (Some(agent), Some(preset)) = (agent, preset) else { continue };
        let program = program_of(agent, preset);
        let missing = program.filter(|program| {
            is_missing(store, program) || is_missing_file(store, job, base, program)
        });
        faults.extend(missing.map(|program| format!("the {subject} is not installed: {program}")));
    }
    for check in &job.job.checks {
        let missing = check.run.first().filter(|program| is_missing(store, program));
        let fault = |program| format!("the check `{}` has no program: {program}", check.name);
        faults.extend(missing.map(fault));
    }
    for argv in &job.job.worktree.setup {
        let missing = argv.first().filter(|program| is_missing(store, program));
        faults.extend(missing.map(|program| format!("the set-up has no program: {program}")));
    }
    if faults.is_empty() {
        return Ok(());
    }
    let hint = "install it, or change the job file; `git harness doctor` checks everything";
    Err(Advice::new(faults.join("; "), hint).into())
}

/// Refuses to make a run on a disk that is too full for attempts.
pub(super) fn check_disk(store: &Store, job: &Job) -> Result<()> {
    let worktrees = workspace::worktrees_root(store.repo(), job);
    let existing = worktrees.ancestors().find(|folder| folder.exists());
    let common = store.repo().common_dir();
    let folders = [common, existing.unwrap_or(common)];
    match low_disk(folders, job.limits.min_free_mb) {
        None => Ok(()),
        Some(reason) => Err(Advice::new(reason, "free some space, or lower the limit").into()),
    }
}

/// Returns the program that an agent starts.
fn program_of<'a>(agent: &'a AgentSection, preset: &'a Preset) -> Option<&'a String> {
    if preset.name == COMMAND { agent.command.first() } else { preset.detect.program.as_ref() }
}

/// Returns true if a program is looked up in `PATH` and is not there. A program with a placeholder
/// depends on the task. A relative folder in `PATH` may be filled by the set-up.
fn is_missing(store: &Store, program: &String) -> bool {
    if program.contains('/') || placeholders::mentions_task(std::slice::from_ref(program)) {
        return false;
    }
    let Some(path) = ambient::variable("PATH") else { return false };
    let is_absolute = |folder: std::path::PathBuf| folder.is_absolute();
    let top = store.repo().top().unwrap_or(Path::new("/"));
    std::env::split_paths(&path).all(is_absolute)
        && process::find_in_path(program.as_ref(), path.as_ref(), top).is_err()
}

/// Returns true if an agent's program is a file that no worktree will have: neither the base nor
/// the pinned files have it. The set-up may make it.
fn is_missing_file(store: &Store, job: &LoadedJob, base: Option<&Oid>, program: &String) -> bool {
    let is_file = program.contains('/') && !program.contains('{');
    if !is_file || !job.job.worktree.setup.is_empty() {
        return false;
    }
    if Path::new(program).is_absolute() {
        return !Path::new(program).exists();
    }
    let Some(base) = base else { return false };
    let plain = program.strip_prefix("./").unwrap_or(program);
    let in_base = || store.repo().has_entry(&store.repo().tree_of(base)?, plain);
    let is_pinned = || {
        let pinned = job_file::pinned_files(store.repo(), job, base)?;
        Ok::<_, anyhow::Error>(pinned.iter().any(|(path, _)| path == plain))
    };
    // A base that cannot be read is reported elsewhere.
    !in_base().unwrap_or(true) && !is_pinned().unwrap_or(true)
}
