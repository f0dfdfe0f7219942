//! Simulations of the merge queue: its cost compared with the design's, and its invariants under
//! disturbances.

mod arrivals;
mod chaos;
mod figures;
mod history;
mod random;
mod worker;
mod worker_cases;
mod worker_host;
mod world;
