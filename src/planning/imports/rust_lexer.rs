//! The import facts of a Rust file: a lexer, and a reader for modules, `use` trees and paths.

use super::fact::ImportFact;

/// A token of a file. Comments, characters and numbers are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RustToken<'a> {
    Word(&'a str),
    /// `::`
    Path,
    Mark(char),
    /// A string, without its quotes.
    Text(&'a str),
}

/// Returns the sorted import facts of a file without duplicates.
pub(super) fn facts(text: &str) -> Vec<ImportFact> {
    let tokens = tokens(text);
    let mut reader = FactReader {
        tokens: &tokens,
        position: 0,
        inline_modules: Vec::new(),
        depth: 0,
        facts: Vec::new(),
    };
    reader.read();
    let mut facts = reader.facts;
    facts.sort_unstable();
    facts.dedup();
    facts
}

/// A reader of facts from the tokens of a file.
struct FactReader<'t, 'a> {
    tokens: &'t [RustToken<'a>],
    position: usize,
    /// The inline modules around the position, each with the brace depth outside of its braces.
    inline_modules: Vec<(&'a str, usize)>,
    /// The brace depth at the position.
    depth: usize,
    facts: Vec<ImportFact>,
}

/// Returns true for a keyword that starts a path relative to the crate or to a module.
fn is_root(word: &str) -> bool {
    matches!(word, "crate" | "self" | "super")
}

impl<'a> FactReader<'_, 'a> {
    fn peek(&self, ahead: usize) -> Option<RustToken<'a>> {
        self.tokens.get(self.position + ahead).copied()
    }

    /// Returns the path of the innermost inline module around the position.
    fn module_path(&self) -> String {
        self.inline_modules.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("::")
    }

    fn read(&mut self) {
        let mut file: Option<&'a str> = None;
        while let Some(token) = self.peek(0) {
            match (token, self.peek(1), self.peek(2)) {
                (
                    RustToken::Mark('#'),
                    Some(RustToken::Mark('[')),
                    Some(RustToken::Word("path")),
                ) => {
                    if let (Some(RustToken::Mark('=')), Some(RustToken::Text(text))) =
                        (self.peek(3), self.peek(4))
                    {
                        file = Some(text);
                        self.position += 5;
                    }
                }
                (
                    RustToken::Word("mod"),
                    Some(RustToken::Word(name)),
                    Some(RustToken::Mark(';')),
                ) => {
                    let mut path: Vec<_> = self.inline_modules.iter().map(|(n, _)| *n).collect();
                    path.push(plain(name));
                    let path = path.join("::");
                    self.facts.push(match file.take() {
                        Some(file) => ImportFact::RustModuleFile(path, file.to_owned()),
                        None => ImportFact::RustModule(path),
                    });
                    self.position += 2;
                }
                (
                    RustToken::Word("mod"),
                    Some(RustToken::Word(name)),
                    Some(RustToken::Mark('{')),
                ) => {
                    file = None;
                    self.inline_modules.push((plain(name), self.depth));
                    self.depth += 1;
                    self.position += 2;
                }
                (RustToken::Mark('{'), ..) => self.depth += 1,
                (RustToken::Mark('}'), ..) => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.inline_modules.last().is_some_and(|(_, depth)| *depth == self.depth) {
                        self.inline_modules.pop();
                    }
                }
                (
                    RustToken::Word("extern"),
                    Some(RustToken::Word("crate")),
                    Some(RustToken::Word(name)),
                ) => {
                    self.facts.push(ImportFact::RustExternCrate(plain(name).to_owned()));
                    self.position += 2;
                }
                (RustToken::Word("use"), Some(_), _) => {
                    self.position += 1;
                    if self.peek(0) == Some(RustToken::Path) {
                        self.position += 1;
                    }
                    self.use_tree(&mut Vec::new());
                    continue;
                }
                // A path in an expression or a type.
                (RustToken::Word(word), Some(RustToken::Path), Some(RustToken::Word(_))) => {
                    let after_path =
                        self.position > 0 && self.tokens[self.position - 1] == RustToken::Path;
                    let lower = word.starts_with(|c: char| c.is_lowercase() || c == '_');
                    if !after_path && (is_root(word) || lower) {
                        self.plain_path();
                        continue;
                    }
                }
                (
                    RustToken::Word(_) | RustToken::Path | RustToken::Mark(_) | RustToken::Text(_),
                    ..,
                ) => {}
            }
            self.position += 1;
        }
    }

    /// Reads a path without branches.
    fn plain_path(&mut self) {
        let mut parts = Vec::new();
        while let Some(RustToken::Word(word)) = self.peek(0) {
            parts.push(plain(word));
            self.position += 1;
            if self.peek(0) != Some(RustToken::Path)
                || !matches!(self.peek(1), Some(RustToken::Word(_)))
            {
                break;
            }
            self.position += 1;
        }
        self.add_path(&parts);
    }

    /// Reads the tree of a `use` declaration or one branch of the tree. `stem` holds the path up to
    /// this branch.
    fn use_tree(&mut self, stem: &mut Vec<&'a str>) {
        let before = stem.len();
        while let Some(token) = self.peek(0) {
            match token {
                RustToken::Word("as") => self.position += 2,
                RustToken::Word(word) => {
                    stem.push(plain(word));
                    self.position += 1;
                }
                RustToken::Path => self.position += 1,
                RustToken::Mark('*') => {
                    stem.push("*");
                    self.position += 1;
                }
                RustToken::Mark('{') => {
                    self.position += 1;
                    loop {
                        self.use_tree(stem);
                        let next = self.peek(0);
                        if matches!(next, Some(RustToken::Mark(',' | '}'))) {
                            self.position += 1;
                        }
                        if next != Some(RustToken::Mark(',')) {
                            break;
                        }
                    }
                    stem.truncate(before);
                    return;
                }
                RustToken::Mark(_) | RustToken::Text(_) => break,
            }
        }
        if stem.len() > before {
            let path = stem.clone();
            self.add_path(&path);
        }
        stem.truncate(before);
    }

    fn add_path(&mut self, parts: &[&str]) {
        if parts.len() > 1 || parts.first().is_some_and(|p| !is_root(p)) {
            self.facts.push(ImportFact::RustPath(self.module_path(), parts.join("::")));
        }
    }
}

