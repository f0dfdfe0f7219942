//! Execution of a run: the only module with threads.
//!
//! The loop in `dispatcher` owns the state. It starts the owed effects, each on its own thread, and
//! turns their results into events: journal first, act second, report third. An earlier supervisor
//! that was killed may already have carried out an effect, so each effect first looks for an
//! existing result.

mod admission;
mod barrier;
mod disk_watch;
mod dispatch;
mod dispatcher;
#[cfg(test)]
mod dispatcher_tests;
mod effects;
mod evaluations;
mod in_flight;
mod interrupts;
mod keeper_folders;
mod landings;
pub(crate) mod queue;
pub(crate) mod recover;
pub(crate) mod requests;
mod results;
mod reviews;
mod run_journal;
mod signals;
mod stash_watch;
mod target_checks;
mod target_health;
pub(crate) mod upkeep;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};

use crate::agent::preset::{COMMAND, Preset, SessionSource};
use crate::domain::account::AgentName;
use crate::domain::event::{RunEvent, TaskEvent};
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::network::NetworkAccess;
use crate::domain::plan::Task;
use crate::domain::retry::{Policy, Share};
use crate::domain::session::Cost;
use crate::domain::state::RunState;
use crate::job::{AgentSection, Job};
pub(crate) use crate::keeper::SetupReuse;
use crate::process::Environ;
use crate::repo::Identity;
use crate::sandbox::SandboxChoice;
use crate::store::{Store, layout};
use crate::verify::rules::RuleFiles;
use crate::wire::keeper::SandboxSpec;
use crate::wire::run::Manifest;

pub(crate) use disk_watch::{StorageFault, StorageWait, disk_usage, low_disk};
pub(crate) use dispatcher::{Engine, prepare};
pub(crate) use work::assignment::Executor;
use work::assignment::{self, KeeperWait};
pub(crate) use work::keepers::Keepers;

/// The constant part of a run's execution.
#[derive(Debug)]
pub(crate) struct Context {
    /// The store.
    pub store: Store,
    /// The run.
    pub run: RunId,
    /// The pinned manifest.
    pub manifest: Manifest,
    /// The merge queue of the target.
    pub queue: Arc<queue::QueueContext>,
    /// Opens another run whose tasks wait in the queue.
    pub open_run: queue::OpenRun,
    /// The commit for which the run was planned.
    pub base: Oid,
    /// The pinned job.
    pub job: Job,
    /// The preset of the agent's program.
    pub preset: Preset,
    /// The prompt template's name and text, if the job has one.
    pub template: Option<(String, String)>,
    /// The agent that evaluates accepted candidates, if the job has one.
    pub evaluator: Option<Evaluator>,
    /// The tasks of the plan, including the parts of tasks that were split.
    pub tasks: Mutex<BTreeMap<TaskId, Arc<Task>>>,
    /// The way to the keepers.
    pub keepers: Box<dyn Executor + Send + Sync>,
    /// The environment of this process.
    pub environment: BTreeMap<OsString, OsString>,
    /// The folder of the run's worktrees.
    pub worktrees: PathBuf,
    /// The id of this copy of the repository: the host name and the repository's id.
    pub owner: String,
    /// The author of commits.
    pub identity: Identity,
    /// Pinned files: the path in the repository, and the written copy.
    pub overlay: Vec<(String, PathBuf)>,
    /// The pinned files that checks need and that the base does not have, and the schemas.
    pub provided: Vec<(String, PathBuf)>,
    /// A hash of the provided files. Empty if there are none.
    pub salt: String,
}

/// An agent that evaluates candidates.
#[derive(Debug)]
pub(crate) struct Evaluator {
    /// The job's section.
    pub agent: AgentSection,
    /// The preset of the agent's program.
    pub preset: Preset,
    /// The prompt template's name and text, if the job has one.
    pub template: Option<(String, String)>,
}

impl Evaluator {
    /// Returns true if `git harness` chooses the session ids, not the program of the evaluator.
    fn gives_session_ids(&self) -> bool {
        self.preset.session.source == SessionSource::Ours
    }
}

impl Context {
    /// Returns a task of the plan.
    pub(crate) fn task(&self, task: &TaskId) -> Result<Arc<Task>> {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.get(task).cloned().with_context(|| format!("no task `{task}` in the plan"))
    }

    /// Returns the name of a task for people.
    pub(crate) fn label(&self, task: &TaskId) -> String {
        self.task(task).map_or_else(|_| task.to_string(), |task| task.label())
    }

