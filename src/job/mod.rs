//! The job file `harness.toml`: parses the text into a validated [`Job`], or returns all errors
//! with their positions.
//!
//! This module does not read the file system. Callers read the file, and [`possible_files`]
//! returns the other files of the job. The value of a planned feature is refused with a message of
//! its own (`keys::RESERVED_KEYS`).
//!
//! - `keys` lists the keys of all sections.
//! - `section` finds the keys in the file; `values` reads their values by type; `read` builds the
//!   sections and has the defaults.
//! - `schema`, `plan` and `sandbox` define the result.
//! - `globs`, `placeholders`, `duration`, `size` and `names` parse the small languages in strings.

pub(crate) mod argument_template;
mod changes;
mod duration;
mod errors;
mod globs;
mod keys;
mod names;
pub(crate) mod placeholders;
mod plan;
mod read;
#[cfg(test)]
mod refusals;
mod sandbox;
mod schema;
mod section;
mod size;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use changes::{changed_sections, invalidates_results, unadoptable_changes};
pub(crate) use duration::parse_duration;
pub(crate) use errors::{JobError, JobErrors, in_prose, position, suggest};
pub(crate) use globs::{PathGlobs, ScopePattern};
pub(crate) use names::slug;
pub(crate) use plan::{ListedTask, TaskOrder, TaskSource, TokenBudget};
pub(crate) use sandbox::{SandboxMode, SandboxSection};
pub use schema::Job;
pub use schema::MergeStyle;
pub(crate) use schema::{
    AgentSection, AstEqualCheck, BaseCheck, Check, JobKind, OutputCheck, OutputMerge,
    OutputSection, PresetsSection, QueueSection, RulesChangeMode, ScopeSection,
};
pub(crate) use size::format_size;

use section::{ErrorCollector, Section};
use toml::de::{DeTable, Error};

/// The default name of a job file.
pub(crate) const FILE_NAME: &str = "harness.toml";

/// Parses a job file. `file` is the name in messages.
pub fn parse(text: &str, file: &str) -> Result<Job, JobErrors> {
    let failed = |errors| JobErrors { file: file.to_owned(), errors };
    let document =
        DeTable::parse(text).map_err(|error| failed(vec![syntax_error(text, &error)]))?;
    let report = ErrorCollector::new(text);
    let mut job = read::job(&Section::top(&report, document.get_ref()));
    let whole: toml::Table = toml::from_str(text).unwrap_or_default();
    let tables = whole.get("presets").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    job.presets = PresetsSection { tables, file: file.to_owned(), text: text.to_owned() };
    let errors = report.into_errors();
    if errors.is_empty() { Ok(job) } else { Err(failed(errors)) }
}

/// Parses the sections that the merge queue for branches uses: `[queue]`, `[[check]]`,
/// `[worktree]`, `[sandbox]` and the key `[scope] protect`.
///
/// Errors in other sections do not count, because a repository can have a queue without a job.
pub(crate) fn parse_queue(text: &str, file: &str) -> Result<Job, JobErrors> {
    let failed = |errors| JobErrors { file: file.to_owned(), errors };
    let document =
        DeTable::parse(text).map_err(|error| failed(vec![syntax_error(text, &error)]))?;
    let report = ErrorCollector::new(text);
    let job = read::job(&Section::top(&report, document.get_ref()));
    let is_relevant = |error: &JobError| {
        let section = error.key.split(['.', '[']).next().unwrap_or_default();
        ["queue", "check", "worktree", "sandbox"].contains(&section) || error.key == "scope.protect"
    };
    let errors: Vec<JobError> = report.into_errors().into_iter().filter(is_relevant).collect();
    if errors.is_empty() { Ok(job) } else { Err(failed(errors)) }
}

/// Converts an error of the TOML parser.
fn syntax_error(text: &str, error: &Error) -> JobError {
    let (line, column) = position(text, error.span().map_or(0, |span| span.start));
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    JobError {
        line,
        column,
        key: String::new(),
        message: format!("not valid TOML: {message}"),
        hint: None,
    }
}

