//! The prompt: everything an agent is told about its task, made from a template.
//!
//! Templates are Jinja (`minijinja`), the user's or the built-in one beside this file. A name that does not exist is an
//! error and never an empty string: a prompt that lacks half its words costs as much as a good one.
//!
//! Beside Jinja's own filters there are `fence` (a block of literal text that its content cannot end), `code` (the same
//! within a line) and `duration` (seconds in words). A tag on a line of its own leaves no blank line.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};
use serde::Serialize;

use super::filetype;

/// The template that is used when the job names none.
pub(crate) const BUILT_IN: &str = include_str!("prompt.md.j2");
/// What errors call it.
const BUILT_IN_NAME: &str = "built-in prompt";

/// What a prompt is made from. The names of the fields are those that templates use.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Brief {
    /// The goal of the job, in the user's words.
    pub goal: String,
    /// The job's name.
    pub job: String,
    /// The run's name.
    pub run: String,
    /// The task.
    pub task: TaskBrief,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The file to hand in; `None` where the work is the change itself.
    pub output: Option<OutputBrief>,
    /// Whether an attempt that changes nothing may be good.
    pub allow_empty: bool,
    /// The checks, in the order in which they run.
    pub checks: Vec<CheckBrief>,
    /// What may be changed.
    pub scope: ScopeBrief,
    /// Every finding so far, oldest first; empty on a first attempt.
    pub findings: Vec<FindingBrief>,
    /// The job's rules, in addition to those of the built-in prompt.
    pub rules: Vec<RuleBrief>,
    /// `[plan.vars]` of the job.
    pub vars: BTreeMap<String, toml::Value>,
}

/// The task of a [`Brief`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TaskBrief {
    /// Its id.
    pub id: String,
    /// All its files, in the plan's order.
    pub files: Vec<FileBrief>,
}

/// One file of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FileBrief {
    /// Its repository-relative path.
    pub path: String,
    /// How many lines it has where the attempt starts; `None` if that is unknown or it is not there.
    pub lines: Option<u64>,
    /// What it is, such as `JavaScript source`.
    pub what: String,
}

impl FileBrief {
    /// A file, described by its name.
    pub(crate) fn new(path: &str, lines: Option<u64>) -> Self {
        Self { path: path.to_owned(), lines, what: filetype::describe(path).to_owned() }
    }
}

/// The file that an attempt hands in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct OutputBrief {
    /// Its path, relative to the worktree.
    pub path: String,
    /// What such a file looks like.
    pub example: Option<String>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CheckBrief {
    /// Its name.
    pub name: String,
    /// Its command as a line for a shell; empty for one that is built in.
    pub command: String,
    /// What a check that is built in demands, in Markdown; empty for a command.
    pub statement: String,
    /// The longest that it may take, in seconds.
    pub timeout_seconds: u64,
    /// Where it runs, in the job file's words: `task`, `landing`.
    pub when: Vec<String>,
}

/// What a task may change, as globs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct ScopeBrief {
    /// What it may change, for this task: placeholders are filled in.
    pub write: Vec<String>,
    /// What every task may touch besides.
    pub always: Vec<String>,
    /// What no task may touch.
    pub read_only: Vec<String>,
}

/// Something that was wrong with an earlier attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FindingBrief {
    /// The attempt.
    pub attempt: u32,
    /// The check that found it.
    pub check: String,
    /// What it said.
    pub text: String,
}

/// A rule and its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RuleBrief {
    /// The rule, as a sentence.
    pub text: String,
    /// Its reason, as a sentence; may be empty.
    pub because: String,
}

#[cfg(test)]
impl Brief {
    /// A brief of a first attempt on one file, for [`validate`]: fill in what is known of the job.
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
            checks: Vec::new(),
            scope: ScopeBrief { write: vec!["src/a.js".into()], ..ScopeBrief::default() },
            findings: Vec::new(),
            rules: Vec::new(),
            vars: BTreeMap::new(),
        }
    }
}

/// Makes the prompt of one attempt. `template` is the name (a path, for errors) and the text of the user's template;
/// `None` takes the built-in one. The result ends with one newline.
pub(crate) fn render(template: Option<(&str, &str)>, brief: &Brief) -> Result<String> {
    page(template.unwrap_or((BUILT_IN_NAME, BUILT_IN)), brief)
}

