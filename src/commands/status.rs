//! `status`: the state of a run.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::estimate::PlannedVsReported;
use super::workspace::{self, NoRun, Workspace};
use crate::ambient;
use crate::cli;
use crate::domain::account::Account;
use crate::domain::id::Oid;
use crate::domain::machine::{blocked, stalled};
use crate::domain::session::Spend;
use crate::domain::state::{Phase, RunPhase, RunState};
use crate::error;
use crate::job::TokenBudget;
use crate::landing::{MergeBases, MergeResult, Merger};
use crate::planning;
use crate::repo;
use crate::store::Store;
use crate::store::layout;
use crate::ui::json::{self, MeasuredTokens, StatusContext};
use crate::ui::{Ui, human, table};

/// The refresh interval of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The number of tasks in each phase that are listed by name.
const NAMED: usize = 10;
/// The job keys that set a token budget. A job text without any of these keys has no budget.
const BUDGET_KEYS: [&str; 3] = ["context-window", "fill", "token-factor"];

/// A comparison of planned with reported tokens, and the budget behind it.
type Measured = (PlannedVsReported, TokenBudget);

/// `git harness status`
pub(super) fn run(here: &Path, args: &cli::StatusArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_read_only(here)?;
    let run = match workspace::find_run(&store, args.run.as_deref()) {
        Ok(run) => run,
        Err(problem) if args.exit_code && problem.is::<NoRun>() => {
            ui.error("error", &problem);
            return Ok(error::NO_SUCH_RUN);
        }
        Err(problem) => return Err(problem),
    };
    loop {
        // The workspace is not dropped: the process ends after this, and freeing the state of
        // thousands of tasks takes as long as reading it.
        let workspace = ManuallyDrop::new(Workspace::view(&store, &run)?);
        let measured = measure(&store, &workspace)?;
        let context = status_context(&store, &workspace, measured)?;
        let state = workspace.state();
        if args.json {
            ui.json(&json::status(&workspace.loaded.manifest, state, &context))?;
        } else if args.porcelain {
            ui.result(&porcelain(state, &context));
        } else {
            let text = screen(&workspace, &context, measured);
            if args.watch { ui.redraw(&text) } else { ui.result(&text) }
        }
        if !args.watch || state.ended() || state.phase == RunPhase::Cancelled {
            let open = !state.ended();
            return Ok(if args.exit_code && open { error::INCOMPLETE } else { error::OK });
        }
        // The workspace is dropped: `--watch` loads the run again and again.
        drop(ManuallyDrop::into_inner(workspace));
        ambient::pause(WATCH_INTERVAL);
    }
}

/// Returns the facts that the run's state lacks: the supervisor, the landing under way, and the
/// reason why a person is needed.
fn status_context(
    store: &Store,
    workspace: &Workspace,
    measured: Option<Measured>,
) -> Result<StatusContext> {
    let state = workspace.state();
    let mut context = StatusContext {
        driver: workspace::driver(store, workspace.run()),
        reason: None,
        landing: workspace.landing_tasks()?,
        output: workspace.output_path().map(str::to_owned),
        sandbox: super::sandbox::recorded(store, workspace.run()),
        measured: measured.map(|(m, _)| MeasuredTokens {
            planned: m.planned,
            reported: m.reported,
            factor: m.factor,
        }),
    };
    if state.count(&Phase::Queued) > 0 {
        context.reason = match super::queue::problem(store, &workspace.loaded.manifest.target)? {
            Some(problem) => Some(problem),
            None => blocking_checkout(store, workspace)?,
        };
    }
    if stalled(state) && state.phase == RunPhase::Active && context.driver.is_none() {
        context.reason = Some(format!(
            "{} blocked by tasks that failed or were skipped: try those again with `git harness retry`, or start the \
             blocked ones anyway with `git harness start --keep-going`",
            human::number(blocked(state).len(), "task")
        ));
    }
    Ok(context)
}

/// Returns the reason why a queued candidate cannot land, if a checkout of the target is in the
/// way.
fn blocking_checkout(store: &Store, workspace: &Workspace) -> Result<Option<String>> {
    let target = &workspace.loaded.manifest.target;
    let queued = workspace.state().tasks.values().filter(|s| s.phase == Phase::Queued);
    let (Some(candidate), Some(tip)) =
        (queued.filter_map(|s| s.candidate.as_ref()).next(), store.read(target)?)
    else {
        return Ok(None);
    };
    if repo::checkouts(store.repo(), target)?.is_empty() {
        return Ok(None);
    }
    let merger = Merger::new(store);
    let merged = merger.merge(&MergeBases::OfHistory, &tip, &candidate.commit);
    // A state is shown also where no git can merge.
    let Ok(MergeResult::Clean { tree }) = merged else { return Ok(None) };
    let why = store.holds_landing(target, &tip, &tree)?;
    Ok(why.map(|why| format!("landing on `{}` waits: {why}", layout::short(target))))
}

