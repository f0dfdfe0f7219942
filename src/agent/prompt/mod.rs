//! The prompt of an attempt, rendered from a template.
//!
//! Templates are Jinja (`minijinja`): the user's template, or the default template next to this
//! file. An undefined name is an error and never an empty string, because an attempt with an
//! incomplete prompt costs as much as any other attempt.
//!
//! Three filters extend Jinja's own: `fence` (a block of literal text that the text cannot end),
//! `code` (literal text within a line) and `duration` (seconds in words). A line that holds only a
//! tag leaves no blank line.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};
use serde::Serialize;

use super::filetype;

/// The default template.
pub(crate) const BUILT_IN: &str = include_str!("prompt.md.j2");
/// The section about the work that an attempt continues. It is added to a template that does not
/// show `work.diff`.
const WORK_SECTION: &str = include_str!("work.md.j2");
/// The name of the default template in errors.
const BUILT_IN_NAME: &str = "built-in prompt";

/// The values of a prompt. Templates use the names of the fields.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Brief {
    /// The goal of the job, in the user's words.
    pub goal: String,
    /// The job's name.
    pub job: String,
    /// The run's id.
    pub run: String,
    /// The task.
    pub task: TaskBrief,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The output file; `None` if the work is a change.
    pub output: Option<OutputBrief>,
    /// True if an attempt without a change may succeed.
    pub allow_empty: bool,
    /// True if the agent works in a sandbox, with a stash of its own.
    pub sandboxed: bool,
    /// The checks, in the order in which they run.
    pub checks: Vec<CheckBrief>,
    /// The files that the agent may change.
    pub scope: ScopeBrief,
    /// All findings so far, oldest first; empty on a first attempt.
    pub findings: Vec<FindingBrief>,
    /// The rejected work that the attempt starts from; `None` if it starts from clean files.
    pub work: Option<WorkBrief>,
    /// The job's rules, in addition to the rules of the built-in prompt.
    pub rules: Vec<RuleBrief>,
    /// The variables: `[plan.vars]` of the job, overridden by the task's own variables.
    pub vars: BTreeMap<String, toml::Value>,
}

/// The task of a [`Brief`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TaskBrief {
    /// The task's id.
    pub id: String,
    /// All files of the task, in the plan's order.
    pub files: Vec<FileBrief>,
}

/// A file of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FileBrief {
    /// The path, relative to the repository.
    pub path: String,
    /// The number of lines in the commit that the attempt starts from; `None` if unknown.
    pub lines: Option<u64>,
    /// The description, such as `JavaScript source`.
    pub what: String,
}

impl FileBrief {
    /// Creates the brief of a file. The description is derived from the path.
    pub(crate) fn new(path: &str, lines: Option<u64>) -> Self {
        Self { path: path.to_owned(), lines, what: filetype::describe(path).to_owned() }
    }
}

/// The output file of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct OutputBrief {
    /// The path, relative to the worktree.
    pub path: String,
    /// The content of an example.
    pub example: Option<String>,
}

/// A check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CheckBrief {
    /// The name.
    pub name: String,
    /// The command line for a shell; empty for a built-in check.
    pub command: String,
    /// The requirements of a built-in check, in Markdown; empty for a command.
    pub statement: String,
    /// The timeout in seconds.
    pub timeout_seconds: u64,
    /// The stages of the check, as in the job file: `task`, `landing`.
    pub when: Vec<String>,
}

/// The files that a task may change, as globs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct ScopeBrief {
    /// The files that this task may change.
    pub write: Vec<String>,
    /// The files that every task may change.
    pub always: Vec<String>,
    /// The files that no task may change.
    pub read_only: Vec<String>,
}

/// A finding about earlier attempts. Equal findings are merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FindingBrief {
    /// The number of the last attempt with the finding.
    pub attempt: u32,
    /// The numbers of all attempts with the finding, in words: `attempts 1 and 3`.
    pub attempts: String,
    /// The check that reported the finding.
    pub check: String,
    /// The text of the finding.
    pub text: String,
}

