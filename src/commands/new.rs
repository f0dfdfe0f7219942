//! `new`: have an agent write a job. The writing is itself a job: an agent works in a worktree, a
//! program checks the result, and another session grades it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::init::recipe_file;
use super::{job_file, start, workspace};
use crate::agent::prompt;
use crate::ambient;
use crate::cli;
use crate::domain::id::{Oid, RunId};
use crate::error::{self, Advice};
use crate::job;
use crate::process::write_atomic;
use crate::repo;
use crate::store::Store;
use crate::store::create::next_run;
use crate::ui::Ui;
use crate::wire::cli as wire;

/// Embeds a file below `fixtures`.
macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/", $name))
    };
}

/// The prompt of the writing agent.
const PROMPT: &str = fixture!("new/prompt.md");
/// The prompt of the grading agent.
const EVALUATE: &str = fixture!("new/evaluate.md");
/// The template of the SKILL.md that tells an agent how to run the new job.
const SKILL: &str = fixture!("new/SKILL.md");
/// Example job files that together use every key.
const REFERENCE: [&str; 2] = [fixture!("jobs/complete.toml"), fixture!("jobs/report.toml")];

/// The folder that holds the named jobs.
const FOLDER: &str = ".harness";
/// The files of the skeleton.
const SKELETON: [&str; 2] = [job::FILE_NAME, "prompt.md"];
/// The number of words of the description that make up the default name of the job.
const WORDS: usize = 4;
/// Maximum rounds of grading.
const ROUNDS: i64 = 3;

/// `git harness new`
pub(super) fn run(here: &Path, args: &cli::NewArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    let Some(top) = store.repo().top().map(Path::to_path_buf) else {
        bail!("this repository has no work tree to write a job into");
    };
    let name = name(args)?;
    let folder = Path::new(FOLDER).join(&name);
    if top.join(&folder).exists() {
        let hint = "`--name` gives the new job another name";
        return Err(
            Advice::new(format!("the job exists already: {}", folder.display()), hint).into()
        );
    }
    let scratch = store.local().root().join("new").join(&name);
    let run = match unfinished(&store, &name, &scratch)? {
        Some(run) => run,
        None => {
            prepare(&store, here, args, &name, &scratch)?;
            next_run(&store, &format!("new-{name}"))?
        }
    };
    ui.status(&format!(
        "writing the job `{name}` with an agent; a program checks the job, and another session grades it"
    ));
    let job = scratch.join(job::FILE_NAME).to_string_lossy().into_owned();
    let start_args =
        cli::StartArgs { job: Some(job), run: Some(run.to_string()), ..cli::StartArgs::default() };
    let code = start::run(here, &start_args, ui)?;
    if code != error::OK {
        ui.status(&format!(
            "the job is not written yet: `git harness status {run}` shows why; the same command continues"
        ));
        return Ok(code);
    }
    deliver(&store, &top, &folder, &name, &run, &args.description, ui)?;
    std::fs::remove_dir_all(&scratch).ok();
    Ok(error::OK)
}

/// Returns the job's name: from `--name`, else the first words of the description.
fn name(args: &cli::NewArgs) -> Result<String> {
    if let Some(name) = &args.name {
        let plain = job::slug(name);
        if plain != *name {
            let hint = format!("a job's name holds a-z, 0-9, `-` and `_`, such as `{plain}`");
            return Err(Advice::new(format!("invalid job name: {name}"), hint).into());
        }
        return Ok(plain);
    }
    let words: Vec<_> = args.description.split_whitespace().take(WORDS).collect();
    if words.is_empty() {
        let hint = "describe in a sentence or two what to do and how to see that it is done";
        return Err(Advice::new("the description is empty", hint).into());
    }
    Ok(job::slug(&words.join(" ")))
}

/// Returns the last run that writes a job of this name, if the run has not ended.
fn unfinished(store: &Store, name: &str, scratch: &Path) -> Result<Option<RunId>> {
    let Some(run) = workspace::latest_run(store, &format!("new-{name}"))? else { return Ok(None) };
    if !scratch.join(job::FILE_NAME).is_file() {
        return Ok(None);
    }
    let ended = store.load(&run)?.is_none_or(|loaded| loaded.ledger.state.ended());
    Ok((!ended).then_some(run))
}

