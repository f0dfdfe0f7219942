//! The imports of a Python file, and their resolution to files of the tree.
//!
//! A small lexer is enough, because `import` and `from` are keywords. The lexer must get the starts
//! of statements right: outside strings, comments and brackets.

use std::collections::BTreeSet;

use super::fact::ImportFact;
use crate::planning::tree_paths::{TreePaths, join, split};

/// Returns true if the path is that of a Python file.
pub(super) fn is_source(path: &str) -> bool {
    path.ends_with(".py") || path.ends_with(".pyi")
}

/// A token of a logical line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PythonToken<'a> {
    Word(&'a str),
    /// Any other character except white space.
    Mark(char),
    /// The end of a statement.
    End,
}

/// Returns the sorted import facts of a file without duplicates.
pub(super) fn facts(text: &str) -> Vec<ImportFact> {
    let mut facts = BTreeSet::new();
    let tokens = tokens(text);
    let mut rest = tokens.as_slice();
    while !rest.is_empty() {
        let end = rest.iter().position(|t| *t == PythonToken::End).unwrap_or(rest.len());
        let (statement, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        match statement {
            [PythonToken::Word("import"), names @ ..] => {
                let names =
                    names.split(|t| *t == PythonToken::Mark(',')).map(|name| module(name).0);
                facts.extend(names.filter(|name| !name.is_empty()).map(ImportFact::PythonModule));
            }
            [PythonToken::Word("from"), tail @ ..] => {
                let (from, names) = module(tail);
                let [PythonToken::Word("import"), names @ ..] = names else { continue };
                for name in names.split(|t| *t == PythonToken::Mark(',')) {
                    let word = name.iter().find(|t| !matches!(t, PythonToken::Mark('(' | ')')));
                    let name = match word {
                        Some(PythonToken::Word(name)) => *name,
                        Some(PythonToken::Mark('*')) => "*",
                        Some(PythonToken::Mark(_) | PythonToken::End) | None => continue,
                    };
                    facts.insert(ImportFact::PythonName(from.clone(), name.to_owned()));
                }
            }
            [] | [PythonToken::Word(_) | PythonToken::Mark(_) | PythonToken::End, ..] => {}
        }
    }
    facts.into_iter().collect()
}

/// Returns the dotted name at the start of the tokens, and the tokens after the name.
fn module<'t, 'a>(tokens: &'t [PythonToken<'a>]) -> (String, &'t [PythonToken<'a>]) {
    let mut name = String::new();
    let mut after_dot = true;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            PythonToken::Mark('.') => {
                name.push('.');
                after_dot = true;
            }
            PythonToken::Word(word) if after_dot && *word != "import" => {
                name.push_str(word);
                after_dot = false;
            }
            PythonToken::Word(_) | PythonToken::Mark(_) | PythonToken::End => {
                return (name, &tokens[at..]);
            }
        }
    }
    (name, &[])
}

/// Returns the tokens of a text. Comments and the contents of strings are left out. A line break in
/// brackets does not end a statement.
fn tokens(text: &str) -> Vec<PythonToken<'_>> {
    let mut tokens = Vec::new();
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            '#' => taken = rest.find('\n').unwrap_or(rest.len()),
            '\'' | '"' => {
                // A backslash keeps the next quote from ending the string, even in a raw string.
                taken = string_length(rest, c);
                tokens.push(PythonToken::Mark('"'));
            }
            '\\' => {
                let width = |c: char| if c == '\r' { 2 } else { c.len_utf8() };
                taken += rest[1..].chars().next().map_or(0, width);
            }
            '\n' if depth == 0 => tokens.push(PythonToken::End),
            ';' => tokens.push(PythonToken::End),
            // `try: import x`. Inside brackets a colon belongs to a slice or a dictionary.
            ':' if depth == 0 => tokens.push(PythonToken::End),
            '(' | '[' | '{' => {
                depth += 1;
                tokens.push(PythonToken::Mark(c));
            }
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                tokens.push(PythonToken::Mark(c));
            }
            _ if c.is_alphanumeric() || c == '_' => {
                let word = |c: char| !(c.is_alphanumeric() || c == '_');
                taken = rest.find(word).unwrap_or(rest.len());
                tokens.push(PythonToken::Word(&rest[..taken]));
            }
            _ if c.is_whitespace() => {}
            _ => tokens.push(PythonToken::Mark(c)),
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    tokens
}

/// Returns the length of the string literal at the start of the text. An unclosed literal reaches
/// to the end of the line.
fn string_length(text: &str, quote: char) -> usize {
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

/// A resolver for Python imports.
pub(super) struct PythonResolver<'t> {
    tree: &'t TreePaths,
    /// The folders in which all files find top-level modules.
    roots: Vec<String>,
    /// Folders with Python files at any depth. A folder without an `__init__.py` is a namespace
    /// package.
    python_folders: BTreeSet<String>,
}

