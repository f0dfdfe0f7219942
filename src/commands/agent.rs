//! `agent`: the presets, and what a captured ending would count as.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::agent::classify::{SessionExit, classify};
use crate::agent::preset::{NAMES, Preset, PresetPermissions, SessionSource, named};
use crate::ambient;
use crate::cli;
use crate::domain::session::{Cost, SessionReport};
use crate::error;
use crate::job::{self, Job};
use crate::ui::{Ui, printable, table};

/// `git harness agent`
pub(super) fn run(here: &Path, args: &cli::AgentArgs, ui: &Ui) -> Result<u8> {
    match &args.command {
        cli::AgentCommand::List(args) => list(here, args, ui),
        cli::AgentCommand::Classify(args) => tell(here, args, ui),
    }
}

/// A job file, for the presets that are in it: neither a repository nor the rest of the job is needed.
fn read_job(here: &Path, file: Option<&Path>) -> Result<Option<Job>> {
    let Some(file) = file else { return Ok(None) };
    let text = read(here, file)?;
    let text =
        String::from_utf8(text).with_context(|| format!("{} is not UTF-8", file.display()))?;
    Ok(Some(job::parse(&text, &file.display().to_string())?))
}

fn read(here: &Path, file: &Path) -> Result<Vec<u8>> {
    std::fs::read(here.join(file)).with_context(|| format!("cannot read {}", file.display()))
}

/// The presets that are built in, and those of a job.
fn all(job: Option<&Job>) -> Result<Vec<Preset>> {
    let own = job.iter().flat_map(|job| job.presets.tables.keys()).map(String::as_str);
    let new = own.filter(|name| !NAMES.contains(name));
    Ok(NAMES.into_iter().chain(new).map(|name| named(name, job)).collect::<Result<_, _>>()?)
}

fn list(here: &Path, args: &cli::AgentListArgs, ui: &Ui) -> Result<u8> {
    let job = read_job(here, args.job.as_deref())?;
    let presets = all(job.as_ref())?;
    if args.json {
        ui.result(&format!("{}\n", json!({"v": 1, "presets": presets})));
        return Ok(error::OK);
    }
    let mut rows = vec![["NAME", "SESSIONS", "PERMISSIONS", "TRIED"].map(str::to_owned).to_vec()];
    for preset in &presets {
        let sessions = match (preset.session.source, preset.call.resume.is_empty()) {
            (SessionSource::None, _) | (_, true) => "begin anew",
            (
                SessionSource::Ours | SessionSource::FirstEvent | SessionSource::EveryEvent,
                false,
            ) => "go on",
        };
        rows.push(vec![
            preset.name.clone(),
            sessions.into(),
            profiles(preset),
            preset.tried.clone(),
        ]);
    }
    ui.result(&printable(&table::columns(&rows)));
    Ok(error::OK)
}

/// The profiles that a preset has, the default first.
fn profiles(preset: &Preset) -> String {
    let default = preset.permissions.default.as_deref();
    let has = |name: &&str| preset.permissions.get(name).is_some();
    let mut names: Vec<&str> = PresetPermissions::NAMES.into_iter().filter(has).collect();
    names.sort_by_key(|name| Some(*name) != default);
    if names.is_empty() { "-".into() } else { names.join(", ") }
}

fn tell(here: &Path, args: &cli::AgentClassifyArgs, ui: &Ui) -> Result<u8> {
    let job = read_job(here, args.job.as_deref())?;
    let mut preset = named(&args.preset, job.as_ref())?;
    if let Some(model) = &args.model {
        preset.model = Some(model.clone());
    }
    let stdout = read(here, &args.stdout)?;
    let stderr = args.stderr.as_ref().map_or(Ok(Vec::new()), |file| read(here, file))?;
    let last = args.last_message.as_ref().map(|file| read(here, file)).transpose()?;
    let ended = SessionExit { code: args.exit, signal: args.signal, intervention: None };
    let changed = args.changed.map(|changed| changed == cli::WorktreeChange::Yes);
    let reading =
        classify(&preset, ended, &stdout, &stderr, last.as_deref(), changed, ambient::now());
    ui.result(&format!("{}\n", as_json(&reading)));
    Ok(error::OK)
}

fn as_json(reading: &SessionReport) -> serde_json::Value {
    let tokens = reading.usage.tokens.map(|tokens| {
        json!({
            "input": tokens.input, "output": tokens.output,
            "cache_read": tokens.cache_read, "cache_write": tokens.cache_write,
        })
    });
    let resets_at = reading.resets_at.and_then(|at| {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?;
        Some(at.to_string())
    });
    json!({
        "v": 1, "class": reading.class.as_str(), "session": reading.session, "tokens": tokens,
        "cost_usd": reading.usage.cost.map(Cost::usd), "cumulative": reading.cumulative,
        "resets_at": resets_at, "denials": reading.denials, "detail": reading.detail,
    })
}
