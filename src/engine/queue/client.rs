//! A run's side of the merge queue: hands in candidates and reads the answers, both through the
//! queue log. The worker may be in this process or in another one.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::host::{parse_task_entry, task_entry};
use super::service::{QueueService, WorkerState};
use super::status;
use crate::domain::id::{Oid, RunId, TaskId, Timestamp};
use crate::domain::verdict::{CheckReport, CheckResult, Finding, Verdict};
use crate::engine::Context;
use crate::landing::sides;
use crate::store::queue_log::QueueLogEntry;
use crate::wire::queue::{Ejection, EntryCommit, LandedEntry, QueueEvent};

/// A candidate that wants to land.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LandingRequest {
    /// The task.
    pub task: TaskId,
    /// The attempt that made the candidate.
    pub attempt: u32,
    /// The candidate.
    pub candidate: Oid,
}

/// An answer of the merge queue.
#[derive(Debug)]
pub(crate) struct QueueAnswer {
    /// The task.
    pub task: TaskId,
    /// The candidate.
    pub candidate: Oid,
    /// The time of the answer.
    pub at: Timestamp,
    /// The outcome.
    pub outcome: QueueOutcome,
}

/// The outcome of a candidate in the merge queue.
#[derive(Debug)]
pub(crate) enum QueueOutcome {
    /// The target contains the candidate.
    Landed {
        /// The commit on the target.
        commit: Oid,
        /// The results that prove the task.
        results: Vec<CheckResult>,
    },
    /// The candidate fails alone on the target's tip.
    Rejected {
        /// The tree that failed.
        tree: Oid,
        /// The verdict.
        checks: CheckReport,
    },
    /// The candidate conflicts with the target.
    Conflict {
        /// The target's tip.
        onto: Oid,
        /// The paths.
        paths: Vec<String>,
        /// The conflicts as a list for the agent.
        description: String,
    },
}

/// The worker of a queue, as a run sees it.
#[derive(Debug)]
pub(crate) enum WorkerView {
    /// The worker of this process has not read all of the log yet, or still acts.
    Busy,
    /// The worker of this process waits for keepers or for something outside.
    Waiting(WorkerState),
    /// Another process is the worker. The problem is the reason why nothing lands.
    Other {
        /// The reason why nothing lands, if there is one.
        problem: Option<String>,
    },
}

/// A run's side of the merge queue.
#[derive(Debug, Default)]
pub(crate) struct QueueClient {
    service: Option<QueueService>,
    /// The commit of the queue log up to which the log was read.
    log_tip: Option<Oid>,
    /// The tasks of the run that wait in the queue, with their candidates.
    waiting: BTreeMap<TaskId, Oid>,
    /// The other process that works on the queue, as returned by `new_holder`.
    holder: Option<String>,
}

impl QueueClient {
    /// Uses the worker of this process.
    pub(crate) fn connect(&mut self, service: QueueService) {
        self.service = Some(service);
    }

    /// Ends a landing hook that the worker of this process runs.
    pub(crate) fn interrupt_hooks(&self) {
        if let Some(service) = &self.service {
            service.interrupt();
        }
    }

    /// Ends the worker of this process.
    pub(crate) fn disconnect(&mut self) {
        self.service = None;
    }

    /// Returns true if no task of the run waits in the queue.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns true if the task waits in the queue.
    pub(crate) fn has(&self, task: &TaskId) -> bool {
        self.waiting.contains_key(task)
    }

    /// Returns the state of the worker of this process.
    pub(crate) fn worker(&self) -> Option<WorkerState> {
        self.service.as_ref().map(QueueService::state)
    }

    /// Returns the other process that works on the queue, if it is not the one of the last call.
    pub(crate) fn new_holder(&mut self) -> Option<String> {
        let holder = self.worker().and_then(|worker| worker.holder);
        if holder == self.holder {
            return None;
        }
        self.holder.clone_from(&holder);
        holder
    }

