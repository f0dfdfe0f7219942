//! The real `claude` and `codex` against a scripted model, driven by the real binary.
//!
//! Needs root, namespaces, and npm with a registry. Where one of them is missing, every test prints
//! that it is skipped, and why. `KEEP_SANDBOX=1` keeps the folder of a failed scenario;
//! `requests.jsonl` there is the server's log.
#![expect(clippy::print_stdout, reason = "what is skipped and measured is told")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start processes and threads, wait, and read clock and environment"
)]

mod cage;
mod endings;
mod faults;
mod job;
mod kills;
mod landing;
mod limits;
mod sandboxes;
mod server;
mod world;
