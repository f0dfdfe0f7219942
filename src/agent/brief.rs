//! What an agent is told of its task, put together from job, plan and findings.

use std::collections::BTreeMap;

use super::prompt::{
    Brief, CheckBrief, FileBrief, FindingBrief, OutputBrief, RuleBrief, ScopeBrief, TaskBrief,
    fence,
};
use crate::contract::ast_equal::terms;
use crate::domain::id::{Oid, RunId};
use crate::domain::plan::Task;
use crate::domain::verdict::Finding;
use crate::job::{Job, OutputCheck, ScopePattern, placeholders};

/// Everything that a brief is about.
#[derive(Debug)]
pub(crate) struct BriefInput<'a> {
    /// The job.
    pub job: &'a Job,
    /// Its name.
    pub name: &'a str,
    /// The run.
    pub run: &'a RunId,
    /// The task.
    pub task: &'a Task,
    /// The commit from which the attempt starts.
    pub base: &'a Oid,
    /// Which attempt.
    pub attempt: u32,
    /// Lines of the task's files, where they are known.
    pub lines: &'a BTreeMap<String, u64>,
    /// Every finding so far.
    pub findings: &'a [Finding],
    /// What the job's example and schemas say, by their names.
    pub pinned: &'a BTreeMap<String, String>,
}

/// The brief of an attempt.
pub(crate) fn brief(subject: &BriefInput) -> Brief {
    let job = subject.job;
    let file = |path: &String| FileBrief::new(path, subject.lines.get(path).copied());
    let finding = |f: &Finding| FindingBrief {
        attempt: f.attempt,
        check: f.check.clone(),
        text: f.text.clone(),
    };
    Brief {
        goal: job.job.goal.trim().to_owned(),
        job: subject.name.to_owned(),
        run: subject.run.to_string(),
        task: TaskBrief {
            id: subject.task.id.to_string(),
            files: subject.task.files.iter().map(file).collect(),
        },
        attempt: subject.attempt,
        output: job.output.as_ref().map(|output| OutputBrief {
            path: output.path.clone(),
            example: output.example.as_ref().and_then(|name| subject.pinned.get(name).cloned()),
        }),
        allow_empty: job.agent.allow_empty,
        checks: checks(subject),
        scope: ScopeBrief {
            write: job.scope.write.iter().flat_map(|p| patterns(p, &subject.task.files)).collect(),
            always: job.scope.always.patterns().to_vec(),
            read_only: job.scope.read_only.patterns().to_vec(),
        },
        findings: subject.findings.iter().map(finding).collect(),
        rules: Vec::<RuleBrief>::new(),
        vars: variables(job, &subject.task.vars),
    }
}

/// What the plan's variables are for a task: its own, a JSON object or nothing, go over the job's.
pub(crate) fn variables(job: &Job, own: &str) -> BTreeMap<String, toml::Value> {
    let mut vars = job.plan.vars.clone();
    // What cannot be read was refused when the plan was made.
    vars.extend(serde_json::from_str::<BTreeMap<String, toml::Value>>(own).unwrap_or_default());
    vars
}

fn checks(subject: &BriefInput) -> Vec<CheckBrief> {
    let values = placeholders::PlaceholderValues {
        task_id: subject.task.id.as_str(),
        task_files: &subject.task.files,
        worktree: ".",
        base: subject.base.as_str(),
        run: subject.run.as_str(),
        attempt: subject.attempt,
        output: subject.job.output.as_ref().map_or("", |output| &output.path),
        ..placeholders::PlaceholderValues::default()
    };
    let one = |check: &crate::job::Check| {
        let argv = placeholders::expand(&check.run, &values);
        let mut when = Vec::new();
        if check.when.task {
            when.push("task".to_owned());
        }
        if check.when.landing {
            when.push("landing".to_owned());
        }
        let words = |wanted: &crate::job::AstEqualCheck| {
            let globs = |globs: &crate::job::PathGlobs| globs.patterns().join("`, `");
            terms(&globs(&wanted.from), &globs(&wanted.to), &wanted.options)
        };
        let statement = match (&check.ast_equal, &check.output_check) {
            (Some(wanted), _) => words(wanted),
            (None, Some(wanted)) => handed_in(wanted, subject.pinned),
            (None, None) => String::new(),
        };
        CheckBrief {
            name: check.name.clone(),
            statement,
            command: argv.iter().map(|a| quote(a)).collect::<Vec<_>>().join(" "),
            timeout_seconds: check.timeout.as_secs(),
            when,
        }
    };
    subject.job.checks.iter().map(one).collect()
}

/// What is demanded of the file that is handed in.
fn handed_in(wanted: &OutputCheck, pinned: &BTreeMap<String, String>) -> String {
    let path = &wanted.path;
    let Some(name) = &wanted.schema else { return format!("`{path}` is there.") };
    let schema = pinned.get(name).map_or("", |text| text.trim_end());
    format!("`{path}` is valid by this JSON Schema:\n\n{}", fence(schema, "json"))
}

/// What a scope pattern means for these files.
fn patterns(pattern: &ScopePattern, files: &[String]) -> Vec<String> {
    match pattern {
        ScopePattern::Glob(globs) => globs.patterns().to_vec(),
        ScopePattern::TaskFiles { ext: None } => files.to_vec(),
        ScopePattern::TaskFiles { ext: Some(ext) } => {
            files.iter().map(|path| placeholders::with_extension(path, ext)).collect()
        }
    }
}

/// An argument as a shell reads it.
pub(crate) fn quote(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn arguments_are_quoted_as_a_shell_reads_them() {
        assert_eq!(quote("src/a.js"), "src/a.js");
        assert_eq!(quote("two words"), "'two words'");
        assert_eq!(quote("it's"), "'it'\\''s'");
        assert_eq!(quote(""), "''");
    }
}
