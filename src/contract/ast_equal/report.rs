//! Differences in words: a few lines of each side, and what to do instead.

use super::comments::{self, DirectiveComment};
use super::differ::{DifferenceSite, SitePair};
use super::modules::ModuleSyntax;
use super::tree::{AstNode, AstValue};
use super::{AstEqualOptions, Excerpt, ProgramDifference};

/// A statement of so many lines is shown whole; of a longer one, the lines where it differs.
const LINES: usize = 3;

/// No line is shown longer than this, in characters.
const WIDTH: usize = 160;

/// From where to where in a text, in bytes.
type ByteRange = (usize, usize);

/// What is wrong, with the texts of both sides.
pub(super) struct DifferenceReport<'a> {
    /// The first file's text.
    pub old: &'a str,
    /// The second's.
    pub new: &'a str,
}

/// The number of the line at a place.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.iter().filter(|b| **b == b'\n').count() + 1
}

/// Where a program says `any`.
pub(super) fn anys(program: &AstNode) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (_, value) in &program.fields {
        value.each(&mut |node| {
            if node.kind == "TSAnyKeyword" {
                found.push((node.start, node.end));
            }
        });
    }
    found
}

impl DifferenceReport<'_> {
    /// A difference of the programs.
    pub(super) fn difference(&self, (from, to): SitePair) -> ProgramDifference {
        let site = |text: &str, site: &DifferenceSite| {
            let (whole, at) = (site.statement, site.at);
            let short =
                text.get(whole.start..whole.end).is_some_and(|t| t.lines().count() <= LINES);
            if short {
                excerpt(text, whole.start, whole.end)
            } else {
                excerpt(text, at.start, at.end)
            }
        };
        ProgramDifference {
            hint: hint(from.as_ref(), to.as_ref()),
            from: from.map(|s| site(self.old, &s)),
            to: to.map(|s| site(self.new, &s)),
        }
    }

    /// `export {}` on one side alone, where nothing else makes the file a module.
    pub(super) fn marks(
        &self,
        (from, to): (ModuleSyntax, ModuleSyntax),
        marks: (Option<ByteRange>, Option<ByteRange>),
    ) -> Option<ProgramDifference> {
        if from.values == to.values || from.types && !from.values || to.types && !to.values {
            return None;
        }
        let one = |text, mark: Option<ByteRange>| mark.map(|(a, b)| excerpt(text, a, b));
        let (from, to) = (one(self.old, marks.0), one(self.new, marks.1));
        let hint = "`export {}` makes a file a module, and modules run in other ways than scripts";
        (from.is_some() || to.is_some()).then(|| ProgramDifference {
            from,
            to,
            hint: Some(hint.into()),
        })
    }

    /// Comments that silence the compiler, and pragmas that changed.
    pub(super) fn comments(
        &self,
        old: &[DirectiveComment],
        new: &[DirectiveComment],
        options: &AstEqualOptions,
    ) -> Vec<ProgramDifference> {
        let wanted = |spoken: &&&DirectiveComment| !(spoken.silences && options.ts_comments);
        let shown =
            |text: &str, spoken: &DirectiveComment| Some(excerpt(text, spoken.start, spoken.end));
        let mut found = Vec::new();
        for spoken in comments::added(old, new).iter().filter(wanted) {
            let hint = if spoken.silences {
                format!("`{}` is not allowed: say what the type is", spoken.words)
            } else {
                format!("`{}` changes what JSX is compiled to", spoken.words)
            };
            let to = shown(self.new, spoken);
            found.push(ProgramDifference { from: None, to, hint: Some(hint) });
        }
        // One that silenced the compiler may go; one that says what the code is may not.
        for spoken in comments::added(new, old).iter().filter(|s| !s.silences) {
            let hint = Some(format!("`{}` changes what JSX is compiled to", spoken.words));
            found.push(ProgramDifference { from: shown(self.old, spoken), to: None, hint });
        }
        found
    }

    /// More `any` than allowed.
    pub(super) fn too_many(
        &self,
        any: &[(usize, usize)],
        options: &AstEqualOptions,
    ) -> Option<ProgramDifference> {
        let most = options.max_any.filter(|most| any.len() > *most)?;
        let hint = format!("the file says `any` {} times, and {most} are allowed", any.len());
        let to = any.get(most).map(|(a, b)| excerpt(self.new, *a, *b));
        Some(ProgramDifference { from: None, to, hint: Some(hint) })
    }
}

/// The lines of a place, at most a few, without what they are indented by.
fn excerpt(text: &str, start: usize, end: usize) -> Excerpt {
    let line = line_of(text, start);
    let last = line_of(text, end.max(start + 1) - 1).min(line + LINES - 1);
    let lines: Vec<&str> = text.lines().skip(line - 1).take(last + 1 - line).collect();
    let indented = |l: &&str| l.len() - l.trim_start().len();
    let by = lines.iter().filter(|l| !l.trim().is_empty()).map(indented).min().unwrap_or(0);
    let cut = |l: &&str| {
        let plain = l.get(by..).unwrap_or("").trim_end();
        let short: String = plain.chars().filter(|c| !c.is_control()).take(WIDTH).collect();
        if plain.chars().count() > WIDTH { format!("{short}…") } else { short }
    };
    Excerpt { line, text: lines.iter().map(cut).collect::<Vec<_>>().join("\n") }
}

/// What people do instead of what was done.
fn hint(from: Option<&DifferenceSite>, to: Option<&DifferenceSite>) -> Option<String> {
    let words = match (from, to) {
        (_, Some(to)) => {
            let inner = |kind: &str| holds(to.at, kind);
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
                "`import x = require(…)` is allowed for `const x = require(…)` where code uses `x`; \
                 otherwise keep `require`, or use `import type`"
            } else if inner("TSExportAssignment") {
                "`export =` is allowed for `module.exports =` as the last statement"
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
    Some(words.into())
}

fn holds(node: &AstNode, kind: &str) -> bool {
    let mut found = node.kind == kind;
    node.fields.iter().for_each(|(_, value)| value.each(&mut |n| found |= n.kind == kind));
    found
}
