//! The runs whose tasks are in a queue.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anyhow::Result;

use super::checks::RuledEntry;
use super::host::QueuedEntry;
use crate::domain::id::{RunId, TaskId};
use crate::engine::Context;

type OpenFunction = dyn Fn(&RunId) -> Result<Context> + Send + Sync;

/// The function that opens a run of the repository.
#[derive(Clone)]
pub(crate) struct OpenRun(Arc<OpenFunction>);

impl OpenRun {
    /// Wraps a function.
    pub(crate) fn new(open: impl Fn(&RunId) -> Result<Context> + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }
}

impl fmt::Debug for OpenRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenRun")
    }
}

/// The runs whose tasks are in a queue. A run is opened when its first task is met.
#[derive(Debug)]
pub(crate) struct RunContexts {
    own: Option<Arc<Context>>,
    open: OpenRun,
    opened: BTreeMap<RunId, Arc<Context>>,
}

impl RunContexts {
    /// Creates the set. `own` is the run of this process, if it carries out one.
    pub(crate) fn new(own: Option<Arc<Context>>, open: OpenRun) -> Self {
        Self { own, open, opened: BTreeMap::new() }
    }

    /// Returns the run that this process carries out.
    pub(super) fn own(&self) -> Option<&Arc<Context>> {
        self.own.as_ref()
    }

    fn get(&mut self, run: &RunId, task: &TaskId) -> Result<Arc<Context>> {
        if let Some(own) = self.own.as_ref().filter(|own| own.run == *run) {
            return Ok(Arc::clone(own));
        }
        // The parts of a task that was split are not known to a context that was opened before.
        if let Some(opened) = self.opened.get(run).filter(|opened| opened.task(task).is_ok()) {
            return Ok(Arc::clone(opened));
        }
        let opened = Arc::new((self.open.0)(run)?);
        self.opened.insert(run.clone(), Arc::clone(&opened));
        Ok(opened)
    }

    /// Returns an entry with the run of its task.
    pub(super) fn ruled(&mut self, entry: &QueuedEntry) -> Result<RuledEntry> {
        let Some((run, task)) = entry.task() else {
            return Ok(RuledEntry { entry: entry.clone(), task: None });
        };
        let run = self.get(&run, &task)?;
        Ok(RuledEntry { entry: entry.clone(), task: Some((run, task)) })
    }

    /// Returns entries with the runs of their tasks.
    pub(super) fn all_ruled(&mut self, entries: &[QueuedEntry]) -> Result<Vec<RuledEntry>> {
        entries.iter().map(|entry| self.ruled(entry)).collect()
    }
}
