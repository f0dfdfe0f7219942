//! The workspace of a command: the repository's state, a run, its job and its tasks.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};

use super::job_file;
use super::open::open_repo;
use crate::ambient;
use crate::domain::id::{Oid, RunId, TaskId, Timestamp};
use crate::domain::machine::owed;
use crate::domain::plan::Task;
use crate::domain::state::{RunState, TaskState};
use crate::engine::{self, Context};
use crate::failpoint;
use crate::job::{self, Job};
use crate::process::{Git, Holder, Lock, write_atomic, write_executable};
use crate::repo::{self, Repo};
use crate::store::load::LoadedRun;
use crate::store::{RunHeld, RunProof, Store, layout};
use crate::ui::Ui;
use crate::wire::queue::{LandedEntry, QueueEvent};

/// A run that a command works on, loaded once, and its job, parsed at most once.
#[derive(Debug)]
pub(super) struct Workspace {
    /// The repository's state.
    pub store: Store,
    /// The run as loaded from its refs.
    pub loaded: LoadedRun,
    /// The pinned job, parsed on first use. Parsing costs more than the rest of a small `status`.
    job: OnceCell<Job>,
}

impl Workspace {
    /// Loads a run.
    pub(super) fn load(store: &Store, run: &RunId) -> Result<Self> {
        let loaded = store.load(run)?.with_context(|| format!("the run `{run}` is gone"))?;
        Ok(Self::new(store, loaded))
    }

    /// Loads a run that this command carries out. Chains that cannot be read go into quarantine,
    /// and their tasks begin anew.
    pub(super) fn load_repaired(store: &Store, run: &RunId, ui: &Ui) -> Result<Self> {
        Self::load(store, run).or_else(|error| match try_hold(store, run) {
            Ok(Ok(proof)) => Self::load_or_repair(store, run, &proof, ui),
            Ok(Err(_)) | Err(_) => Err(error),
        })
    }

    /// Loads a run as [`load_repaired`](Self::load_repaired), for a command that holds it.
    pub(super) fn load_or_repair(
        store: &Store,
        run: &RunId,
        proof: &RunProof,
        ui: &Ui,
    ) -> Result<Self> {
        let error = match Self::load(store, run) {
            Ok(workspace) => return Ok(workspace),
            Err(error) => error,
        };
        let mut repairs = engine::recover::repair_refs(store, proof)?;
        repairs.extend(store.quarantine_chains(proof)?);
        if repairs.is_empty() {
            return Err(error);
        }
        repairs.iter().for_each(|repair| ui.message(repair));
        Self::load(store, run)
    }

    /// Loads a run for a command that only reads: see [`Store::load_cached`].
    pub(super) fn view(store: &Store, run: &RunId) -> Result<Self> {
        let loaded = store.load_cached(run)?.with_context(|| format!("the run `{run}` is gone"))?;
        Ok(Self::new(store, loaded))
    }

    fn new(store: &Store, loaded: LoadedRun) -> Self {
        failpoint::trace("run loaded");
        Self { store: store.clone(), loaded, job: OnceCell::new() }
    }

    /// Loads the run again if its refs have moved since it was loaded. Call this with the run's
    /// lock held: another process may have had the lock in between.
    fn refresh(self) -> Result<Self> {
        if self.is_current()? {
            return Ok(self);
        }
        let again = Self::load(&self.store, self.run())?;
        Ok(if again.loaded.job_text == self.loaded.job_text {
            Self { job: self.job, ..again }
        } else {
            again
        })
    }

    /// Returns true if the refs of the run and its tasks are where they were when the run was
    /// loaded.
    fn is_current(&self) -> Result<bool> {
        let ledger = &self.loaded.ledger;
        if self.store.read(&layout::run(self.run()))?.as_ref() != Some(&ledger.run_tip.commit) {
            return Ok(false);
        }
        let prefix = layout::tasks(self.run());
        let mut unchanged = 0;
        for (name, commit) in self.store.list(&prefix)? {
            let task = TaskId::parse(name.strip_prefix(&prefix).unwrap_or_default());
            match task.ok().map(|task| (ledger.tips.get(&task), task)) {
                Some((Some(tip), _)) if tip.commit == commit => unchanged += 1,
                Some((None, task)) if !self.loaded.missing.contains(&task) => {}
                Some((Some(_) | None, _)) | None => return Ok(false),
            }
        }
        Ok(unchanged == ledger.tips.len())
    }

