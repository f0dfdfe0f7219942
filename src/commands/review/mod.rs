//! `review`, `approve` and `reject`: a person reads candidates and decides whether they land.

mod page;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use self::page::CandidatePage;
use super::names::{self, RunUse, TaskResolver};
use super::request::Requests;
use super::workspace::{self, Workspace, who};
use crate::ambient;
use crate::cli as args;
use crate::domain::id::{RunId, TaskId};
use crate::domain::state::{Phase, RunPhase};
use crate::domain::verdict::Candidate;
use crate::error::{self, Advice};
use crate::process;
use crate::repo;
use crate::store::Store;
use crate::ui::{Ui, human, printable, table};
use crate::wire::cli;
use crate::wire::request::WireRequest;

/// `git harness review`
pub(super) fn run(here: &Path, args: &args::ReviewArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let Some(name) = &args.task else { return list(&store, args, ui) };
    let run = args.run.as_deref();
    let (workspace, task) = names::open_task(&store, here, name, run, RunUse::Read)?;
    let run = workspace.run().clone();
    let (planned, s) = workspace.find_task(&task)?;
    let candidate = s.candidate.clone().with_context(|| {
        let (label, phase) = (planned.label(), s.phase.as_str());
        format!("`{run}/{label}` has no candidate to review: the task is {phase}")
    })?;
    if args.tool {
        return open_tool(&store, &candidate);
    }
    let page = CandidatePage::read(&workspace, &task, &candidate)?;
    match args.format {
        Some(args::ReviewFormat::Json) => ui.json(&page.wire())?,
        Some(args::ReviewFormat::Patch) => {
            let text = repo::unified_diff(store.repo(), &candidate.base, &candidate.tree)?;
            ui.result_bytes(text.as_bytes());
        }
        None => {
            let text = page.text(ui.paints());
            match pager().filter(|_| ui.on_terminal() && !args.no_pager) {
                Some(pager) if process::page(&pager, &text, less_options()) => {}
                Some(_) | None => ui.result(&text),
            }
        }
    }
    Ok(error::OK)
}

/// Returns the pager; none for `cat` or an empty name. The pager in the repository's configuration
/// is ignored, since agents can write there.
fn pager() -> Option<String> {
    let pager = ambient::variable("GIT_PAGER")
        .or_else(|| ambient::variable("PAGER"))
        .unwrap_or_else(|| "less".to_owned());
    (!pager.trim().is_empty() && pager != "cat").then_some(pager)
}

/// Returns the options for `less`, as git sets them: short texts are not paged, colours are passed
/// through, and the screen is kept. The user's own `LESS` takes precedence.
fn less_options() -> &'static [(&'static str, &'static str)] {
    if ambient::variable("LESS").is_none() { &[("LESS", "FRX")] } else { &[] }
}

/// Opens the candidate in `git difftool`.
fn open_tool(store: &Store, candidate: &Candidate) -> Result<u8> {
    let folder = store.repo().top().unwrap_or(store.repo().common_dir()).to_path_buf();
    let argv: Vec<OsString> =
        ["git", "difftool", "--dir-diff", candidate.base.as_str(), candidate.commit.as_str()]
            .map(OsString::from)
            .to_vec();
    let code = process::interact(&argv, &folder).context("cannot start `git difftool`")?;
    if code == Some(0) { Ok(error::OK) } else { bail!("`git difftool` did not succeed") }
}

/// Returns the candidates that wait for a review, by run.
fn waiting(store: &Store, run: Option<&str>) -> Result<Vec<(Workspace, Vec<TaskId>)>> {
    let runs = match run {
        Some(_) => vec![names::find_run(store, run, RunUse::Read)?],
        None => store.runs()?,
    };
    let mut waiting = Vec::new();
    for run in runs {
        let workspace = Workspace::load(store, &run)?;
        let state = workspace.state();
        if state.phase == RunPhase::Cancelled {
            continue;
        }
        let is_reviewing =
            |t: &TaskId| state.tasks.get(t).is_some_and(|s| s.phase == Phase::Reviewing);
        let tasks = state.tasks.planned().map(|t| t.id.clone());
        let tasks: Vec<_> = tasks.filter(|t| is_reviewing(t)).collect();
        if !tasks.is_empty() {
            waiting.push((workspace, tasks));
        }
    }
    Ok(waiting)
}

fn list(store: &Store, args: &args::ReviewArgs, ui: &Ui) -> Result<u8> {
    let mut rows =
        vec![["TASK", "WAITING", "ATTEMPT", "FILES", "LINES"].map(String::from).to_vec()];
    let mut listed = Vec::new();
    for (workspace, tasks) in &waiting(store, args.run.as_deref())? {
        for task in tasks {
            let (_, s) = workspace.find_task(task)?;
            let Some(candidate) = &s.candidate else { continue };
            let page = CandidatePage::read(workspace, task, candidate)?;
            let (added, removed) = page.lines();
            rows.push(vec![
                format!("{}/{}", workspace.run(), workspace.state().tasks.label(task)),
                human::duration(ambient::now().since_ms(s.at)),
                s.attempt.to_string(),
                page.files().to_string(),
                format!("+{added} -{removed}"),
            ]);
            listed.push(page.summary());
        }
    }
    if args.format == Some(args::ReviewFormat::Json) {
        ui.json(&cli::Reviews { v: cli::Version, waiting: listed })?;
    } else if listed.is_empty() {
        ui.status("no candidate waits for a review");
    } else {
        ui.result(&printable(&table::columns(&rows)));
        ui.status(
            "hint: read one with `git harness review TASK`, let it land with `git harness approve TASK`, or request \
             changes with `git harness reject TASK -m \"…\"`",
        );
    }
    Ok(error::OK)
}

