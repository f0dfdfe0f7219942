//! `doctor`: check that everything that a job needs is there.

mod agents;
mod remnants;
mod settings;

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{job_file, job_plan, prompts, sandbox, workspace};
use crate::ambient;
use crate::cli as args;
use crate::domain::id::RunId;
use crate::error;
use crate::job::{Job, SandboxMode, placeholders};
use crate::process;
use crate::sandbox::SandboxChoice;
use crate::store::{Store, layout};
use crate::ui::{Ui, human, table};
use crate::wire::cli;

/// The severity of a diagnosis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Ok,
    Note,
    Fixed,
    Problem,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Fixed => "fixed",
            Self::Problem => "PROBLEM",
        }
    }
}

/// A diagnosis: severity, subject and text.
type Diagnosis = (Severity, String, String);

/// `git harness doctor`
pub(super) fn run(here: &Path, args: &args::DoctorArgs, ui: &Ui) -> Result<u8> {
    let mut diagnoses: Vec<Diagnosis> = Vec::new();
    let store = workspace::open_store(here)?;
    diagnoses.push((Severity::Ok, "git".into(), format!("version {}", store.git().version())));
    let folder = store.repo().common_dir().display().to_string();
    diagnoses.push((Severity::Ok, "repository".into(), folder));
    remnants::check(&store, args.fix, &mut diagnoses)?;
    settings::check(&store, &mut diagnoses);
    check_store(&store, &mut diagnoses)?;
    let mut loaded_job = None;
    match job_file::load(store.repo(), here, args.job.as_deref()) {
        Err(problem) if args.job.is_none() && !has_default(&store) => {
            drop(problem);
            diagnoses.push((
                Severity::Note,
                "job".into(),
                "no `harness.toml` here; name a job file to check it".into(),
            ));
        }
        Err(problem) => diagnoses.push((Severity::Problem, "job".into(), format!("{problem:#}"))),
        Ok(job) => {
            diagnoses.push((Severity::Ok, "job".into(), format!("{} (`{}`)", job.file, job.name)));
            check_job(&store, &job, &mut diagnoses);
            loaded_job = Some(job);
        }
    }
    agents::check(here, loaded_job.as_ref(), &mut diagnoses);
    manual(&mut diagnoses);
    let problems = diagnoses.iter().filter(|(severity, ..)| *severity == Severity::Problem).count();
    if args.json {
        let findings = diagnoses.iter().map(|(severity, subject, text)| cli::Diagnosis {
            level: severity.word().to_lowercase(),
            what: subject,
            said: text,
        });
        let findings = findings.collect();
        ui.json(&cli::Doctor { v: cli::Version, problems, findings })?;
    } else {
        let rows: Vec<_> = diagnoses
            .iter()
            .map(|(severity, subject, text)| {
                vec![severity.word().into(), subject.clone(), text.clone()]
            })
            .collect();
        ui.result(&crate::ui::printable(&table::columns(&rows)));
    }
    Ok(if problems > 0 { error::INCOMPLETE } else { error::OK })
}

/// Returns true if the repository has a `harness.toml` at its top.
fn has_default(store: &Store) -> bool {
    store.repo().top().is_some_and(|top| top.join(crate::job::FILE_NAME).is_file())
}

/// Checks the settings for notes, and the supervisors of runs.
fn check_store(store: &Store, diagnoses: &mut Vec<Diagnosis>) -> Result<()> {
    suggest_note_settings(store, diagnoses);
    let runs = store.runs()?;
    let driven = runs.iter().filter_map(|r: &RunId| Some((r, workspace::supervisor_of(store, r)?)));
    for (run, driver) in driven {
        diagnoses.push((Severity::Note, format!("run {run}"), format!("driven by {driver}")));
    }
    Ok(())
}

/// Suggests git settings that keep the notes through a rebase and show them in `git log`. This
/// program never writes the user's configuration.
fn suggest_note_settings(store: &Store, diagnoses: &mut Vec<Diagnosis>) {
    let settings = [
        (
            "notes.rewriteRef",
            "keeps the notes of landed commits through `git rebase` and `git commit --amend`",
        ),
        ("notes.displayRef", "makes `git log` show the notes of landed commits"),
    ];
    for (key, effect) in settings {
        if !store.repo().settings(key).iter().any(|value| covers(value)) {
            let text = format!("`git config --add {key} {}` {effect}", layout::NOTES);
            diagnoses.push((Severity::Note, key.into(), text));
        }
    }
}

/// Returns true if the value of a setting includes the ref of our notes. The value is the name of a
/// ref, or a prefix followed by `*`.
fn covers(value: &str) -> bool {
    value == layout::NOTES
        || value.strip_suffix('*').is_some_and(|start| layout::NOTES.starts_with(start))
}

