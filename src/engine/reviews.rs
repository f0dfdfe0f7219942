//! The supervisor's side of reviews: a person may commit on a task's branch, and the commit becomes
//! the candidate.

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
const READ_INTERVAL: Duration = Duration::from_millis(500);

/// The state of polling the branches of tasks under review.
#[derive(Debug, Default)]
pub(super) struct ReviewBranches {
    last_read: Option<Instant>,
    /// The tips that were already reported as unusable.
    reported: Vec<Oid>,
}

impl Engine<'_> {
    /// Looks for people's commits on the branches of tasks that wait for a review or for their
    /// landing.
    pub(super) fn check_review_branches(&mut self) -> Result<()> {
        if !self.policy.review
            || self.review_branches.last_read.is_some_and(|at| at.elapsed() < READ_INTERVAL)
        {
            return Ok(());
        }
        self.review_branches.last_read = Some(ambient::instant());
        let tasks = self.journal.state().tasks.in_either(&Phase::Reviewing, &Phase::Queued);
        let candidates: Vec<(TaskId, Candidate)> =
            tasks.filter_map(|(t, s)| Some((t.clone(), s.candidate.clone()?))).collect();
        for (task, candidate) in candidates {
            if let Some(revised) = self.revised(&task, &candidate)? {
                self.observe(Observation::BranchMoved { task, candidate: revised });
            }
        }
        self.flush()
    }

    /// Returns a new candidate if a task's branch has usable commits beyond `candidate`.
    pub(super) fn revised(
        &mut self,
        task: &TaskId,
        candidate: &Candidate,
    ) -> Result<Option<Candidate>> {
        let store = &self.ctx.store;
        let Some(tip) = store.read(&layout::branch(&self.ctx.run, task))? else { return Ok(None) };
        if tip == candidate.commit || self.review_branches.reported.contains(&tip) {
            return Ok(None);
        }
        let repo = store.repo();
        let tree = repo.tree_of(&tip)?;
        let is_unchanged = tree == repo.tree_of(&candidate.base)? && !self.policy.allow_empty;
        if is_unchanged || !repo.is_ancestor(&candidate.base, &tip)? {
            let why = if is_unchanged {
                "changes nothing"
            } else {
                "is not based on where the task began"
            };
            let note = format!(
                "{}: the branch is at {}, which {why}; the candidate stays {}",
                self.ctx.label(task),
                tip.short(),
                candidate.commit.short()
            );
            self.review_branches.reported.push(tip);
            (self.report)(RunReport::Note(note));
            return Ok(None);
        }
        let base = candidate.base.clone();
        Ok(Some(Candidate { commit: tip, tree, base }))
    }
}
