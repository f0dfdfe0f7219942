//! Simulations of the merge queue: figures compared with the design's, and promises under
//! disturbance.

mod arrivals;
mod chaos;
mod figures;
mod random;
mod world;