impl<'t> PythonResolver<'t> {
    /// Creates the resolver for a tree.
    pub(super) fn new(tree: &'t TreePaths) -> Self {
        let mut python_folders = BTreeSet::new();
        for path in [tree.files_ending_in(".py"), tree.files_ending_in(".pyi")].concat() {
            let mut dir = split(path).0;
            while python_folders.insert(dir.to_owned()) && !dir.is_empty() {
                dir = split(dir).0;
            }
        }
        let mut projects: BTreeSet<&str> = BTreeSet::from([""]);
        for name in ["pyproject.toml", "setup.py", "setup.cfg"] {
            projects.extend(tree.files_named(name).iter().map(|p| split(p).0));
        }
        let mut roots = Vec::new();
        for project in projects {
            for below in ["", "src", "lib", "python"] {
                let root = join(project, below).trim_end_matches('/').to_owned();
                let is_package =
                    ["__init__.py", "__init__.pyi"].iter().any(|i| tree.has_file(&join(&root, i)));
                if python_folders.contains(&root) && (below.is_empty() || !is_package) {
                    roots.push(root);
                }
            }
        }
        Self { tree, roots, python_folders }
    }

    /// Returns the files of the tree that the facts of the file `from` lead to.
    pub(super) fn targets(&self, from: &str, facts: &[ImportFact]) -> Vec<String> {
        let target = |fact: &ImportFact| match fact {
            ImportFact::PythonModule(module) => self.target(from, module, None),
            ImportFact::PythonName(module, name) => self.target(from, module, Some(name)),
            ImportFact::Import(_)
            | ImportFact::Require(_)
            | ImportFact::RustModule(_)
            | ImportFact::RustModuleFile(..)
            | ImportFact::RustPath(..)
            | ImportFact::RustExternCrate(_) => None,
        };
        facts.iter().filter_map(target).collect()
    }

    /// Resolves a module, or a name imported from it. `module` has the leading dots of a relative
    /// import.
    fn target(&self, from: &str, module: &str, name: Option<&str>) -> Option<String> {
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
        // A script can import the modules in its own folder by their bare names. A module of a
        // package cannot.
        let own_root = self.top_of(from);
        let roots = [own_root].into_iter().chain(self.roots.iter().map(String::as_str));
        // As in Python, the whole name is resolved below the first root that has the first part of
        // the name. A root that has the first part as a module goes before a root that has it as a
        // namespace package.
        let (mut as_module, mut as_folder) = (None, None);
        for root in roots {
            let at = join(root, first);
            if self.module(&at).is_some() {
                as_module = as_module.or(Some(root));
            } else if self.python_folders.contains(&at) {
                as_folder = as_folder.or(Some(root));
            }
        }
        self.below(as_module.or(as_folder)?, &parts, name)
    }

    /// Returns the file of the module with these parts below a folder, or of the submodule `name`
    /// if there is one.
    fn below(&self, dir: &str, parts: &[&str], name: Option<&str>) -> Option<String> {
        let path = join(dir, &parts.join("/")).trim_end_matches('/').to_owned();
        let inside = name.filter(|n| *n != "*").and_then(|name| self.module(&join(&path, name)));
        let module = || if path.is_empty() { None } else { self.module(&path) };
        let init = || self.file(&join(&path, "__init__"));
        match (inside, parts.is_empty()) {
            (Some(file), _) => Some(file),
            (None, true) => init(),
            // For `import a.b.c` where `c` is not a module, use the longest prefix that is a
            // module.
            (None, false) => module().or_else(|| {
                let (_, shorter) = parts.split_last()?;
                let can_shorten = name.is_none() && !shorter.is_empty();
                if can_shorten { self.below(dir, shorter, None) } else { None }
            }),
        }
    }

    fn file(&self, stem: &str) -> Option<String> {
        [".py", ".pyi"].iter().map(|e| format!("{stem}{e}")).find(|p| self.tree.has_file(p))
    }

    /// Returns the file of a module: the `__init__` of a package, or a file with the module's name.
    fn module(&self, path: &str) -> Option<String> {
        self.file(&format!("{path}/__init__")).or_else(|| self.file(path))
    }

    /// Returns the folder from which a file's own package is imported: the first folder above the
    /// file without `__init__`.
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
    use super::super::fact::short;
    use super::*;

    #[test]
    fn facts_hold_import_statements_but_no_strings_or_comments() {
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
            assert_eq!(short(&facts(text)), expected, "of {text:?}");
        }
    }
}
