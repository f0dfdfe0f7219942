//! `doctor`: is everything there that a job needs?

mod agents;

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{job_file, plan, prompts, workspace};
use crate::ambient;
use crate::cli;
use crate::domain::id::RunId;
use crate::error;
use crate::job::{Job, placeholders};
use crate::process;
use crate::store::{Store, layout};
use crate::ui::{Ui, table};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Ok,
    Note,
    Problem,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "PROBLEM",
        }
    }
}

type Diagnosis = (Severity, String, String);

/// `git harness doctor`
pub(super) fn run(here: &Path, args: &cli::DoctorArgs, ui: &Ui) -> Result<u8> {
    let mut found: Vec<Diagnosis> = Vec::new();
    let store = workspace::open_store(here)?;
    found.push((Severity::Ok, "git".into(), format!("version {}", store.git().version())));
    let folder = store.repo().common_dir().display().to_string();
    found.push((Severity::Ok, "repository".into(), folder));
    state(&store, &mut found)?;
    let mut wanted = None;
    match job_file::load(store.repo(), here, args.job.as_deref()) {
        Err(problem) if args.job.is_none() && !has_default(&store) => {
            drop(problem);
            found.push((
                Severity::Note,
                "job".into(),
                "no `harness.toml` here; name one to have it checked".into(),
            ));
        }
        Err(problem) => found.push((Severity::Problem, "job".into(), format!("{problem:#}"))),
        Ok(job) => {
            found.push((Severity::Ok, "job".into(), format!("{} (`{}`)", job.file, job.name)));
            check_job(&store, &job, &mut found);
            wanted = Some(job);
        }
    }
    agents::check(here, wanted.as_ref(), &mut found);
    manual(&mut found);
    let bad = found.iter().filter(|f| f.0 == Severity::Problem).count();
    if args.json {
        let list: Vec<_> = found
            .iter()
            .map(|(l, what, said)| serde_json::json!({"level": l.word().to_lowercase(), "what": what, "said": said}))
            .collect();
        ui.result(&format!("{}\n", serde_json::json!({"v": 1, "problems": bad, "findings": list})));
    } else {
        let rows: Vec<_> = found
            .iter()
            .map(|(l, what, said)| vec![l.word().into(), what.clone(), said.clone()])
            .collect();
        ui.result(&crate::ui::printable(&table::columns(&rows)));
    }
    Ok(if bad > 0 { error::INCOMPLETE } else { error::OK })
}

fn has_default(store: &Store) -> bool {
    store.repo().top().is_some_and(|top| top.join(crate::job::FILE_NAME).is_file())
}

fn state(store: &Store, found: &mut Vec<Diagnosis>) -> Result<()> {
    let broken = store.broken_refs()?;
    if broken.is_empty() {
        found.push((Severity::Ok, "refs".into(), "none of ours is broken".into()));
    }
    for name in broken {
        let advice = "broken; the next `git harness start` of its run puts it into quarantine";
        found.push((Severity::Problem, name, advice.into()));
    }
    notes(store, found);
    let runs = store.runs()?;
    let driven = runs.iter().filter_map(|r: &RunId| Some((r, workspace::driver(store, r)?)));
    for (run, driver) in driven {
        found.push((Severity::Note, format!("run {run}"), format!("driven by {driver}")));
    }
    Ok(())
}

/// What makes provenance survive a rebase, and be seen. Offered, and never set behind anybody's back.
fn notes(store: &Store, found: &mut Vec<Diagnosis>) {
    let settings = [
        (
            "notes.rewriteRef",
            "lets a note on a landed commit go with it through `git rebase` and `git commit --amend`",
        ),
        ("notes.displayRef", "makes `git log` show it"),
    ];
    for (key, what) in settings {
        if !store.repo().settings(key).iter().any(|value| covers(value)) {
            let said = format!("`git config --add {key} {}` {what}", layout::NOTES);
            found.push((Severity::Note, key.into(), said));
        }
    }
}

/// Whether a setting of git's that names refs, perhaps with a star at the end, means the notes on landed commits.
fn covers(value: &str) -> bool {
    value == layout::NOTES
        || value.strip_suffix('*').is_some_and(|start| layout::NOTES.starts_with(start))
}

