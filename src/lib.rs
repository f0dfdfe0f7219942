//! `git harness`: carry out large AI coding jobs reliably. Start reading at ARCHITECTURE.md.
//!
//! The modules stand in the order of their layers, lowest first; the last group has those that name
//! no other module. A module names only what the table in ARCHITECTURE.md grants it. A test reads
//! the table.
//!
//! The library serves the binary and this package's own tests. `domain` and `store` are public for
//! the simulation and the model of the store; [`testing`] re-exports the other items that tests
//! use.

pub mod domain;
pub mod wire;

pub(crate) mod ambient;
pub(crate) mod contract;
pub(crate) mod failpoint;
pub(crate) mod process;
mod proxy;
pub(crate) mod repo;
mod sandbox;

pub(crate) mod job;
pub(crate) mod planning;
pub mod store;

pub(crate) mod agent;
pub(crate) mod keeper;
pub(crate) mod landing;
pub(crate) mod verify;

pub(crate) mod engine;

pub(crate) mod ui;

pub(crate) mod cli;
pub(crate) mod commands;
#[doc(hidden)]
pub mod error;

pub use commands::run;

/// Items that the package's own tests use in addition to `domain` and `store`.
#[doc(hidden)]
pub mod testing {
    pub use crate::cli::Cli;
    pub use crate::commands::man::PAGES;
    pub use crate::contract::ast_equal;
    pub use crate::process::Git;

    /// The merge queue worker and the port through which it acts.
    pub mod queue {
        pub use crate::engine::queue::host::*;
        pub use crate::engine::queue::worker::{QueueExit, QueueWorker};
    }

    /// The job file.
    pub mod job {
        pub use crate::job::{Job, MergeStyle, parse};
    }

    /// Trains and their merges.
    pub mod landing {
        pub use crate::landing::{
            BuiltTrain, CarRequest, CarSubject, Merger, TargetHistory, TrainBuilder,
        };
    }

    /// Objects of a repository.
    pub mod repo {
        pub use crate::repo::{Identity, Repo, commit, write_blob, write_tree};
    }

    /// Verification steps and recorded verdicts.
    pub mod verify {
        pub use crate::verify::{
            CheckStage, CheckSubject, add_recorded_verdicts, seal_verdict, steps,
        };
    }
}
