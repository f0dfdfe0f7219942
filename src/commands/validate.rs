//! `validate`: check a job file, and give hints about settings that are allowed but rarely
//! intended.

use std::path::Path;

use anyhow::Result;

use super::open::open_repo;
use super::rule_hints::rule_hints;
use super::{job_file, job_plan, prompts};
use crate::cli as args;
use crate::error;
use crate::job::{Job, JobKind, TaskSource};
use crate::ui::{Ui, human};
use crate::wire::cli;

/// `git harness validate`
pub(super) fn run(here: &Path, args: &args::ValidateArgs, ui: &Ui) -> Result<u8> {
    let repo = open_repo(here)?;
    let job = job_file::load(&repo, here, args.job.as_deref())?;
    let mut hints = hints(&job.job);
    let base = repo.resolve_commit(&job.job.job.base);
    hints.extend(rule_hints(&job.job, &|path| {
        let in_base = base.as_ref().is_ok_and(|base| repo.has_entry(base, path).unwrap_or(false));
        in_base || repo.top().is_some_and(|top| top.join(path).is_file())
    }));
    // The variables of listed tasks are not known before the plan is made.
    let listed = matches!(job.job.plan.group, TaskSource::Command | TaskSource::List);
    if args.strict {
        let base = repo.resolve_commit(&job.job.job.base)?;
        let scope = job_plan::PlanScope::default();
        let planned = job_plan::plan_job(&repo, &job, &base, scope)?.planned;
        hints.extend(planned.warnings.iter().cloned());
        hints.extend(prompts::check(&repo, &job, &planned.plan.tasks)?);
    } else if !listed {
        hints.extend(prompts::check(&repo, &job, &[prompts::example(&job)?])?);
    }
    let valid = hints.is_empty() || !args.strict;
    let checks = job.job.checks.len();
    if args.json {
        ui.json(&cli::Validation {
            v: cli::Version,
            file: &job.file,
            job: &job.name,
            preset: &job.preset.name,
            checks,
            hints: &hints,
        })?;
    } else {
        ui.result(&format!(
            "{}: the job `{}` is {}, with {}\n",
            job.file,
            job.name,
            if valid { "valid" } else { "not valid under `--strict`" },
            human::number(checks, "check")
        ));
        for hint in &hints {
            ui.status(&format!("hint: {hint}"));
        }
    }
    Ok(if valid { error::OK } else { error::INCOMPLETE })
}

/// Returns hints about settings that are allowed but rarely intended.
fn hints(job: &Job) -> Vec<String> {
    let mut hints = Vec::new();
    let is_report = job.job.kind == JobKind::Report;
    if job.checks.is_empty() && is_report {
        hints.push("no [[check]]: every file that is handed in is accepted unchecked".into());
    } else if job.checks.is_empty() {
        hints.push("no [[check]]: every change within scope lands unchecked".into());
    } else if is_report {
        // An output file does not land, so no check has to run on a merged tree.
    } else if !job.checks.iter().any(|c| c.when.landing) {
        hints.push("no [[check]] has when = [\"landing\"]: merged trees land unchecked".into());
    }
    if !job.worktree.setup.is_empty() && job.worktree.keep.is_empty() {
        hints.push(
            "[worktree] setup runs once in a new worktree, and ignored files are removed between tasks: list what setup makes \
             in `keep`"
                .into(),
        );
    }
    hints
}
