//! `start`: plan a job and carry it out, or continue its run.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::conclusion::{self, RunConclusion};
use super::job_file::{self, LoadedJob};
use super::job_plan::{self, JobPlan, PlanScope};
use super::names::{self, RunUse};
use super::replan::{self, PlanOverrides};
use super::workspace::{self, Workspace};
use super::{accounts, adopt, preflight, prompts, sandbox, status};
use crate::cli::StartArgs;
use crate::domain::event::Halt;
use crate::domain::id::{RunId, TaskId};
use crate::domain::machine::{Observation, Request};
use crate::domain::run_wait::RunFacts;
use crate::domain::state::{Phase, RunPhase, RunState};
use crate::engine::{self, RunOptions, StorageFault, StorageWait};
use crate::error::{self, Advice};
use crate::process;
use crate::store::create::{NewRun, next_run, refuse_collisions};
use crate::store::{RunProof, Store, layout};
use crate::ui::outlook::Outlook;
use crate::ui::{Ui, human};
use crate::wire;
use crate::wire::run::Manifest;

/// `git harness start`
pub(super) fn run(here: &Path, args: &StartArgs, ui: &Ui) -> Result<u8> {
    if args.in_background {
        // `detach` gave this process a lock file as its standard input. Anything else is refused,
        // so that nobody gives the hidden option by hand. From here on this process is independent
        // of its parent; the lock is released, since the run's own lock follows.
        process::adopt_lock()?;
    }
    let store = workspace::open_store(here)?;
    let args = &with_environment(args);
    let ui = if args.quiet { &Ui::new(true) } else { ui };
    let Some((mut workspace, current)) = choose(&store, here, args, ui)? else {
        return Ok(error::OK);
    };
    let run = workspace.run().clone();
    let mut changed = false;
    if let Some(job) = &current {
        (workspace, changed) = adopt::adopt(workspace, job, &overrides(args), ui)?;
    }
    let state = workspace.state();
    if workspace.is_finished() {
        ui.message(&format!("the run `{run}` has ended: {}", human::counts(state)));
        let facts = RunFacts::default();
        ui.message(&Outlook::new(state, &facts, &status::naming(&store, &workspace)?).next());
        return Ok(ended_code(state));
    }
    if state.phase == RunPhase::Cancelled {
        bail!("the run `{run}` is cancelled; `git harness start --run NAME` makes a new one");
    }
    if args.paused {
        ui.status(&format!(
            "the run `{run}` is paused with {}; `git harness start` continues it",
            human::number(state.tasks.len(), "task")
        ));
        return Ok(error::OK);
    }
    let only = names::tasks_of(&workspace, here, &args.only)?;
    let force = args.force || changed;
    if state.halt == Some(Halt::Failures) && state.phase == RunPhase::Halted && !force {
        let facts = RunFacts::default();
        let naming = status::naming(&store, &workspace)?;
        ui.message(&format!("run {run}: {}", human::counts(state)));
        let why = state.reason.as_deref().unwrap_or("too many tasks failed");
        return Ok(
            RunConclusion { state, facts: &facts, naming: &naming }.report_needs_person(why, ui)
        );
    }
    for closed in accounts::closed_accounts(state, workspace.job()?) {
        ui.message(&closed.sentence());
    }
    if args.detach {
        return detach(&store, &run, args, force, ui);
    }
    let proof = workspace::hold(&store, &run)?;
    carry_out(workspace, proof, args, &only, ui)
}

/// Returns the options, with those that the environment sets.
fn with_environment(args: &StartArgs) -> StartArgs {
    StartArgs {
        scope_dir: job_plan::option_or(args.scope_dir.as_deref(), job_plan::SCOPE_DIR),
        scope_files: job_plan::option_or(args.scope_files.as_deref(), job_plan::SCOPE_FILES),
        ..args.clone()
    }
}

/// The run, and the current job file. The job file is `None` for a new run, or if there is no file.
type ChosenRun = (Workspace, Option<LoadedJob>);

