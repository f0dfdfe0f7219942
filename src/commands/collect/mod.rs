//! `collect`: what the tasks of a run have handed in, as one.

mod join;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use self::join::TaskOutput;
use super::workspace;
use crate::agent::prompt;
use crate::ambient;
use crate::cli;
use crate::domain::state::Phase;
use crate::domain::termination::Termination;
use crate::error::{self, Advice};
use crate::job::{self, OutputMerge};
use crate::process::{self, Command, Environ, Lock, StopFlag, write_atomic};
use crate::store::Store;
use crate::store::load::LoadedRun;
use crate::ui::{Ui, human, json as told};

/// How long a command that joins may take.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How much it may print, in bytes. What prints more is not understood by halves.
const CAP: u64 = 1 << 30;

/// `git harness collect`
pub(super) fn run(here: &Path, args: &cli::CollectArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let run = workspace::find_run(&store, args.run.as_deref())?;
    let loaded = workspace::load_run(&store, &run)?;
    let job =
        job::parse(&loaded.job_text, &format!("{} (as pinned in `{run}`)", loaded.manifest.file))?;
    let summary = summary(&loaded);
    let (text, said) = match &job.output {
        None => {
            let tasks = changes(&loaded);
            if args.page {
                bail!(
                    "`--page` needs `[output] page`, which only jobs with `kind = \"report\"` have"
                );
            }
            let text = if args.json {
                with_newline(
                    &json!({"v": 1, "run": run.as_str(), "summary": summary, "tasks": tasks}),
                )
            } else {
                join::array(&tasks)?
            };
            (text, "landed")
        }
        Some(output) => {
            let found = outputs(&store, &loaded, &output.path)?;
            let text = if args.page {
                page(&store, &loaded, output, &summary, &found)?
            } else if args.json {
                let each = found.iter().map(|o| {
                    Ok(json!({
                        "task": o.task, "files": o.files, "output": content(o),
                    }))
                });
                let each = each.collect::<Result<Vec<Value>>>()?;
                with_newline(
                    &json!({"v": 1, "run": run.as_str(), "summary": summary, "outputs": each}),
                )
            } else {
                match &output.merge {
                    OutputMerge::JsonArray => join::array(&join::items(&found)?)?,
                    OutputMerge::Jsonl => join::lines(&join::items(&found)?),
                    OutputMerge::Concat => join::concat(&found),
                    OutputMerge::Command(argv) => by_command(&store, &loaded, argv, &found)?,
                }
            };
            (text, "handed in")
        }
    };
    match &args.output {
        None => ui.result_bytes(&text),
        Some(path) => {
            let path = here.join(path);
            write_atomic(&path, &text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    ui.message(&share(&summary, said));
    Ok(error::OK)
}

fn with_newline(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

/// How much of the run is there, and what is missing.
fn summary(loaded: &LoadedRun) -> Value {
    let state = &loaded.ledger.state;
    let around = told::StatusContext::default();
    let mut missing = Vec::new();
    let (mut all, mut done) = (0, 0);
    for task in &state.plan.tasks {
        let Some(s) = state.tasks.get(&task.id) else { continue };
        // Its parts are counted in its place.
        if state.split.contains_key(&task.id) {
            continue;
        }
        all += 1;
        if s.phase == Phase::Done {
            done += 1;
        } else {
            let word = told::shown(state, task, s, &around);
            missing.push(json!({"id": task.id.as_str(), "state": word, "files": task.files}));
        }
    }
    let share = if all == 0 { 1.0 } else { f64::from(done) / f64::from(all) };
    json!({"state": state.summary(), "tasks": all, "done": done, "share": share, "missing": missing})
}

/// The same for people.
fn share(summary: &Value, done: &str) -> String {
    let number = |key: &str| usize::try_from(summary[key].as_u64().unwrap_or(0)).unwrap_or(0);
    let percent = summary["share"].as_f64().unwrap_or(0.0) * 100.0;
    let all = human::number(number("tasks"), "task");
    let mut text = format!("{} of {all} {done} ({percent:.1} %)", number("done"));
    let missing = summary["missing"].as_array().map_or(&[][..], Vec::as_slice);
    if !missing.is_empty() {
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        for task in missing {
            *counts.entry(task["state"].as_str().unwrap_or("?")).or_default() += 1;
        }
        let words: Vec<_> = counts.iter().map(|(word, n)| format!("{n} {word}")).collect();
        text.push_str(&format!("; not in it: {}", words.join(", ")));
    }
    text
}

/// What was handed in, in the plan's order.
fn outputs(store: &Store, loaded: &LoadedRun, path: &str) -> Result<Vec<TaskOutput>> {
    let state = &loaded.ledger.state;
    let mut found = Vec::new();
    for task in &state.plan.tasks {
        let Some(s) = state.tasks.get(&task.id).filter(|s| s.phase == Phase::Done) else {
            continue;
        };
        let Some(candidate) = &s.candidate else { continue };
        let bytes = store.repo().read_blob_at(&candidate.tree, path)?;
        let bytes =
            bytes.with_context(|| format!("what `{}` handed in is gone: {path}", task.id))?;
        found.push(TaskOutput { task: task.id.to_string(), files: task.files.clone(), bytes });
    }
    Ok(found)
}

/// What was handed in as JSON, or as the text that it is.
fn content(output: &TaskOutput) -> Value {
    serde_json::from_slice(&output.bytes)
        .unwrap_or_else(|_| String::from_utf8_lossy(&output.bytes).into())
}

/// What became of each task whose work is a change, with what its prompt was told: which finding was fixed by which
/// commit.
fn changes(loaded: &LoadedRun) -> Vec<Value> {
    let state = &loaded.ledger.state;
    let around = told::StatusContext::default();
    let mut tasks = Vec::new();
    for task in &state.plan.tasks {
        let Some(s) = state.tasks.get(&task.id).filter(|_| !state.split.contains_key(&task.id))
        else {
            continue;
        };
        let vars: Value = serde_json::from_str(&task.vars).unwrap_or_else(|_| json!({}));
        let word = told::shown(state, task, s, &around);
        let commit = s.landed.as_ref().map(crate::domain::id::Oid::as_str);
        if let Some(findings) =
            vars["findings"].as_array().filter(|all| all.iter().all(Value::is_object))
        {
            for finding in findings {
                let mut fixed = finding.clone();
                fixed["task"] = json!(task.id.as_str());
                fixed["state"] = json!(word);
                fixed["commit"] = json!(commit);
                tasks.push(fixed);
            }
            continue;
        }
        tasks.push(json!({
            "task": task.id.as_str(), "files": task.files, "state": word,
            "commit": commit, "reason": s.reason, "vars": vars,
        }));
    }
    tasks
}

/// The page for people that the job's template makes of it.
fn page(
    store: &Store,
    loaded: &LoadedRun,
    output: &job::OutputSection,
    summary: &Value,
    found: &[TaskOutput],
) -> Result<Vec<u8>> {
    let Some(name) = &output.page else {
        return Err(Advice::new(
            "the job says nothing of a page",
            "`page = \"review.md.j2\"` in [output] names the template of one",
        )
        .into());
    };
    let pinned = store.pinned(&loaded.ledger.run_tip.tree)?;
    let bytes =
        pinned.get(name).with_context(|| format!("the pinned template is missing: {name}"))?;
    let text = String::from_utf8_lossy(bytes);
    let outputs: Vec<_> = found
        .iter()
        .map(|o| json!({"task": o.task, "files": o.files, "output": content(o)}))
        .collect();
    let items = join::items(found)?;
    let values = json!({
        "run": loaded.manifest.run, "job": loaded.manifest.job, "base": loaded.manifest.base,
        "summary": summary, "outputs": outputs, "items": items,
    });
    Ok(prompt::render_template((name, &text), &values)?.into_bytes())
}

/// What the job's own program makes of it: on standard input it finds a line of JSON for each output, with the task, its
/// files and the path of the output.
fn by_command(
    store: &Store,
    loaded: &LoadedRun,
    argv: &[String],
    found: &[TaskOutput],
) -> Result<Vec<u8>> {
    let ctx = workspace::context(store, loaded)?;
    let folder = store.local().collecting(&ctx.run);
    std::fs::create_dir_all(folder.join("tmp"))
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let _lock = Lock::try_take(&folder.join("lock"), &process::Holder::this_process().to_string())?
        .map_err(|holder| anyhow::anyhow!("another process collects this run: {holder}"))?;
    let mut lines = String::new();
    for (number, output) in found.iter().enumerate() {
        let path = folder.join(format!("output-{}", number + 1));
        std::fs::write(&path, &output.bytes)?;
        lines.push_str(
            &json!({"task": output.task, "files": output.files, "path": path}).to_string(),
        );
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
        let said = std::fs::read(&command.stderr).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        bail!(
            "`[output] command` did not succeed ({how}, {} bytes printed): {}",
            ended.stdout_bytes,
            said.trim_end()
        );
    }
    let joined = std::fs::read(&command.stdout)?;
    std::fs::remove_dir_all(&folder).ok();
    Ok(joined)
}
