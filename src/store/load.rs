//! Reading a run: job, plan and state, from nothing but refs.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::chain::{Ledger, Tip};
use super::{Store, codec, layout};
use crate::domain::event::{RunEvent, RunEventKind};
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::state::{RunState, TaskState};
use crate::repo;

/// What is pinned about a run beside job and plan.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Manifest {
    /// The format's version.
    pub v: u32,
    /// The run's name.
    pub run: String,
    /// The job's name.
    pub job: String,
    /// Where the job file was, for messages.
    pub file: String,
    /// The commit from which the plan was made.
    pub base: String,
    /// The full name of the branch that receives the work.
    pub target: String,
    /// The plan's content id.
    pub plan: String,
    /// Whether the target was made by this run.
    pub target_created: bool,
    /// `--scope-dir`, where it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_dir: Option<String>,
    /// `--scope-files`, where it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_files: Option<String>,
}

impl Manifest {
    /// The base commit.
    ///
    /// # Errors
    /// If the manifest is damaged.
    pub fn base(&self) -> Result<Oid> {
        Ok(Oid::parse(&self.base)?)
    }
}

/// A run as its refs tell it.
#[derive(Debug)]
pub struct LoadedRun {
    /// What is pinned.
    pub manifest: Manifest,
    /// The job file's text.
    pub job_text: String,
    /// State and tips.
    pub ledger: Ledger,
    /// Tasks of the plan whose chain is missing (a half-made run, or a ref that was lost).
    pub missing: Vec<TaskId>,
}

/// File names in the tree of a run's chain.
pub(super) mod files {
    /// The manifest.
    pub(in crate::store) const MANIFEST: &str = "run.json";
    /// The job file.
    pub(in crate::store) const JOB: &str = "job.toml";
    /// The plan.
    pub(in crate::store) const PLAN: &str = "plan.json";
    /// The folder of pinned files.
    pub(in crate::store) const PINNED: &str = "pinned";
    /// The folder of what other programs said of the plan.
    pub(in crate::store) const INPUTS: &str = "plan-inputs";
    /// In an archive: the folder of task states.
    pub(in crate::store) const TASKS: &str = "tasks";
}

impl Store {
    /// The names of all runs.
    ///
    /// # Errors
    /// If the refs cannot be listed.
    pub fn runs(&self) -> Result<Vec<RunId>> {
        let refs = self.list(layout::RUNS)?;
        let name = |(name, _): &(String, Oid)| {
            RunId::parse(name.strip_prefix(layout::RUNS).unwrap_or_default()).ok()
        };
        Ok(refs.iter().filter_map(name).collect())
    }

    /// What is pinned about a run, and its job file's text; `None` if there is no such run.
    ///
    /// # Errors
    /// If its ref is damaged.
    pub fn manifest(&self, run: &RunId) -> Result<Option<(Manifest, String)>> {
        let Some(commit) = self.read(&layout::run(run))? else { return Ok(None) };
        let tree = self.repo().tree_of(&commit)?;
        let text = |path: &str| -> Result<String> {
            let bytes = self.repo().read_blob_at(&tree, path)?;
            let bytes = bytes.with_context(|| format!("the run `{run}` has no `{path}`"))?;
            Ok(String::from_utf8(bytes)?)
        };
        let manifest: Manifest = serde_json::from_str(&text(files::MANIFEST)?)?;
        if manifest.v != codec::VERSION {
            bail!("the run `{run}` has format version {}: use a newer `git-harness`", manifest.v);
        }
        Ok(Some((manifest, text(files::JOB)?)))
    }

    /// A whole run; `None` if there is none of that name.
    ///
    /// # Errors
    /// If its refs are damaged.
    pub fn load(&self, run: &RunId) -> Result<Option<LoadedRun>> {
        let Some((manifest, job_text)) = self.manifest(run)? else { return Ok(None) };
        let commit = self.read(&layout::run(run))?.context("the run's ref went away")?;
        let tree = self.repo().tree_of(&commit)?;
        let plan = self.repo().read_blob_at(&tree, files::PLAN)?.context("the run has no plan")?;
        let plan = crate::planning::from_json(std::str::from_utf8(&plan)?)?;
        let mut state = RunState::new(run.clone(), plan);
        let run_seq = self.replay_run(&commit, &mut state)?;
        let mut tips = BTreeMap::new();
        for (task, tip, task_state) in self.task_tips(run)? {
            if let Some(slot) = state.tasks.get_mut(&task) {
                *slot = task_state;
                tips.insert(task, tip);
            }
        }
        let archived = self.archived(run)?;
        let mut missing = Vec::new();
        for (task, slot) in &mut state.tasks {
            if tips.contains_key(task) {
                continue;
            }
            match archived.get(task) {
                Some(old) => *slot = old.clone(),
                None => missing.push(task.clone()),
            }
        }
        let run_tip = Tip { commit, tree };
        let ledger = Ledger { state, run_tip, run_seq, tips };
        Ok(Some(LoadedRun { manifest, job_text, ledger, missing }))
    }

