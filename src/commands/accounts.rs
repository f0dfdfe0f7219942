//! `accounts`: list the accounts that a limit of the service has closed, and open them.

use std::path::Path;

use anyhow::Result;

use super::request::Requests;
use super::workspace::{self, Workspace};
use crate::ambient;
use crate::cli as args;
use crate::domain::account::{Account, AgentName};
use crate::domain::id::{RunId, Timestamp};
use crate::domain::state::{RunPhase, RunState};
use crate::error::{self, Advice};
use crate::job::{AgentSection, Job};
use crate::store::Store;
use crate::ui::{Ui, human, printable, table};
use crate::wire::cli;
use crate::wire::request::WireRequest;

/// The word for sessions of agents.
const AGENTS: &str = "agent";

/// A closed account of a run.
#[derive(Debug)]
pub(super) struct ClosedAccount {
    run: RunId,
    name: AgentName,
    /// The sessions that do not start: `agent` or `evaluator`.
    sessions: &'static str,
    until: Timestamp,
    because: Option<String>,
}

impl ClosedAccount {
    /// Returns the time before which no agent starts, with the reason. Returns `None` for the
    /// account of evaluators.
    pub(super) fn of_agents(&self) -> Option<(Timestamp, String)> {
        let because = || self.because.clone().unwrap_or_else(|| "no reason was recorded".into());
        (self.sessions == AGENTS).then(|| (self.until, because()))
    }

    /// Describes the closing and the command that ends it.
    pub(super) fn sentence(&self) -> String {
        let until = human::moment(self.until);
        let left = human::duration(self.until.since_ms(ambient::now()));
        let because = self.because.as_deref().unwrap_or("no reason was recorded");
        format!(
            "the account of `{name}` is closed: no {} starts before {until} UTC (in {left}): {because}; `git harness \
             accounts open {name}` opens it",
            self.sessions,
            name = self.name,
        )
    }
}

/// `git harness accounts`
pub(super) fn run(here: &Path, args: &args::AccountsArgs, ui: &Ui) -> Result<u8> {
    let store = workspace::open_store(here)?;
    match &args.command {
        None => list(&store, args.json, ui),
        Some(args::AccountsCommand::Open { name }) => open(store, name, ui),
    }
}

/// Returns the closed accounts of all runs that are not over.
fn all_closed(store: &Store) -> Result<Vec<ClosedAccount>> {
    let mut closed = Vec::new();
    for run in store.runs()? {
        let workspace = Workspace::view(store, &run)?;
        let state = workspace.state();
        let now = ambient::now();
        let is_closed = !state.account.open_at(now) || !state.evaluator.open_at(now);
        if is_closed && state.phase != RunPhase::Cancelled && !state.ended() {
            closed.extend(closed_accounts(state, workspace.job()?));
        }
    }
    Ok(closed)
}

/// Returns the closed accounts of a run. An account that is closed for another preset or model than
/// the job's does not count.
pub(super) fn closed_accounts(state: &RunState, job: &Job) -> Vec<ClosedAccount> {
    let agent = agent_name(&job.agent);
    let evaluator = job.evaluate.as_ref().map(|evaluate| agent_name(&evaluate.agent));
    let accounts =
        [(AGENTS, &state.account, Some(agent)), ("evaluator", &state.evaluator, evaluator)];
    let closed = |(sessions, account, current): (&'static str, &Account, Option<AgentName>)| {
        let current = current?;
        let is_closed = !account.open_at(ambient::now()) && account.concerns(&current);
        is_closed.then(|| ClosedAccount {
            run: state.id.clone(),
            name: account.closed_for.clone().unwrap_or(current),
            sessions,
            until: account.closed_until,
            because: account.because.clone(),
        })
    };
    accounts.into_iter().filter_map(closed).collect()
}

fn agent_name(agent: &AgentSection) -> AgentName {
    AgentName { preset: agent.preset.clone(), model: agent.model.clone() }
}

fn list(store: &Store, json: bool, ui: &Ui) -> Result<u8> {
    let closed = all_closed(store)?;
    if json {
        let accounts = closed.iter().map(|account| cli::ClosedAccountLine {
            name: account.name.to_string(),
            run: account.run.as_str(),
            sessions: account.sessions,
            closed_until: account.until.0,
            because: account.because.as_deref(),
        });
        ui.json(&cli::AccountList { v: cli::Version, accounts: accounts.collect() })?;
        return Ok(error::OK);
    }
    if closed.is_empty() {
        ui.message("no account is closed");
        return Ok(error::OK);
    }
    let titles = ["NAME", "RUN", "SESSIONS", "OPENS (UTC)", "REASON"];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    for account in &closed {
        rows.push(vec![
            account.name.to_string(),
            account.run.to_string(),
            account.sessions.to_owned(),
            human::moment(account.until),
            account.because.clone().unwrap_or_default(),
        ]);
    }
    ui.result(&printable(&table::columns(&rows)));
    Ok(error::OK)
}

fn open(store: Store, name: &str, ui: &Ui) -> Result<u8> {
    let wanted = AgentName::parse(name);
    let mut runs: Vec<RunId> = all_closed(&store)?
        .into_iter()
        .filter(|account| account.name.covers(&wanted) || wanted.covers(&account.name))
        .map(|account| account.run)
        .collect();
    runs.dedup();
    if runs.is_empty() {
        let hint = "`git harness accounts` lists the closed accounts";
        return Err(Advice::new(format!("no account of `{name}` is closed"), hint).into());
    }
    let mut code = error::OK;
    for run in runs {
        let wire = WireRequest::OpenAccount { name: name.to_owned() };
        code = code.max(Requests::of_run(store.clone(), run).ask_and_report(&[wire], ui)?);
    }
    Ok(code)
}
