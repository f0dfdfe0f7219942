//! The oracle for the limit on failed tasks.

use git_harness::domain::retry::Policy;

/// The tasks that count towards the limit.
#[derive(Debug, Clone, Default)]
pub(crate) struct FailureOracle {
    /// The numbers of landed and of failed tasks when a person last resumed the run in spite of
    /// its failures. They do not count.
    pub baseline: (usize, usize),
    /// True if, since then, tasks run one at a time until one lands.
    pub canary: bool,
}

impl FailureOracle {
    /// Records that a person resumed the run after it had halted because of failures.
    pub(crate) fn resumed(&mut self, landed: usize, failed: usize) {
        (self.baseline, self.canary) = ((landed, failed), true);
    }

    /// Returns true if the run must halt. `same_cause` means that all failed tasks have one cause.
    pub(crate) fn exceeded(
        &self,
        landed: usize,
        failed: usize,
        same_cause: bool,
        policy: &Policy,
    ) -> bool {
        let new_failed = failed.saturating_sub(self.baseline.1);
        let new_landed = landed.saturating_sub(self.baseline.0);
        let all = new_failed + new_landed;
        let share = u64::from(policy.halt_above.0);
        let pattern = new_landed == 0 && same_cause && new_failed >= 3 && self.baseline.1 == 0;
        let above_share =
            all >= policy.halt_after && new_failed as u64 * 1_000_000 > share * all as u64;
        share < 1_000_000 && (pattern || above_share || (self.canary && new_landed == 0))
    }
}