/// Returns the paths that may be files of the job: the prompt, other files that keys name, and each
/// part of a command that looks like a relative path. The caller keeps the paths that exist.
///
/// Paths are relative to the top of the repository, without a leading `./` and without duplicates.
pub(crate) fn possible_files(job: &Job) -> Vec<String> {
    let checks = job.checks.iter().flat_map(|c| c.run.iter().chain(c.version.iter().flatten()));
    let setup = job.worktree.setup.iter().flatten();
    let plan = job.plan.command.iter().chain(&job.plan.edges).flatten();
    let join = match job.output.as_ref().map(|o| &o.merge) {
        Some(OutputMerge::Command(argv)) => argv.as_slice(),
        Some(OutputMerge::JsonArray | OutputMerge::Jsonl | OutputMerge::Concat) | None => &[],
    };
    let evaluator = job.evaluate.iter().flat_map(|evaluate| &evaluate.agent.command);
    let arguments = job
        .agent
        .command
        .iter()
        .chain(evaluator)
        .chain(setup)
        .chain(checks)
        .chain(plan)
        .chain(join)
        .chain(hooks(job));
    let data =
        job.agent.prompt.iter().chain(&job.plan.list).chain(required_files(job).map(|(_, f)| f));
    let mut files: Vec<String> = data.cloned().collect();
    for file in arguments.filter_map(|argument| as_relative_path(argument)) {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    files
}

/// Returns the arguments of the landing hooks.
fn hooks(job: &Job) -> impl Iterator<Item = &String> {
    job.queue.pre_land.iter().chain(&job.queue.post_land).flatten()
}

/// Returns the paths that may be files of the landing hooks.
pub(crate) fn files_of_hooks(job: &Job) -> Vec<String> {
    let mut files: Vec<String> = hooks(job).filter_map(|a| as_relative_path(a)).collect();
    files.sort();
    files.dedup();
    files
}

/// Returns the paths of the checks' programs, as far as the programs may be files of the
/// repository. A program without `/` is looked up in `PATH`.
pub(crate) fn programs_of_checks(job: &Job) -> Vec<String> {
    let checks = job.checks.iter();
    let programs =
        checks.flat_map(|c| c.run.first().into_iter().chain(c.version.iter().flatten().take(1)));
    programs.filter(|program| program.contains('/')).filter_map(|p| path_in_worktree(p)).collect()
}

/// Returns an argument as a path below the top of the repository, if it may be one: a relative
/// path, or a path below `{worktree}`.
pub(crate) fn path_in_worktree(argument: &str) -> Option<String> {
    as_relative_path(argument.strip_prefix("{worktree}/").unwrap_or(argument))
}

/// Returns the paths of the JSON Schemas of checks, without a leading `./`.
pub(crate) fn schemas(job: &Job) -> impl Iterator<Item = String> {
    let schemas = job.checks.iter().filter_map(|c| c.output_check.as_ref()?.schema.as_ref());
    schemas.map(|schema| schema.strip_prefix("./").unwrap_or(schema).to_owned())
}

/// Returns the files that must exist in addition to the prompt, each with the key that names the
/// file.
pub(crate) fn required_files(job: &Job) -> impl Iterator<Item = (&'static str, &String)> {
    let schemas = job.checks.iter().filter_map(|c| c.output_check.as_ref()?.schema.as_ref());
    let example = job.output.iter().filter_map(|o| o.example.as_ref());
    let page = job.output.iter().filter_map(|o| o.page.as_ref());
    let texts = example
        .map(|file| ("[output] example", file))
        .chain(page.map(|file| ("[output] page", file)));
    let evaluator = job.evaluate.iter().filter_map(|evaluate| evaluate.agent.prompt.as_ref());
    let evaluator = evaluator.map(|file| ("[evaluate] prompt", file));
    schemas.map(|file| ("schema", file)).chain(texts).chain(evaluator)
}

/// Returns an argument as a path below the top of the repository, if the argument looks like a
/// relative path.
fn as_relative_path(argument: &str) -> Option<String> {
    // Options and inline scripts are not paths. 4096 is the longest path on Linux.
    let is_no_path = argument.starts_with(['/', '-']) || argument.len() > 4096;
    if is_no_path || argument.contains(char::is_control) || placeholders::has_placeholder(argument)
    {
        return None;
    }
    let mut parts = Vec::new();
    for part in argument.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    let last = parts.last()?;
    let has_extension = last.rfind('.').is_some_and(|dot| dot > 0 && dot + 1 < last.len());
    (has_extension || argument.contains('/')).then(|| parts.join("/"))
}