/// Makes a page of any values, by the rules of prompts.
pub(crate) fn page(template: (&str, &str), values: &impl Serialize) -> Result<String> {
    let (name, source) = template;
    let env = environment();
    let values = Value::from(Serde(values));
    let text = env
        .template_from_named_str(name, source)
        .and_then(|template| template.render(values.clone()))
        .map_err(|err| explain(&err, name, source, &env, &values))?;
    Ok(format!("{}\n", text.trim_end()))
}

/// Whether a template can be rendered for a first attempt and for a retry of briefs like this one.
pub(crate) fn validate(template: (&str, &str), like: &Brief) -> Result<()> {
    let first = Brief { attempt: 1, findings: Vec::new(), ..like.clone() };
    let finding = FindingBrief { attempt: 1, check: "agent".into(), text: "…".into() };
    let retry = Brief { attempt: 2, findings: vec![finding], ..like.clone() };
    render(Some(template), &first)?;
    render(Some(template), &retry)?;
    Ok(())
}

fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    // By default the file's name decides, and `prompt.html` would have its `<` escaped.
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

/// A Markdown block of literal text. Its fence is longer than any row of backticks in the text, which therefore cannot
/// end the block, whoever wrote it.
pub(super) fn fence(text: &str, language: &str) -> String {
    let fence = "`".repeat(longest_row(text).max(2) + 1);
    // A NUL could not be handed over in an argument.
    let text = text.replace('\0', "\u{FFFD}");
    format!("{fence}{language}\n{}\n{fence}", text.trim_end_matches('\n'))
}

/// Literal text within a line; what would end the line or the literal text is made harmless.
fn code(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    let tick = "`".repeat(longest_row(&shown) + 1);
    let space = if shown.starts_with('`') || shown.ends_with('`') { " " } else { "" };
    format!("{tick}{space}{shown}{space}{tick}")
}

/// The length of the longest row of backticks.
fn longest_row(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// Seconds in words: `1 minute 30 seconds`.
fn duration(seconds: u64) -> String {
    let parts = [(seconds / 3600, "hour"), (seconds / 60 % 60, "minute"), (seconds % 60, "second")];
    let word = |(n, unit): (u64, &str)| format!("{n} {unit}{}", if n == 1 { "" } else { "s" });
    let words: Vec<_> = parts.into_iter().filter(|(n, _)| *n > 0).map(word).collect();
    if words.is_empty() { word((0, "second")) } else { words.join(" ") }
}

/// A template's error for the person who wrote it.
fn explain(
    err: &minijinja::Error,
    name: &str,
    source: &str,
    env: &Environment<'_>,
    values: &Value,
) -> anyhow::Error {
    let line = err.line().unwrap_or(1).max(1);
    let what = match err.detail() {
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
    anyhow!("{name}:{line}: {what}{hint}; in: {}", code(text))
}

/// What a template may use: `goal`, `task.id`, … (but not what the elements of a list have).
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

/// The names that the template uses and that do not exist, sorted.
fn unknown_names(name: &str, source: &str, env: &Environment<'_>, values: &Value) -> Vec<String> {
    let Ok(template) = env.template_from_named_str(name, source) else {
        return Vec::new();
    };
    let globals: Vec<_> = env.globals().map(|(name, _)| name.to_owned()).collect();
    let exists = |path: &String| {
        let found = path.split('.').try_fold(values.clone(), |value, part| value.get_attr(part));
        found.is_ok_and(|value| !value.is_undefined()) || globals.contains(path)
    };
    let used = template.undeclared_variables(true);
    let mut unknown: Vec<_> = used.into_iter().filter(|path| !exists(path)).collect();
    unknown.sort_unstable();
    unknown.into_iter().map(|path| code(&path)).collect()
}

/// What a session is told that goes on after it was broken off: what happened, that its work is still there, and the
/// task once more, since it may have been cut off before it had read it.
pub(crate) fn continuation(why: &str, prompt: &str) -> String {
    format!(
        "Your session was interrupted ({why}). All that you had changed is still in the worktree as you left it. Look at \
         what is done already, then go on from there; do not start over. The task, once more:\n\n{prompt}"
    )
}

#[cfg(test)]
mod tests;