/// Returns the candidate that a person decides on. Fails unless the task is in one of `phases`.
fn candidate_of<'a>(
    workspace: &'a Workspace,
    task: &TaskId,
    phases: &[Phase],
) -> Result<&'a Candidate> {
    let (planned, s) = workspace.find_task(task)?;
    match &s.candidate {
        Some(candidate) if phases.contains(&s.phase) => Ok(candidate),
        Some(_) | None => {
            let run = workspace.run();
            let message = format!(
                "`{run}/{}` does not wait for a review: the task is {}",
                planned.label(),
                s.phase.as_str()
            );
            Err(Advice::new(message, "`git harness review` lists the tasks that do").into())
        }
    }
}

/// `git harness approve`
pub(super) fn approve(here: &Path, args: &args::ApproveArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let by = who(&store);
    let mut approvals: BTreeMap<RunId, (Workspace, Vec<WireRequest>)> = BTreeMap::new();
    let approval = |workspace: &Workspace, task: &TaskId| -> Result<WireRequest> {
        let candidate = candidate_of(workspace, task, &[Phase::Reviewing])?;
        let commit = candidate.commit.to_string();
        Ok(WireRequest::Approve { task: task.to_string(), commit, by: by.clone() })
    };
    if args.all {
        let run = names::find_run(&store, args.run.as_deref(), RunUse::Change)?;
        for (workspace, tasks) in waiting(&store, Some(run.as_str()))? {
            let mut wires = Vec::new();
            for task in tasks {
                let (_, s) = workspace.find_task(&task)?;
                let Some(candidate) = &s.candidate else { continue };
                if args.passing
                    && !CandidatePage::read(&workspace, &task, candidate)?.checks_passed()
                {
                    let task = workspace.state().tasks.label(&task);
                    ui.status(&format!("skipping {task}: no check has passed it"));
                    continue;
                }
                wires.push(approval(&workspace, &task)?);
            }
            if !wires.is_empty() {
                approvals.insert(workspace.run().clone(), (workspace, wires));
            }
        }
        if approvals.is_empty() {
            ui.message("no candidate waits for a review");
            return Ok(error::OK);
        }
    }
    let mut named: BTreeMap<RunId, Vec<WireRequest>> = BTreeMap::new();
    let mut resolver = TaskResolver::new(&store, here, args.run.as_deref(), RunUse::Change);
    for name in &args.tasks {
        let (run, task) = resolver.resolve(name)?;
        let wire = approval(resolver.open(&run)?, &task)?;
        named.entry(run).or_default().push(wire);
    }
    for (run, wires) in named {
        approvals.insert(run.clone(), (resolver.take(&run)?, wires));
    }
    let mut code = error::OK;
    for (workspace, wires) in approvals.into_values() {
        let mut requests = Requests::of(workspace);
        code = code.max(requests.ask_and_report(&wires, ui)?);
        requests.hint_start(ui);
    }
    Ok(code)
}

/// `git harness reject`
pub(super) fn reject(here: &Path, args: &args::RejectArgs, ui: &Ui) -> Result<u8> {
    let store = &workspace::open_store(here)?;
    let run = args.run.as_deref();
    let (workspace, task) = names::open_task(store, here, &args.task, run, RunUse::Change)?;
    let candidate = candidate_of(&workspace, &task, &[Phase::Reviewing, Phase::Queued])?;
    let mut message = String::new();
    for text in &args.message {
        message.push_str(&comment(store, candidate, text)?);
        message.push('\n');
    }
    if message.trim().is_empty() {
        bail!("no changes requested: say what to change with `-m \"…\"` or `-m file:line:text`");
    }
    let commit = candidate.commit.to_string();
    let message = message.trim_end().to_owned();
    let wire =
        WireRequest::RequestChanges { task: task.to_string(), commit, by: who(store), message };
    let mut requests = Requests::of(workspace);
    let code = requests.ask_and_report(&[wire], ui)?;
    requests.hint_start(ui);
    Ok(code)
}

/// Formats a message for the next attempt. A message of the form `file:line:text` quotes that line
/// of the candidate.
fn comment(store: &Store, candidate: &Candidate, text: &str) -> Result<String> {
    let parts: Vec<&str> = text.splitn(3, ':').collect();
    let &[path, line, words] = parts.as_slice() else { return Ok(text.to_owned()) };
    let (Ok(number), false) = (line.trim().parse::<usize>(), words.trim().is_empty()) else {
        return Ok(text.to_owned());
    };
    let Some(bytes) = store.repo().read_blob_at(&candidate.tree, path)? else {
        bail!("no file `{path}` in the candidate {}", candidate.commit.short());
    };
    let content = String::from_utf8_lossy(&bytes);
    let Some(quoted) = number.checked_sub(1).and_then(|n| content.lines().nth(n)) else {
        bail!("`{path}` has no line {number}: it has {}", content.lines().count());
    };
    Ok(format!("`{path}:{number}`: {}\n> {}", words.trim(), quoted.trim_end()))
}
