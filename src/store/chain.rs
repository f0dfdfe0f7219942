//! The ledger: the state of a run in memory, together with the tips of its chains. The ledger folds
//! a batch of events into the state and commits the batch to the chains in one transaction.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::layout;
use super::{Expected, RefConflict, RefMove, RunProof, Store, codec};
use crate::ambient;
use crate::domain::event::{RunEvent, RunEventKind, TaskEvent, TaskEventKind};
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::Decision;
use crate::domain::state::{RunState, TaskState};
use crate::domain::verdict::Finding;
use crate::repo;
use crate::wire::facts::WireFinding;

/// The tip of a chain: the last event's commit and its tree of payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    /// The commit.
    pub commit: Oid,
    /// Its tree.
    pub tree: Oid,
}

/// A file or folder that an event adds to the tree of its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The path in the chain's tree.
    pub path: String,
    /// The blob or the tree.
    pub id: Oid,
    /// True if `id` is a tree.
    pub is_tree: bool,
}

/// A run in memory, in step with its chains.
#[derive(Debug)]
pub struct Ledger {
    /// The state of the run.
    pub state: RunState,
    /// The run's tip.
    pub run_tip: Tip,
    /// The number of events on the run's chain.
    pub run_seq: u64,
    /// The tasks' tips.
    pub tips: BTreeMap<TaskId, Tip>,
}

/// Events and payloads that go into one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    /// The events, in order.
    pub decisions: Vec<Decision>,
    /// The payloads of each task's next event.
    pub payloads: BTreeMap<TaskId, Vec<Payload>>,
    /// For each task, a commit that stays reachable as a parent of the task's next event.
    pub keep: BTreeMap<TaskId, Oid>,
    /// The new tree of the run's chain. The next run event starts to use the tree.
    pub run_tree: Option<Oid>,
    /// Other refs to move in the same transaction.
    pub moves: Vec<RefMove>,
    /// Optional moves for the same transaction. If a ref has another value than expected, the
    /// batch is recorded without any optional move, and the caller performs them later.
    pub extras: Vec<RefMove>,
}

impl Batch {
    /// Returns true if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty() && self.moves.is_empty() && self.extras.is_empty()
    }
}

impl Ledger {
    /// Commits a batch to the chains and folds it into the state. When this function returns, every
    /// process sees the batch; after the store's barrier, the batch survives a power cut. Returns
    /// true if the batch's extras were moved too.
    pub fn record(&mut self, store: &Store, proof: &RunProof, batch: &mut Batch) -> Result<bool> {
        debug_assert_eq!(proof.run(), &self.state.id, "a proof is for one run");
        let mut next: BTreeMap<TaskId, (TaskState, Tip)> = BTreeMap::new();
        let mut run_tip = self.run_tip.clone();
        let mut run_seq = self.run_seq;
        for decision in &batch.decisions {
            match decision {
                Decision::Run(event) => {
                    run_seq += 1;
                    if let Some(tree) = batch.run_tree.take() {
                        run_tip.tree = tree;
                    }
                    run_tip = self.commit_run(store, event, run_seq, &run_tip)?;
                    if let RunEventKind::Split { .. } = &event.kind {
                        next.extend(self.parts(store, event)?);
                    }
                }
                Decision::Task(task, event) => {
                    let (mut state, tip) = match next.remove(task) {
                        Some(pair) => pair,
                        None => self.current(task)?,
                    };
                    let mut payloads = batch.payloads.remove(task).unwrap_or_default();
                    payloads.extend(findings_payload(store, &tip.tree, event)?);
                    state.apply(event);
                    let keep = batch.keep.remove(task);
                    let tip = Tip { tree: put(store, &tip.tree, &payloads)?, ..tip };
                    let tip = self.commit_task(store, task, event, &state, &tip, keep)?;
                    next.insert(task.clone(), (state, tip));
                }
            }
        }
        let mut moves = std::mem::take(&mut batch.moves);
        if run_tip != self.run_tip {
            let old = Expected::Value(self.run_tip.commit.clone());
            moves.push(RefMove::to(layout::run(&self.state.id), run_tip.commit.clone(), old));
        }
        for (task, (_, tip)) in &next {
            let old = self.tips.get(task).map(|t| t.commit.clone());
            let name = layout::task(&self.state.id, task);
            moves.push(RefMove::to(name, tip.commit.clone(), Expected::from_read(old)));
        }
        let extras = std::mem::take(&mut batch.extras);
        let all = [moves.as_slice(), &extras].concat();
        let moved = match store.transact_in_bulk(&all) {
            Err(error) if error.is::<RefConflict>() && !extras.is_empty() => {
                store.transact_in_bulk(&moves).map(|()| false)
            }
            other => other.map(|()| true),
        };
        let moved = moved.map_err(|error| {
            // Only the holder of the run writes to its chains.
            let own = |name: &str| {
                name == layout::run(&self.state.id)
                    || name.starts_with(&layout::tasks(&self.state.id))
            };
            let chains = moves.iter().filter(|ref_move| own(&ref_move.name));
            store.foreign_move(chains).ok().flatten().unwrap_or(error)
        })?;
        for decision in batch.decisions.drain(..) {
            match decision {
                Decision::Run(event) => self.state.apply_run(&event),
                Decision::Task(task, event) => self.state.apply_task(&task, &event),
            }
        }
        for (task, (_, tip)) in next {
            self.tips.insert(task, tip);
        }
        self.run_tip = run_tip;
        self.run_seq = run_seq;
        Ok(moved)
    }

