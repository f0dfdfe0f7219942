//! The layer table of ARCHITECTURE.md, compared with the names that the source uses.

use std::collections::{BTreeMap, BTreeSet};

use super::{read, rust, table};

/// Returns each module with the modules that it may name.
fn granted() -> BTreeMap<String, BTreeSet<String>> {
    let rows = table(&read("ARCHITECTURE.md"), "may name");
    let name = |cell: &str| cell.trim_matches('`').to_owned();
    let names = |cell: &str| match cell {
        "nothing" | "`std` only" => BTreeSet::new(),
        list => list.split(", ").map(name).collect(),
    };
    rows.iter().map(|row| (name(&row[0]), names(row.last().unwrap()))).collect()
}

/// Returns the module of a file of `src`.
fn module(file: &str) -> String {
    let inside = file.strip_prefix("src/").unwrap();
    inside.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

/// Returns the files of test modules: `#[cfg(test)] mod name;` in their parent.
pub(super) fn test_files() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in rust("src") {
        let text = read(&file);
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.trim() != "#[cfg(test)]" {
                continue;
            }
            let next = lines.next().unwrap_or("").trim();
            let name = next.trim_start_matches("pub(super) ").trim_start_matches("pub(crate) ");
            if let Some(name) = name.strip_prefix("mod ").and_then(|n| n.strip_suffix(';')) {
                let folder = match file.strip_suffix("/mod.rs") {
                    Some(folder) => folder.to_owned(),
                    None => file.trim_end_matches(".rs").to_owned(),
                };
                found.insert(format!("{folder}/{name}.rs"));
            }
        }
    }
    found
}

/// Returns the lines of code, with numbers, without comments and the module of tests.
pub(super) fn code(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_tests = false;
    let mut before = "";
    for (n, line) in text.lines().enumerate() {
        in_tests |= before == "#[cfg(test)]" && line.starts_with("mod ") && line.ends_with('{');
        if !in_tests && !line.trim_start().starts_with("//") {
            found.push((n + 1, line));
        }
        if line == "}" {
            in_tests = false;
        }
        before = line;
    }
    found
}

/// Returns the first name behind each occurrence of a path's root, and all first names of a `{`
/// list.
fn names_behind(text: &str, root: &str) -> Vec<String> {
    let word =
        |t: &str| t.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in text.match_indices(root) {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &text[at + root.len()..];
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(list) => {
                let list = list.split(';').next().unwrap_or("");
                let mut depth = 0;
                let mut item = String::new();
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => found.push(word(std::mem::take(&mut item).trim())),
                        _ if depth == 0 => item.push(c),
                        _ => {}
                    }
                }
                found.push(word(item.trim()));
            }
        }
    }
    found.retain(|n| !n.is_empty());
    found
}

/// Returns the items that the library re-exports at its top, each with its module.
fn reexports() -> BTreeMap<String, String> {
    let text = read("src/lib.rs");
    let paths = text.lines().filter_map(|l| l.strip_prefix("pub use ")?.strip_suffix(';'));
    let pairs = paths.filter_map(|path| path.split_once("::"));
    pairs.map(|(module, item)| (item.to_owned(), module.to_owned())).collect()
}

/// Returns every use of a module by another: the user, the used module, the file. The root of the
/// library belongs to no layer.
fn named() -> Vec<(String, String, String)> {
    let (tests, reexports) = (test_files(), reexports());
    let mut found = Vec::new();
    for file in rust("src").into_iter().filter(|f| !tests.contains(f) && f != "src/lib.rs") {
        let text = read(&file);
        let root = if file == "src/main.rs" { "git_harness::" } else { "crate::" };
        let joined: String = code(&text).iter().map(|(_, l)| format!("{l}\n")).collect();
        for name in names_behind(&joined, root) {
            let name = reexports.get(&name).cloned().unwrap_or(name);
            found.push((module(&file), name, file.clone()));
        }
    }
    found
}

#[test]
fn a_module_names_only_what_the_layer_table_grants() {
    let granted = granted();
    let mut wrong = Vec::new();
    for (from, to, file) in named() {
        let allowed = granted.get(&from).unwrap_or_else(|| panic!("`{from}` is not in the table"));
        if from != to && !allowed.contains(&to) {
            wrong.push(format!("{file} names `{to}`, which `{from}` may not"));
        }
    }
    assert!(wrong.is_empty(), "see the layer table of ARCHITECTURE.md: {wrong:#?}");
}

#[test]
fn nothing_climbs_out_of_its_module() {
    let tests = test_files();
    let mut wrong = Vec::new();
    for file in rust("src").into_iter().filter(|f| !tests.contains(f)) {
        let inside = file.trim_start_matches("src/").trim_end_matches("/mod.rs");
        let climb = "super::".repeat(inside.split('/').count());
        for (n, line) in code(&read(&file)) {
            if line.contains(&climb) {
                wrong.push(format!("{file}:{n}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "name other modules by `crate::`: {wrong:#?}");
}

#[test]
fn the_layer_table_grants_nothing_that_is_not_needed() {
    let used: BTreeSet<(String, String)> = named().into_iter().map(|(a, b, _)| (a, b)).collect();
    let mut idle = Vec::new();
    for (from, list) in granted() {
        for to in list {
            if !used.contains(&(from.clone(), to.clone())) {
                idle.push(format!("`{from}` does not name `{to}`"));
            }
        }
    }
    assert!(idle.is_empty(), "take these out of the layer table: {idle:#?}");
}

#[test]
fn the_layer_table_has_every_module_and_no_circle() {
    let text = read("src/lib.rs");
    let declared = text.lines().filter_map(|l| {
        l.trim_start_matches("pub(crate) ")
            .trim_start_matches("pub ")
            .strip_prefix("mod ")?
            .strip_suffix(';')
    });
    let mut modules: BTreeSet<String> = declared.map(str::to_owned).collect();
    modules.insert("main".into());
    let granted = granted();
    assert_eq!(granted.keys().cloned().collect::<BTreeSet<_>>(), modules);
    let mut left = granted;
    left.remove("main");
    while !left.is_empty() {
        let free: Vec<_> = left
            .iter()
            .filter(|(_, needs)| needs.iter().all(|n| !left.contains_key(n)))
            .map(|(name, _)| name.clone())
            .collect();
        assert!(!free.is_empty(), "these name each other in a circle: {:?}", left.keys());
        for name in free {
            left.remove(&name);
        }
    }
}

#[test]
fn the_domain_imports_std_only() {
    let tests = test_files();
    let own = ["std::", "core::", "crate::domain", "super::", "self::"];
    let mut wrong = Vec::new();
    for file in rust("src/domain").into_iter().filter(|f| !tests.contains(f)) {
        let text = read(&file);
        for (n, line) in code(&text) {
            let line = line.trim();
            let path = line.strip_prefix("pub use ").or_else(|| line.strip_prefix("use "));
            if path.is_some_and(|p| !own.iter().any(|o| p.starts_with(o))) {
                wrong.push(format!("{file}:{n}: {line}"));
            }
            let outside = [
                "std::fs",
                "std::env",
                "std::thread",
                "std::process",
                "std::net",
                "Instant",
                "SystemTime",
            ];
            if outside.iter().any(|o| line.contains(o)) {
                wrong.push(format!("{file}:{n}: {line}"));
            }
            for name in ["anyhow::", "serde", "gix::", "rayon::", "thiserror"] {
                if line.contains(name) {
                    wrong.push(format!("{file}:{n}: {line}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "`domain` is pure: no I/O, clock, threads or crates: {wrong:#?}");
}
