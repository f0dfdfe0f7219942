//! The failure rate of entries, and the group size that follows from it.

/// The initial estimate, in millionths. Leads to groups of eight.
const INITIAL_RATE: u32 = 80_000;
/// The approximate number of entries that the estimate remembers.
const MEMORY: u32 = 32;
/// The ideal product of group size and failure rate, in millionths. Entries behind a culprit return
/// without a verdict, so a group is cheapest when it fails as often as it passes: ln 2 (simulated:
/// 0.4 takes 2 to 7 % more verifications).
const IDEAL_FAILURES: u32 = 700_000;
/// The largest group. Larger groups make the integrator fail too often on semantic conflicts.
pub const LARGEST_GROUP: usize = 16;

/// An exponentially weighted mean of failures, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureRate(u32);

impl Default for FailureRate {
    fn default() -> Self {
        Self(INITIAL_RATE)
    }
}

impl FailureRate {
    /// Records that an entry landed. Conflicts and blocked entries do not count.
    pub fn record_landing(&mut self) {
        self.0 -= self.0 / MEMORY;
    }

    /// Records that an entry was rejected.
    pub fn record_rejection(&mut self) {
        self.0 = self.0 - self.0 / MEMORY + 1_000_000 / MEMORY;
    }

    /// Returns the failure rate in millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// Returns the number of entries to verify together, at most `batch`.
    pub fn group_size(self, batch: usize) -> usize {
        let ideal = usize::try_from(IDEAL_FAILURES / self.0.max(1)).unwrap_or(LARGEST_GROUP);
        ideal.clamp(2, LARGEST_GROUP).min(batch).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_size_grows_with_landings_and_shrinks_with_rejections() {
        let mut rate = FailureRate::default();
        assert_eq!(rate.group_size(16), 8);
        (0..200).for_each(|_| rate.record_landing());
        assert_eq!(rate.group_size(16), 16);
        assert_eq!(rate.group_size(5), 5);
        (0..200).for_each(|_| rate.record_rejection());
        assert_eq!(rate.group_size(16), 2);
        assert_eq!(rate.group_size(1), 1);
        assert!((990_000..=1_000_000).contains(&rate.millionths()));
    }

    #[test]
    fn failure_rate_converges_to_the_true_rate() {
        let mut rate = FailureRate::default();
        let mut sum = 0;
        for n in 0..1_000 {
            if n % 10 == 0 {
                rate.record_rejection();
            } else {
                rate.record_landing();
            }
            sum += u64::from(rate.millionths());
        }
        assert!((90_000..110_000).contains(&(sum / 1_000)), "{sum}");
    }
}
