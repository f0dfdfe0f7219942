//! The import specifiers of a JavaScript or TypeScript file.

use oxc_allocator::Allocator;
use oxc_ast::ast::{
    Argument, CallExpression, Expression, ImportExpression, TSExternalModuleReference,
    TSImportType, TSLiteral, TSType,
};
use oxc_ast_visit::{Visit, walk};
use oxc_parser::{ParseOptions, Parser};
use oxc_span::SourceType;

use super::fact::ImportFact;

/// Extensions of the files that this module parses.
const EXTENSIONS: [&str; 8] = [".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".mts", ".cts"];

/// Returns true if the path is that of a JavaScript or TypeScript file.
pub(super) fn is_source(path: &str) -> bool {
    EXTENSIONS.iter().any(|extension| path.ends_with(extension))
}

/// Returns true if the path is that of a TypeScript file.
pub(super) fn is_typed(path: &str) -> bool {
    path.ends_with("ts") || path.ends_with(".tsx")
}

/// Returns the import facts of a file, sorted and without duplicates. Returns `None` if the file
/// cannot be parsed.
///
/// The source types that the path allows are tried in turn. The first parse without syntax errors
/// wins. If every parse has errors, the first parse that the parser completed wins.
pub(super) fn facts(path: &str, text: &str) -> Option<Vec<ImportFact>> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut with_errors = None;
    for source_type in source_types(path) {
        match parse(text, source_type) {
            Some(ParsedFacts { facts, has_errors: false }) => return Some(facts),
            Some(ParsedFacts { facts, has_errors: true }) => {
                with_errors = with_errors.or(Some(facts));
            }
            None => {}
        }
    }
    with_errors
}

/// Returns the source types that a file may have, the likeliest first.
fn source_types(path: &str) -> Vec<SourceType> {
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
    // Types in a JavaScript file are Flow's. Their syntax is close enough to TypeScript's.
    vec![module, script, SourceType::tsx()]
}

/// The result of parsing a file as one source type.
struct ParsedFacts {
    facts: Vec<ImportFact>,
    has_errors: bool,
}

/// Parses a file as one source type. Returns `None` if the parser gives up.
fn parse(text: &str, source_type: SourceType) -> Option<ParsedFacts> {
    let allocator = Allocator::default();
    let options = ParseOptions { allow_return_outside_function: true, ..ParseOptions::default() };
    let parsed = Parser::new(&allocator, text, source_type).with_options(options).parse();
    if parsed.panicked {
        return None;
    }
    let mut collector = ImportCollector::default();
    let record = &parsed.module_record;
    for specifier in record.requested_modules.keys() {
        collector.add(ImportFact::Import, specifier);
    }
    // Walking the syntax tree is the most expensive step. Most modules need no walk, because they
    // have static imports only.
    let may_be_nested = ["require", "import(", "import ("].iter().any(|word| text.contains(word));
    if may_be_nested || !record.dynamic_imports.is_empty() {
        collector.visit_program(&parsed.program);
    }
    let mut facts = collector.facts;
    facts.sort_unstable();
    facts.dedup();
    Some(ParsedFacts { facts, has_errors: !parsed.errors.is_empty() })
}

/// A visitor that collects the specifiers of nested imports.
#[derive(Default)]
struct ImportCollector {
    facts: Vec<ImportFact>,
}

impl ImportCollector {
    fn add(&mut self, fact: fn(String) -> ImportFact, specifier: &str) {
        // A specifier with a control character names no file.
        if !specifier.is_empty() && !specifier.contains(char::is_control) {
            self.facts.push(fact(specifier.to_owned()));
        }
    }
}

impl<'a> Visit<'a> for ImportCollector {
    fn visit_call_expression(&mut self, call: &CallExpression<'a>) {
        if let (Expression::Identifier(name), Some(first)) = (&call.callee, call.arguments.first())
            && name.name == "require"
        {
            if let Argument::StringLiteral(literal) = first {
                self.add(ImportFact::Require, &literal.value);
            } else if let Argument::TemplateLiteral(template) = first
                && let Some(text) = template.single_quasi()
            {
                self.add(ImportFact::Require, &text);
            }
        }
        walk::walk_call_expression(self, call);
    }

    fn visit_import_expression(&mut self, import: &ImportExpression<'a>) {
        if let Expression::StringLiteral(literal) = &import.source {
            self.add(ImportFact::Import, &literal.value);
        } else if let Expression::TemplateLiteral(template) = &import.source
            && let Some(text) = template.single_quasi()
        {
            self.add(ImportFact::Import, &text);
        }
        walk::walk_import_expression(self, import);
    }

    fn visit_ts_import_type(&mut self, import: &TSImportType<'a>) {
        if let TSType::TSLiteralType(literal) = &import.argument
            && let TSLiteral::StringLiteral(text) = &literal.literal
        {
            self.add(ImportFact::Import, &text.value);
        }
        walk::walk_ts_import_type(self, import);
    }

    fn visit_ts_external_module_reference(&mut self, reference: &TSExternalModuleReference<'a>) {
        self.add(ImportFact::Require, &reference.expression.value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fact::short;
    use super::*;

    fn facts_of(path: &str, text: &str) -> String {
        facts(path, text).map_or_else(|| "?".to_owned(), |facts| short(&facts))
    }

    #[test]
    fn facts_hold_every_import_and_require_of_a_literal() {
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
            assert_eq!(facts_of(path, text), expected, "of {path}: {text}");
        }
    }
}
