//! `start`: plan and carry out, or go on.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};

use super::plan::PlanScope;
use super::{adopt, job_file, plan, prompts, replan, workspace};
use crate::cli;
use crate::domain::event::Halt;
use crate::domain::id::{RunId, TaskId};
use crate::domain::machine::{Observation, Request, blocked, owed};
use crate::domain::state::{Phase, RunPhase, RunState};
use crate::engine::{self, RunExit, RunOptions};
use crate::error::{self, Advice};
use crate::process;
use crate::store::create::{NewRun, next_run, refuse_collisions};
use crate::store::load::LoadedRun;
use crate::store::{RunProof, Store, layout};
use crate::ui::{Ui, human};
use crate::wire;
use crate::wire::run::Manifest;

/// `git harness start`
pub(super) fn run(here: &Path, args: &cli::StartArgs, ui: &Ui) -> Result<u8> {
    if args.in_background {
        // Its standard input is a lock that says it was started; from here on it is nobody's child.
        process::adopt_lock()?;
    }
    let store = workspace::open_store(here)?;
    let ui = if args.quiet { &Ui::new(true) } else { ui };
    let Some(chosen) = choose(&store, here, args, ui)? else { return Ok(error::OK) };
    let run = chosen.run;
    let changed = match &chosen.changed {
        Some(found) => adopt::adopt(&store, &run, found, &overrides(args), ui)?,
        None => false,
    };
    let loaded = workspace::load_run(&store, &run)?;
    let state = &loaded.ledger.state;
    if over(&loaded) {
        ui.message(&format!("the run `{run}` has ended: {}", human::counts(state)));
        return Ok(ended_code(state));
    }
    if state.phase == RunPhase::Cancelled {
        bail!("the run `{run}` is cancelled; `git harness start --run NAME` makes a new one");
    }
    if args.paused {
        let tasks = state.tasks.len();
        ui.status(&format!(
            "the run `{run}` waits with {}; `git harness start` goes on with it",
            human::number(tasks, "task")
        ));
        return Ok(error::OK);
    }
    let only = only(&loaded, &args.only)?;
    let force = args.force || changed;
    if state.halt == Some(Halt::Failures) && state.phase == RunPhase::Halted && !force {
        return Ok(still_halted(&run, state, ui));
    }
    if args.detach {
        return detach(&store, &run, args, force, ui);
    }
    let proof = workspace::hold(&store, &run)?;
    carry_out(&store, proof, args, only, ui)
}

/// A run to carry out.
struct Chosen {
    run: RunId,
    /// The job file as it is now, if the run is one that goes on.
    changed: Option<job_file::LoadedJob>,
}

/// The run to carry out: an existing one, or one made now. `None`: a dry run, which ends here.
fn choose(store: &Store, here: &Path, args: &cli::StartArgs, ui: &Ui) -> Result<Option<Chosen>> {
    if let (Some(name), None) = (&args.run, &args.job) {
        let run = RunId::parse(name)?;
        if store.runs()?.contains(&run) {
            let found = store.repo().top().and_then(|top| {
                let there = top.join(crate::job::FILE_NAME).is_file();
                there.then(|| job_file::load(store.repo(), here, None))
            });
            return going_on(store, run, found.transpose()?, args, ui);
        }
    }
    // A bare copy has no job file in a work tree; the run that it carries has the job pinned.
    if args.job.is_none()
        && args.run.is_none()
        && store.repo().top().is_none()
        && let Ok(run) = workspace::find_run(store, None)
    {
        return going_on(store, run, None, args, ui);
    }
    let found = job_file::load(store.repo(), here, args.job.as_deref())?;
    let (run, exists) = match &args.run {
        Some(name) => {
            let run = RunId::parse(name)?;
            let exists = store.runs()?.contains(&run);
            (run, exists)
        }
        None => match workspace::latest_run(store, &found.name)? {
            Some(run) => {
                let loaded = workspace::load_run(store, &run)?;
                let given_up = loaded.ledger.state.phase == RunPhase::Cancelled;
                let other = loaded.job_text != found.text;
                if other && (given_up || over(&loaded) && adopt::is_other_work(&loaded, &found)) {
                    (next_run(store, &found.name)?, false)
                } else {
                    (run, true)
                }
            }
            None => (next_run(store, &found.name)?, false),
        },
    };
    if exists {
        return going_on(store, run, Some(found), args, ui);
    }
    let made = make(store, &found, run, args, ui)?;
    Ok(made.map(|run| Chosen { run, changed: None }))
}

fn going_on(
    store: &Store,
    run: RunId,
    changed: Option<job_file::LoadedJob>,
    args: &cli::StartArgs,
    ui: &Ui,
) -> Result<Option<Chosen>> {
    if args.dry_run {
        let loaded = workspace::load_run(store, &run)?;
        ui.result(&format!(
            "would go on with the run `{run}`: {}\n",
            human::counts(&loaded.ledger.state)
        ));
        if let Some(found) = &changed
            && let Some(preview) = replan::preview(store, &loaded, found, &overrides(args))?
        {
            ui.result(&preview.listing(&run));
        }
        return Ok(None);
    }
    Ok(Some(Chosen { run, changed }))
}

