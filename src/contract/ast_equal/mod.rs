//! `ast-equal`: a comparison of two programs without their types.
//!
//! Both files are parsed and stripped of types and of mere spelling, and the syntax trees are
//! compared field by field. Two rules define the comparison:
//!
//! - Types are the syntax that TypeScript removes with `verbatimModuleSyntax`: `import type` is
//!   removed, and an import without `type` stays, used or not.
//! - Equivalence is not proven. `let` for `const`, a block for a single statement or `return` for
//!   an arrow's expression are differences, although many of them have no effect.

mod bindings;
mod comments;
mod common_js;
mod differ;
mod erase;
mod modules;
mod report;
mod rules_text;
mod tree;

#[cfg(test)]
mod tests;

use oxc_allocator::Allocator;
use oxc_parser::{ParseOptions, Parser};
use oxc_span::SourceType;
use thiserror::Error;

use comments::DirectiveComment;
pub use rules_text::rules_text;
use tree::{AstNode, AstValue};

/// The versions of the parser and of the rules. The result of a comparison depends only on these
/// versions, the options and the two files.
pub const ENGINE: &str = "oxc 0.96.0, rules 3";

/// The stack size for deep trees, in bytes. A sum of ten thousand terms is a tree of that depth,
/// and parsing, printing and comparing trees are recursive.
const STACK_SIZE: usize = 512 * 1024 * 1024;

/// A source file.
#[derive(Debug, Clone, Copy)]
pub struct SourceFile<'a> {
    /// The path. The extension selects the language.
    pub path: &'a str,
    /// The content.
    pub text: &'a str,
}

/// The permitted differences in addition to types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AstEqualOptions {
    /// True if the extension of a relative import may change: `./a.js` to `./a.ts` or `./a`.
    pub extensions: bool,
    /// True if an import that no code uses may become `import type`, although the import no longer
    /// loads the module.
    pub type_imports: bool,
    /// True if a field without a value is code, as the language defines. False for a project with
    /// `useDefineForClassFields = false`, where the compiler removes the field.
    pub define_fields: bool,
    /// True if `@ts-nocheck`, `@ts-ignore` and `@ts-expect-error` may be added.
    pub ts_comments: bool,
    /// The largest number of `any` in a file.
    pub max_any: Option<usize>,
}

impl Default for AstEqualOptions {
    fn default() -> Self {
        Self {
            extensions: false,
            type_imports: false,
            define_fields: true,
            ts_comments: false,
            max_any: None,
        }
    }
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The differences that are not permitted; empty for equal programs.
    pub differences: Vec<ProgramDifference>,
    /// The number of `any` in the second file.
    pub any: usize,
}

impl Comparison {
    /// Returns true if the programs are equal.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }
}

/// A difference: the smallest statements around the difference, and a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramDifference {
    /// The statement in the first file.
    pub from: Option<Excerpt>,
    /// The statement in the second file.
    pub to: Option<Excerpt>,
    /// Advice on how to avoid this difference.
    pub hint: Option<String>,
}

/// A few lines of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The number of the first line.
    pub line: usize,
    /// The shortened text.
    pub text: String,
}

/// The reason why two files cannot be compared.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum CompareError {
    /// The extension belongs to no supported language.
    #[error("{path}: the extension is none of .js, .jsx, .mjs, .cjs, .ts, .tsx, .mts, .cts")]
    Language {
        /// The file.
        path: String,
    },
    /// The file cannot be parsed.
    #[error("{path}:{line}: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// The line of the error.
        line: usize,
        /// The message of the parser.
        message: String,
    },
    /// A bug in this module.
    #[error("{path}: {message}")]
    Internal {
        /// The file.
        path: String,
        /// The description of the bug.
        message: String,
    },
}

/// Compares two files.
pub fn compare(
    from: &SourceFile,
    to: &SourceFile,
    options: &AstEqualOptions,
) -> Result<Comparison, CompareError> {
    let internal = |message: String| CompareError::Internal { path: to.path.to_owned(), message };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(STACK_SIZE).build();
    let pool = pool.map_err(|e| internal(format!("there is no stack to compare on: {e}")))?;
    pool.install(|| compare_on_this_stack(from, to, options))
}

