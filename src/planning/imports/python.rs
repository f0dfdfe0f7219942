//! What a Python file imports, and which files of the tree that means.
//!
//! A small lexer is enough: `import` and `from` are keywords, so at the beginning of a statement they are what they
//! seem. What has to be right is where statements begin: outside strings, comments and brackets.

use std::collections::BTreeSet;

use crate::planning::snapshot::{TreePaths, join, split};

/// Whether a file of this name is read here.
pub(super) fn is_source(path: &str) -> bool {
    path.ends_with(".py") || path.ends_with(".pyi")
}

/// A piece of a logical line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PythonToken<'a> {
    Word(&'a str),
    /// Any other character that is no space.
    Mark(char),
    /// The end of a statement.
    End,
}

/// The imports in a file, each once: `a.b` for `import a.b`, `..a:b` for `from ..a import b`.
pub(super) fn facts(text: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    let tokens = tokens(text);
    let mut rest = tokens.as_slice();
    while !rest.is_empty() {
        let end = rest.iter().position(|t| *t == PythonToken::End).unwrap_or(rest.len());
        let (statement, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        match statement {
            [PythonToken::Word("import"), names @ ..] => {
                for name in names.split(|t| *t == PythonToken::Mark(',')) {
                    found.insert(module(name).0);
                }
            }
            [PythonToken::Word("from"), tail @ ..] => {
                let (from, names) = module(tail);
                let [PythonToken::Word("import"), names @ ..] = names else { continue };
                for name in names.split(|t| *t == PythonToken::Mark(',')) {
                    let word = name.iter().find(|t| !matches!(t, PythonToken::Mark('(' | ')')));
                    match word {
                        Some(PythonToken::Word(name)) => found.insert(format!("{from}:{name}")),
                        Some(PythonToken::Mark('*')) => found.insert(format!("{from}:*")),
                        Some(PythonToken::Mark(_) | PythonToken::End) | None => continue,
                    };
                }
            }
            _ => {}
        }
    }
    found.remove("");
    found.into_iter().collect()
}

/// A dotted name, and what follows it.
fn module<'t, 'a>(tokens: &'t [PythonToken<'a>]) -> (String, &'t [PythonToken<'a>]) {
    let mut name = String::new();
    let mut joined = true;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            PythonToken::Mark('.') => {
                name.push('.');
                joined = true;
            }
            PythonToken::Word(word) if joined && *word != "import" => {
                name.push_str(word);
                joined = false;
            }
            PythonToken::Word(_) | PythonToken::Mark(_) | PythonToken::End => {
                return (name, &tokens[at..]);
            }
        }
    }
    (name, &[])
}

/// The statements' beginnings, as tokens: what is in strings and comments is not there, a bracketed line break is none.
fn tokens(text: &str) -> Vec<PythonToken<'_>> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            '#' => taken = rest.find('\n').unwrap_or(rest.len()),
            '\'' | '"' => {
                // A backslash is part of a raw string, too: it keeps a quote from ending it.
                taken = string(rest, c);
                found.push(PythonToken::Mark('"'));
            }
            '\\' => {
                let width = |c: char| if c == '\r' { 2 } else { c.len_utf8() };
                taken += rest[1..].chars().next().map_or(0, width);
            }
            '\n' if depth == 0 => found.push(PythonToken::End),
            ';' => found.push(PythonToken::End),
            // `try: import x`; inside brackets it is a slice or a dictionary.
            ':' if depth == 0 => found.push(PythonToken::End),
            '(' | '[' | '{' => {
                depth += 1;
                found.push(PythonToken::Mark(c));
            }
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                found.push(PythonToken::Mark(c));
            }
            _ if c.is_alphanumeric() || c == '_' => {
                let word = |c: char| !(c.is_alphanumeric() || c == '_');
                taken = rest.find(word).unwrap_or(rest.len());
                found.push(PythonToken::Word(&rest[..taken]));
            }
            _ if c.is_whitespace() => {}
            _ => found.push(PythonToken::Mark(c)),
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    found
}

/// The length of the string with which a text begins. One without its end reaches to the end of the line.
fn string(text: &str, quote: char) -> usize {
    let triple: String = std::iter::repeat_n(quote, 3).collect();
    let long = text.starts_with(&triple);
    let mut chars = text.char_indices().skip(if long { 3 } else { 1 });
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '\n' if !long => return at,
            _ if c == quote && !long => return at + 1,
            _ if c == quote && text[at..].starts_with(&triple) => return at + 3,
            _ => {}
        }
    }
    text.len()
}

/// Finds what modules mean.
pub(super) struct PythonResolver<'s> {
    snapshot: &'s TreePaths,
    /// Folders in which top-level modules are looked for, for everybody.
    roots: Vec<String>,
    /// Folders that hold Python files, at any depth: without `__init__.py` they are packages all the same.
    holders: BTreeSet<String>,
}

impl<'s> PythonResolver<'s> {
    /// For the files of a tree.
    pub(super) fn new(snapshot: &'s TreePaths) -> Self {
        let mut holders = BTreeSet::new();
        for path in [snapshot.ending(".py"), snapshot.ending(".pyi")].concat() {
            let mut dir = split(path).0;
            while holders.insert(dir.to_owned()) && !dir.is_empty() {
                dir = split(dir).0;
            }
        }
        let mut projects: BTreeSet<&str> = BTreeSet::from([""]);
        for name in ["pyproject.toml", "setup.py", "setup.cfg"] {
            projects.extend(snapshot.named(name).iter().map(|p| split(p).0));
        }
        let mut roots = Vec::new();
        for project in projects {
            for below in ["", "src", "lib", "python"] {
                let root = join(project, below).trim_end_matches('/').to_owned();
                let packaged =
                    ["__init__.py", "__init__.pyi"].iter().any(|i| snapshot.has(&join(&root, i)));
                if holders.contains(&root) && (below.is_empty() || !packaged) {
                    roots.push(root);
                }
            }
        }
        Self { snapshot, roots, holders }
    }

