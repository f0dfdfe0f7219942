//! Built-in checks. They read trees, in the keeper itself.

use anyhow::{Context as _, Result};

use super::AssignedWork;
use super::checks::{QUOTE, known_outcome, verdict_key};
use crate::ambient;
use crate::contract::ast_equal::{
    self, AstEqualOptions, CompareError, Comparison, Excerpt, SourceFile,
};
use crate::contract::json_schema::JsonSchema;
use crate::contract::pairs::{self, FilePair, PairGlobs, TreeSide};
use crate::domain::id::Oid;
use crate::job;
use crate::repo::{self, Repo};
use crate::wire::keeper::{
    AllowedDifferences, AstEqual, BuiltIn, CheckOutcome, CheckStep, HandedIn, millis,
};

/// The number of differences of one file that a finding shows.
const SHOWN: usize = 5;

/// The number of violations of a schema that a finding shows.
const VIOLATIONS: usize = 20;

/// Runs a built-in check on a tree.
pub(super) fn check(
    repo: &Repo,
    assigned: &AssignedWork,
    tree: &str,
    step: &CheckStep,
    built_in: &BuiltIn,
) -> Result<CheckOutcome> {
    let key = verdict_key(step, "");
    if let Some(outcome) = known_outcome(step, &key) {
        return Ok(outcome);
    }
    let started = ambient::instant();
    let (failed, summary) = match built_in {
        BuiltIn::AstEqual(wanted) => same_programs(repo, &Oid::parse(tree)?, wanted)?,
        BuiltIn::HandedIn(wanted) => handed_in(repo, assigned, &Oid::parse(tree)?, wanted)?,
    };
    let text = super::shorten(&summary, QUOTE);
    let ms = millis(started.elapsed());
    Ok(CheckOutcome { name: step.name.clone(), key, passed: !failed, known: None, ms, text })
}

/// Checks the output file. Returns true and the reason if the output is rejected, or false and an
/// empty text if it is accepted.
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
    let pinned = assigned.assignment.worktree.provided.iter().find(|(path, _)| path == name);
    let (_, source) =
        pinned.with_context(|| format!("the job has not pinned its schema: {name}"))?;
    let text = std::fs::read_to_string(source)
        .with_context(|| format!("cannot read {}", source.display()))?;
    let schema =
        JsonSchema::parse(&text).with_context(|| format!("the schema is wrong: {name}"))?;
    let violations = schema.violations(&document);
    if violations.is_empty() {
        return Ok((false, String::new()));
    }
    let mut text = format!("`{path}` is not what the schema `{name}` says:");
    for line in violations.iter().take(VIOLATIONS) {
        text.push_str(&format!("\n- {line}"));
    }
    let more = violations.len().saturating_sub(VIOLATIONS);
    if more > 0 {
        text.push_str(&format!("\n- … and {more} more"));
    }
    Ok((true, text))
}

/// Compares the task's files. Returns true if the programs differ (not if they are equal), and the
/// summary.
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
    let pairs = pairs::find_pairs(&globs, &wanted.files, changed.as_deref(), has)?;
    let mut problems = pairs.problems;
    let mut any_count = 0;
    for pair in &pairs.pairs {
        match compare(repo, (&before, after), pair, wanted)? {
            Ok(comparison) => {
                any_count += comparison.any;
                problems.extend(describe_differences(pair, &comparison));
            }
            Err(why) => problems.push(why),
        }
    }
    let count = pairs.pairs.len();
    let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
    let summary = format!("{files} compared, {any_count} times `any`");
    Ok(if problems.is_empty() {
        (false, summary)
    } else {
        (
            true,
            format!(
                "{}\n{summary}; each must stay the same program once the types are taken away",
                problems.join("\n")
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

/// Compares one pair. The inner error describes a file that cannot be compared.
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
    let in_text =
        |result: std::result::Result<Comparison, CompareError>| result.map_err(|e| e.to_string());
    let to = SourceFile { path: &pair.to, text: &new };
    let Some(from) = &pair.from else {
        // A new file may contain types, and `export {}`, which declares that the file is a module.
        let compare_with = |text| {
            ast_equal::compare(&SourceFile { path: &pair.to, text }, &to, &options(&wanted.options))
        };
        let script = compare_with("");
        return Ok(in_text(match script {
            Ok(comparison) if comparison.is_equal() => Ok(comparison),
            Ok(comparison) => match compare_with("export {};") {
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
    Ok(in_text(ast_equal::compare(
        &SourceFile { path: from, text: &old },
        &to,
        &options(&wanted.options),
    )))
}

/// Describes the first difference of a pair on one line, which stands for all in a summary.
fn headline(pair: &FilePair, comparison: &Comparison) -> String {
    let first = comparison.differences.first();
    let quote = |excerpt: &Excerpt| format!("`{}`", excerpt.text.lines().next().unwrap_or(""));
    let from = first.and_then(|difference| difference.from.as_ref());
    let to = first.and_then(|difference| difference.to.as_ref());
    let place = |line: usize| format!("{}:{line}", pair.to);
    match (&pair.from, from, to) {
        (None, _, Some(to)) => {
            format!("{}: {} in a new file, which may hold types only", place(to.line), quote(to))
        }
        (Some(_), Some(from), Some(to)) => {
            format!("{}: {} instead of {}", place(to.line), quote(to), quote(from))
        }
        (Some(_), None, Some(to)) => format!("{}: {} was not there", place(to.line), quote(to)),
        (from, Some(gone), None) => {
            let path = from.as_ref().unwrap_or(&pair.to);
            format!("{}: {} of {path}:{} is missing", pair.to, quote(gone), gone.line)
        }
        (_, None, None) => format!("{}: not the same program", pair.to),
    }
}

/// Returns the differences of a pair for people. Returns `None` if the programs are equal.
fn describe_differences(pair: &FilePair, comparison: &Comparison) -> Option<String> {
    if comparison.is_equal() {
        return None;
    }
    let mut text = headline(pair, comparison);
    for difference in comparison.differences.iter().take(SHOWN) {
        text.push_str(&format!("\n{difference}"));
    }
    let more = comparison.differences.len().saturating_sub(SHOWN);
    if more > 0 {
        text.push_str(&format!("\n… and {more} more differences"));
    }
    Some(text)
}
