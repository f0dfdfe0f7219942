//! Failpoints: durable steps at which a test can kill the process. Release builds have none.
//!
//! The supervisor and all keepers share one counter file, so a number N identifies the Nth step of
//! the whole run. A test kills at N = 1, 2, 3 … until a run ends without a kill. It has then tried
//! every step.

/// The variable with the path of the counter file.
pub(crate) const COUNTER: &str = "GIT_HARNESS_FAILPOINT_COUNTER";
/// The variable with the number of the step at which the process is killed, counted from 1.
pub(crate) const AT: &str = "GIT_HARNESS_FAILPOINT_AT";

/// The variable with the path of the file to which [`trace`] appends.
#[cfg(debug_assertions)]
pub(crate) const TRACE: &str = "GIT_HARNESS_TRACE";

/// Counts a durable step that is about to happen or has just happened. Kills the process if the new
/// count equals the number in [`AT`].
#[cfg(debug_assertions)]
pub(crate) fn hit(name: &str) {
    use crate::ambient::variable;
    let (Some(counter), Some(at)) = (variable(COUNTER), variable(AT)) else { return };
    let Ok(at) = at.parse::<u64>() else { return };
    if count(&counter, name) == Some(at) {
        let own_pid = rustix::process::getpid();
        rustix::process::kill_process(own_pid, rustix::process::Signal::KILL).ok();
    }
}

/// Appends an event to the trace. Tests use the trace to count expensive operations.
#[cfg(debug_assertions)]
pub(crate) fn trace(event: &str) {
    let Some(path) = crate::ambient::variable(TRACE) else { return };
    count(&path, event);
}

/// Increments the shared counter and returns its new value. The file has one line for each step,
/// with the step's name, so a failed test can show the steps.
#[cfg(debug_assertions)]
fn count(path: &str, name: &str) -> Option<u64> {
    use std::io::{Read, Write};
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).read(true).append(true).open(path).ok()?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    file.write_all(format!("{name}\n").as_bytes()).ok()?;
    u64::try_from(text.lines().count()).ok().map(|n| n + 1)
}

/// Does nothing: release builds have no trace.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn trace(_event: &str) {}

/// Does nothing: release builds have no failpoints.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn hit(_name: &str) {}
