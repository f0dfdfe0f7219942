//! The placeholders of job files: `{task.files}`, `{worktree}` and so on.
//!
//! The syntax is in [`argument_template`].

use std::borrow::Cow;

use super::argument_template::{self, Replacement};
use super::errors::{ValueError, in_prose, suggest};

/// The values of the placeholders. A value that is unknown in a command is empty.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PlaceholderValues<'a> {
    /// `{prompt}`: the prompt itself, for programs that take the prompt as an argument.
    pub prompt: &'a str,
    /// `{prompt_file}`: the path of the prompt.
    pub prompt_file: &'a str,
    /// `{task.id}`: the task's id.
    pub task_id: &'a str,
    /// `{task.files}`: the task's files, one argument each.
    pub task_files: &'a [String],
    /// `{worktree}`: the command's working directory.
    pub worktree: &'a str,
    /// `{output}`: the path of the output file.
    pub output: &'a str,
    /// `{base}`: the commit that the attempt starts from.
    pub base: &'a str,
    /// `{run}`: the run's id.
    pub run: &'a str,
    /// `{attempt}`: the attempt's number, from 1.
    pub attempt: u32,
    /// `{feedback_file}`: the path of the findings so far; empty on a first attempt.
    pub feedback_file: &'a str,
}

/// The kind of a job's command. Each kind has its own set of placeholders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandKind {
    /// `[agent] command`: all placeholders.
    Agent,
    /// `[[check]] run` and `version`: all placeholders except those of the prompt and the feedback.
    Check,
    /// `[worktree] setup`: only `{worktree}` and `{run}`, because setup does not belong to a task.
    Setup,
    /// `[plan] command` and `edges`: only `{worktree}` and `{base}`, because the run does not exist
    /// yet.
    Plan,
    /// `[queue] pre-land` and `post-land`: no placeholders. Hooks get their values from the
    /// environment.
    Hook,
}

impl CommandKind {
    /// Returns the placeholders of this kind, without braces.
    fn placeholders(self) -> &'static [&'static str] {
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

    fn description(self) -> &'static str {
        match self {
            Self::Agent => "the agent's command",
            Self::Check => "a check",
            Self::Setup => "a setup command",
            Self::Plan => "a command of the plan",
            Self::Hook => "a hook",
        }
    }
}

/// A placeholder of the job file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placeholder<'t> {
    /// `{task.files}` and `{task.files|ext:ts}`.
    TaskFiles {
        /// The extension that replaces the files' own, without the dot.
        ext: Option<&'t str>,
    },
    /// A placeholder whose value is a single text.
    Simple(&'t str),
}

/// Parses the text between the braces. Returns `None` if there is no such placeholder.
pub(super) fn parse_name(name: &str) -> Option<Placeholder<'_>> {
    if name == "task.files" {
        return Some(Placeholder::TaskFiles { ext: None });
    }
    if let Some(ext) = name.strip_prefix("task.files|ext:") {
        let ext = ext.strip_prefix('.').unwrap_or(ext);
        let is_extension_char = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        return (!ext.is_empty() && ext.chars().all(is_extension_char))
            .then_some(Placeholder::TaskFiles { ext: Some(ext) });
    }
    CommandKind::Agent.placeholders().contains(&name).then_some(Placeholder::Simple(name))
}

/// Replaces the extension of a path by `ext`, which has no dot. A path without an extension gets
/// the dot and `ext` appended.
pub(crate) fn with_extension(path: &str, ext: &str) -> String {
    let file = path.rfind('/').map_or(0, |slash| slash + 1);
    // A leading dot makes a hidden file, not an extension.
    let stem = path[file..].rfind('.').filter(|dot| *dot > 0).map_or(path.len(), |dot| file + dot);
    format!("{}.{ext}", &path[..stem])
}

