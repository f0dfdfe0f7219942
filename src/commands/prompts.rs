//! Prompts of a job before its run: rendered, linted and written out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::job_file;
use crate::agent::{brief, evaluate, lint, prompt};
use crate::domain::id::{Oid, RunId, TaskId};
use crate::domain::plan::Task;
use crate::job;
use crate::planning;
use crate::repo::Repo;

/// The sources of a job's prompts.
#[derive(Debug)]
pub(super) struct PromptSet<'a> {
    repo: &'a Repo,
    job: &'a job_file::LoadedJob,
    base: Oid,
    run: RunId,
    /// The user's template: its name and text.
    template: Option<(String, String)>,
    /// The evaluator's template: its name and text.
    evaluator: Option<(String, String)>,
    /// The contents of examples and schemas, by path.
    pinned: BTreeMap<String, String>,
}

impl<'a> PromptSet<'a> {
    /// Reads the files that the job names.
    pub(super) fn open(repo: &'a Repo, job: &'a job_file::LoadedJob) -> Result<Self> {
        let base = repo.resolve_commit(&job.job.job.base)?;
        let files: BTreeMap<String, Vec<u8>> =
            job_file::pinned_files(repo, job, &base)?.into_iter().collect();
        let text = |name: &str| -> Result<Option<String>> {
            let plain = name.strip_prefix("./").unwrap_or(name);
            let bytes = files.get(plain).cloned();
            bytes
                .map(|bytes| String::from_utf8(bytes).with_context(|| format!("not UTF-8: {name}")))
                .transpose()
        };
        let template_of = |prompt: Option<&String>| -> Result<Option<(String, String)>> {
            let Some(name) = prompt else { return Ok(None) };
            Ok(Some((name.clone(), text(name)?.unwrap_or_default())))
        };
        let template = template_of(job.job.agent.prompt.as_ref())?;
        let evaluator_prompt = job.job.evaluate.as_ref().and_then(|e| e.agent.prompt.as_ref());
        let evaluator = template_of(evaluator_prompt)?;
        let mut pinned = BTreeMap::new();
        for (_, name) in job::required_files(&job.job) {
            pinned.extend(text(name)?.map(|text| (name.clone(), text)));
        }
        let run = RunId::parse(&format!("{}-1", job.name))?;
        Ok(Self { repo, job, base, run, template, evaluator, pinned })
    }

    /// Returns the brief of the first attempt on a task.
    fn brief(&self, task: &Task) -> Result<prompt::Brief> {
        let base = gix::ObjectId::from_hex(self.base.as_str().as_bytes())?;
        let counted = planning::line_counts(&self.repo.local(), base, &task.files)?;
        let lines = task.files.iter().cloned().zip(counted);
        let lines = lines.filter_map(|(path, n)| Some((path, n?))).collect();
        Ok(brief::brief(&brief::BriefInput {
            job: &self.job.job,
            name: &self.job.name,
            run: &self.run,
            task,
            base: &self.base,
            attempt: 1,
            lines: &lines,
            findings: &[],
            pinned: &self.pinned,
            // Known only once the run starts.
            sandboxed: false,
        }))
    }

    fn template(&self) -> Option<(&str, &str)> {
        self.template.as_ref().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// Renders the templates for a first attempt and for a retry, with the variables of each task,
    /// before anything is spent. Returns the hints of the linter.
    pub(super) fn check(&self, tasks: &[Task]) -> Result<Vec<String>> {
        if self.template.is_none() && self.evaluator.is_none() {
            return Ok(Vec::new());
        }
        let mut variable_sets = BTreeSet::new();
        let mut hints = Vec::new();
        for task in tasks {
            let vars = brief::variables(&self.job.job, &task.vars);
            if !variable_sets.insert(vars.keys().cloned().collect::<Vec<_>>()) {
                continue;
            }
            let brief = self.brief(task)?;
            if let Some((name, text)) = &self.evaluator {
                evaluate::validate((name, text), &brief)?;
            }
            if let Some(template) = self.template() {
                prompt::validate(template, &brief)?;
                if hints.is_empty() {
                    hints = lint::lint(template, &brief)?;
                }
            }
        }
        Ok(hints)
    }

    /// Returns the number of tokens of a prompt for one file: counted if the job has a token
    /// budget, else estimated.
    pub(super) fn example_tokens(&self) -> Result<u64> {
        let text = prompt::render(self.template(), &self.brief(&example(self.job)?)?)?;
        Ok(match self.job.job.plan.budget {
            Some(_) => planning::count_tokens(text.as_bytes()),
            None => planning::estimate_tokens(text.len() as u64),
        })
    }

    /// Writes the prompt of each task's first attempt into a folder, as `TASK.md`.
    pub(super) fn write(&self, tasks: &[Task], folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        for task in tasks {
            let text = prompt::render(self.template(), &self.brief(task)?)?;
            let path = folder.join(format!("{}.md", task.id));
            std::fs::write(&path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Returns an example task, for a job whose plan is not known yet.
pub(super) fn example(job: &job_file::LoadedJob) -> Result<Task> {
    // The template of a job that lists tasks with findings needs at least one finding.
    let vars = if job.job.plan.list.is_some() && !job.job.plan.vars.contains_key("findings") {
        r#"{"findings":[{"file":"src/a.js"}]}"#
    } else {
        ""
    };
    Ok(Task {
        id: TaskId::parse("src__a_dot_js")?,
        files: vec!["src/a.js".into()],
        after: Vec::new(),
        lines: 0,
        tokens: 0,
        level: 0,
        vars: vars.into(),
    })
}

/// See [`PromptSet::check`].
pub(super) fn check(repo: &Repo, job: &job_file::LoadedJob, tasks: &[Task]) -> Result<Vec<String>> {
    PromptSet::open(repo, job)?.check(tasks)
}
