//! Wire formats: the data that goes to disk, into refs and notes, and to `--json`.
//!
//! This is the one module with serde derives for such data, and the one place that checks versions.

/// The version of all formats. A change of meaning is a new number, before the first value with the new
/// meaning is written.
pub const VERSION: u32 = 1;

/// The refusal to read a format of another version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: format {found}, this git-harness reads {VERSION}; use the version that wrote it")]
pub struct WrongVersion {
    /// The ref or the file.
    pub place: String,
    /// The version that was found there.
    pub found: String,
}

/// Returns an error unless `found` is the version that this program reads. `place` names the ref or the
/// file for people.
pub fn check_version(place: &str, found: u32) -> Result<(), WrongVersion> {
    if found == VERSION {
        return Ok(());
    }
    Err(WrongVersion { place: place.to_owned(), found: found.to_string() })
}
