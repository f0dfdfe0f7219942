//! Placeholders in the commands of a job: `{task.files}`, `{worktree}` and so on.
//!
//! Only braces directly around a name are a placeholder. Everything else with braces stays as it is, so that `awk`
//! programs (`{print $1}`), JSON, `find -exec … {}` and the shell's `${VAR}` need no care. A name in braces that is
//! meant literally is written with two of each: `{{run}}` becomes `{run}`.

use super::errors::{ValueError, in_prose, nearest};

/// What the placeholders stand for. What is not known in a place stays empty.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PlaceholderValues<'a> {
    /// `{prompt}`: the prompt itself, for programs that take it as an argument.
    pub prompt: &'a str,
    /// `{prompt_file}`: the path of the prompt.
    pub prompt_file: &'a str,
    /// `{task.id}`: the task's name.
    pub task_id: &'a str,
    /// `{task.files}`: its files, one argument each.
    pub task_files: &'a [String],
    /// `{worktree}`: the folder in which the command works.
    pub worktree: &'a str,
    /// `{output}`: where an output is handed in.
    pub output: &'a str,
    /// `{base}`: the commit from which the attempt starts.
    pub base: &'a str,
    /// `{run}`: the run's name.
    pub run: &'a str,
    /// `{attempt}`: the attempt's number, from 1.
    pub attempt: u32,
    /// `{feedback_file}`: the path of the findings so far; empty on a first attempt.
    pub feedback_file: &'a str,
}

/// Whose command it is: not every placeholder has a meaning for everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandKind {
    /// `[agent] command`: knows everything.
    Agent,
    /// `[[check]] run` and `version`: knows nothing of the conversation with the agent.
    Check,
    /// `[worktree] setup`: runs before there is a task.
    Setup,
    /// `[plan] command` and `edges`: run before there is a plan.
    Plan,
    /// `[queue] pre-land` and `post-land`: are told by their environment.
    Hook,
}

impl CommandKind {
    /// The placeholders that have a meaning, without braces.
    fn names(self) -> &'static [&'static str] {
        const ALL: &[&str] = &[
            "worktree",
            "run",
            "base",
            "task.id",
            "task.files",
            "attempt",
            "output",
            "prompt_file",
            "feedback_file",
            "prompt",
        ];
        match self {
            Self::Agent => ALL,
            Self::Check => &ALL[..7],
            Self::Setup => &ALL[..2],
            Self::Plan => &["worktree", "base"],
            Self::Hook => &[],
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Agent => "the agent's command",
            Self::Check => "a check",
            Self::Setup => "a setup command",
            Self::Plan => "a command of the plan",
            Self::Hook => "a hook",
        }
    }
}

/// A placeholder's name, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placeholder<'t> {
    /// `{task.files}` and `{task.files|ext:ts}`.
    TaskFiles {
        /// The extension that replaces their own, without the dot.
        ext: Option<&'t str>,
    },
    /// Any other that is one piece of text.
    Simple(&'t str),
}

/// Reads what stands between braces; nothing if no such placeholder exists.
pub(super) fn parse_name(name: &str) -> Option<Placeholder<'_>> {
    if name == "task.files" {
        return Some(Placeholder::TaskFiles { ext: None });
    }
    if let Some(ext) = name.strip_prefix("task.files|ext:") {
        let ext = ext.strip_prefix('.').unwrap_or(ext);
        let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        return (!ext.is_empty() && ext.chars().all(good))
            .then_some(Placeholder::TaskFiles { ext: Some(ext) });
    }
    CommandKind::Agent.names().contains(&name).then_some(Placeholder::Simple(name))
}

/// A path with another extension; one without an extension gets it behind its name.
pub(super) fn with_extension(path: &str, ext: &str) -> String {
    let file = path.rfind('/').map_or(0, |n| n + 1);
    // A dot in front makes a hidden file, not an extension.
    let stem = path[file..].rfind('.').filter(|dot| *dot > 0).map_or(path.len(), |dot| file + dot);
    format!("{}.{ext}", &path[..stem])
}

