//! The oracle of the simulation: a second implementation of the run machine's rules.
//!
//! The oracle observes the same inputs as the machine. After every input the simulated world
//! compares the state of the machine with the state of the oracle.

pub(crate) mod account;
pub(crate) mod budget;
pub(crate) mod failures;
pub(crate) mod run;
pub(crate) mod starts;
pub(crate) mod task;

use git_harness::domain::id::Timestamp;
use git_harness::domain::retry::Policy;

/// The policy and the time by which the oracle decides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OracleContext<'a> {
    pub policy: &'a Policy,
    pub now: Timestamp,
}

impl OracleContext<'_> {
    /// Returns the end of the pause before the given retry: one second, doubled for every retry
    /// up to one minute.
    fn after_pause(self, retry: u32) -> Timestamp {
        let pauses = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000];
        self.now.after_ms(pauses[(retry as usize - 1).min(6)])
    }
}
