//! Going on with a run after its job file has changed: what may change is pinned anew, and planned again.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::replan::{self, PlanOverrides, ReplanPreview};
use super::{job_file, prompts, workspace};
use crate::ambient;
use crate::domain::event::{RunEvent, RunEventKind};
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::machine::Decision;
use crate::engine;
use crate::failpoint;
use crate::job::{self, Job};
use crate::store::Store;
use crate::store::chain::Batch;
use crate::store::load::LoadedRun;
use crate::ui::Ui;

/// Pins a changed job in its run, with a plan that is made again where the job or somebody asks for another. Says
/// whether anything had changed.
pub(super) fn adopt(
    store: &Store,
    run: &RunId,
    found: &job_file::LoadedJob,
    overrides: &PlanOverrides,
    ui: &Ui,
) -> Result<bool> {
    let loaded = workspace::load_run(store, run)?;
    if loaded.manifest.job != found.name {
        return Ok(false);
    }
    let file = format!("{} (as pinned in `{run}`)", loaded.manifest.file);
    let old = job::parse(&loaded.job_text, &file)?;
    let stays = stays(&old, &found.job);
    if !stays.is_empty() {
        ui.status(&format!(
            "note: {} has changed in {} since the run `{run}` was made; the run goes on with the job that it pinned \
             (`--run NAME` makes a new run)",
            found.file,
            stays.join(" and "),
        ));
        return Ok(false);
    }
    let preview = replan::preview(store, &loaded, found, overrides)?;
    let base = match &preview {
        Some(preview) => preview.manifest.base()?,
        None => loaded.manifest.base()?,
    };
    let mut pinned: BTreeMap<_, _> =
        job_file::pinned_files(store.repo(), found, &base)?.into_iter().collect();
    // What is not there any more stays as it was: a run carries what it needs.
    let named: BTreeSet<String> = job::files_named(&found.job).into_iter().collect();
    for (path, bytes) in store.pinned(&loaded.ledger.run_tip.tree)? {
        if named.contains(&path) {
            pinned.entry(path).or_insert(bytes);
        }
    }
    let pinned: Vec<_> = pinned.into_iter().collect();
    let mut tree = store.repinned(&loaded.ledger.run_tip.tree, &found.text, &pinned)?;
    if let Some(preview) = &preview {
        tree = store.replanned(&tree, &preview.manifest, &preview.again.plan, &preview.printed)?;
    }
    if tree == loaded.ledger.run_tip.tree {
        return Ok(false);
    }
    let tasks = preview
        .as_ref()
        .map_or(&loaded.ledger.state.plan.tasks, |preview| &preview.again.plan.tasks);
    prompts::check(store.repo(), found, tasks)?;
    let mut sections = changed(&old, &found.job);
    if sections.is_empty() && (preview.is_none() || loaded.job_text != found.text) {
        let same = loaded.job_text == found.text;
        sections.push(if same { "a file that it names" } else { "its words only" }.to_owned());
    }
    if !sections.is_empty() {
        ui.status(&format!(
            "{} has changed ({}); the run `{run}` goes on with it",
            found.file,
            sections.join(", ")
        ));
    }
    if let Some(preview) = &preview {
        ui.status(preview.listing(run).trim_end());
        preview.notes.iter().for_each(|note| ui.status(note));
    }
    let words = sections.is_empty() || sections == ["its words only"];
    let real = !words || preview.as_ref().is_some_and(|preview| !preview.again.is_unchanged());
    pin(store, loaded, tree, sections, preview.as_ref())?;
    Ok(real)
}

fn pin(
    store: &Store,
    loaded: LoadedRun,
    tree: Oid,
    sections: Vec<String>,
    preview: Option<&ReplanPreview>,
) -> Result<()> {
    let mut ledger = loaded.ledger;
    let proof = workspace::hold(store, &ledger.state.id)?;
    let mut batch = Batch { run_tree: Some(tree), ..Batch::default() };
    if !sections.is_empty() {
        let kind = RunEventKind::JobChanged(sections);
        batch.decisions.push(Decision::Run(RunEvent { at: ambient::now(), kind }));
    }
    if let Some(preview) = preview {
        let chains: BTreeSet<_> = ledger.tips.keys().cloned().collect();
        let has_chain = |task: &TaskId| chains.contains(task);
        store.create_tasks(proof.run(), &preview.begun(&has_chain))?;
        failpoint::hit("replan.tasks");
        batch.decisions.extend(preview.decisions(&ledger.state, &has_chain));
        batch.moves.extend(preview.target.clone());
    }
    ledger.record(store, &proof, &mut batch)?;
    failpoint::hit("replan.recorded");
    store.barrier()?;
    for task in preview.iter().flat_map(|preview| preview.dropped()) {
        engine::recover::stop_one(store, proof.run(), task);
    }
    Ok(())
}

/// Whether a job is about something else than the run was: then what is done says nothing of it.
pub(super) fn is_other_work(loaded: &LoadedRun, found: &job_file::LoadedJob) -> bool {
    let Ok(old) = job::parse(&loaded.job_text, &loaded.manifest.file) else { return true };
    const SAME: [&str; 5] = ["[plan]", "[worktree]", "[retry]", "[limits]", "[queue]"];
    changed(&old, &found.job).iter().any(|section| !SAME.contains(&section.as_str()))
}

/// What a run cannot take over, as far as that has changed.
fn stays(old: &Job, new: &Job) -> Vec<&'static str> {
    let mut sections = Vec::new();
    let (a, b) = (&old.job, &new.job);
    if (&a.base, &a.target, a.kind) != (&b.base, &b.target, b.kind) {
        sections.push("[job]");
    }
    if old.worktree.root != new.worktree.root {
        sections.push("[worktree] root");
    }
    sections
}

fn changed(old: &Job, new: &Job) -> Vec<String> {
    let differs = [
        ("[job]", old.job != new.job),
        ("[plan]", old.plan != new.plan),
        ("[agent]", old.agent != new.agent),
        ("[presets]", old.presets != new.presets),
        ("[worktree]", old.worktree != new.worktree),
        ("[[check]]", old.checks != new.checks),
        ("[scope]", old.scope != new.scope),
        ("[output]", old.output != new.output),
        ("[evaluate]", old.evaluate != new.evaluate),
        ("[retry]", old.retry != new.retry),
        ("[limits]", old.limits != new.limits),
        ("[queue]", old.queue != new.queue),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}
