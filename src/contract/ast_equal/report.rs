//! Descriptions of differences: excerpts of both files, and hints.

use super::comments::{self, DirectiveComment};
use super::differ::{DifferenceSite, SitePair};
use super::modules::ModuleSyntax;
use super::tree::{AstNode, AstValue};
use super::{AstEqualOptions, Excerpt, ProgramDifference};

/// The longest excerpt, in lines. For a longer statement, the excerpt shows the differing node
/// instead.
const MOST_LINES: usize = 3;

/// The longest line of an excerpt, in characters. Longer lines are cut.
const LONGEST_LINE: usize = 160;

/// The start and end offsets of a part of a text, in bytes.
type ByteRange = (usize, usize);

/// The texts of both files, as the source of excerpts.
pub(super) struct DifferenceReport<'a> {
    /// The first file.
    pub old: &'a str,
    /// The second file.
    pub new: &'a str,
}

/// Returns the line number of an offset.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Returns the places of `any` in a program.
pub(super) fn find_any(program: &AstNode) -> Vec<ByteRange> {
    let mut ranges = Vec::new();
    for (_, value) in &program.fields {
        value.each(&mut |node| {
            if node.kind == "TSAnyKeyword" {
                ranges.push((node.start, node.end));
            }
        });
    }
    ranges
}

impl DifferenceReport<'_> {
    /// Describes a difference of the programs.
    pub(super) fn difference(&self, (from, to): SitePair) -> ProgramDifference {
        let excerpt_of = |text: &str, site: &DifferenceSite| {
            let DifferenceSite { statement, node } = site;
            let is_short = text
                .get(statement.start..statement.end)
                .is_some_and(|text| text.lines().count() <= MOST_LINES);
            let shown = if is_short { statement } else { node };
            excerpt(text, shown.start, shown.end)
        };
        ProgramDifference {
            hint: hint(from.as_ref(), to.as_ref()),
            from: from.map(|site| excerpt_of(self.old, &site)),
            to: to.map(|site| excerpt_of(self.new, &site)),
        }
    }

    /// Returns a difference if only one file is a module and only `export {}` makes it a module.
    pub(super) fn module_marks(
        &self,
        (from, to): (ModuleSyntax, ModuleSyntax),
        marks: (Option<ByteRange>, Option<ByteRange>),
    ) -> Option<ProgramDifference> {
        if from.values == to.values || from.types && !from.values || to.types && !to.values {
            return None;
        }
        let excerpt_of = |text, mark: Option<ByteRange>| mark.map(|(a, b)| excerpt(text, a, b));
        let (from, to) = (excerpt_of(self.old, marks.0), excerpt_of(self.new, marks.1));
        let hint = "`export {}` makes a file a module, and modules run in other ways than scripts";
        (from.is_some() || to.is_some()).then(|| ProgramDifference {
            from,
            to,
            hint: Some(hint.into()),
        })
    }

    /// Returns the added suppressions and the changed pragmas.
    pub(super) fn comments(
        &self,
        old: &[DirectiveComment],
        new: &[DirectiveComment],
        options: &AstEqualOptions,
    ) -> Vec<ProgramDifference> {
        let is_forbidden =
            |directive: &&&DirectiveComment| !(directive.suppresses && options.ts_comments);
        let shown = |text: &str, directive: &DirectiveComment| {
            Some(excerpt(text, directive.start, directive.end))
        };
        let mut differences = Vec::new();
        for directive in comments::added(old, new).iter().filter(is_forbidden) {
            let hint = if directive.suppresses {
                format!("`{}` is not allowed: say what the type is", directive.text)
            } else {
                format!("`{}` changes what JSX is compiled to", directive.text)
            };
            let to = shown(self.new, directive);
            differences.push(ProgramDifference { from: None, to, hint: Some(hint) });
        }
        // A suppression may be removed, a pragma may not.
        for directive in comments::added(new, old).iter().filter(|directive| !directive.suppresses)
        {
            let hint = Some(format!("`{}` changes what JSX is compiled to", directive.text));
            differences.push(ProgramDifference {
                from: shown(self.old, directive),
                to: None,
                hint,
            });
        }
        differences
    }

    /// Returns a difference if the file has too many `any`.
    pub(super) fn too_many_any(
        &self,
        any: &[ByteRange],
        options: &AstEqualOptions,
    ) -> Option<ProgramDifference> {
        let most = options.max_any.filter(|most| any.len() > *most)?;
        let hint = format!("the file says `any` {} times, and {most} are allowed", any.len());
        let to = any.get(most).map(|(a, b)| excerpt(self.new, *a, *b));
        Some(ProgramDifference { from: None, to, hint: Some(hint) })
    }
}

