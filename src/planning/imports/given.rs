//! A graph that another tool has made: an object of paths, each with a list of the paths that it needs.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::{ImportGraph, tidy};
use crate::planning::discover::PlanFile;
use crate::planning::snapshot::{TreePaths, join, normal, split};

/// A graph as a tool printed it, and the folders from which its paths may be meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ExternalGraph {
    /// What each path needs.
    pub edges: BTreeMap<String, Vec<String>>,
    /// The tool's own arguments: some tools name paths from the folder that they were given.
    pub folders: Vec<String>,
}

/// Reads what a tool printed: `{"a.js": ["b.js"]}`.
pub(crate) fn parse(printed: &str) -> Result<BTreeMap<String, Vec<String>>> {
    serde_json::from_str(printed).context(
        "the tool of `[plan] edges` did not print an object of paths, each with a list of the paths that it needs",
    )
}

/// The graph of files by what a tool printed; the second value tells what of it was of no use.
pub(super) fn graph(
    given: &ExternalGraph,
    files: &[PlanFile],
    snapshot: &TreePaths,
) -> Result<(ImportGraph, Vec<String>)> {
    let mut folders = vec![String::new()];
    for word in &given.folders {
        let path = normal(word).unwrap_or_default();
        let folder = if snapshot.has(&path) { split(&path).0 } else { &path };
        if snapshot.has_folder(folder) && !folders.iter().any(|f| f == folder) {
            folders.push(folder.to_owned());
        }
    }
    let count = |folder: &String| {
        let there = |path: &&String| normal(&join(folder, path)).is_some_and(|p| snapshot.has(&p));
        given.edges.keys().filter(there).count()
    };
    // The first of those from which most paths are there.
    let counts: Vec<_> = folders.iter().map(count).collect();
    let most = counts.iter().copied().max().unwrap_or(0);
    ensure!(
        most > 0 || given.edges.is_empty(),
        "no path that the tool of `[plan] edges` printed is in the base commit, such as: {}",
        given.edges.keys().next().map_or("", String::as_str)
    );
    let folder = counts.iter().position(|c| *c == most).map_or("", |at| folders[at].as_str());
    let number = |path: &str| {
        let path = normal(&join(folder, path))?;
        files.binary_search_by(|f| f.path.as_str().cmp(&path)).ok()
    };
    let mut needs = vec![Vec::new(); files.len()];
    for (from, to) in &given.edges {
        if let Some(from) = number(from) {
            needs[from].extend(to.iter().filter_map(|to| number(to)));
        }
    }
    let needs = needs.into_iter().enumerate().map(|(n, needs)| tidy(n, needs)).collect();
    let missing = given.edges.len() - most;
    let mut notes = Vec::new();
    if missing > 0 {
        notes.push(format!(
            "{missing} paths of the graph by `[plan] edges` are not in the base commit"
        ));
    }
    Ok((ImportGraph { needs, unread: Vec::new() }, notes))
}