    /// Returns the run's name.
    pub(super) fn run(&self) -> &RunId {
        &self.loaded.ledger.state.id
    }

    /// Returns the run's state.
    pub(super) fn state(&self) -> &RunState {
        &self.loaded.ledger.state
    }

    /// Returns the job that the run has pinned.
    pub(super) fn job(&self) -> Result<&Job> {
        if let Some(job) = self.job.get() {
            return Ok(job);
        }
        let file = format!("{} (as pinned in `{}`)", self.loaded.manifest.file, self.run());
        let job = job_file::parse(&self.loaded.job_text, &file)?;
        Ok(self.job.get_or_init(|| job))
    }

    /// Stores a job that was parsed from `text`, if the run has pinned the same text. Saves parsing
    /// the text again.
    pub(super) fn set_job(&mut self, text: &str, job: &Job) {
        if self.loaded.job_text == text {
            self.job = OnceCell::from(job.clone());
        }
    }

    /// Returns a task of the plan and its state.
    pub(super) fn find_task(&self, task: &TaskId) -> Result<(&Task, &TaskState)> {
        let tasks = &self.state().tasks;
        let task_and_state = tasks.planned_task(task).zip(tasks.get(task));
        task_and_state.with_context(|| format!("no task `{task}` in the run `{}`", self.run()))
    }

    /// Returns true if nothing is left to do: every task has ended, and no failed task is owed
    /// another attempt.
    pub(super) fn is_finished(&self) -> bool {
        let policy = || {
            let job = self.job().ok()?;
            let preset = crate::agent::preset::resolve(job).ok()?;
            Some(engine::policy(job, &preset, job.limits.jobs))
        };
        self.state().ended()
            && policy().is_none_or(|policy| owed(self.state(), ambient::now(), &policy).is_empty())
    }

    /// Returns the path of the output file of each task; `None` if tasks propose changes instead.
    pub(super) fn output_path(&self) -> Option<&str> {
        self.job().ok()?.output.as_ref().map(|output| output.path.as_str())
    }

    /// Returns the tasks in the last landing of the queue log. They count as landing until their
    /// chains record the landing.
    pub(super) fn landing_tasks(&self) -> Result<BTreeSet<TaskId>> {
        let last = self.store.last_queue_event(&self.loaded.manifest.target)?;
        let Some(QueueEvent::Landed { entries, .. }) = last else { return Ok(BTreeSet::new()) };
        let prefix = format!("{}/", self.run());
        let task = |entry: &LandedEntry| TaskId::parse(entry.entry.strip_prefix(&prefix)?).ok();
        Ok(entries.iter().filter_map(task).collect())
    }

    /// Returns the context that the engine needs to carry out the run.
    pub(super) fn context(&self) -> Result<Context> {
        let (store, run) = (&self.store, self.run().clone());
        let manifest = self.loaded.manifest.clone();
        let job = self.job()?.clone();
        let preset = crate::agent::preset::resolve(&job)?;
        let mut pinned = store.pinned(&self.loaded.ledger.run_tip.tree)?;
        let template = take_template(&mut pinned, job.agent.prompt.as_deref())?;
        let evaluator = match (&job.evaluate, crate::agent::preset::resolve_evaluator(&job)?) {
            (Some(evaluate), Some(preset)) => {
                let template = take_template(&mut pinned, evaluate.agent.prompt.as_deref())?;
                Some(engine::Evaluator { agent: evaluate.agent.clone(), preset, template })
            }
            (Some(_) | None, None) | (None, Some(_)) => None,
        };
        let mut overlay = Vec::new();
        let folder = store.local().pinned(&run);
        for (path, bytes) in &pinned {
            let copy = folder.join(path);
            write_pinned(&copy, bytes)?;
            overlay.push((path.clone(), copy));
        }
        let base = manifest.base()?;
        let provided = provided_files(store.repo(), &job, &base, &overlay)?;
        let salt = provided_salt(&provided, &pinned)?;
        let planned = self.state().tasks.planned();
        let tasks = planned.map(|t| (t.id.clone(), Arc::new(t.clone()))).collect();
        let program = ambient::program().context("cannot find this program's own file")?;
        let (target, environment) = (manifest.target.clone(), ambient::environment());
        Ok(Context {
            store: store.clone(),
            queue: Arc::new(engine::queue::QueueContext::new(
                store.clone(),
                target,
                program.clone(),
                environment.clone(),
            )),
            open_run: open_run(store),
            base,
            worktrees: worktrees_root(store.repo(), &job).join(run.as_str()),
            manifest,
            job,
            preset,
            template,
            evaluator,
            tasks: Mutex::new(tasks),
            keepers: Box::new(engine::Keepers::new(program)),
            environment,
            owner: format!("{}/{}", ambient::host(), repository_id(store)?),
            identity: store.repo().identity(),
            overlay,
            provided,
            salt,
            run,
        })
    }

