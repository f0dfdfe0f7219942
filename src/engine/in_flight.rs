//! Work in flight: what threads and keepers carry out for the supervisor at this moment.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::Effect;

/// The name of work in flight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WorkId {
    /// The verification of the run's base.
    Base,
    /// The verification of a tip of the target that others made.
    TargetTip(Oid),
    /// An attempt.
    Attempt(TaskId, u32),
    /// The verification of an attempt's candidate.
    Verification(TaskId, u32),
    /// The evaluation of an attempt's candidate.
    Evaluation(TaskId, u32),
}

impl WorkId {
    /// Returns the work that performs an effect, or `None` if the loop performs it.
    pub(super) fn of(effect: &Effect) -> Option<Self> {
        match effect {
            Effect::VerifyBase => Some(Self::Base),
            Effect::Await(task, attempt) => Some(Self::Attempt(task.clone(), *attempt)),
            Effect::Verify(task, attempt) => Some(Self::Verification(task.clone(), *attempt)),
            Effect::Evaluate(task, attempt) => Some(Self::Evaluation(task.clone(), *attempt)),
            Effect::Land(_) | Effect::Start(..) | Effect::Redispatch => None,
        }
    }
}

/// The work in flight, each with the worktree that it uses.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    threads: BTreeMap<WorkId, Option<String>>,
    /// Work that a keeper carries out and that no thread awaits (`poll`).
    unattended: BTreeSet<WorkId>,
}

impl InFlight {
    /// Records that a thread carries out work.
    pub(super) fn begin(&mut self, work: WorkId, worktree: Option<String>) {
        self.threads.insert(work, worktree);
    }

    /// Records that a thread has ended. Returns the worktree.
    pub(super) fn finish(&mut self, work: &WorkId) -> Option<String> {
        self.threads.remove(work).flatten()
    }

    /// Records that a keeper still carries out work and that no thread awaits it.
    pub(super) fn leave(&mut self, work: WorkId) {
        self.unattended.insert(work);
    }

    /// Returns true if a thread or a keeper carries out the work.
    pub(super) fn contains(&self, work: &WorkId) -> bool {
        self.threads.contains_key(work) || self.unattended.contains(work)
    }

    /// Returns the amount of work for which `counts` returns true.
    pub(super) fn count(&self, counts: impl Fn(&WorkId) -> bool) -> usize {
        self.threads.keys().chain(&self.unattended).filter(|work| counts(work)).count()
    }

    /// Returns true if an agent or an evaluator works.
    pub(super) fn has_agents(&self) -> bool {
        self.count(|work| matches!(work, WorkId::Attempt(..) | WorkId::Evaluation(..))) > 0
    }

    /// Returns true if a thread carries out work.
    pub(super) fn has_threads(&self) -> bool {
        !self.threads.is_empty()
    }

    /// Returns true if a keeper carries out work that no thread awaits.
    pub(super) fn has_unattended(&self) -> bool {
        !self.unattended.is_empty()
    }
}
