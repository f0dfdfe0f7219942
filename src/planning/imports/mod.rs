//! The import graph of a plan's files, read from the tree of a commit by the rules of each
//! ecosystem.
//!
//! - `fact` defines the import facts of a file. The facts depend on the file's content alone and
//!   are cached by blob id.
//! - `javascript` reads the facts of JavaScript and TypeScript, and `node` resolves them over
//!   `virtual_files`.
//! - `python` reads and resolves Python imports.
//! - `rust_lexer` reads the facts of Rust, and `rust` resolves them.
//! - `external_graph` takes the graph from the command `[plan] edges` and reads no facts.
//!
//! The file that a fact leads to depends on the whole tree and is resolved for each plan.

mod external_graph;
mod fact;
mod javascript;
mod node;
mod python;
mod rust;
mod rust_lexer;
#[cfg(test)]
mod tests;
mod virtual_files;

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use gix::ObjectId;
use gix::objs::FindExt as _;
use rayon::prelude::*;

use super::cache::PlanCache;
use super::files::{CHUNK, PlanFile};
use super::tree_paths::TreePaths;

pub(crate) use external_graph::{ExternalGraph, parse_edges};
use fact::FactsByPath;
pub(crate) use fact::ImportFact;

/// The import graph of a plan's files. Files are numbered by their order in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ImportGraph {
    /// The files that each file imports: sorted, without duplicates and without the file itself.
    pub needs: Vec<Vec<usize>>,
    /// Files of a known language that could not be parsed. Their imports are unknown.
    pub unparsed: Vec<String>,
}

/// A language whose imports are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Language {
    /// JavaScript and TypeScript.
    JavaScript,
    /// Python.
    Python,
    /// Rust.
    Rust,
}

impl Language {
    /// Returns the language of a file by its extension.
    pub(super) fn of(path: &str) -> Option<Self> {
        if javascript::is_source(path) {
            Some(Self::JavaScript)
        } else if python::is_source(path) {
            Some(Self::Python)
        } else if rust::is_source(path) {
            Some(Self::Rust)
        } else {
            None
        }
    }
}

/// Returns the import graph of files, which are sorted by path, in the tree of `base`.
pub(super) fn import_graph(
    repo: &gix::Repository,
    base: ObjectId,
    files: &[PlanFile],
    cache: &mut PlanCache,
) -> Result<ImportGraph> {
    let languages: Vec<_> = files.iter().map(|f| Language::of(&f.path)).collect();
    let has = |language| languages.contains(&Some(language));
    if languages.iter().all(Option::is_none) {
        return Ok(ImportGraph { needs: vec![Vec::new(); files.len()], unparsed: Vec::new() });
    }
    let tree = Arc::new(TreePaths::of(repo, base)?);
    let files_without_rust = files.iter().filter(|f| Language::of(&f.path) != Some(Language::Rust));
    let mut wanted: Vec<_> = files_without_rust.map(|f| (f.path.clone(), f.id)).collect();
    if has(Language::Rust) {
        // The module path of a file depends on the files that declare the module, planned or not.
        let all = tree.files_ending_in(".rs").into_iter();
        wanted.extend(all.filter_map(|p| Some((p.to_owned(), tree.blob(p)?))));
    }
    let facts = facts(repo, &wanted, cache)?;
    let node =
        has(Language::JavaScript).then(|| node::NodeResolver::new(repo, &tree)).transpose()?;
    let python = has(Language::Python).then(|| python::PythonResolver::new(&tree));
    let rust =
        has(Language::Rust).then(|| rust::RustResolver::new(repo, &tree, &facts)).transpose()?;
    let numbers: HashMap<&str, usize> =
        files.iter().enumerate().map(|(n, f)| (f.path.as_str(), n)).collect();
    let needs_of = |(number, file): (usize, &PlanFile)| {
        let own_facts = facts.get(&file.path).map(Vec::as_slice).unwrap_or_default();
        let targets = match languages[number] {
            Some(Language::JavaScript) => node.as_ref().map(|n| n.targets(&file.path, own_facts)),
            Some(Language::Python) => python.as_ref().map(|p| p.targets(&file.path, own_facts)),
            Some(Language::Rust) => rust.as_ref().map(|r| r.targets(&file.path, own_facts)),
            None => None,
        };
        let targets = targets.unwrap_or_default();
        sorted_needs(
            number,
            targets.iter().filter_map(|t| numbers.get(t.as_str()).copied()).collect(),
        )
    };
    let needs = files.par_iter().enumerate().map(needs_of).collect();
    let is_unparsed =
        |f: &&PlanFile| Language::of(&f.path).is_some() && !facts.contains_key(&f.path);
    let unparsed = files.iter().filter(is_unparsed).map(|f| f.path.clone()).collect();
    Ok(ImportGraph { needs, unparsed })
}

