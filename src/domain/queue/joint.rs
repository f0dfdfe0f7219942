//! The search for the landing that makes an entry fail although the entry passes without this
//! landing.
//!
//! The entry is merged onto first-parent commits of the target, from the entry's fork point to the
//! tip on which the entry failed. The fork point comes first: an entry that fails there fails
//! alone. Bisection then finds the first commit on which the entry fails.

/// The next step of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JointStep {
    /// Verify the entry on the target's commit at this position.
    Verify(usize),
    /// The entry fails on the commit at this position and passes on the commit before.
    Found(usize),
    /// The entry fails without any landing.
    FailsAlone,
}

/// A search among the target's first-parent commits. The fork point has position 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JointSearch {
    /// The last position on which the entry passes.
    passes: Option<usize>,
    /// The first position on which the entry fails.
    fails: usize,
}

impl JointSearch {
    /// Creates the search for an entry that fails on the commit at position `fails`.
    pub fn new(fails: usize) -> Self {
        Self { passes: None, fails }
    }

    /// Returns the next step.
    pub fn next_step(&self) -> JointStep {
        match self.passes {
            None if self.fails == 0 => JointStep::FailsAlone,
            None => JointStep::Verify(0),
            Some(passes) if passes + 1 >= self.fails => JointStep::Found(self.fails),
            Some(passes) => JointStep::Verify(passes + (self.fails - passes) / 2),
        }
    }

    /// Records the verdict on the entry merged onto the commit at a position.
    pub fn record(&mut self, position: usize, passed: bool) {
        if passed {
            self.passes = self.passes.max(Some(position));
        } else {
            self.fails = self.fails.min(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches for a partner, the landing that makes the entry fail, at a position. Returns the
    /// result and the number of verifications.
    fn search(length: usize, partner: usize) -> (JointStep, usize) {
        let mut search = JointSearch::new(length);
        for verified in 0.. {
            match search.next_step() {
                JointStep::Verify(at) => search.record(at, at < partner),
                ended @ (JointStep::Found(_) | JointStep::FailsAlone) => return (ended, verified),
            }
        }
        unreachable!("a search ends")
    }

    #[test]
    fn partner_is_found_by_bisection_after_the_fork_point() {
        for length in 1..40 {
            for partner in 1..=length {
                let (found, verified) = search(length, partner);
                assert_eq!(found, JointStep::Found(partner), "{length}");
                let most = 1 + length.next_power_of_two().ilog2() as usize;
                assert!(verified <= most, "{verified} verifications for {length} landings");
            }
        }
    }

    #[test]
    fn entry_that_fails_on_its_fork_point_fails_alone() {
        assert_eq!(search(8, 0), (JointStep::FailsAlone, 1));
        assert_eq!(search(0, 0), (JointStep::FailsAlone, 0), "nothing has landed since");
    }

    #[test]
    fn only_landing_since_the_fork_costs_one_verification() {
        assert_eq!(search(1, 1), (JointStep::Found(1), 1));
    }
}
