//! Opening what a command works on: the repository's state, a run, a task.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context as _, Result, bail};

use crate::ambient;
use crate::domain::id::{RunId, TaskId};
use crate::engine::{self, Context};
use crate::error::Advice;
use crate::job;
use crate::landing::contained::LandedTasks;
use crate::process::{Git, Holder, write_atomic, write_executable};
use crate::repo::Repo;
use crate::store::load::LoadedRun;
use crate::store::{Held, RunProof, Store, layout};

/// Opens the state of the repository around a folder.
pub(super) fn open_store(here: &Path) -> Result<Store> {
    let repo = Repo::discover(here)?;
    let private = repo.common_dir().join("harness").join("git");
    let git = Git::find(repo.common_dir(), &private, &ambient::environment())?;
    Store::open(repo, git)
}

/// The same for somebody who only looks, which no version of git can get wrong: it is not asked for its own.
pub(super) fn open_read_only(here: &Path) -> Result<Store> {
    let repo = Repo::discover(here)?;
    let private = repo.common_dir().join("harness").join("git");
    let git = Git::find_known(repo.common_dir(), &private, &ambient::environment())?;
    Store::open(repo, git)
}

/// The run that is meant: the one that is named, or the only one that has not ended, or the only one.
pub(super) fn find_run(store: &Store, name: Option<&str>) -> Result<RunId> {
    let runs = store.runs()?;
    if let Some(name) = name {
        let run = RunId::parse(name)?;
        if runs.contains(&run) {
            return Ok(run);
        }
        let known = list(&runs);
        return Err(NoRun(format!("no run is called `{name}`; there is: {known}")).into());
    }
    match runs.as_slice() {
        [] => Err(NoRun("there is no run yet: `git harness start` makes one".into()).into()),
        [only] => Ok(only.clone()),
        _ => {
            let mut active = Vec::new();
            for run in &runs {
                let open = store.load_cached(run)?.is_some_and(|r| {
                    let state = &r.ledger.state;
                    !state.ended() && state.phase != crate::domain::state::RunPhase::Cancelled
                });
                if open {
                    active.push(run.clone());
                }
            }
            match active.as_slice() {
                [only] => Ok(only.clone()),
                [] => Err(NoRun(format!("no run is active; name one of: {}", list(&runs))).into()),
                _ => bail!("more than one run is active; name one of: {}", list(&active)),
            }
        }
    }
}

/// The job's last run: the one with the highest number.
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

/// There is no such run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoRun(pub String);

fn list(runs: &[RunId]) -> String {
    if runs.is_empty() {
        return "none".into();
    }
    runs.iter().map(RunId::as_str).collect::<Vec<_>>().join(", ")
}

/// A task as a person names it: RUN/TASK, or TASK of the run that is meant.
pub(super) fn resolve_task(
    store: &Store,
    name: &str,
    run_name: Option<&str>,
) -> Result<(RunId, TaskId)> {
    let name = layout::short(name);
    let name = name.strip_prefix("harness/").unwrap_or(name);
    let (run_name, task) = match name.split_once('/') {
        Some((run, task)) => (Some(run), task),
        None => (run_name, name),
    };
    let run = find_run(store, run_name)?;
    Ok((run, TaskId::parse(task)?))
}

/// Loads a run that exists.
pub(super) fn load_run(store: &Store, run: &RunId) -> Result<LoadedRun> {
    store.load(run)?.with_context(|| format!("the run `{run}` is gone"))
}

/// The same for somebody who only looks: see [`Store::look`].
pub(super) fn view_run(store: &Store, run: &RunId) -> Result<LoadedRun> {
    store.load_cached(run)?.with_context(|| format!("the run `{run}` is gone"))
}

/// How like a task's name what was written has to be (by Jaro and Winkler, of 1) to be taken for it.
const LIKE: f64 = 0.75;

