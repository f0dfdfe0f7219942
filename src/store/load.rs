//! Loads a run (job, plan and state) from refs alone.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::chain::{Ledger, Tip};
use super::index::Index;
use super::index::snapshot::{Snapshot, Stamps};
use super::{Store, codec, layout};
use crate::domain::event::{RunEvent, RunEventKind};
use crate::domain::id::{Oid, RunId, TaskId, Timestamp};
use crate::domain::plan::Plan;
use crate::domain::state::{RunState, TaskState};
use crate::repo;
use crate::wire::run::Manifest;
use crate::wire::{decode, plan as wire_plan};

/// A task, its tip, and the state at the tip. The state is boxed, so that sorting moves little.
pub(super) type TaskTip = (TaskId, Tip, Box<TaskState>);

/// The function that reads plan and tips. Its arguments are the plan's id and a function that reads
/// the plan's text.
type Reader<'a> =
    dyn Fn(&str, &(dyn Fn() -> Result<String> + Sync)) -> Result<(Plan, Vec<Vec<TaskTip>>)> + 'a;

/// The least number of tips for which an index or a snapshot is written.
const WORTH_WRITING: usize = 64;

/// A run that was loaded from refs.
#[derive(Debug)]
pub struct LoadedRun {
    /// The manifest: base, target and the ids of pinned objects.
    pub manifest: Manifest,
    /// The job file's text.
    pub job_text: String,
    /// The state and the tips.
    pub ledger: Ledger,
    /// The tasks of the plan whose chain is missing, because the run was created only in part or a
    /// ref was lost.
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
    /// The folder with the output of planning commands.
    pub(in crate::store) const INPUTS: &str = "plan-inputs";
    /// The folder of task states in an archive.
    pub(in crate::store) const TASKS: &str = "tasks";
}

/// The tips and the states of the tasks that have a tip, and the other tasks.
type JoinedTips = (BTreeMap<TaskId, Tip>, Vec<(TaskId, TaskState)>, Vec<TaskId>);

/// Assigns tips and states to the planned tasks, which are in the order of their ids. The tips are
/// sorted and then merged: with ten thousand tasks, looking up each task takes longer than reading
/// it.
fn join_tips<'a>(planned: impl Iterator<Item = &'a TaskId>, tips: Vec<Vec<TaskTip>>) -> JoinedTips {
    // Refs are listed in order, except where a task's name is a prefix of another task's name.
    let mut sorted: Vec<TaskTip> = Vec::with_capacity(tips.iter().map(Vec::len).sum());
    tips.into_iter().for_each(|chunk| sorted.extend(chunk));
    if !sorted.is_sorted_by(|(a, ..), (b, ..)| a < b) {
        sorted.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    }
    let mut states = Vec::with_capacity(sorted.len());
    let mut missing = Vec::new();
    let mut tips = Vec::with_capacity(sorted.len());
    let mut sorted = sorted.into_iter().peekable();
    for task in planned {
        while sorted.next_if(|(id, ..)| id < task).is_some() {}
        match sorted.next_if(|(id, ..)| id == task) {
            Some((id, tip, state)) => {
                tips.push((id.clone(), tip));
                states.push((id, *state));
            }
            None => missing.push(task.clone()),
        }
    }
    (tips.into_iter().collect(), states, missing)
}

impl Store {
    /// Lists all runs.
    pub fn runs(&self) -> Result<Vec<RunId>> {
        let refs = self.list(layout::RUNS)?;
        let name = |(name, _): &(String, Oid)| {
            RunId::parse(name.strip_prefix(layout::RUNS).unwrap_or_default()).ok()
        };
        Ok(refs.iter().filter_map(name).collect())
    }

    /// Reads a run's manifest and the job file's text. Returns `None` if the run does not exist.
    pub fn manifest(&self, run: &RunId) -> Result<Option<(Manifest, String)>> {
        let Some(commit) = self.read(&layout::run(run))? else { return Ok(None) };
        self.manifest_in(run, &self.repo().tree_of(&commit)?).map(Some)
    }

    fn manifest_in(&self, run: &RunId, tree: &Oid) -> Result<(Manifest, String)> {
        let read = |path: &str| -> Result<Vec<u8>> {
            let bytes = self.repo().read_blob_at(tree, path)?;
            bytes.with_context(|| format!("the run `{run}` has no `{path}`"))
        };
        let location = format!("{}:{}", layout::run(run), files::MANIFEST);
        let manifest = decode(&location, &read(files::MANIFEST)?)?;
        Ok((manifest, String::from_utf8(read(files::JOB)?)?))
    }

