//! The evaluation of a candidate by an evaluator: an agent that reviews what the checks accepted.

use super::session::Spend;
use super::verdict::{Objection, Verdict};

/// The state of a task's evaluation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evaluation {
    /// True if the candidate has passed the checks and waits for the evaluator's verdict.
    pub waiting: bool,
    /// The number of failed evaluations since the budgets were last reset.
    pub rounds: u32,
    /// The digest of the last findings.
    pub objection: Option<String>,
    /// True if the service has answered an evaluator of this task.
    pub answered: bool,
    /// The usage of the task's evaluators. It is not part of the attempts' spend.
    pub spend: Spend,
}

impl Evaluation {
    /// Clears the wait for a verdict. Earlier rounds still count.
    pub(super) fn stop_waiting(&mut self) {
        self.waiting = false;
    }

    /// Folds a verdict. Returns false if no verdict was reached.
    pub(super) fn apply(&mut self, verdict: &Verdict<Objection>) -> bool {
        match verdict {
            Verdict::Errored(_) => return false,
            Verdict::Passed => {}
            Verdict::Failed(Objection { digest, .. }) => {
                self.rounds += 1;
                self.objection = Some(digest.clone());
            }
        }
        self.waiting = false;
        true
    }

    /// Resets everything but the spend and the answer of the service.
    pub(super) fn reset_rounds(&mut self) {
        *self = Self { spend: self.spend, answered: self.answered, ..Self::default() };
    }
}
