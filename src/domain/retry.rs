//! The retry layers and what is left of each.

use std::fmt;

/// Why a task gets another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// The middle layer: a new attempt from a clean start, told every finding so far. Charged to the task.
    Feedback,
    /// A fault of the infrastructure. Not charged to the task; repeated with back-off.
    Infra,
    /// Somebody stopped the attempt, or it never began. Neither charged nor delayed.
    Interrupted,
    /// A person asked for it (`git harness retry`): all budgets start anew.
    Manual,
}

impl Layer {
    /// The word used in refs and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Feedback => "feedback",
            Self::Infra => "infra",
            Self::Interrupted => "interrupted",
            Self::Manual => "manual",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// All the numbers that decisions depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Agents at a time.
    pub jobs: usize,
    /// Verifications at a time.
    pub verifications: usize,
    /// New attempts with findings, per task (`[retry] feedback`).
    pub feedback: u32,
    /// Repetitions after infrastructure faults, per task (`[retry] infra`).
    pub infra: u32,
    /// Whether an attempt may leave everything as it was (`[agent] allow-empty`).
    pub allow_empty: bool,
    /// Whether a landing check that fails on the base stops the run (`[job] base-check`).
    pub base_must_pass: bool,
}

/// The first pause after an infrastructure fault, in milliseconds.
const BACKOFF_FIRST_MS: u64 = 1_000;
/// The longest pause, in milliseconds.
const BACKOFF_LONGEST_MS: u64 = 60_000;

/// How long to wait after the `fault`-th infrastructure fault in a row (counted from 1), in milliseconds: doubling from
/// one second to one minute.
#[must_use]
pub fn backoff_ms(fault: u32) -> u64 {
    let doublings = fault.saturating_sub(1).min(16);
    (BACKOFF_FIRST_MS << doublings).min(BACKOFF_LONGEST_MS)
}