/// Chooses the run to carry out: an existing run, or one made now. Returns none after a dry run.
fn choose(store: &Store, here: &Path, args: &StartArgs, ui: &Ui) -> Result<Option<ChosenRun>> {
    if let (Some(name), None) = (&args.run, &args.job) {
        let run = RunId::parse(name)?;
        if store.runs()?.contains(&run) {
            let job = store.repo().top().and_then(|top| {
                let exists = top.join(crate::job::FILE_NAME).is_file();
                exists.then(|| job_file::load(store.repo(), here, None))
            });
            return resume(Workspace::load_repaired(store, &run, ui)?, job.transpose()?, args, ui);
        }
    }
    // A bare repository has no job file in a worktree, but its run has pinned a job file.
    if args.job.is_none()
        && args.run.is_none()
        && store.repo().top().is_none()
        && let Ok(run) = names::find_run(store, None, RunUse::Change)
    {
        return resume(Workspace::load_repaired(store, &run, ui)?, None, args, ui);
    }
    let job = job_file::load(store.repo(), here, args.job.as_deref())?;
    let (run, existing) = match &args.run {
        Some(name) => {
            let run = RunId::parse(name)?;
            let exists = store.runs()?.contains(&run);
            let existing = exists.then(|| Workspace::load_repaired(store, &run, ui)).transpose()?;
            (run, existing)
        }
        None => match workspace::latest_run(store, &job.name)? {
            Some(run) => {
                let mut workspace = Workspace::load_repaired(store, &run, ui)?;
                workspace.set_job(&job.text, &job.job);
                if needs_new_run(&workspace, &job) {
                    (next_run(store, &job.name)?, None)
                } else {
                    (run, Some(workspace))
                }
            }
            None => (next_run(store, &job.name)?, None),
        },
    };
    match existing {
        Some(workspace) => resume(workspace, Some(job), args, ui),
        None => {
            let made = make(store, here, (&job, run), args, ui)?;
            Ok(made.map(|workspace| (workspace, None)))
        }
    }
}

/// Returns true if a changed job cannot continue its last run: the run is cancelled, or the run has
/// ended and the change invalidates its results.
fn needs_new_run(workspace: &Workspace, job: &LoadedJob) -> bool {
    let cancelled = workspace.state().phase == RunPhase::Cancelled;
    workspace.loaded.job_text != job.text
        && (cancelled || workspace.is_finished() && adopt::invalidates_results(workspace, &job.job))
}

/// Continues an existing run. In a dry run, shows the changes and returns none.
fn resume(
    mut workspace: Workspace,
    job: Option<LoadedJob>,
    args: &StartArgs,
    ui: &Ui,
) -> Result<Option<ChosenRun>> {
    if let Some(job) = &job {
        workspace.set_job(&job.text, &job.job);
    }
    if args.dry_run {
        let run = workspace.run();
        let counts = human::counts(workspace.state());
        ui.result(&format!("would continue the run `{run}`: {counts}\n"));
        if let Some(job) = &job
            && let Some(preview) = replan::preview(&workspace, job, &overrides(args))?
        {
            ui.result(&preview.listing(run));
        }
        return Ok(None);
    }
    let own = job.as_ref().filter(|job| job.name == workspace.loaded.manifest.job);
    if let Some(job) = own.filter(|_| needs_programs(&workspace, args)) {
        preflight::check_programs(&workspace.store, job, None)?;
    }
    Ok(Some((workspace, job)))
}

/// Returns true if a run that continues needs the programs of its job now.
fn needs_programs(workspace: &Workspace, args: &StartArgs) -> bool {
    let cancelled = workspace.state().phase == RunPhase::Cancelled;
    !(args.paused || cancelled || workspace.is_finished())
}

/// Returns the options that change the plan of an existing run.
fn overrides(args: &StartArgs) -> PlanOverrides {
    PlanOverrides {
        scope_dir: args.scope_dir.clone(),
        scope_files: args.scope_files.clone(),
        update: args.update,
    }
}

