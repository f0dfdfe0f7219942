//! Recovery at the start of a supervisor. It repairs the state once; there is no recovery mode in
//! the loop.
//!
//! The loop waits for running attempts and rescues those whose keeper died. This module handles
//! stale locks, broken refs, interrupted landings, tasks that the target already contains, and
//! keepers of attempts that no longer matter.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::dispatcher::Engine;
use super::work::assignment;
use super::work::evaluation;
use super::work::slots;
use super::work::verification;
use super::{Context, RunReport};
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::state::{Phase, RunState};
use crate::keeper::{self, Secrets, files};
use crate::landing::TargetHistory;
use crate::process::{self, Lock};
use crate::store::{Expected, RefMove, Store, layout};
use crate::wire::keeper::{Assignment, KeeperFile as _, Work};

/// Repairs the state.
pub(super) fn recover(engine: &mut Engine<'_>, missing: &[TaskId]) -> Result<()> {
    let ctx = std::sync::Arc::clone(&engine.ctx);
    let indexes = ctx.store.local().worktree_indexes(&ctx.run);
    crate::repo::check_worktrees_folder(&ctx.worktrees, &indexes)?;
    recreate_tasks(engine, missing)?;
    recreate_target(&ctx)?;
    let tip = ctx.tip()?;
    mark_contained(engine, &ctx, &tip)?;
    adopt_keepers(engine, &ctx)?;
    drop_stale_attempts(engine, &ctx)
}

/// Removes stale ref locks and quarantines broken refs, before the run is read.
pub(crate) fn repair_refs(store: &Store, proof: &crate::store::RunProof) -> Result<Vec<String>> {
    let run = proof.run().clone();
    let prefix = layout::attempts(&run);
    store.repair_refs(proof, &|name| {
        // While the keeper of an attempt lives, the lock of the attempt's ref is not stale.
        let parts = name.strip_prefix(&prefix).and_then(|rest| rest.split_once('/'));
        parts.is_some_and(|(task, attempt)| {
            let dir = store.local().attempts(&run).join(format!("{task}.{attempt}"));
            Lock::is_held(&dir.join(files::LOCK)).unwrap_or(false)
        })
    })
}

fn recreate_tasks(engine: &mut Engine<'_>, missing: &[TaskId]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    for task in engine.journal.recreate_tasks(missing)? {
        let note = format!("the chain of `{}` was lost; it begins anew", engine.ctx.label(&task));
        (engine.report)(RunReport::Note(note));
    }
    Ok(())
}

/// Recreates a missing target branch, for example in a copy of the repository. The commit is the
/// tip that the target journal records, or the run's base if the journal records no tip.
fn recreate_target(ctx: &Context) -> Result<()> {
    let target = &ctx.manifest.target;
    // Refuses a journal of another version, also if the target exists.
    let journaled = ctx.store.journal_target(target)?;
    if ctx.store.read(target)?.is_some() {
        return Ok(());
    }
    let tip = journaled.unwrap_or_else(|| ctx.base.clone());
    ctx.store
        .transact(&[RefMove::to(target.clone(), tip, Expected::Absent)])
        .with_context(|| format!("cannot make the target branch `{target}` again"))
}

/// Marks as done the tasks that the target already contains. In a copy of the repository, the
/// chains can be older than the target. Trailers prove nothing alone: a journal that this copy
/// wrote must have the tip, or the tip must pass the landing checks.
fn mark_contained(engine: &mut Engine<'_>, ctx: &Context, tip: &Oid) -> Result<()> {
    // The queue log has the results of the landings that it knows.
    engine.read_answers()?;
    let mut history = TargetHistory::default();
    history.update(ctx.store.repo(), tip, Some(&ctx.base))?;
    let is_open = |task: &TaskId| {
        engine.journal.state().tasks.get(task).is_some_and(|state| state.phase != Phase::Done)
    };
    let landed: Vec<(TaskId, Oid)> = history
        .tasks_of(&ctx.run)
        .filter(|(task, _)| is_open(task))
        .map(|(task, commit)| (task.clone(), commit.clone()))
        .collect();
    if landed.is_empty() {
        return engine.settle();
    }
    let journaled = ctx.store.sealed_journal_target(&ctx.manifest.target)?;
    let is_proven = match journaled {
        Some(commit) if commit == *tip => true,
        Some(_) | None => verification::tip_passes(ctx, tip)?,
    };
    for (task, commit) in landed {
        if is_proven {
            engine.found_landed(task, commit)?;
        } else {
            // Anybody can write trailers. The task goes on, and the target's health is judged.
            let note = format!(
                "{}: {} on the target names this task, but its checks fail there: not taken as landed",
                ctx.label(&task),
                commit.short()
            );
            (engine.report)(RunReport::Note(note));
        }
    }
    engine.settle()
}

