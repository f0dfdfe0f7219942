//! `collect`: join the outputs of a run's tasks.

mod counts;
mod join;
mod newest;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use self::join::TaskOutput;
use super::names::{self, RunUse};
use super::workspace::{self, Workspace};
use crate::agent::prompt;
use crate::ambient;
use crate::cli as args;
use crate::domain::id::Oid;
use crate::domain::state::Phase;
use crate::domain::termination::Termination;
use crate::error::{self, Advice};
use crate::job::{OutputMerge, OutputSection};
use crate::landing::finding_outcomes::{FindingOutcome, StatedOutcomes, findings_of, is_change};
use crate::process::{self, Command, Environ, Lock, StopFlag, write_atomic};
use crate::ui::json::{StatusContext, shown};
use crate::ui::{Ui, human};
use crate::wire::cli;

/// Time limit of the job's join command.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Maximum output of the join command in bytes. A longer output is an error and is never truncated.
const CAP: u64 = 1 << 30;

/// `git harness collect`
pub(super) fn run(here: &Path, args: &args::CollectArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = names::find_run(&store, args.run.as_deref(), RunUse::Read)?;
    let workspace = Workspace::load(&store, &run)?;
    let summary = summarize(&workspace);
    let (text, verb) = match &workspace.job()?.output {
        None => (collect_changes(&workspace, &summary, args)?, "done"),
        Some(output) => (collect_outputs(&workspace, &summary, output, args)?, "handed in"),
    };
    match &args.output {
        None => ui.result_bytes(&text),
        Some(path) => {
            let path = here.join(path);
            write_atomic(&path, &text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    ui.message(&progress(&summary, verb));
    Ok(error::OK)
}

/// Collects the outcomes of a job whose tasks change files.
fn collect_changes(
    workspace: &Workspace,
    summary: &cli::CollectSummary,
    args: &args::CollectArgs,
) -> Result<Vec<u8>> {
    if args.page {
        bail!("`--page` needs `[output] page`, which only jobs with `kind = \"report\"` have");
    }
    let tasks = changes(workspace)?;
    if args.json {
        let (run, tasks) = (workspace.run().as_str(), tasks.as_slice());
        json_line(&cli::CollectedChanges { v: cli::Version, run, summary, tasks })
    } else {
        join::array(&tasks)
    }
}

/// Collects the output files of a job whose tasks hand in files.
fn collect_outputs(
    workspace: &Workspace,
    summary: &cli::CollectSummary,
    output: &OutputSection,
    args: &args::CollectArgs,
) -> Result<Vec<u8>> {
    let outputs = outputs(workspace, &output.path)?;
    if args.page {
        return page(workspace, output, summary, &outputs);
    }
    if args.json {
        return json_line(&cli::CollectedOutputs {
            v: cli::Version,
            run: workspace.run().as_str(),
            summary,
            counts: counts::count(&join::items(&outputs).unwrap_or_default()),
            outputs: outputs.iter().map(collected).collect(),
        });
    }
    match &output.merge {
        OutputMerge::JsonArray => join::array(&join::items(&outputs)?),
        OutputMerge::Jsonl => Ok(join::lines(&join::items(&outputs)?)),
        OutputMerge::Concat => Ok(join::concat(&outputs)),
        OutputMerge::Command(argv) => join_by_command(workspace, argv, &outputs),
    }
}

fn json_line(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Counts the done tasks and lists the tasks that are not done.
fn summarize(workspace: &Workspace) -> cli::CollectSummary {
    let state = workspace.state();
    let context = StatusContext::default();
    let mut missing = Vec::new();
    let (mut tasks, mut done, mut skipped) = (0, 0, 0);
    for task in state.tasks.planned() {
        let Some(s) = state.tasks.get(&task.id) else { continue };
        if state.is_replaced(&task.id) {
            continue;
        }
        tasks += 1;
        if s.phase == Phase::Done {
            done += 1;
        } else {
            skipped += u32::from(s.phase == Phase::Skipped);
            missing.push(cli::MissingTask {
                id: task.id.to_string(),
                state: shown(state, task, s, &context),
                files: task.files.clone(),
            });
        }
    }
    let counted = tasks - skipped;
    let share = if counted == 0 { 1.0 } else { f64::from(done) / f64::from(counted) };
    cli::CollectSummary { state: state.summary(), tasks, done, share, missing }
}

/// Formats the summary as one line for people.
fn progress(summary: &cli::CollectSummary, verb: &str) -> String {
    let skipped = summary.missing.iter().filter(|task| task.state == "skipped").count();
    let tasks = human::number(summary.tasks as usize - skipped, "task");
    let percent = summary.share * 100.0;
    let mut text = format!("{} of {tasks} {verb} ({percent:.1} %)", summary.done);
    if !summary.missing.is_empty() {
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        for task in &summary.missing {
            *counts.entry(task.state).or_default() += 1;
        }
        let counts: Vec<_> = counts.iter().map(|(state, n)| format!("{n} {state}")).collect();
        text.push_str(&format!("; missing: {}", counts.join(", ")));
    }
    text
}

/// Returns the outputs of done tasks, in the plan's order, without the parts about files that have
/// a newer output or that do not exist any more.
fn outputs(workspace: &Workspace, path: &str) -> Result<Vec<TaskOutput>> {
    let state = workspace.state();
    let mut outputs = Vec::new();
    for task in state.tasks.planned() {
        let Some(s) = state.tasks.get(&task.id).filter(|s| s.phase == Phase::Done) else {
            continue;
        };
        let Some(candidate) = &s.candidate else { continue };
        let bytes = workspace.store.repo().read_blob_at(&candidate.tree, path)?;
        let bytes =
            bytes.with_context(|| format!("the output of `{}` is gone: {path}", task.id))?;
        let (id, files) = (task.id.to_string(), task.files.clone());
        outputs.push(TaskOutput { task: id, files, bytes, at: s.at.0 });
    }
    let repo = workspace.store.repo();
    let base = repo.tree_of(&workspace.loaded.manifest.base()?)?;
    // A path that cannot be looked up counts as present: nothing is left out by mistake.
    Ok(newest::newest(outputs, &|path| repo.has_entry(&base, path).unwrap_or(true)))
}

/// Converts an output for `--json` and templates: to JSON if the output parses as JSON, else to a
/// string.
fn collected(output: &TaskOutput) -> cli::CollectedOutput<'_> {
    let content = serde_json::from_slice(&output.bytes)
        .unwrap_or_else(|_| String::from_utf8_lossy(&output.bytes).into());
    cli::CollectedOutput { task: &output.task, files: &output.files, output: content }
}

/// Returns the outcome of each task that changes files. A task with findings in its variables
/// yields one item for each finding, with its outcome and the commit that fixed it.
fn changes(workspace: &Workspace) -> Result<Vec<Value>> {
    let state = workspace.state();
    let context = StatusContext::default();
    let mut items = Vec::new();
    for task in state.tasks.planned() {
        let Some(s) = state.tasks.get(&task.id).filter(|_| !state.split.contains_key(&task.id))
        else {
            continue;
        };
        let vars = serde_json::from_str(&task.vars).unwrap_or_else(|_| Value::Object(Map::new()));
        let (id, shown) = (task.id.as_str(), shown(state, task, s, &context));
        let commit = s.landed.as_ref().map(Oid::as_str);
        if let Some(findings) = findings_of(&vars) {
            let stated = StatedOutcomes::read(&workspace.store, s.candidate.as_ref())?;
            let changed =
                s.candidate.as_ref().map(|c| is_change(&workspace.store, c)).transpose()?;
            let has_landed = commit.is_some() && changed == Some(true);
            for (number, finding) in findings.into_iter().enumerate() {
                let outcome = stated.of(number + 1, finding, has_landed, s.phase == Phase::Done);
                let commit = commit.filter(|_| outcome == FindingOutcome::Fixed);
                let fixed = cli::FixedFinding {
                    finding,
                    task: id,
                    state: shown,
                    outcome: outcome.as_str(),
                    why: outcome.why(),
                    commit,
                };
                items.push(serde_json::to_value(fixed)?);
            }
        } else {
            let (files, reason) = (task.files.as_slice(), s.reason.as_deref());
            let change = cli::ChangeTask { task: id, files, state: shown, commit, reason, vars };
            items.push(serde_json::to_value(change)?);
        }
    }
    Ok(items)
}

/// Renders the job's template for people.
fn page(
    workspace: &Workspace,
    output: &OutputSection,
    summary: &cli::CollectSummary,
    outputs: &[TaskOutput],
) -> Result<Vec<u8>> {
    let Some(name) = &output.page else {
        return Err(Advice::new(
            "the job has no page",
            "name a template with `page = \"review.md.j2\"` in [output]",
        )
        .into());
    };
    let pinned = workspace.store.pinned(&workspace.loaded.ledger.run_tip.tree)?;
    let bytes =
        pinned.get(name).with_context(|| format!("the pinned template is missing: {name}"))?;
    let text = String::from_utf8_lossy(bytes);
    let manifest = &workspace.loaded.manifest;
    let values = cli::CollectPage {
        run: &manifest.run,
        job: &manifest.job,
        base: &manifest.base,
        summary,
        outputs: outputs.iter().map(collected).collect(),
        items: join::items(outputs)?,
    };
    Ok(prompt::render_template((name, &text), &serde_json::to_value(values)?)?.into_bytes())
}

/// Joins outputs with the job's own program. The program reads one line of JSON for each output
/// from standard input: the task, its files and the path of the output.
fn join_by_command(
    workspace: &Workspace,
    argv: &[String],
    outputs: &[TaskOutput],
) -> Result<Vec<u8>> {
    let store = &workspace.store;
    let ctx = workspace.context()?;
    let folder = store.local().collecting(&ctx.run);
    std::fs::create_dir_all(folder.join("tmp"))
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let _lock = Lock::try_take(&folder.join("lock"), &process::Holder::this_process().to_string())?
        .map_err(|holder| anyhow::anyhow!("another process is collecting this run: {holder}"))?;
    let mut lines = String::new();
    for (number, output) in outputs.iter().enumerate() {
        let path = folder.join(format!("output-{}", number + 1));
        std::fs::write(&path, &output.bytes)?;
        let line = cli::OutputFile { task: &output.task, files: &output.files, path: &path };
        lines.push_str(&serde_json::to_string(&line)?);
        lines.push('\n');
    }
    let list = folder.join("outputs.jsonl");
    std::fs::write(&list, lines)?;
    let argv = argv.iter().map(|arg| {
        let plain = arg.strip_prefix("./").unwrap_or(arg);
        let pinned = ctx.overlay.iter().find(|(path, _)| path == plain);
        pinned.map_or_else(|| OsString::from(arg), |(_, source)| source.into())
    });
    let env =
        Environ::for_command(&ambient::environment(), &folder.join("tmp"), &ctx.identity, &[]);
    let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
    let command = Command::new(argv, &folder, &ambient::nonce(), stdout, stderr)
        .env(env)
        .stdin_file(list)
        .cap(CAP)
        .timeout(TIMEOUT);
    let ended = process::run(&command, &StopFlag::new()?)?;
    if ended.termination != Termination::Exited(0) || ended.stdout_kept < ended.stdout_bytes {
        let how = ended.termination;
        let stderr = std::fs::read(&command.stderr).unwrap_or_default();
        let stderr = String::from_utf8_lossy(&stderr);
        bail!(
            "`[output] command` failed ({how}, {} bytes printed): {}",
            ended.stdout_bytes,
            stderr.trim_end()
        );
    }
    let joined = std::fs::read(&command.stdout)?;
    std::fs::remove_dir_all(&folder).ok();
    Ok(joined)
}
