//! `review`, `approve` and `reject`: a person reads a candidate, and says whether it lands.

mod page;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use self::page::CandidatePage;
use super::{request, workspace};
use crate::ambient;
use crate::cli;
use crate::domain::id::{RunId, TaskId};
use crate::domain::state::{Phase, RunPhase, TaskState};
use crate::domain::verdict::Candidate;
use crate::error::{self, Advice};
use crate::process;
use crate::repo;
use crate::store::Store;
use crate::store::load::LoadedRun;
use crate::ui::{Ui, human, table};
use crate::wire::request::WireRequest;

/// `git harness review`
pub(super) fn run(here: &Path, args: &cli::ReviewArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let Some(name) = &args.task else { return list(&store, args, ui) };
    let (run, task) = workspace::resolve_task(&store, name, args.run.as_deref())?;
    let loaded = workspace::load_run(&store, &run)?;
    let (planned, s) = workspace::find_task(&loaded, &task)?;
    let candidate = s.candidate.clone().with_context(|| {
        format!("`{run}/{task}` has no candidate to review: it is {}", s.phase.as_str())
    })?;
    if args.tool {
        return open_tool(&store, &candidate);
    }
    let page = CandidatePage::of(&store, &loaded, planned, s, &candidate)?;
    match args.format {
        Some(cli::ReviewFormat::Json) => ui.result(&format!("{}\n", page.json())),
        Some(cli::ReviewFormat::Patch) => {
            let text = repo::unified_diff(store.repo(), &candidate.base, &candidate.tree)?;
            ui.result_bytes(text.as_bytes());
        }
        None => {
            let text = page.text(ui.on_terminal());
            match pager().filter(|_| ui.on_terminal() && !args.no_pager) {
                Some(pager) if process::page(&pager, &text, less()) => {}
                Some(_) | None => ui.result(&text),
            }
        }
    }
    Ok(error::OK)
}

/// The pager; nothing for `cat` and where none is wanted. Not what the repository's configuration says: agents can write
/// there.
fn pager() -> Option<String> {
    let said = ambient::variable("GIT_PAGER")
        .or_else(|| ambient::variable("PAGER"))
        .unwrap_or_else(|| "less".to_owned());
    (!said.trim().is_empty() && said != "cat").then_some(said)
}

/// Opens git's own difftool on the candidate.
fn open_tool(store: &Store, candidate: &Candidate) -> Result<u8> {
    let folder = store.repo().top().unwrap_or(store.repo().common_dir()).to_path_buf();
    let argv: Vec<OsString> =
        ["git", "difftool", "--dir-diff", candidate.base.as_str(), candidate.commit.as_str()]
            .map(OsString::from)
            .to_vec();
    let code = process::interact(&argv, &folder).context("cannot start `git difftool`")?;
    if code == Some(0) { Ok(error::OK) } else { bail!("`git difftool` did not succeed") }
}

/// The candidates that wait for a review.
fn waiting(store: &Store, run: Option<&str>) -> Result<Vec<(LoadedRun, Vec<TaskId>)>> {
    let runs = match run {
        Some(_) => vec![workspace::find_run(store, run)?],
        None => store.runs()?,
    };
    let mut found = Vec::new();
    for run in runs {
        let loaded = workspace::load_run(store, &run)?;
        let state = &loaded.ledger.state;
        if state.phase == RunPhase::Cancelled {
            continue;
        }
        let reviewing =
            |t: &TaskId| state.tasks.get(t).is_some_and(|s| s.phase == Phase::Reviewing);
        let tasks = state.plan.tasks.iter().map(|t| t.id.clone());
        let tasks: Vec<_> = tasks.filter(|t| reviewing(t)).collect();
        if !tasks.is_empty() {
            found.push((loaded, tasks));
        }
    }
    Ok(found)
}

fn list(store: &Store, args: &cli::ReviewArgs, ui: &Ui) -> Result<u8> {
    let found = waiting(store, args.run.as_deref())?;
    let mut rows =
        vec![["TASK", "WAITS FOR", "ATTEMPT", "FILES", "LINES"].map(String::from).to_vec()];
    let mut listed = Vec::new();
    for (loaded, tasks) in &found {
        for task in tasks {
            let (planned, s) = workspace::find_task(loaded, task)?;
            let Some(candidate) = &s.candidate else { continue };
            let page = CandidatePage::of(store, loaded, planned, s, candidate)?;
            let (added, removed) = page.lines();
            rows.push(vec![
                format!("{}/{task}", loaded.ledger.state.id),
                human::duration(ambient::now().since_ms(s.at)),
                s.attempt.to_string(),
                page.files().to_string(),
                format!("+{added} -{removed}"),
            ]);
            listed.push(page.summary());
        }
    }
    if args.format == Some(cli::ReviewFormat::Json) {
        ui.result(&format!("{}\n", json!({"v": 1, "waiting": listed})));
    } else if listed.is_empty() {
        ui.status("no candidate waits for a review");
    } else {
        ui.result(&crate::ui::printable(&table::columns(&rows)));
        ui.status(
            "`git harness review TASK` shows one, `git harness approve TASK` lets it land, `git harness reject TASK -m \"…\"` \
             sends it back",
        );
    }
    Ok(error::OK)
}

