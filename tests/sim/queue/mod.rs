//! The merge queue in simulated worlds: its figures beside those of its design, and its promises where all goes wrong.

mod arrivals;
mod chaos;
mod dice;
mod figures;
mod world;