fn compare_on_this_stack<'a>(
    from: &SourceFile<'a>,
    to: &SourceFile<'a>,
    options: &AstEqualOptions,
) -> Result<Comparison, CompareError> {
    // A byte order mark is not part of the program (ECMA-262, 12.2 and 12.5).
    let without_mark = |source: &SourceFile<'a>| SourceFile {
        path: source.path,
        text: source.text.strip_prefix('\u{feff}').unwrap_or(source.text),
    };
    let (from, to) = (&without_mark(from), &without_mark(to));
    let (old, new) = (ParsedSource::of(from)?, ParsedSource::of(to)?);
    let (mut left, mut right) = (old.tree(from)?, new.tree(to)?);
    if options.extensions {
        modules::unify_extensions(&mut left);
        modules::unify_extensions(&mut right);
    }
    let (mut left, mut right) = (program(left), program(right));
    let any = report::find_any(&right);
    let syntax = (modules::module_syntax(&left, options), modules::module_syntax(&right, options));
    let names =
        if options.type_imports { modules::TypeNames::of(&right) } else { Default::default() };
    let left_options = AstEqualOptions { define_fields: true, ..*options };
    left = program(erase::erase(AstValue::Node(Box::new(left)), &left_options));
    right = program(erase::erase(AstValue::Node(Box::new(right)), options));
    names.remove_from(&mut left);
    let module_marks =
        (modules::remove_module_marks(&mut left), modules::remove_module_marks(&mut right));
    common_js::unify(&mut left, &mut right);
    for side in [&mut left, &mut right] {
        modules::move_hashbang_to_body(side);
    }

    let report = report::DifferenceReport { old: from.text, new: to.text };
    let mut differences = Vec::new();
    if left != right {
        let sites = differ::differences(&left, &right);
        differences.extend(sites.into_iter().map(|pair| report.difference(pair)));
    }
    differences.extend(report.module_marks(syntax, module_marks));
    differences.extend(report.comments(&old.comments, &new.comments, options));
    differences.extend(report.too_many_any(&any, options));
    Ok(Comparison { differences, any: any.len() })
}

/// A parsed file.
struct ParsedSource {
    json: String,
    comments: Vec<DirectiveComment>,
}

impl ParsedSource {
    fn of(source: &SourceFile) -> Result<Self, CompareError> {
        let language = language(source.path)
            .ok_or_else(|| CompareError::Language { path: source.path.to_owned() })?;
        let allocator = Allocator::default();
        // Parentheses are kept to distinguish a directive from a string in parentheses.
        let options = ParseOptions {
            allow_return_outside_function: true,
            preserve_parens: true,
            ..ParseOptions::default()
        };
        let parsed = Parser::new(&allocator, source.text, language).with_options(options).parse();
        if let Some(error) = parsed.errors.first() {
            let at = error.labels.as_ref().and_then(|l| l.first()).map_or(0, |l| l.offset());
            return Err(CompareError::Syntax {
                path: source.path.to_owned(),
                line: report::line_of(source.text, at),
                message: error.message.to_string(),
            });
        }
        let program = parsed.program;
        let range = |c: &oxc_ast::ast::Comment| (c.span.start as usize, c.span.end as usize);
        let comments = program.comments.iter().map(range);
        Ok(Self {
            comments: comments.flat_map(|(a, b)| comments::directives(source.text, a, b)).collect(),
            json: program.to_estree_ts_json(false),
        })
    }

    fn tree(&self, source: &SourceFile) -> Result<AstValue<'_>, CompareError> {
        tree::parse(&self.json).map_err(|e| CompareError::Internal {
            path: source.path.to_owned(),
            message: e.to_string(),
        })
    }
}

/// Returns the program node. Any other value becomes a program without statements.
fn program(value: AstValue<'_>) -> AstNode<'_> {
    match value {
        AstValue::Node(node) => *node,
        AstValue::Leaf(_) | AstValue::List(_) => {
            AstNode { kind: "Program", start: 0, end: 0, fields: Vec::new() }
        }
    }
}

/// Returns the language of a path. JavaScript may contain JSX. TypeScript may contain JSX only in
/// `.tsx` files.
fn language(path: &str) -> Option<SourceType> {
    let (_, extension) = path.rsplit_once('.')?;
    let open = SourceType::unambiguous();
    let script = |typed: SourceType| match extension.as_bytes().first() {
        Some(b'm') => typed.with_module(true),
        Some(b'c') => typed.with_script(true),
        Some(_) | None => typed,
    };
    match extension {
        "js" | "jsx" | "mjs" | "cjs" => Some(script(open.with_javascript(true).with_jsx(true))),
        "ts" | "mts" | "cts" => Some(script(open.with_typescript(true).with_jsx(false))),
        "tsx" => Some(open.with_typescript(true).with_jsx(true)),
        _ => None,
    }
}

impl std::fmt::Display for ProgramDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sides = [('-', &self.from), ('+', &self.to)];
        let lines = sides.iter().filter_map(|(sign, side)| side.as_ref().map(|s| (sign, s)));
        let mut first = true;
        for (sign, excerpt) in lines {
            for (number, line) in excerpt.text.lines().enumerate() {
                let end = if first { "" } else { "\n" };
                write!(f, "{end}{sign} {}: {line}", excerpt.line + number)?;
                first = false;
            }
        }
        if let Some(hint) = &self.hint {
            let end = if first { "" } else { "\n" };
            write!(f, "{end}  ({hint})")?;
        }
        Ok(())
    }
}
