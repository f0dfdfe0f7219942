//! Tests that read the frozen examples of version 1, write them again without a difference, and
//! refuse them with another version.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::keeper::{
    Assignment, ChecksOutcome, EvaluationOutcome, KeeperFile, PublishedAttempt, files,
};
use super::notes::VerdictNote;
use super::request::{SpoolFile, WireRequest};
use super::{WrongVersion, check_version, decode};
use crate::store::codec;

/// The frozen message of a published attempt.
const ATTEMPT_MESSAGE: &str = include_str!("../../fixtures/formats/v1/attempt-message.txt");

/// Reads a frozen file and compares it with what this version writes.
fn assert_frozen<T: Serialize + DeserializeOwned>(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/formats/v1").join(name);
    let bytes = std::fs::read(path).unwrap();
    let frozen: Value = serde_json::from_slice(&bytes).unwrap();
    let value: T = decode(name, &bytes).unwrap();
    assert_eq!(serde_json::to_value(value).unwrap(), frozen, "{name}");
}

#[test]
fn frozen_files_of_version_1_are_read_and_written_without_a_difference() {
    assert_frozen::<SpoolFile<WireRequest>>("request.json");
    assert_frozen::<Assignment>("assignment.json");
    assert_frozen::<Assignment>("assignment-checks.json");
    assert_frozen::<ChecksOutcome>("checks-outcome.json");
    assert_frozen::<EvaluationOutcome>("evaluation-outcome.json");
}

#[test]
fn frozen_attempt_message_of_version_1_is_read() {
    let trailers = codec::trailers(ATTEMPT_MESSAGE);
    check_version("attempt-message.txt", trailers.get("Harness-V").copied()).unwrap();
    assert_eq!((trailers["Harness-Run"], trailers["Harness-Task"]), ("job-1", "alpha"));
    assert_eq!(trailers["Harness-Attempt"], "1");
}

#[test]
fn keeper_files_of_another_version_are_refused_by_path() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    for name in [files::ASSIGNMENT, files::OUTCOME] {
        std::fs::write(dir.join(name), r#"{"v":99}"#).unwrap();
    }
    let refused = |error: WrongVersion, name: &str| {
        assert_eq!(error.location, dir.join(name).display().to_string());
        assert_eq!(error.found, "99");
    };
    refused(Assignment::read(dir).unwrap_err(), files::ASSIGNMENT);
    refused(ChecksOutcome::read(dir).unwrap_err(), files::OUTCOME);
    refused(EvaluationOutcome::read(dir).unwrap_err(), files::OUTCOME);
}

#[test]
fn damaged_keeper_files_count_as_missing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(files::ASSIGNMENT), "{").unwrap();
    std::fs::write(folder.path().join(files::OUTCOME), r#"{"v":1}"#).unwrap();
    assert!(Assignment::read(folder.path()).unwrap().is_none());
    assert!(ChecksOutcome::read(folder.path()).unwrap().is_none());
}

#[test]
fn notes_and_published_attempts_of_another_version_are_refused_by_ref() {
    let bytes = br#"{"v":99}"#;
    let note = decode::<VerdictNote>("refs/notes/harness-verdicts", bytes).unwrap_err();
    let attempt = decode::<PublishedAttempt>("refs/harness/attempts/r/t/1", bytes).unwrap_err();
    for (error, location) in
        [(note, "refs/notes/harness-verdicts"), (attempt, "refs/harness/attempts/r/t/1")]
    {
        let refusal = format!("{location}: format 99, this git-harness reads 1");
        assert!(error.to_string().starts_with(&refusal), "{error}");
    }
}