    /// Returns the rule files of the run's job.
    pub(crate) fn rule_files(&self) -> RuleFiles {
        let mut rules = RuleFiles::of(&self.job, &self.manifest.file);
        rules.add_provided(self.provided.iter().map(|(path, _)| path));
        rules
    }

    /// Adds the new tasks of a plan.
    pub(crate) fn add_tasks<'a>(&self, planned: impl Iterator<Item = &'a Task>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for task in planned {
            tasks.entry(task.id.clone()).or_insert_with(|| Arc::new(task.clone()));
        }
    }

    /// Returns the target's tip.
    pub(crate) fn tip(&self) -> Result<Oid> {
        let target = &self.manifest.target;
        self.store.read(target)?.with_context(|| {
            format!("the target branch `{target}` is gone: make it again where it was, then `git harness start`")
        })
    }

    /// Returns true if `git harness` chooses the session ids, not the program of the agent.
    pub(crate) fn gives_session_ids(&self) -> bool {
        self.preset.session.source == SessionSource::Ours
    }

    /// Returns the description of a landing or candidate for commit messages.
    pub(crate) fn subject<'a>(
        &'a self,
        task: &'a TaskId,
        attempt: u32,
    ) -> Result<crate::landing::LandingSubject<'a>> {
        Ok(crate::landing::LandingSubject {
            run: &self.run,
            task,
            planned: self.task(task)?,
            attempt,
            job: &self.manifest.job,
            goal: &self.job.job.goal,
        })
    }

    /// Returns the folder of an attempt's keeper.
    pub(crate) fn attempt_dir(&self, task: &TaskId, attempt: u32) -> PathBuf {
        self.store.local().attempt(&self.run, task, attempt)
    }

    /// Returns the environment of a keeper and its commands, with the variables in `pass`.
    fn keeper_environment(&self, dir: &Path, pass: &[String]) -> Environ {
        assignment::environment(&self.environment, &self.identity, dir, pass)
    }

    /// Returns the folder that holds the worktrees of all runs.
    fn all_worktrees(&self) -> &Path {
        self.worktrees.parent().unwrap_or(&self.worktrees)
    }

    /// Returns the sandbox that the job chooses.
    pub(crate) fn sandbox_choice(&self) -> SandboxChoice {
        self.queue.choose_sandbox(&self.job.sandbox, self.all_worktrees())
    }

    /// Returns the sandbox of the run's commands, with or without the machine's network.
    fn sandbox(&self, network: bool) -> Result<Option<SandboxSpec>> {
        self.queue.sandbox(&self.job.sandbox, self.all_worktrees(), network)
    }

    /// Returns the sandbox of a session. A resumed session gets the home that it left.
    fn session_sandbox(&self, preset: &Preset, resumes: bool) -> Result<Option<SandboxSpec>> {
        let variable = |name: &str| {
            let value = self.environment.get(std::ffi::OsStr::new(name));
            value.and_then(|value| value.to_str()).map(str::to_owned)
        };
        let (network, hosts) = match &self.job.sandbox.network {
            NetworkAccess::All => (true, Vec::new()),
            NetworkAccess::Listed(listed) => {
                let mut hosts = preset.network.patterns(variable);
                hosts.extend(listed.iter().map(ToString::to_string));
                (false, hosts)
            }
        };
        let home_files = preset.env.home.clone();
        let spec = self.sandbox(network)?;
        Ok(spec.map(|spec| SandboxSpec { home_files, keeps_home: resumes, hosts, ..spec }))
    }

    /// Returns the ref that an attempt's keeper publishes.
    pub(crate) fn attempt_ref(&self, task: &TaskId, attempt: u32) -> String {
        layout::attempt(&self.run, task, attempt)
    }
}

