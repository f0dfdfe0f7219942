//! Circles of imports among the files of a module. A file in a circle cannot be read alone.

use std::collections::{BTreeMap, BTreeSet};

use super::layers::{code, test_files};
use super::{read, rust};

/// Files, each with the files that it imports.
type Imports<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// Returns the items of a list, up to the `}` that closes the list.
fn items(list: &str) -> Vec<&str> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                found.push(list[start..at].trim());
                start = at + 1;
            }
            '}' if depth == 0 => {
                found.push(list[start..at].trim());
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// Returns the paths at the start of a text. A path with a `{` list has several.
fn paths(text: &str) -> Vec<Vec<&str>> {
    if let Some(list) = text.strip_prefix('{') {
        return items(list).into_iter().flat_map(paths).collect();
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let Some(rest) = rest.strip_prefix("::") else { return vec![vec![name]] };
    let behind = paths(rest).into_iter();
    behind.map(|path| std::iter::once(name).chain(path).collect()).collect()
}

/// Returns the module of a file, as segments: `domain`, `queue` for `src/domain/queue/mod.rs`.
fn segments(file: &str) -> Vec<&str> {
    let inside = file.trim_start_matches("src/").trim_end_matches(".rs");
    inside.trim_end_matches("/mod").split('/').collect()
}

/// Returns the file of the module that a path of `file` leads into.
fn imported<'a>(
    file: &'a str,
    path: &[&'a str],
    files: &BTreeMap<Vec<&str>, &'a str>,
) -> Option<&'a str> {
    let mut at = if path[0] == "crate" { Vec::new() } else { segments(file) };
    for name in path {
        match *name {
            "crate" | "self" => {}
            "super" => drop(at.pop()),
            name => {
                at.push(name);
                if at.len() > 1 && !files.contains_key(&at) {
                    at.pop();
                    break;
                }
            }
        }
    }
    files.get(&at).copied().filter(|other| *other != file)
}

/// Returns the imports of each file among `sources`, pairs of a file's name and text.
fn imports(sources: &[(String, String)]) -> Imports<'_> {
    let files = sources.iter().map(|(file, _)| (segments(file), file.as_str())).collect();
    let mut found = Imports::new();
    for (file, text) in sources {
        let own = found.entry(file).or_default();
        for root in ["crate::", "super::", "self::"] {
            for (at, _) in text.match_indices(root) {
                if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let paths = paths(&text[at..]);
                own.extend(paths.iter().filter_map(|path| imported(file, path, &files)));
            }
        }
    }
    found
}

/// Returns the files that import each other in a circle, with the files between circles.
fn circle(mut imports: Imports<'_>) -> Imports<'_> {
    loop {
        let count = imports.len();
        let named: BTreeSet<&str> = imports.values().flatten().copied().collect();
        imports.retain(|file, others| named.contains(file) && !others.is_empty());
        let left: BTreeSet<&str> = imports.keys().copied().collect();
        imports.values_mut().for_each(|others| others.retain(|other| left.contains(other)));
        if imports.len() == count {
            return imports;
        }
    }
}

#[test]
fn domain_has_no_circle_of_imports() {
    let tests = test_files();
    let files = rust("src/domain").into_iter().filter(|file| !tests.contains(file));
    let text = |file: &str| code(&read(file)).iter().map(|(_, l)| format!("{l}\n")).collect();
    let sources: Vec<(String, String)> = files.map(|file| (file.clone(), text(&file))).collect();
    let circle = circle(imports(&sources));
    assert!(circle.is_empty(), "these files import each other: {circle:#?}");
}

#[test]
fn circles_are_found_through_lists_and_reexports() {
    let source = |file: &str, text: &str| (format!("src/a/{file}.rs"), text.to_owned());
    let sources = [
        source("mod", "mod b;\nmod c;\npub use self::b::{B, Other};\n"),
        source("b", "use super::d;\n"),
        source("c", "use super::{\n    B,\n    d::{D, self},\n};\n"),
        source("d", "use std::fmt;\nfn f() -> crate::a::e::E {}\n"),
        source("e", "use other_crate::a::c;\n"),
    ];
    assert!(circle(imports(&sources)).is_empty());
    let closed = [&sources[..4], &[source("e", "use super::c::C;\n")]].concat();
    let files: Vec<&str> = circle(imports(&closed)).into_keys().collect();
    assert_eq!(files, ["src/a/b.rs", "src/a/c.rs", "src/a/d.rs", "src/a/e.rs", "src/a/mod.rs"]);
    let closed = [&sources[..4], &[source("e", "use super::d::D;\n")]].concat();
    let files: Vec<&str> = circle(imports(&closed)).into_keys().collect();
    assert_eq!(files, ["src/a/d.rs", "src/a/e.rs"]);
}
