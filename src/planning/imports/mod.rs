//! Which files of a plan need which: from the commit's tree alone, by the rules of each ecosystem.
//!
//! - `javascript` finds what a file asks for, `node` which file that is, over `virtual_files`.
//! - `python` and `rust` do both for theirs; `rust_lexer` reads Rust.
//! - `given` takes a graph that another tool has made.
//!
//! What is found in a file depends on its content alone, so it is kept by the blob's id (`planning::cache`); which files
//! that means depends on the whole tree, and is worked out each time.

mod given;
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
use super::discover::{CHUNK, PlanFile};
use super::snapshot::TreePaths;

pub(crate) use given::{ExternalGraph, parse};

/// The edges of a plan's files, by their numbers: sorted, each once, none to itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ImportGraph {
    /// For each file, the files that it needs.
    pub needs: Vec<Vec<usize>>,
    /// Files of a known language that could not be understood, so that what they need is unknown.
    pub unread: Vec<String>,
}

/// A language whose imports are understood.
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
    /// That of a file, by its name.
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

/// The graph of files, which are sorted by path, in the tree of `base`.
pub(super) fn graph(
    repo: &gix::Repository,
    base: ObjectId,
    files: &[PlanFile],
    cache: &mut PlanCache,
) -> Result<ImportGraph> {
    let languages: Vec<_> = files.iter().map(|f| Language::of(&f.path)).collect();
    let any = |language| languages.contains(&Some(language));
    if languages.iter().all(Option::is_none) {
        return Ok(ImportGraph { needs: vec![Vec::new(); files.len()], unread: Vec::new() });
    }
    let snapshot = Arc::new(TreePaths::of(repo, base)?);
    let plain = files.iter().filter(|f| Language::of(&f.path) != Some(Language::Rust));
    let mut wanted: Vec<_> = plain.map(|f| (f.path.clone(), f.id)).collect();
    if any(Language::Rust) {
        // Which module a file is depends on those that lead to it, planned or not.
        let all = snapshot.ending(".rs").into_iter();
        wanted.extend(all.filter_map(|p| Some((p.to_owned(), snapshot.file(p)?))));
    }
    let facts = facts(repo, &wanted, cache)?;
    let node =
        any(Language::JavaScript).then(|| node::NodeResolver::new(repo, &snapshot)).transpose()?;
    let python = any(Language::Python).then(|| python::PythonResolver::new(&snapshot));
    let rust = any(Language::Rust)
        .then(|| rust::RustResolver::new(repo, &snapshot, &facts))
        .transpose()?;
    let numbers: HashMap<&str, usize> =
        files.iter().enumerate().map(|(n, f)| (f.path.as_str(), n)).collect();
    let of = |(number, file): (usize, &PlanFile)| {
        let found = facts.get(&file.path).map(Vec::as_slice).unwrap_or_default();
        let targets = match languages[number] {
            Some(Language::JavaScript) => node.as_ref().map(|n| n.targets(&file.path, found)),
            Some(Language::Python) => python.as_ref().map(|p| p.targets(&file.path, found)),
            Some(Language::Rust) => rust.as_ref().map(|r| r.targets(&file.path, found)),
            None => None,
        };
        let targets = targets.unwrap_or_default();
        tidy(number, targets.iter().filter_map(|t| numbers.get(t.as_str()).copied()).collect())
    };
    let needs = files.par_iter().enumerate().map(of).collect();
    let known = |f: &&PlanFile| Language::of(&f.path).is_some() && !facts.contains_key(&f.path);
    let unread = files.iter().filter(known).map(|f| f.path.clone()).collect();
    Ok(ImportGraph { needs, unread })
}

/// The graph of files as another tool sees it, and what of it was of no use.
pub(super) fn given_graph(
    repo: &gix::Repository,
    base: ObjectId,
    given: &ExternalGraph,
    files: &[PlanFile],
) -> Result<(ImportGraph, Vec<String>)> {
    given::graph(given, files, &TreePaths::of(repo, base)?)
}

/// A file's needs in their one form.
pub(super) fn tidy(number: usize, mut needs: Vec<usize>) -> Vec<usize> {
    needs.sort_unstable();
    needs.dedup();
    needs.retain(|n| *n != number);
    needs
}

/// What is found in each file of a known language, on all cores; nothing for one that could not be understood.
fn facts(
    repo: &gix::Repository,
    wanted: &[(String, ObjectId)],
    cache: &mut PlanCache,
) -> Result<rust::Facts> {
    let shared = repo.clone().into_sync();
    let kept = &*cache;
    let parts: Vec<Result<Vec<_>>> = wanted
        .par_chunks(CHUNK)
        .map(|chunk| {
            let repo = shared.to_thread_local();
            let mut buf = Vec::new();
            let mut found = Vec::new();
            for (path, id) in chunk {
                let Some(language) = Language::of(path) else { continue };
                let key = key(path, language);
                if let Some(known) = kept.facts(*id, key) {
                    found.push((path, *id, key, known.clone(), true));
                    continue;
                }
                let blob = repo.objects.find_blob(id, &mut buf).map_err(|e| anyhow::anyhow!(e));
                let blob = blob
                    .with_context(|| format!("cannot read a file of the base commit: `{path}`"))?;
                let text = String::from_utf8_lossy(blob.data);
                found.push((path, *id, key, extract(path, language, &text), false));
            }
            Ok(found)
        })
        .collect();
    let mut all = rust::Facts::new();
    for part in parts {
        for (path, id, key, facts, known) in part? {
            if !known {
                cache.keep_facts(id, key, facts.clone());
            }
            if let Some(facts) = facts {
                all.insert(path.clone(), facts);
            }
        }
    }
    Ok(all)
}

/// What of its name decides how a file is read.
fn key(path: &str, language: Language) -> &str {
    match language {
        Language::JavaScript => {
            let name = super::snapshot::split(path).1;
            let declares = [".d.ts", ".d.mts", ".d.cts"].into_iter().find(|e| name.ends_with(e));
            declares.map_or_else(|| name.rsplit_once('.').map_or(name, |(_, e)| e), |e| &e[1..])
        }
        Language::Python => "py",
        Language::Rust => "rs",
    }
}

fn extract(path: &str, language: Language, text: &str) -> Option<Vec<String>> {
    match language {
        Language::JavaScript => javascript::facts(path, text),
        Language::Python => Some(python::facts(text)),
        Language::Rust => Some(rust_lexer::facts(text)),
    }
}