/// Checks that a command of this kind may hold the placeholders of an argument.
pub(crate) fn validate(argument: &str, kind: CommandKind) -> Result<(), ValueError> {
    let known = kind.placeholders();
    for name in argument_template::names(argument) {
        match parse_name(name) {
            Some(Placeholder::TaskFiles { .. }) if argument.len() != name.len() + 2 => {
                return Err(ValueError::new(format!(
                    "must hold `{{{name}}}` as an argument of its own: \"{argument}\""
                ))
                .hint("it becomes one argument per file; a shell script sees them as \"$@\""));
            }
            Some(Placeholder::TaskFiles { .. }) if known.contains(&"task.files") => {}
            Some(Placeholder::Simple(simple)) if known.contains(&simple) => {}
            Some(Placeholder::TaskFiles { .. } | Placeholder::Simple(_)) => {
                let hint = if known.is_empty() {
                    "it finds what it needs in its environment: `$HARNESS_TARGET` and others"
                        .to_owned()
                } else {
                    format!("known here are {}", in_braces(known))
                };
                return Err(ValueError::new(format!(
                    "cannot hold `{{{name}}}`: {} does not know it",
                    kind.description()
                ))
                .hint(hint));
            }
            None => {
                let literal = format!("for the text itself write `{{{{{name}}}}}`");
                let hint = match suggest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{{{near}}}`? {literal}"),
                    None if known.is_empty() => literal,
                    None => format!("known are {}; {literal}", in_braces(known)),
                };
                return Err(ValueError::new(format!("holds an unknown placeholder: `{{{name}}}`"))
                    .hint(hint));
            }
        }
    }
    Ok(())
}

/// Lists placeholders in prose: `{a}`, `{b}` and `{c}`.
fn in_braces(names: &[&str]) -> String {
    let braced: Vec<String> = names.iter().map(|name| format!("{{{name}}}")).collect();
    in_prose(braced.iter().map(String::as_str), "and")
}

/// Returns true if an argument holds a placeholder.
pub(super) fn has_placeholder(argument: &str) -> bool {
    argument_template::names(argument).next().is_some()
}

/// Returns true if a command can run only for a task, because a placeholder has no value on the
/// base commit.
pub(crate) fn mentions_task(argv: &[String]) -> bool {
    argv.iter().flat_map(|argument| argument_template::names(argument)).any(
        |name| match parse_name(name) {
            Some(Placeholder::TaskFiles { .. }) => true,
            Some(Placeholder::Simple(simple)) => !matches!(simple, "worktree" | "run" | "base"),
            None => false,
        },
    )
}

/// Expands the placeholders of a command.
///
/// `{task.files}` becomes one argument per file, and none for a task without files. Unknown names
/// stay as written, but [`validate`] has already refused commands with unknown names.
pub(crate) fn expand(argv: &[String], values: &PlaceholderValues<'_>) -> Vec<String> {
    let mut expanded = Vec::with_capacity(argv.len() + values.task_files.len());
    for argument in argv {
        let arguments = argument_template::expand(argument, |name| replacement(name, values));
        expanded.extend(arguments.unwrap_or_default());
    }
    expanded
}

/// Returns the replacement of a placeholder. A job's placeholder always has a value.
fn replacement<'v>(name: &str, values: &PlaceholderValues<'v>) -> Replacement<'v> {
    let text = match parse_name(name) {
        Some(Placeholder::TaskFiles { ext }) => {
            let files = values.task_files.iter().map(|file| file_argument(file, ext));
            return Replacement::Arguments(files.collect());
        }
        Some(Placeholder::Simple("attempt")) => Cow::Owned(values.attempt.to_string()),
        // A prompt must not look like an option.
        Some(Placeholder::Simple("prompt")) if values.prompt.starts_with('-') => {
            Cow::Owned(format!("\n{}", values.prompt))
        }
        Some(Placeholder::Simple("prompt")) => Cow::Borrowed(values.prompt),
        Some(Placeholder::Simple("prompt_file")) => Cow::Borrowed(values.prompt_file),
        Some(Placeholder::Simple("task.id")) => Cow::Borrowed(values.task_id),
        Some(Placeholder::Simple("worktree")) => Cow::Borrowed(values.worktree),
        Some(Placeholder::Simple("output")) => Cow::Borrowed(values.output),
        Some(Placeholder::Simple("base")) => Cow::Borrowed(values.base),
        Some(Placeholder::Simple("run")) => Cow::Borrowed(values.run),
        Some(Placeholder::Simple("feedback_file")) => Cow::Borrowed(values.feedback_file),
        Some(Placeholder::Simple(_)) | None => return Replacement::Undefined,
    };
    Replacement::Text(text)
}

/// Returns a file as an argument. A file whose name starts with `-` must not look like an option.
fn file_argument(file: &str, ext: Option<&str>) -> String {
    let file = ext.map_or_else(|| file.to_owned(), |ext| with_extension(file, ext));
    if file.starts_with('-') { format!("./{file}") } else { file }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(arguments: &[&str]) -> Vec<String> {
        arguments.iter().map(|a| (*a).to_owned()).collect()
    }

    #[test]
    fn placeholders_expand_to_their_values() {
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
    fn braces_that_are_no_placeholder_stay_as_written() {
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
    fn doubled_braces_are_a_literal_placeholder() {
        let given = ["{{run}}", "{{{run}}}", "a{{nonsense}}b", "{{run}}{run}"];
        let values = PlaceholderValues { run: "R", ..PlaceholderValues::default() };
        assert_eq!(
            expand(&argv(&given), &values),
            argv(&["{run}", "{{run}}", "a{nonsense}b", "{run}R"])
        );
        assert_eq!(validate("{{nonsense}}", CommandKind::Setup), Ok(()));
    }

    #[test]
    fn each_command_kind_has_its_own_placeholders() {
        assert!(validate("{prompt_file}", CommandKind::Agent).is_ok());
        assert!(validate("{prompt_file}", CommandKind::Check).is_err());
        assert!(validate("{task.files}", CommandKind::Check).is_ok());
        assert!(validate("{task.files}", CommandKind::Setup).is_err());
        assert!(validate("{worktree}", CommandKind::Setup).is_ok());
        assert!(validate("--x={task.files}", CommandKind::Agent).is_err());
        let error = validate("{promt_file}", CommandKind::Agent).unwrap_err();
        assert_eq!(
            error.hint.unwrap(),
            "did you mean `{prompt_file}`? for the text itself write `{{promt_file}}`"
        );
    }

    #[test]
    fn placeholders_without_a_value_on_the_base_mention_the_task() {
        assert!(mentions_task(&argv(&["x", "--id={task.id}"])));
        assert!(mentions_task(&argv(&["{task.files|ext:ts}"])));
        assert!(!mentions_task(&argv(&["{worktree}", "{base}", "{{task.id}}", "${attempt}"])));
    }

    #[test]
    fn prompt_never_looks_like_an_option() {
        let values = PlaceholderValues { prompt: "--help me", ..PlaceholderValues::default() };
        let argv = |argument: &str| expand(&[argument.to_owned()], &values);
        assert_eq!(argv("{prompt}"), ["\n--help me"]);
    }
}
