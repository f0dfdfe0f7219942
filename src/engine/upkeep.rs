//! Upkeep: the remains of interrupted processes, to be found and repaired outside of a run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::recover;
use crate::domain::id::RunId;
use crate::keeper::files;
use crate::process::{self, Holder, Lock};
use crate::repo;
use crate::store::stash;
use crate::store::{RunProof, Store, layout};
use crate::wire::keeper::{Assignment, KeeperFile as _};

/// The least age of a lock of a ref that counts as left behind. Git holds such a lock for
/// milliseconds.
const STALE_AGE: Duration = Duration::from_secs(10);

/// Something that an interrupted process has left behind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Remnant {
    /// The lock of a ref of this program.
    RefLock(PathBuf),
    /// The locks of the user's stash, which this program has made.
    StashLocks,
    /// A ref that names no readable commit.
    BrokenRef(String),
    /// A chain of a task with a damaged object, and the damage.
    DamagedChain(RunId, String, String),
    /// The processes of an assignment whose keeper has ended, by their marker.
    Orphans(String, Vec<i32>),
    /// The record of a worktree whose folder or registration is gone: folder and record.
    LostWorktree(RunId, PathBuf, PathBuf),
    /// The registration of a worktree in a folder of this program, without a record.
    UnknownWorktree(PathBuf),
    /// A file of the index cache for a run that does not exist.
    IndexCache(PathBuf),
}

impl Remnant {
    /// Returns what it is, and its state.
    pub(crate) fn describe(&self) -> (String, String) {
        let path = |path: &Path| path.display().to_string();
        match self {
            Self::RefLock(file) => (path(file), "a lock that a killed process has left".into()),
            Self::StashLocks => {
                ("refs/stash".into(), "locks that a killed process of git-harness has left".into())
            }
            Self::BrokenRef(name) => (name.clone(), "broken: it names no readable commit".into()),
            Self::DamagedChain(_, name, damage) => (name.clone(), format!("damaged: {damage}")),
            Self::Orphans(marker, pids) => {
                let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
                (marker.clone(), format!("processes without a keeper: {}", pids.join(", ")))
            }
            Self::LostWorktree(_, folder, _) => {
                (path(folder), "a recorded worktree whose folder or registration is gone".into())
            }
            Self::UnknownWorktree(admin) => {
                (path(admin), "a registered worktree that belongs to no run".into())
            }
            Self::IndexCache(file) => (path(file), "a cache for a run that does not exist".into()),
        }
    }
}

/// Finds the remains in a repository. Runs with a supervisor are left out. Changes nothing.
pub(crate) fn find_remnants(store: &Store) -> Result<Vec<Remnant>> {
    let mut found = Vec::new();
    let runs = store.runs()?;
    let is_driven = |run: &RunId| Lock::is_held(&store.local().run_lock(run)).unwrap_or(true);
    let idle: Vec<&RunId> = runs.iter().filter(|run| !is_driven(run)).collect();
    let is_of_driven = |name: &str| {
        let is_of = |run: &RunId| name.split('/').any(|part| part == run.as_str());
        runs.iter().any(|run| is_driven(run) && is_of(run))
    };
    let common_dir = store.repo().common_dir();
    for path in store.ref_locks(STALE_AGE)? {
        let name = path.strip_prefix(common_dir).unwrap_or(&path).to_string_lossy().into_owned();
        if !is_of_driven(&name) {
            found.push(Remnant::RefLock(path));
        }
    }
    if stash::has_stale_locks(store)? {
        found.push(Remnant::StashLocks);
    }
    let broken = store.broken_refs()?;
    found.extend(broken.iter().filter(|name| !is_of_driven(name)).cloned().map(Remnant::BrokenRef));
    for run in &idle {
        for (name, damage) in store.damaged_chains(run)? {
            if !broken.contains(&name) {
                found.push(Remnant::DamagedChain((*run).clone(), name, damage));
            }
        }
        found.extend(lost_worktrees(store, run)?);
    }
    found.extend(orphans(store, &runs)?);
    found.extend(unknown_worktrees(store, &runs)?);
    found.extend(cache_files(store, &runs));
    found.sort();
    Ok(found)
}

