//! What a JavaScript or TypeScript file asks for.

use oxc_allocator::Allocator;
use oxc_ast::ast::{
    Argument, CallExpression, Expression, ImportExpression, TSExternalModuleReference,
    TSImportType, TSLiteral, TSType,
};
use oxc_ast_visit::{Visit, walk};
use oxc_parser::{ParseOptions, Parser};
use oxc_span::SourceType;

/// Extensions of files that are read here.
const EXTENSIONS: [&str; 8] = [".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".mts", ".cts"];

/// How a module is asked for; packages may give different files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ImportKind {
    /// `import`, `export … from`, `import()`, and their kin in types.
    Import,
    /// `require()`.
    Require,
}

impl ImportKind {
    /// The letter before a specifier in what is kept of a file.
    fn letter(self) -> char {
        match self {
            Self::Import => 'i',
            Self::Require => 'r',
        }
    }
}

/// Whether a file of this name is read here.
pub(super) fn is_source(path: &str) -> bool {
    EXTENSIONS.iter().any(|e| path.ends_with(e))
}

/// Whether the file may hold types.
pub(super) fn is_typed(path: &str) -> bool {
    path.ends_with("ts") || path.ends_with(".tsx")
}

/// A kept fact as what it says.
pub(super) fn meaning(fact: &str) -> Option<(ImportKind, &str)> {
    let (letter, specifier) = fact.split_once(':')?;
    [ImportKind::Import, ImportKind::Require]
        .into_iter()
        .find(|how| letter.len() == 1 && letter.starts_with(how.letter()))
        .map(|how| (how, specifier))
}

/// The specifiers in a file, in an order of their own and each once; nothing if it cannot be parsed.
pub(super) fn facts(path: &str, text: &str) -> Option<Vec<String>> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut doubtful = None;
    for kind in kinds(path) {
        match parse(text, kind) {
            Some((facts, true)) => return Some(facts),
            Some((facts, false)) => doubtful = doubtful.or(Some(facts)),
            None => {}
        }
    }
    doubtful
}

/// As what a file may be read, the likeliest first.
fn kinds(path: &str) -> Vec<SourceType> {
    if path.ends_with(".d.ts") || path.ends_with(".d.mts") || path.ends_with(".d.cts") {
        return vec![SourceType::d_ts()];
    }
    if path.ends_with(".tsx") {
        return vec![SourceType::tsx()];
    }
    if is_typed(path) {
        return vec![SourceType::ts(), SourceType::tsx()];
    }
    let script = SourceType::cjs().with_jsx(true);
    let module = SourceType::jsx().with_module(true);
    // Types in a file of JavaScript are Flow's, which is near enough.
    vec![module, script, SourceType::tsx()]
}

/// The specifiers, and whether nothing was wrong with the text; nothing if it makes no sense at all.
fn parse(text: &str, kind: SourceType) -> Option<(Vec<String>, bool)> {
    let allocator = Allocator::default();
    let options = ParseOptions { allow_return_outside_function: true, ..ParseOptions::default() };
    let parsed = Parser::new(&allocator, text, kind).with_options(options).parse();
    if parsed.panicked {
        return None;
    }
    let mut found = ImportCollector::default();
    let record = &parsed.module_record;
    for specifier in record.requested_modules.keys() {
        found.add(ImportKind::Import, specifier);
    }
    // Walking the whole tree is what costs most, and most modules need it not.
    let deep = ["require", "import(", "import ("].iter().any(|word| text.contains(word));
    if deep || !record.dynamic_imports.is_empty() {
        found.visit_program(&parsed.program);
    }
    found.facts.sort_unstable();
    found.facts.dedup();
    Some((found.facts, parsed.errors.is_empty()))
}

#[derive(Default)]
struct ImportCollector {
    facts: Vec<String>,
}

impl ImportCollector {
    fn add(&mut self, how: ImportKind, specifier: &str) {
        // What is kept is a line of text; no file has such a name.
        if !specifier.is_empty() && !specifier.contains(char::is_control) {
            self.facts.push(format!("{}:{specifier}", how.letter()));
        }
    }
}

impl<'a> Visit<'a> for ImportCollector {
    fn visit_call_expression(&mut self, call: &CallExpression<'a>) {
        if let (Expression::Identifier(name), Some(first)) = (&call.callee, call.arguments.first())
            && name.name == "require"
        {
            if let Argument::StringLiteral(literal) = first {
                self.add(ImportKind::Require, &literal.value);
            } else if let Argument::TemplateLiteral(template) = first
                && let Some(text) = template.single_quasi()
            {
                self.add(ImportKind::Require, &text);
            }
        }
        walk::walk_call_expression(self, call);
    }