/// Formats the state in the stable format for scripts: one line for each task.
fn porcelain(state: &RunState, context: &StatusContext) -> String {
    let mut text = String::new();
    for task in state.tasks.planned() {
        if let Some(s) = state.tasks.get(&task.id) {
            let landed = s.landed.as_ref().map_or("-", Oid::as_str);
            let word = json::shown(state, task, s, context);
            text.push_str(&format!("{word} {} {} {landed}\n", task.id, s.attempt));
        }
    }
    text
}

/// Formats the screen for people.
fn screen(workspace: &Workspace, context: &StatusContext, measured: Option<Measured>) -> String {
    let state = workspace.state();
    let driver = match (&context.driver, state.summary()) {
        (Some(who), _) => format!("driven by {who}"),
        (None, "ended" | "cancelled") => "nothing left to do".to_owned(),
        (None, "halted") => "needs you".to_owned(),
        (None, _) => "no supervisor: `git harness start` continues it".to_owned(),
    };
    let done = state.count(&Phase::Done);
    let row = |a: &str, b: String| vec![a.to_owned(), b];
    let mut rows = vec![
        row("run", format!("{} ({}; {driver})", state.id, state.summary())),
        match &context.output {
            None => row(
                "target",
                format!("{}, {done} landed", layout::short(&workspace.loaded.manifest.target)),
            ),
            Some(path) => {
                let how = format!("`git harness collect {}` joins them", state.id);
                row("outputs", format!("{path}, {done} handed in; {how}"))
            }
        },
        row("tasks", format!("{}: {}", state.tasks.len(), human::counts(state))),
    ];
    rows.extend(context.sandbox.iter().map(|sandbox| row("sandbox", sandbox.clone())));
    rows.extend(rate(state).map(|text| row("rate", text)));
    rows.push(row("cost", human::spend(state.spend())));
    rows.extend(measured.map(|(measured, budget)| row("tokens", measured.text(budget))));
    if state.evaluation_spend() != Spend::default() {
        rows.push(row("evaluators", human::spend(state.evaluation_spend())));
    }
    rows.extend(account(&state.account, "agent").map(|text| row("account", text)));
    rows.extend(account(&state.evaluator, "evaluator").map(|text| row("account", text)));
    let mut text = table::columns(&rows);
    let reason = context.reason.as_ref().or(state.reason.as_ref());
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

/// Compares planned with reported tokens, if the job has a token budget.
fn measure(store: &Store, workspace: &Workspace) -> Result<Option<Measured>> {
    if !BUDGET_KEYS.iter().any(|key| workspace.loaded.job_text.contains(key)) {
        return Ok(None);
    }
    let state = workspace.state();
    let done = state.tasks.iter().find(|(_, s)| s.phase == Phase::Done && s.attempt == 1);
    let (Some(budget), Some((task, _))) = (workspace.job()?.plan.budget, done) else {
        return Ok(None);
    };
    let tree = workspace.loaded.ledger.tips.get(task).map(|tip| &tip.tree);
    let prompt = match tree {
        Some(tree) => store.repo().read_blob_at(tree, "attempts/1/prompt.md")?.unwrap_or_default(),
        None => Vec::new(),
    };
    let prompt = planning::estimate_tokens(prompt.len() as u64) * budget.factor / 1_000;
    Ok(PlannedVsReported::of(state, budget, prompt).map(|compared| (compared, budget)))
}

/// Returns the reason why no agent starts, or why fewer agents start than the job allows. `whom` is
/// the noun for the account's sessions: `agent` or `evaluator`.
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

/// Lists the tasks in a phase under a title. Empty if there are none.
fn section(state: &RunState, phase: &Phase, title: &str) -> String {
    let tasks: Vec<_> = state.tasks.iter().filter(|(_, s)| s.phase == *phase).collect();
    if tasks.is_empty() {
        return String::new();
    }
    let mut rows = Vec::new();
    for (task, s) in tasks.iter().take(NAMED) {
        let detail = if *phase == Phase::Running {
            format!(
                "attempt {} in {}, for {}",
                s.attempt,
                s.worktree.as_deref().unwrap_or("?"),
                human::duration(ambient::now().since_ms(s.at))
            )
        } else {
            s.reason.clone().unwrap_or_default()
        };
        rows.push(vec![format!("  {task}"), detail]);
    }
    if tasks.len() > NAMED {
        rows.push(vec![format!("  … and {} more", tasks.len() - NAMED)]);
    }
    format!("\n{title}:\n{}", table::columns(&rows))
}

/// Formats the number of done tasks per minute, and the time that the remaining tasks take at that
/// rate.
fn rate(state: &RunState) -> Option<String> {
    let ended: Vec<_> = state.tasks.values().filter(|t| t.phase == Phase::Done).collect();
    let first = ended.iter().map(|t| t.at).min()?;
    let last = ended.iter().map(|t| t.at).max()?;
    let left = state.tasks.values().filter(|t| !t.phase.ended()).count();
    let elapsed = last.since_ms(first);
    if ended.len() < 3 || elapsed == 0 {
        return None;
    }
    let each = elapsed / (ended.len() as u64 - 1);
    let per_minute = 60_000.0 / each.max(1) as f64;
    let rest = if left > 0 {
        format!(", about {} left", human::duration(each * left as u64))
    } else {
        String::new()
    };
    Some(format!("{per_minute:.1} tasks a minute{rest}"))
}
