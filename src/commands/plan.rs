//! `plan`: what a job would be.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::{estimate, job_file, plan_inputs, prompts, replan, workspace};
use crate::agent::preset::COMMAND;
use crate::cli;
use crate::domain::id::{Oid, TaskId};
use crate::domain::plan::Task;
use crate::error::{self, Advice};
use crate::job::{Job, PathGlobs, TaskSource};
use crate::planning::{self, PlanCache, PlanStats, PlanningResult, TokenLimit};
use crate::process::write_atomic;
use crate::repo::{self, Repo};
use crate::store::layout::Local;
use crate::ui::{Ui, human, table};
use crate::wire;

/// A job's scope, as narrowed on the command line and by what is done already.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PlanScope<'a> {
    /// `--scope-dir`
    pub dir: Option<&'a str>,
    /// `--scope-files`
    pub files: Option<&'a str>,
    /// Files that need no task any more.
    pub settled: Option<&'a BTreeSet<&'a str>>,
    /// How many tokens a task may have.
    pub budget: Option<TokenLimit>,
}

/// A plan, and what other programs said of it.
#[derive(Debug)]
pub(super) struct JobPlan {
    /// The plan.
    pub planned: PlanningResult,
    /// Their words, by a name.
    pub printed: Vec<(String, Vec<u8>)>,
}

