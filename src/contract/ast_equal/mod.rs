//! `ast-equal`: whether two files are one program once the types are taken away.
//!
//! Both sides are parsed, stripped of their types and of spellings without a meaning, and compared field by field. It is
//! a comparison of programs as they are written, with two rules for what "written" leaves open:
//!
//! - A type is what goes when TypeScript compiles with `verbatimModuleSyntax`: `import type` goes, an import without
//!   `type` stays, whether its names are used or not.
//! - Nothing is proven. `let` for `const`, a block for a single statement or `return` for an arrow's expression are
//!   differences, although many of them cannot be observed.

mod comments;
mod differ;
mod erase;
mod modules;
mod report;
mod terms;
mod tree;

#[cfg(test)]
mod tests;

use oxc_allocator::Allocator;
use oxc_parser::{ParseOptions, Parser};
use oxc_span::SourceType;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use comments::DirectiveComment;
pub use terms::terms;
use tree::{AstNode, AstValue};

/// The parser and its version, and the version of the rules here. What they say of two texts depends on nothing else.
pub const ENGINE: &str = "oxc 0.96.0, rules 1";

/// The stack for trees that are deep: a text with ten thousand terms is a tree as deep as that, and parsing, printing and
/// reading it are recursive.
const STACK: usize = 512 * 1024 * 1024;

/// A file.
#[derive(Debug, Clone, Copy)]
pub struct SourceFile<'a> {
    /// Its path; the extension says in which language it is.
    pub path: &'a str,
    /// What it holds.
    pub text: &'a str,
}

/// What is allowed beside types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AstEqualOptions {
    /// Whether the extension of a relative import may change: `./a.js` to `./a.ts` or `./a`.
    pub extensions: bool,
    /// Whether an import that no code uses may become `import type`, although its module is then not loaded for it.
    pub type_imports: bool,
    /// Whether a field without a value is code, as the language says. `false` for a project that compiles with
    /// `useDefineForClassFields = false`, where it is nothing.
    pub define_fields: bool,
    /// Whether `@ts-nocheck`, `@ts-ignore` and `@ts-expect-error` may be added.
    pub ts_comments: bool,
    /// How many `any` a file may have.
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

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Where the programs differ, or what is not allowed beside types; empty if they are equal.
    pub differences: Vec<ProgramDifference>,
    /// How often the second file says `any`.
    pub any: usize,
}

impl Comparison {
    /// Whether they are one program.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }
}

/// One difference: the smallest statements around it, and a word on how to say it otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramDifference {
    /// In the first file.
    pub from: Option<Excerpt>,
    /// In the second.
    pub to: Option<Excerpt>,
    /// What to do instead, where that is known.
    pub hint: Option<String>,
}

/// A few lines of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The number of the first.
    pub line: usize,
    /// The text, shortened.
    pub text: String,
}

/// Why two files cannot be compared.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum CompareError {
    /// Nobody can tell its language.
    #[error("{path}: the extension is none of .js, .jsx, .mjs, .cjs, .ts, .tsx, .mts, .cts")]
    Language {
        /// The file.
        path: String,
    },
    /// It cannot be parsed.
    #[error("{path}:{line}: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// Where.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A mistake in here.
    #[error("{path}: {message}")]
    Internal {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
}

/// Compares two files.
pub fn compare(
    from: &SourceFile,
    to: &SourceFile,
    options: &AstEqualOptions,
) -> Result<Comparison, CompareError> {
    let fault = |message: String| CompareError::Internal { path: to.path.to_owned(), message };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(STACK).build();
    let pool = pool.map_err(|e| fault(format!("there is no stack to compare on: {e}")))?;
    pool.install(|| on_this_stack(from, to, options))
}

fn on_this_stack<'a>(
    from: &SourceFile<'a>,
    to: &SourceFile<'a>,
    options: &AstEqualOptions,
) -> Result<Comparison, CompareError> {
    // A byte order mark is no part of the program, nor of what stands behind it (ECMA-262, 12.2 and 12.5; engines take it
    // off first).
    let bare = |source: &SourceFile<'a>| SourceFile {
        path: source.path,
        text: source.text.strip_prefix('\u{feff}').unwrap_or(source.text),
    };
    let (from, to) = (&bare(from), &bare(to));
    let (old, new) = (Parsed::of(from)?, Parsed::of(to)?);
    let (mut left, mut right) = (old.tree(from)?, new.tree(to)?);
    if options.extensions {
        modules::same_extensions(&mut left);
        modules::same_extensions(&mut right);
    }
    let (mut left, mut right) = (program(left), program(right));
    let any = report::anys(&right);
    let syntax = (modules::syntax(&left, options), modules::syntax(&right, options));
    let names =
        if options.type_imports { modules::TypeNames::of(&right) } else { Default::default() };
    let stays = AstEqualOptions { define_fields: true, ..*options };
    left = program(erase::erase(AstValue::Node(Box::new(left)), &stays));
    right = program(erase::erase(AstValue::Node(Box::new(right)), options));
    names.take_out_of(&mut left);
    let marks = (modules::without_marks(&mut left), modules::without_marks(&mut right));
    for side in [&mut left, &mut right] {
        modules::common_js(side);
        modules::hashbang_first(side);
    }

    let report = report::DifferenceReport { old: from.text, new: to.text };
    let mut differences = Vec::new();
    if left != right {
        let found = differ::differences(&left, &right);
        differences.extend(found.into_iter().map(|pair| report.difference(pair)));
    }
    differences.extend(report.marks(syntax, marks));
    differences.extend(report.comments(&old.comments, &new.comments, options));
    differences.extend(report.too_many(&any, options));
    Ok(Comparison { differences, any: any.len() })
}

/// A file as the parser sees it.
struct Parsed {
    json: String,
    comments: Vec<DirectiveComment>,
}

impl Parsed {
    fn of(source: &SourceFile) -> Result<Self, CompareError> {
        let language = language(source.path)
            .ok_or_else(|| CompareError::Language { path: source.path.to_owned() })?;
        let allocator = Allocator::default();
        // Parentheses are kept to see what is a directive and what is a text in parentheses.
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
        let place = |c: &oxc_ast::ast::Comment| (c.span.start as usize, c.span.end as usize);
        let comments = program.comments.iter().map(place);
        Ok(Self {
            comments: comments.flat_map(|(a, b)| comments::spoken(source.text, a, b)).collect(),
            json: program.to_estree_ts_json(false),
        })
    }

    fn tree(&self, source: &SourceFile) -> Result<AstValue<'_>, CompareError> {
        tree::read(&self.json).map_err(|e| CompareError::Internal {
            path: source.path.to_owned(),
            message: e.to_string(),
        })
    }
}

/// What the printer prints is a program; anything else is one without statements.
fn program(value: AstValue<'_>) -> AstNode<'_> {
    match value {
        AstValue::Node(node) => *node,
        AstValue::Leaf(_) | AstValue::List(_) => {
            AstNode { kind: "Program", start: 0, end: 0, fields: Vec::new() }
        }
    }
}

/// JavaScript is read with JSX, as everybody writes it; TypeScript has it where the extension says so.
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
