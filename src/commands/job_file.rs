//! The job file and the files that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::agent::preset::{self, Preset};
use crate::contract::json_schema::JsonSchema;
use crate::domain::id::Oid;
use crate::error::Advice;
use crate::failpoint;
use crate::job::{self, Job};
use crate::repo::Repo;

/// A job file that was read.
#[derive(Debug)]
pub(super) struct LoadedJob {
    /// The path of the job file, for messages.
    pub file: String,
    /// The folder of the job file.
    pub folder: PathBuf,
    /// The text of the job file.
    pub text: String,
    /// The parsed job.
    pub job: Job,
    /// The job's name: from the file, else from its folder, else from the repository.
    pub name: String,
    /// The preset of the agent.
    pub preset: Preset,
    /// The preset of the evaluator, if the job has one.
    pub evaluator: Option<Preset>,
}

/// Parses a job file. `file` is the name in messages.
pub(super) fn parse(text: &str, file: &str) -> Result<Job> {
    failpoint::trace("job parsed");
    Ok(job::parse(text, file)?)
}

/// Finds and reads a job: a file, the NAME of `.harness/NAME/harness.toml`, or `harness.toml` at
/// the top.
pub(super) fn load(repo: &Repo, here: &Path, argument: Option<&str>) -> Result<LoadedJob> {
    let top = repo.top().map_or_else(|| here.to_path_buf(), Path::to_path_buf);
    let path = match argument {
        None => {
            let path = top.join(job::FILE_NAME);
            if !path.is_file() {
                return Err(Advice::new(
                    format!("no job file: {}", path.display()),
                    "name a job file, or write one with `git harness init`; `man githarness-job` has every key",
                )
                .into());
            }
            path
        }
        Some(name) => {
            let paths = [here.join(name), top.join(".harness").join(name).join(job::FILE_NAME)];
            let found = paths.iter().find(|p| p.is_file()).cloned();
            found.ok_or_else(|| {
                let [file, named] = &paths;
                Advice::new(
                    format!("no job file: {name}"),
                    format!("looked for {} and {}", file.display(), named.display()),
                )
            })?
        }
    };
    let file = path.strip_prefix(&top).unwrap_or(&path).display().to_string();
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the job file: {}", path.display()))?;
    let job = parse(&text, &file)?;
    let preset = preset::resolve(&job)?;
    let evaluator = preset::resolve_evaluator(&job)?;
    let name = match &job.job.name {
        Some(name) => name.clone(),
        None => {
            // The default name is NAME for `.harness/NAME/harness.toml`, and the repository's name
            // for a file at the top.
            let folder = path.parent().filter(|p| *p != top).and_then(Path::file_name);
            let name = folder.map_or_else(|| repo.name(), |f| f.to_string_lossy().into_owned());
            job::slug(&name)
        }
    };
    let folder = path.parent().unwrap_or(&top).to_path_buf();
    Ok(LoadedJob { file, folder, text, job, name, preset, evaluator })
}

/// Returns the files that a job names, to be pinned with the job: the path as named in the job, and
/// the content.
pub(super) fn pinned_files(
    repo: &Repo,
    loaded: &LoadedJob,
    base: &Oid,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut pinned = BTreeMap::new();
    let tree = repo.tree_of(base)?;
    if let Some(output) = &loaded.job.output
        && repo.has_entry(&tree, &output.path)?
    {
        return Err(Advice::new(
            format!("{}: the base already has a file at [output] path: {}", loaded.file, output.path),
            "choose a path that does not exist in the base: an old file must not count as a task's output",
        )
        .into());
    }
    if let Some(prompt) = &loaded.job.agent.prompt {
        let bytes = find_content(repo, &loaded.folder, prompt, &tree)?.ok_or_else(|| {
            Advice::new(
                format!("{}: no prompt template: {prompt}", loaded.file),
                "`[agent] prompt` is relative to the job file or to the repository's top",
            )
        })?;
        pinned.insert(strip_dot_slash(prompt), bytes);
    }
    for (key, name) in job::required_files(&loaded.job) {
        let bytes = find_content(repo, &loaded.folder, name, &tree)?.ok_or_else(|| {
            Advice::new(
                format!("{}: the file of `{key}` does not exist: {name}", loaded.file),
                "its path is relative to the job file or to the repository's top",
            )
        })?;
        if key == "schema" {
            let text = String::from_utf8_lossy(&bytes);
            JsonSchema::parse(&text).with_context(|| format!("the schema is wrong: {name}"))?;
        }
        pinned.insert(strip_dot_slash(name), bytes);
    }
    for name in job::possible_files(&loaded.job) {
        let name = strip_dot_slash(&name);
        if pinned.contains_key(&name) || is_ignored(repo, &name) {
            continue;
        }
        if let Some(bytes) = find_content(repo, &loaded.folder, &name, &tree)? {
            pinned.insert(name, bytes);
        }
    }
    Ok(pinned.into_iter().collect())
}

fn strip_dot_slash(name: &str) -> String {
    name.strip_prefix("./").unwrap_or(name).to_owned()
}

/// Returns the content of a named file: from beside the job file, else from the repository's top,
/// else from the base commit.
fn find_content(repo: &Repo, folder: &Path, name: &str, tree: &Oid) -> Result<Option<Vec<u8>>> {
    let folders = [Some(folder), repo.top()];
    for folder in folders.into_iter().flatten() {
        let path = folder.join(name);
        if path.is_file() {
            let bytes =
                std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            return Ok(Some(bytes));
        }
    }
    repo.read_blob_at(tree, &strip_dot_slash(name))
}

/// Returns true if git ignores the path. Ignored files, such as `node_modules/.bin/tsc`, belong to
/// the environment and not to the job.
fn is_ignored(repo: &Repo, name: &str) -> bool {
    use gix::worktree::stack::state::ignore::Source;
    let repo = repo.local();
    let Ok(index) = repo.index_or_empty() else { return false };
    let Ok(mut stack) = repo.excludes(&index, None, Source::WorktreeThenIdMappingIfNotSkipped)
    else {
        return false;
    };
    stack.at_path(name, None).is_ok_and(|platform| platform.is_excluded())
}
