//! Naming and prose of the source: unique type names, doc comments that open with their subject,
//! comments of at most 100 columns, no replaced names, and tests that one finds by their term.

use std::collections::{BTreeMap, BTreeSet};

use super::{read, rust};

/// The widest comment, in columns.
const COLUMNS: usize = 100;

/// First words of a doc comment that hide its subject.
const OPENERS: [&str; 9] =
    ["What", "Whether", "How", "So many", "Of", "That", "Those", "Who", "Where"];

/// Names of types that the glossary replaces.
const TYPES: &[&str] = &[
    "Alike",
    "Asked",
    "Book",
    "BookEvent",
    "Case",
    "Coupled",
    "Desk",
    "Ear",
    "Ending",
    "Found",
    "Heard",
    "Judged",
    "Judgement",
    "Kept",
    "Known",
    "Layer",
    "Leaving",
    "Left",
    "Line",
    "Look",
    "News",
    "Noise",
    "Owed",
    "Place",
    "Reading",
    "Ruling",
    "Said",
    "Seen",
    "SendBack",
    "Sinking",
    "Standing",
    "Step",
    "Thing",
    "Tips",
    "Told",
    "Trouble",
    "Untold",
    "Used",
    "Well",
    "Whom",
    "WireEnding",
    "Wish",
    "Word",
];

/// Names of functions, modules and files that the glossary replaces.
const FUNCTIONS: &[&str] = &[
    "adorn",
    "book",
    "carry",
    "carry_on",
    "arrive",
    "couple",
    "depart",
    "ear",
    "excused",
    "forgiven",
    "gate",
    "found",
    "insist",
    "known",
    "let_go",
    "look",
    "looking",
    "never_took_over",
    "opened",
    "place",
    "places",
    "said",
    "seen",
    "span",
    "stillborn",
    "tell",
    "told",
    "told_by",
    "told_cost",
    "told_tokens",
    "untold",
    "untold_cost",
    "untold_tokens",
    "well",
    "wish",
    "words",
];

/// Terms by which one looks for a test.
const TERMS: [&str; 12] = [
    "bisect", "conflict", "kill", "push", "quota", "redact", "rename", "resume", "revert", "stash",
    "sweep", "timeout",
];

/// Returns the source files, each with its text.
fn sources() -> Vec<(String, String)> {
    let files = [rust("src"), rust("tests")].concat();
    files.into_iter().map(|file| (file.clone(), read(&file))).collect()
}

/// Returns the name that a line defines after one of these keywords.
fn defined<'a>(line: &'a str, keywords: &[&str]) -> Option<&'a str> {
    let mut words = line.split_whitespace();
    let mut word = words.next()?;
    if word == "pub" || word.starts_with("pub(") {
        word = words.next()?;
    }
    while matches!(word, "const" | "async") {
        word = words.next()?;
    }
    let name = words.next().filter(|_| keywords.contains(&word))?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    Some(&name[..end]).filter(|name| !name.is_empty())
}

fn defined_type(line: &str) -> Option<&str> {
    // An indented `type` is an associated type.
    let keywords: &[&str] = match line.starts_with(' ') {
        true => &["struct", "enum", "trait", "union"],
        false => &["struct", "enum", "trait", "union", "type"],
    };
    defined(line, keywords)
}

#[test]
fn no_type_name_occurs_twice() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, text) in sources().iter().filter(|(file, _)| !file.starts_with("src/wire")) {
        for (n, line) in text.lines().enumerate() {
            // Each module may call its error `Error`, as the standard library does.
            let Some(name) = defined_type(line).filter(|name| *name != "Error") else { continue };
            places.entry(name.to_owned()).or_default().push(format!("{file}:{}", n + 1));
        }
    }
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "choose more specific names: {places:#?}");
}

#[test]
fn doc_comments_open_with_their_subject() {
    let mut hits = Vec::new();
    for (file, text) in sources() {
        let mut inside = false;
        for (n, line) in text.lines().enumerate() {
            let doc = line.trim_start();
            let doc = doc.strip_prefix("/// ").or_else(|| doc.strip_prefix("//! "));
            let opens = |doc: &str| {
                OPENERS.iter().any(|word| {
                    let rest = doc.strip_prefix(word);
                    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
                })
            };
            if !inside && doc.is_some_and(opens) {
                hits.push(format!("{file}:{}: {}", n + 1, line.trim()));
            }
            inside = doc.is_some();
        }
    }
    assert!(hits.is_empty(), "begin with a noun phrase or a verb: {hits:#?}");
}

#[test]
fn comments_are_at_most_100_columns_wide() {
    let mut hits = Vec::new();
    for (file, text) in sources() {
        for (n, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("//") && line.chars().count() > COLUMNS {
                hits.push(format!("{file}:{}: {}", n + 1, line.trim()));
            }
        }
    }
    assert!(hits.is_empty(), "wrap these comments at {COLUMNS} columns: {hits:#?}");
}

#[test]
fn replaced_names_do_not_come_back() {
    let mut hits = Vec::new();
    for (file, text) in sources() {
        let path = file.trim_end_matches("/mod.rs").trim_end_matches(".rs");
        let stem = path.rsplit('/').next().unwrap_or(path);
        // This file is named for its subject.
        if FUNCTIONS.contains(&stem) && file != file!() {
            hits.push(format!("{file}: the file"));
        }
        for (n, line) in text.lines().enumerate() {
            let type_name = defined_type(line).filter(|name| TYPES.contains(name));
            let name = defined(line, &["fn", "mod"]).filter(|name| FUNCTIONS.contains(name));
            let own = file.starts_with("tests/house") && name == Some("words");
            if let Some(name) = type_name.or(name).filter(|_| !own) {
                hits.push(format!("{file}:{}: {name}", n + 1));
            }
        }
    }
    assert!(hits.is_empty(), "the glossary of ARCHITECTURE.md has better names: {hits:#?}");
}

#[test]
fn every_term_has_a_test_that_names_it() {
    let mut names = BTreeSet::new();
    for file in [rust("src"), rust("tests/it"), rust("tests/sim")].concat() {
        let text = read(&file);
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            is_test |= line == "#[test]";
            if let Some(name) = defined(line, &["fn"]) {
                if is_test {
                    names.insert(name.to_owned());
                }
                is_test = false;
            }
        }
    }
    let has_test = |term: &&str| names.iter().any(|name| name.contains(*term));
    let missing: Vec<_> = TERMS.iter().filter(|term| !has_test(term)).collect();
    assert!(missing.is_empty(), "no test has these terms in its name: {missing:?}");
}