    fn replay_run(&self, tip: &Oid, state: &mut RunState) -> Result<u64> {
        let messages = self.messages(tip)?;
        let read = |(_, message): &(Oid, String)| codec::read_run_event(message);
        let events: Vec<_> = messages.iter().rev().map(read).collect::<Result<_>>()?;
        let is_replanned = |e: &RunEvent| matches!(e.kind, RunEventKind::Replanned { .. });
        let last = events.iter().rposition(is_replanned).unwrap_or(0);
        for (number, event) in events.iter().enumerate() {
            if let (RunEventKind::Split { task, parts }, true) = (&event.kind, number < last) {
                // The plan that is pinned was made after that, and has the parts.
                let ids = parts.iter().map(|(id, _)| id.clone()).collect();
                state.split.insert(task.clone(), ids);
            } else {
                state.apply_run(event);
            }
        }
        Ok(messages.len() as u64)
    }

    /// The commits of a chain with their messages, newest first.
    ///
    /// # Errors
    /// If the chain is damaged.
    pub fn messages(&self, tip: &Oid) -> Result<Vec<(Oid, String)>> {
        let mut found = Vec::new();
        let mut next = Some(tip.clone());
        while let Some(commit) = next {
            let info = repo::commit_info(self.repo(), &commit)?;
            next = info.parents.first().cloned();
            // A chain's first commit may have the work or the base as its only parent: it is told by its sequence.
            if codec::trailers(&info.message).get("Harness-Seq") == Some(&"1") {
                next = None;
            }
            found.push((commit, info.message));
        }
        Ok(found)
    }

    fn task_tips(&self, run: &RunId) -> Result<Vec<(TaskId, Tip, TaskState)>> {
        let prefix = layout::tasks(run);
        let refs = self.list(&prefix)?;
        refs.par_iter()
            .filter_map(|(name, commit)| {
                let task = TaskId::parse(name.strip_prefix(&prefix)?).ok()?;
                Some((task, commit))
            })
            .map(|(task, commit)| {
                let info = repo::commit_info(self.repo(), commit)?;
                let state = codec::read_state(&info.message)
                    .with_context(|| format!("the chain of the task `{task}` cannot be read"))?;
                let tip = Tip { commit: commit.clone(), tree: info.tree };
                Ok((task, tip, state))
            })
            .collect()
    }

    fn archived(&self, run: &RunId) -> Result<BTreeMap<TaskId, TaskState>> {
        let Some(commit) = self.read(&layout::archive(run))? else { return Ok(BTreeMap::new()) };
        let tree = self.repo().tree_of(&commit)?;
        let repo = self.repo().local();
        let tree = repo.find_tree(gix::ObjectId::from_hex(tree.as_str().as_bytes())?)?;
        let Some(entry) = tree.lookup_entry_by_path(files::TASKS)? else {
            return Ok(BTreeMap::new());
        };
        let mut found = BTreeMap::new();
        for entry in entry.object()?.into_tree().iter() {
            let entry = entry?;
            let task = TaskId::parse(&entry.filename().to_string())?;
            let blob = entry.object()?;
            found.insert(task, codec::read_state(std::str::from_utf8(&blob.data)?)?);
        }
        Ok(found)
    }

    /// The files pinned in a run, by path.
    ///
    /// # Errors
    /// If the run's tree is damaged.
    pub fn pinned(&self, run_tree: &Oid) -> Result<BTreeMap<String, Vec<u8>>> {
        let repo = self.repo().local();
        let tree = repo.find_tree(gix::ObjectId::from_hex(run_tree.as_str().as_bytes())?)?;
        let Some(entry) = tree.lookup_entry_by_path(files::PINNED)? else {
            return Ok(BTreeMap::new());
        };
        let pinned = entry.object()?.into_tree();
        let mut found = BTreeMap::new();
        for entry in pinned.traverse().breadthfirst.files()? {
            if entry.mode.is_blob() {
                let blob = repo.find_blob(entry.oid)?;
                found.insert(entry.filepath.to_string(), blob.data.clone());
            }
        }
        Ok(found)
    }
}