/// A part of an argument.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    /// As it stands.
    Text(&'t str),
    /// A name in single braces.
    Name(&'t str),
}

/// The name with which a text starts and what comes after it, if both are directly followed by `close`.
fn name_before<'t>(text: &'t str, close: &str) -> Option<(&'t str, &'t str)> {
    let end = text.find('}')?;
    let name = &text[..end];
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-|:".contains(c);
    let word = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    // `{key:value}` is an object of some language; only a filter behind a bar has a colon.
    let plain = name.find(':').is_none_or(|colon| name[..colon].contains('|'));
    (word && plain && name.chars().all(good) && text[end..].starts_with(close))
        .then(|| (name, &text[end + close.len()..]))
}

fn pieces(argument: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    // The text that is not yet handed out starts here.
    let mut pending = argument;
    let mut from = 0;
    while let Some(open) = pending[from..].find('{').map(|n| n + from) {
        let shell = pending[..open].ends_with('$');
        let rest = &pending[open..];
        if let Some((name, after)) = rest.strip_prefix("{{").and_then(|r| name_before(r, "}}")) {
            found.push(Piece::Text(&pending[..open]));
            found.push(Piece::Text(&rest[1..name.len() + 3]));
            (pending, from) = (after, 0);
        } else if let Some((name, after)) = name_before(&rest[1..], "}").filter(|_| !shell) {
            found.push(Piece::Text(&pending[..open]));
            found.push(Piece::Name(name));
            (pending, from) = (after, 0);
        } else {
            from = open + 1;
        }
    }
    found.push(Piece::Text(pending));
    found.retain(|piece| *piece != Piece::Text(""));
    found
}

/// The names in single braces of an argument.
fn names(argument: &str) -> impl Iterator<Item = &str> {
    pieces(argument).into_iter().filter_map(|piece| match piece {
        Piece::Name(name) => Some(name),
        Piece::Text(_) => None,
    })
}

