//! The free space of the disks that a run writes to.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;

use super::{Context, signals};
use crate::ambient;
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

/// The least number of free megabytes, whatever a job says: git cannot write on a full disk.
const FLOOR: u64 = 1;

/// The pause between two looks at a full disk.
const SPACE_PAUSE: Duration = Duration::from_millis(500);

/// Returns the reason why no attempt starts, if the disk of one of these folders has less than
/// `least` megabytes free. The folders are the repository's and that of the worktrees.
pub(crate) fn low_disk(folders: [&Path; 2], least: u64) -> Option<String> {
    let least = least.max(FLOOR);
    let free = folders.map(|folder| Some((process::free_space(folder).ok()? / MB, folder)));
    let (mb, folder) = free.into_iter().flatten().find(|(mb, _)| *mb < least)?;
    let largest = largest_folder(folders, folder).map(|(path, bytes)| {
        format!("; {} takes {}", path.display(), crate::job::format_size(bytes))
    });
    Some(format!(
        "only {mb} MB are free on the disk of {}: not starting agents until there are {least} (`[limits] min-free-mb`){}",
        folder.display(),
        largest.unwrap_or_default()
    ))
}

/// Returns the part of these folders that takes the most space on the disk of `full`.
fn largest_folder(folders: [&Path; 2], full: &Path) -> Option<(PathBuf, u64)> {
    let device = |path: &Path| path.symlink_metadata().ok().map(|meta| meta.dev());
    let [common_dir, worktrees] = folders;
    let entries = std::fs::read_dir(common_dir).into_iter().flatten().flatten();
    let parts = entries.map(|entry| entry.path()).chain([worktrees.to_path_buf()]);
    let on_full = parts.filter(|path| device(path).is_some() && device(path) == device(full));
    on_full.map(|path| (path.clone(), disk_usage(path))).max_by_key(|(_, bytes)| *bytes)
}

/// The size of a block in the metadata of a file.
const BLOCK: u64 = 512;

/// Returns the space on the disk that a folder and everything below uses. Files that cannot be read
/// are not counted.
pub(crate) fn disk_usage(folder: PathBuf) -> u64 {
    let mut bytes = 0;
    let mut next = vec![folder];
    while let Some(path) = next.pop() {
        let Ok(meta) = path.symlink_metadata() else { continue };
        bytes += meta.blocks() * BLOCK;
        if meta.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            next.extend(entries.map(|entry| entry.path()));
        }
    }
    bytes
}

/// A fault of the machine that stops every write to the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StorageFault {
    /// The disk is full.
    Full,
    /// The repository is read-only, or its files cannot be changed.
    Unwritable,
}

/// The end of a wait for the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StorageWait {
    /// The storage can be written again.
    Over,
    /// The storage still cannot be written.
    InVain,
    /// A signal with this number ended the wait.
    Interrupted(i32),
}

/// The time for which an unwritable repository is waited for.
const WRITABLE_PATIENCE: Duration = Duration::from_secs(30);

impl StorageFault {
    /// Returns the fault that an error comes from. `common_dir` is tried to be written.
    pub(crate) fn of(error: &anyhow::Error, common_dir: &Path) -> Option<Self> {
        let kinds: Vec<ErrorKind> = error
            .chain()
            .filter_map(|cause| Some(cause.downcast_ref::<std::io::Error>()?.kind()))
            .collect();
        let is_full = |kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        // The errors of git and of gix have only a text.
        let text = format!("{error:#}");
        if kinds.into_iter().any(is_full) || text.contains("No space left on device") {
            return Some(Self::Full);
        }
        (!is_writable(common_dir)).then_some(Self::Unwritable)
    }

    /// Waits until the fault is gone: without end for space on the disk, else for some time. `tell`
    /// gets one sentence about the wait. The folders are the repository's and that of the
    /// worktrees.
    pub(crate) fn wait(
        self,
        folders: [&Path; 2],
        least: u64,
        tell: &mut dyn FnMut(&str),
    ) -> Result<StorageWait> {
        let signal = signals::last()?;
        let since = ambient::instant();
        let common_dir = folders[0];
        match self {
            Self::Full => {
                if let Some(reason) = low_disk(folders, least) {
                    tell(&format!("{reason}; the run continues by itself"));
                }
            }
            Self::Unwritable => tell(&format!(
                "{} cannot be written; the run continues when that is mended",
                common_dir.display()
            )),
        }
        loop {
            // Also after an error whose cause has gone already: a pause, and then another try.
            ambient::pause(SPACE_PAUSE);
            match signal.load(Ordering::Relaxed) {
                0 => {}
                number => return Ok(StorageWait::Interrupted(i32::try_from(number)?)),
            }
            let is_over = match self {
                Self::Full => low_disk(folders, least).is_none(),
                Self::Unwritable => is_writable(common_dir),
            };
            if is_over {
                return Ok(StorageWait::Over);
            }
            if self == Self::Unwritable && since.elapsed() > WRITABLE_PATIENCE {
                return Ok(StorageWait::InVain);
            }
        }
    }
}

/// Returns true if files can be made where this program writes objects and refs.
fn is_writable(common_dir: &Path) -> bool {
    let name = format!(".harness-probe-{}", std::process::id());
    ["objects", "refs", "harness"].iter().all(|folder| {
        let probe = common_dir.join(folder).join(&name);
        let made = std::fs::write(&probe, "");
        std::fs::remove_file(&probe).ok();
        made.is_ok()
    })
}
