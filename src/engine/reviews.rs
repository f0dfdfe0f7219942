//! Reviews, as the supervisor handles them: a person may commit on a task's branch, and the commit
//! becomes the candidate.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::RunReport;
use super::dispatcher::Engine;
use crate::ambient;
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::Observation;
use crate::domain::state::Phase;
use crate::domain::verdict::Candidate;
use crate::store::layout;

/// The interval at which branches are read.
const LOOK: Duration = Duration::from_millis(500);

/// The observed branches of tasks under review.
#[derive(Debug, Default)]
pub(super) struct ReviewBranches {
    looked: Option<Instant>,
    /// Tips that were already reported as unusable.
    told: Vec<Oid>,
}

impl Engine<'_> {
    /// Looks for people's commits on the branches of tasks that wait for a review, or to land after
    /// one.
    pub(super) fn check_review_branches(&mut self) -> Result<()> {
        if !self.policy.review || self.branches.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return Ok(());
        }
        self.branches.looked = Some(ambient::instant());
        let waits = |phase: &Phase| matches!(phase, Phase::Reviewing | Phase::Queued);
        let tasks = self.ledger.state.tasks.iter().filter(|(_, s)| waits(&s.phase));
        let known: Vec<(TaskId, Candidate)> =
            tasks.filter_map(|(t, s)| Some((t.clone(), s.candidate.clone()?))).collect();
        for (task, candidate) in known {
            if let Some(revised) = self.revised(&task, &candidate)? {
                self.observe(Observation::BranchMoved { task, candidate: revised });
            }
        }
        self.flush()
    }

    /// Returns the work on a task's branch if it differs from the candidate.
    pub(super) fn revised(
        &mut self,
        task: &TaskId,
        candidate: &Candidate,
    ) -> Result<Option<Candidate>> {
        let store = &self.ctx.store;
        let Some(tip) = store.read(&layout::branch(&self.ctx.run, task))? else { return Ok(None) };
        if tip == candidate.commit || self.branches.told.contains(&tip) {
            return Ok(None);
        }
        let repo = store.repo();
        let tree = repo.tree_of(&tip)?;
        let idle = tree == repo.tree_of(&candidate.base)? && !self.policy.allow_empty;
        if idle || !repo.is_ancestor(&candidate.base, &tip)? {
            let why = if idle { "changes nothing" } else { "is not based on where the task began" };
            let note = format!(
                "{task}: the branch is at {}, which {why}; the candidate stays {}",
                tip.short(),
                candidate.commit.short()
            );
            self.branches.told.push(tip);
            (self.report)(RunReport::Note(note));
            return Ok(None);
        }
        let base = candidate.base.clone();
        Ok(Some(Candidate { commit: tip, tree, base }))
    }
}