    /// Repairs the refs that an earlier supervisor left behind, and creates the engine that carries
    /// out the run.
    pub(super) fn into_engine<'a>(
        self,
        proof: RunProof,
        jobs: Option<u32>,
        options: engine::RunOptions,
        report: &'a mut dyn FnMut(engine::RunReport<'_>),
    ) -> Result<engine::Engine<'a>> {
        for note in engine::recover::repair_refs(&self.store, &proof)? {
            report(engine::RunReport::Note(note));
        }
        let workspace = self.refresh()?;
        workspace.store.watch_settings(&engine::settings_owner(workspace.run()));
        workspace.store.check_chains(&workspace.loaded.ledger)?;
        workspace.store.check_target(&workspace.loaded.manifest.target)?;
        let ctx = workspace.context()?;
        let jobs = jobs.map_or(ctx.job.limits.jobs, |n| n as usize);
        let policy = engine::policy(&ctx.job, &ctx.preset, jobs);
        let LoadedRun { ledger, missing, .. } = workspace.loaded;
        engine::prepare(ctx, proof, ledger, &missing, policy, options, report)
    }
}

/// Returns the function with which a merge queue opens the runs whose tasks are in the queue.
pub(super) fn open_run(store: &Store) -> engine::queue::OpenRun {
    let store = store.clone();
    engine::queue::OpenRun::new(move |run| Workspace::load(&store, run)?.context())
}

/// Opens the state of the repository around a folder.
pub(super) fn open_store(here: &Path) -> Result<Store> {
    let repo = open_repo(here)?;
    let private = repo.common_dir().join("harness").join("git");
    let git = Git::find(repo.common_dir(), &private, &ambient::environment())?;
    Store::open(repo, git)
}

/// Opens the state for a command that only reads. Every version of git can read the state, so the
/// version is not checked.
pub(super) fn open_read_only(here: &Path) -> Result<Store> {
    let repo = open_repo(here)?;
    let private = repo.common_dir().join("harness").join("git");
    let git = Git::find_unchecked(repo.common_dir(), &private, &ambient::environment())?;
    Store::open(repo, git)
}

/// Returns the run of a job with the highest number.
pub(super) fn latest_run(store: &Store, job: &str) -> Result<Option<RunId>> {
    let mut best: Option<(u32, RunId)> = None;
    for run in store.runs()? {
        let number = run.as_str().strip_prefix(job).and_then(|r| r.strip_prefix('-'));
        if let Some(number) = number.and_then(|n| n.parse().ok())
            && best.as_ref().is_none_or(|(n, _)| number > *n)
        {
            best = Some((number, run));
        }
    }
    Ok(best.map(|(_, run)| run))
}

/// Takes the run's lock.
pub(super) fn hold(store: &Store, run: &RunId) -> Result<RunProof> {
    Ok(try_hold(store, run)??)
}

/// Takes the run's lock, or returns the process that holds it.
pub(super) fn try_hold(
    store: &Store,
    run: &RunId,
) -> Result<std::result::Result<RunProof, RunHeld>> {
    store.hold(run, &Holder::this_process().to_string())
}

/// Returns the process that holds the run's lock, as `host/pid`.
pub(super) fn supervisor_of(store: &Store, run: &RunId) -> Option<String> {
    let path = store.local().run_lock(run);
    if !Lock::is_held(&path).ok()? {
        return None;
    }
    let holder = Lock::last_holder(&path).ok()?;
    Some(holder.holder().map_or(holder.to_string(), |h| format!("{}/{}", h.host, h.pid)))
}