/// What the command line says of the plan of a run that there is.
fn overrides(args: &cli::StartArgs) -> replan::PlanOverrides {
    replan::PlanOverrides {
        scope_dir: args.scope_dir.clone(),
        scope_files: args.scope_files.clone(),
        update: args.update,
    }
}

/// Whether nothing is left to do in a run: every task has ended, and none that failed is owed another try.
pub(super) fn over(loaded: &LoadedRun) -> bool {
    let state = &loaded.ledger.state;
    let policy = crate::job::parse(&loaded.job_text, &loaded.manifest.file).ok().and_then(|job| {
        let preset = crate::agent::preset::resolve(&job).ok()?;
        Some(engine::policy(&job, &preset, job.limits.jobs))
    });
    state.ended()
        && policy.is_none_or(|policy| owed(state, crate::ambient::now(), &policy).is_empty())
}

/// A run that halted because of a pattern goes on when a person has done something about it.
fn still_halted(run: &RunId, state: &RunState, ui: &Ui) -> u8 {
    ui.message(&format!("run {run}: {}", human::counts(state)));
    ui.message(&format!("halted: {}", state.reason.as_deref().unwrap_or("too many tasks failed")));
    for line in human::failures(state) {
        ui.message(&line);
    }
    ui.message(
        "change the job and `git harness start`, or `git harness start --force`: one task then goes first",
    );
    error::PERSON
}

fn make(
    store: &Store,
    found: &job_file::LoadedJob,
    run: RunId,
    args: &cli::StartArgs,
    ui: &Ui,
) -> Result<Option<RunId>> {
    let repo = store.repo();
    let base = repo.resolve_commit(&found.job.job.base)?;
    let scope = PlanScope {
        dir: args.scope_dir.as_deref(),
        files: args.scope_files.as_deref(),
        ..PlanScope::default()
    };
    let plan::JobPlan { planned, printed } = plan::plan_job(repo, found, &base, scope)?;
    prompts::check(repo, found, &planned.plan.tasks)?;
    let target = workspace::target_ref(&found.job, &run);
    let exists = store.read(&target)?;
    if let Some(tip) = &exists
        && repo_unrelated(store, tip, &base)?
    {
        bail!(
            "the target `{}` and the base {} have no common history",
            layout::short(&target),
            base.short()
        );
    }
    let probe = format!("{}x", layout::branches(&run));
    refuse_collisions(store, &[target.clone(), layout::run(&run), probe])?;
    let manifest = Manifest {
        v: wire::VERSION,
        run: run.to_string(),
        job: found.name.clone(),
        file: found.file.clone(),
        base: base.to_string(),
        target: target.clone(),
        plan: wire::plan::plan_id(&planned.plan)?.to_string(),
        target_created: exists.is_none(),
        scope_dir: args.scope_dir.clone(),
        scope_files: args.scope_files.clone(),
        unknown: std::collections::BTreeMap::new(),
    };
    let jobs = args.jobs.map_or(found.job.limits.jobs, |n| n as usize);
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
                task.id,
                human::number(task.files.len(), "file"),
                task.lines
            ));
        }
        return Ok(None);
    }
    let pinned = job_file::pinned_files(repo, found, &base)?;
    let proof = workspace::hold(store, &run)?;
    // A run of this name may have been half-made before a power cut.
    engine::recover::mend(store, &proof)?;
    let new = NewRun {
        manifest: &manifest,
        job_text: &found.text,
        plan: &planned.plan,
        pinned: &pinned,
        inputs: &printed,
        paused: args.paused,
    };
    store.create(&proof, &new)?;
    drop(proof);
    ui.status(&headline);
    for note in plan::notes(&planned) {
        ui.status(&note);
    }
    for path in repo.checked_out_at(&target)? {
        ui.status(&format!(
            "hint: the target `{}` is checked out in {}: that work tree will follow; what is not committed there is not touched, \
             and holds up whatever would",
            layout::short(&target),
            path.display()
        ));
    }
    Ok(Some(run))
}

fn repo_unrelated(
    store: &Store,
    tip: &crate::domain::id::Oid,
    base: &crate::domain::id::Oid,
) -> Result<bool> {
    Ok(crate::repo::merge_base(store.repo(), tip, base)?.is_none())
}

fn only(loaded: &LoadedRun, names: &[String]) -> Result<BTreeSet<TaskId>> {
    let mut only = BTreeSet::new();
    for name in names {
        let name = name.rsplit_once('/').map_or(name.as_str(), |(_, task)| task);
        let task = TaskId::parse(name)?;
        workspace::find_task(loaded, &task)?;
        only.insert(task);
    }
    Ok(only)
}

