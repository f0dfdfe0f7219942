//! Requests of people to a run: durable files in a spool, which the holder of the run applies.
//!
//! A process writes its request first. If no process holds the run, the requesting process applies
//! the request itself. Otherwise it waits for the answer of the holder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use crate::ambient;
use crate::domain::id::RunId;
use crate::process;
use crate::store::Store;
use crate::wire::request::{RequestAnswer, SpoolFile, WireRequest};
use crate::wire::{WrongVersion, decode};

/// The kind of the seals of requests.
const REQUEST: &str = "request";

/// A request in the spool.
#[derive(Debug)]
pub(crate) struct SpooledRequest {
    path: PathBuf,
    /// The request.
    pub wire: WireRequest,
}

/// Writes a request into the spool, durably.
pub(crate) fn ask(store: &Store, run: &RunId, wire: &WireRequest) -> Result<PathBuf> {
    let folder = store.local().requests(run);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    // File names sort by time, so that requests are applied in order.
    let name = format!("{:016}-{}.json", ambient::now().0, &ambient::nonce()[..8]);
    let path = folder.join(name);
    let content = serde_json::to_vec(wire)?;
    let seal = store.seal(REQUEST, &sealed_parts(run, &path, &content))?;
    process::write_atomic(&path, &serde_json::to_vec(&SpoolFile::new(wire, seal))?)
        .with_context(|| format!("cannot write the request {}", path.display()))?;
    Ok(path)
}

/// Returns the requests in the spool, oldest first. Answers an unreadable request with an error.
pub(super) fn pending(store: &Store, run: &RunId) -> Vec<SpooledRequest> {
    let Ok(entries) = std::fs::read_dir(store.local().requests(run)) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        match read_sealed(store, run, &path) {
            Ok(Some(wire)) => found.push(SpooledRequest { path, wire }),
            unusable => {
                let message = match unusable.as_ref().map_err(|error| error.downcast_ref()) {
                    Ok(_) => "the request has no seal of this copy of the repository: an agent may have written it, or \
                              another user or home, whose key is not trusted (see githarness-security(7))"
                        .to_owned(),
                    Err(Some(version @ WrongVersion { .. })) => version.to_string(),
                    Err(None) => "the request could not be read".to_owned(),
                };
                answer_at(&path, &RequestAnswer { done: false, message }).ok();
            }
        }
    }
    found
}

/// Reads a request. Returns `None` if it is not sealed: the verbs that write requests refuse agents
/// and checks, but anybody can write a file.
fn read_sealed(store: &Store, run: &RunId, path: &Path) -> Result<Option<WireRequest>> {
    let file: SpoolFile<WireRequest> = decode(&path.display().to_string(), &std::fs::read(path)?)?;
    let content = serde_json::to_vec(&file.content)?;
    let is_ours = store.has_sealed(REQUEST, &sealed_parts(run, path, &content), &file.seal)?;
    Ok(is_ours.then_some(file.content))
}

/// Returns what the seal of a request covers. A copy under another name does not count.
fn sealed_parts<'a>(run: &'a RunId, path: &'a Path, content: &'a [u8]) -> [&'a [u8]; 3] {
    let name = path.file_name().unwrap_or_default();
    [run.as_str().as_bytes(), name.as_encoded_bytes(), content]
}

/// Answers a request and removes it from the spool. If the holder dies before it answers, the next
/// holder applies the request.
pub(super) fn answer(waiting: &SpooledRequest, answer: &RequestAnswer) -> Result<()> {
    answer_at(&waiting.path, answer)
}

fn answer_at(path: &Path, answer: &RequestAnswer) -> Result<()> {
    process::write_atomic(
        &path.with_extension("done"),
        &serde_json::to_vec(&SpoolFile::new(answer, String::new()))?,
    )?;
    std::fs::remove_file(path)?;
    Ok(())
}

/// Reads a file of the spool.
fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let file: SpoolFile<T> = decode(&path.display().to_string(), &std::fs::read(path)?)?;
    Ok(file.content)
}

/// Takes the answer to a request out of the spool. Returns `None` if there is no readable answer.
pub(crate) fn collect(path: &Path) -> Result<Option<RequestAnswer>, WrongVersion> {
    let done = path.with_extension("done");
    let answer = match read(&done) {
        Ok(answer) => answer,
        Err(error) => return error.downcast::<WrongVersion>().map_or(Ok(None), Err),
    };
    std::fs::remove_file(done).ok();
    Ok(Some(answer))
}
