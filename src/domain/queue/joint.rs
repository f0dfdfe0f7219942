//! The search for the landing with which an entry fails, although it passes without.
//!
//! The entry is merged onto commits of the target's line, from its fork point to the tip on which
//! it failed. The own tree comes first: an entry that fails there fails alone. Bisection then finds
//! the first commit on which the entry fails.

/// The next step of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JointStep {
    /// Verify the entry on the commit at this position of the line.
    Verify(usize),
    /// The entry fails from the commit at this position on, and passes before.
    Found(usize),
    /// The entry fails without any landing.
    FailsAlone,
}

/// A search. Positions count from the fork point, which is 0.
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

    /// Records the verdict on the entry on the commit at a position.
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

    /// Searches with a partner at a position. Returns the result and the number of verifications.
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
    fn partner_is_found_by_bisection_after_the_own_tree() {
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
    fn entry_that_fails_on_its_own_tree_fails_alone() {
        assert_eq!(search(8, 0), (JointStep::FailsAlone, 1));
        assert_eq!(search(0, 0), (JointStep::FailsAlone, 0), "nothing has landed since");
    }

    #[test]
    fn only_landing_since_the_fork_costs_one_verification() {
        assert_eq!(search(1, 1), (JointStep::Found(1), 1));
    }
}
