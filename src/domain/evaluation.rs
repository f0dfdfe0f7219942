//! Evaluation: an agent of its own looks at what the checks have accepted, and says what is wrong with it.

use super::account::Account;
use super::retry::Policy;
use super::session::Spend;
use super::state::RunState;
use super::verdict::{Objection, Verdict};

/// Where a task stands with its evaluator.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evaluation {
    /// Whether its candidate has passed the checks and waits for an opinion.
    pub waiting: bool,
    /// Opinions with findings since its budgets were last made new.
    pub rounds: u32,
    /// The digest of the last findings.
    pub objection: Option<String>,
    /// What the evaluators of this task used. It is no part of what its attempts did.
    pub spend: Spend,
}

impl Evaluation {
    /// Nothing waits; what was said before counts still.
    pub(super) fn rest(&mut self) {
        self.waiting = false;
    }

    /// Folds an opinion. Says whether it came to one.
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

    /// New budgets.
    pub(super) fn renew(&mut self) {
        *self = Self { spend: self.spend, ..Self::default() };
    }
}

impl RunState {
    /// The account in whose name evaluators work.
    pub fn evaluators_account(&self, policy: &Policy) -> &Account {
        if policy.one_account { &self.account } else { &self.evaluator }
    }

    /// What all evaluators used.
    pub fn evaluation_spend(&self) -> Spend {
        self.tasks.values().fold(Spend::default(), |sum, t| sum.plus(t.evaluation.spend))
    }
}