    /// Returns the worker as the run sees it.
    pub(crate) fn view(&self, ctx: &Context) -> WorkerView {
        let tip = ctx.store.queue_log_tip(&ctx.manifest.target).ok().flatten();
        match self.worker() {
            // What the worker has not read, or the run has not, may change everything.
            Some(state)
                if state.works
                    && state.problem.is_none()
                    && (state.log_tip != tip || self.log_tip != tip) =>
            {
                WorkerView::Busy
            }
            Some(state) if state.works => WorkerView::Waiting(state),
            Some(state) if state.holder.is_none() => WorkerView::Busy,
            Some(_) | None => WorkerView::Other { problem: status::read(&ctx.queue).problem },
        }
    }

    /// Reads the answers that the log has gained.
    pub(crate) fn read(&mut self, ctx: &Context) -> Result<Vec<QueueAnswer>> {
        let (tip, entries) =
            ctx.store.own_queue_log(&ctx.manifest.target, self.log_tip.as_ref())?;
        self.log_tip = tip;
        let mut answers = Vec::new();
        for entry in entries {
            self.fold(ctx, entry, &mut answers)?;
        }
        Ok(answers)
    }

    fn fold(
        &mut self,
        ctx: &Context,
        QueueLogEntry { at, event }: QueueLogEntry,
        answers: &mut Vec<QueueAnswer>,
    ) -> Result<()> {
        match event {
            QueueEvent::Added { candidate, attempt: Some(_), .. } => {
                if let Some(task) = own_task(&ctx.run, &candidate.entry) {
                    // Earlier answers are about an earlier stay in the queue.
                    answers.retain(|answer| answer.task != task || answer.is_landing());
                    self.waiting.insert(task, candidate.commit);
                }
            }
            QueueEvent::Removed { entry, .. } => {
                if let Some(task) = own_task(&ctx.run, &entry) {
                    self.waiting.remove(&task);
                }
            }
            QueueEvent::Ejected { candidate, reason } => {
                let Some(task) = own_task(&ctx.run, &candidate.entry) else { return Ok(()) };
                if self.waiting.get(&task) == Some(&candidate.commit) {
                    self.waiting.remove(&task);
                    let candidate = candidate.commit;
                    if let Some(outcome) = ejection(ctx, &candidate, reason)? {
                        answers.push(QueueAnswer { task, candidate, at, outcome });
                    }
                }
            }
            QueueEvent::Landed { entries, new, .. } => {
                for LandedEntry { entry, commit: candidate, landed_as, results } in entries {
                    let Some(task) = own_task(&ctx.run, &entry) else { continue };
                    self.waiting.remove(&task);
                    let results = results.into_iter().map(CheckResult::from).collect();
                    let commit = landed_as.map_or_else(|| new.clone(), |id| id.0);
                    let outcome = QueueOutcome::Landed { commit, results };
                    answers.push(QueueAnswer { task, candidate, at, outcome });
                }
            }
            QueueEvent::Added { .. }
            | QueueEvent::Replaced(_)
            | QueueEvent::Approved { .. }
            | QueueEvent::Paused { .. }
            | QueueEvent::Resumed { .. }
            | QueueEvent::Verified { .. } => {}
        }
        Ok(())
    }

    /// Makes the queue hold exactly the requested candidates of the run. Returns true if the log
    /// was changed.
    pub(crate) fn reconcile(&mut self, ctx: &Context, requests: &[LandingRequest]) -> Result<bool> {
        let wanted: BTreeMap<&TaskId, &Oid> =
            requests.iter().map(|request| (&request.task, &request.candidate)).collect();
        let stale = self.waiting.iter().filter(|(task, commit)| wanted.get(task) != Some(commit));
        let stale: Vec<TaskId> = stale.map(|(task, _)| task.clone()).collect();
        let mut events = self.removals(ctx, stale.iter(), "it does not wait to land any more")?;
        let is_new = |r: &&LandingRequest| self.waiting.get(&r.task) != Some(&r.candidate);
        let added: Vec<&LandingRequest> = requests.iter().filter(is_new).collect();
        if !added.is_empty() {
            let tip = ctx.tip()?;
            for request in &added {
                let entry = task_entry(&ctx.run, &request.task)?.to_string();
                events.push(QueueEvent::Added {
                    candidate: EntryCommit { entry, commit: request.candidate.clone() },
                    attempt: Some(request.attempt),
                    priority: 0,
                    after: Vec::new(),
                    tip: tip.clone(),
                    by: format!("the run `{}`", ctx.run),
                });
            }
        }
        let changed = self.append(ctx, &events)?;
        // They wait from now on, not only from the next look at the log.
        for request in added {
            self.waiting.insert(request.task.clone(), request.candidate.clone());
        }
        Ok(changed)
    }

