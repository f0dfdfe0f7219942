//! Model tests: the run machine and the merge queue in simulated worlds, and the store with
//! several handles.
//!
//! The simulation is checked with hand-made mutants of `src/domain/machine` and
//! `src/domain/state.rs`: a mutant that no test detects is a gap in the simulation.
#![expect(clippy::unwrap_used, reason = "a test reports a broken precondition by panicking")]
#![expect(clippy::wildcard_enum_match_arm, reason = "the simulated world picks what it attacks")]

mod chains;
mod choices;
mod merges;
mod oracle;
mod outcomes;
mod queue;
mod runs;
mod store;
mod trials;
mod world;