/// Finds keepers that an earlier supervisor started, and marks their worktrees as used. Keepers
/// whose result is no longer needed are asked to stop.
fn adopt_keepers(engine: &mut Engine<'_>, ctx: &Context) -> Result<()> {
    for state in engine.journal.state().tasks.values() {
        if let (Phase::Running, Some(worktree)) = (&state.phase, &state.worktree) {
            engine.slots.occupy(worktree);
        }
    }
    for dir in folders(&ctx.store.local().attempts(&ctx.run)) {
        let Some(spec) = Assignment::read(&dir)? else { continue };
        let Work::Attempt(work) = &spec.work else { continue };
        let state =
            TaskId::parse(&work.task).ok().and_then(|t| engine.journal.state().tasks.get(&t));
        let wanted = state.is_some_and(|s| s.phase == Phase::Running && s.attempt == work.attempt);
        if wanted {
            continue;
        }
        if Lock::is_held(&dir.join(files::LOCK))? {
            engine.slots.occupy(&spec.worktree.name);
            stop_keeper(&dir);
        } else {
            process::kill_marked(&spec.marker);
            keep_commits(engine, ctx, &dir, &spec)?;
            assignment::discard_folder(&dir);
        }
    }
    find_evaluators(engine, ctx)?;
    for dir in folders(&ctx.store.local().verifications(&ctx.run)) {
        let Some(spec) = Assignment::read(&dir)? else { continue };
        if Lock::is_held(&dir.join(files::LOCK))? {
            engine.slots.occupy(&spec.worktree.name);
            if let Some(key) = dir.file_name() {
                let key = key.to_string_lossy().into_owned();
                engine.folders.adopt(key, spec.worktree.name);
            }
        } else {
            process::kill_marked(&spec.marker);
        }
    }
    let worktrees = [slots::CHECKS, slots::EVALUATIONS].map(|kind| engine.slots.used(kind));
    debug_assert!(worktrees.iter().sum::<usize>() >= engine.folders.adopted());
    Ok(())
}

/// Keeps the commits in the private `.git` of an attempt whose keeper died, and whose task has gone
/// on without it.
fn keep_commits(
    engine: &mut Engine<'_>,
    ctx: &Context,
    dir: &Path,
    spec: &Assignment,
) -> Result<()> {
    let env = agent_environment(ctx, dir, spec);
    let commits = keeper::rescue_commits(ctx.store.repo(), dir, spec, &env);
    for commit in commits.unwrap_or_default() {
        let name = make_leftover_ref(&ctx.store, &ctx.run, &spec.worktree.name, &commit)?;
        let note = format!("commits of an agent whose keeper died are kept in {name}");
        (engine.report)(RunReport::Note(note));
    }
    Ok(())
}

/// Makes a ref that keeps work which no attempt has recorded. Returns its name.
fn make_leftover_ref(store: &Store, run: &RunId, worktree: &str, commit: &Oid) -> Result<String> {
    let name = format!("{}{}", layout::leftovers(run, worktree), commit.short());
    if store.read(&name)?.is_none() {
        store.transact(&[RefMove::to(name.clone(), commit.clone(), Expected::Absent)])?;
        store.barrier()?;
    }
    Ok(name)
}

/// Returns the environment of an attempt's keeper, with the variables that its agent had.
pub(super) fn agent_environment(ctx: &Context, dir: &Path, spec: &Assignment) -> process::Environ {
    let pass = match &spec.work {
        Work::Attempt(work) => work.session.secrets.as_slice(),
        Work::Evaluation(_) | Work::Checks(_) => &[],
    };
    ctx.keeper_environment(dir, pass)
}

/// Finds evaluators that an earlier supervisor started. Evaluators whose opinion is no longer
/// needed are asked to stop.
fn find_evaluators(engine: &mut Engine<'_>, ctx: &Context) -> Result<()> {
    for dir in folders(&ctx.store.local().evaluations(&ctx.run)) {
        let Some(spec) = Assignment::read(&dir)? else { continue };
        let Work::Evaluation(work) = &spec.work else { continue };
        let task = TaskId::parse(&work.task).ok();
        let state = task.as_ref().and_then(|t| engine.journal.state().tasks.get(t));
        let wanted = state.is_some_and(|s| {
            s.phase == Phase::Verifying && s.evaluation.waiting && s.attempt == work.attempt
        });
        let held = Lock::is_held(&dir.join(files::LOCK))?;
        if held {
            engine.slots.occupy(&spec.worktree.name);
        } else {
            process::kill_marked(&spec.marker);
        }
        match (held, wanted, task) {
            (true, true, Some(task)) => {
                let key = evaluation::folder_name(&task, work.attempt);
                engine.folders.adopt(key, spec.worktree.name.clone());
            }
            (true, _, _) => {
                stop_keeper(&dir);
            }
            (false, true, _) => {}
            (false, false, _) => {
                assignment::discard_folder(&dir);
            }
        }
    }
    Ok(())
}

