//! Rules that no compiler checks: layers, sizes, documents and manual pages.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot read the source has failed, and one switch comes by the environment"
)]

mod circles;
mod documents;
mod layers;
mod manual;
mod source;
mod words;

use std::path::{Path, PathBuf};

/// The package's root folder.
fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads a file of the package.
fn read(path: &str) -> String {
    let path = top().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Returns every file below a folder, relative to the package, sorted.
fn files(folder: &str) -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&top().join(folder), &mut found);
    let name = |p: &PathBuf| p.strip_prefix(top()).unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<_> = found.iter().map(name).collect();
    names.sort();
    names
}

/// Returns every Rust file of `src` or `tests`.
fn rust(folder: &str) -> Vec<String> {
    files(folder)
        .into_iter()
        .filter(|f| Path::new(f).extension().is_some_and(|e| e == "rs"))
        .collect()
}

/// Returns the rows of the first table with this column, each as its cells.
fn table(text: &str, column: &str) -> Vec<Vec<String>> {
    let rows = text.lines().skip_while(|l| !(l.starts_with('|') && l.contains(column))).skip(2);
    let cells = |line: &str| {
        line.trim_matches('|').split(" | ").map(|c| c.trim().to_owned()).collect::<Vec<_>>()
    };
    let found: Vec<_> = rows.take_while(|l| l.starts_with('|')).map(cells).collect();
    assert!(!found.is_empty(), "there is no table with a column {column:?}");
    found
}