    /// Returns the time at which a run was created; 0 if the run does not exist.
    pub fn run_created(&self, run: &RunId) -> Result<Timestamp> {
        let Some(tip) = self.read(&layout::run(run))? else { return Ok(Timestamp::default()) };
        let messages = self.messages(&tip)?;
        let first = messages.last().map(|(_, message)| codec::trailers(message));
        let at = first.and_then(|trailers| trailers.get("Harness-At")?.parse().ok());
        Ok(Timestamp(at.unwrap_or(0)))
    }

    /// Loads a run. Returns `None` if the run does not exist.
    pub fn load(&self, run: &RunId) -> Result<Option<LoadedRun>> {
        self.load_with(run, &|_, text| {
            Ok((wire_plan::from_json(text()?.as_str())?, vec![self.tips(run, None)?.0]))
        })
    }

    /// Loads a run through the index, for commands that only read. This is faster, but an agent may
    /// have forged the index. Returns `None` if the run does not exist.
    pub fn load_cached(&self, run: &RunId) -> Result<Option<LoadedRun>> {
        self.load_with(run, &|plan, text| self.indexed(run, plan, text))
    }

    fn load_with(&self, run: &RunId, read: &Reader<'_>) -> Result<Option<LoadedRun>> {
        let Some(commit) = self.read(&layout::run(run))? else { return Ok(None) };
        let tree = self.repo().tree_of(&commit)?;
        let (manifest, job_text) = self.manifest_in(run, &tree)?;
        let text = || -> Result<String> {
            let plan = self.repo().read_blob_at(&tree, files::PLAN)?;
            Ok(String::from_utf8(plan.context("the run has no plan")?)?)
        };
        let (plan, task_tips) = read(&manifest.plan, &text)?;
        let mut state = RunState::new(run.clone(), plan);
        let run_seq = self.replay_run(&commit, &mut state)?;
        let (tips, mut states, without_chain) = join_tips(state.tasks.keys(), task_tips);
        let archived = self.archived(run)?;
        let mut missing = Vec::new();
        for task in without_chain {
            match archived.get(&task) {
                Some(archived) => states.push((task, archived.clone())),
                None => missing.push(task),
            }
        }
        state.tasks.restore(states);
        let run_tip = Tip { commit, tree };
        let ledger = Ledger { state, run_tip, run_seq, tips };
        Ok(Some(LoadedRun { manifest, job_text, ledger, missing }))
    }

    fn replay_run(&self, tip: &Oid, state: &mut RunState) -> Result<u64> {
        let messages = self.messages(tip)?;
        let chain = layout::run(&state.id);
        let read = |(_, message): &(Oid, String)| codec::read_run_event(&chain, message);
        let events: Vec<_> = messages.iter().rev().map(read).collect::<Result<_>>()?;
        let is_replanned = |e: &RunEvent| matches!(e.kind, RunEventKind::Replanned { .. });
        let last = events.iter().rposition(is_replanned).unwrap_or(0);
        for (number, event) in events.iter().enumerate() {
            if let (RunEventKind::Split { task, parts }, true) = (&event.kind, number < last) {
                // The pinned plan was made after this split and contains the parts.
                let ids = parts.iter().map(|(id, _)| id.clone()).collect();
                state.split.insert(task.clone(), ids);
            } else {
                state.apply_run(event);
            }
        }
        Ok(messages.len() as u64)
    }

    /// Reads the tip of one task's chain and the state there. Returns `None` if there is no chain.
    pub fn task_tip(&self, run: &RunId, task: &TaskId) -> Result<Option<(Tip, TaskState)>> {
        let name = layout::task(run, task);
        let Some(commit) = self.read(&name)? else { return Ok(None) };
        let info = repo::commit_info(self.repo(), &commit)?;
        let state = codec::read_state(&name, &info.message)?;
        let tree = self.repo().tree_of(&commit)?;
        Ok(Some((Tip { commit, tree }, state)))
    }

    /// Returns the commits of a chain with their messages, newest first.
    pub fn messages(&self, tip: &Oid) -> Result<Vec<(Oid, String)>> {
        let mut messages = Vec::new();
        let mut next = Some(tip.clone());
        while let Some(commit) = next {
            let info = repo::commit_info(self.repo(), &commit)?;
            next = info.parents.first().cloned();
            // The first commit of a chain may have the candidate or the base as its only parent.
            // The sequence number tells that the chain starts here.
            if codec::trailers(&info.message).get("Harness-Seq") == Some(&"1") {
                next = None;
            }
            messages.push((commit, info.message));
        }
        Ok(messages)
    }

