//! Simulations of the merge queue: figures compared with the design's, and promises under
//! disturbance.

mod arrivals;
mod chaos;
mod dice;
mod figures;
mod world;
