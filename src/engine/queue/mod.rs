//! The merge queue worker: verifies and lands the entries of one target. An entry is a branch or a
//! task of a run, and a train may hold both.
//!
//! - `worker`, `observe`, `replay`, `execute`, `joint`, `land`: the worker, which decides. It acts
//!   through the port in `host`, so that tests and the simulation drive it without processes.
//! - `git_host`, `trains`, `rules_guard`, `checks`, `verification`, `git_landing`, `provenance`,
//!   `hooks`, `push`: the real host.
//! - `service`: the loop around the worker, one for each target. `client`: a run's side.

pub(crate) mod checks;
pub(crate) mod client;
mod context;
mod execute;
mod git_host;
mod git_landing;
mod hooks;
pub(crate) mod host;
mod joint;
mod land;
mod observe;
pub(crate) mod provenance;
mod push;
mod replay;
mod rules_guard;
mod runs;
mod service;
mod signing;
pub(crate) mod status;
mod trains;
mod verification;
pub(crate) mod worker;

pub(crate) use context::{QueueContext, TargetRules, no_sandbox};
pub(crate) use host::QueueReport;
pub(crate) use runs::OpenRun;
pub(crate) use service::{QueueOptions, QueueService, WorkerNotice, run, worker_lock};
pub(crate) use worker::QueueExit;