/// The state of one task of a loaded run.
pub(super) fn find_task<'a>(
    loaded: &'a LoadedRun,
    task: &TaskId,
) -> Result<(&'a crate::domain::plan::Task, &'a crate::domain::state::TaskState)> {
    let state = &loaded.ledger.state;
    let planned = state.plan.tasks.iter().find(|t| t.id == *task);
    if let (Some(planned), Some(s)) = (planned, state.tasks.get(task)) {
        return Ok((planned, s));
    }
    let near = |t: &TaskId| {
        let part = t.as_str().contains(task.as_str());
        if part { 1.0 } else { strsim::jaro_winkler(t.as_str(), task.as_str()) }
    };
    let nearest = state.tasks.keys().map(|t| (near(t), t)).max_by(|a, b| a.0.total_cmp(&b.0));
    let nearest = match nearest.filter(|(likeness, _)| *likeness >= LIKE) {
        Some((_, t)) => format!("did you mean `{t}`?"),
        None => format!("`git harness status --porcelain {}` lists them", state.id),
    };
    Err(Advice::new(format!("no task `{task}` in the run `{}`", state.id), nearest).into())
}

/// Takes the run's lock.
pub(super) fn hold(store: &Store, run: &RunId) -> Result<RunProof> {
    Ok(try_hold(store, run)??)
}

/// Takes the run's lock, or says who has it.
pub(super) fn try_hold(store: &Store, run: &RunId) -> Result<std::result::Result<RunProof, Held>> {
    store.hold(run, &Holder::this_process().to_string())
}

/// Who drives a run at the moment, as `host/pid`.
pub(super) fn driver(store: &Store, run: &RunId) -> Option<String> {
    let path = store.local().run_lock(run);
    if !crate::process::Lock::is_held(&path).ok()? {
        return None;
    }
    let words = crate::process::Lock::last_holder(&path).ok()?;
    Some(words.holder().map_or(words.to_string(), |h| format!("{}/{}", h.host, h.pid)))
}