    /// Takes tasks out of the queue, so that they do not land any more. The caller reads the log
    /// afterwards: a task may have landed before.
    pub(crate) fn withdraw(&mut self, ctx: &Context, tasks: &BTreeSet<TaskId>) -> Result<bool> {
        let waiting = tasks.iter().filter(|task| self.waiting.contains_key(*task));
        let waiting: Vec<TaskId> = waiting.cloned().collect();
        let events = self.removals(ctx, waiting.iter(), "a person took it out")?;
        self.append(ctx, &events)
    }

    fn removals<'a>(
        &self,
        ctx: &Context,
        tasks: impl Iterator<Item = &'a TaskId>,
        why: &str,
    ) -> Result<Vec<QueueEvent>> {
        let removed = |task: &TaskId| -> Result<QueueEvent> {
            let entry = task_entry(&ctx.run, task)?.to_string();
            Ok(QueueEvent::Removed { entry, why: why.to_owned() })
        };
        tasks.map(removed).collect()
    }

    fn append(&self, ctx: &Context, events: &[QueueEvent]) -> Result<bool> {
        if events.is_empty() {
            return Ok(false);
        }
        ctx.store.append_queue_log(&ctx.manifest.target, events)?;
        if let Some(service) = &self.service {
            service.wake();
        }
        Ok(true)
    }
}

impl QueueAnswer {
    /// Returns true if the candidate has landed.
    pub(crate) fn is_landing(&self) -> bool {
        matches!(self.outcome, QueueOutcome::Landed { .. })
    }
}

/// Returns the task of an entry of this run.
fn own_task(run: &RunId, entry: &str) -> Option<TaskId> {
    let entry = crate::domain::queue::EntryId::parse(entry).ok()?;
    parse_task_entry(&entry).filter(|(owner, _)| owner == run).map(|(_, task)| task)
}

fn ejection(ctx: &Context, candidate: &Oid, reason: Ejection) -> Result<Option<QueueOutcome>> {
    Ok(match reason {
        Ejection::Rejected { finding, findings, results, tree, refused: _, partner: _ } => {
            let mut findings: Vec<Finding> = findings.into_iter().map(Finding::from).collect();
            if findings.is_empty() {
                findings.push(Finding { attempt: 0, check: "landing".into(), text: finding });
            }
            let results = results.into_iter().map(CheckResult::from).collect();
            let verdict = Verdict::Failed(findings);
            let tree = tree.map_or_else(|| candidate.clone(), |id| id.0);
            Some(QueueOutcome::Rejected { tree, checks: CheckReport { verdict, results } })
        }
        Ejection::Conflict { sides: conflicts, onto } => {
            let onto = onto.map_or_else(|| ctx.tip(), |id| Ok(id.0))?;
            let paths = conflicts.iter().map(|conflict| conflict.path.clone()).collect();
            let description = sides::describe(&conflicts);
            Some(QueueOutcome::Conflict { onto, paths, description })
        }
        Ejection::ChangesRequested { message, by } => {
            let text = format!("{by} requests changes: {message}");
            let findings = vec![Finding { attempt: 0, check: "review".into(), text }];
            let checks = CheckReport { verdict: Verdict::Failed(findings), results: Vec::new() };
            Some(QueueOutcome::Rejected { tree: candidate.clone(), checks })
        }
        // Tasks depend on no other entry of the queue.
        Ejection::Blocked { .. } => None,
    })
}