/// Checks the plan, the prompts, the programs and the variables of a job.
fn check_job(store: &Store, job_file: &job_file::LoadedJob, diagnoses: &mut Vec<Diagnosis>) {
    let job = &job_file.job;
    let repo = store.repo();
    let base = match repo.resolve_commit(&job.job.base) {
        Ok(base) => base,
        Err(problem) => {
            diagnoses.push((Severity::Problem, "base".into(), format!("{problem:#}")));
            return;
        }
    };
    let mut tasks = Vec::new();
    match job_plan::plan_job(repo, job_file, &base, job_plan::PlanScope::default()) {
        Ok(plan) => {
            tasks = plan.planned.plan.tasks;
            let text = format!("{} at {}", human::number(tasks.len(), "task"), base.short());
            diagnoses.push((Severity::Ok, "plan".into(), text));
        }
        Err(problem) => diagnoses.push((Severity::Problem, "plan".into(), format!("{problem:#}"))),
    }
    match prompts::check(repo, job_file, &tasks) {
        Ok(hints) => {
            diagnoses.extend(hints.into_iter().map(|hint| (Severity::Note, "prompt".into(), hint)));
        }
        Err(problem) => {
            diagnoses.push((Severity::Problem, "prompt".into(), format!("{problem:#}")));
        }
    }
    programs(repo.top(), job, diagnoses);
    let agents =
        [Some(("agent", &job.agent)), job.evaluate.as_ref().map(|e| ("evaluate", &e.agent))];
    for (section, agent) in agents.into_iter().flatten() {
        for name in agent.env.iter().filter(|name| ambient::variable(name).is_none()) {
            let text = format!("named in `[{section}] env` but not set");
            diagnoses.push((Severity::Note, format!("variable {name}"), text));
        }
    }
    if let Some(target) = &job.job.target {
        let full = format!("refs/heads/{target}");
        let full = store.resolve_branch(&full).unwrap_or(full);
        let worktrees = repo.checked_out_at(&full).unwrap_or_default();
        for path in worktrees {
            let text =
                format!("checked out in {}: each landing updates that worktree", path.display());
            diagnoses.push((Severity::Note, format!("target {target}"), text));
        }
    }
    diagnoses.push(writable(&workspace::worktrees_root(repo, job)));
    diagnoses.push(sandboxed(store, job));
}

/// Tries the boundary of the sandbox, if the job wants one.
fn sandboxed(store: &Store, job: &Job) -> Diagnosis {
    let choice = match job.sandbox.mode {
        SandboxMode::Off => SandboxChoice::Off,
        SandboxMode::Auto | SandboxMode::Require => sandbox::try_machine(store, job),
    };
    let (severity, detail) = match (&choice, job.sandbox.mode) {
        (SandboxChoice::Sandboxed(spec), _)
            if spec.overlay.is_none() && !spec.caches.is_empty() =>
        {
            (Severity::Note, "; no overlay can be mounted, so agents download packages again")
        }
        (SandboxChoice::Sandboxed(_), _) => {
            (Severity::Ok, "; nothing that it must prevent succeeded")
        }
        (SandboxChoice::Unavailable(_) | SandboxChoice::Off, SandboxMode::Require) => {
            (Severity::Problem, "")
        }
        (
            SandboxChoice::Unavailable(_) | SandboxChoice::Off,
            SandboxMode::Auto | SandboxMode::Off,
        ) => (Severity::Note, ", so agents and checks have your rights"),
    };
    (severity, "sandbox".to_owned(), format!("{}{detail}", choice.describe()))
}

/// Checks that worktrees can be made below a folder.
fn writable(root: &Path) -> Diagnosis {
    let mut existing = root.to_path_buf();
    while !existing.exists() && existing.pop() {}
    let probe = rustix::fs::access(&existing, rustix::fs::Access::WRITE_OK);
    match probe {
        Ok(()) => (Severity::Ok, "worktrees".into(), format!("made below {}", root.display())),
        Err(problem) => {
            let text = format!("cannot write in {}: {problem}", existing.display());
            (Severity::Problem, "worktrees".into(), text)
        }
    }
}

/// Checks the programs that the job names.
fn programs(top: Option<&Path>, job: &Job, diagnoses: &mut Vec<Diagnosis>) {
    let mut needed: Vec<(String, &String)> = Vec::new();
    if job.agent.preset == "command" {
        needed.extend(job.agent.command.first().map(|p| ("agent".to_owned(), p)));
    }
    if let Some(evaluate) = job.evaluate.as_ref().filter(|e| e.agent.preset == "command") {
        needed.extend(evaluate.agent.command.first().map(|p| ("evaluator".to_owned(), p)));
    }
    for check in &job.checks {
        needed.extend(check.run.first().map(|p| (format!("check {}", check.name), p)));
    }
    for argv in &job.worktree.setup {
        needed.extend(argv.first().map(|p| ("setup".to_owned(), p)));
    }
    for (subject, program) in needed {
        // The program is known only when a task fills in its placeholders.
        if placeholders::mentions_task(std::slice::from_ref(program)) {
            continue;
        }
        match locate(top, program) {
            Some(path) => diagnoses.push((Severity::Ok, subject, path.display().to_string())),
            None => {
                diagnoses.push((
                    Severity::Problem,
                    subject,
                    format!("program not found: {program}"),
                ));
            }
        }
    }
}

/// Returns the path of a program. As for a command with the working directory `top`, a name without
/// a slash is searched in `PATH`, and any other name is relative to `top`.
fn locate(top: Option<&Path>, program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        let path = top.map_or_else(|| PathBuf::from(program), |top| top.join(program));
        return path.is_file().then_some(path);
    }
    let path = ambient::variable("PATH")?;
    process::find_in_path(program.as_ref(), path.as_ref(), top.unwrap_or(Path::new("."))).ok()
}

/// Checks that the manual pages are installed.
fn manual(diagnoses: &mut Vec<Diagnosis>) {
    let installed =
        super::man::prefix().is_some_and(|p| p.join("share/man/man1/git-harness.1").is_file());
    diagnoses.push(if installed {
        (Severity::Ok, "manual".into(), "`git help harness` works".into())
    } else {
        (
            Severity::Note,
            "manual".into(),
            "not installed; `git harness man --install` installs it".into(),
        )
    });
}