/// Deletes the refs of published attempts that no running attempt waits for: their events are
/// already on the chains.
fn drop_stale_attempts(engine: &mut Engine<'_>, ctx: &Context) -> Result<()> {
    let prefix = layout::attempts(&ctx.run);
    let mut stale = Vec::new();
    for (name, id) in ctx.store.list(&prefix)? {
        let Some((task, attempt)) = name.strip_prefix(&prefix).and_then(|r| r.split_once('/'))
        else {
            continue;
        };
        let state = TaskId::parse(task).ok().and_then(|t| engine.journal.state().tasks.get(&t));
        let awaited =
            state.is_some_and(|s| s.phase == Phase::Running && attempt.parse() == Ok(s.attempt));
        if !awaited {
            stale.push(RefMove::delete(name, id));
        }
    }
    engine.drop_published(&stale);
    Ok(())
}

/// Returns the folders in a folder.
pub(super) fn folders(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_dir()).collect()
}

/// Returns the folders of a run's keepers that run agents: attempts and evaluations.
fn agent_folders(store: &Store, run: &RunId) -> Vec<PathBuf> {
    let local = store.local();
    [local.attempts(run), local.evaluations(run)].iter().flat_map(|root| folders(root)).collect()
}

/// Asks the keepers of one task or of all tasks to stop. Returns the number of keepers that were
/// asked.
pub(super) fn stop_keepers(ctx: &Context, only: Option<&str>) -> usize {
    let mut asked = 0;
    for dir in agent_folders(&ctx.store, &ctx.run) {
        let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let task = name.rsplit_once('.').map_or("", |(task, _)| task);
        if only.is_none_or(|o| o == task) && stop_keeper(&dir) {
            asked += 1;
        }
    }
    asked
}

/// Asks the keeper of a folder to stop, if the keeper lives. Returns true if it was asked. The lock
/// file has the number and the start time of the process, so a process that reuses the number is
/// never signalled.
fn stop_keeper(dir: &Path) -> bool {
    let path = dir.join(files::LOCK);
    if !Lock::is_held(&path).unwrap_or(false) {
        return false;
    }
    let Ok(text) = Lock::last_holder(&path) else { return false };
    text.holder().is_some_and(|h| process::send_terminate(h.pid, h.start).unwrap_or(false))
}

/// Asks the keepers of one task to stop, without a supervisor.
pub(crate) fn stop_one(store: &Store, run: &RunId, task: &TaskId) {
    for dir in agent_folders(store, run) {
        let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.rsplit_once('.').map_or("", |(task, _)| task) == task.as_str() {
            stop_keeper(&dir);
        }
    }
}

/// Asks the keepers of a run to stop, without a supervisor.
pub(crate) fn stop_all(store: &Store, run: &RunId) -> usize {
    agent_folders(store, run).iter().filter(|dir| stop_keeper(dir)).count()
}

/// The folder of links that name worktrees by task, below the folder of worktrees.
pub(super) const TASK_LINKS: &str = "tasks";

/// Removes the links in a folder, and the folder if nothing else is in it. Errors are ignored: only
/// links for people are left.
fn remove_links(folder: &Path) {
    if !std::fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir()) {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            std::fs::remove_file(entry.path()).ok();
        }
    }
    std::fs::remove_dir(folder).ok();
}

/// The result of a sweep of worktrees.
#[derive(Debug, Default)]
pub(crate) struct SweptWorktrees {
    /// The number of removed worktrees.
    pub removed: usize,
    /// Sentences for people.
    pub notes: Vec<String>,
}

