//! The state machine of a run.
//!
//! [`decide`] turns an observation into events. Observations may be late, repeated or stale, so
//! `decide` consults the state again and returns no events for an observation that no longer
//! matters. [`owed()`] returns the effects to perform next. The effects follow from the state, the
//! policy and the time, so recovery is another call of `owed`.

mod attempt;
mod blocked;
mod decider;
mod evaluation;
mod failures;
mod observation;
mod owed;
mod requests;
mod review;
mod split;
#[cfg(test)]
mod tests;
mod verification;

use self::attempt::AttemptEnd;
use self::decider::Decider;
use self::evaluation::EvaluatorReport;
use self::owed::startable_attempts;
use self::review::ReviewDecision;
use super::event::{RunEventKind, TaskEventKind};
use super::id::{Oid, TaskId, Timestamp};
use super::retry::{Policy, RetryReason};
use super::state::{Phase, RunState, TaskState};

pub use self::blocked::{at_rest, awaits_review, blocked, canary_holds, stalled};
pub use self::decider::Decision;
pub use self::failures::{FailureGroup, failure_groups};
pub use self::observation::{Observation, Request};
pub use self::owed::{Effect, evaluator_slots, held_back, next_wake, owed};

/// Returns the events that follow from an observation in a state. There may be none.
pub fn decide(
    state: &RunState,
    observation: Observation,
    now: Timestamp,
    policy: &Policy,
) -> Vec<Decision> {
    let mut decider = Decider { state, now, policy, decisions: Vec::new() };
    decider.observe(observation);
    decider.decisions
}

impl Decider<'_> {
    fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::BaseVerified(checks) => self.base_verified(checks),
            Observation::Dispatched {
                task,
                attempt,
                base,
                worktree,
                owner,
                session,
                resumed,
                work,
            } => {
                let Some(state) = self.state.tasks.get(&task) else { return };
                let startable = startable_attempts(self.state, self.policy, self.now)
                    .contains(&(task.clone(), attempt));
                let same_session =
                    || self.can_continue(state, &base, &worktree, &owner, session.as_ref());
                let may_continue = work.is_none()
                    || !resumed && state.candidate_to_continue(self.policy).is_some();
                if startable && may_continue && (!resumed || same_session()) {
                    let started = TaskEventKind::Started {
                        attempt,
                        base,
                        worktree,
                        owner,
                        session,
                        resumed,
                        work,
                    };
                    self.emit_task(&task, started);
                }
            }
            Observation::ServiceAnswered { task, attempt } => {
                if let Some(state) = self.running(&task, attempt) {
                    self.set_account(&self.state.account.answered(state.at));
                }
            }
            Observation::AttemptEnded {
                task,
                attempt,
                termination,
                candidate,
                changed,
                report,
                stderr,
            } => {
                let state = self.running(&task, attempt);
                if let Some(state) = state.or_else(|| self.taken_out(&task, attempt)) {
                    let end = AttemptEnd { termination, candidate, changed, report, stderr };
                    self.attempt_ended(&task, &state, end);
                }
            }
            Observation::NeverStarted { task, attempt } => {
                if self.running(&task, attempt).is_some() {
                    if self.was_split(&task) {
                        self.skip_split(&task);
                    } else {
                        self.retry(&task, RetryReason::Interrupted, self.now, None);
                    }
                }
            }
            Observation::Verified { task, attempt, tree, checks, stderr } => {
                if let Some(state) = self.verifying(&task, attempt, &tree) {
                    self.candidate_verified(&task, &state, tree, checks, stderr.as_deref());
                }
            }
            Observation::Evaluated { task, attempt, tree, began, termination, verdict, report } => {
                if let Some(state) = self.evaluating(&task, attempt, &tree) {
                    let evaluation = EvaluatorReport { tree, began, termination, verdict, report };
                    self.evaluated(&task, &state, evaluation);
                }
            }
            Observation::BranchMoved { task, candidate } => {
                if let Some(state) = self.reviewable(&task, None)
                    && state.candidate.as_ref() != Some(&candidate)
                {
                    self.reviewed(&task, &state, ReviewDecision::Revise(candidate));
                }
            }
            Observation::LandingConflict { task, candidate, onto, paths, description } => {
                if let Some(state) = self.queued(&task, &candidate) {
                    self.conflicted(&task, &state, onto, &paths, description);
                }
            }
            Observation::LandingVerified { task, candidate, tree, checks } => {
                if let Some(state) = self.queued(&task, &candidate).filter(|s| self.due(s)) {
                    self.landing_verified(&task, &state, tree, checks);
                }
            }
            Observation::Landed { task, commit, results } => {
                let done = self.state.tasks.get(&task).is_none_or(|s| s.phase == Phase::Done);
                if !done {
                    self.emit_task(&task, TaskEventKind::Landed { commit, results });
                }
            }
            Observation::RedispatchDue => self.redispatch_failed(),
            Observation::JobChanged(sections) => self.emit_run(RunEventKind::JobChanged(sections)),
            Observation::Requested(request) => self.requested(request),
        }
    }

    /// Returns the state of a task that was skipped or landed while this attempt was running. The
    /// attempt's usage and work must still be recorded.
    fn taken_out(&self, task: &TaskId, attempt: u32) -> Option<TaskState> {
        let state = self.state.tasks.get(task)?;
        let out = matches!(state.phase, Phase::Skipped | Phase::Done);
        (out && state.attempt == attempt && state.worktree.is_some()).then(|| state.clone())
    }

    /// Returns true if an attempt can resume the task's session: the same id, worktree and base.
    fn can_continue(
        &self,
        state: &TaskState,
        base: &Oid,
        worktree: &String,
        owner: &String,
        session: Option<&String>,
    ) -> bool {
        let Some(kept) = state.session.as_ref().filter(|_| self.policy.resumable) else {
            return false;
        };
        state.base.as_ref() == Some(base)
            && (worktree, owner, session) == (&kept.worktree, &kept.owner, Some(&kept.id))
    }
}
