//! What is being verified, in a file for whoever lists the queue. It is worth nothing to anybody else.

use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::{Desk, Worker};
use crate::ambient;
use crate::domain::id::RunId;
use crate::keeper::files;
use crate::process::{Lock, write_atomic};
use crate::store::Store;
use crate::wire::keeper::{Assignment, Work};
use crate::wire::{VERSION, decode};

/// A verification under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Now {
    /// What for.
    pub kind: String,
    /// The branches.
    pub entries: Vec<String>,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: u64,
}

/// The file `now.json`.
#[derive(Serialize, Deserialize)]
struct NowFile {
    /// The format's version.
    v: u32,
    /// The verifications under way.
    verifying: Vec<Now>,
}

fn file(desk: &Desk) -> std::path::PathBuf {
    desk.store.local().queue(&desk.key()).join("now.json")
}

/// What the process that works a queue off is verifying; nothing if that cannot be read.
pub(crate) fn now(desk: &Desk) -> Vec<Now> {
    let file = std::fs::read(file(desk)).ok().and_then(|b| decode::<NowFile>("now.json", &b).ok());
    file.map(|file| file.verifying).unwrap_or_default()
}

/// The tasks of a run that keepers are judging as they would land, also where nobody drives the run; nothing of what cannot be read.
pub(crate) fn now_of_run(store: &Store, run: &RunId) -> Vec<Now> {
    let folders = std::fs::read_dir(store.local().verifications(run)).into_iter().flatten();
    let judged = |dir: std::path::PathBuf| {
        let Work::Checks(work) = Assignment::read(&dir).ok()??.work else { return None };
        let began = dir.join(files::ASSIGNMENT).metadata().and_then(|meta| meta.modified()).ok()?;
        let since = began.duration_since(UNIX_EPOCH).ok()?.as_millis();
        let at_work = Lock::is_held(&dir.join(files::LOCK)).unwrap_or(false);
        let entries: Vec<String> = work.tasks.iter().map(|task| format!("{run}/{task}")).collect();
        let (kind, since) = ("verify".to_owned(), u64::try_from(since).unwrap_or(0));
        (at_work && !entries.is_empty()).then_some(Now { kind, entries, since })
    };
    let mut found: Vec<Now> = folders.filter_map(|entry| judged(entry.ok()?.path())).collect();
    found.sort_by_key(|now| now.since);
    found
}

impl Worker<'_> {
    /// Shows what is under way. That it cannot be shown harms nothing.
    pub(super) fn show(&self) {
        let verifying: Vec<Now> = self
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
        if let Ok(bytes) = serde_json::to_vec(&NowFile { v: VERSION, verifying }) {
            write_atomic(&file(&self.desk), &bytes).ok();
        }
    }
}
