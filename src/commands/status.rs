//! `status`: the state of a run.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::accounts;
use super::estimate::PlannedVsReported;
use super::names::{self, NoRun, RunUse};
use super::workspace::{self, Workspace};
use crate::ambient;
use crate::cli;
use crate::domain::account::Account;
use crate::domain::id::Oid;
use crate::domain::run_wait::{RunFacts, RunRate, run_rate};
use crate::domain::session::Spend;
use crate::domain::state::{Phase, RunPhase, RunState};
use crate::engine::low_disk;
use crate::error;
use crate::job::{self, TokenBudget};
use crate::landing::{MergeBases, MergeResult, Merger};
use crate::planning;
use crate::repo;
use crate::store::Store;
use crate::store::layout;
use crate::ui::json::{self, MeasuredTokens, StatusContext};
use crate::ui::outlook::{Outlook, RunNaming};
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
    let run = match names::find_run(&store, args.run.as_deref(), RunUse::Read) {
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

/// Returns the facts that `status` shows beside the run's state: the supervisor, the landing under
/// way, and the wait of the run.
fn status_context(
    store: &Store,
    workspace: &Workspace,
    measured: Option<Measured>,
) -> Result<StatusContext> {
    let driver = workspace::supervisor_of(store, workspace.run());
    let facts = facts(store, workspace, driver.is_some())?;
    let naming = naming(store, workspace)?;
    Ok(StatusContext {
        driver,
        outlook: Some(Outlook::new(workspace.state(), &facts, &naming)),
        facts,
        landing: workspace.landing_tasks()?,
        output: workspace.output_path().map(str::to_owned),
        sandbox: super::sandbox::recorded(store, workspace.run()),
        measured: measured.map(|(m, _)| MeasuredTokens {
            planned: m.planned,
            reported: m.reported,
            factor: m.factor,
        }),
    })
}

/// Returns the facts about a run that no event records.
pub(super) fn facts(store: &Store, workspace: &Workspace, driven: bool) -> Result<RunFacts> {
    let (state, run) = (workspace.state(), workspace.run());
    let mut facts = RunFacts { driven, ..RunFacts::default() };
    if state.ended() || state.phase != RunPhase::Active {
        return Ok(facts);
    }
    facts.polled_at = workspace::last_poll(store, run);
    if state.count(&Phase::Queued) > 0 {
        let problem = super::queue::problem(store, &workspace.loaded.manifest.target)?;
        facts.queue_paused = problem.as_ref().is_some_and(|problem| problem.paused);
        facts.landing = match problem {
            Some(problem) => Some(problem.reason),
            None => blocking_checkout(store, workspace)?,
        };
    }
    // The state is shown even if the job can no longer be read.
    if let Ok(job) = workspace.job() {
        let worktrees = workspace::worktrees_root(store.repo(), job).join(run.as_str());
        let folders = [store.repo().common_dir(), worktrees.as_path()];
        facts.disk = low_disk(folders, job.limits.min_free_mb);
        facts.account = accounts::closed_accounts(state, job)
            .into_iter()
            .find_map(|account| account.of_agents());
    }
    Ok(facts)
}

/// Returns the facts that decide how a command has to name the run.
pub(super) fn naming(store: &Store, workspace: &Workspace) -> Result<RunNaming> {
    let manifest = &workspace.loaded.manifest;
    Ok(RunNaming {
        is_only_run: store.runs()?.len() == 1,
        is_default_job: manifest.file == job::FILE_NAME,
        target: manifest.target.clone(),
        owns_target: manifest.target_created,
        hands_in: workspace.output_path().is_some(),
    })
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
    // The state is shown even if git cannot merge.
    let Ok(MergeResult::Clean { tree }) = merged else { return Ok(None) };
    let why = store.holds_landing(target, &tip, &tree)?.map(|obstacle| obstacle.reason);
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
    let driver = context.driver.as_ref();
    let driver = driver.map_or_else(String::new, |who| format!("; driven by {who}"));
    let done = state.count(&Phase::Done);
    let row = |a: &str, b: String| vec![a.to_owned(), b];
    let mut rows = vec![
        row("run", format!("{} ({}{driver})", state.id, state.summary())),
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
        row("tasks", tasks(state)),
    ];
    rows.extend(context.sandbox.iter().map(|sandbox| row("sandbox", sandbox.clone())));
    let outlook = context.outlook.as_ref();
    if let Some(outlook) = outlook {
        let label = if outlook.wait.needs_person() { "needs you" } else { "now" };
        rows.insert(1, row(label, outlook.line.clone()));
    }
    rows.extend(run_rate(state, &context.facts).map(|rate| row("rate", rate_text(rate))));
    rows.push(row("cost", human::spend(state.spend())));
    rows.extend(measured.map(|(measured, budget)| row("tokens", measured.text(budget))));
    if state.evaluation_spend() != Spend::default() {
        rows.push(row("evaluators", human::spend(state.evaluation_spend())));
    }
    rows.extend(account(&state.account, "agent").map(|text| row("account", text)));
    rows.extend(account(&state.evaluator, "evaluator").map(|text| row("account", text)));
    let mut text = table::columns(&rows);
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
        .map(|(t, s)| {
            format!("  {}: {}\n", state.tasks.label(t), s.reason.as_deref().unwrap_or(""))
        })
        .collect();
    if !lines.is_empty() {
        text.push_str(&format!("\nwaiting:\n{}", lines.concat()));
    }
    if let Some(outlook) = outlook {
        text.push_str(&format!("\n{}\n", outlook.next()));
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
    let kind = workspace.job()?.job.kind;
    Ok(PlannedVsReported::of(state, kind, budget, prompt).map(|compared| (compared, budget)))
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
    let tasks = state.tasks.in_phase(phase).filter(|(task, _)| !state.is_replaced(task));
    let tasks: Vec<_> = tasks.collect();
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
        rows.push(vec![format!("  {}", state.tasks.label(task)), detail]);
    }
    if tasks.len() > NAMED {
        rows.push(vec![format!("  … and {} more", tasks.len() - NAMED)]);
    }
    format!("\n{title}:\n{}", table::columns(&rows))
}

/// Formats the numbers of tasks by state. Tasks that are only history do not count.
fn tasks(state: &RunState) -> String {
    let total = state.tasks.len() - state.count_replaced();
    let percent = match state.percent_done() {
        Some(percent) => format!(" ({percent:.0} %)"),
        None => String::new(),
    };
    format!("{total}: {}{percent}", human::counts(state))
}

/// Formats the number of done tasks per minute, and the time that the remaining tasks take at that
/// rate.
fn rate_text(rate: RunRate) -> String {
    let per_minute = 60_000.0 / rate.each_ms.max(1) as f64;
    let left =
        rate.left_ms.map_or_else(String::new, |ms| format!(", about {} left", human::duration(ms)));
    format!("{per_minute:.1} tasks a minute{left}")
}
