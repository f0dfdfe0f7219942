//! `show`: one task in full.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::names::{self, RunUse};
use super::transcript;
use super::workspace::{self, Workspace};
use crate::cli as args;
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::plan::Task;
use crate::domain::session::Spend;
use crate::domain::shell::shell_quote;
use crate::domain::state::TaskState;
use crate::domain::verdict::{Finding, group_findings};
use crate::error::{self, Advice};
use crate::repo;
use crate::store::Store;
use crate::store::chain::findings;
use crate::ui::json::{self, StatusContext};
use crate::ui::{Ui, human, printable, table};
use crate::wire::keeper::{PublishedAttempt, files};
use crate::wire::{cli, decode};

/// `git harness show`
pub(super) fn run(here: &Path, args: &args::ShowArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = args.run.as_deref();
    let (workspace, id) = names::open_task(&store, here, &args.task, run, RunUse::Read)?;
    let (task, s) = workspace.find_task(&id)?;
    let shown = ShownTask { workspace: &workspace, task, s };
    let attempt = args.attempt.unwrap_or(s.attempt);
    if args.diff {
        ui.result(&printable(&diff(&workspace.store, s)?));
    } else if args.prompt {
        let bytes = shown.file(attempt, "prompt.md")?;
        let bytes = bytes.ok_or_else(|| shown.nothing_kept(attempt, "prompt"))?;
        ui.result(&printable(&String::from_utf8_lossy(&bytes)));
    } else if args.transcript {
        shown.transcript(attempt, args.json, ui)?;
    } else {
        let findings = shown.findings()?;
        if args.json {
            let shown_task = shown.wire(&findings, shown.sandbox()?, shown.denied()?);
            ui.json(&shown_task)?;
        } else {
            let texts = [("notes", "notes"), (files::DENIED, "denied by the sandbox")];
            let texts: Vec<_> = texts
                .into_iter()
                .map(|(name, title)| Ok((title, shown.texts(name)?)))
                .collect::<Result<_>>()?;
            ui.result(&printable(&shown.page(&findings, &texts, shown.sandbox()?)));
        }
    }
    Ok(error::OK)
}

/// Formats the changes of a task's candidate as a patch.
fn diff(store: &Store, s: &TaskState) -> Result<String> {
    let candidate = s.candidate.as_ref().context("the task has no candidate yet")?;
    let base = store.repo().tree_of(&candidate.base)?;
    repo::unified_diff(store.repo(), &base, &candidate.tree)
}

/// A text for each attempt that has one.
type AttemptTexts = Vec<(u32, String)>;

/// A task that is shown.
struct ShownTask<'a> {
    workspace: &'a Workspace,
    task: &'a Task,
    s: &'a TaskState,
}

