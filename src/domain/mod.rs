//! What a run is: names, plans, events, the fold over them, and the machine that decides.
//!
//! This layer imports `std` and nothing else: no I/O, no clock, no randomness, no threads. Everything here can be run
//! a hundred thousand times in a simulation, and is.

pub mod account;
pub mod evaluation;
pub mod event;
pub mod id;
pub mod identity;
pub mod machine;
pub mod phase;
pub mod plan;
pub mod queue;
pub mod retry;
pub mod review;
pub mod session;
pub mod state;
pub mod termination;
pub mod verdict;
