//! Planning a run again: done tasks stay, and the other tasks are planned by the current job.

use std::collections::BTreeSet;

use anyhow::Result;

use super::job_file::LoadedJob;
use super::job_plan::{self, PlanScope};
use super::plan_inputs;
use super::workspace::Workspace;
use crate::ambient;
use crate::domain::event::{ReplanCounts, RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::machine::Decision;
use crate::domain::plan::{DROPPED, Plan, Task};
use crate::domain::retry::RetryReason;
use crate::domain::state::{Phase, RunState};
use crate::error::Advice;
use crate::planning::{self, MergedPlan, PriorStatus, PriorTask};
use crate::store::layout;
use crate::store::{Expected, RefMove, Store};
use crate::ui::{human, table};
use crate::wire::run::Manifest;
use crate::wire::{self, cli};

/// Command-line options that change a plan.
#[derive(Debug, Clone, Default)]
pub(super) struct PlanOverrides {
    /// `--scope-dir`
    pub scope_dir: Option<String>,
    /// `--scope-files`
    pub scope_files: Option<String>,
    /// `--update`
    pub update: bool,
}

/// The result of planning a run again.
#[derive(Debug)]
pub(super) struct ReplanPreview {
    /// The plan and the differences.
    pub replanned: MergedPlan,
    /// The manifest to be pinned with the plan.
    pub manifest: Manifest,
    /// The new base, if it has changed.
    pub moved: Option<Oid>,
    /// The fast-forward of the target to the new base. `None` unless the target was created for
    /// this run and can be fast-forwarded.
    pub target: Option<RefMove>,
    /// The outputs of the job's plan commands by name, to be pinned with the run.
    pub printed: Vec<(String, Vec<u8>)>,
    /// Notes for people.
    pub notes: Vec<String>,
}

/// Plans a run again. Returns none if the inputs of the plan have not changed and `--update` was
/// not given.
pub(super) fn preview(
    workspace: &Workspace,
    job: &LoadedJob,
    overrides: &PlanOverrides,
) -> Result<Option<ReplanPreview>> {
    let (store, loaded) = (&workspace.store, &workspace.loaded);
    let repo = store.repo();
    let plan_changed = workspace.job()?.plan != job.job.plan;
    let (scope_dir, scope_files) = scope(workspace, overrides, plan_changed);
    let before = loaded.manifest.base()?;
    let base =
        if overrides.update { repo.resolve_commit(&job.job.job.base)? } else { before.clone() };
    let moved = (base != before).then(|| base.clone());
    let manifest =
        Manifest { base: base.to_string(), scope_dir, scope_files, ..loaded.manifest.clone() };
    if !overrides.update && manifest == loaded.manifest && !plan_changed {
        return Ok(None);
    }
    let target = match &moved {
        Some(base) => target_move(store, &loaded.manifest, base)?,
        None => None,
    };
    let state = &loaded.ledger.state;
    let mut prior_tasks = Vec::with_capacity(state.tasks.len());
    let mut settled: BTreeSet<&str> = BTreeSet::new();
    for task in state.tasks.planned() {
        let status = prior_status(state, task);
        let stale = match &moved {
            Some(base) => is_stale(store, state, task, (&before, base))?,
            None => false,
        };
        if status == PriorStatus::Done && !stale {
            settled.extend(task.files.iter().map(String::as_str));
        }
        let parts = state.split.get(&task.id).map_or(&[][..], Vec::as_slice);
        prior_tasks.push(PriorTask { task, status, stale, parts });
    }
    let inputs = plan_inputs::collect(repo, job, &base)?;
    let scope = PlanScope {
        dir: manifest.scope_dir.as_deref(),
        files: manifest.scope_files.as_deref(),
        ..PlanScope::default()
    };
    // Tasks keep the order of the whole plan, even if only a part is planned now.
    let everything = PlanScope { dir: Some(""), files: Some(""), ..PlanScope::default() };
    let whole = job_plan::plan_with_inputs(repo, job, &base, everything, &inputs)?;
    let rest = PlanScope { settled: Some(&settled), ..scope };
    let fresh = job_plan::plan_with_inputs(repo, job, &base, rest, &inputs)?;
    if fresh.plan.tasks.is_empty() && settled.is_empty() {
        let include = job.job.plan.include.patterns().join(", ");
        let hint = format!("`[plan] include` is: {include}; files count when they are committed");
        return Err(Advice::new("the plan has no tasks any more: no file matches", hint).into());
    }
    let notes = job_plan::notes(&fresh);
    let replanned = planning::merge_plans(&prior_tasks, fresh.plan, &whole.plan)?;
    let plan = wire::plan::plan_id(&replanned.plan)?.to_string();
    let manifest = Manifest { plan, ..manifest };
    Ok(Some(ReplanPreview { replanned, manifest, moved, target, printed: inputs.printed, notes }))
}

/// Returns the scope of the new plan: that of the options; else the whole tree if the run has
/// finished or the job's plan has changed; else the old scope.
fn scope(
    workspace: &Workspace,
    overrides: &PlanOverrides,
    plan_changed: bool,
) -> (Option<String>, Option<String>) {
    let some = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let manifest = &workspace.loaded.manifest;
    if overrides.scope_dir.is_some() || overrides.scope_files.is_some() {
        (some(&overrides.scope_dir), some(&overrides.scope_files))
    } else if plan_changed || workspace.is_finished() {
        (None, None)
    } else {
        (manifest.scope_dir.clone(), manifest.scope_files.clone())
    }
}

fn prior_status(state: &RunState, task: &Task) -> PriorStatus {
    let Some(s) = state.tasks.get(&task.id) else { return PriorStatus::Open };
    match s.phase {
        Phase::Done => PriorStatus::Done,
        Phase::Skipped if s.reason.as_deref() == Some(DROPPED) => PriorStatus::Removed,
        Phase::Skipped => PriorStatus::Skipped,
        Phase::Todo
        | Phase::Running
        | Phase::Verifying
        | Phase::Reviewing
        | Phase::Queued
        | Phase::Failed => PriorStatus::Open,
    }
}

/// Returns true if others have changed one of a task's files: its version in `now` differs from its
/// version in `before` and from its version in the landed commit. A deleted file does not count as
/// changed.
fn is_stale(
    store: &Store,
    state: &RunState,
    task: &Task,
    (before, now): (&Oid, &Oid),
) -> Result<bool> {
    let repo = store.repo();
    let mut expected = vec![repo.tree_of(before)?];
    if let Some(landed) = state.tasks.get(&task.id).and_then(|s| s.landed.as_ref()) {
        expected.push(repo.tree_of(landed)?);
    }
    let now = repo.tree_of(now)?;
    for path in &task.files {
        let Some(id) = repo.entry_id(&now, path)? else { continue };
        let mut known = false;
        for tree in &expected {
            known |= repo.entry_id(tree, path)?.as_ref() == Some(&id);
        }
        if !known {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the fast-forward of the target to the new base, which the target must contain because
/// attempts start from the target. Returns none if the target contains the base already. Fails if
/// the target cannot be fast-forwarded or was not created by the run.
fn target_move(store: &Store, manifest: &Manifest, base: &Oid) -> Result<Option<RefMove>> {
    let name = &manifest.target;
    let Some(tip) = store.read(name)? else { return Ok(None) };
    let repo = store.repo();
    if repo.is_ancestor(base, &tip)? {
        return Ok(None);
    }
    if manifest.target_created && repo.is_ancestor(&tip, base)? {
        return Ok(Some(RefMove::to(name.clone(), base.clone(), Expected::Value(tip))));
    }
    let short = layout::short(name);
    Err(Advice::new(
        format!("the target `{short}` does not contain the new base {}", base.short()),
        format!("merge one into the other, for example `git merge {short}` on the base's branch, and start again"),
    )
    .into())
}

impl ReplanPreview {
    /// Returns the events by which the run adopts the plan.
    pub(super) fn decisions(
        &self,
        state: &RunState,
        has_chain: &dyn Fn(&TaskId) -> bool,
    ) -> Vec<Decision> {
        let at = ambient::now();
        let replanned = &self.replanned;
        let counts = ReplanCounts {
            done: replanned.done.len(),
            unchanged: replanned.unchanged.len(),
            restarted: replanned.updated.len(),
            added: replanned.added.len(),
            restored: replanned.restored.len(),
            dropped: replanned.removed.len(),
        };
        let kind = RunEventKind::Replanned { base: self.moved.clone(), counts };
        let mut decisions = vec![Decision::Run(RunEvent { at, kind })];
        let mut push = |task: &TaskId, kind| {
            decisions.push(Decision::Task(task.clone(), TaskEvent { at, kind }));
        };
        let skipped = || TaskEventKind::Skipped { message: DROPPED.into() };
        for task in &replanned.removed {
            push(task, skipped());
        }
        for task in replanned.updated.iter().chain(&replanned.restored).filter(|t| has_chain(t)) {
            let phase = state.tasks.get(task).map(|s| &s.phase);
            if matches!(
                phase,
                Some(Phase::Running | Phase::Verifying | Phase::Reviewing | Phase::Queued)
            ) {
                push(task, skipped());
            }
            if phase != Some(&Phase::Todo) {
                let because = Some("the plan was made again".to_owned());
                let reason = RetryReason::Manual;
                push(task, TaskEventKind::Retried { reason, not_before: at, because });
            }
        }
        decisions
    }

    /// Returns the tasks that need a new chain.
    pub(super) fn without_chain(&self, has_chain: &dyn Fn(&TaskId) -> bool) -> Plan {
        let replanned = &self.replanned;
        let without = replanned.updated.iter().filter(|t| !has_chain(t));
        let ids: BTreeSet<&TaskId> = replanned.added.iter().chain(without).collect();
        let tasks = replanned.plan.tasks.iter().filter(|t| ids.contains(&t.id)).cloned();
        Plan { tasks: tasks.collect() }
    }

    /// Returns the tasks whose running attempts are now useless.
    pub(super) fn superseded(&self) -> impl Iterator<Item = &TaskId> {
        self.replanned.removed.iter().chain(&self.replanned.updated)
    }

    /// Formats the differences for people.
    pub(super) fn listing(&self, run: &RunId) -> String {
        let replanned = &self.replanned;
        let mut rows = Vec::new();
        let lists = [
            ("added", &replanned.added),
            ("restored", &replanned.restored),
            ("updated", &replanned.updated),
            ("removed", &replanned.removed),
        ];
        for (word, ids) in lists {
            for id in ids {
                let files =
                    replanned.plan.tasks.iter().find(|t| t.id == *id).map_or(0, |t| t.files.len());
                rows.push(vec![format!("  {word}"), id.to_string(), human::number(files, "file")]);
            }
        }
        let base = Oid::parse(&self.manifest.base)
            .map_or_else(|_| String::new(), |b| b.short().to_string());
        format!(
            "{}{}: {} done, {} unchanged, {} added, {} restored, {} updated, {} removed; planned from {base}\n",
            if rows.is_empty() { String::new() } else { table::columns(&rows) },
            run,
            replanned.done.len(),
            replanned.unchanged.len(),
            replanned.added.len(),
            replanned.restored.len(),
            replanned.updated.len(),
            replanned.removed.len(),
        )
    }

    /// Converts the differences for `--json`.
    pub(super) fn wire<'a>(&'a self, run: &'a RunId) -> cli::PlanDiff<'a> {
        let replanned = &self.replanned;
        let ids = |tasks: &'a [TaskId]| tasks.iter().map(TaskId::as_str).collect();
        cli::PlanDiff {
            v: cli::Version,
            run: run.as_str(),
            base: &self.manifest.base,
            plan: &self.manifest.plan,
            kept: ids(&replanned.done),
            same: ids(&replanned.unchanged),
            updated: ids(&replanned.updated),
            new: ids(&replanned.added),
            back: ids(&replanned.restored),
            left: ids(&replanned.removed),
        }
    }
}
