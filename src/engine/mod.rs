//! Carrying out a run: the only module with threads.
//!
//! One loop (`dispatcher`) owns the state. It begins the effects that are owed, each on a thread of its own, and turns
//! what they see into events: journal first, act second, report third. Everything an effect does may have been done
//! before by a supervisor that was killed; so each looks first.

mod attempts;
mod barrier;
mod call;
mod dispatch;
mod dispatcher;
mod effects;
mod evaluations;
mod gate;
mod hooks;
mod keepers;
mod landings;
mod leaving;
mod line;
mod news;
pub(crate) mod queue;
pub(crate) mod recover;
pub(crate) mod requests;
mod reviews;
mod signals;
mod slots;
mod tips;
mod verifications;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};

use crate::agent::preset::{COMMAND, Preset, SessionSource};
use crate::domain::event::{RunEvent, TaskEvent};
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::plan::{Plan, Task};
use crate::domain::retry::{Policy, Share};
use crate::domain::session::Cost;
use crate::domain::state::RunState;
use crate::job::{AgentSection, Job};
use crate::landing::contained::LandedTasks;
use crate::repo::Identity;
use crate::store::load::Manifest;
use crate::store::{Store, layout};

pub(crate) use dispatcher::{Engine, prepare};
pub(crate) use keepers::Keepers;

/// Everything about a run that does not change while it is carried out.
#[derive(Debug)]
pub(crate) struct Context {
    /// The state.
    pub store: Store,
    /// The run.
    pub run: RunId,
    /// What is pinned.
    pub manifest: Manifest,
    /// Where the target's own rules are read.
    pub desk: queue::Desk,
    /// The run's base.
    pub base: Oid,
    /// The job as pinned.
    pub job: Job,
    /// What is known of the agent's program.
    pub preset: Preset,
    /// The prompt template's name and text, if the job names one.
    pub template: Option<(String, String)>,
    /// Who is asked about what the checks have accepted, if anybody is.
    pub evaluator: Option<Evaluator>,
    /// The tasks of the plan, and the parts into which some were split since.
    pub tasks: Mutex<BTreeMap<TaskId, Arc<Task>>>,
    /// This program, to start keepers from.
    pub program: PathBuf,
    /// Those that were started.
    pub keepers: Keepers,
    /// The environment that this process was given.
    pub environment: BTreeMap<OsString, OsString>,
    /// Where the run's places are.
    pub worktrees: PathBuf,
    /// Names this copy of the repository on this machine.
    pub owner: String,
    /// Who authors commits.
    pub identity: Identity,
    /// Pinned files: path, and where it is written out.
    pub overlay: Vec<(String, PathBuf)>,
    /// What of that is laid over the places of checks, once it has been asked for.
    pub laid_over: OnceLock<Vec<(String, PathBuf)>>,
    /// A hash of those files.
    pub salt: String,
    /// What the target contains.
    pub contained: Mutex<LandedTasks>,
}

/// An agent that judges candidates.
#[derive(Debug)]
pub(crate) struct Evaluator {
    /// How the job calls it.
    pub agent: AgentSection,
    /// What is known of its program.
    pub preset: Preset,
    /// The name and text of its prompt's template, if the job names one.
    pub template: Option<(String, String)>,
}

impl Evaluator {
    /// Whether this program chooses the ids of its sessions.
    fn gives_session_ids(&self) -> bool {
        self.preset.session.source == SessionSource::Ours
    }
}

impl Context {
    /// A task of the plan.
    pub(crate) fn task(&self, task: &TaskId) -> Result<Arc<Task>> {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.get(task).cloned().with_context(|| format!("no task `{task}` in the plan"))
    }

    /// What the job pinned, as far as it is laid over the places of checks: all but the tasks' own files. Those are the
    /// work, also where a check names one of them.
    pub(crate) fn laid_over(&self) -> Vec<(String, PathBuf)> {
        let found = || {
            let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            let work: BTreeSet<&String> = tasks.values().flat_map(|task| &task.files).collect();
            self.overlay.iter().filter(|(path, _)| !work.contains(path)).cloned().collect()
        };
        // Once: a task that is split has its files in its parts.
        self.laid_over.get_or_init(found).clone()
    }

    /// Takes up the tasks of a plan that are new.
    pub(crate) fn learn(&self, plan: &Plan) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for task in &plan.tasks {
            tasks.entry(task.id.clone()).or_insert_with(|| Arc::new(task.clone()));
        }
    }

    /// The target's tip.
    pub(crate) fn tip(&self) -> Result<Oid> {
        let target = &self.manifest.target;
        self.store.read(target)?.with_context(|| {
            format!("the target branch `{target}` is gone: make it again where it was, then `git harness start`")
        })
    }

    /// Whether this program chooses the ids of sessions.
    pub(crate) fn gives_session_ids(&self) -> bool {
        self.preset.session.source == SessionSource::Ours
    }

    /// What a landing or a candidate is about, in words.
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

    /// The folder of an attempt's keeper.
    pub(crate) fn attempt_dir(&self, task: &TaskId, attempt: u32) -> PathBuf {
        self.store.local().attempt(&self.run, task, attempt)
    }

    /// The ref that an attempt's keeper publishes.
    pub(crate) fn attempt_ref(&self, task: &TaskId, attempt: u32) -> String {
        layout::attempt(&self.run, task, attempt)
    }
}

/// The numbers by which a job's runs are decided.
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
        review: job.queue.review,
        evaluates: job.evaluate.is_some(),
        rounds: job.evaluate.as_ref().map_or(0, |evaluate| evaluate.rounds),
        one_account: job
            .evaluate
            .as_ref()
            .is_none_or(|evaluate| evaluate.agent.preset == preset.name),
    }
}

/// How a run is carried out this time.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunOptions {
    /// Whether to wait for keepers; `poll` does not.
    pub wait: bool,
    /// Only these tasks get attempts; all when empty.
    pub only: BTreeSet<TaskId>,
    /// Whether to listen to signals.
    pub signals: bool,
    /// Whether tasks are tried although one that they wait for has failed or was skipped.
    pub keep_going: bool,
}

/// Judges a candidate once more, whatever is known of its tree, in a place of its own.
pub(crate) fn verify_again(
    ctx: &Context,
    task: &TaskId,
    attempt: u32,
    candidate: &crate::domain::verdict::Candidate,
) -> Result<crate::domain::verdict::Verdict> {
    verifications::again(ctx, task, attempt, candidate)
}

/// Removes the places of a run of which no keeper uses one. Says how many there were.
pub(crate) fn sweep_worktrees(ctx: &Context, state: &RunState) -> Result<usize> {
    recover::sweep_worktrees(ctx, state)
}

/// Something to tell the person who watches.
#[derive(Debug)]
pub(crate) enum RunReport<'a> {
    /// A task's event was journaled.
    Task(&'a TaskId, &'a TaskEvent, &'a RunState),
    /// A run's event was journaled.
    Run(&'a RunEvent, &'a RunState),
    /// Something worth knowing that is no event.
    Note(String),
    /// Time has passed.
    Tick(&'a RunState),
}

/// Why the loop came to an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunExit {
    /// Every task has ended (or every task of `--only`).
    Ended,
    /// What is left waits for tasks that have failed, were skipped, or are not of `--only`.
    Blocked,
    /// A person is needed; why.
    Person(String),
    /// Nothing more can be done without waiting (`poll`).
    Later,
    /// A signal, by its number.
    Interrupted(i32),
}
