//! Dispatch of a task's next attempt: selects a worktree, a base, and the session to resume.

use std::collections::BTreeSet;

use anyhow::Result;

use super::dispatcher::Engine;
use super::work::attempt::AttemptLaunch;
use super::work::continuation;
use super::work::slots::ATTEMPTS;
use crate::ambient;
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::Observation;
use crate::domain::session::Cost;
use crate::domain::state::{Phase, TaskState};
use crate::keeper::files;
use crate::repo;
use crate::store::chain::findings;
use crate::store::{Expected, RefMove, layout};

impl Engine<'_> {
    /// Claims a worktree for a task's next attempt and adds the event to the batch. Returns `None`
    /// if the attempt cannot start now.
    pub(super) fn dispatch(
        &mut self,
        task: &TaskId,
        attempt: u32,
    ) -> Result<Option<(TaskId, u32, AttemptLaunch)>> {
        if self.interrupts.signal().is_some() {
            return Ok(None);
        }
        let Some(state) = self.journal.state().tasks.get(task).cloned() else { return Ok(None) };
        let mut launch = match self.resumed_launch(&state) {
            // Another attempt uses the session's worktree. Try again later.
            Some(launch) if self.slots.is_busy(&launch.worktree) => return Ok(None),
            Some(launch) => launch,
            None => self.fresh_launch(task, &state)?,
        };
        self.slots.occupy(&launch.worktree);
        let observation = Observation::Dispatched {
            task: task.clone(),
            attempt,
            base: launch.base.clone(),
            worktree: launch.worktree.clone(),
            owner: self.ctx.owner.clone(),
            session: launch.session.clone(),
            resumed: launch.resumed.is_some(),
            work: launch.work.map(|_| launch.checkout.clone()),
        };
        if self.observe(observation).is_empty() {
            self.slots.free(&launch.worktree);
            return Ok(None);
        }
        self.reset_branch(task, &state, &launch.checkout)?;
        if let Some(tip) = self.journal.tip(task) {
            launch.findings = findings(&self.ctx.store, &tip.tree)?;
        }
        Ok(Some((task.clone(), attempt, launch)))
    }

    /// Returns the launch that resumes the task's session, in the session's worktree and with its
    /// work. Returns `None` if there is no session to resume.
    fn resumed_launch(&self, state: &TaskState) -> Option<AttemptLaunch> {
        let session = state.session.as_ref().filter(|s| s.owner == self.ctx.owner)?;
        let base = state.base.clone().filter(|_| self.policy.resumable)?;
        // A worktree cannot show a submodule. The scope would refuse such work, so it is left.
        let has_submodule = |commit: &Oid| {
            let found = repo::changed_submodules(self.ctx.store.repo(), &base, commit);
            found.is_ok_and(|found| !found.is_empty())
        };
        let work = state.candidate.as_ref().map(|c| c.commit.clone());
        let work = work.filter(|commit| !has_submodule(commit));
        Some(AttemptLaunch {
            worktree: session.worktree.clone(),
            checkout: work.unwrap_or_else(|| base.clone()),
            base,
            session: Some(session.id.clone()),
            resumed: Some(state.reason.clone().unwrap_or_else(|| "it was stopped".into())),
            work: None,
            findings: Vec::new(),
            budget: self.budget(state),
        })
    }

    /// Returns the largest cost of an attempt, from what is left of the task's and the run's
    /// limits.
    fn budget(&self, state: &TaskState) -> Option<Cost> {
        self.policy.money_left(&self.journal.state().all_spend(), Some(&state.charged()))
    }

    fn fresh_launch(&mut self, task: &TaskId, state: &TaskState) -> Result<AttemptLaunch> {
        let tip = self.ctx.tip()?;
        let candidate = state.candidate_to_continue(&self.policy);
        let continued =
            candidate.map(|c| continuation::on_tip(&self.ctx, task, state.attempt, c, &tip));
        let work = continued.transpose()?.flatten();
        let waiting = self.journal.state().tasks.with_sessions().filter(|_| self.policy.resumable);
        let sessions = waiting.filter_map(|(_, s)| s.session.as_ref());
        let kept: BTreeSet<&str> =
            sessions.filter(|s| s.owner == self.ctx.owner).map(|s| s.worktree.as_str()).collect();
        Ok(AttemptLaunch {
            worktree: self.slots.take_except(ATTEMPTS, &kept),
            base: tip.clone(),
            work: work.is_some().then_some(state.attempt),
            checkout: work.unwrap_or(tip),
            session: self.ctx.gives_session_ids().then(ambient::uuid),
            resumed: None,
            findings: Vec::new(),
            budget: self.budget(state),
        })
    }

    /// Points the task's branch to the commit at which the attempt starts.
    fn reset_branch(&mut self, task: &TaskId, state: &TaskState, to: &Oid) -> Result<()> {
        if self.ctx.job.output.is_some() {
            return Ok(());
        }
        let branch = layout::branch(&self.ctx.run, task);
        let old = self.ctx.store.read(&branch)?;
        let ours = [state.candidate.as_ref().map(|c| &c.commit), state.base.as_ref()];
        if let Some(tip) = old.as_ref().filter(|tip| !ours.contains(&Some(*tip))) {
            // A person committed on the branch. The branch is reset, and the chain keeps the
            // commits.
            self.journal.keep_commit(task, tip.clone());
        }
        if old.as_ref() != Some(to) {
            self.journal.move_ref(RefMove::to(branch, to.clone(), Expected::from_read(old)));
        }
        Ok(())
    }

    /// Observes the probe: the first agent, which runs alone until its service has answered. The
    /// keeper of the probe creates a marker file when the service answers.
    pub(super) fn check_probe(&mut self) -> Result<()> {
        if !self.policy.probe || self.journal.state().account.proven {
            return Ok(());
        }
        let running = self.journal.state().tasks.in_phase(&Phase::Running);
        let answered = |(task, s): &(&TaskId, &TaskState)| {
            self.ctx.attempt_dir(task, s.attempt).join(files::ANSWERED).exists()
        };
        let answered_tasks: Vec<_> =
            running.filter(answered).map(|(t, s)| (t.clone(), s.attempt)).collect();
        for (task, attempt) in answered_tasks {
            self.observe(Observation::ServiceAnswered { task, attempt });
        }
        self.flush()
    }
}
