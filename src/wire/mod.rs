//! Wire formats: the data that goes to disk, into refs and notes, and to `--json`.
//!
//! Only this module has serde derives for such data, and only this module checks versions. Readers
//! ignore fields that they do not know: a new optional field needs no new version.

pub(crate) mod cli;
pub mod events;
pub mod facts;
#[cfg(test)]
mod frozen_tests;
pub mod keeper;
pub(crate) mod network;
pub mod notes;
pub mod plan;
pub mod queue;
pub mod request;
pub mod run;
mod sandbox;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The version of all formats. A change of meaning needs a new number, before the first value with
/// the new meaning is written.
pub const VERSION: u32 = 1;

/// The refusal to read a format of another version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{location}: format {found}, this git-harness reads {VERSION}; use the version that wrote it"
)]
pub struct WrongVersion {
    /// The ref or the file.
    pub location: String,
    /// The version that was found there.
    pub found: String,
}

/// Returns an error unless `found` is the version that this program reads. `location` names the ref
/// or the file for people.
pub fn check_version(location: &str, found: Option<&str>) -> Result<(), WrongVersion> {
    if found.and_then(|text| text.parse().ok()) == Some(VERSION) {
        return Ok(());
    }
    Err(WrongVersion {
        location: location.to_owned(),
        found: found.unwrap_or("without number").to_owned(),
    })
}

/// Reads JSON whose field `v` is the version, and checks the version first.
pub fn decode<T: DeserializeOwned>(location: &str, bytes: &[u8]) -> Result<T> {
    let damaged = || format!("cannot read {location}");
    let header: Header = serde_json::from_slice(bytes).with_context(damaged)?;
    check_version(location, header.v.map(|v| v.to_string()).as_deref())?;
    serde_json::from_slice(bytes).with_context(damaged)
}

/// The longest text of a trailer, in bytes, without the `…` of a text that was cut.
const TRAILER_LIMIT: usize = 1_000;

/// Returns a text on one line, without control characters, cut to the limit of a trailer.
pub fn one_line(text: &str) -> String {
    let words = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let mut line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > TRAILER_LIMIT {
        let end = (0..=TRAILER_LIMIT).rev().find(|i| line.is_char_boundary(*i)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    line
}

/// The version field that every JSON document has.
#[derive(Deserialize)]
struct Header {
    v: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_refused_with_both_numbers() {
        let refusal =
            "spec.json: format 99, this git-harness reads 1; use the version that wrote it";
        let error = decode::<serde_json::Value>("spec.json", br#"{"v":99,"new":[]}"#).unwrap_err();
        assert_eq!(error.to_string(), refusal);
        assert!(error.is::<WrongVersion>());
        assert!(check_version("ref", None).is_err() && check_version("ref", Some("x")).is_err());
        check_version("ref", Some("1")).unwrap();
    }

    #[test]
    fn unknown_fields_are_ignored() {
        #[derive(Debug, serde::Deserialize)]
        struct KnownFields {
            known: u32,
        }
        let fields: KnownFields = decode("file", br#"{"v":1,"known":2,"unknown":{}}"#).unwrap();
        assert_eq!(fields.known, 2);
    }
}