/// Records the time of a `poll`.
pub(super) fn record_poll(store: &Store, run: &RunId) -> Result<()> {
    let path = store.local().polled(run);
    write_atomic(&path, ambient::now().0.to_string().as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Forgets the last `poll`: a supervisor takes over the run.
pub(super) fn forget_poll(store: &Store, run: &RunId) {
    // If the file stays, `status` shows an old poll. Nothing else depends on the file.
    std::fs::remove_file(store.local().polled(run)).ok();
}

/// Returns the time of the last `poll`, if no `start` came after it.
pub(super) fn last_poll(store: &Store, run: &RunId) -> Option<Timestamp> {
    let text = std::fs::read_to_string(store.local().polled(run)).ok()?;
    text.trim().parse().ok().map(Timestamp)
}

/// Returns the person who runs this command, as git knows them: `NAME <EMAIL>`.
pub(super) fn who(store: &Store) -> String {
    let identity = store.repo().identity();
    format!("{} <{}>", identity.name, identity.email)
}

/// Takes a prompt's template out of the pinned files: templates are not written into check
/// worktrees.
fn take_template(
    pinned: &mut BTreeMap<String, Vec<u8>>,
    prompt: Option<&str>,
) -> Result<Option<(String, String)>> {
    let Some(name) = prompt.map(|p| p.strip_prefix("./").unwrap_or(p)) else { return Ok(None) };
    let bytes = pinned.remove(name).context("the pinned prompt is missing")?;
    let text = String::from_utf8(bytes)
        .with_context(|| format!("the prompt template is not UTF-8: {name}"))?;
    Ok(Some((name.to_owned(), text)))
}

/// Returns the pinned files that are written into check worktrees: the schemas, and files that the
/// base does not have. A file of the base is used as the candidate leaves it, even if the candidate
/// deletes it.
fn provided_files(
    repo: &Repo,
    job: &Job,
    base: &Oid,
    pinned: &[(String, PathBuf)],
) -> Result<Vec<(String, PathBuf)>> {
    let tree = repo.tree_of(base)?;
    let schemas: BTreeSet<String> = job::schemas(job).collect();
    let mut provided = Vec::new();
    for (path, copy) in pinned {
        if schemas.contains(path) || !repo.has_entry(&tree, path)? {
            provided.push((path.clone(), copy.clone()));
        }
    }
    Ok(provided)
}

/// Returns a hash of the provided files, or an empty text if there are none.
fn provided_salt(
    provided: &[(String, PathBuf)],
    pinned: &BTreeMap<String, Vec<u8>>,
) -> Result<String> {
    if provided.is_empty() {
        return Ok(String::new());
    }
    let bytes = |path: &str| pinned.get(path).map_or(&[][..], Vec::as_slice);
    repo::hash_files(provided.iter().map(|(path, _)| (path.as_str(), bytes(path))))
}

/// Returns the folder that holds the worktrees of all runs of a job.
pub(super) fn worktrees_root(repo: &Repo, job: &Job) -> PathBuf {
    let (folder, name) = repo.worktree_anchor();
    normalize(&folder.join(job.worktree.root_for(&name)))
}

/// Removes `.` and `..` from a path without reading the disk: the path need not exist.
fn normalize(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => out.push(part),
        }
    }
    out
}

/// Writes out a pinned file as an executable, since many pinned files are scripts. A script that is
/// checked out from the tree has the tree's mode instead.
pub(super) fn write_pinned(path: &Path, bytes: &[u8]) -> Result<()> {
    write_executable(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Returns the id of this copy of the repository. The first call generates and stores the id.
fn repository_id(store: &Store) -> Result<String> {
    let path = store.local().repository_id();
    if let Ok(id) = std::fs::read_to_string(&path)
        && !id.trim().is_empty()
    {
        return Ok(id.trim().to_owned());
    }
    let id = ambient::nonce();
    std::fs::create_dir_all(store.local().root())?;
    write_atomic(&path, id.as_bytes())?;
    Ok(id)
}

/// Returns the full name of the branch that receives the work of a run. A symbolic ref stands for
/// the branch that it names.
pub(super) fn target_ref(store: &Store, job: &Job, run: &RunId) -> Result<String> {
    match &job.job.target {
        Some(name) => store.resolve_branch(&format!("refs/heads/{name}")),
        None => Ok(layout::default_target(run)),
    }
}
