//! The brief of an attempt: the prompt's values, from the job, the plan and the findings.

use std::collections::BTreeMap;

use super::prompt::{
    Brief, CheckBrief, FileBrief, FindingBrief, OutputBrief, RuleBrief, ScopeBrief, TaskBrief,
    fence,
};
use crate::contract::ast_equal::rules_text;
use crate::domain::id::{Oid, RunId};
use crate::domain::plan::Task;
use crate::domain::shell::shell_quote;
use crate::domain::verdict::{Finding, RepeatedFinding, group_findings};
use crate::job::{Job, OutputCheck, ScopePattern, ScopeSection, placeholders};

/// The sources of a brief.
#[derive(Debug)]
pub(crate) struct BriefInput<'a> {
    /// The job.
    pub job: &'a Job,
    /// The job's name.
    pub name: &'a str,
    /// The run.
    pub run: &'a RunId,
    /// The task.
    pub task: &'a Task,
    /// The commit that the attempt starts from.
    pub base: &'a Oid,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The number of lines of each of the task's files, by path. A file of unknown length is
    /// absent.
    pub lines: &'a BTreeMap<String, u64>,
    /// All findings so far.
    pub findings: &'a [Finding],
    /// True if the agent works in a sandbox.
    pub sandboxed: bool,
    /// The contents of the job's pinned example and schemas, by path.
    pub pinned: &'a BTreeMap<String, String>,
}

/// Builds the brief of an attempt.
pub(crate) fn brief(input: &BriefInput) -> Brief {
    let job = input.job;
    let file = |path: &String| FileBrief::new(path, input.lines.get(path).copied());
    let finding = |group: &RepeatedFinding| FindingBrief {
        attempt: group.attempts.last().copied().unwrap_or(group.finding.attempt),
        attempts: group.attempts_in_words(),
        check: group.finding.check.clone(),
        text: group.finding.text.clone(),
    };
    Brief {
        goal: job.job.goal.trim().to_owned(),
        job: input.name.to_owned(),
        run: input.run.to_string(),
        task: TaskBrief {
            id: input.task.id.to_string(),
            files: input.task.files.iter().map(file).collect(),
        },
        attempt: input.attempt,
        output: job.output.as_ref().map(|output| OutputBrief {
            path: output.path.clone(),
            example: output.example.as_ref().and_then(|name| input.pinned.get(name).cloned()),
        }),
        allow_empty: job.agent.allow_empty,
        sandboxed: input.sandboxed,
        checks: checks(input),
        scope: ScopeBrief {
            write: job
                .scope
                .write
                .iter()
                .flat_map(|pattern| globs_of(pattern, &input.task.files))
                .collect(),
            always: job.scope.always.patterns().to_vec(),
            read_only: unwritable_patterns(&job.scope),
        },
        findings: group_findings(input.findings).iter().map(finding).collect(),
        work: None,
        rules: Vec::<RuleBrief>::new(),
        vars: variables(job, &input.task.vars),
    }
}

/// Returns the variables of a task. `own` holds the task's own variables as a JSON object, or is
/// empty. The task's own variables take precedence over the variables of the job.
pub(crate) fn variables(job: &Job, own: &str) -> BTreeMap<String, toml::Value> {
    let mut vars = job.plan.vars.clone();
    // Invalid variables were refused when the plan was made.
    vars.extend(serde_json::from_str::<BTreeMap<String, toml::Value>>(own).unwrap_or_default());
    vars
}

fn checks(input: &BriefInput) -> Vec<CheckBrief> {
    let values = placeholders::PlaceholderValues {
        task_id: input.task.id.as_str(),
        task_files: &input.task.files,
        worktree: ".",
        base: input.base.as_str(),
        run: input.run.as_str(),
        attempt: input.attempt,
        output: input.job.output.as_ref().map_or("", |output| &output.path),
        ..placeholders::PlaceholderValues::default()
    };
    let check_brief = |check: &crate::job::Check| {
        let argv = placeholders::expand(&check.run, &values);
        let mut when = Vec::new();
        if check.when.task {
            when.push("task".to_owned());
        }
        if check.when.landing {
            when.push("landing".to_owned());
        }
        let ast_equal_statement = |wanted: &crate::job::AstEqualCheck| {
            let globs = |globs: &crate::job::PathGlobs| globs.patterns().join("`, `");
            rules_text(&globs(&wanted.from), &globs(&wanted.to), &wanted.options)
        };
        let statement = match (&check.ast_equal, &check.output_check) {
            (Some(wanted), _) => ast_equal_statement(wanted),
            (None, Some(wanted)) => output_statement(wanted, input.pinned),
            (None, None) => String::new(),
        };
        CheckBrief {
            name: check.name.clone(),
            statement,
            command: argv
                .iter()
                .map(|argument| shell_quote(argument))
                .collect::<Vec<_>>()
                .join(" "),
            timeout_seconds: check.timeout.as_secs(),
            when,
        }
    };
    input.job.checks.iter().map(check_brief).collect()
}

/// States the requirements for the output file.
fn output_statement(wanted: &OutputCheck, pinned: &BTreeMap<String, String>) -> String {
    let path = &wanted.path;
    let Some(name) = &wanted.schema else { return format!("`{path}` is there.") };
    let schema = pinned.get(name).map_or("", |text| text.trim_end());
    format!("`{path}` is valid by this JSON Schema:\n\n{}", fence(schema, "json"))
}

/// Returns the patterns of paths that no task may change: read-only paths, and rule files that the
/// scope does not name.
fn unwritable_patterns(scope: &ScopeSection) -> Vec<String> {
    let protected = scope.protect.patterns().iter().filter(|pattern| !scope.names(pattern));
    scope.read_only.patterns().iter().chain(protected).cloned().collect()
}

/// Returns the globs of a scope pattern for these files.
fn globs_of(pattern: &ScopePattern, files: &[String]) -> Vec<String> {
    match pattern {
        ScopePattern::Glob(globs) => globs.patterns().to_vec(),
        ScopePattern::TaskFiles { ext: None } => files.to_vec(),
        ScopePattern::TaskFiles { ext: Some(ext) } => {
            files.iter().map(|path| placeholders::with_extension(path, ext)).collect()
        }
    }
}
