//! Failpoints: durable steps at which a test may kill the process. Compiled out of release builds.
//!
//! Supervisor and keepers share one counter file, so the Nth step of the whole run is one number. A
//! test kills at N = 1, 2, 3 … until a run ends without a kill, and has then tried every step.

/// The variable with the path of the counter file.
pub(crate) const COUNTER: &str = "GIT_HARNESS_FAILPOINT_COUNTER";
/// The variable with the step at which the process is killed.
pub(crate) const AT: &str = "GIT_HARNESS_FAILPOINT_AT";

/// Names a file to which [`trace`] appends.
#[cfg(debug_assertions)]
pub(crate) const TRACE: &str = "GIT_HARNESS_TRACE";

/// A durable step is about to be made, or was just made.
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

/// Appends an event to the trace, by which a test counts how often something expensive is done.
#[cfg(debug_assertions)]
pub(crate) fn trace(event: &str) {
    let Some(path) = crate::ambient::variable(TRACE) else { return };
    count(&path, event);
}

/// Adds one to the shared count and returns it; the names make a log that a failed test can show.
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

/// In a release build there is no trace.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn trace(_event: &str) {}

/// In a release build there are no failpoints.
#[cfg(not(debug_assertions))]
#[inline]
pub fn hit(_name: &str) {}