    /// Fails if another hand has moved the chain of the run.
    pub(crate) fn check_run(&self, store: &Store) -> Result<()> {
        let tip = self.run_tip.commit.clone();
        let name = layout::run(&self.state.id);
        let held = RefMove::to(name, tip.clone(), Expected::Value(tip));
        store.foreign_move(std::iter::once(&held))?.map_or(Ok(()), Err)
    }

    /// Creates the first events of the parts into which a task is split.
    fn parts(&self, store: &Store, event: &RunEvent) -> Result<BTreeMap<TaskId, (TaskState, Tip)>> {
        let RunEventKind::Split { task, parts } = &event.kind else { return Ok(BTreeMap::new()) };
        let new = self.state.tasks.parts(task, parts).into_iter();
        new.map(|task| {
            let (tip, state) = store.first_event(&self.state.id, &task)?;
            Ok((task.id, (state, tip)))
        })
        .collect()
    }

    fn current(&self, task: &TaskId) -> Result<(TaskState, Tip)> {
        let state = self.state.tasks.get(task).with_context(|| format!("no task `{task}`"))?;
        let tip = self.tips.get(task).with_context(|| format!("the task `{task}` has no chain"))?;
        Ok((state.clone(), tip.clone()))
    }

    fn commit_run(&self, store: &Store, event: &RunEvent, seq: u64, tip: &Tip) -> Result<Tip> {
        let message = codec::write_run(self.state.id.as_str(), event, seq, &ambient::nonce())?;
        let mut parents = vec![tip.commit.clone()];
        if let RunEventKind::Replanned { base: Some(base), .. } = &event.kind {
            // The parent keeps the new base reachable whatever happens to the user's branches.
            parents.push(base.clone());
        }
        let name = layout::run(&self.state.id);
        let commit = chain_commit(store, &name, &tip.tree, &parents, &message)?;
        Ok(Tip { commit, tree: tip.tree.clone() })
    }

    fn commit_task(
        &self,
        store: &Store,
        task: &TaskId,
        event: &TaskEvent,
        after: &TaskState,
        tip: &Tip,
        keep: Option<Oid>,
    ) -> Result<Tip> {
        let run = self.state.id.as_str();
        let message = codec::write_task(run, task, event, after, &ambient::nonce())?;
        let mut parents = vec![tip.commit.clone()];
        parents.extend(work(&event.kind));
        parents.extend(keep);
        let name = layout::task(&self.state.id, task);
        let commit = chain_commit(store, &name, &tip.tree, &parents, &message)?;
        Ok(Tip { commit, tree: tip.tree.clone() })
    }
}

/// Writes a commit of the chain `name`, sealed, as [`state_commit`] does.
pub(super) fn chain_commit(
    store: &Store,
    name: &str,
    tree: &Oid,
    parents: &[Oid],
    message: &str,
) -> Result<Oid> {
    state_commit(store, tree, parents, &store.sealed_message(name, tree, parents, message)?)
}

/// Writes a commit with this program as the author and the present time.
pub(super) fn state_commit(
    store: &Store,
    tree: &Oid,
    parents: &[Oid],
    message: &str,
) -> Result<Oid> {
    let time = i64::try_from(ambient::now().0 / 1000).unwrap_or(0);
    let identity =
        repo::Identity { name: "git-harness".into(), email: "git-harness@localhost".into() };
    repo::commit(store.repo(), tree, parents, message, &identity, time)
}

/// Returns the candidate or the landed commit that an event names. As the second parent of the
/// event's commit, this commit stays reachable.
fn work(kind: &TaskEventKind) -> Option<Oid> {
    kind.candidate().map(|candidate| &candidate.commit).or_else(|| kind.landed_commit()).cloned()
}

/// Returns a tree with payloads added.
pub(super) fn put(store: &Store, tree: &Oid, payloads: &[Payload]) -> Result<Oid> {
    if payloads.is_empty() {
        return Ok(tree.clone());
    }
    let graft = |p: &Payload| (p.path.clone(), Some((p.id.clone(), p.is_tree)));
    repo::edit_tree_entries(store.repo(), tree, &payloads.iter().map(graft).collect::<Vec<_>>())
}

/// Returns a tree without one of its entries.
pub(super) fn without(store: &Store, tree: &Oid, path: &str) -> Result<Oid> {
    repo::edit_tree_entries(store.repo(), tree, &[(path.to_owned(), None)])
}

/// The file with all findings of a task, in the tree of the task's chain.
pub const FINDINGS: &str = "findings.json";

/// Returns the findings file with an event's findings appended, or `None` if the event has none.
fn findings_payload(store: &Store, tree: &Oid, event: &TaskEvent) -> Result<Option<Payload>> {
    let Some(new) = event.kind.findings() else { return Ok(None) };
    let mut all = findings(store, tree)?;
    all.extend_from_slice(new);
    let wire: Vec<WireFinding> = all.iter().map(WireFinding::from).collect();
    let id = repo::write_blob(store.repo(), &serde_json::to_vec_pretty(&wire)?)?;
    Ok(Some(Payload { path: FINDINGS.into(), id, is_tree: false }))
}

/// Reads the findings of a task's tree, oldest first.
pub fn findings(store: &Store, tree: &Oid) -> Result<Vec<Finding>> {
    let Some(bytes) = store.repo().read_blob_at(tree, FINDINGS)? else { return Ok(Vec::new()) };
    let wire: Vec<WireFinding> = serde_json::from_slice(&bytes)?;
    Ok(wire.into_iter().map(Finding::from).collect())
}
