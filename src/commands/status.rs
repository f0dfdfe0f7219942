//! `status`: how a run stands, at a glance.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::estimate::PlannedVsReported;
use super::workspace::{self, NoRun};
use crate::ambient;
use crate::cli;
use crate::domain::account::Account;
use crate::domain::id::RunId;
use crate::domain::machine::{blocked, stalled};
use crate::domain::session::Spend;
use crate::domain::state::{Phase, RunPhase, RunState};
use crate::error;
use crate::job::{self, TokenBudget};
use crate::landing;
use crate::planning;
use crate::repo;
use crate::store::Store;
use crate::store::layout;
use crate::store::load::LoadedRun;
use crate::ui::{Ui, human, json, table};

/// How often `--watch` looks.
const WATCH: Duration = Duration::from_secs(1);
/// How many tasks of each kind are named.
const NAMED: usize = 10;

/// `git harness status`
pub(super) fn run(here: &Path, args: &cli::StatusArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_read_only(here)?;
    let run = match workspace::find_run(&store, args.run.as_deref()) {
        Ok(run) => run,
        Err(problem) if args.exit_code && problem.is::<NoRun>() => {
            ui.error("error", &problem);
            return Ok(error::ENDED);
        }
        Err(problem) => return Err(problem),
    };
    loop {
        // Never given back: the process ends when it has been shown, and giving back what thousands of tasks say takes as long
        // as reading it.
        let loaded = ManuallyDrop::new(workspace::view_run(&store, &run)?);
        let around = surroundings(&store, &loaded)?;
        let state = &loaded.ledger.state;
        if args.json {
            let value = json::status(&loaded.manifest, state, &around);
            ui.result(&format!("{value}\n"));
        } else if args.porcelain {
            ui.result(&porcelain(state, &around));
        } else {
            let text = picture(&loaded, &around, measured(&store, &loaded)?);
            if args.watch { ui.redraw(&text) } else { ui.result(&text) }
        }
        if !args.watch || state.ended() || state.phase == RunPhase::Cancelled {
            let open = !state.ended();
            return Ok(if args.exit_code && open { error::INCOMPLETE } else { error::OK });
        }
        // Who watches looks again and again.
        drop(ManuallyDrop::into_inner(loaded));
        ambient::pause(WATCH);
    }
}

/// What is known beside the refs: who drives, what waits for a person.
fn surroundings(store: &Store, loaded: &LoadedRun) -> Result<json::StatusContext> {
    let run: &RunId = &loaded.ledger.state.id;
    let mut around = json::StatusContext {
        driver: workspace::driver(store, run),
        reason: None,
        landing: workspace::landing_task(store, loaded)?,
        output: workspace::output_path(loaded),
        measured: measured(store, loaded)?.map(|(m, _)| [m.planned, m.reported, m.factor]),
    };
    if loaded.ledger.state.count(&Phase::Queued) > 0 {
        around.reason = in_the_way(store, loaded)?;
    }
    let state = &loaded.ledger.state;
    if stalled(state) && state.phase == RunPhase::Active && around.driver.is_none() {
        around.reason = Some(format!(
            "what is left waits for tasks that failed or were skipped: {}; `git harness retry` them, or \
             `git harness start --keep-going`",
            human::number(blocked(state).len(), "task")
        ));
    }
    Ok(around)
}

/// Why what waits to land cannot land, if a work tree of the target is in the way.
fn in_the_way(store: &Store, loaded: &LoadedRun) -> Result<Option<String>> {
    let target = &loaded.manifest.target;
    let queued = loaded.ledger.state.tasks.values().filter(|s| s.phase == Phase::Queued);
    let (Some(candidate), Some(tip)) =
        (queued.filter_map(|s| s.candidate.as_ref()).next(), store.read(target)?)
    else {
        return Ok(None);
    };
    if repo::checkouts(store.repo(), target)?.is_empty() {
        return Ok(None);
    }
    let base = landing::merge_base(store.repo(), &tip, candidate)?;
    let landing::LandingMerge::Tree(tree) =
        landing::merge_onto(store.repo(), &base, &tip, candidate)?
    else {
        return Ok(None);
    };
    let why = store.holds_landing(target, &tip, &tree)?;
    Ok(why.map(|why| format!("landing on `{}` waits: {why}", layout::short(target))))
}

fn porcelain(state: &RunState, around: &json::StatusContext) -> String {
    let mut text = String::new();
    for task in &state.plan.tasks {
        if let Some(s) = state.tasks.get(&task.id) {
            let landed = s.landed.as_ref().map_or("-", crate::domain::id::Oid::as_str);
            let word = json::shown(state, task, s, around);
            text.push_str(&format!("{word} {} {} {landed}\n", task.id, s.attempt));
        }
    }
    text
}