/// Repairs one of the remains, if it is still there. Returns a sentence about it.
pub(crate) fn repair_remnant(store: &Store, remnant: &Remnant) -> Result<String> {
    match remnant {
        Remnant::RefLock(path) => {
            if store.ref_locks(STALE_AGE)?.contains(path) {
                remove(path)?;
            }
            Ok("removed the stale lock".into())
        }
        Remnant::StashLocks => {
            stash::remove_stale_locks(store)?;
            Ok("removed the stale locks".into())
        }
        Remnant::BrokenRef(name) => {
            if store.broken_refs()?.contains(name) {
                store.quarantine_ref(name)?;
            }
            Ok(format!("moved to {}", store.local().quarantine().display()))
        }
        Remnant::DamagedChain(run, ..) => {
            store.quarantine_chains(&hold(store, run)?)?;
            Ok(format!(
                "moved to {}; its task begins anew with the next `git harness start`",
                store.local().quarantine().display()
            ))
        }
        Remnant::Orphans(marker, _) => {
            let ended = process::kill_marked(marker);
            Ok(format!("ended {ended} of them"))
        }
        Remnant::LostWorktree(run, folder, record) => {
            let _proof = hold(store, run)?;
            // A folder that is still there is renamed and not deleted.
            let aside = repo::set_damaged_aside(folder, record)?;
            repo::forget_registration(store.repo(), folder)?;
            Ok(match aside {
                Some(aside) => format!("removed the record; the folder is now {}", aside.display()),
                None => "removed the record".into(),
            })
        }
        Remnant::UnknownWorktree(admin) => {
            repo::drop_registration(store.repo(), admin)?;
            Ok("removed the registration; the folder, if there is one, stays".into())
        }
        Remnant::IndexCache(path) => {
            remove(path)?;
            Ok("removed".into())
        }
    }
}

fn hold(store: &Store, run: &RunId) -> Result<RunProof> {
    Ok(store.hold(run, &Holder::this_process().to_string())??)
}

fn remove(path: &Path) -> Result<()> {
    repo::remove_any(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Finds the processes of assignments whose keeper has ended.
fn orphans(store: &Store, runs: &[RunId]) -> Result<Vec<Remnant>> {
    let local = store.local();
    let mut ended = BTreeSet::new();
    for run in runs {
        for root in [local.attempts(run), local.verifications(run), local.evaluations(run)] {
            for dir in recover::folders(&root) {
                if Lock::is_held(&dir.join(files::LOCK))? {
                    continue;
                }
                ended.extend(Assignment::read(&dir).ok().flatten().map(|spec| spec.marker));
            }
        }
    }
    let mut found = Vec::new();
    let processes = process::marked_processes(store.repo().common_dir());
    for marker in ended {
        let of_marker = processes.iter().filter(|process| process.marker == marker);
        let pids: Vec<i32> = of_marker.map(|process| process.pid).collect();
        if !pids.is_empty() {
            found.push(Remnant::Orphans(marker, pids));
        }
    }
    Ok(found)
}

/// Finds the recorded worktrees of a run whose folder or registration is gone.
fn lost_worktrees(store: &Store, run: &RunId) -> Result<Vec<Remnant>> {
    let indexes = store.local().worktree_indexes(run);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&indexes).into_iter().flatten().flatten() {
        let record = entry.path();
        let is_record =
            record.is_file() && record.extension().is_none() && entry.file_name() != "folder";
        if !is_record {
            continue;
        }
        if let Some(lost) = repo::lost_worktree(store.repo(), &record) {
            found.push(Remnant::LostWorktree(run.clone(), lost, record));
        }
    }
    Ok(found)
}

/// Finds registrations of worktrees in folders of this program that have no record.
fn unknown_worktrees(store: &Store, runs: &[RunId]) -> Result<Vec<Remnant>> {
    let mut known = BTreeSet::new();
    let mut parents = BTreeSet::new();
    let local = store.local();
    let queues = recover::folders(&local.root().join("queues"));
    let folders = runs.iter().map(|run| local.worktree_indexes(run));
    for folder in folders.chain(queues.into_iter().map(|queue| queue.join("worktrees"))) {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if let Some((path, admin)) = repo::recorded_paths(store.repo(), &entry.path()) {
                parents.extend(path.parent().map(Path::to_path_buf));
                known.insert(admin);
            }
        }
    }
    let mut found = Vec::new();
    for (admin, work_dir) in repo::registrations(store.repo())? {
        let is_ours = work_dir.parent().is_some_and(|parent| parents.contains(parent));
        if is_ours && !known.contains(&admin) {
            found.push(Remnant::UnknownWorktree(admin));
        }
    }
    Ok(found)
}

/// Finds the files of the index cache for runs that do not exist.
fn cache_files(store: &Store, runs: &[RunId]) -> Vec<Remnant> {
    let folder = store.local().root().join("index");
    let is_of_run = |path: &PathBuf| {
        runs.iter()
            .any(|run| [store.local().index(run), store.local().snapshot(run)].contains(path))
    };
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| !is_of_run(path));
    files.map(Remnant::IndexCache).collect()
}

/// Returns the name of the folder with quarantined refs, and the number of files in it.
pub(crate) fn quarantined(store: &Store) -> Option<(PathBuf, usize)> {
    let folder = store.local().quarantine();
    let count = std::fs::read_dir(&folder).into_iter().flatten().count();
    (count > 0).then_some((folder, count))
}

/// Returns the refs with work that no attempt has recorded.
pub(crate) fn leftover_refs(store: &Store) -> Result<Vec<String>> {
    let refs = store.list(layout::LEFTOVERS)?;
    Ok(refs.into_iter().map(|(name, _)| name).collect())
}
