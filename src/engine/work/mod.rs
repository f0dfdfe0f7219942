//! Work for keepers: assignments, the processes that carry them out, and the outcomes.

pub(in crate::engine) mod assignment;
#[cfg(test)]
mod assignment_tests;
pub(in crate::engine) mod attempt;
mod call;
pub(in crate::engine) mod checks;
pub(in crate::engine) mod continuation;
pub(in crate::engine) mod evaluation;
pub(in crate::engine) mod keepers;
pub(in crate::engine) mod slots;
pub(in crate::engine) mod verification;