/// Returns an identifier without the `r#` of raw identifiers.
fn plain(word: &str) -> &str {
    word.strip_prefix("r#").unwrap_or(word)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the tokens of a text.
fn tokens(text: &str) -> Vec<RustToken<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        if rest.starts_with("//") {
            taken = rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            taken = block_comment(rest);
        } else if let Some((length, inside)) = raw_string(rest) {
            taken = length;
            tokens.push(RustToken::Text(inside));
        } else if c == '"' {
            taken = string_length(rest);
            tokens.push(RustToken::Text(rest.get(1..taken - 1).unwrap_or_default()));
        } else if c == '\'' {
            taken = character(rest);
        } else if rest.starts_with("r#") && rest[2..].starts_with(is_word) {
            taken = 2 + rest[2..].find(|c| !is_word(c)).unwrap_or(rest.len() - 2);
            tokens.push(RustToken::Word(&rest[..taken]));
        } else if is_word(c) {
            taken = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push(RustToken::Word(&rest[..taken]));
        } else if rest.starts_with("::") {
            taken = 2;
            tokens.push(RustToken::Path);
        } else if !c.is_whitespace() {
            tokens.push(RustToken::Mark(c));
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    tokens
}

/// Returns the length of the block comment at the start of the text. Block comments nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Returns the length and the content of the raw string (`r"…"`, `br##"…"##`) at the start of the
/// text.
fn raw_string(text: &str) -> Option<(usize, &str)> {
    let start = ["r", "br", "cr"].into_iter().find(|p| {
        text.strip_prefix(p).is_some_and(|t| t.trim_start_matches('#').starts_with('"'))
    })?;
    let hashes = text[start.len()..].chars().take_while(|c| *c == '#').count();
    let open = start.len() + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = text[open..].find(&close).map_or(text.len(), |at| open + at);
    Some(((end + close.len()).min(text.len()), &text[open..end]))
}

/// Returns the length of the string literal at the start of the text.
fn string_length(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns the length of the character literal at the start of the text, or 1 for the quote of a
/// lifetime or a label.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            chars.next();
            chars.find(|(_, c)| *c == '\'').map_or(text.len(), |(at, _)| at + 1)
        }
        Some((_, _)) => match chars.next() {
            Some((at, '\'')) => at + 1,
            Some(_) | None => 1,
        },
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fact::short;
    use super::*;

    #[test]
    fn facts_hold_modules_and_paths_but_no_strings_or_comments() {
        let table = [
            ("mod a; pub(crate) mod b;", "m:a m:b"),
            ("#[path = \"x/y.rs\"]\nmod a; mod b;", "m:b p:a=x/y.rs"),
            ("#[path = r\"x.rs\"] #[cfg(test)] pub mod a;", "p:a=x.rs"),
            ("mod a { mod b; mod c { mod d; } } mod e;", "m:a::b m:a::c::d m:e"),
            ("use crate::a::b;", "u:|crate::a::b"),
            (
                "use crate::{a, b::{self, c as d}, e::*};",
                "u:|crate::a u:|crate::b::c u:|crate::b::self u:|crate::e::*",
            ),
            ("pub use super::x; use self::y::z;", "u:|self::y::z u:|super::x"),
            ("use other::{x};", "u:|other::x"),
            ("use ::other::x; use r#try::x;", "u:|other::x u:|try::x"),
            ("use {a::b, c};", "u:|a::b u:|c"),
            ("mod t { use super::*; fn f() { crate::x::y() } }", "u:t|crate::x::y u:t|super::*"),
            ("fn f() { if a { mod b {} } use c::d; }", "u:|c::d"),
            ("fn f(x: crate::a::T) -> super::b::U { self.c() }", "u:|crate::a::T u:|super::b::U"),
            ("let x = other::call(); let y = Vec::new(); a.b::<c::D>()", "u:|c::D u:|other::call"),
            ("extern crate foo as bar;", "e:foo"),
            ("// mod no;\n/* mod no; /* use no::x; */ mod no; */ mod a;", "m:a"),
            (
                "let s = \"mod no; \\\" use no::x;\"; let r = r#\"mod no;\"use no::x\"#; mod a;",
                "m:a",
            ),
            ("let c = '\"'; let d = '\\''; fn f<'a>(x: &'a str) {} mod a;", "m:a"),
            ("let b = b\"mod no;\"; let c = b'\"'; mod a;", "m:a"),
            ("'outer: loop { break 'outer; } mod a;", "m:a"),
            ("cfg_if! { if #[cfg(unix)] { mod a; } }", "m:a"),
            ("mod r#async;", "m:async"),
        ];
        for (text, expected) in table {
            assert_eq!(short(&facts(text)), expected, "of {text:?}");
        }
    }
}
