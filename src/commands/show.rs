//! `show`: one task in full.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{transcript, workspace};
use crate::cli;
use crate::domain::id::Oid;
use crate::domain::session::Spend;
use crate::domain::state::TaskState;
use crate::error::{self, Advice};
use crate::repo;
use crate::store::Store;
use crate::store::chain::findings;
use crate::ui::{Ui, human, json, printable, table};

/// `git harness show`
pub(super) fn run(here: &Path, args: &cli::ShowArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let (run, task) = workspace::resolve_task(&store, &args.task, None)?;
    let loaded = workspace::load_run(&store, &run)?;
    let (planned, s) = workspace::find_task(&loaded, &task)?;
    let tree = loaded.ledger.tips.get(&task).map(|t| t.tree.clone());
    let attempt = args.attempt.unwrap_or(s.attempt);
    let file = |name: &str| -> Result<Option<Vec<u8>>> {
        let Some(tree) = &tree else { return Ok(None) };
        store.repo().read_blob_at(tree, &format!("attempts/{attempt}/{name}"))
    };
    if args.diff {
        ui.result(&printable(&diff(&store, s)?));
        return Ok(error::OK);
    }
    let none = |what: &str| {
        let known = match s.attempt {
            0 => "no attempt of it was made yet".to_owned(),
            1 => "there was one attempt".to_owned(),
            n => format!("there were {n} attempts"),
        };
        Advice::new(format!("attempt {attempt} of `{run}/{task}` has left no {what}"), known)
    };
    if args.prompt {
        let bytes = file("prompt.md")?.ok_or_else(|| none("prompt"))?;
        ui.result(&printable(&String::from_utf8_lossy(&bytes)));
        return Ok(error::OK);
    }
    if args.transcript {
        let outputs = match file("stdout")? {
            Some(out) => [out, file("stderr")?.unwrap_or_default()],
            None => {
                let outputs = transcript::so_far(&store, &run, &task, attempt);
                let outputs = outputs.ok_or_else(|| none("transcript"))?;
                ui.status(&format!(
                    "so far; `git harness log --follow {run}/{task}` shows the rest"
                ));
                outputs
            }
        };
        let head = serde_json::json!({
            "v": 1, "run": run.as_str(), "task": task.as_str(), "attempt": attempt,
        });
        transcript::show(&outputs, args.json.then_some(head), ui);
        return Ok(error::OK);
    }
    let found = match &tree {
        Some(tree) => findings(&store, tree)?,
        None => Vec::new(),
    };
    if args.json {
        let around = json::StatusContext::default();
        let word = json::shown(&loaded.ledger.state, planned, s, &around);
        let mut value = json::task(run.as_str(), planned, s, word);
        value["output"] =
            serde_json::json!(json::output(s, workspace::output_path(&loaded).as_deref()));
        let list: Vec<_> = found
            .iter()
            .map(|f| serde_json::json!({"attempt": f.attempt, "check": f.check, "text": f.text}))
            .collect();
        value["v"] = 1.into();
        value["run"] = run.as_str().into();
        value["findings"] = list.into();
        ui.result(&format!("{value}\n"));
        return Ok(error::OK);
    }
    let none = || "-".to_owned();
    let oid = |o: Option<&Oid>| o.map_or_else(none, ToString::to_string);
    let row = |a: &str, b: String| vec![a.to_owned(), b];
    let mut rows = vec![
        row("task", format!("{run}/{task}")),
        row("state", s.phase.as_str().to_owned()),
        row(
            "attempts",
            format!(
                "{}{}",
                s.attempt,
                s.termination.as_ref().map_or(String::new(), |e| format!(", the last: {e}"))
            ),
        ),
        row("base", oid(s.base.as_ref())),
        row("candidate", oid(s.candidate.as_ref().map(|c| &c.commit))),
        row("landed", oid(s.landed.as_ref())),
        row(
            "output",
            json::output(s, workspace::output_path(&loaded).as_deref()).unwrap_or_else(none),
        ),
        row("since", human::moment(s.at)),
        row("used", human::spend(s.spend)),
    ];
    if s.evaluation.spend != Spend::default() {
        rows.push(row("evaluators", human::spend(s.evaluation.spend)));
    }
    rows.extend(s.class.map(|class| row("session ended", class.to_string())));
    rows.extend(s.session.as_ref().map(|session| row("session", session.id.clone())));
    if let Some(reason) = &s.reason {
        rows.push(row("reason", reason.clone()));
    }
    let mut text = table::columns(&rows);
    text.push_str("\nfiles:\n");
    for path in &planned.files {
        text.push_str(&format!("  {path}\n"));
    }
    for finding in &found {
        text.push_str(&format!("\nattempt {}, {}:\n", finding.attempt, finding.check));
        for line in finding.text.lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text.push_str(&format!(
        "\nmore: `git harness show {run}/{task} --diff`, `--prompt`, `--transcript`; `git harness log {run}/{task}`\n"
    ));
    ui.result(&printable(&text));
    Ok(error::OK)
}

fn diff(store: &Store, s: &TaskState) -> Result<String> {
    let candidate = s.candidate.as_ref().context("the task has no candidate yet")?;
    let base = store.repo().tree_of(&candidate.base)?;
    repo::unified_diff(store.repo(), &base, &candidate.tree)
}
