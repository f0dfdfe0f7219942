//! Planning a run again: what is done stays, and the rest is planned as the job says now.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};

use super::plan::{self, PlanScope};
use super::{job_file, plan_inputs, start};
use crate::ambient;
use crate::domain::event::{RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::machine::Decision;
use crate::domain::plan::{Plan, Task};
use crate::domain::retry::RetryReason;
use crate::domain::state::{Phase, RunState};
use crate::error::Advice;
use crate::job;
use crate::planning::{self, MergedPlan, PriorStatus, PriorTask};
use crate::store::layout;
use crate::store::load::LoadedRun;
use crate::store::{Expected, RefMove, Store};
use crate::ui::{human, table};
use crate::wire;
use crate::wire::run::Manifest;

/// Why a task is skipped that is not in the plan any more; by this it is known when it comes back.
const LEFT: &str = "it is not in the plan any more";

/// What the command line says of the plan.
#[derive(Debug, Clone, Default)]
pub(super) struct PlanOverrides {
    /// `--scope-dir`
    pub scope_dir: Option<String>,
    /// `--scope-files`
    pub scope_files: Option<String>,
    /// `--update`
    pub update: bool,
}

/// What a run becomes.
#[derive(Debug)]
pub(super) struct ReplanPreview {
    /// The plan, and what is different.
    pub again: MergedPlan,
    /// What is pinned with it.
    pub manifest: Manifest,
    /// The base, if it is another one.
    pub moved: Option<Oid>,
    /// The target follows the base, if it was made for this run and holds nothing else.
    pub target: Option<RefMove>,
    /// What other programs said of the plan.
    pub printed: Vec<(String, Vec<u8>)>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Plans a run again, if anything has changed that its plan was made from.
pub(super) fn preview(
    store: &Store,
    loaded: &LoadedRun,
    found: &job_file::LoadedJob,
    overrides: &PlanOverrides,
) -> Result<Option<ReplanPreview>> {
    let repo = store.repo();
    let old = job::parse(&loaded.job_text, &loaded.manifest.file)?;
    let (scope_dir, scope_files) = scope(loaded, overrides, old.plan != found.job.plan);
    let before = loaded.manifest.base()?;
    let base =
        if overrides.update { repo.resolve_commit(&found.job.job.base)? } else { before.clone() };
    let moved = (base != before).then(|| base.clone());
    let manifest =
        Manifest { base: base.to_string(), scope_dir, scope_files, ..loaded.manifest.clone() };
    if !overrides.update && manifest == loaded.manifest && old.plan == found.job.plan {
        return Ok(None);
    }
    let target = match &moved {
        Some(base) => follow(store, &loaded.manifest, base)?,
        None => None,
    };
    let state = &loaded.ledger.state;
    let mut known = Vec::with_capacity(state.plan.tasks.len());
    let mut settled: BTreeSet<&str> = BTreeSet::new();
    for task in &state.plan.tasks {
        let status = prior_status(state, task);
        let stale = match &moved {
            Some(base) => is_stale(store, state, task, (&before, base))?,
            None => false,
        };
        if status == PriorStatus::Done && !stale {
            settled.extend(task.files.iter().map(String::as_str));
        }
        let parts = state.split.get(&task.id).map_or(&[][..], Vec::as_slice);
        known.push(PriorTask { task, status, stale, parts });
    }
    let inputs = plan_inputs::collect(repo, found, &base)?;
    let scope = PlanScope {
        dir: manifest.scope_dir.as_deref(),
        files: manifest.scope_files.as_deref(),
        ..PlanScope::default()
    };
    // Which part is planned now says nothing of the order.
    let everything = PlanScope { dir: Some(""), files: Some(""), ..PlanScope::default() };
    let whole = plan::planned(repo, found, &base, everything, &inputs)?;
    let rest = PlanScope { settled: Some(&settled), ..scope };
    let fresh = plan::planned(repo, found, &base, rest, &inputs)?;
    if fresh.plan.tasks.is_empty() && settled.is_empty() {
        let include = found.job.plan.include.patterns().join(", ");
        let hint = format!("`[plan] include` is: {include}; files count when they are committed");
        return Err(Advice::new("the plan has no tasks any more: no file matches", hint).into());
    }
    let notes = plan::notes(&fresh);
    let again = planning::merge_plans(&known, fresh.plan, &whole.plan)?;
    let plan = wire::plan::plan_id(&again.plan)?.to_string();
    let manifest = Manifest { plan, ..manifest };
    Ok(Some(ReplanPreview { again, manifest, moved, target, printed: inputs.printed, notes }))
}

/// The part of the tree that the plan is about: as somebody says now, else as it was; without a word the whole, once the
/// part is done or the job says otherwise.
fn scope(
    loaded: &LoadedRun,
    overrides: &PlanOverrides,
    changed: bool,
) -> (Option<String>, Option<String>) {
    let some = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let manifest = &loaded.manifest;
    if overrides.scope_dir.is_some() || overrides.scope_files.is_some() {
        (some(&overrides.scope_dir), some(&overrides.scope_files))
    } else if changed || start::over(loaded) {
        (None, None)
    } else {
        (manifest.scope_dir.clone(), manifest.scope_files.clone())
    }
}

fn prior_status(state: &RunState, task: &Task) -> PriorStatus {
    let Some(s) = state.tasks.get(&task.id) else { return PriorStatus::Open };
    match s.phase {
        Phase::Done => PriorStatus::Done,
        Phase::Skipped if s.reason.as_deref() == Some(LEFT) => PriorStatus::Removed,
        Phase::Skipped => PriorStatus::Skipped,
        Phase::Todo
        | Phase::Running
        | Phase::Verifying
        | Phase::Reviewing
        | Phase::Queued
        | Phase::Failed => PriorStatus::Open,
    }
}

/// Whether somebody else has changed a task's files since: they are neither what they were nor what the task made of
/// them. A file that is gone asks for nothing.
fn is_stale(
    store: &Store,
    state: &RunState,
    task: &Task,
    (before, now): (&Oid, &Oid),
) -> Result<bool> {
    let repo = store.repo();
    let mut good = vec![repo.tree_of(before)?];
    if let Some(landed) = state.tasks.get(&task.id).and_then(|s| s.landed.as_ref()) {
        good.push(repo.tree_of(landed)?);
    }
    let now = repo.tree_of(now)?;
    for path in &task.files {
        let Some(id) = repo.entry_id(&now, path)? else { continue };
        let mut known = false;
        for tree in &good {
            known |= repo.entry_id(tree, path)?.as_ref() == Some(&id);
        }
        if !known {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A target must hold what the tasks are planned from: their attempts start there.
fn follow(store: &Store, manifest: &Manifest, base: &Oid) -> Result<Option<RefMove>> {
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
        format!("the target `{short}` does not hold the new base {}", base.short()),
        format!("merge one into the other, such as `git merge {short}` where the base is, and start again"),
    )
    .into())
}

impl ReplanPreview {
    /// The events by which the run takes it over.
    pub(super) fn decisions(
        &self,
        state: &RunState,
        has_chain: &dyn Fn(&TaskId) -> bool,
    ) -> Vec<Decision> {
        let at = ambient::now();
        let again = &self.again;
        let lists = [
            &again.done,
            &again.unchanged,
            &again.updated,
            &again.added,
            &again.restored,
            &again.removed,
        ];
        let counts = lists.map(Vec::len);
        let kind = RunEventKind::Replanned { base: self.moved.clone(), counts };
        let mut decisions = vec![Decision::Run(RunEvent { at, kind })];
        let mut tell = |task: &TaskId, kind| {
            decisions.push(Decision::Task(task.clone(), TaskEvent { at, kind }));
        };
        let skipped = || TaskEventKind::Skipped { message: LEFT.into() };
        for task in &again.removed {
            tell(task, skipped());
        }
        for task in again.updated.iter().chain(&again.restored).filter(|t| has_chain(t)) {
            let phase = state.tasks.get(task).map(|s| &s.phase);
            if matches!(
                phase,
                Some(Phase::Running | Phase::Verifying | Phase::Reviewing | Phase::Queued)
            ) {
                tell(task, skipped());
            }
            if phase != Some(&Phase::Todo) {
                let because = Some("the plan was made again".to_owned());
                let reason = RetryReason::Manual;
                tell(task, TaskEventKind::Retried { reason, not_before: at, because });
            }
        }
        decisions
    }

    /// The tasks that need a chain.
    pub(super) fn begun(&self, has_chain: &dyn Fn(&TaskId) -> bool) -> Plan {
        let again = &self.again;
        let without = again.updated.iter().filter(|t| !has_chain(t));
        let ids: BTreeSet<&TaskId> = again.added.iter().chain(without).collect();
        let tasks = again.plan.tasks.iter().filter(|t| ids.contains(&t.id)).cloned();
        Plan { tasks: tasks.collect() }
    }

    /// The tasks whose attempts are for nothing now.
    pub(super) fn dropped(&self) -> impl Iterator<Item = &TaskId> {
        self.again.removed.iter().chain(&self.again.updated)
    }

    /// For people: what is different.
    pub(super) fn listing(&self, run: &RunId) -> String {
        let again = &self.again;
        let mut rows = Vec::new();
        let lists = [
            ("new", &again.added),
            ("again", &again.restored),
            ("anew", &again.updated),
            ("left out", &again.removed),
        ];
        for (word, ids) in lists {
            for id in ids {
                let files =
                    again.plan.tasks.iter().find(|t| t.id == *id).map_or(0, |t| t.files.len());
                rows.push(vec![format!("  {word}"), id.to_string(), human::number(files, "file")]);
            }
        }
        let base = Oid::parse(&self.manifest.base)
            .map_or_else(|_| String::new(), |b| b.short().to_string());
        format!(
            "{}{}: {} done, {} as before, {} new, {} wanted again, {} begun anew, {} left out; from {base}\n",
            if rows.is_empty() { String::new() } else { table::columns(&rows) },
            run,
            again.done.len(),
            again.unchanged.len(),
            again.added.len(),
            again.restored.len(),
            again.updated.len(),
            again.removed.len(),
        )
    }

    /// The same for programs.
    pub(super) fn json(&self, run: &RunId) -> Value {
        let again = &self.again;
        let ids = |list: &[TaskId]| json!(list.iter().map(TaskId::as_str).collect::<Vec<_>>());
        json!({
            "v": 1, "run": run.as_str(), "base": self.manifest.base, "plan": self.manifest.plan,
            "kept": ids(&again.done), "same": ids(&again.unchanged), "updated": ids(&again.updated),
            "new": ids(&again.added), "back": ids(&again.restored), "left": ids(&again.removed),
        })
    }
}