fn check_job(store: &Store, found_job: &job_file::LoadedJob, found: &mut Vec<Diagnosis>) {
    let job = &found_job.job;
    let repo = store.repo();
    let base = match repo.resolve_commit(&job.job.base) {
        Ok(base) => base,
        Err(problem) => {
            found.push((Severity::Problem, "base".into(), format!("{problem:#}")));
            return;
        }
    };
    let mut tasks = Vec::new();
    match plan::plan_job(repo, found_job, &base, plan::PlanScope::default()) {
        Ok(made) => {
            tasks = made.planned.plan.tasks;
            let said = format!("{} tasks at {}", tasks.len(), base.short());
            found.push((Severity::Ok, "plan".into(), said));
        }
        Err(problem) => found.push((Severity::Problem, "plan".into(), format!("{problem:#}"))),
    }
    match prompts::check(repo, found_job, &tasks) {
        Ok(said) => found.extend(said.into_iter().map(|s| (Severity::Note, "prompt".into(), s))),
        Err(problem) => found.push((Severity::Problem, "prompt".into(), format!("{problem:#}"))),
    }
    programs(repo.top(), job, found);
    let callers =
        [Some(("agent", &job.agent)), job.evaluate.as_ref().map(|e| ("evaluate", &e.agent))];
    for (section, agent) in callers.into_iter().flatten() {
        for name in agent.env.iter().filter(|name| ambient::variable(name).is_none()) {
            let said = format!("named in `[{section}] env` but not set");
            found.push((Severity::Note, format!("variable {name}"), said));
        }
    }
    if let Some(target) = &job.job.target {
        let full = format!("refs/heads/{target}");
        let worktrees = repo.checked_out_at(&full).unwrap_or_default();
        for path in worktrees {
            let said = format!("checked out in {}: it will follow what lands", path.display());
            found.push((Severity::Note, format!("target {target}"), said));
        }
    }
    found.push(writable(&workspace::worktrees_root(repo, job)));
}

fn writable(root: &Path) -> Diagnosis {
    let mut existing = root.to_path_buf();
    while !existing.exists() && existing.pop() {}
    let probe = rustix::fs::access(&existing, rustix::fs::Access::WRITE_OK);
    match probe {
        Ok(()) => (Severity::Ok, "worktrees".into(), format!("will be in {}", root.display())),
        Err(problem) => {
            let said = format!("cannot be made in {}: {problem}", existing.display());
            (Severity::Problem, "worktrees".into(), said)
        }
    }
}

fn programs(top: Option<&Path>, job: &Job, found: &mut Vec<Diagnosis>) {
    let mut needed: Vec<(String, &String)> = Vec::new();
    if job.agent.preset == "command" {
        needed.extend(job.agent.command.first().map(|p| ("agent".to_owned(), p)));
    }
    if let Some(judge) = job.evaluate.as_ref().filter(|e| e.agent.preset == "command") {
        needed.extend(judge.agent.command.first().map(|p| ("evaluator".to_owned(), p)));
    }
    for check in &job.checks {
        needed.extend(check.run.first().map(|p| (format!("check {}", check.name), p)));
    }
    for argv in &job.worktree.setup {
        needed.extend(argv.first().map(|p| ("setup".to_owned(), p)));
    }
    for (what, program) in needed {
        if placeholders::mentions_task(std::slice::from_ref(program)) {
            continue;
        }
        match locate(top, program) {
            Some(path) => found.push((Severity::Ok, what, path.display().to_string())),
            None => found.push((Severity::Problem, what, format!("program not found: {program}"))),
        }
    }
}

fn locate(top: Option<&Path>, program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        let path = top.map_or_else(|| PathBuf::from(program), |top| top.join(program));
        return path.is_file().then_some(path);
    }
    let path = ambient::variable("PATH")?;
    process::find_in_path(program.as_ref(), path.as_ref(), top.unwrap_or(Path::new("."))).ok()
}

fn manual(found: &mut Vec<Diagnosis>) {
    let installed =
        super::man::prefix().is_some_and(|p| p.join("share/man/man1/git-harness.1").is_file());
    found.push(if installed {
        (Severity::Ok, "manual".into(), "`git help harness` works".into())
    } else {
        (
            Severity::Note,
            "manual".into(),
            "not installed; `git harness man --install` does it".into(),
        )
    });
}
