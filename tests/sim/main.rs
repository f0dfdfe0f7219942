//! Tests of models: whole runs of the state machine and the merge queue in simulated worlds, and the store under several handles.
//!
//! The simulation is attacked by hand now and then: a mutant of `src/domain/machine` or `state.rs` that it does not
//! notice is a gap in it. Its oracle (`book.rs`, `page.rs`, `purse.rs`, `standing.rs`) says in its own words what every
//! observation must mean.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::wildcard_enum_match_arm, reason = "the simulated world picks what it attacks")]

mod book;
mod mending;
mod page;
mod purse;
mod queue;
mod runs;
mod script;
mod standing;
mod store;
mod tape;
mod told;
mod world;