/// Holds one argument against what its audience knows.
pub(crate) fn validate(argument: &str, audience: CommandKind) -> Result<(), ValueError> {
    for name in names(argument) {
        let known = audience.names();
        match parse_name(name) {
            Some(Placeholder::TaskFiles { .. }) if argument.len() != name.len() + 2 => {
                return Err(ValueError::new(format!(
                    "must hold `{{{name}}}` as an argument of its own: \"{argument}\""
                ))
                .hint("it becomes one argument per file; a shell script sees them as \"$@\""));
            }
            Some(Placeholder::TaskFiles { .. }) if known.contains(&"task.files") => {}
            Some(Placeholder::Simple(simple)) if known.contains(&simple) => {}
            Some(_) => {
                let hint = if known.is_empty() {
                    "it finds what it needs in its environment: `$HARNESS_TARGET` and others"
                        .to_owned()
                } else {
                    let known = in_prose(braced(known).iter().map(String::as_str), "and");
                    format!("known here are {known}")
                };
                return Err(ValueError::new(format!(
                    "cannot hold `{{{name}}}`: {} does not know it",
                    audience.command()
                ))
                .hint(hint));
            }
            None => {
                let literal = format!("for the text itself write `{{{{{name}}}}}`");
                let hint = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{{{near}}}`? {literal}"),
                    None if known.is_empty() => literal,
                    None => {
                        let known = in_prose(braced(known).iter().map(String::as_str), "and");
                        format!("known are {known}; {literal}")
                    }
                };
                return Err(ValueError::new(format!("holds an unknown placeholder: `{{{name}}}`"))
                    .hint(hint));
            }
        }
    }
    Ok(())
}

fn braced(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| format!("{{{n}}}")).collect()
}

/// Whether an argument holds a placeholder.
pub(super) fn has_placeholder(argument: &str) -> bool {
    names(argument).next().is_some()
}

/// Whether a command can only be run for a task: it names something that is not known on the base commit.
pub(crate) fn mentions_task(argv: &[String]) -> bool {
    argv.iter().flat_map(|argument| names(argument)).any(|name| match parse_name(name) {
        Some(Placeholder::TaskFiles { .. }) => true,
        Some(Placeholder::Simple(simple)) => !matches!(simple, "worktree" | "run" | "base"),
        None => false,
    })
}

/// Puts the values in. `{task.files}` becomes one argument per file, and none where there are none. Unknown names
/// stay as they are: [`validate`] has refused them.
pub(crate) fn expand(argv: &[String], values: &PlaceholderValues<'_>) -> Vec<String> {
    let mut expanded = Vec::with_capacity(argv.len() + values.task_files.len());
    for argument in argv {
        let pieces = pieces(argument);
        if let [Piece::Name(name)] = pieces[..]
            && let Some(Placeholder::TaskFiles { ext }) = parse_name(name)
        {
            expanded.extend(values.task_files.iter().map(|file| file_argument(file, ext)));
            continue;
        }
        let mut text = String::with_capacity(argument.len());
        for piece in pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Name(name) => push_value(&mut text, name, values),
            }
        }
        expanded.push(text);
    }
    expanded
}

/// A file as an argument. One whose name starts with `-` must not be taken for an option.
fn file_argument(file: &str, ext: Option<&str>) -> String {
    let file = ext.map_or_else(|| file.to_owned(), |ext| with_extension(file, ext));
    if file.starts_with('-') { format!("./{file}") } else { file }
}

fn push_value(text: &mut String, name: &str, values: &PlaceholderValues<'_>) {
    match name {
        "prompt" => text.push_str(values.prompt),
        "prompt_file" => text.push_str(values.prompt_file),
        "task.id" => text.push_str(values.task_id),
        "worktree" => text.push_str(values.worktree),
        "output" => text.push_str(values.output),
        "base" => text.push_str(values.base),
        "run" => text.push_str(values.run),
        "attempt" => text.push_str(&values.attempt.to_string()),
        "feedback_file" => text.push_str(values.feedback_file),
        other => {
            text.push('{');
            text.push_str(other);
            text.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(arguments: &[&str]) -> Vec<String> {
        arguments.iter().map(|a| (*a).to_owned()).collect()
    }

    #[test]
    fn values_are_put_in() {
        let files = argv(&["src/a.js", "-b.js"]);
        let values = PlaceholderValues {
            task_id: "src__a",
            task_files: &files,
            worktree: "/w",
            run: "r-1",
            attempt: 2,
            ..PlaceholderValues::default()
        };
        let given = [
            "x",
            "{task.files}",
            "{task.files|ext:ts}",
            "--at={worktree}/{run}.{attempt}",
            "{feedback_file}",
        ];
        let expected = ["x", "src/a.js", "./-b.js", "src/a.ts", "./-b.ts", "--at=/w/r-1.2", ""];
        assert_eq!(expand(&argv(&given), &values), argv(&expected));
    }

    #[test]
    fn other_braces_stay() {
        for text in [
            "{print $1}",
            "{\"a\":{\"run\":1}}",
            "{}",
            "${HOME}",
            "${run}",
            "{a,b}",
            "{{.Names}}",
            "{",
            "}}",
            "{{",
            "{a:1}",
            "{ run }",
            "{1}",
            "{run",
            "ü{",
        ] {
            assert_eq!(expand(&argv(&[text]), &PlaceholderValues::default()), argv(&[text]));
            assert_eq!(validate(text, CommandKind::Agent), Ok(()), "{text}");
        }
    }

    #[test]
    fn doubled_braces_are_literal() {
        let given = ["{{run}}", "{{{run}}}", "a{{nonsense}}b", "{{run}}{run}"];
        let values = PlaceholderValues { run: "R", ..PlaceholderValues::default() };
        assert_eq!(
            expand(&argv(&given), &values),
            argv(&["{run}", "{{run}}", "a{nonsense}b", "{run}R"])
        );
        assert_eq!(validate("{{nonsense}}", CommandKind::Setup), Ok(()));
    }

    #[test]
    fn who_knows_what() {
        assert!(validate("{prompt_file}", CommandKind::Agent).is_ok());
        assert!(validate("{prompt_file}", CommandKind::Check).is_err());
        assert!(validate("{task.files}", CommandKind::Check).is_ok());
        assert!(validate("{task.files}", CommandKind::Setup).is_err());
        assert!(validate("{worktree}", CommandKind::Setup).is_ok());
        assert!(validate("--x={task.files}", CommandKind::Agent).is_err());
        let fault = validate("{promt_file}", CommandKind::Agent).unwrap_err();
        assert_eq!(
            fault.hint.unwrap(),
            "did you mean `{prompt_file}`? for the text itself write `{{promt_file}}`"
        );
    }

    #[test]
    fn what_the_base_cannot_know() {
        assert!(mentions_task(&argv(&["x", "--id={task.id}"])));
        assert!(mentions_task(&argv(&["{task.files|ext:ts}"])));
        assert!(!mentions_task(&argv(&["{worktree}", "{base}", "{{task.id}}", "${attempt}"])));
    }
}
