//! Going on with a run after its job file has changed: what may change is pinned anew, the plan stays.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::{jobfile, opened, plan};
use crate::ambient;
use crate::domain::event::{RunEvent, RunEventKind};
use crate::domain::id::RunId;
use crate::domain::machine::Decision;
use crate::job::{self, Job};
use crate::store::Store;
use crate::store::chain::Batch;
use crate::store::load::LoadedRun;
use crate::ui::Ui;

/// Pins a changed job in its run. Says whether anything had changed.
///
/// # Errors
/// If another process holds the run, or the new job cannot be used.
pub fn adopt(store: &Store, run: &RunId, found: &jobfile::Found, ui: &Ui) -> Result<bool> {
    let loaded = opened::load(store, run)?;
    if loaded.manifest.job != found.name {
        return Ok(false);
    }
    let file = format!("{} (as pinned in `{run}`)", loaded.manifest.file);
    let old = job::parse(&loaded.job_text, &file)?;
    let stays = planned(&old, &found.job);
    if !stays.is_empty() {
        ui.say(&format!(
            "note: {} has changed in {} since the run `{run}` was made; the run goes on with the job that it pinned \
             (`--run NAME` makes a new run)",
            found.file,
            stays.join(" and "),
        ));
        return Ok(false);
    }
    let base = loaded.manifest.base()?;
    let mut pinned: BTreeMap<_, _> =
        jobfile::pinned(store.repo(), found, &base)?.into_iter().collect();
    // What is not there any more stays as it was: a run carries what it needs.
    let named: BTreeSet<String> = job::files_named(&found.job).into_iter().collect();
    for (path, bytes) in store.pinned(&loaded.ledger.run_tip.tree)? {
        if named.contains(&path) {
            pinned.entry(path).or_insert(bytes);
        }
    }
    let pinned: Vec<_> = pinned.into_iter().collect();
    let tree = store.repinned(&loaded.ledger.run_tip.tree, &found.text, &pinned)?;
    if tree == loaded.ledger.run_tip.tree {
        return Ok(false);
    }
    plan::check_prompt(store.repo(), found, &loaded.ledger.state.plan.tasks)?;
    let mut sections = changed(&old, &found.job);
    if sections.is_empty() {
        let same = loaded.job_text == found.text;
        sections.push(if same { "a file that it names" } else { "its words only" }.to_owned());
    }
    ui.say(&format!(
        "{} has changed ({}); the run `{run}` goes on with it",
        found.file,
        sections.join(", ")
    ));
    let real = sections != ["its words only"];
    pin(store, loaded, tree, sections)?;
    Ok(real)
}

fn pin(
    store: &Store,
    loaded: LoadedRun,
    tree: crate::domain::id::Oid,
    sections: Vec<String>,
) -> Result<()> {
    let mut ledger = loaded.ledger;
    let proof = opened::hold(store, &ledger.state.id)?;
    let event = RunEvent { at: ambient::now(), kind: RunEventKind::JobChanged(sections) };
    let mut batch =
        Batch { decisions: vec![Decision::Run(event)], run_tree: Some(tree), ..Batch::default() };
    ledger.record(store, &proof, &mut batch)?;
    store.barrier()
}

/// What the plan was made from, as far as that has changed.
fn planned(old: &Job, new: &Job) -> Vec<&'static str> {
    let mut sections = Vec::new();
    if old.plan != new.plan {
        sections.push("[plan]");
    }
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
        ("[agent]", old.agent != new.agent),
        ("[presets]", old.presets != new.presets),
        ("[worktree]", old.worktree != new.worktree),
        ("[[check]]", old.checks != new.checks),
        ("[scope]", old.scope != new.scope),
        ("[retry]", old.retry != new.retry),
        ("[limits]", old.limits != new.limits),
        ("[queue]", old.queue != new.queue),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}