/// Keeps the work in an agent's worktree that no attempt has recorded. Returns a sentence for
/// people.
fn keep_leftover(ctx: &Context, path: &Path, index: &Path) -> Result<Option<String>> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !name.starts_with(slots::ATTEMPTS) {
        return Ok(None);
    }
    let values = ctx.job.agent.env.iter().filter_map(|name| {
        Some((name.as_str(), ctx.environment.get(OsStr::new(name))?.as_bytes()))
    });
    let known = process::KnownSecrets::new(values)?;
    let secrets = Secrets { known, folder: keeper::withheld_folder(index, &name) };
    let Some(leftover) = keeper::commit_leftover(ctx.store.repo(), (path, index), &secrets)? else {
        return Ok(None);
    };
    let kept = make_leftover_ref(&ctx.store, &ctx.run, &name, &leftover.commit)?;
    Ok(Some(keeper::leftover_note(path, &kept, &leftover, &secrets.folder)))
}

/// The worktrees of a run that no keeper uses.
struct UnusedWorktrees {
    /// The worktrees, with the files of their records.
    paths: Vec<(PathBuf, PathBuf)>,
    /// The homes and caches of sandboxes. The worktree of one may be gone.
    sandboxes: Vec<PathBuf>,
    /// True if no worktree of the run is in use.
    is_all: bool,
}

/// Finds the unused worktrees of a run, which are in the folder `worktrees`.
fn unused_worktrees(store: &Store, state: &RunState, worktrees: &Path) -> Result<UnusedWorktrees> {
    let run = &state.id;
    let mut used = Vec::new();
    let checks = folders(&store.local().verifications(run));
    for dir in agent_folders(store, run).into_iter().chain(checks) {
        if Lock::is_held(&dir.join(files::LOCK))? {
            used.extend(Assignment::read(&dir)?.map(|spec| spec.worktree.name));
        }
    }
    // If the keeper of a running attempt died, its worktree holds work that is not saved yet.
    let unsaved = state.tasks.values().filter(|t| t.phase == Phase::Running);
    used.extend(unsaved.filter_map(|t| t.worktree.clone()));
    let indexes = store.local().worktree_indexes(run);
    crate::repo::check_worktrees_folder(worktrees, &indexes)?;
    let mut paths = Vec::new();
    for path in folders(worktrees) {
        let Some(name) = path.file_name().map(|n| n.to_string_lossy().into_owned()) else {
            continue;
        };
        let index = indexes.join(&name);
        if name != TASK_LINKS && !used.contains(&name) && index.exists() {
            paths.push((path, index));
        }
    }
    let is_used = |path: &Path| used.iter().any(|name| path.file_stem() == Some(name.as_ref()));
    let of_sandbox = |path: &PathBuf| {
        [files::HOME, files::CACHES].iter().any(|e| path.extension() == Some(e.as_ref()))
    };
    let sandboxes = folders(&indexes).into_iter().filter(of_sandbox);
    let sandboxes = sandboxes.filter(|path| !is_used(path)).collect();
    Ok(UnusedWorktrees { paths, sandboxes, is_all: used.is_empty() })
}

/// Returns the worktrees that [`sweep_worktrees`] removes.
pub(super) fn sweepable_worktrees(
    store: &Store,
    state: &RunState,
    worktrees: &Path,
) -> Result<Vec<PathBuf>> {
    let unused = unused_worktrees(store, state, worktrees)?;
    Ok(unused.paths.into_iter().map(|(path, _)| path).collect())
}

/// Removes unused worktrees. See [`super::sweep_worktrees`].
pub(super) fn sweep_worktrees(ctx: &Context, state: &RunState) -> Result<SweptWorktrees> {
    let unused = unused_worktrees(&ctx.store, state, &ctx.worktrees)?;
    let mut swept = SweptWorktrees::default();
    for (path, index) in unused.paths {
        match keep_leftover(ctx, &path, &index) {
            Ok(note) => swept.notes.extend(note),
            Err(error) => {
                let path = path.display();
                swept
                    .notes
                    .push(format!("{path} has work that cannot be saved, so it stays: {error:#}"));
                continue;
            }
        }
        crate::repo::remove_worktree(ctx.store.repo(), &path, &index)
            .with_context(|| format!("cannot remove the worktree {}", path.display()))?;
        std::fs::remove_file(index.with_extension("setup")).ok();
        swept.removed += 1;
    }
    for left in unused.sandboxes {
        // The home of sandboxed sessions has copies of the user's login.
        crate::repo::remove_any(&left)
            .with_context(|| format!("cannot remove {}", left.display()))?;
    }
    if unused.is_all {
        remove_links(&ctx.worktrees.join(TASK_LINKS));
        // Removes the folder only if it is empty: a person may keep files there.
        std::fs::remove_dir(&ctx.worktrees).ok();
        ctx.worktrees.parent().map(std::fs::remove_dir);
    }
    Ok(swept)
}
