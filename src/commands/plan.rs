//! `plan` and `validate`: what a job says, and what it would be.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::jobfile;
use crate::agent::prompt;
use crate::cli;
use crate::domain::id::Oid;
use crate::error::{self, Advice};
use crate::job::{Globs, Group, Job};
use crate::planning::{self, Planned};
use crate::repo::{self, Repo};
use crate::ui::{Ui, human, table};

/// A job's scope, as narrowed on the command line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope<'a> {
    /// `--scope-dir`
    pub dir: Option<&'a str>,
    /// `--scope-files`
    pub files: Option<&'a str>,
}

/// Plans a job at a commit.
///
/// # Errors
/// If the commit cannot be read, or nothing matches.
pub fn make(repo: &Repo, job: &Job, base: &Oid, scope: Scope) -> Result<Planned> {
    let tree = repo.tree_of(base)?;
    repo::refuse_submodules(repo, &tree)?;
    let dir = scope.dir.unwrap_or(&job.plan.scope_dir);
    let files = scope.files.unwrap_or(&job.plan.scope_files);
    let files = if files.is_empty() { None } else { Some(Globs::new(&[files])?) };
    let spec = planning::Spec {
        include: &|path| job.plan.include.matches(path) && !job.plan.exclude.matches(path),
        group: match job.plan.group {
            Group::File => planning::Group::File,
            Group::Directory => planning::Group::Directory,
        },
        max_files: job.plan.max_files,
        max_lines: job.plan.max_lines,
        scope_dir: dir,
        scope_files: &|path| files.as_ref().is_none_or(|g| g.matches(path)),
    };
    let id = gix::ObjectId::from_hex(base.as_str().as_bytes())?;
    let planned = planning::plan(&repo.local(), id, &spec)?;
    if planned.plan.tasks.is_empty() {
        let include = job.plan.include.patterns().join(", ");
        return Err(Advice::new(
            format!("the plan has no tasks: no file of {} matches", base.short()),
            format!("`[plan] include` is: {include}; files count when they are committed"),
        )
        .into());
    }
    Ok(planned)
}

/// `git harness plan`
pub fn run(here: &Path, args: &cli::Plan, ui: &Ui) -> Result<u8> {
    let repo = Repo::discover(here)?;
    let found = jobfile::find(&repo, here, args.job.as_deref())?;
    let base = repo.resolve_commit(&found.job.job.base)?;
    let scope = Scope { dir: args.scope_dir.as_deref(), files: args.scope_files.as_deref() };
    let planned = make(&repo, &found.job, &base, scope)?;
    if args.json {
        ui.result(&planning::to_json(&planned.plan)?);
        return Ok(error::OK);
    }
    ui.result(&describe(&planned, &base)?);
    for note in left_out(&planned) {
        ui.say(&note);
    }
    Ok(error::OK)
}

fn describe(planned: &Planned, base: &Oid) -> Result<String> {
    let tasks = &planned.plan.tasks;
    let mut rows = vec![["TASK", "FILES", "LINES", "TOKENS"].map(String::from).to_vec()];
    for t in tasks {
        let numbers = [t.files.len().to_string(), t.lines.to_string(), t.tokens.to_string()];
        rows.push([vec![t.id.to_string()], numbers.to_vec()].concat());
    }
    let files: usize = tasks.iter().map(|t| t.files.len()).sum();
    let lines: u64 = tasks.iter().map(|t| t.lines).sum();
    let tokens: u64 = tasks.iter().map(|t| t.tokens).sum();
    let id = planning::plan_id(&planned.plan)?;
    Ok(format!(
        "{}\n{}, {}, {lines} lines, about {tokens} tokens of source; plan {} of commit {}\n",
        table::columns(&rows),
        human::number(tasks.len(), "task"),
        human::number(files, "file"),
        id.short(),
        base.short()
    ))
}

/// What a person may miss in the plan.
pub fn left_out(planned: &Planned) -> Vec<String> {
    let out = &planned.left_out;
    let mut notes = Vec::new();
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

/// `git harness validate`
pub fn validate(here: &Path, args: &cli::JobArgument, ui: &Ui) -> Result<u8> {
    let repo = Repo::discover(here)?;
    let found = jobfile::find(&repo, here, args.job.as_deref())?;
    check_prompt(&repo, &found)?;
    let checks = found.job.checks.len();
    if args.json {
        let value = serde_json::json!({"v": 1, "file": found.file, "job": found.name, "preset": found.preset.name, "checks": checks});
        ui.result(&format!("{value}\n"));
    } else {
        ui.result(&format!(
            "{}: the job `{}` is valid, with {}\n",
            found.file,
            found.name,
            human::number(checks, "check")
        ));
        for hint in advice(&found.job) {
            ui.say(&format!("hint: {hint}"));
        }
    }
    Ok(error::OK)
}

/// The template must render for a first attempt and for a retry, before anything is paid for.
///
/// # Errors
/// If it does not.
pub fn check_prompt(repo: &Repo, found: &jobfile::Found) -> Result<()> {
    let Some(name) = &found.job.agent.prompt else { return Ok(()) };
    let base = repo.resolve_commit(&found.job.job.base)?;
    let pinned = jobfile::pinned(repo, found, &base)?;
    let plain = name.strip_prefix("./").unwrap_or(name);
    let bytes = pinned.iter().find(|(n, _)| n == plain).map(|(_, b)| b.clone());
    let text = String::from_utf8(bytes.unwrap_or_default())
        .with_context(|| format!("the prompt template is not UTF-8: {name}"))?;
    let like = prompt::Brief { vars: found.job.plan.vars.clone(), ..prompt::Brief::example() };
    prompt::validate((name, &text), &like)
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