    /// Reads plan and tips, from the snapshot or the index where possible.
    fn indexed(
        &self,
        run: &RunId,
        plan_id: &str,
        text: &(dyn Fn() -> Result<String> + Sync),
    ) -> Result<(Plan, Vec<Vec<TaskTip>>)> {
        let common = self.repo().common_dir();
        let prefix = layout::tasks(run);

        let (path, snapshot) = (self.local().index(run), self.local().snapshot(run));
        // The stamps are taken before the listing: a ref that moves meanwhile makes them void.
        let stamps = Stamps::of(&common.join("packed-refs"), &common.join(&prefix));
        if let Some(cached) = stamps.and_then(|stamps| Snapshot::read(&snapshot, stamps, plan_id)) {
            return Ok((cached.plan, cached.tips));
        }
        let index = Index::read(&path);
        let (plan, tips) = rayon::join(
            || wire_plan::from_json_unverified(&text()?),
            || self.tips(run, index.as_ref()),
        );
        let (plan, (tips, unknown)) = (plan?, tips?);
        if tips.len() >= WORTH_WRITING {
            if let Some(stamps) = stamps {
                Snapshot::write(&snapshot, stamps, plan_id, &plan, &tips);
            } else if unknown >= WORTH_WRITING {
                // While some refs move, an index still serves the others.
                let of_tips = tips.iter().map(|(_, tip, state)| (&tip.commit, &tip.tree, &**state));
                Index::write(&path, of_tips);
            }
        }
        Ok((plan, vec![tips]))
    }

    /// Returns the tips, and the number of tips that the index does not have.
    fn tips(&self, run: &RunId, index: Option<&Index>) -> Result<(Vec<TaskTip>, usize)> {
        let prefix = layout::tasks(run);
        let refs = self.list(&prefix)?;
        let named = refs.into_iter().filter_map(|(name, commit)| {
            Some((TaskId::parse(name.strip_prefix(&prefix)?).ok()?, commit))
        });
        let named: Vec<(TaskId, Oid)> = named.collect();
        let mut states: Vec<Option<(Oid, Box<TaskState>)>> = match index {
            Some(index) => named
                .par_iter()
                .map(|(_, commit)| index.get(commit).map(|(tree, state)| (tree, Box::new(state))))
                .collect(),
            None => named.iter().map(|_| None).collect(),
        };
        let unknown = named.iter().zip(&mut states).filter(|(_, state)| state.is_none());
        let unknown: Vec<_> = unknown.collect();
        let ids: Vec<&Oid> = unknown.iter().map(|((_, commit), _)| commit).collect();
        let count = ids.len();
        let read = repo::read_commits(self.repo(), &ids, |info| -> Result<_> {
            let info = info?;
            Ok((info.tree, Box::new(codec::read_state(&prefix, &info.message)?)))
        })?;
        for (((task, commit), slot), read) in unknown.into_iter().zip(read) {
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    // A second read gives an error that names the ref.
                    let info = repo::commit_info(self.repo(), commit)?;
                    codec::read_state(&layout::task(run, task), &info.message)?;
                    return Err(error.context(format!("cannot read the chain of `{task}`")));
                }
            };
            *slot = Some(read);
        }
        let tips = named.into_iter().zip(states).filter_map(|((task, commit), state)| {
            let (tree, state) = state?;
            Some((task, Tip { commit, tree }, state))
        });
        Ok((tips.collect(), count))
    }

    fn archived(&self, run: &RunId) -> Result<BTreeMap<TaskId, TaskState>> {
        let name = layout::archive(run);
        let Some(commit) = self.read(&name)? else { return Ok(BTreeMap::new()) };
        let tree = self.repo().tree_of(&commit)?;
        let repo = self.repo().local();
        let tree = repo.find_tree(gix::ObjectId::from_hex(tree.as_str().as_bytes())?)?;
        let Some(entry) = tree.lookup_entry_by_path(files::TASKS)? else {
            return Ok(BTreeMap::new());
        };
        let mut states = BTreeMap::new();
        for entry in entry.object()?.into_tree().iter() {
            let entry = entry?;
            let task = TaskId::parse(&entry.filename().to_string())?;
            let blob = entry.object()?;
            let message = std::str::from_utf8(&blob.data)?;
            states.insert(task, codec::read_state(&name, message)?);
        }
        Ok(states)
    }

    /// Returns the files pinned in a run, by path.
    pub fn pinned(&self, run_tree: &Oid) -> Result<BTreeMap<String, Vec<u8>>> {
        let repo = self.repo().local();
        let tree = repo.find_tree(gix::ObjectId::from_hex(run_tree.as_str().as_bytes())?)?;
        let Some(entry) = tree.lookup_entry_by_path(files::PINNED)? else {
            return Ok(BTreeMap::new());
        };
        let pinned = entry.object()?.into_tree();
        let mut files = BTreeMap::new();
        for entry in pinned.traverse().breadthfirst.files()? {
            if entry.mode.is_blob() {
                let blob = repo.find_blob(entry.oid)?;
                files.insert(entry.filepath.to_string(), blob.data.clone());
            }
        }
        Ok(files)
    }
}