fn picture(
    loaded: &LoadedRun,
    around: &json::StatusContext,
    measured: Option<(PlannedVsReported, TokenBudget)>,
) -> String {
    let state = &loaded.ledger.state;
    let driver = match (&around.driver, state.summary()) {
        (Some(who), _) => format!("driven by {who}"),
        (None, "ended" | "cancelled") => "nothing left to do".to_owned(),
        (None, "halted") => "it waits for you".to_owned(),
        (None, _) => "nobody drives it: `git harness start` goes on".to_owned(),
    };
    let done = state.count(&Phase::Done);
    let row = |a: &str, b: String| vec![a.to_owned(), b];
    let mut rows = vec![
        row("run", format!("{} ({}; {driver})", state.id, state.summary())),
        match &around.output {
            None => {
                row("target", format!("{}, {done} landed", layout::short(&loaded.manifest.target)))
            }
            Some(path) => {
                let how = format!("`git harness collect {}` joins them", state.id);
                row("outputs", format!("{path}, {done} handed in; {how}"))
            }
        },
        row("tasks", format!("{}: {}", state.tasks.len(), human::counts(state))),
    ];
    rows.extend(rate(state).map(|text| row("rate", text)));
    rows.push(row("cost", human::spend(state.spend())));
    rows.extend(measured.map(|(measured, budget)| row("tokens", measured.words(budget))));
    if state.evaluation_spend() != Spend::default() {
        rows.push(row("evaluators", human::spend(state.evaluation_spend())));
    }
    rows.extend(account(&state.account, "agent").map(|text| row("account", text)));
    rows.extend(account(&state.evaluator, "evaluator").map(|text| row("account", text)));
    let mut text = table::columns(&rows);
    let reason = around.reason.as_ref().or(state.reason.as_ref());
    if let (Some(reason), false) = (reason, state.ended()) {
        text.push_str(&format!("\nneeds you:\n  {reason}\n"));
    }
    text.push_str(&section(state, &Phase::Running, "running"));
    let failures = human::failures(state);
    if !failures.is_empty() {
        text.push_str(&format!("\nfailed:\n{}\n", failures.join("\n")));
    }
    text.push_str(&section(state, &Phase::Skipped, "skipped"));
    let stuck = human::blocked(state);
    if !stuck.is_empty() {
        text.push_str(&format!("\n{}\n", stuck.join("\n")));
    }
    let waiting = state.tasks.iter().filter(|(_, s)| !s.phase.ended() && s.reason.is_some());
    let lines: Vec<_> = waiting
        .take(NAMED)
        .map(|(t, s)| format!("  {t}: {}\n", s.reason.as_deref().unwrap_or("")))
        .collect();
    if !lines.is_empty() {
        text.push_str(&format!("\nwaiting:\n{}", lines.concat()));
    }
    crate::ui::printable(&text)
}

/// How far the tokens of the plan were from those that sessions have reported, where the job has a budget of tokens.
fn measured(store: &Store, loaded: &LoadedRun) -> Result<Option<(PlannedVsReported, TokenBudget)>> {
    // Parsing the job for nothing would cost more than all the rest of a small run.
    if !["context-window", "fill", "token-factor"].iter().any(|key| loaded.job_text.contains(key)) {
        return Ok(None);
    }
    let job = job::parse(&loaded.job_text, &loaded.manifest.file)?;
    let state = &loaded.ledger.state;
    let done = state.tasks.iter().find(|(_, s)| s.phase == Phase::Done && s.attempt == 1);
    let (Some(budget), Some((task, _))) = (job.plan.budget, done) else { return Ok(None) };
    let tree = loaded.ledger.tips.get(task).map(|tip| &tip.tree);
    let prompt = match tree {
        Some(tree) => store.repo().read_blob_at(tree, "attempts/1/prompt.md")?.unwrap_or_default(),
        None => Vec::new(),
    };
    let prompt = planning::estimate_tokens(prompt.len() as u64) * budget.factor / 1_000;
    Ok(PlannedVsReported::of(state, budget, prompt).map(|measured| (measured, budget)))
}

/// What keeps agents from starting, or fewer of them than the job allows.
fn account(account: &Account, whom: &str) -> Option<String> {
    let because = account.because.as_deref()?;
    let left = account.closed_until.since_ms(ambient::now());
    if left > 0 {
        let until = human::moment(account.closed_until);
        let left = human::duration(left);
        return Some(format!("no {whom} starts before {until} UTC (in {left}): {because}"));
    }
    let slots = account.slots?;
    Some(format!("{} at a time after an overload: {because}", human::number(slots, whom)))
}

fn section(state: &RunState, phase: &Phase, title: &str) -> String {
    let found: Vec<_> = state.tasks.iter().filter(|(_, s)| s.phase == *phase).collect();
    if found.is_empty() {
        return String::new();
    }
    let mut rows = Vec::new();
    for (task, s) in found.iter().take(NAMED) {
        let what = if *phase == Phase::Running {
            format!(
                "attempt {} in {}, for {}",
                s.attempt,
                s.worktree.as_deref().unwrap_or("?"),
                human::duration(ambient::now().since_ms(s.at))
            )
        } else {
            s.reason.clone().unwrap_or_default()
        };
        rows.push(vec![format!("  {task}"), what]);
    }
    if found.len() > NAMED {
        rows.push(vec![format!("  … and {} more", found.len() - NAMED)]);
    }
    format!("\n{title}:\n{}", table::columns(&rows))
}

/// Tasks a minute since the first that ended, and what that means for the rest.
fn rate(state: &RunState) -> Option<String> {
    let ended: Vec<_> = state.tasks.values().filter(|t| t.phase == Phase::Done).collect();
    let first = ended.iter().map(|t| t.at).min()?;
    let last = ended.iter().map(|t| t.at).max()?;
    let left = state.tasks.values().filter(|t| !t.phase.ended()).count();
    let span = last.since_ms(first);
    if ended.len() < 3 || span == 0 {
        return None;
    }
    let each = span / (ended.len() as u64 - 1);
    let per_minute = 60_000.0 / each.max(1) as f64;
    let rest = if left > 0 {
        format!(", about {} left", human::duration(each * left as u64))
    } else {
        String::new()
    };
    Some(format!("{per_minute:.1} tasks a minute{rest}"))
}
