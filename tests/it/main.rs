//! The real binary in real repositories, with scripted agents.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start processes, wait and read the environment themselves"
)]

mod agents;
mod ast_equal;
mod attacks;
mod chaos;
mod cli;
mod command;
mod doctor;
mod evaluations;
mod faults;
mod formats;
mod halting;
mod index;
mod init;
mod interop;
mod invariants;
mod job;
mod keepers;
mod leftovers;
mod locations;
mod misbehaviour;
mod mixed_outputs;
mod names;
mod network;
mod new;
mod order;
mod outputs;
mod provenance;
mod queue;
mod readme;
mod replan;
mod requests;
mod reviews;
mod rule_files;
mod sandbox;
mod sandbox_attacks;
mod sandboxed_runs;
mod scenarios;
mod screens;
mod sessions;
mod setup;
mod stash;
mod status;
mod target_checks;
mod trains;
mod transcripts;
