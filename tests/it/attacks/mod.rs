//! Attacks by an agent, or by the code that a check runs, on the repository, on the user's files
//! and on the supervisor.

mod candidates;
mod deciding;
mod folders;
mod keys;
mod proofs;
mod settings;