fn carry_out(
    store: &Store,
    proof: RunProof,
    args: &cli::StartArgs,
    only: BTreeSet<TaskId>,
    ui: &Ui,
) -> Result<u8> {
    let run = proof.run().clone();
    let total = workspace::load_run(store, &run)?.ledger.state.tasks.len();
    let mut live = Ui::with_progress(args.quiet, total);
    let stopped = {
        let mut report = |report: engine::RunReport<'_>| live.report(&report);
        let options = RunOptions { wait: true, only, signals: true, keep_going: args.keep_going };
        let mut engine = workspace::open_engine(store, proof, args.jobs, options, &mut report)?;
        engine.ask(Observation::Requested(Request::Resume))?;
        let stopped = engine.run();
        stopped.map(|stopped| (stopped, engine.state().clone()))
    };
    live.finish();
    let (stopped, state) = stopped?;
    Ok(conclude(&run, &stopped, &state, ui))
}

/// The last words, and the exit code.
fn conclude(run: &RunId, stopped: &RunExit, state: &RunState, ui: &Ui) -> u8 {
    ui.message(&format!("run {run}: {}", human::counts(state)));
    match stopped {
        RunExit::Ended => {
            let failed = state.tasks.iter().filter(|(_, t)| t.phase == Phase::Failed);
            for (task, s) in failed.take(10) {
                let reason = s.reason.as_deref().unwrap_or("");
                ui.message(&format!("failed: {task}: {reason}"));
            }
            if state.count(&Phase::Failed) > 0 {
                ui.message(&format!(
                    "hint: `git harness show {run}/TASK` tells what happened, `git harness retry --failed --run {run}` \
                     tries again"
                ));
            }
            if state.ended() { ended_code(state) } else { error::OK }
        }
        RunExit::Blocked => {
            for line in human::blocked(state) {
                ui.message(&line);
            }
            let left = blocked(state);
            if left.is_empty() {
                ui.message("what is left waits for tasks that `--only` does not name");
            } else {
                ui.message(&format!(
                    "hint: `git harness retry --failed --run {run}`, or `git harness start --keep-going` tries them \
                     all the same"
                ));
            }
            error::INCOMPLETE
        }
        RunExit::Person(why) => {
            ui.message(&format!("stopped for a person: {why}"));
            if state.halt == Some(Halt::Failures) {
                for line in human::failures(state) {
                    ui.message(&line);
                }
                ui.message(
                    "hint: `git harness show TASK` tells what happened; change the job and `git harness start`, or \
                     `git harness start --force`: one task then goes first",
                );
            }
            error::PERSON
        }
        RunExit::Later => error::PERSON,
        RunExit::Interrupted(signal) => {
            ui.message("interrupted; `git harness start` goes on where it stopped");
            error::SIGNAL.saturating_add(u8::try_from(*signal).unwrap_or(0))
        }
    }
}

/// What `start` returns for a run in which every task has ended.
fn ended_code(state: &RunState) -> u8 {
    if state.count(&Phase::Failed) > 0 { error::INCOMPLETE } else { error::OK }
}

/// Starts a supervisor that outlives this command, and waits until it holds the run.
fn detach(store: &Store, run: &RunId, args: &cli::StartArgs, force: bool, ui: &Ui) -> Result<u8> {
    if let Some(holder) = workspace::driver(store, run) {
        return Err(Advice::new(
            format!("the run `{run}` is held by another process ({holder}); nothing was changed"),
            "`git harness status --watch` shows what it does",
        )
        .into());
    }
    let folder = store.local().run(run);
    let path = folder.join("detached.lock");
    let lock = process::Lock::try_take(&path, "")?
        .map_err(|holder| anyhow::anyhow!("the run is being started already: {holder}"))?;
    let mut words: Vec<std::ffi::OsString> =
        vec!["start".into(), "--run".into(), run.as_str().into(), "--quiet".into()];
    if let Some(jobs) = args.jobs {
        words.extend(["--jobs".into(), jobs.to_string().into()]);
    }
    if force {
        words.push("--force".into());
    }
    if args.keep_going {
        words.push("--keep-going".into());
    }
    for task in &args.only {
        words.extend(["--only".into(), task.into()]);
    }
    let mut line: Vec<std::ffi::OsString> =
        vec!["-C".into(), store.repo().common_dir().as_os_str().to_owned()];
    line.extend(words);
    line.push("--in-background".into());
    let mut env = process::Environ::empty();
    for (name, value) in crate::ambient::environment() {
        env.set(name, value);
    }
    let log = folder.join("supervisor.log");
    let program = crate::ambient::program()?;
    let child = process::start_keeper(&program, &line, &lock, &env, &log)?;
    drop(lock);
    loop {
        if workspace::driver(store, run).is_some() {
            break;
        }
        if child.has_ended()? {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            bail!(
                "the supervisor ended at once: {}",
                said.lines().next_back().unwrap_or("it left no word")
            );
        }
        crate::ambient::pause(std::time::Duration::from_millis(20));
    }
    ui.message(&format!(
        "run {run} goes on in the background; `git harness status {run} --watch` shows it, {} has its words",
        log.display()
    ));
    Ok(error::OK)
}
