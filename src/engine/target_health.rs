//! Target health: whether the tip of the target branch passes the target's own landing checks.
//!
//! Somebody else may push a tip that fails. Tasks that start from it would fail for a reason that
//! is not theirs, so attempts wait until the tip has been verified.

use crate::domain::id::Oid;
use crate::domain::verdict::Verdict;

/// Failed verifications after which a tip counts as failing. One failure may be a flake.
const FAILURES_TO_HOLD: u32 = 2;

/// The state of the target's tips, as far as this supervisor has verified them.
#[derive(Debug, Default)]
pub(super) struct TargetHealth {
    /// The tip that was verified last.
    verified: Option<VerifiedTip>,
    /// The tip that is being verified.
    pending: Option<PendingTip>,
}

#[derive(Debug)]
struct VerifiedTip {
    commit: Oid,
    passes: bool,
}

#[derive(Debug)]
struct PendingTip {
    commit: Oid,
    failures: u32,
}

/// The decision whether attempts may start from a tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Attempts start.
    Start,
    /// Attempts start, and the tip is verified meanwhile: its predecessor passed.
    StartAndVerify,
    /// Attempts wait for the tip's verification.
    VerifyFirst,
    /// Attempts wait for a new tip: this one fails.
    Hold,
}

impl TargetHealth {
    /// Decides if attempts may start from `tip`.
    ///
    /// A target that moves all the time must not starve the run. While a new tip is being verified,
    /// attempts start if the previous one passed.
    pub(super) fn admit(&self, tip: &Oid) -> Admission {
        match &self.verified {
            Some(verified) if verified.commit == *tip && verified.passes => Admission::Start,
            Some(verified) if verified.commit == *tip => Admission::Hold,
            Some(verified) if verified.passes => Admission::StartAndVerify,
            Some(_) | None => Admission::VerifyFirst,
        }
    }

    /// Returns true if the tip is known to fail.
    pub(super) fn fails_at(&self, tip: &Oid) -> bool {
        self.admit(tip) == Admission::Hold
    }

    /// Records that `tip` needs no verification: this run landed it, the run started from it, or
    /// the target has no checks.
    pub(super) fn trust(&mut self, tip: Oid) {
        self.pending = None;
        self.verified = Some(VerifiedTip { commit: tip, passes: true });
    }

    /// Records that the verification of `tip` was assigned to a keeper. Returns true if the tip has
    /// failed before, so that a recorded failure must not be reused.
    pub(super) fn assign(&mut self, tip: &Oid) -> bool {
        match &self.pending {
            Some(pending) if pending.commit == *tip => pending.failures > 0,
            Some(_) | None => {
                self.pending = Some(PendingTip { commit: tip.clone(), failures: 0 });
                false
            }
        }
    }

    /// Records a verdict on `tip`. Returns true if attempts must stop now.
    ///
    /// An errored verification counts as passed: the same error will meet the tasks' own checks,
    /// which charge it to nobody.
    pub(super) fn record<F>(&mut self, tip: &Oid, verdict: &Verdict<F>) -> bool {
        let Some(pending) = self.pending.as_mut().filter(|pending| pending.commit == *tip) else {
            return false; // The tip has moved since.
        };
        let failed = matches!(verdict, Verdict::Failed(_));
        if failed {
            pending.failures += 1;
            if pending.failures < FAILURES_TO_HOLD {
                return false;
            }
        }
        self.pending = None;
        self.verified = Some(VerifiedTip { commit: tip.clone(), passes: !failed });
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tip(digit: char) -> Oid {
        Oid::parse(&digit.to_string().repeat(40)).unwrap()
    }

    const FAILED: Verdict<()> = Verdict::Failed(());
    const PASSED: Verdict<()> = Verdict::Passed;

    #[test]
    fn tip_counts_as_failing_after_two_failed_verifications() {
        let mut health = TargetHealth::default();
        assert_eq!(health.admit(&tip('a')), Admission::VerifyFirst);
        assert!(!health.assign(&tip('a')));
        assert!(!health.record(&tip('a'), &FAILED));
        assert_eq!(health.admit(&tip('a')), Admission::VerifyFirst);
        assert!(health.assign(&tip('a')), "a recorded failure must not be reused");
        assert!(health.record(&tip('a'), &FAILED));
        assert!(health.fails_at(&tip('a')));
        assert_eq!(health.admit(&tip('b')), Admission::VerifyFirst, "its predecessor failed");
    }

    #[test]
    fn attempts_start_while_a_successor_of_a_passing_tip_is_verified() {
        let mut health = TargetHealth::default();
        health.trust(tip('a'));
        assert_eq!(health.admit(&tip('a')), Admission::Start);
        assert_eq!(health.admit(&tip('b')), Admission::StartAndVerify);
        health.assign(&tip('b'));
        assert!(!health.record(&tip('b'), &PASSED));
        assert_eq!(health.admit(&tip('b')), Admission::Start);
    }

    #[test]
    fn verdict_on_a_tip_that_has_moved_is_ignored() {
        let mut health = TargetHealth::default();
        health.assign(&tip('a'));
        health.assign(&tip('b'));
        assert!(!health.record(&tip('a'), &PASSED));
        assert_eq!(health.admit(&tip('a')), Admission::VerifyFirst);
    }

    #[test]
    fn errored_verification_of_a_tip_holds_nobody_up() {
        let mut health = TargetHealth::default();
        health.assign(&tip('a'));
        let errored: Verdict<()> = Verdict::Errored("no space left on device".into());
        assert!(!health.record(&tip('a'), &errored));
        assert_eq!(health.admit(&tip('a')), Admission::Start);
    }
}
