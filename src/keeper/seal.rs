//! Seals of the files in a keeper's folder. The supervisor gives the key to the keeper over their
//! link, so that no file and no environment of a command holds it.

use std::path::Path;

use anyhow::Result;

use crate::repo::SealKey;
use crate::wire::WrongVersion;
use crate::wire::keeper::{Assignment, KeeperFile, files};

/// The variable with the key in the environment that a keeper receives. The keeper takes it out.
pub(crate) const KEY: &str = "HARNESS_SEAL_KEY";

/// Writes an assignment with its seal into a keeper's folder.
pub(crate) fn write_assignment(dir: &Path, assignment: &Assignment, key: &SealKey) -> Result<()> {
    let bytes = assignment.write(dir)?;
    let seal = key.seal(files::ASSIGNMENT, &[&bytes])?;
    Ok(std::fs::write(dir.join(files::ASSIGNMENT_SEAL), seal)?)
}

/// Reads the assignment of a keeper's folder. Returns `None` if it has none that this installation
/// wrote.
pub(crate) fn read_assignment(
    dir: &Path,
    key: &SealKey,
) -> Result<Option<Assignment>, WrongVersion> {
    let Ok(bytes) = std::fs::read(dir.join(files::ASSIGNMENT)) else { return Ok(None) };
    if !key.has_sealed(files::ASSIGNMENT, &[&bytes], &seal_in(dir, files::ASSIGNMENT_SEAL)) {
        return Ok(None);
    }
    Assignment::parse(dir, &bytes)
}

/// Writes an outcome with its seal into a keeper's folder. The seal is for one assignment.
pub(crate) fn write_outcome(
    dir: &Path,
    outcome: &impl KeeperFile,
    assignment: &Assignment,
    key: &SealKey,
) -> Result<()> {
    let bytes = outcome.write(dir)?;
    let seal = key.seal(files::OUTCOME, &[assignment.marker.as_bytes(), &bytes])?;
    Ok(std::fs::write(dir.join(files::OUTCOME_SEAL), seal)?)
}

/// Reads the outcome of an assignment. Returns `None` if there is none that a keeper of this
/// installation wrote for this assignment.
pub(crate) fn read_outcome<T: KeeperFile>(
    dir: &Path,
    assignment: &Assignment,
    key: &SealKey,
) -> Result<Option<T>, WrongVersion> {
    let Ok(bytes) = std::fs::read(dir.join(files::OUTCOME)) else { return Ok(None) };
    let parts: [&[u8]; 2] = [assignment.marker.as_bytes(), &bytes];
    if !key.has_sealed(files::OUTCOME, &parts, &seal_in(dir, files::OUTCOME_SEAL)) {
        return Ok(None);
    }
    T::parse(dir, &bytes)
}

fn seal_in(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap_or_default()
}
