//! What is being verified, in a file for whoever lists the queue. It is worth nothing to anybody else.

use serde::{Deserialize, Serialize};

use super::{Desk, Worker};
use crate::ambient;
use crate::process::write_atomic;

/// A verification under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// What for.
    pub kind: String,
    /// The branches.
    pub entries: Vec<String>,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: u64,
}

fn file(desk: &Desk) -> std::path::PathBuf {
    desk.store.local().queue(&desk.key()).join("now.json")
}

/// What the process that works a queue off is verifying; nothing if that cannot be read.
#[must_use]
pub fn now(desk: &Desk) -> Vec<Now> {
    let bytes = std::fs::read(file(desk)).ok();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

impl Worker<'_> {
    /// Shows what is under way. That it cannot be shown harms nothing.
    pub(super) fn show(&self) {
        let now: Vec<Now> = self
            .flights
            .values()
            .map(|flight| {
                let ms = u64::try_from(flight.since.elapsed().as_millis()).unwrap_or(0);
                Now {
                    kind: flight.kind.as_str().to_owned(),
                    entries: flight.entries.iter().map(ToString::to_string).collect(),
                    since: ambient::now().0.saturating_sub(ms),
                }
            })
            .collect();
        if let Ok(bytes) = serde_json::to_vec(&now) {
            write_atomic(&file(&self.desk), &bytes).ok();
        }
    }
}