    fn visit_import_expression(&mut self, import: &ImportExpression<'a>) {
        if let Expression::StringLiteral(literal) = &import.source {
            self.add(ImportKind::Import, &literal.value);
        } else if let Expression::TemplateLiteral(template) = &import.source
            && let Some(text) = template.single_quasi()
        {
            self.add(ImportKind::Import, &text);
        }
        walk::walk_import_expression(self, import);
    }

    fn visit_ts_import_type(&mut self, import: &TSImportType<'a>) {
        if let TSType::TSLiteralType(literal) = &import.argument
            && let TSLiteral::StringLiteral(text) = &literal.literal
        {
            self.add(ImportKind::Import, &text.value);
        }
        walk::walk_ts_import_type(self, import);
    }

    fn visit_ts_external_module_reference(&mut self, reference: &TSExternalModuleReference<'a>) {
        self.add(ImportKind::Require, &reference.expression.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, text: &str) -> String {
        facts(path, text).map_or_else(|| "?".to_owned(), |f| f.join(" "))
    }

    #[test]
    fn every_way_to_ask_for_a_module_is_found() {
        let table = [
            (
                "a.js",
                "import x from './x'; import './y'; import * as z from \"z\";",
                "i:./x i:./y i:z",
            ),
            (
                "a.js",
                "export * from './x'; export {a} from './y'; export {b}; let b",
                "i:./x i:./y",
            ),
            ("a.js", "export * as n from './x';", "i:./x"),
            ("a.js", "import x, {y} from './x' with {type: 'json'};", "i:./x"),
            (
                "a.js",
                "const a = require('./a'), {b} = require(`./b`).c; require(c); require('./d' + e)",
                "r:./a r:./b",
            ),
            ("a.js", "function f() { if (x) { return [require('./deep')] } }", "r:./deep"),
            ("a.js", "define(function(require) { var a = require('./amd'); })", "r:./amd"),
            (
                "a.js",
                "import('./x'); import(`./y`); import(z); import(`./${z}`); await import\n('./w')",
                "i:./w i:./x i:./y",
            ),
            ("a.js", "lazy(() => import(/* a comment */ './c'))", "i:./c"),
            (
                "a.js",
                "// require('./no')\n/* import './no' */ 'require(\"./no\")'; `import './no'`; /import('x')/",
                "",
            ),
            ("a.js", "obj.require('./no'); new Require('./no')", ""),
            ("a.js", "require.resolve('./no'); requirejs('./no')", ""),
            ("a.cjs", "return require('./x')", "r:./x"),
            ("a.js", "with (a) { require('./sloppy') }", "r:./sloppy"),
            ("a.js", "#!/usr/bin/env node\nrequire('./x')", "r:./x"),
            ("a.js", "\u{FEFF}require('./x')", "r:./x"),
            ("a.js", "const a = <B c={require('./d')}>e</B>", "r:./d"),
            ("a.jsx", "import './x'; export default () => <p/>", "i:./x"),
            ("a.js", "import type {T} from './flow'; function f(a: T): ?string {}", "i:./flow"),
            (
                "a.ts",
                "import type {T} from './t'; import {type U} from './u'; export type {V} from './v';",
                "i:./t i:./u i:./v",
            ),
            (
                "a.ts",
                "import fs = require('./fs'); let x: import('./y').Z; type Q = typeof import('./q')",
                "i:./q i:./y r:./fs",
            ),
            ("a.ts", "let a = <T>b; import './x'", "i:./x"),
            ("a.mts", "import './x.mjs'", "i:./x.mjs"),
            ("a.tsx", "import './x'; const y = <T,>(z: T) => <p>{z}</p>", "i:./x"),
            ("a.d.ts", "declare module 'm' { import x from './in'; } export * from './x'", "i:./x"),
            ("a.js", "const {", "?"),
        ];
        for (path, text, expected) in table {
            assert_eq!(of(path, text), expected, "of {path}: {text}");
        }
    }

    #[test]
    fn what_is_kept_can_be_read() {
        assert_eq!(meaning("i:./a:b"), Some((ImportKind::Import, "./a:b")));
        assert_eq!(meaning("r:#x"), Some((ImportKind::Require, "#x")));
        assert_eq!((meaning("x:y"), meaning("")), (None, None));
    }
}