/// Does something with what a job says of its plan, and keeps what was learnt of the base's blobs.
fn with_spec<T>(
    repo: &Repo,
    job: &Job,
    inputs: &plan_inputs::PlanInputs,
    scope: PlanScope,
    what: impl FnOnce(&planning::PlanSpec<'_>, &mut PlanCache) -> Result<T>,
) -> Result<T> {
    let dir = scope.dir.unwrap_or(&job.plan.scope_dir);
    let files = scope.files.unwrap_or(&job.plan.scope_files);
    let files = if files.is_empty() { None } else { Some(PathGlobs::new(&[files])?) };
    let spec = planning::PlanSpec {
        include: &|path| job.plan.include.matches(path) && !job.plan.exclude.matches(path),
        group: match job.plan.group {
            // Of tasks that are handed in, nothing is grouped.
            TaskSource::File | TaskSource::Command | TaskSource::List => planning::Grouping::File,
            TaskSource::Directory => planning::Grouping::Directory,
            TaskSource::Dependency => planning::Grouping::Dependency,
        },
        order: job.plan.order,
        max_files: job.plan.max_files,
        max_lines: job.plan.max_lines,
        token_limit: scope.budget,
        scope_dir: dir,
        scope_files: &|path| files.as_ref().is_none_or(|g| g.matches(path)),
        edges: inputs.edges.as_ref(),
        listed: inputs.listed.as_deref(),
        is_done: &|path| scope.settled.is_some_and(|settled| settled.contains(path)),
    };
    let cached = Local::new(repo.common_dir()).plan_cache();
    let mut cache =
        std::fs::read(&cached).map_or_else(|_| PlanCache::default(), |b| PlanCache::from_bytes(&b));
    let made = what(&spec, &mut cache)?;
    if let (Some(bytes), Some(folder)) = (cache.to_bytes(), cached.parent()) {
        // Without it the next plan takes longer, and nothing else: a repository may be one that we only read.
        std::fs::create_dir_all(folder).and_then(|()| write_atomic(&cached, &bytes)).ok();
    }
    Ok(made)
}

fn object_id(base: &Oid) -> Result<gix::ObjectId> {
    Ok(gix::ObjectId::from_hex(base.as_str().as_bytes())?)
}

/// Plans a job at a commit, be it without a task.
pub(super) fn planned(
    repo: &Repo,
    found: &job_file::LoadedJob,
    base: &Oid,
    scope: PlanScope,
    inputs: &plan_inputs::PlanInputs,
) -> Result<PlanningResult> {
    repo::refuse_submodules(repo, &repo.tree_of(base)?)?;
    let id = object_id(base)?;
    let scope = PlanScope { budget: budget(repo, found)?, ..scope };
    with_spec(repo, &found.job, inputs, scope, |spec, cache| {
        planning::plan(&repo.local(), id, spec, cache)
    })
}

/// Plans a job at a commit.
pub(super) fn plan_job(
    repo: &Repo,
    found: &job_file::LoadedJob,
    base: &Oid,
    scope: PlanScope,
) -> Result<JobPlan> {
    let inputs = plan_inputs::collect(repo, found, base)?;
    let planned = planned(repo, found, base, scope, &inputs)?;
    let job = &found.job;
    if planned.plan.tasks.is_empty() && inputs.listed.is_some() {
        let hint = "what is listed counts as far as `include`, `exclude` and the scope leave it in the plan";
        return Err(Advice::new("the plan has no tasks: none is listed", hint).into());
    }
    if planned.plan.tasks.is_empty() {
        let include = job.plan.include.patterns().join(", ");
        return Err(Advice::new(
            format!("the plan has no tasks: no file of {} matches", base.short()),
            format!("`[plan] include` is: {include}; files count when they are committed"),
        )
        .into());
    }
    Ok(JobPlan { planned, printed: inputs.printed })
}

/// The tokens that the sources of a task may have, beside the prompt that this job gives.
fn budget(repo: &Repo, found: &job_file::LoadedJob) -> Result<Option<TokenLimit>> {
    let Some(budget) = found.job.plan.budget else { return Ok(None) };
    let prompt = prompts::PromptSet::open(repo, found)?.example_tokens()?;
    let plain = TokenLimit { max_tokens: 0, factor: budget.factor };
    let prompt = plain.model_tokens(prompt);
    let max_tokens = budget.sources(prompt);
    if max_tokens == 0 {
        let said = format!(
            "the prompt alone has about {prompt} tokens, too many for [plan] `context-window`"
        );
        let hint = "make the prompt shorter, or name the window that the model has";
        return Err(Advice::new(said, hint).into());
    }
    Ok(Some(TokenLimit { max_tokens, ..plain }))
}

/// `git harness plan`
pub(super) fn run(here: &Path, args: &cli::PlanArgs, ui: &Ui) -> Result<u8> {
    let repo = Repo::discover(here)?;
    let found = job_file::load(&repo, here, args.job.as_deref())?;
    let base = repo.resolve_commit(&found.job.job.base)?;
    let scope = PlanScope {
        dir: args.scope_dir.as_deref(),
        files: args.scope_files.as_deref(),
        ..PlanScope::default()
    };
    if args.diff {
        return diff(here, &found, args, ui);
    }
    if args.edges {
        let inputs = plan_inputs::collect(&repo, &found, &base)?;
        let (edges, warnings) = with_spec(&repo, &found.job, &inputs, scope, |spec, cache| {
            planning::import_edges(&repo.local(), object_id(&base)?, spec, cache)
        })?;
        ui.result(&format!("{}\n", serde_json::to_string_pretty(&edges)?));
        for warning in warnings {
            ui.status(&format!("warning: {warning}"));
        }
        return Ok(error::OK);
    }
    let planned = plan_job(&repo, &found, &base, scope)?.planned;
    if args.json {
        ui.result(&wire::plan::to_json(&planned.plan)?);
        notes(&planned).iter().for_each(|note| ui.status(note));
        return Ok(error::OK);
    }
    if let Some(folder) = &args.prompts {
        let prompts = prompts::PromptSet::open(&repo, &found)?;
        let tasks = &planned.plan.tasks;
        let said = prompts.check(tasks)?;
        prompts.write(tasks, &here.join(folder))?;
        ui.result(&format!(
            "wrote {} into {}\n",
            human::number(tasks.len(), "prompt"),
            folder.display()
        ));
        for hint in said {
            ui.status(&format!("hint: {hint}"));
        }
        return Ok(error::OK);
    }
    if args.dot {
        ui.result(&planning::dot(&planned.plan));
    } else {
        ui.result(&describe(&planned, &base)?);
        // Of any program one cannot know what it costs.
        if found.preset.name != COMMAND {
            let prompt = prompts::PromptSet::open(&repo, &found)?.example_tokens()?;
            ui.result(&format!("{}\n", estimate::words(&found, &planned.plan, prompt)));
        }
    }
    for note in notes(&planned) {
        ui.status(&note);
    }
    Ok(error::OK)
}

/// What `start` would make of the job's run.
fn diff(here: &Path, found: &job_file::LoadedJob, args: &cli::PlanArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = match &args.run {
        Some(name) => workspace::find_run(&store, Some(name))?,
        None => workspace::latest_run(&store, &found.name)?.ok_or_else(|| {
            let hint = "`git harness plan` shows the plan of a new one";
            Advice::new(format!("the job `{}` has no run yet", found.name), hint)
        })?,
    };
    let loaded = workspace::load_run(&store, &run)?;
    let overrides = replan::PlanOverrides {
        scope_dir: args.scope_dir.clone(),
        scope_files: args.scope_files.clone(),
        update: args.update,
    };
    let preview = replan::preview(&store, &loaded, found, &overrides)?;
    let text = match &preview {
        None => format!("the plan of the run `{run}` stays as it is\n"),
        Some(preview) if args.json => format!("{}\n", preview.json(&run)),
        Some(preview) => preview.listing(&run),
    };
    ui.result(&text);
    for note in preview.iter().flat_map(|preview| &preview.notes) {
        ui.status(note);
    }
    Ok(error::OK)
}

fn describe(planned: &PlanningResult, base: &Oid) -> Result<String> {
    let tasks = &planned.plan.tasks;
    let ordered = tasks.iter().any(|t| t.level > 0);
    let mut heading = vec!["TASK", "FILES", "LINES", "TOKENS"];
    if ordered {
        heading.extend(["LEVEL", "AFTER"]);
    }
    let mut rows = vec![heading.into_iter().map(String::from).collect::<Vec<_>>()];
    for t in tasks {
        let numbers = [t.files.len().to_string(), t.lines.to_string(), t.tokens.to_string()];
        let mut row = [vec![t.id.to_string()], numbers.to_vec()].concat();
        if ordered {
            row.extend([t.level.to_string(), waits_for(t)]);
        }
        rows.push(row);
    }
    let files: usize = tasks.iter().map(|t| t.files.len()).sum();
    let lines: u64 = tasks.iter().map(|t| t.lines).sum();
    let tokens: u64 = tasks.iter().map(|t| t.tokens).sum();
    let id = wire::plan::plan_id(&planned.plan)?;
    Ok(format!(
        "{}\n{}{}, {}, {lines} lines, about {tokens} tokens of source; plan {} of commit {}\n",
        table::columns(&rows),
        if ordered { levels(&PlanStats::of(&planned.plan)) } else { String::new() },
        human::number(tasks.len(), "task"),
        human::number(files, "file"),
        id.short(),
        base.short()
    ))
}

/// What a task waits for, in a few words.
fn waits_for(task: &Task) -> String {
    match task.after.as_slice() {
        [] => "-".to_owned(),
        [one] => one.to_string(),
        [one, more @ ..] => format!("{one} and {} more", more.len()),
    }
}

/// How deep the plan is, and what that costs.
fn levels(shape: &PlanStats) -> String {
    const SHOWN: usize = 8;
    let (level, width) = shape.widest().unwrap_or_default();
    let ids: Vec<_> = shape.critical_path.iter().map(TaskId::as_str).collect();
    let way = match ids.as_slice() {
        few if few.len() <= SHOWN => few.join(" → "),
        many => {
            let (first, last) = (&many[..SHOWN / 2], &many[many.len() - SHOWN / 2..]);
            format!("{} → … → {}", first.join(" → "), last.join(" → "))
        }
    };
    format!(
        "{}, the widest is level {level} with {}; critical path: {}, about {} tokens of source:\n  {way}\n",
        human::number(shape.levels.len(), "level"),
        human::number(width, "task"),
        human::number(ids.len(), "task"),
        shape.critical_tokens,
    )
}

/// What a person may miss in the plan, and what is not as one would overrides.
pub(super) fn notes(planned: &PlanningResult) -> Vec<String> {
    let out = &planned.unplanned;
    let mut notes: Vec<_> = planned.warnings.iter().map(|w| format!("warning: {w}")).collect();
    let mut list = |what: &str, paths: &[String]| {
        if let Some(first) = paths.first() {
            let more = if paths.len() > 1 {
                format!(" and {} more", paths.len() - 1)
            } else {
                String::new()
            };
            notes.push(format!("note: left out, {what}: {first}{more}"));
        }
    };
    list("binary", &out.binary);
    list("symbolic link", &out.links);
    list("path is not UTF-8", &out.not_utf8);
    notes
}
