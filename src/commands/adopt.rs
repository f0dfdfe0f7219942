//! Continuing a run after its job file has changed: pin the changes that a run can take over, and
//! plan again.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::job_file::{self, LoadedJob};
use super::prompts;
use super::replan::{self, PlanOverrides, ReplanPreview};
use super::workspace::{self, Workspace};
use crate::ambient;
use crate::domain::event::{RunEvent, RunEventKind};
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::Decision;
use crate::engine;
use crate::failpoint;
use crate::job::{self, Job};
use crate::store::chain::Batch;
use crate::ui::Ui;

/// The word for a change that is in none of the job's sections.
const WORDING: &str = "wording only";

/// A change of a file that the job file names, in the list of changed sections.
const NAMED_FILE: &str = "a file that it names";

/// Pins a changed job in its run, with a new plan if the job or the command line asks for one.
///
/// Returns the updated workspace, and true if the change affects the tasks. A change of comments or
/// white space in the job file does not.
pub(super) fn adopt(
    workspace: Workspace,
    job: &LoadedJob,
    overrides: &PlanOverrides,
    ui: &Ui,
) -> Result<(Workspace, bool)> {
    let loaded = &workspace.loaded;
    if loaded.manifest.job != job.name {
        return Ok((workspace, false));
    }
    let run = workspace.run();
    let old = workspace.job()?;
    let unadoptable = job::unadoptable_changes(old, &job.job);
    if !unadoptable.is_empty() {
        ui.status(&format!(
            "note: {} has changed in {} since the run `{run}` was made; the run continues with its pinned job \
             (`--run NAME` makes a new run)",
            job.file,
            unadoptable.join(" and "),
        ));
        return Ok((workspace, false));
    }
    let preview = replan::preview(&workspace, job, overrides)?;
    let store = &workspace.store;
    let tree = changed_tree(&workspace, job, preview.as_ref())?;
    if tree == loaded.ledger.run_tip.tree {
        return Ok((workspace, false));
    }
    let plan = match &preview {
        Some(preview) => preview.replanned.plan.clone(),
        None => workspace.state().tasks.plan(),
    };
    prompts::check(store.repo(), job, &plan.tasks)?;
    let same_text = loaded.job_text == job.text;
    let mut sections: Vec<String> =
        job::changed_sections(old, &job.job).into_iter().map(str::to_owned).collect();
    if sections.is_empty() && (preview.is_none() || !same_text) {
        sections.push(if same_text { NAMED_FILE } else { WORDING }.to_owned());
    }
    if !sections.is_empty() {
        let what = if sections == [NAMED_FILE] {
            format!("a file that {} names has changed", job.file)
        } else {
            format!("{} has changed ({})", job.file, sections.join(", "))
        };
        ui.status(&format!("{what}; the run `{run}` continues with it"));
    }
    if let Some(preview) = &preview {
        ui.status(preview.listing(run).trim_end());
        preview.notes.iter().for_each(|note| ui.status(note));
    }
    let only_wording = sections.is_empty() || sections == [WORDING];
    let affects_work =
        !only_wording || preview.as_ref().is_some_and(|p| !p.replanned.is_unchanged());
    let workspace = pin(workspace, job, tree, sections, preview.as_ref())?;
    Ok((workspace, affects_work))
}

/// Builds a new tree for the run's chain, with the present job, files and plan.
fn changed_tree(
    workspace: &Workspace,
    job: &LoadedJob,
    preview: Option<&ReplanPreview>,
) -> Result<Oid> {
    let (store, loaded) = (&workspace.store, &workspace.loaded);
    let base = match preview {
        Some(preview) => preview.manifest.base()?,
        None => loaded.manifest.base()?,
    };
    let mut pinned: BTreeMap<_, _> =
        job_file::pinned_files(store.repo(), job, &base)?.into_iter().collect();
    // A file that the job still names but that no longer exists keeps its pinned content: the
    // run must not depend on files outside its chain.
    let named_files: BTreeSet<String> = job::possible_files(&job.job).into_iter().collect();
    for (path, bytes) in store.pinned(&loaded.ledger.run_tip.tree)? {
        if named_files.contains(&path) {
            pinned.entry(path).or_insert(bytes);
        }
    }
    let pinned: Vec<_> = pinned.into_iter().collect();
    let tree = store.tree_with_job(&loaded.ledger.run_tip.tree, &job.text, &pinned)?;
    match preview {
        Some(preview) => store.tree_with_plan(
            &tree,
            &preview.manifest,
            &preview.replanned.plan,
            &preview.printed,
        ),
        None => Ok(tree),
    }
}

/// Records the change in the run's chain. Returns the updated workspace.
fn pin(
    mut workspace: Workspace,
    job: &LoadedJob,
    tree: Oid,
    sections: Vec<String>,
    preview: Option<&ReplanPreview>,
) -> Result<Workspace> {
    let store = workspace.store.clone();
    let proof = workspace::hold(&store, workspace.run())?;
    let ledger = &mut workspace.loaded.ledger;
    let mut batch = Batch { run_tree: Some(tree), ..Batch::default() };
    if !sections.is_empty() {
        let kind = RunEventKind::JobChanged(sections);
        batch.decisions.push(Decision::Run(RunEvent { at: ambient::now(), kind }));
    }
    if let Some(preview) = preview {
        let chains: BTreeSet<_> = ledger.tips.keys().cloned().collect();
        let has_chain = |task: &TaskId| chains.contains(task);
        store.create_tasks(proof.run(), &preview.without_chain(&has_chain))?;
        failpoint::hit("replan.tasks");
        batch.decisions.extend(preview.decisions(&ledger.state, &has_chain));
        batch.moves.extend(preview.target.clone());
    }
    ledger.record(&store, &proof, &mut batch)?;
    failpoint::hit("replan.recorded");
    store.barrier()?;
    for task in preview.iter().flat_map(|preview| preview.superseded()) {
        engine::recover::stop_one(&store, proof.run(), task);
    }
    // A new plan changes the tasks and their chains, so the run is loaded again. Without a new
    // plan, only the text of the job has changed.
    if preview.is_some() {
        workspace = Workspace::load(&store, proof.run())?;
    } else {
        workspace.loaded.job_text.clone_from(&job.text);
    }
    workspace.set_job(&job.text, &job.job);
    Ok(workspace)
}

/// Returns true if the results of a run are not valid for the present job.
pub(super) fn invalidates_results(workspace: &Workspace, job: &Job) -> bool {
    workspace.job().map_or(true, |old| job::invalidates_results(old, job))
}
