//! The failure rate of entries, and the group size that follows from it.
//!
//! # Group size
//!
//! Let each entry fail with probability `p`, and let `q = 1 - p`. One verification covers a group
//! of `b` entries. The group fails with probability `1 - q^b`. Bisection then takes about `log2 b`
//! verifications, and the confirmation of the culprit takes one. The entries behind the culprit
//! return without a verdict, so a group decides `1 + q + … + q^(b-1) = (1 - q^b) / p` entries on
//! average. The expected number of verifications for each decided entry is
//!
//! ```text
//! c(b) = (1 + (1 - q^b)(log2 b + 1)) / ((1 - q^b) / p)
//!      = p / (1 - q^b) + p (log2 b + 1)
//! ```
//!
//! With `x = p b` and `q^b ≈ e^-x`, the minimum of `c` is where `x ln 2 = e^x (1 - e^-x)^2`, or
//! `x = 0.67`. The minimum is flat. The rule is `b = 0.7 / p`; a test compares its cost with the
//! least `c(b)`. A group is then cheapest when it fails about as often as it passes. (The design's
//! simulation used 0.4, which takes 2 to 7 % more verifications.)
//!
//! # Failure rate
//!
//! The estimate is the mean of a Beta distribution after the entries that have landed or were
//! rejected: `(failures + 1) / (entries + 12.5)`. Without history the estimate is 0.08: groups of
//! 8. The prior makes the estimate pessimistic: 24 landings in a row justify groups of 24, and 123
//! landings justify groups of 64. Old entries fade, so that a queue whose entries become worse (or
//! better) is not judged by its past for long.
//!
//! The estimate is a fold over landings and rejections, and a queue folds the events of its whole
//! log when it is opened. The history therefore survives restarts. Flaky failures, conflicts and
//! blocked entries do not count, because a smaller group would not avoid them.

/// The weight of one entry.
const ONE: u64 = 1_000_000;
/// The failures that are assumed before the first entry.
const ASSUMED_FAILURES: u64 = ONE;
/// The entries that are assumed before the first entry.
const ASSUMED_ENTRIES: u64 = 12_500_000;
/// The number of entries that the estimate remembers. With 64 in place of 128, a thousand entries
/// of which 1 % fail take 5 % more verifications. With 256, a queue whose entries become worse
/// shrinks its trains later, and nothing else is gained (simulated).
const MEMORY: u64 = 128;
/// The ideal product of group size and failure rate, in millionths.
const IDEAL_FAILURES: u64 = 700_000;
/// The largest group.
pub const LARGEST_GROUP: usize = 64;

/// The landings and rejections of a target's entries, and the failure rate that follows. The
/// module's documentation derives the group size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FailureRate {
    /// The rejected entries, weighted.
    failures: u64,
    /// The landed and rejected entries, weighted.
    entries: u64,
}

impl FailureRate {
    /// Records that an entry landed. Conflicts and blocked entries do not count.
    pub fn record_landing(&mut self) {
        self.fade();
        self.entries += ONE;
    }

    /// Records that an entry was rejected.
    pub fn record_rejection(&mut self) {
        self.fade();
        self.entries += ONE;
        self.failures += ONE;
    }

    fn fade(&mut self) {
        self.failures -= self.failures / MEMORY;
        self.entries -= self.entries / MEMORY;
    }

    /// Returns the failure rate in millionths.
    pub fn millionths(self) -> u64 {
        (self.failures + ASSUMED_FAILURES) * ONE / (self.entries + ASSUMED_ENTRIES)
    }

    /// Returns the number of entries to verify together, at most `batch`.
    pub fn group_size(self, batch: usize) -> usize {
        let ideal = usize::try_from(IDEAL_FAILURES / self.millionths()).unwrap_or(LARGEST_GROUP);
        ideal.clamp(2, LARGEST_GROUP).min(batch).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(landings: u64, rejections: u64) -> FailureRate {
        let mut rate = FailureRate::default();
        (0..landings).for_each(|_| rate.record_landing());
        (0..rejections).for_each(|_| rate.record_rejection());
        rate
    }

    #[test]
    fn group_size_grows_with_landings_and_shrinks_with_rejections() {
        let sizes = |landings, rejections| rate(landings, rejections).group_size(64);
        assert_eq!([0, 8, 24, 64, 122, 123, 200].map(|n| sizes(n, 0)), [8, 14, 24, 44, 63, 64, 64]);
        assert_eq!([1, 2, 4, 8, 200].map(|n| sizes(200, n)), [39, 26, 16, 9, 2]);
        assert_eq!([1, 2, 3].map(|n| sizes(0, n)), [4, 3, 2]);
        assert_eq!(rate(200, 0).group_size(5), 5);
        assert_eq!(rate(0, 200).group_size(1), 1);
        assert_eq!(rate(0, 0).group_size(0), 1);
    }

    #[test]
    fn failure_rate_converges_to_the_true_rate() {
        let mut rate = FailureRate::default();
        assert_eq!(rate.millionths(), 80_000);
        let mut sum = 0;
        for n in 0..1_000 {
            if n % 10 == 0 {
                rate.record_rejection();
            } else {
                rate.record_landing();
            }
            sum += rate.millionths();
        }
        assert!((95_000..105_000).contains(&(sum / 1_000)), "{sum}");
    }

    #[test]
    fn old_failures_fade() {
        let mut rate = rate(0, 1_000);
        assert!((915_000..925_000).contains(&rate.millionths()), "{rate:?}");
        (0..1_000).for_each(|_| rate.record_landing());
        assert_eq!(rate.group_size(64), 64);
    }

    /// The expected number of verifications for each entry that a group decides.
    fn cost(p: f64, size: usize) -> f64 {
        let size = f64::from(u32::try_from(size).unwrap());
        p / (1.0 - (1.0 - p).powf(size)) + p * (size.log2() + 1.0)
    }

    #[test]
    fn group_size_has_nearly_the_least_expected_verifications() {
        for per_thousand in 5..=200_u64 {
            let p = f64::from(u32::try_from(per_thousand).unwrap()) / 1_000.0;
            // The history whose estimate is `p`.
            let entries = 1_000 * ONE;
            let failures = (entries + ASSUMED_ENTRIES) * per_thousand / 1_000 - ASSUMED_FAILURES;
            let size = FailureRate { failures, entries }.group_size(LARGEST_GROUP);
            let least = (2..=LARGEST_GROUP).map(|size| cost(p, size)).fold(f64::MAX, f64::min);
            assert!(
                cost(p, size) <= least * 1.01,
                "{p}: {size} costs {} of {least}",
                cost(p, size)
            );
        }
    }
}
