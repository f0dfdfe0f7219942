//! The model of a run: plans, events, the states folded from the events, and the state machine.
//!
//! This layer imports `std` and nothing else. It has no I/O, clock, randomness or threads, so that
//! the simulation in `tests/sim` can run all of it a hundred thousand times.

pub mod account;
pub mod evaluation;
pub mod event;
pub mod id;
pub mod identity;
pub mod machine;
pub mod network;
pub mod phase;
pub mod plan;
pub mod queue;
pub mod retry;
pub mod review;
pub(crate) mod run_wait;
pub mod session;
pub(crate) mod shell;
pub mod state;
mod summary;
mod task_index;
pub mod task_state;
pub mod task_table;
pub mod termination;
pub mod verdict;