/// Creates a run. Returns none after a dry run.
fn make(
    store: &Store,
    here: &Path,
    (job, run): (&LoadedJob, RunId),
    args: &StartArgs,
    ui: &Ui,
) -> Result<Option<Workspace>> {
    let repo = store.repo();
    let base = repo.resolve_commit(&job.job.job.base)?;
    let scope = PlanScope {
        dir: args.scope_dir.as_deref(),
        files: args.scope_files.as_deref(),
        ..PlanScope::default()
    };
    let JobPlan { planned, printed } = job_plan::plan_job(repo, job, &base, scope)?;
    prompts::check(repo, job, &planned.plan.tasks)?;
    names::planned_tasks(store, here, &run, &planned.plan.tasks, &args.only)?;
    let target = workspace::target_ref(store, &job.job, &run)?;
    let tip = store.read(&target)?;
    if let Some(tip) = &tip
        && crate::repo::merge_bases(repo, tip, &base)?.is_empty()
    {
        bail!(
            "the target `{}` and the base {} have no common history",
            layout::short(&target),
            base.short()
        );
    }
    // A branch `harness/RUN` would be in the way of the run's branches below it.
    let below_branches = format!("{}x", layout::branches(&run));
    refuse_collisions(store, &[target.clone(), layout::run(&run), below_branches])?;
    let manifest = Manifest {
        v: wire::VERSION,
        run: run.to_string(),
        job: job.name.clone(),
        file: job.file.clone(),
        base: base.to_string(),
        target: target.clone(),
        plan: wire::plan::plan_id(&planned.plan)?.to_string(),
        target_created: tip.is_none(),
        scope_dir: args.scope_dir.clone(),
        scope_files: args.scope_files.clone(),
        unknown: std::collections::BTreeMap::new(),
    };
    let jobs = args.jobs.map_or(job.job.limits.jobs, |n| n as usize);
    let tasks = planned.plan.tasks.len();
    let headline = format!(
        "run {run}: {} from {}, {jobs} at a time, landing on {}",
        human::number(tasks, "task"),
        base.short(),
        layout::short(&target)
    );
    if args.dry_run {
        ui.result(&format!("would make the {headline}\n"));
        for task in &planned.plan.tasks {
            ui.result(&format!(
                "  {} ({}, {} lines)\n",
                task.label(),
                human::number(task.files.len(), "file"),
                task.lines
            ));
        }
        return Ok(None);
    }
    sandbox::ensure(store, &job.job)?;
    if !args.paused {
        preflight::check_programs(store, job, Some(&base))?;
        preflight::check_disk(store, &job.job)?;
    }
    let pinned = job_file::pinned_files(repo, job, &base)?;
    let proof = workspace::hold(store, &run)?;
    // A power cut may have interrupted the creation of a run of this name.
    engine::recover::repair_refs(store, &proof)?;
    let new = NewRun {
        manifest: &manifest,
        job_text: &job.text,
        plan: &planned.plan,
        pinned: &pinned,
        inputs: &printed,
        paused: args.paused,
    };
    store.create(&proof, &new)?;
    drop(proof);
    ui.status(&headline);
    for note in job_plan::notes(&planned) {
        ui.status(&note);
    }
    for path in repo.checked_out_at(&target)? {
        ui.status(&format!(
            "hint: the target `{}` is checked out in {}; each landing updates that worktree, and a landing that would overwrite \
             uncommitted changes there waits",
            layout::short(&target),
            path.display()
        ));
    }
    let mut workspace = Workspace::load_repaired(store, &run, ui)?;
    workspace.set_job(&job.text, &job.job);
    Ok(Some(workspace))
}

/// Carries out a run. Waits while the disk is full, and continues as after any other end of a
/// supervisor.
fn carry_out(
    mut workspace: Workspace,
    mut proof: RunProof,
    args: &StartArgs,
    only: &BTreeSet<TaskId>,
    ui: &Ui,
) -> Result<u8> {
    let (store, run) = (workspace.store.clone(), proof.run().clone());
    let job = workspace.job()?.clone();
    let worktrees = workspace::worktrees_root(store.repo(), &job).join(run.as_str());
    loop {
        let error = match drive(workspace, proof, args, only, ui) {
            Err(error) => error,
            code => return code,
        };
        let common_dir = store.repo().common_dir();
        let Some(fault) = StorageFault::of(&error, common_dir) else { return Err(error) };
        ui.message(&format!("note: {error:#}"));
        let mut tell = |text: &str| ui.message(&format!("note: {text}"));
        let folders = [common_dir, worktrees.as_path()];
        match fault.wait(folders, job.limits.min_free_mb, &mut tell)? {
            StorageWait::Over => {}
            StorageWait::Interrupted(signal) => return Ok(error::interrupted(signal)),
            StorageWait::InVain => {
                ui.message(&format!("stopped for a person: {error:#}"));
                return Ok(error::NEEDS_PERSON);
            }
        }
        workspace = Workspace::load_repaired(&store, &run, ui)?;
        proof = workspace::hold(&store, &run)?;
    }
}

