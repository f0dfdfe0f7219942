//! The journal of a run: decisions become events that are durable.
//!
//! A decision is first in the batch. Then it is recorded: written to the chains and folded into the
//! state, so that every process sees it. It is durable when a barrier has completed that was
//! requested after the record. Only durable events are reported, in order. The start of an attempt
//! needs no barrier of its own: an attempt whose start is lost in a power cut starts again.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use anyhow::Result;

use super::barrier::Barriers;
use super::dispatcher::Message;
use crate::ambient;
use crate::domain::event::{RunEvent, RunEventKind};
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::{Decision, Observation, decide};
use crate::domain::retry::Policy;
use crate::domain::state::{RunState, TaskState};
use crate::store::chain::{Batch, Ledger, Payload, Tip};
use crate::store::notes::NoteLines;
use crate::store::{RefMove, RunProof, Store, layout};

/// A recorded event that is reported.
#[derive(Debug)]
pub(super) struct JournaledEvent {
    pub decision: Decision,
    /// The number of tasks that had ended after the event. The state in the moment of the report
    /// may hold later events.
    pub ended: usize,
}

/// Recorded changes that wait for a barrier.
#[derive(Debug)]
struct AwaitingSync {
    /// The barrier's number.
    number: u64,
    /// The events to report.
    events: Vec<JournaledEvent>,
    /// The refs of published attempts to delete.
    published: Vec<RefMove>,
    /// The tips of chains after these changes.
    tips: BTreeMap<String, Oid>,
}

/// Recorded changes that are durable.
#[derive(Debug, Default)]
pub(super) struct DurableChanges {
    /// The events to report, in order.
    pub events: Vec<JournaledEvent>,
    /// The refs of published attempts, which are no longer needed.
    pub published: Vec<RefMove>,
}

/// The journal of a run, held by its supervisor.
#[derive(Debug)]
pub(super) struct RunJournal {
    store: Store,
    proof: RunProof,
    ledger: Ledger,
    batch: Batch,
    /// Lines for the notes on trees, written with the next events.
    tree_notes: NoteLines,
    /// Lines for the notes on landed commits.
    commit_notes: NoteLines,
    /// Recorded events for which no barrier was requested yet.
    unsynced: Vec<JournaledEvent>,
    /// Refs of published attempts whose events are recorded, and for which no barrier was requested
    /// yet.
    published: Vec<RefMove>,
    /// The tips of the chains that were written since a barrier was last requested.
    unsynced_tips: BTreeMap<String, Oid>,
    /// Changes that wait for a barrier, in order.
    awaiting_sync: Vec<AwaitingSync>,
    barriers: Barriers,
}

impl RunJournal {
    /// Creates the journal of a loaded run. Completed barriers are sent to `messages`.
    pub(super) fn new(
        store: Store,
        proof: RunProof,
        ledger: Ledger,
        messages: Sender<Message>,
    ) -> Self {
        let barriers = Barriers::start(store.repo().common_dir().to_path_buf(), messages);
        Self {
            store,
            proof,
            ledger,
            batch: Batch::default(),
            tree_notes: NoteLines::new(),
            commit_notes: NoteLines::new(),
            unsynced: Vec::new(),
            published: Vec::new(),
            unsynced_tips: BTreeMap::new(),
            awaiting_sync: Vec::new(),
            barriers,
        }
    }

    /// Returns the state after all recorded events.
    pub(super) fn state(&self) -> &RunState {
        &self.ledger.state
    }

    /// Fails if another hand has moved the chain of the run, to which events are seldom appended.
    pub(super) fn check_run(&self) -> Result<()> {
        self.ledger.check_run(&self.store)
    }

    /// Returns the tip of a task's chain.
    pub(super) fn tip(&self, task: &TaskId) -> Option<&Tip> {
        self.ledger.tips.get(task)
    }

    /// Begins the chains of tasks whose chains were lost. Returns these tasks.
    pub(super) fn recreate_tasks(&mut self, missing: &[TaskId]) -> Result<Vec<TaskId>> {
        let plan = self.ledger.state.tasks.plan();
        let mut recreated = Vec::new();
        for (task, tip, state) in self.store.recreate_tasks(&self.proof, &plan, missing)? {
            self.ledger.tips.insert(task.clone(), tip);
            self.ledger.state.tasks.set(&task, state);
            recreated.push(task);
        }
        Ok(recreated)
    }

    /// Adds the decisions on an observation to the batch.
    pub(super) fn observe(&mut self, observation: Observation, policy: &Policy) -> Vec<Decision> {
        let decisions = decide(&self.ledger.state, observation, ambient::now(), policy);
        self.batch.decisions.extend(decisions.iter().cloned());
        decisions
    }

    /// Adds a payload to a task's next event.
    pub(super) fn add_payload(&mut self, task: &TaskId, payload: Payload) {
        self.batch.payloads.entry(task.clone()).or_default().push(payload);
    }

    /// Keeps a commit reachable from a task's next event.
    pub(super) fn keep_commit(&mut self, task: &TaskId, commit: Oid) {
        self.batch.keep.insert(task.clone(), commit);
    }

    /// Moves a ref in the transaction of the next events.
    pub(super) fn move_ref(&mut self, ref_move: RefMove) {
        self.batch.moves.push(ref_move);
    }

    /// Moves a ref that only people need, together with the next events if that is possible.
    pub(super) fn move_branch_for_people(&mut self, ref_move: RefMove) {
        self.batch.extras.push(ref_move);
    }