/// Returns the first lines of a part of a text, without their common indentation.
fn excerpt(text: &str, start: usize, end: usize) -> Excerpt {
    let line = line_of(text, start);
    let last = line_of(text, end.max(start + 1) - 1).min(line + MOST_LINES - 1);
    let lines: Vec<&str> = text.lines().skip(line - 1).take(last + 1 - line).collect();
    let indent_of = |line: &&str| line.len() - line.trim_start().len();
    let not_blank = lines.iter().filter(|line| !line.trim().is_empty());
    let indent = not_blank.map(indent_of).min().unwrap_or(0);
    let cut = |line: &&str| {
        let line = line.get(indent..).unwrap_or("").trim_end();
        let short: String = line.chars().filter(|c| !c.is_control()).take(LONGEST_LINE).collect();
        if line.chars().count() > LONGEST_LINE { format!("{short}…") } else { short }
    };
    Excerpt { line, text: lines.iter().map(cut).collect::<Vec<_>>().join("\n") }
}

/// Returns advice for frequent kinds of differences.
fn hint(from: Option<&DifferenceSite>, to: Option<&DifferenceSite>) -> Option<String> {
    let hint = match (from, to) {
        (_, Some(to)) => {
            let inner = |kind: &str| contains(to.node, kind);
            let plain_field = |n: &AstNode| {
                n.kind == "PropertyDefinition"
                    && n.get("value") == &AstValue::NULL
                    && n.get("key").node().is_some_and(|k| k.kind != "PrivateIdentifier")
            };
            if inner("TSEnumDeclaration") {
                "an enum is code: keep the object, and derive a type from it"
            } else if inner("TSParameterProperty") {
                "a parameter property is an assignment: declare the field, and assign as before"
            } else if inner("TSModuleDeclaration") {
                "a namespace with values is code: keep what was there"
            } else if inner("TSImportEqualsDeclaration") {
                "`import x = require(…)` is allowed for `const x = require(…)` where code uses `x`, \
                 and for `var` or `let` where nothing assigns `x` again or can use it before; \
                 otherwise keep `require`, or use `import type`"
            } else if inner("TSExportAssignment") {
                "`export =` is allowed for a `module.exports =` that only functions, or constants if it exports a \
                 function, follow; otherwise keep `module.exports`"
            } else if from.is_some_and(|from| requires(from.statement))
                && to.statement.kind == "ImportDeclaration"
            {
                "`import x from` runs earlier and takes `default`: write `import x = require(…)`, \
                 or keep `require`"
            } else if from.is_none() && plain_field(to.statement) {
                "a field without a value is defined at run time: write `declare name: T`"
            } else if from.is_none() && to.statement.kind == "ImportDeclaration" {
                "an import runs its module: `import type` does not"
            } else {
                return None;
            }
        }
        (Some(from), None) if from.statement.kind == "ImportDeclaration" => {
            "an import runs its module: `import type` does not, so keep the import as it was"
        }
        (Some(_) | None, None) => return None,
    };
    Some(hint.into())
}

/// Returns true if a statement holds a call of `require`.
fn requires(statement: &AstNode) -> bool {
    let mut requires = false;
    statement.fields.iter().for_each(|(_, value)| {
        value.each(&mut |node| {
            let callee = node.get("callee").node().and_then(|callee| callee.get("name").text());
            requires |= node.kind == "CallExpression" && callee == Some("require");
        });
    });
    requires
}

/// Returns true if the node or a node inside has this kind.
fn contains(node: &AstNode, kind: &str) -> bool {
    let mut contains = node.kind == kind;
    let mut visit = |inner: &AstNode| contains |= inner.kind == kind;
    node.fields.iter().for_each(|(_, value)| value.each(&mut visit));
    contains
}