/// The work of a rejected candidate, from which an attempt starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct WorkBrief {
    /// The number of the attempt that left the work.
    pub attempt: u32,
    /// The work as a patch; empty if the patch is too long for a prompt.
    pub diff: String,
    /// The command that prints the patch.
    pub command: String,
}

impl WorkBrief {
    /// The longest patch that a prompt quotes, in bytes. A longer patch would take the place of the
    /// sources in the model's context.
    const QUOTED: usize = 24_000;

    /// Creates the brief of the work of an attempt on top of the commit `base`.
    pub(crate) fn new(attempt: u32, diff: String, base: &str) -> Self {
        let diff = if diff.len() > Self::QUOTED { String::new() } else { diff };
        Self { attempt, diff, command: format!("git diff {base}") }
    }
}

/// A rule and its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RuleBrief {
    /// The rule, as a sentence.
    pub text: String,
    /// The reason, as a sentence; may be empty.
    pub because: String,
}

#[cfg(test)]
impl Brief {
    /// Returns the brief of a first attempt on one file.
    pub(crate) fn example() -> Self {
        Self {
            goal: "Do what the job says.".into(),
            job: "job".into(),
            run: "job-1".into(),
            task: TaskBrief {
                id: "src__a_dot_js".into(),
                files: vec![FileBrief::new("src/a.js", Some(10))],
            },
            attempt: 1,
            output: None,
            allow_empty: false,
            sandboxed: false,
            checks: Vec::new(),
            scope: ScopeBrief { write: vec!["src/a.js".into()], ..ScopeBrief::default() },
            findings: Vec::new(),
            work: None,
            rules: Vec::new(),
            vars: BTreeMap::new(),
        }
    }
}

/// Renders the prompt of an attempt. `template` is the path and the text of the user's template;
/// `None` selects the default template. The result ends with one newline.
pub(crate) fn render(template: Option<(&str, &str)>, brief: &Brief) -> Result<String> {
    let template = template.unwrap_or((BUILT_IN_NAME, BUILT_IN));
    let text = render_template(template, brief)?;
    if brief.work.is_none() || template.1.contains("work.diff") {
        return Ok(text);
    }
    let section = render_template((BUILT_IN_NAME, WORK_SECTION), brief)?;
    Ok(format!("{text}\n{section}"))
}

/// Renders a template with arbitrary values, with the same Jinja settings as a prompt.
pub(crate) fn render_template(template: (&str, &str), values: &impl Serialize) -> Result<String> {
    let (name, source) = template;
    let env = environment();
    let values = Value::from(Serde(values));
    let text = env
        .template_from_named_str(name, source)
        .and_then(|template| template.render(values.clone()))
        .map_err(|err| explain(&err, name, source, &env, &values))?;
    Ok(format!("{}\n", text.trim_end()))
}

/// Checks that a template can be rendered for a first attempt and for a retry of tasks like
/// `example`.
pub(crate) fn validate(template: (&str, &str), example: &Brief) -> Result<()> {
    let first = Brief { attempt: 1, findings: Vec::new(), ..example.clone() };
    let (attempt, attempts) = (1, "attempt 1".to_owned());
    let finding = FindingBrief { attempt, attempts, check: "agent".into(), text: "…".into() };
    let retry = Brief { attempt: 2, findings: vec![finding], ..example.clone() };
    let work = Some(WorkBrief::new(1, "…".into(), "base"));
    render(Some(template), &first)?;
    render(Some(template), &retry)?;
    render(Some(template), &Brief { work, ..retry })?;
    Ok(())
}

fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    // By default, minijinja escapes the values in a template named `*.html`.
    env.set_auto_escape_callback(|_| AutoEscape::None);
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    env.set_syntax(syntax.build().expect("the delimiters are the default ones"));
    env.add_filter("fence", |text: &str, language: Option<&str>| {
        fence(text, language.unwrap_or_default())
    });
    env.add_filter("code", code);
    env.add_filter("duration", duration);
    env
}

