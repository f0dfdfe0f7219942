//! The kept files of check worktrees without a sandbox. They stay from one verification to the
//! next, and an agent can write them meanwhile. After the checks, their state is written down with
//! a seal; a worktree in another state is made anew before the next checks.

use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::AssignedWork;
use crate::repo::{self, Repo};

/// The extension of the file with the state, beside the worktree's index.
const EXTENSION: &str = "kept";

/// Removes the worktree if another hand has written to it since the last checks ended there.
pub(super) fn discard_changed(repo: &Repo, assigned: &AssignedWork) -> Result<()> {
    let spec = &assigned.assignment.worktree;
    if !is_watched(assigned) || spec.path.symlink_metadata().is_err() {
        return Ok(());
    }
    let seal = fs::read_to_string(spec.index.with_extension(EXTENSION)).unwrap_or_default();
    if assigned.key.has_sealed(EXTENSION, &[&state(&spec.path)?], &seal) {
        return Ok(());
    }
    // A worktree that cannot be removed is set aside when it is prepared.
    repo::remove_worktree(repo, &spec.path, &spec.index).ok();
    Ok(())
}

/// Writes the state of the worktree down, after the checks.
pub(super) fn write_state(assigned: &AssignedWork) -> Result<()> {
    let spec = &assigned.assignment.worktree;
    if !is_watched(assigned) || spec.path.symlink_metadata().is_err() {
        return Ok(());
    }
    let seal = assigned.key.seal(EXTENSION, &[&state(&spec.path)?])?;
    Ok(fs::write(spec.index.with_extension(EXTENSION), seal)?)
}

fn is_watched(assigned: &AssignedWork) -> bool {
    let assignment = &assigned.assignment;
    assignment.sandbox.is_none() && !assignment.worktree.keep.is_empty()
}

/// Returns the state of all files: the kernel sets the time of a change, which nobody can choose.
fn state(root: &Path) -> Result<Vec<u8>> {
    let mut state = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let read = || format!("cannot read {}", folder.display());
        let entries = fs::read_dir(&folder).with_context(read)?;
        let mut paths = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<Vec<_>>>()
            .with_context(read)?;
        paths.sort();
        for path in paths {
            // A file that is removed meanwhile gives another state.
            let Ok(meta) = path.symlink_metadata() else { continue };
            add(&mut state, &path, &meta);
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(state)
}

fn add(state: &mut Vec<u8>, path: &Path, meta: &Metadata) {
    state.extend_from_slice(path.as_os_str().as_bytes());
    let numbers = [
        0,
        meta.ino(),
        meta.size(),
        u64::from(meta.mode()),
        meta.ctime().cast_unsigned(),
        meta.ctime_nsec().cast_unsigned(),
    ];
    numbers.iter().for_each(|number| state.extend_from_slice(&number.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::state;

    #[test]
    fn state_differs_after_a_file_is_written_with_its_old_time_and_size() {
        let dir = tempfile::tempdir().unwrap();
        let tool = dir.path().join("tools/tool");
        std::fs::create_dir(dir.path().join("tools")).unwrap();
        std::fs::write(&tool, "good").unwrap();
        let before = state(dir.path()).unwrap();
        assert_eq!(state(dir.path()).unwrap(), before);
        let times = std::fs::metadata(&tool).unwrap().modified().unwrap();
        // Timestamps of a file system may be coarse, so the loop waits for another one.
        while state(dir.path()).unwrap() == before {
            std::fs::write(&tool, "evil").unwrap();
            std::fs::File::options().append(true).open(&tool).unwrap().set_modified(times).unwrap();
        }
        assert_ne!(state(dir.path()).unwrap(), before);
    }
}