/// A candidate that a person may say something of.
fn candidate_of<'a>(
    loaded: &'a LoadedRun,
    task: &TaskId,
    phases: &[Phase],
) -> Result<(&'a TaskState, &'a Candidate)> {
    let (_, s) = workspace::find_task(loaded, task)?;
    let run = &loaded.ledger.state.id;
    match &s.candidate {
        Some(candidate) if phases.contains(&s.phase) => Ok((s, candidate)),
        Some(_) | None => {
            let hint = "`git harness review` lists what does";
            let what =
                format!("`{run}/{task}` does not wait for a review: it is {}", s.phase.as_str());
            Err(Advice::new(what, hint).into())
        }
    }
}

/// `git harness approve`
pub(super) fn approve(here: &Path, args: &cli::ApproveArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let by = who(&store);
    let mut wanted: BTreeMap<RunId, Vec<WireRequest>> = BTreeMap::new();
    let wire = |loaded: &LoadedRun, task: &TaskId| -> Result<WireRequest> {
        let (_, candidate) = candidate_of(loaded, task, &[Phase::Reviewing])?;
        let commit = candidate.commit.to_string();
        Ok(WireRequest::Approve { task: task.to_string(), commit, by: by.clone() })
    };
    if args.all {
        for (loaded, tasks) in waiting(&store, args.run.as_deref())? {
            for task in tasks {
                let (planned, s) = workspace::find_task(&loaded, &task)?;
                let Some(candidate) = &s.candidate else { continue };
                if args.passing
                    && !CandidatePage::of(&store, &loaded, planned, s, candidate)?.proven()
                {
                    ui.status(&format!("left out, since no check has passed it: {task}"));
                    continue;
                }
                let run = loaded.ledger.state.id.clone();
                wanted.entry(run).or_default().push(wire(&loaded, &task)?);
            }
        }
        if wanted.is_empty() {
            ui.message("no candidate waits for a review");
            return Ok(error::OK);
        }
    }
    for name in &args.tasks {
        let (run, task) = workspace::resolve_task(&store, name, args.run.as_deref())?;
        let wire = wire(&workspace::load_run(&store, &run)?, &task)?;
        wanted.entry(run).or_default().push(wire);
    }
    let mut code = error::OK;
    for (run, wires) in wanted {
        code = code.max(request::tell(&store, &run, &wires, ui)?);
        request::hint_start(&store, &run, ui);
    }
    Ok(code)
}

/// `git harness reject`
pub(super) fn reject(here: &Path, args: &cli::RejectArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let (run, task) = workspace::resolve_task(&store, &args.task, None)?;
    let loaded = workspace::load_run(&store, &run)?;
    let (_, candidate) = candidate_of(&loaded, &task, &[Phase::Reviewing, Phase::Queued])?;
    let mut message = String::new();
    for text in &args.message {
        let comment = comment(&store, candidate, text)?;
        message.push_str(&comment);
        message.push('\n');
    }
    if message.trim().is_empty() {
        bail!("say what is to be done otherwise: `-m \"…\"`, or `-m file:line:text`");
    }
    let commit = candidate.commit.to_string();
    let message = message.trim_end().to_owned();
    let wire =
        WireRequest::RequestChanges { task: task.to_string(), commit, by: who(&store), message };
    let code = request::tell(&store, &run, &[wire], ui)?;
    request::hint_start(&store, &run, ui);
    Ok(code)
}

/// A message as the next attempt is told it; one that begins with a file and a line of the candidate quotes that line.
fn comment(store: &Store, candidate: &Candidate, text: &str) -> Result<String> {
    let parts: Vec<&str> = text.splitn(3, ':').collect();
    let &[path, line, words] = parts.as_slice() else { return Ok(text.to_owned()) };
    let (Ok(number), false) = (line.trim().parse::<usize>(), words.trim().is_empty()) else {
        return Ok(text.to_owned());
    };
    let Some(bytes) = store.repo().read_blob_at(&candidate.tree, path)? else {
        bail!("there is no file `{path}` in the candidate {}", candidate.commit.short());
    };
    let content = String::from_utf8_lossy(&bytes);
    let Some(quoted) = number.checked_sub(1).and_then(|n| content.lines().nth(n)) else {
        bail!("`{path}` has no line {number}: it has {}", content.lines().count());
    };
    Ok(format!("`{path}:{number}`: {}\n> {}", words.trim(), quoted.trim_end()))
}

/// The person, as git knows them.
/// As git does: a short text is not paged, colours are passed on, and the screen is left as it is; unless the person has settings of
/// their own.
fn less() -> &'static [(&'static str, &'static str)] {
    if ambient::variable("LESS").is_none() { &[("LESS", "FRX")] } else { &[] }
}

fn who(store: &Store) -> String {
    let identity = store.repo().identity();
    format!("{} <{}>", identity.name, identity.email)
}