/// Formats a text as a fenced Markdown block. The fence is longer than any run of backticks in the
/// text, so that the text cannot end the block.
pub(super) fn fence(text: &str, language: &str) -> String {
    let fence = "`".repeat(longest_backtick_run(text).max(2) + 1);
    // The prompt may become an argument of a program, which cannot hold a NUL.
    let text = text.replace('\0', "\u{FFFD}");
    format!("{fence}{language}\n{}\n{fence}", text.trim_end_matches('\n'))
}

/// Formats a text as literal text within a line. Control characters are escaped.
fn code(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    let tick = "`".repeat(longest_backtick_run(&shown) + 1);
    let space = if shown.starts_with('`') || shown.ends_with('`') { " " } else { "" };
    format!("{tick}{space}{shown}{space}{tick}")
}

/// Returns the length of the longest run of backticks in a text.
fn longest_backtick_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// Formats seconds in words: `1 minute 30 seconds`.
fn duration(seconds: u64) -> String {
    let parts = [(seconds / 3600, "hour"), (seconds / 60 % 60, "minute"), (seconds % 60, "second")];
    let counted =
        |(count, unit): (u64, &str)| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
    let words: Vec<_> = parts.into_iter().filter(|(count, _)| *count > 0).map(counted).collect();
    if words.is_empty() { counted((0, "second")) } else { words.join(" ") }
}

/// Describes an error in a template for the template's author.
fn explain(
    err: &minijinja::Error,
    name: &str,
    source: &str,
    env: &Environment<'_>,
    values: &Value,
) -> anyhow::Error {
    let line = err.line().unwrap_or(1).max(1);
    let message = match err.detail() {
        Some(detail) => format!("{}: {detail}", err.kind()),
        None => err.kind().to_string(),
    };
    let mut hint = String::new();
    if err.kind() == ErrorKind::UndefinedError {
        let unknown = unknown_names(name, source, env, values);
        if !unknown.is_empty() {
            hint = format!("; not known: {}", unknown.join(", "));
        }
        hint = format!("{hint}; known: {}", known_names(values).join(", "));
    }
    let text = source.lines().nth(line - 1).unwrap_or_default().trim();
    anyhow!("{name}:{line}: {message}{hint}; in: {}", code(text))
}

/// Returns the names that a template may use: `goal`, `task.id`, … The fields of list items are
/// omitted.
fn known_names(values: &Value) -> Vec<String> {
    let mut names = Vec::new();
    for key in keys(values) {
        let fields = values.get_attr(&key).map(|value| keys(&value)).unwrap_or_default();
        if fields.is_empty() {
            names.push(key);
        } else {
            names.extend(fields.into_iter().map(|field| format!("{key}.{field}")));
        }
    }
    names
}

fn keys(value: &Value) -> Vec<String> {
    if value.kind() != minijinja::value::ValueKind::Map {
        return Vec::new();
    }
    let keys = value.try_iter().into_iter().flatten();
    keys.filter_map(|key| key.as_str().map(str::to_owned)).collect()
}

/// Returns the undefined names in a template, sorted.
fn unknown_names(name: &str, source: &str, env: &Environment<'_>, values: &Value) -> Vec<String> {
    let Ok(template) = env.template_from_named_str(name, source) else {
        return Vec::new();
    };
    let globals: Vec<_> = env.globals().map(|(name, _)| name.to_owned()).collect();
    let exists = |path: &String| {
        let value = path.split('.').try_fold(values.clone(), |value, part| value.get_attr(part));
        value.is_ok_and(|value| !value.is_undefined()) || globals.contains(path)
    };
    let used = template.undeclared_variables(true);
    let mut unknown: Vec<_> = used.into_iter().filter(|path| !exists(path)).collect();
    unknown.sort_unstable();
    unknown.into_iter().map(|path| code(&path)).collect()
}

/// Returns the prompt for a resumed session: the reason for the interruption, then the task's
/// prompt. The session may have been interrupted before the agent read the task.
pub(crate) fn continuation(why: &str, prompt: &str) -> String {
    format!(
        "Your session was interrupted ({why}). All that you had changed is still in the worktree as you left it. Look at \
         what is done already, then go on from there; do not start over. The task, once more:\n\n{prompt}"
    )
}

#[cfg(test)]
mod tests;
