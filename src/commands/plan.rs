//! `plan`: show the tasks that a job would have.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::job_file::{self, LoadedJob};
use super::job_plan::{self, PlanScope};
use super::names::{self, RunUse};
use super::open::open_repo;
use super::prompts::PromptSet;
use super::replan::{self, PlanOverrides};
use super::workspace::{self, Workspace};
use super::{estimate, plan_inputs};
use crate::agent::preset::COMMAND;
use crate::cli;
use crate::domain::id::{Oid, TaskId};
use crate::domain::plan::Task;
use crate::error::{self, Advice};
use crate::planning::{self, PlanStats, PlanningResult};
use crate::ui::{Ui, human, table};
use crate::wire;

/// `git harness plan`
pub(super) fn run(here: &Path, args: &cli::PlanArgs, ui: &Ui) -> Result<u8> {
    let repo = open_repo(here)?;
    let job = job_file::load(&repo, here, args.job.as_deref())?;
    let base = repo.resolve_commit(&job.job.job.base)?;
    let scope_dir = job_plan::option_or(args.scope_dir.as_deref(), job_plan::SCOPE_DIR);
    let scope_files = job_plan::option_or(args.scope_files.as_deref(), job_plan::SCOPE_FILES);
    let scope = PlanScope {
        dir: scope_dir.as_deref(),
        files: scope_files.as_deref(),
        ..PlanScope::default()
    };
    if args.diff {
        return diff(here, &job, args, ui);
    }
    if args.edges {
        let inputs = plan_inputs::collect(&repo, &job, &base)?;
        let (edges, warnings) =
            job_plan::with_spec(&repo, &job.job, &inputs, scope, |spec, cache| {
                planning::import_edges(&repo.local(), job_plan::object_id(&base)?, spec, cache)
            })?;
        ui.result(&format!("{}\n", serde_json::to_string_pretty(&edges)?));
        for warning in warnings {
            ui.status(&format!("warning: {warning}"));
        }
        return Ok(error::OK);
    }
    let planned = job_plan::plan_job(&repo, &job, &base, scope)?.planned;
    if args.json {
        ui.result(&wire::plan::to_json(&planned.plan)?);
        job_plan::notes(&planned).iter().for_each(|note| ui.status(note));
        return Ok(error::OK);
    }
    if let Some(folder) = &args.prompts {
        let prompts = PromptSet::open(&repo, &job)?;
        let tasks = &planned.plan.tasks;
        let hints = prompts.check(tasks)?;
        prompts.write(tasks, &here.join(folder))?;
        ui.result(&format!(
            "wrote {} into {}\n",
            human::number(tasks.len(), "prompt"),
            folder.display()
        ));
        for hint in hints {
            ui.status(&format!("hint: {hint}"));
        }
        return Ok(error::OK);
    }
    if args.dot {
        ui.result(&planning::dot(&planned.plan));
    } else {
        ui.result(&describe(&planned, &base)?);
        // The cost of an arbitrary command is unknown.
        if job.preset.name != COMMAND {
            let prompt = PromptSet::open(&repo, &job)?.example_tokens()?;
            ui.result(&format!("{}\n", estimate::text(&job, &planned.plan, prompt)));
        }
    }
    for note in job_plan::notes(&planned) {
        ui.status(&note);
    }
    Ok(error::OK)
}

/// Shows the changes that `start` would make to the plan of the job's run.
fn diff(here: &Path, job: &LoadedJob, args: &cli::PlanArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = match &args.run {
        Some(name) => names::find_run(&store, Some(name), RunUse::Read)?,
        None => workspace::latest_run(&store, &job.name)?.ok_or_else(|| {
            let hint = "`git harness plan` shows the plan of a new run";
            Advice::new(format!("the job `{}` has no run yet", job.name), hint)
        })?,
    };
    let mut workspace = Workspace::load(&store, &run)?;
    workspace.set_job(&job.text, &job.job);
    let overrides = PlanOverrides {
        scope_dir: job_plan::option_or(args.scope_dir.as_deref(), job_plan::SCOPE_DIR),
        scope_files: job_plan::option_or(args.scope_files.as_deref(), job_plan::SCOPE_FILES),
        update: args.update,
    };
    match replan::preview(&workspace, job, &overrides)? {
        None => ui.result(&format!("the plan of the run `{run}` stays as it is\n")),
        Some(preview) => {
            if args.json {
                ui.json(&preview.wire(&run))?;
            } else {
                ui.result(&preview.listing(&run));
            }
            preview.notes.iter().for_each(|note| ui.status(note));
        }
    }
    Ok(error::OK)
}

fn describe(planned: &PlanningResult, base: &Oid) -> Result<String> {
    let tasks = &planned.plan.tasks;
    let labels = Labels(tasks.iter().map(|task| (&task.id, task.label())).collect());
    let ordered = tasks.iter().any(|t| t.level > 0);
    let mut heading = vec!["TASK", "FILES", "LINES", "TOKENS"];
    if ordered {
        heading.extend(["LEVEL", "AFTER"]);
    }
    let mut rows = vec![heading.into_iter().map(String::from).collect::<Vec<_>>()];
    for t in tasks {
        let numbers = [t.files.len().to_string(), t.lines.to_string(), t.tokens.to_string()];
        let mut row = [vec![t.label()], numbers.to_vec()].concat();
        if ordered {
            row.extend([t.level.to_string(), waits_for(t, &labels)]);
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
        if ordered { levels(&PlanStats::of(&planned.plan), &labels) } else { String::new() },
        human::number(tasks.len(), "task"),
        human::number(files, "file"),
        id.short(),
        base.short()
    ))
}

/// The names of a plan's tasks for people.
struct Labels<'a>(BTreeMap<&'a TaskId, String>);

impl<'a> Labels<'a> {
    fn of(&'a self, task: &'a TaskId) -> &'a str {
        self.0.get(task).map_or(task.as_str(), String::as_str)
    }
}

/// Names the first task that a task waits for, and counts the others.
fn waits_for(task: &Task, labels: &Labels<'_>) -> String {
    match task.after.as_slice() {
        [] => "-".to_owned(),
        [one] => labels.of(one).to_owned(),
        [one, more @ ..] => format!("{} and {} more", labels.of(one), more.len()),
    }
}

/// Describes the levels of the plan and its critical path.
fn levels(stats: &PlanStats, labels: &Labels<'_>) -> String {
    const SHOWN: usize = 8;
    let (level, width) = stats.widest().unwrap_or_default();
    let ids: Vec<_> = stats.critical_path.iter().map(|task| labels.of(task)).collect();
    let path = match ids.as_slice() {
        few if few.len() <= SHOWN => few.join(" → "),
        many => {
            let (first, last) = (&many[..SHOWN / 2], &many[many.len() - SHOWN / 2..]);
            format!("{} → … → {}", first.join(" → "), last.join(" → "))
        }
    };
    format!(
        "{}, the widest is level {level} with {}; critical path: {}, about {} tokens of source:\n  {path}\n",
        human::number(stats.levels.len(), "level"),
        human::number(width, "task"),
        human::number(ids.len(), "task"),
        stats.critical_tokens,
    )
}