    /// Adds lines to the note on a tree. The note is written with the event that vouches for it.
    pub(super) fn note_tree(&mut self, tree: &Oid, lines: Vec<String>) {
        if !lines.is_empty() {
            self.tree_notes.entry(tree.clone()).or_default().extend(lines);
        }
    }

    /// Adds a line to the note on a landed commit.
    pub(super) fn note_commit(&mut self, commit: &Oid, line: String) {
        self.commit_notes.entry(commit.clone()).or_default().push(line);
    }

    /// Deletes the ref of a published attempt once the events recorded next are durable.
    pub(super) fn delete_when_durable(&mut self, published: RefMove) {
        self.published.push(published);
    }

    /// Records the batch and writes the notes. Returns true if a task was split.
    pub(super) fn record(&mut self) -> Result<bool> {
        let for_people = self.batch.extras.clone();
        let lines = [
            (layout::VERDICTS, std::mem::take(&mut self.tree_notes)),
            (layout::NOTES, std::mem::take(&mut self.commit_notes)),
        ];
        for (name, lines) in &lines {
            self.batch.extras.extend(self.store.notes_move(name, lines)?);
        }
        if self.batch.is_empty() {
            return Ok(false);
        }
        let events = self.events_of_batch();
        if !self.ledger.record(&self.store, &self.proof, &mut self.batch)? {
            // The batch's extra refs were not written, because another writer wrote notes at the
            // same time.
            for (name, lines) in &lines {
                self.store.add_notes(name, lines)?;
            }
            for ref_move in for_people {
                // Only people need these refs, so a failure is ignored.
                self.store.transact_in_bulk(&[ref_move]).ok();
            }
        }
        let split = |event: &JournaledEvent| {
            let decision = &event.decision;
            matches!(decision, Decision::Run(RunEvent { kind: RunEventKind::Split { .. }, .. }))
        };
        let has_split = events.iter().any(split);
        self.note_tips(&events);
        self.unsynced.extend(events);
        Ok(has_split)
    }

    /// Records the batch of attempts that start now. Returns the events to report at once. There
    /// are none if earlier events wait for a barrier: the starts are reported behind them.
    pub(super) fn record_starts(&mut self) -> Result<Vec<JournaledEvent>> {
        let events = self.events_of_batch();
        self.ledger.record(&self.store, &self.proof, &mut self.batch)?;
        self.note_tips(&events);
        if !self.unsynced.is_empty() {
            self.unsynced.extend(events);
            self.request_barrier();
        } else if let Some(last) = self.awaiting_sync.last_mut() {
            last.events.extend(events);
        } else {
            return Ok(events);
        }
        Ok(Vec::new())
    }

    /// Notes the tips of the chains to which recorded events were written.
    fn note_tips(&mut self, events: &[JournaledEvent]) {
        let (ledger, run) = (&self.ledger, &self.ledger.state.id);
        let tips = events.iter().filter_map(|event| match &event.decision {
            Decision::Run(_) => Some((layout::run(run), ledger.run_tip.commit.clone())),
            Decision::Task(task, _) => {
                Some((layout::task(run, task), ledger.tips.get(task)?.commit.clone()))
            }
        });
        self.unsynced_tips.extend(tips);
    }

    /// Returns the events of the batch, which is about to be recorded.
    fn events_of_batch(&self) -> Vec<JournaledEvent> {
        let tasks = &self.ledger.state.tasks;
        let mut ended = tasks.count_ended();
        let mut changed: BTreeMap<&TaskId, TaskState> = BTreeMap::new();
        let mut events = Vec::with_capacity(self.batch.decisions.len());
        for decision in &self.batch.decisions {
            if let Decision::Task(task, event) = decision
                && let Some(state) = tasks.get(task)
            {
                let state = changed.entry(task).or_insert_with(|| state.clone());
                let had_ended = state.phase.ended();
                state.apply(event);
                ended = ended + usize::from(state.phase.ended()) - usize::from(had_ended);
            }
            events.push(JournaledEvent { decision: decision.clone(), ended });
        }
        events
    }

    /// Requests a barrier for the recorded events.
    pub(super) fn request_barrier(&mut self) {
        if self.unsynced.is_empty() && self.published.is_empty() {
            return;
        }
        let number = self.barriers.request();
        let (events, published) =
            (std::mem::take(&mut self.unsynced), std::mem::take(&mut self.published));
        let tips = std::mem::take(&mut self.unsynced_tips);
        self.awaiting_sync.push(AwaitingSync { number, events, published, tips });
    }

    /// Returns the changes that the completed barrier of this number covers.
    pub(super) fn durable_at(&mut self, number: u64) -> DurableChanges {
        let later = self.awaiting_sync.iter().position(|s| s.number > number);
        let durable = self.awaiting_sync.drain(..later.unwrap_or(self.awaiting_sync.len()));
        let mut changes = DurableChanges::default();
        let mut tips = BTreeMap::new();
        for synced in durable {
            tips.extend(synced.tips);
            changes.events.extend(synced.events);
            changes.published.extend(synced.published);
        }
        self.store.record_tips(&layout::run(&self.ledger.state.id), tips.iter());
        changes
    }

    /// Waits until all recorded events are durable. Returns the changes that have become durable.
    pub(super) fn sync(&mut self) -> Result<DurableChanges> {
        self.request_barrier();
        let Some(last) = self.awaiting_sync.last() else { return Ok(DurableChanges::default()) };
        let number = last.number;
        self.store.barrier()?;
        Ok(self.durable_at(number))
    }
}