    /// The files of the tree that a file means by what was found in it.
    pub(super) fn targets(&self, from: &str, facts: &[String]) -> Vec<String> {
        facts.iter().filter_map(|fact| self.target(from, fact)).collect()
    }

    fn target(&self, from: &str, fact: &str) -> Option<String> {
        let (module, name) = fact.split_once(':').map_or((fact, None), |(m, n)| (m, Some(n)));
        let dots = module.len() - module.trim_start_matches('.').len();
        let parts: Vec<&str> = module[dots..].split('.').filter(|p| !p.is_empty()).collect();
        if dots > 0 {
            let mut dir = split(from).0;
            for _ in 1..dots {
                if dir.is_empty() {
                    return None;
                }
                dir = split(dir).0;
            }
            return self.below(dir, &parts, name);
        }
        let first = parts.first()?;
        // A module of a package does not see those beside it by their bare names; a script does.
        let own = self.top_of(from);
        let roots = [own].into_iter().chain(self.roots.iter().map(String::as_str));
        // The first root that has the first part of the name has all of it, as for Python; one that has it as a mere
        // folder comes after one that has it as a module.
        let (mut whole, mut folder) = (None, None);
        for root in roots {
            let at = join(root, first);
            if self.module(&at).is_some() {
                whole = whole.or(Some(root));
            } else if self.holders.contains(&at) {
                folder = folder.or(Some(root));
            }
        }
        self.below(whole.or(folder)?, &parts, name)
    }

    /// The module of these parts below a folder; of a name in it that is a module, that one.
    fn below(&self, dir: &str, parts: &[&str], name: Option<&str>) -> Option<String> {
        let path = join(dir, &parts.join("/")).trim_end_matches('/').to_owned();
        let inside = name.filter(|n| *n != "*").and_then(|name| self.module(&join(&path, name)));
        let init = || if path.is_empty() { None } else { self.module(&path) };
        let own = || self.file(&join(&path, "__init__"));
        match (inside, parts.is_empty()) {
            (Some(file), _) => Some(file),
            (None, true) => own(),
            // `import a.b.c` where `c` is no module: as far as there is one.
            (None, false) => init().or_else(|| {
                let (_, shorter) = parts.split_last()?;
                let long = name.is_none() && !shorter.is_empty();
                if long { self.below(dir, shorter, None) } else { None }
            }),
        }
    }

    fn file(&self, stem: &str) -> Option<String> {
        [".py", ".pyi"].iter().map(|e| format!("{stem}{e}")).find(|p| self.snapshot.has(p))
    }

    /// The file of a module: a package's `__init__` or a file of its name.
    fn module(&self, path: &str) -> Option<String> {
        self.file(&format!("{path}/__init__")).or_else(|| self.file(path))
    }

    /// The folder from which a file's own package is imported: the first above it that is no package.
    fn top_of<'p>(&self, path: &'p str) -> &'p str {
        let mut dir = split(path).0;
        while !dir.is_empty() && self.file(&join(dir, "__init__")).is_some() {
            dir = split(dir).0;
        }
        dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_found_where_they_are_statements() {
        let table = [
            ("import a, b.c as d", "a b.c"),
            ("import a . b", "a.b"),
            ("from a.b import c as d, e", "a.b:c a.b:e"),
            ("from . import x", ".:x"),
            ("from .. import x", "..:x"),
            ("from ...a.b import c", "...a.b:c"),
            ("from .a import *", ".a:*"),
            ("from . . a import b", "..a:b"),
            ("from a import (\n    b,  # one\n    c as d,\n)\n", "a:b a:c"),
            ("from a import b, \\\n    c\n", "a:b a:c"),
            ("from a import b, \\\r\n    c\r\n", "a:b a:c"),
            ("x = 1; import a; from b import c", "a b:c"),
            ("try: import a\nexcept ImportError: a = None", "a"),
            ("if x:\n    import a\nelse:\n\tfrom b import c\n", "a b:c"),
            ("def f(a: int = d[1:2]): import b", "b"),
            ("x = [1,\nimport_a, 2]\nimport b", "b"),
            ("'''\nimport no\n'''\nimport a", "a"),
            ("\"\"\" say \\\"\"\" import no\nimport no \"\"\"\nimport a", "a"),
            ("r'\\'; import no'\nimport a", "a"),
            ("x = 'it\\'s'; import a", "a"),
            ("# import no\nimport a # import no", "a"),
            ("x = f\"{d['import no']}\"\nimport a", "a"),
            ("x = \"unclosed\nimport a", "a"),
            ("raise X from e\nyield from g()\nimport a", "a"),
            ("importlib.import_module('no')\nfrom_x = 1", ""),
            ("from __future__ import annotations", "__future__:annotations"),
            ("import ä.ö", "ä.ö"),
            ("lazy = lambda: import_(a)", ""),
            ("match x:\n  case 1: import a", "a"),
            ("from a import", ""),
        ];
        for (text, expected) in table {
            assert_eq!(facts(text).join(" "), expected, "of {text:?}");
        }
    }
}
