//! `[output]`, and checks that look at what was handed in.

use super::super::errors::Fault;
use super::super::placeholders::Audience;
use super::super::schema::{HandedIn, Join, Kind, Output};
use super::super::section::Section;
use super::super::values::Choice;
use super::{inside_repository, noted};

/// Which of the ways to join is meant; its command is looked at by itself.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    JsonArray,
    Jsonl,
    Concat,
    Command,
}

/// Reads it: there must be one with reports, and none without.
pub(super) fn output(top: &Section<'_>, kind: Kind) -> Option<Output> {
    let section = top.section("output");
    match (kind, section.present()) {
        (Kind::Change, false) => return None,
        (Kind::Change, true) => {
            if let Some(value) = top.find("output") {
                let fault = Fault::new("has a meaning only with `kind = \"report\"`").hint(
                    "write that in [job], or leave [output] out: the work is the change itself",
                );
                top.refuse(value.span().start, "output", fault);
            }
            return None;
        }
        (Kind::Report, _) => {}
    }
    if section.find("path").is_none() {
        section.missing(
            "path",
            "say which file each task hands in: `path = \"review.json\"` in [output]",
        );
    }
    let path = section.text("path").and_then(|path| file(&section, "path", path));
    let way = section.choice(
        "merge",
        &[
            Choice::Now("json-array", Way::JsonArray),
            Choice::Now("jsonl", Way::Jsonl),
            Choice::Now("concat", Way::Concat),
            Choice::Now("command", Way::Command),
        ],
        Way::JsonArray,
    );
    let command = section.argv("command", Audience::Plan);
    if way == Way::Command && section.find("command").is_none() {
        section.missing(
            "command",
            "it is told a line of JSON for each output: `command = [\"./join.py\"]`",
        );
    }
    if let (Some(value), true) = (section.find("command"), way != Way::Command) {
        let fault = Fault::new("has a meaning only with `merge = \"command\"`");
        section.refuse(value.span().start, "command", fault);
    }
    let example = section.text("example").and_then(|name| file(&section, "example", name));
    let page = section.text("page").and_then(|name| file(&section, "page", name));
    let merge = match way {
        Way::JsonArray => Join::JsonArray,
        Way::Jsonl => Join::Jsonl,
        Way::Concat => Join::Concat,
        Way::Command => Join::Command(command.unwrap_or_default()),
    };
    Some(Output { path: path?, merge, example, page })
}

/// The path of a file inside the repository, or the worktree.
fn file(section: &Section<'_>, key: &'static str, text: super::Text<'_>) -> Option<String> {
    let folder = || Fault::new(format!("must be the path of a file: \"{}\"", text.text));
    let said = inside_repository(text.text).and_then(|path| {
        let parts = || path.split('/');
        let good = !text.text.ends_with('/')
            && parts()
                .all(|part| !part.is_empty() && part != "." && !part.eq_ignore_ascii_case(".git"));
        if good { Ok(path.to_owned()) } else { Err(folder()) }
    });
    noted(section, key, text, said)
}

/// Reads the keys of a check that looks at the output, and refuses what has no meaning beside them.
pub(super) fn handed_in(check: &Section<'_>, output: Option<&Output>) -> Option<HandedIn> {
    for (key, why) in [
        ("run", "make two checks of them"),
        ("ast-equal", "make two checks of them"),
        ("version", "the schema is part of the verdict's key by itself"),
        ("timeout", "a built-in check has no limit"),
    ] {
        if let Some(value) = check.find(key) {
            let fault = Fault::new("cannot be used together with `output`").hint(why);
            check.refuse(value.span().start, key, fault);
        }
    }
    let path = check.text("output")?;
    let Some(output) = output else {
        let fault = Fault::new(
            "has a meaning only with `kind = \"report\"` in [job] and a `path` in [output]",
        );
        check.refuse(path.at, "output", fault);
        return None;
    };
    if inside_repository(path.text).ok() != Some(&output.path) {
        let fault = Fault::new(format!("is not the file that is handed in: \"{}\"", path.text))
            .hint(format!("[output] says `path = \"{}\"`", output.path));
        check.refuse(path.at, "output", fault);
    }
    let schema = check.text("schema").and_then(|name| file(check, "schema", name));
    Some(HandedIn { path: output.path.clone(), schema })
}
