//! The free space of the disks that a run writes to.

use std::path::Path;

use super::Context;
use crate::process;

/// Bytes in a megabyte.
const MB: u64 = 1_000_000;

/// The state of the disks of a run, as of the last measurement.
#[derive(Debug, Default)]
pub(super) struct DiskWatch {
    full: bool,
}

impl DiskWatch {
    /// Measures the free space. Returns a note for people when the disk has become full, and not
    /// again while it stays full.
    pub(super) fn measure(&mut self, ctx: &Context) -> Option<String> {
        let folders = [ctx.store.repo().common_dir(), ctx.worktrees.as_path()];
        let note = low_disk(folders, ctx.job.limits.min_free_mb);
        let was_full = std::mem::replace(&mut self.full, note.is_some());
        note.filter(|_| !was_full)
    }

    /// Returns true if the disk was too full to start attempts at the last measurement.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }
}

/// Returns the reason why no attempt starts, if the disk of one of these folders has less than
/// `least` megabytes free.
pub(crate) fn low_disk(folders: [&Path; 2], least: u64) -> Option<String> {
    let free = folders.map(|folder| Some((process::free_space(folder).ok()? / MB, folder)));
    let (mb, folder) = free.into_iter().flatten().find(|(mb, _)| *mb < least)?;
    Some(format!(
        "only {mb} MB are free on the disk of {}: not starting agents until there are {least} (`[limits] min-free-mb`)",
        folder.display()
    ))
}
