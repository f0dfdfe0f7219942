//! Checks that are built in: they look at trees, in the keeper itself.

use anyhow::{Context as _, Result};

use super::AssignedWork;
use super::checks::{QUOTE, known, verdict_key};
use crate::ambient;
use crate::contract::ast_equal::{self, AstEqualOptions, CompareError, Comparison, SourceFile};
use crate::contract::json_schema::JsonSchema;
use crate::contract::pairs::{self, FilePair, PairGlobs, TreeSide};
use crate::domain::id::Oid;
use crate::job;
use crate::repo::{self, Repo};
use crate::wire::keeper::{
    AllowedDifferences, AstEqual, BuiltIn, CheckOutcome, CheckStep, HandedIn, millis,
};

/// So many differences of one file are shown.
const SHOWN: usize = 5;

/// So many violations of a schema are shown.
const VIOLATIONS: usize = 20;

/// One check on a tree.
pub(super) fn check(
    repo: &Repo,
    assigned: &AssignedWork,
    tree: &str,
    step: &CheckStep,
    what: &BuiltIn,
) -> Result<CheckOutcome> {
    let key = verdict_key(step, "");
    if let Some(outcome) = known(step, &key) {
        return Ok(outcome);
    }
    let begun = ambient::instant();
    let (wrong, said) = match what {
        BuiltIn::AstEqual(wanted) => same_programs(repo, &Oid::parse(tree)?, wanted)?,
        BuiltIn::HandedIn(wanted) => handed_in(repo, assigned, &Oid::parse(tree)?, wanted)?,
    };
    let text = super::shorten(&said, QUOTE);
    let ms = millis(begun.elapsed());
    Ok(CheckOutcome { name: step.name.clone(), key, passed: !wrong, known: None, ms, text })
}

/// Whether something is wrong with what was handed in, and what.
fn handed_in(
    repo: &Repo,
    assigned: &AssignedWork,
    tree: &Oid,
    wanted: &HandedIn,
) -> Result<(bool, String)> {
    let path = &wanted.path;
    let Some(document) = repo.read_blob_at(tree, path)? else {
        return Ok((true, format!("`{path}` is not there")));
    };
    let Some(name) = &wanted.schema else { return Ok((false, String::new())) };
    let pinned = assigned.assignment.worktree.overlay.iter().find(|(path, _)| path == name);
    let (_, source) =
        pinned.with_context(|| format!("the job has not pinned its schema: {name}"))?;
    let text = std::fs::read_to_string(source)
        .with_context(|| format!("cannot read {}", source.display()))?;
    let schema =
        JsonSchema::parse(&text).with_context(|| format!("the schema is wrong: {name}"))?;
    let wrong = schema.violations(&document);
    if wrong.is_empty() {
        return Ok((false, String::new()));
    }
    let mut said = format!("`{path}` is not what the schema `{name}` says:");
    for line in wrong.iter().take(VIOLATIONS) {
        said.push_str(&format!("\n- {line}"));
    }
    let more = wrong.len().saturating_sub(VIOLATIONS);
    if more > 0 {
        said.push_str(&format!("\n- … and {more} more"));
    }
    Ok((true, said))
}

/// Whether something is wrong with the task's files, and what there is to say of them.
fn same_programs(repo: &Repo, after: &Oid, wanted: &AstEqual) -> Result<(bool, String)> {
    let globs = |patterns: &[String]| {
        job::PathGlobs::new(patterns).map_err(|fault| anyhow::anyhow!("a glob {}", fault.message))
    };
    let (from, to) = (globs(&wanted.from)?, globs(&wanted.to)?);
    let before = repo.tree_of(&Oid::parse(&wanted.base)?)?;
    let changed: Option<Vec<String>> = if wanted.merged {
        None
    } else {
        let changes = repo::changed_paths(repo, &before, after)?;
        Some(changes.into_iter().map(|change| change.path).collect())
    };
    let globs =
        PairGlobs { from: &|path: &str| from.matches(path), to: &|path: &str| to.matches(path) };
    let tree = |side| match side {
        TreeSide::Before => &before,
        TreeSide::After => after,
    };
    let has = |side, path: &str| repo.has_entry(tree(side), path);
    let found = pairs::find_pairs(&globs, &wanted.files, changed.as_deref(), has)?;
    let mut wrong = found.problems;
    let mut any = 0;
    for pair in &found.pairs {
        match compare(repo, (&before, after), pair, wanted)? {
            Ok(comparison) => {
                any += comparison.any;
                wrong.extend(in_words(pair, &comparison));
            }
            Err(why) => wrong.push(why),
        }
    }
    let count = found.pairs.len();
    let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
    let sum = format!("{files} compared, {any} times `any`");
    Ok(if wrong.is_empty() {
        (false, sum)
    } else {
        (
            true,
            format!(
                "{sum}; not the same program once the types are taken away:\n{}",
                wrong.join("\n")
            ),
        )
    })
}

fn options(allowed: &AllowedDifferences) -> AstEqualOptions {
    AstEqualOptions {
        extensions: allowed.extensions,
        type_imports: allowed.type_imports,
        define_fields: allowed.define_fields,
        ts_comments: allowed.ts_comments,
        max_any: allowed.max_any,
    }
}

/// Compares one pair; the inner error says what is wrong with a file.
fn compare(
    repo: &Repo,
    (before, after): (&Oid, &Oid),
    pair: &FilePair,
    wanted: &AstEqual,
) -> Result<std::result::Result<Comparison, String>> {
    let read = |tree: &Oid, path: &str| -> Result<std::result::Result<String, String>> {
        let bytes = repo.read_blob_at(tree, path)?.with_context(|| format!("{path} is no file"))?;
        Ok(String::from_utf8(bytes).map_err(|_| format!("{path}: it is not UTF-8")))
    };
    let new = match read(after, &pair.to)? {
        Ok(text) => text,
        Err(why) => return Ok(Err(why)),
    };
    let said =
        |result: std::result::Result<Comparison, CompareError>| result.map_err(|e| e.to_string());
    let to = SourceFile { path: &pair.to, text: &new };
    let Some(from) = &pair.from else {
        // A new file may hold types, and may say that it is a module.
        let nothing = |text| {
            ast_equal::compare(&SourceFile { path: &pair.to, text }, &to, &options(&wanted.options))
        };
        let script = nothing("");
        return Ok(said(match script {
            Ok(comparison) if comparison.is_equal() => Ok(comparison),
            Ok(comparison) => match nothing("export {};") {
                Ok(module) if module.is_equal() => Ok(module),
                Ok(_) | Err(_) => Ok(comparison),
            },
            Err(e) => Err(e),
        }));
    };
    let old = match read(before, from)? {
        Ok(text) => text,
        Err(why) => return Ok(Err(why)),
    };
    Ok(said(ast_equal::compare(
        &SourceFile { path: from, text: &old },
        &to,
        &options(&wanted.options),
    )))
}

/// What is wrong with a pair.
fn in_words(pair: &FilePair, comparison: &Comparison) -> Option<String> {
    if comparison.is_equal() {
        return None;
    }
    let mut words = match &pair.from {
        Some(from) if *from != pair.to => format!("{from} became {}:", pair.to),
        Some(_) => format!("{}:", pair.to),
        None => format!("{} is new and may hold types only:", pair.to),
    };
    for difference in comparison.differences.iter().take(SHOWN) {
        words.push_str(&format!("\n{difference}"));
    }
    let more = comparison.differences.len().saturating_sub(SHOWN);
    if more > 0 {
        words.push_str(&format!("\n… and {more} more differences"));
    }
    Some(words)
}