/// Writes the job that has an agent write the new job. Its base is a new commit with the skeleton.
fn prepare(
    store: &Store,
    here: &Path,
    args: &cli::NewArgs,
    name: &str,
    scratch: &Path,
) -> Result<()> {
    let folder = format!("{FOLDER}/{name}");
    let base = skeleton(store, &folder, name)?;
    let (agent, presets) = agent_tables(store, here, args)?;
    let text = job_text(args, name, &folder, &base, agent, presets)?;
    std::fs::create_dir_all(scratch)
        .with_context(|| format!("cannot make the folder {}", scratch.display()))?;
    let files = [(job::FILE_NAME, text.as_str()), ("prompt.md", PROMPT), ("evaluate.md", EVALUATE)];
    for (file, text) in files {
        let path = scratch.join(file);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Makes a commit with a skeleton of the new job. The commit's parent is `HEAD`.
fn skeleton(store: &Store, folder: &str, name: &str) -> Result<Oid> {
    let repo = store.repo();
    let head = repo.resolve_commit("HEAD")?;
    let mut files = Vec::new();
    for file in SKELETON {
        let text = recipe_file("blank", file).context("the recipe `blank` is not whole")?;
        let text = text.replace("{{ name }}", name).replace(&format!("\"{FOLDER}/"), "\"");
        files.push((format!("{folder}/{file}"), Some(repo::write_blob(repo, text.as_bytes())?)));
    }
    let tree = repo::edit_tree(repo, Some(&repo.tree_of(&head)?), &files)?;
    let time = i64::try_from(ambient::now().0 / 1000).unwrap_or(0);
    let message = format!("{name}: the skeleton of a job\n");
    repo::commit(repo, &tree, &[head], &message, &repo.identity(), time)
}

/// Returns the `[agent]` and `[presets]` tables: from the named or default job, or from `--preset`.
fn agent_tables(
    store: &Store,
    here: &Path,
    args: &cli::NewArgs,
) -> Result<(toml::Table, toml::Table)> {
    let default = store.repo().top().is_some_and(|top| top.join(job::FILE_NAME).is_file());
    let mut agent = toml::Table::new();
    let mut presets = toml::Table::new();
    if args.job.is_some() || (default && args.preset.is_none()) {
        let found = job_file::load(store.repo(), here, args.job.as_deref())?;
        let text: toml::Table = toml::from_str(&found.text)?;
        let table = |key: &str| text.get(key).and_then(toml::Value::as_table).cloned();
        agent = table("agent").unwrap_or_default();
        presets = table("presets").unwrap_or_default();
        for key in ["prompt", "allow-empty"] {
            agent.remove(key);
        }
    }
    if let Some(preset) = &args.preset {
        agent.insert("preset".into(), preset.clone().into());
    } else if !agent.contains_key("preset") && !agent.contains_key("command") {
        agent.insert("preset".into(), "claude".into());
    }
    if let Some(model) = &args.model {
        agent.insert("model".into(), model.clone().into());
    }
    Ok((agent, presets))
}

fn job_text(
    args: &cli::NewArgs,
    name: &str,
    folder: &str,
    base: &Oid,
    agent: toml::Table,
    presets: toml::Table,
) -> Result<String> {
    let program = ambient::program().context("cannot find this program's own file")?;
    let program = program.to_string_lossy().into_owned();
    let files: Vec<String> = SKELETON.iter().map(|file| format!("{folder}/{file}")).collect();
    let mut evaluate = agent.clone();
    evaluate.insert("prompt".into(), "evaluate.md".into());
    evaluate.insert("rounds".into(), ROUNDS.into());
    let mut agent = agent;
    agent.insert("prompt".into(), "prompt.md".into());
    let strings = |list: &[String]| {
        toml::Value::Array(list.iter().map(|text| text.as_str().into()).collect())
    };
    // The program is called by its path: a bare name could find a program of the user's own work
    // tree.
    let validate = ["validate", "--strict", files[0].as_str()].map(str::to_owned);
    let run = [&[program][..], &validate].concat();
    let [reference, reports] = REFERENCE;
    // The check runs at the stage `task` only: the skeleton is not a valid job, and nothing else
    // lands on this branch.
    let job = toml::toml! {
        [plan]
        group = "list"
        [[check]]
        name = "validate"
        timeout = "2m"
        when = ["task"]
        [retry]
        feedback = 3
        redispatch = 0
        [limits]
        jobs = 1
    };
    let mut text = job;
    let mut table = |key: &str, table: toml::Table| {
        let old = text.entry(key).or_insert_with(|| toml::Table::new().into());
        if let Some(old) = old.as_table_mut() {
            old.extend(table);
        }
    };
    let of = |pairs: Vec<(&str, toml::Value)>| -> toml::Table {
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    };
    let goal = format!("Write a job for git harness that does this: {}", args.description.trim());
    table(
        "job",
        of(vec![
            ("name", format!("new-{name}").into()),
            ("goal", goal.into()),
            ("base", base.to_string().into()),
        ]),
    );
    let vars = of(vec![
        ("description", args.description.trim().into()),
        ("reference", reference.into()),
        ("reports", reports.into()),
    ]);
    let task = of(vec![("id", name.into()), ("files", strings(&files))]);
    table("plan", of(vec![("vars", vars.into()), ("task", toml::Value::Array(vec![task.into()]))]));
    table("agent", agent);
    table("evaluate", evaluate);
    table("presets", presets);
    table("scope", of(vec![("write", strings(&[format!("{folder}/**")]))]));
    if let Some(check) = text.get_mut("check").and_then(|list| list.as_array_mut()?.first_mut()) {
        check.as_table_mut().context("a check is a table")?.insert("run".into(), strings(&run));
    }
    Ok(toml::to_string(&text)?)
}

/// Writes the job that the run produced into the work tree, with a SKILL.md.
fn deliver(
    store: &Store,
    top: &Path,
    folder: &Path,
    name: &str,
    run: &RunId,
    description: &str,
    ui: &Ui,
) -> Result<()> {
    let (manifest, _) = store.manifest(run)?.context("the run went away")?;
    let tip = store.read(&manifest.target)?.context("the result of the run is gone")?;
    let tree = store.repo().tree_of(&tip)?;
    let base = store.repo().tree_of(&manifest.base()?)?;
    let prefix = format!("{}/", folder.display());
    let changed = repo::changed_paths(store.repo(), &base, &tree)?;
    let mut paths: Vec<String> = SKELETON.iter().map(|file| format!("{prefix}{file}")).collect();
    paths.extend(changed.into_iter().map(|c| c.path).filter(|p| p.starts_with(&prefix)));
    paths.sort();
    paths.dedup();
    let mut job_text = String::new();
    for path in paths {
        let Some(bytes) = store.repo().read_blob_at(&tree, &path)? else { continue };
        if path.ends_with(job::FILE_NAME) {
            job_text = String::from_utf8_lossy(&bytes).into_owned();
        }
        write(top, &PathBuf::from(&path), &bytes, ui)?;
    }
    let job = job::parse(&job_text, job::FILE_NAME)?;
    let line = front_matter_line(description)?;
    let values = wire::SkillPage {
        name,
        line: &line,
        description: description.trim(),
        report: job.job.kind == job::JobKind::Report,
    };
    let values = serde_json::to_value(values)?;
    let skill = prompt::render_template(("SKILL.md", SKILL), &values)?;
    write(top, &folder.join("SKILL.md"), skill.as_bytes(), ui)?;
    ui.status(&format!(
        "next:\n  read {prefix}harness.toml and {prefix}prompt.md: an agent wrote them\n  \
         git harness plan {name}            list the tasks\n  \
         git harness start {name} --only TASK   try one task"
    ));
    Ok(())
}

/// Returns the description as one line for the front matter of SKILL.md. A JSON string is also a
/// YAML string.
fn front_matter_line(description: &str) -> Result<String> {
    let words: Vec<_> = description.split_whitespace().collect();
    let text = format!(
        "{} Use this to run the job, to continue it, or to see its state.",
        words.join(" ")
    );
    Ok(serde_json::to_string(&text)?)
}

fn write(top: &Path, path: &Path, bytes: &[u8], ui: &Ui) -> Result<()> {
    let to = top.join(path);
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot make the folder {}", parent.display()))?;
    }
    write_atomic(&to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
    ui.result(&format!("wrote {}\n", path.display()));
    Ok(())
}
