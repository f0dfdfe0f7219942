//! Decisions on reviews.

use super::decider::Decider;
use crate::domain::event::TaskEventKind;
use crate::domain::id::{Oid, TaskId};
use crate::domain::retry::RetryReason;
use crate::domain::review::Approval;
use crate::domain::state::{Phase, TaskState};
use crate::domain::verdict::{Candidate, Finding};

/// A person's decision on a candidate.
pub(super) enum ReviewDecision {
    /// The candidate may land.
    Approve { by: String },
    /// A new attempt has to address the message.
    RequestChanges { by: String, message: String },
    /// The reviewer committed on the task's branch. That commit is the candidate now.
    Revise(Candidate),
}

impl Decider<'_> {
    /// Returns the task's state if a person may review its candidate. If `commit` is given, the
    /// candidate must be this commit.
    pub(super) fn reviewable(&self, task: &TaskId, commit: Option<&Oid>) -> Option<TaskState> {
        let state = self.state.tasks.get(task)?;
        let waits = matches!(state.phase, Phase::Reviewing | Phase::Queued) && self.policy.review;
        let same = commit.is_none() || state.candidate.as_ref().map(|c| &c.commit) == commit;
        (waits && same).then(|| state.clone())
    }

    pub(super) fn reviewed(&mut self, task: &TaskId, state: &TaskState, decision: ReviewDecision) {
        match decision {
            ReviewDecision::Approve { by } => {
                let Some(candidate) = &state.candidate else { return };
                let (commit, tree) = (candidate.commit.clone(), candidate.tree.clone());
                let approval = Approval { by, at: self.now, commit, tree };
                self.emit_task(task, TaskEventKind::Approved(approval));
            }
            ReviewDecision::RequestChanges { by, message } => {
                let finding = Finding {
                    attempt: state.attempt,
                    check: "review".into(),
                    text: format!("{by} reviewed the work and requests changes:\n{message}"),
                };
                let because = format!("{by} requests changes: {}", first_line(&message));
                self.emit_task(task, TaskEventKind::ChangesRequested { by, finding });
                self.next_try(task, state, RetryReason::Feedback, self.now, Some(because));
            }
            ReviewDecision::Revise(candidate) => {
                self.emit_task(task, TaskEventKind::Revised { candidate });
            }
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
}
