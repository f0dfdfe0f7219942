//! `validate`: whether a job file is right, and what is rarely meant as it is written.

use std::path::Path;

use anyhow::Result;

use super::{job_file, plan, prompts};
use crate::cli;
use crate::error;
use crate::job::{Job, TaskSource};
use crate::repo::Repo;
use crate::ui::{Ui, human};

/// `git harness validate`
pub(super) fn run(here: &Path, args: &cli::ValidateArgs, ui: &Ui) -> Result<u8> {
    let repo = Repo::discover(here)?;
    let found = job_file::load(&repo, here, args.job.as_deref())?;
    let mut hints = advice(&found.job);
    // What tasks that are handed in tell their prompts is known when they are.
    let told_later = matches!(found.job.plan.group, TaskSource::Command | TaskSource::List);
    if args.strict {
        let base = repo.resolve_commit(&found.job.job.base)?;
        let planned = plan::plan_job(&repo, &found, &base, plan::PlanScope::default())?.planned;
        hints.extend(plan::notes(&planned).into_iter().filter(|n| n.starts_with("warning: ")));
        hints.extend(prompts::check(&repo, &found, &planned.plan.tasks)?);
    } else if !told_later {
        hints.extend(prompts::check(&repo, &found, &[prompts::example(&found)?])?);
    }
    let good = hints.is_empty() || !args.strict;
    let checks = found.job.checks.len();
    if args.json {
        let value = serde_json::json!({
            "v": 1, "file": found.file, "job": found.name, "preset": found.preset.name, "checks": checks, "hints": hints,
        });
        ui.result(&format!("{value}\n"));
    } else {
        ui.result(&format!(
            "{}: the job `{}` is {}, with {}\n",
            found.file,
            found.name,
            if good { "valid" } else { "not as it should be" },
            human::number(checks, "check")
        ));
        for hint in &hints {
            ui.status(&format!("hint: {hint}"));
        }
    }
    Ok(if good { error::OK } else { error::INCOMPLETE })
}

/// What is allowed but rarely meant.
fn advice(job: &Job) -> Vec<String> {
    let mut hints = Vec::new();
    if job.checks.is_empty() {
        hints.push(
            "there is no [[check]]: everything that stays in scope would land, whatever it is"
                .into(),
        );
    } else if !job.checks.iter().any(|c| c.when.landing) {
        hints.push(
            "no [[check]] runs when = [\"landing\"]: what lands is not checked as it lands".into(),
        );
    }
    if !job.worktree.setup.is_empty() && job.worktree.keep.is_empty() {
        hints.push(
            "[worktree] setup runs once in a new place, and what git ignores is removed from task to task: list in \
             `keep` what setup makes"
                .into(),
        );
    }
    hints
}