/// Returns the policy of a job's runs.
pub(crate) fn policy(job: &Job, preset: &Preset, jobs: usize) -> Policy {
    let (retry, limits) = (&job.retry, &job.limits);
    let usd = |usd: Option<f64>| usd.and_then(Cost::from_usd);
    Policy {
        jobs,
        verifications: jobs,
        resumable: !preset.call.resume.is_empty() && preset.session.source != SessionSource::None,
        probe: preset.name != COMMAND,
        resume: retry.resume,
        feedback: retry.feedback,
        from_candidate: retry.from_candidate,
        infra: retry.infra,
        redispatch: retry.redispatch,
        redispatch_below: Share(retry.redispatch_below),
        halt_above: Share(retry.halt_above),
        halt_after: retry.halt_after,
        tokens: limits.tokens,
        tokens_per_task: limits.tokens_per_task,
        cost: usd(limits.cost_usd),
        cost_per_task: usd(limits.cost_per_task),
        allow_empty: job.agent.allow_empty,
        base_must_pass: job.job.base_check == crate::job::BaseCheck::Stop,
        report: job.job.kind == crate::job::JobKind::Report,
        keep_going: false,
        only: BTreeSet::new(),
        review: job.queue.review,
        evaluates: job.evaluate.is_some(),
        rounds: job.evaluate.as_ref().map_or(0, |evaluate| evaluate.rounds),
        agent: agent_name(&job.agent, preset.model.as_deref()),
        evaluator: job
            .evaluate
            .as_ref()
            .map(|evaluate| agent_name(&evaluate.agent, None))
            .unwrap_or_default(),
        shared_account: job
            .evaluate
            .as_ref()
            .is_none_or(|evaluate| evaluate.agent.preset == preset.name),
    }
}

/// Returns the name of the account that an agent uses.
fn agent_name(agent: &AgentSection, model: Option<&str>) -> AgentName {
    let model = agent.model.as_deref().or(model);
    AgentName { preset: agent.preset.clone(), model: model.map(str::to_owned) }
}

/// The options of one execution of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunOptions {
    /// True to wait for keepers. False for `poll`.
    pub wait: bool,
    /// The tasks that get attempts. Empty for all tasks.
    pub only: BTreeSet<TaskId>,
    /// True to handle signals.
    pub signals: bool,
    /// True to ignore recorded verdicts and to set all worktrees up again.
    pub fresh: bool,
    /// True to start tasks although a task they depend on has failed or was skipped.
    pub keep_going: bool,
}

/// Verifies a candidate again in a separate worktree. Ignores recorded verdicts.
pub(crate) fn verify_again(
    ctx: &Context,
    task: &TaskId,
    attempt: u32,
    candidate: &crate::domain::verdict::Candidate,
    setup: SetupReuse,
) -> Result<crate::domain::verdict::CheckReport> {
    work::verification::verify_again(ctx, task, attempt, candidate, setup)
}

/// Returns the worktrees that [`sweep_worktrees`] removes. `worktrees` is the run's folder, and
/// `queue` the merge queue of its target.
pub(crate) fn sweepable_worktrees(
    store: &Store,
    state: &RunState,
    worktrees: &Path,
    (queue, job): (&queue::QueueContext, &Job),
) -> Result<Vec<PathBuf>> {
    let mut paths = recover::sweepable_worktrees(store, state, worktrees)?;
    paths.extend(queue.sweepable_worktrees(job)?);
    Ok(paths)
}

/// Removes the worktrees of a run that no keeper uses. Work that no attempt has recorded is kept in
/// refs.
pub(crate) fn sweep_worktrees(ctx: &Context, state: &RunState) -> Result<recover::SweptWorktrees> {
    let mut swept = recover::sweep_worktrees(ctx, state)?;
    swept.removed += ctx.queue.sweep_if_unused(&ctx.job)?;
    Ok(swept)
}

impl RunOptions {
    /// Returns the behaviour for keepers that still run.
    fn keeper_wait(&self) -> KeeperWait {
        if self.wait { KeeperWait::Block } else { KeeperWait::Poll }
    }
}

/// A report to the person who watches the run.
#[derive(Debug)]
pub(crate) enum RunReport<'a> {
    /// An event of a task, and the number of tasks that had ended after it.
    Task { task: &'a TaskId, event: &'a TaskEvent, ended: usize, state: &'a RunState },
    /// An event of the run.
    Run(&'a RunEvent, &'a RunState),
    /// A note without an event.
    Note(String),
    /// A regular refresh of the display.
    Tick(&'a RunState),
}

/// Returns the name under which a run's processes record the settings of the repository.
pub(crate) fn settings_owner(run: &RunId) -> String {
    format!("run {run}")
}

/// The reason why the loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunExit {
    /// Every task has ended, or every task of `--only`.
    Ended,
    /// The remaining tasks depend on tasks that failed, were skipped, or are not in `--only`.
    Blocked,
    /// A person must act, for this reason.
    Person(String),
    /// Nothing more can be done without waiting (`poll`).
    Later,
    /// A signal with this number interrupted the run.
    Interrupted(i32),
}
