//! How often entries fail, and how large a group may be.

/// Where the estimate begins: groups of eight.
const START: u32 = 80_000;
/// How many entries the estimate remembers, about.
const MEMORY: u32 = 32;
/// The size of a group times the share of failures. What is behind a culprit goes back without having been judged, so a
/// group is the cheapest when it fails as often as it passes: ln 2 (simulated: 0.4 takes 2 to 7 % more verifications).
const IDEAL: u32 = 700_000;
/// The largest group. With larger ones, conflicts in meaning make the integrator fail too often.
pub const LARGEST_GROUP: usize = 16;

/// An exponentially weighted mean of failures, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureRate(u32);

impl Default for FailureRate {
    fn default() -> Self {
        Self(START)
    }
}

impl FailureRate {
    /// Learns how an entry fared: it landed, or it was rejected. Conflicts and what is blocked say nothing of the rate.
    pub fn note(&mut self, failed: bool) {
        let aim = if failed { 1_000_000 / MEMORY } else { 0 };
        self.0 = self.0 - self.0 / MEMORY + aim;
    }

    /// Of a million, this many fail.
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// How many entries to verify together.
    pub fn group(self, batch: usize) -> usize {
        let ideal = usize::try_from(IDEAL / self.0.max(1)).unwrap_or(LARGEST_GROUP);
        ideal.clamp(2, LARGEST_GROUP).min(batch).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_grow_while_all_is_well_and_shrink_when_it_is_not() {
        let mut rate = FailureRate::default();
        assert_eq!(rate.group(16), 8);
        (0..200).for_each(|_| rate.note(false));
        assert_eq!(rate.group(16), 16);
        assert_eq!(rate.group(5), 5);
        (0..200).for_each(|_| rate.note(true));
        assert_eq!(rate.group(16), 2);
        assert_eq!(rate.group(1), 1);
        assert!((990_000..=1_000_000).contains(&rate.millionths()));
    }

    #[test]
    fn the_estimate_comes_near_the_truth() {
        let mut rate = FailureRate::default();
        let mut sum = 0;
        for n in 0..1_000 {
            rate.note(n % 10 == 0);
            sum += u64::from(rate.millionths());
        }
        assert!((90_000..110_000).contains(&(sum / 1_000)), "{sum}");
    }
}
