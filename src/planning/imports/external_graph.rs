//! The import graph that the command `[plan] edges` prints: a JSON object of paths, each with a
//! list of imported paths.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::{ImportGraph, sorted_needs};
use crate::planning::files::PlanFile;
use crate::planning::tree_paths::{TreePaths, join, normalize, split};

/// The output of `[plan] edges`, and the folders to which its paths may be relative.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ExternalGraph {
    /// The imports of each path.
    pub edges: BTreeMap<String, Vec<String>>,
    /// The arguments of the command. Some tools print paths relative to a folder among their
    /// arguments.
    pub folders: Vec<String>,
}

/// Parses the output of `[plan] edges`: `{"a.js": ["b.js"]}`.
pub(crate) fn parse_edges(printed: &str) -> Result<BTreeMap<String, Vec<String>>> {
    serde_json::from_str(printed).context(
        "the tool of `[plan] edges` did not print an object of paths, each with a list of the paths that it needs",
    )
}

/// Returns the graph of `files`, and notes on unusable parts of the output.
///
/// The paths are taken as relative to the folder under which most of them exist in the tree.
pub(super) fn external_graph(
    external: &ExternalGraph,
    files: &[PlanFile],
    tree: &TreePaths,
) -> Result<(ImportGraph, Vec<String>)> {
    let mut folders = vec![String::new()];
    for argument in &external.folders {
        let path = normalize(argument).unwrap_or_default();
        let folder = if tree.has_file(&path) { split(&path).0 } else { &path };
        if tree.has_folder(folder) && !folders.iter().any(|f| f == folder) {
            folders.push(folder.to_owned());
        }
    }
    let count = |folder: &String| {
        let exists =
            |path: &&String| normalize(&join(folder, path)).is_some_and(|p| tree.has_file(&p));
        external.edges.keys().filter(exists).count()
    };
    let counts: Vec<_> = folders.iter().map(count).collect();
    let most = counts.iter().copied().max().unwrap_or(0);
    ensure!(
        most > 0 || external.edges.is_empty(),
        "no path that the tool of `[plan] edges` printed is in the base commit, such as: {}",
        external.edges.keys().next().map_or("", String::as_str)
    );
    let folder = counts.iter().position(|c| *c == most).map_or("", |at| folders[at].as_str());
    let number = |path: &str| {
        let path = normalize(&join(folder, path))?;
        files.binary_search_by(|f| f.path.as_str().cmp(&path)).ok()
    };
    let mut needs = vec![Vec::new(); files.len()];
    for (from, to) in &external.edges {
        if let Some(from) = number(from) {
            needs[from].extend(to.iter().filter_map(|to| number(to)));
        }
    }
    let needs = needs.into_iter().enumerate().map(|(n, needs)| sorted_needs(n, needs)).collect();
    let missing = external.edges.len() - most;
    let mut notes = Vec::new();
    if missing > 0 {
        let (s, are) = if missing == 1 { ("", "is") } else { ("s", "are") };
        notes.push(format!(
            "{missing} path{s} that `[plan] edges` printed {are} not in the base commit"
        ));
    }
    Ok((ImportGraph { needs, unparsed: Vec::new() }, notes))
}