impl ShownTask<'_> {
    fn run(&self) -> &RunId {
        self.workspace.run()
    }

    fn id(&self) -> &TaskId {
        &self.task.id
    }

    /// Returns the tree of the task's chain.
    fn tree(&self) -> Option<&Oid> {
        self.workspace.loaded.ledger.tips.get(self.id()).map(|tip| &tip.tree)
    }

    /// Reads a file that an attempt has left in the task's chain.
    fn file(&self, attempt: u32, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(tree) = self.tree() else { return Ok(None) };
        let repo = self.workspace.store.repo();
        repo.read_blob_at(tree, &format!("attempts/{attempt}/{name}"))
    }

    /// Returns the sandbox of the last attempt. Returns `None` if the attempt has not published its
    /// outcome.
    fn sandbox(&self) -> Result<Option<String>> {
        let Some(bytes) = self.file(self.s.attempt, files::OUTCOME)? else { return Ok(None) };
        Ok(decode::<PublishedAttempt>(files::OUTCOME, &bytes)?.sandbox)
    }

    fn findings(&self) -> Result<Vec<Finding>> {
        self.tree().map_or(Ok(Vec::new()), |tree| findings(&self.workspace.store, tree))
    }

    /// Returns the requests that the sandbox of the last attempt denied.
    fn denied(&self) -> Result<Vec<String>> {
        let bytes = self.file(self.s.attempt, files::DENIED)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
    }

    /// Returns a text of the task's attempts, such as notes, by attempt.
    fn texts(&self, name: &str) -> Result<AttemptTexts> {
        let mut texts = Vec::new();
        for attempt in 1..=self.s.attempt {
            if let Some(bytes) = self.file(attempt, name)? {
                texts.push((attempt, String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
        Ok(texts)
    }

    /// Returns the error for an attempt that has left no `kind`, such as no transcript.
    fn nothing_kept(&self, attempt: u32, kind: &str) -> Advice {
        let hint = match self.s.attempt {
            0 => "no attempt has started yet".to_owned(),
            1 => "the task has had one attempt".to_owned(),
            n => format!("the task has had {n} attempts"),
        };
        let (run, task) = (self.run(), self.task.label());
        Advice::new(format!("attempt {attempt} of `{run}/{task}` has left no {kind}"), hint)
    }

    /// Prints the output of an attempt, which may still be running.
    fn transcript(&self, attempt: u32, as_json: bool, ui: &Ui) -> Result<()> {
        let (run, task) = (self.run(), self.id());
        let outputs = match self.file(attempt, "stdout")? {
            Some(out) => [out, self.file(attempt, "stderr")?.unwrap_or_default()],
            None => {
                let outputs = transcript::so_far(&self.workspace.store, run, task, attempt);
                let outputs = outputs.ok_or_else(|| self.nothing_kept(attempt, "transcript"))?;
                let name = shell_quote(&format!("{run}/{}", self.task.label()));
                ui.status(&format!("so far; `git harness log --follow {name}` shows the rest"));
                outputs
            }
        };
        if as_json {
            return transcript::show_json(&outputs, run, task, attempt, ui);
        }
        transcript::show(&outputs, ui);
        Ok(())
    }

    /// Returns the file that the task has handed in.
    fn output(&self) -> Option<String> {
        json::output(self.s, self.workspace.output_path())
    }

    fn wire<'a>(
        &'a self,
        findings: &'a [Finding],
        sandbox: Option<String>,
        denied: Vec<String>,
    ) -> cli::Show<'a> {
        let context = StatusContext::default();
        let state = json::shown(self.workspace.state(), self.task, self.s, &context);
        let mut task = json::task(self.run().as_str(), self.task, self.s, state);
        task.output = self.output();
        let findings = findings.iter().map(json::finding).collect();
        cli::Show { task, v: cli::Version, run: self.run().as_str(), sandbox, denied, findings }
    }

    fn page(
        &self,
        findings: &[Finding],
        texts: &[(&str, AttemptTexts)],
        sandbox: Option<String>,
    ) -> String {
        let mut rows = self.rows();
        rows.extend(sandbox.map(|sandbox| vec!["sandbox".to_owned(), sandbox]));
        let mut text = table::columns(&rows);
        text.push_str("\nfiles:\n");
        for path in &self.task.files {
            text.push_str(&format!("  {path}\n"));
        }
        for group in group_findings(findings) {
            let (finding, attempts) = (group.finding, group.attempts_in_words());
            text.push_str(&format!("\n{attempts}, {}:\n", finding.check));
            for line in finding.text.lines() {
                text.push_str(&format!("  {line}\n"));
            }
        }
        for (title, of_attempts) in texts {
            for (attempt, lines) in of_attempts {
                text.push_str(&format!("\nattempt {attempt}, {title}:\n"));
                for line in lines.lines() {
                    text.push_str(&format!("  {line}\n"));
                }
            }
        }
        let name = shell_quote(&format!("{}/{}", self.run(), self.task.label()));
        text.push_str(&format!(
            "\nmore: `git harness show {name} --diff`, `--prompt`, `--transcript`; `git harness log {name}`\n"
        ));
        text
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let s = self.s;
        let none = || "-".to_owned();
        let oid = |o: Option<&Oid>| o.map_or_else(none, ToString::to_string);
        let row = |a: &str, b: String| vec![a.to_owned(), b];
        let ending = s.termination.as_ref().map_or(String::new(), |e| format!(", the last: {e}"));
        let mut rows = vec![
            row("task", format!("{}/{}", self.run(), self.task.label())),
            row("state", s.phase.as_str().to_owned()),
            row("attempts", format!("{}{ending}", s.attempt)),
            row("base", oid(s.base.as_ref())),
            row("candidate", oid(s.candidate.as_ref().map(|c| &c.commit))),
            row("landed", oid(s.landed.as_ref())),
            row("output", self.output().unwrap_or_else(none)),
            row("since", human::moment(s.at)),
            row("used", human::spend(s.spend)),
        ];
        if s.evaluation.spend != Spend::default() {
            rows.push(row("evaluators", human::spend(s.evaluation.spend)));
        }
        if s.redispatches > 0 {
            rows.push(row("redispatched", human::number(s.redispatches as usize, "time")));
        }
        rows.extend(s.class.map(|class| row("session ended", class.to_string())));
        rows.extend(s.session.as_ref().map(|session| row("session", session.id.clone())));
        rows.extend(s.reason.as_ref().map(|reason| row("reason", reason.clone())));
        rows
    }
}