/// Everything that carrying out a run needs.
pub(super) fn context(store: &Store, loaded: &LoadedRun) -> Result<Context> {
    let manifest = loaded.manifest.clone();
    let run = loaded.ledger.state.id.clone();
    let job = job::parse(&loaded.job_text, &format!("{} (as pinned in `{run}`)", manifest.file))?;
    let preset = crate::agent::preset::resolve(&job)?;
    let mut pinned = store.pinned(&loaded.ledger.run_tip.tree)?;
    let template = template_of(&mut pinned, job.agent.prompt.as_deref())?;
    let evaluator = match (&job.evaluate, crate::agent::preset::resolve_evaluator(&job)?) {
        (Some(evaluate), Some(preset)) => {
            let template = template_of(&mut pinned, evaluate.agent.prompt.as_deref())?;
            Some(engine::Evaluator { agent: evaluate.agent.clone(), preset, template })
        }
        (_, _) => None,
    };
    let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
    let mut overlay = Vec::new();
    let folder = store.local().pinned(&run);
    for (path, bytes) in &pinned {
        let to = folder.join(path);
        write_pinned(&to, bytes)?;
        hasher.update(path.as_bytes());
        hasher.update(&[0]);
        hasher.update(&(bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
        overlay.push((path.clone(), to));
    }
    let salt = hasher.try_finalize()?.to_string();
    let plan = &loaded.ledger.state.plan;
    let tasks = plan.tasks.iter().map(|t| (t.id.clone(), Arc::new(t.clone()))).collect();
    let program = ambient::program().context("cannot find this program's own file")?;
    let (target, environment) = (manifest.target.clone(), ambient::environment());
    Ok(Context {
        store: store.clone(),
        desk: engine::queue::Desk::new(store.clone(), target, program.clone(), environment.clone()),
        base: manifest.base()?,
        worktrees: worktrees_folder(store, &job, &run),
        manifest,
        job,
        preset,
        template,
        evaluator,
        tasks: Mutex::new(tasks),
        program,
        keepers: engine::Keepers::default(),
        environment,
        owner: format!("{}/{}", ambient::host(), repository_id(store)?),
        identity: store.repo().identity(),
        overlay,
        laid_over: OnceLock::new(),
        salt,
        contained: Mutex::new(LandedTasks::default()),
        run,
    })
}

/// A prompt's template, taken out of what is pinned: checks have no business with it.
fn template_of(
    pinned: &mut BTreeMap<String, Vec<u8>>,
    prompt: Option<&str>,
) -> Result<Option<(String, String)>> {
    let Some(name) = prompt.map(|p| p.strip_prefix("./").unwrap_or(p)) else { return Ok(None) };
    let bytes = pinned.remove(name).context("the pinned prompt is missing")?;
    let text = String::from_utf8(bytes)
        .with_context(|| format!("the prompt template is not UTF-8: {name}"))?;
    Ok(Some((name.to_owned(), text)))
}

/// The path of the file that each task of a run hands in; none where they hand in changes.
pub(super) fn output_path(loaded: &LoadedRun) -> Option<String> {
    let job = job::parse(&loaded.job_text, &loaded.manifest.file).ok()?;
    job.output.map(|output| output.path)
}

/// Where the places of a run are.
pub(super) fn worktrees_folder(store: &Store, job: &job::Job, run: &RunId) -> PathBuf {
    worktrees_root(store.repo(), job).join(run.as_str())
}

/// Where the places of all runs of a job are.
pub(super) fn worktrees_root(repo: &Repo, job: &job::Job) -> PathBuf {
    let top = repo.work_dir().unwrap_or_else(|| repo.common_dir());
    clean(&top.join(job.worktree.root_for(&repo.name())))
}

/// A path without `.` and `..`, by its words alone: what it names need not exist.
fn clean(path: &Path) -> PathBuf {
    use std::path::Component;
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

/// Writes out a pinned file. They are scripts as often as not, so they can be run. The mode of a script that is in the
/// tree is the tree's.
pub(super) fn write_pinned(path: &Path, bytes: &[u8]) -> Result<()> {
    write_executable(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// A name for this copy of the repository, made once.
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

/// Loads a run that we hold, mended, with everything that carrying it out needs.
pub(super) fn open_engine<'a>(
    store: &Store,
    proof: RunProof,
    jobs: Option<u32>,
    options: engine::RunOptions,
    report: &'a mut dyn FnMut(engine::RunReport<'_>),
) -> Result<engine::Engine<'a>> {
    for said in engine::recover::mend(store, &proof)? {
        report(engine::RunReport::Note(said));
    }
    let loaded = load_run(store, proof.run())?;
    let ctx = context(store, &loaded)?;
    let jobs = jobs.map_or(ctx.job.limits.jobs, |n| n as usize);
    let keep_going = options.keep_going;
    let policy = engine::policy(&ctx.job, &ctx.preset, jobs);
    let policy = crate::domain::retry::Policy { keep_going, ..policy };
    engine::prepare(ctx, proof, loaded.ledger, &loaded.missing, policy, options, report)
}

/// Whether a landing of a run is journaled and not settled, and of which task.
pub(super) fn landing_task(store: &Store, loaded: &LoadedRun) -> Result<Option<TaskId>> {
    use crate::store::journal::JournalEntry;
    Ok(match store.journal(&loaded.manifest.target)? {
        Some(JournalEntry::Landing(l)) if l.run == loaded.ledger.state.id => Some(l.task),
        Some(JournalEntry::Landing(_) | JournalEntry::Settled) | None => None,
    })
}

/// The full name of the branch that a job's work goes to.
pub(super) fn target_ref(job: &job::Job, run: &RunId) -> String {
    match &job.job.target {
        Some(name) => format!("refs/heads/{name}"),
        None => layout::default_target(run),
    }
}
