//! Prompts before there is a run: tried, looked at for what makes prompts fail, and written out.

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

/// What all prompts of a job are made from.
#[derive(Debug)]
pub(super) struct PromptSet<'a> {
    repo: &'a Repo,
    found: &'a job_file::LoadedJob,
    base: Oid,
    run: RunId,
    /// The user's template: its name and text.
    template: Option<(String, String)>,
    /// The same of the evaluator's prompt.
    evaluator: Option<(String, String)>,
    /// What examples and schemas say.
    pinned: BTreeMap<String, String>,
}

impl<'a> PromptSet<'a> {
    /// Reads what the job names.
    pub(super) fn open(repo: &'a Repo, found: &'a job_file::LoadedJob) -> Result<Self> {
        let base = repo.resolve_commit(&found.job.job.base)?;
        let files: BTreeMap<String, Vec<u8>> =
            job_file::pinned_files(repo, found, &base)?.into_iter().collect();
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
        let template = template_of(found.job.agent.prompt.as_ref())?;
        let judge = found.job.evaluate.as_ref().and_then(|e| e.agent.prompt.as_ref());
        let evaluator = template_of(judge)?;
        let mut pinned = BTreeMap::new();
        for (_, name) in job::must_exist(&found.job) {
            pinned.extend(text(name)?.map(|text| (name.clone(), text)));
        }
        let run = RunId::parse(&format!("{}-1", found.name))?;
        Ok(Self { repo, found, base, run, template, evaluator, pinned })
    }

    /// What the first attempt on a task is told.
    fn brief(&self, task: &Task) -> Result<prompt::Brief> {
        let base = gix::ObjectId::from_hex(self.base.as_str().as_bytes())?;
        let counted = planning::line_counts(&self.repo.local(), base, &task.files)?;
        let lines = task.files.iter().cloned().zip(counted);
        let lines = lines.filter_map(|(path, n)| Some((path, n?))).collect();
        Ok(brief::brief(&brief::BriefInput {
            job: &self.found.job,
            name: &self.found.name,
            run: &self.run,
            task,
            base: &self.base,
            attempt: 1,
            lines: &lines,
            findings: &[],
            pinned: &self.pinned,
        }))
    }

    fn template(&self) -> Option<(&str, &str)> {
        self.template.as_ref().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The template must render for a first attempt and for a retry, before anything is paid for: with the job's
    /// variables, and with those of each of the tasks. What is told of its faults.
    pub(super) fn check(&self, tasks: &[Task]) -> Result<Vec<String>> {
        if self.template.is_none() && self.evaluator.is_none() {
            return Ok(Vec::new());
        }
        let mut seen = BTreeSet::new();
        let mut said = Vec::new();
        for task in tasks {
            let vars = brief::variables(&self.found.job, &task.vars);
            if !seen.insert(vars.keys().cloned().collect::<Vec<_>>()) {
                continue;
            }
            let brief = self.brief(task)?;
            if let Some((name, text)) = &self.evaluator {
                evaluate::validate((name, text), &brief)?;
            }
            if let Some(template) = self.template() {
                prompt::validate(template, &brief)?;
                if said.is_empty() {
                    said = lint::lint(template, &brief)?;
                }
            }
        }
        Ok(said)
    }

    /// The tokens of a prompt on one file: counted where the job has a budget of tokens, else estimated.
    pub(super) fn example_tokens(&self) -> Result<u64> {
        let text = prompt::render(self.template(), &self.brief(&example(self.found)?)?)?;
        Ok(match self.found.job.plan.budget {
            Some(_) => planning::count_tokens(text.as_bytes()),
            None => planning::estimate_tokens(text.len() as u64),
        })
    }

    /// Writes the first prompt of each task into a folder, named like the task.
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

/// A task that stands for those of a job whose plan is not known yet.
pub(super) fn example(found: &job_file::LoadedJob) -> Result<Task> {
    // The prompt of a job of findings needs some.
    let vars = if found.job.plan.list.is_some() && !found.job.plan.vars.contains_key("findings") {
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
pub(super) fn check(
    repo: &Repo,
    found: &job_file::LoadedJob,
    tasks: &[Task],
) -> Result<Vec<String>> {
    PromptSet::open(repo, found)?.check(tasks)
}