/// Drives a run until it ends or stops.
fn drive(
    workspace: Workspace,
    proof: RunProof,
    args: &StartArgs,
    only: &BTreeSet<TaskId>,
    ui: &Ui,
) -> Result<u8> {
    let (store, run) = (workspace.store.clone(), proof.run().clone());
    workspace::forget_poll(&store, &run);
    let naming = status::naming(&store, &workspace)?;
    sandbox::announce(&store, &run, workspace.job()?, ui)?;
    let mut live = Ui::with_progress(args.quiet, workspace.state().tasks.len());
    let stopped = {
        let mut report = |report: engine::RunReport<'_>| live.report(&report);
        let only = only.clone();
        let (fresh, keep_going) = (args.fresh, args.keep_going);
        let options = RunOptions { wait: true, only, signals: true, fresh, keep_going };
        let mut engine = workspace.into_engine(proof, args.jobs, options, &mut report)?;
        engine.observe_and_settle(Observation::Requested(Request::Resume))?;
        let stopped = engine.run();
        stopped.map(|stopped| (stopped, engine.state().clone()))
    };
    live.finish();
    let (stopped, state) = stopped?;
    let facts = conclusion::facts(&store, &state, &naming, &stopped)?;
    let conclusion = RunConclusion { state: &state, facts: &facts, naming: &naming };
    Ok(conclusion.conclude(&stopped, only, ui))
}

/// Returns the exit code for a run in which every task has ended.
fn ended_code(state: &RunState) -> u8 {
    if state.count(&Phase::Failed) > 0 { error::INCOMPLETE } else { error::OK }
}

/// Starts a supervisor in the background and waits until it holds the run.
fn detach(store: &Store, run: &RunId, args: &StartArgs, force: bool, ui: &Ui) -> Result<u8> {
    if let Some(holder) = workspace::supervisor_of(store, run) {
        return Err(Advice::new(
            format!("the run `{run}` is held by another process ({holder}); nothing was changed"),
            "follow it with `git harness status --watch`",
        )
        .into());
    }
    let folder = store.local().run(run);
    let path = folder.join("detached.lock");
    let lock = process::Lock::try_take(&path, "")?
        .map_err(|holder| anyhow::anyhow!("the run is being started already: {holder}"))?;
    let mut argv: Vec<OsString> =
        vec!["-C".into(), store.repo().common_dir().as_os_str().to_owned()];
    argv.extend(["start", "--run", run.as_str(), "--quiet"].map(OsString::from));
    if let Some(jobs) = args.jobs {
        argv.extend(["--jobs".into(), jobs.to_string().into()]);
    }
    if force {
        argv.push("--force".into());
    }
    for (option, is_given) in [("--keep-going", args.keep_going), ("--fresh", args.fresh)] {
        if is_given {
            argv.push(option.into());
        }
    }
    for task in &args.only {
        argv.extend(["--only".into(), task.into()]);
    }
    argv.push("--in-background".into());
    let mut env = process::Environ::empty();
    for (name, value) in crate::ambient::environment() {
        env.set(name, value);
    }
    let log = folder.join("supervisor.log");
    let program = crate::ambient::program()?;
    let child = process::start_keeper(&program, &argv, &lock, &env, &log)?;
    drop(lock);
    loop {
        if workspace::supervisor_of(store, run).is_some() {
            break;
        }
        if child.has_ended()? {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let last = text.lines().next_back().unwrap_or("it printed nothing");
            bail!("the supervisor exited at once: {last}");
        }
        crate::ambient::pause(Duration::from_millis(20));
    }
    ui.message(&format!(
        "run {run} continues in the background; `git harness status {run} --watch` follows it; log: {}",
        log.display()
    ));
    Ok(error::OK)
}
