//! The section `[output]`, and checks of the output file.

use super::super::errors::ValueError;
use super::super::placeholders::CommandKind;
use super::super::schema::{JobKind, OutputCheck, OutputMerge, OutputSection};
use super::super::section::Section;
use super::{checked, inside_repository};

/// The value of `merge`. The command of `merge = "command"` is a key of its own.
#[derive(Clone, Copy, PartialEq)]
enum MergeKey {
    JsonArray,
    Jsonl,
    Concat,
    Command,
}

/// Reads `[output]`, which a report job must have and no other job may have.
pub(super) fn output(top: &Section<'_>, kind: JobKind) -> Option<OutputSection> {
    let section = top.section("output");
    match (kind, section.present()) {
        (JobKind::Change, false) => return None,
        (JobKind::Change, true) => {
            if let Some(value) = top.find("output") {
                let error = ValueError::new("has a meaning only with `kind = \"report\"`").hint(
                    "write that in [job], or leave [output] out: the work is the change itself",
                );
                top.add_error(value.span().start, "output", error);
            }
            return None;
        }
        (JobKind::Report, _) => {}
    }
    if section.find("path").is_none() {
        section.missing(
            "path",
            "say which file each task hands in: `path = \"review.json\"` in [output]",
        );
    }
    let path = section.text("path").and_then(|path| file(&section, "path", path));
    let merge = section.choice(
        "merge",
        &[
            ("json-array", MergeKey::JsonArray),
            ("jsonl", MergeKey::Jsonl),
            ("concat", MergeKey::Concat),
            ("command", MergeKey::Command),
        ],
        MergeKey::JsonArray,
    );
    let command = section.argv("command", CommandKind::Plan);
    if merge == MergeKey::Command && section.find("command").is_none() {
        section.missing(
            "command",
            "it reads a line of JSON for each output: `command = [\"./join.py\"]`",
        );
    }
    if let (Some(value), true) = (section.find("command"), merge != MergeKey::Command) {
        let error = ValueError::new("has a meaning only with `merge = \"command\"`");
        section.add_error(value.span().start, "command", error);
    }
    let example = section.text("example").and_then(|name| file(&section, "example", name));
    let page = section.text("page").and_then(|name| file(&section, "page", name));
    let merge = match merge {
        MergeKey::JsonArray => OutputMerge::JsonArray,
        MergeKey::Jsonl => OutputMerge::Jsonl,
        MergeKey::Concat => OutputMerge::Concat,
        MergeKey::Command => OutputMerge::Command(command.unwrap_or_default()),
    };
    Some(OutputSection { path: path?, merge, example, page })
}

/// Checks the path of a file inside the repository or the worktree.
fn file(section: &Section<'_>, key: &'static str, text: super::SpannedText<'_>) -> Option<String> {
    let no_file = || ValueError::new(format!("must be the path of a file: \"{}\"", text.text));
    let result = inside_repository(text.text).and_then(|path| {
        let parts = || path.split('/');
        let is_file = !text.text.ends_with('/')
            && parts()
                .all(|part| !part.is_empty() && part != "." && !part.eq_ignore_ascii_case(".git"));
        if is_file { Ok(path.to_owned()) } else { Err(no_file()) }
    });
    checked(section, key, text, result)
}

/// Reads `output` and `schema` of a check, and refuses keys that cannot be used with them.
pub(super) fn output_check(
    check: &Section<'_>,
    output: Option<&OutputSection>,
) -> Option<OutputCheck> {
    for (key, why) in [
        ("run", "make two checks of them"),
        ("ast-equal", "make two checks of them"),
        ("version", "the schema is part of the verdict's key by itself"),
        ("timeout", "a built-in check has no limit"),
    ] {
        if let Some(value) = check.find(key) {
            let error = ValueError::new("cannot be used together with `output`").hint(why);
            check.add_error(value.span().start, key, error);
        }
    }
    let path = check.text("output")?;
    let Some(output) = output else {
        let error = ValueError::new(
            "has a meaning only with `kind = \"report\"` in [job] and a `path` in [output]",
        );
        check.add_error(path.at, "output", error);
        return None;
    };
    if inside_repository(path.text).ok() != Some(&output.path) {
        let error =
            ValueError::new(format!("is not the file that is handed in: \"{}\"", path.text))
                .hint(format!("[output] says `path = \"{}\"`", output.path));
        check.add_error(path.at, "output", error);
    }
    let schema = check.text("schema").and_then(|name| file(check, "schema", name));
    Some(OutputCheck { path: output.path.clone(), schema })
}