/// Returns the graph of files by `[plan] edges`, and notes on unusable parts of its output.
pub(super) fn external_graph(
    repo: &gix::Repository,
    base: ObjectId,
    external: &ExternalGraph,
    files: &[PlanFile],
) -> Result<(ImportGraph, Vec<String>)> {
    external_graph::external_graph(external, files, &TreePaths::of(repo, base)?)
}

/// Returns the needs of a file, sorted, without duplicates and without the file itself.
pub(super) fn sorted_needs(number: usize, mut needs: Vec<usize>) -> Vec<usize> {
    needs.sort_unstable();
    needs.dedup();
    needs.retain(|n| *n != number);
    needs
}

/// Returns the facts of each file of a known language, from the cache or by parsing the file on all
/// cores.
fn facts(
    repo: &gix::Repository,
    wanted: &[(String, ObjectId)],
    cache: &mut PlanCache,
) -> Result<FactsByPath> {
    let shared = repo.clone().into_sync();
    let cached = &*cache;
    let parts: Vec<Result<Vec<FileFacts<'_>>>> = wanted
        .par_chunks(CHUNK)
        .map(|chunk| {
            let repo = shared.to_thread_local();
            let mut buf = Vec::new();
            let mut results = Vec::new();
            for (path, id) in chunk {
                let Some(language) = Language::of(path) else { continue };
                let key = key(path, language);
                if let Some(facts) = cached.facts(*id, key) {
                    results.push(FileFacts {
                        path,
                        id: *id,
                        key,
                        facts: facts.clone(),
                        cached: true,
                    });
                    continue;
                }
                let blob = repo.objects.find_blob(id, &mut buf).map_err(|e| anyhow::anyhow!(e));
                let blob = blob
                    .with_context(|| format!("cannot read a file of the base commit: `{path}`"))?;
                let text = String::from_utf8_lossy(blob.data);
                let facts = parse(path, language, &text);
                results.push(FileFacts { path, id: *id, key, facts, cached: false });
            }
            Ok(results)
        })
        .collect();
    let mut all = FactsByPath::new();
    for part in parts {
        for FileFacts { path, id, key, facts, cached } in part? {
            if !cached {
                cache.insert_facts(id, key, facts.clone());
            }
            if let Some(facts) = facts {
                all.insert(path.clone(), facts);
            }
        }
    }
    Ok(all)
}

/// The facts of one file.
struct FileFacts<'p> {
    path: &'p String,
    id: ObjectId,
    /// The part of the cache key in addition to the blob.
    key: &'p str,
    /// The facts, or `None` if the file could not be parsed.
    facts: Option<Vec<ImportFact>>,
    /// True if the facts are from the cache.
    cached: bool,
}

/// Returns the part of a path that decides how the file is parsed, such as its extension.
fn key(path: &str, language: Language) -> &str {
    match language {
        Language::JavaScript => {
            let name = super::tree_paths::split(path).1;
            let declaration = [".d.ts", ".d.mts", ".d.cts"].into_iter().find(|e| name.ends_with(e));
            declaration.map_or_else(|| name.rsplit_once('.').map_or(name, |(_, e)| e), |e| &e[1..])
        }
        Language::Python => "py",
        Language::Rust => "rs",
    }
}

/// Parses a file. Returns `None` if the parser gives up.
fn parse(path: &str, language: Language, text: &str) -> Option<Vec<ImportFact>> {
    match language {
        Language::JavaScript => javascript::facts(path, text),
        Language::Python => Some(python::facts(text)),
        Language::Rust => Some(rust_lexer::facts(text)),
    }
}
