//! `agent`: list the presets, or classify a captured session.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::job_file;
use crate::agent::classify::{SessionExit, classify};
use crate::agent::preset::{NAMES, Preset, PresetPermissions, SessionSource, named};
use crate::ambient;
use crate::cli as args;
use crate::domain::session::{Cost, SessionReport};
use crate::error;
use crate::job::Job;
use crate::ui::{Ui, printable, table};
use crate::wire::cli;

/// `git harness agent`
pub(super) fn run(here: &Path, args: &args::AgentArgs, ui: &Ui) -> Result<u8> {
    match &args.command {
        args::AgentCommand::List(args) => list(here, args, ui),
        args::AgentCommand::Classify(args) => classify_capture(here, args, ui),
    }
}

/// Reads a job file for its presets. Neither a repository nor the rest of the job is needed.
fn read_job(here: &Path, file: Option<&Path>) -> Result<Option<Job>> {
    let Some(file) = file else { return Ok(None) };
    let text = read(here, file)?;
    let text =
        String::from_utf8(text).with_context(|| format!("{} is not UTF-8", file.display()))?;
    Ok(Some(job_file::parse(&text, &file.display().to_string())?))
}

fn read(here: &Path, file: &Path) -> Result<Vec<u8>> {
    std::fs::read(here.join(file)).with_context(|| format!("cannot read {}", file.display()))
}

/// Returns the built-in presets and the presets of the job, if there is a job.
fn all_presets(job: Option<&Job>) -> Result<Vec<Preset>> {
    let own = job.iter().flat_map(|job| job.presets.tables.keys()).map(String::as_str);
    let new = own.filter(|name| !NAMES.contains(name));
    Ok(NAMES.into_iter().chain(new).map(|name| named(name, job)).collect::<Result<_, _>>()?)
}

fn list(here: &Path, args: &args::AgentListArgs, ui: &Ui) -> Result<u8> {
    let job = read_job(here, args.job.as_deref())?;
    let presets = all_presets(job.as_ref())?;
    if args.json {
        ui.json(&cli::AgentList { v: cli::Version, presets: &presets })?;
        return Ok(error::OK);
    }
    let mut rows =
        vec![["NAME", "SESSIONS", "PERMISSIONS", "TESTED WITH"].map(str::to_owned).to_vec()];
    for preset in &presets {
        let sessions = match (preset.session.source, preset.call.resume.is_empty()) {
            (SessionSource::None, _) | (_, true) => "new",
            (
                SessionSource::Ours | SessionSource::FirstEvent | SessionSource::EveryEvent,
                false,
            ) => "resumed",
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

/// Returns the permission profiles of a preset as text, the default first.
fn profiles(preset: &Preset) -> String {
    let default = preset.permissions.default.as_deref();
    let has = |name: &&str| preset.permissions.get(name).is_some();
    let mut names: Vec<&str> = PresetPermissions::NAMES.into_iter().filter(has).collect();
    names.sort_by_key(|name| Some(*name) != default);
    if names.is_empty() { "-".into() } else { names.join(", ") }
}

fn classify_capture(here: &Path, args: &args::AgentClassifyArgs, ui: &Ui) -> Result<u8> {
    let job = read_job(here, args.job.as_deref())?;
    let mut preset = named(&args.preset, job.as_ref())?;
    if let Some(model) = &args.model {
        preset.model = Some(model.clone());
    }
    let stdout = read(here, &args.stdout)?;
    let stderr = args.stderr.as_ref().map_or(Ok(Vec::new()), |file| read(here, file))?;
    let last = args.last_message.as_ref().map(|file| read(here, file)).transpose()?;
    let ended = SessionExit { code: args.exit, signal: args.signal, intervention: None };
    let changed = args.changed.map(|changed| changed == args::WorktreeChange::Yes);
    let report =
        classify(&preset, ended, &stdout, &stderr, last.as_deref(), changed, ambient::now());
    ui.json(&classification(&report))?;
    Ok(error::OK)
}

fn classification(report: &SessionReport) -> cli::Classification<'_> {
    let tokens = report.usage.tokens.map(|tokens| cli::Tokens {
        input: Some(tokens.input),
        output: Some(tokens.output),
        cache_read: Some(tokens.cache_read),
        cache_write: Some(tokens.cache_write),
    });
    let resets_at = report.resets_at.and_then(|at| {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?;
        Some(at.to_string())
    });
    cli::Classification {
        v: cli::Version,
        class: report.class.as_str(),
        session: report.session.as_deref(),
        tokens,
        cost_usd: report.usage.cost.map(Cost::usd),
        cumulative: report.cumulative,
        resets_at,
        denials: report.denials,
        detail: report.detail.as_deref(),
    }
}
