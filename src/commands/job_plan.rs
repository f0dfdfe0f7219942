//! Planning a job, from the tree of a commit, the output of the job's own planning programs, and
//! the options of the command line.

use std::collections::BTreeSet;

use anyhow::Result;

use super::job_file::LoadedJob;
use super::plan_inputs;
use super::prompts::PromptSet;
use crate::ambient;
use crate::domain::id::Oid;
use crate::error::Advice;
use crate::job::{Job, PathGlobs, TaskSource};
use crate::planning::{self, PlanCache, PlanningResult, TokenLimit};
use crate::process::write_atomic;
use crate::repo::{self, AttributeFiles, Repo};
use crate::store::layout::Local;

/// The limits of a plan: the files that may be planned, and the size of a task.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PlanScope<'a> {
    /// `--scope-dir`
    pub dir: Option<&'a str>,
    /// `--scope-files`
    pub files: Option<&'a str>,
    /// Files of done tasks: they need no task any more.
    pub settled: Option<&'a BTreeSet<&'a str>>,
    /// The limit on the tokens of a task.
    pub token_limit: Option<TokenLimit>,
}

/// The variable that sets `--scope-dir`.
pub(super) const SCOPE_DIR: &str = "HARNESS_SCOPE_DIR";
/// The variable that sets `--scope-files`.
pub(super) const SCOPE_FILES: &str = "HARNESS_SCOPE_FILES";

/// Returns the value of an option, else that of an environment variable. An empty variable counts
/// as unset.
pub(super) fn option_or(option: Option<&str>, variable: &str) -> Option<String> {
    option
        .map(str::to_owned)
        .or_else(|| ambient::variable(variable).filter(|value| !value.is_empty()))
}

/// A plan, and the output of the job's planning programs.
#[derive(Debug)]
pub(super) struct JobPlan {
    /// The plan.
    pub planned: PlanningResult,
    /// The outputs by name, to be pinned with the run.
    pub printed: Vec<(String, Vec<u8>)>,
}

/// Calls `planner` with the job's settings and the plan cache, and then saves the cache.
pub(super) fn with_spec<T>(
    repo: &Repo,
    job: &Job,
    inputs: &plan_inputs::PlanInputs,
    scope: PlanScope,
    planner: impl FnOnce(&planning::PlanSpec<'_>, &mut PlanCache) -> Result<T>,
) -> Result<T> {
    let dir = scope.dir.unwrap_or(&job.plan.scope_dir);
    let files = scope.files.unwrap_or(&job.plan.scope_files);
    let files = if files.is_empty() { None } else { Some(PathGlobs::new(&[files])?) };
    let spec = planning::PlanSpec {
        include: &|path| job.plan.include.matches(path) && !job.plan.exclude.matches(path),
        group: match job.plan.group {
            // Listed tasks are not grouped.
            TaskSource::File | TaskSource::Command | TaskSource::List => planning::Grouping::File,
            TaskSource::Directory => planning::Grouping::Directory,
            TaskSource::Dependency => planning::Grouping::Dependency,
        },
        order: job.plan.order,
        max_files: job.plan.max_files,
        max_lines: job.plan.max_lines,
        token_limit: scope.token_limit,
        scope_dir: dir,
        scope_files: &|path| files.as_ref().is_none_or(|g| g.matches(path)),
        edges: inputs.edges.as_ref(),
        listed: inputs.listed.as_deref(),
        is_done: &|path| scope.settled.is_some_and(|settled| settled.contains(path)),
    };
    let cache_file = Local::new(repo.common_dir()).plan_cache();
    let mut cache = std::fs::read(&cache_file)
        .map_or_else(|_| PlanCache::default(), |b| PlanCache::from_bytes(&b));
    let result = planner(&spec, &mut cache)?;
    if let (Some(bytes), Some(folder)) = (cache.to_bytes(), cache_file.parent()) {
        // The repository may be read-only. Without the cache, the next plan is only slower.
        std::fs::create_dir_all(folder).and_then(|()| write_atomic(&cache_file, &bytes)).ok();
    }
    Ok(result)
}

pub(super) fn object_id(base: &Oid) -> Result<gix::ObjectId> {
    Ok(gix::ObjectId::from_hex(base.as_str().as_bytes())?)
}

/// Plans a job at a commit. The plan may be empty.
pub(super) fn plan_with_inputs(
    repo: &Repo,
    job: &LoadedJob,
    base: &Oid,
    scope: PlanScope,
    inputs: &plan_inputs::PlanInputs,
) -> Result<PlanningResult> {
    if let Some(fault) = repo::unwritable_file(repo, &AttributeFiles::default(), base)? {
        let hint = "commit another encoding in `.gitattributes`, and start from there";
        return Err(Advice::new(format!("the base {}: {fault}", base.short()), hint).into());
    }
    let id = object_id(base)?;
    let scope = PlanScope { token_limit: token_limit(repo, job)?, ..scope };
    with_spec(repo, &job.job, inputs, scope, |spec, cache| {
        planning::plan(&repo.local(), id, spec, cache)
    })
}

/// Plans a job at a commit. An empty plan is an error.
pub(super) fn plan_job(
    repo: &Repo,
    job: &LoadedJob,
    base: &Oid,
    scope: PlanScope,
) -> Result<JobPlan> {
    let inputs = plan_inputs::collect(repo, job, base)?;
    let planned = plan_with_inputs(repo, job, base, scope, &inputs)?;
    let job = &job.job;
    if planned.plan.tasks.is_empty() && inputs.listed.is_some() {
        let hint = "listed tasks count if `include`, `exclude` and the scope keep their files";
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

/// Returns the largest number of source tokens that a task may have. The prompt takes its share of
/// the budget first.
fn token_limit(repo: &Repo, job: &LoadedJob) -> Result<Option<TokenLimit>> {
    let Some(budget) = job.job.plan.budget else { return Ok(None) };
    let prompt = PromptSet::open(repo, job)?.example_tokens()?;
    let conversion = TokenLimit { max_tokens: 0, factor: budget.factor };
    let prompt_tokens = conversion.model_tokens(prompt);
    let max_tokens = budget.sources(prompt_tokens);
    if max_tokens == 0 {
        let message = format!(
            "the prompt alone has about {prompt_tokens} tokens, too many for [plan] `context-window`"
        );
        let hint = "shorten the prompt, or set `context-window` to the model's window";
        return Err(Advice::new(message, hint).into());
    }
    Ok(Some(TokenLimit { max_tokens, ..conversion }))
}

/// Returns the warnings of a plan, and notes on files that match but cannot be planned.
pub(super) fn notes(planned: &PlanningResult) -> Vec<String> {
    let unplanned = &planned.unplanned;
    let mut notes: Vec<_> = planned.warnings.iter().map(|w| format!("warning: {w}")).collect();
    let mut list = |reason: &str, paths: &[String]| {
        if let Some(first) = paths.first() {
            let more = if paths.len() > 1 {
                format!(" and {} more", paths.len() - 1)
            } else {
                String::new()
            };
            notes.push(format!("note: left out, {reason}: {first}{more}"));
        }
    };
    list("binary", &unplanned.binary);
    list("symbolic link", &unplanned.links);
    list("path is not UTF-8", &unplanned.not_utf8);
    notes
}
