//! Tasks and dependencies from a job's own lists and programs.
//!
//! The programs run after the job's setup, in a temporary checkout of the base, not in the user's
//! work tree: the work tree may hold uncommitted changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{job_file, workspace};
use crate::ambient;
use crate::domain::id::Oid;
use crate::domain::termination::Termination;
use crate::error::Advice;
use crate::job::placeholders::{self, PlaceholderValues};
use crate::job::{ListedTask, TaskSource};
use crate::planning::{self, ExternalGraph, TaskLine};
use crate::process::{self, Command, Environ, Lock, StopFlag};
use crate::repo::{self, Repo};
use crate::store::layout::Local;

/// Time limit of a program.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Maximum output of a program in bytes. A longer output is an error and is never truncated.
const CAP: u64 = 1 << 30;
/// The number of bytes of a program's diagnostics that an error shows.
const SHOWN: usize = 1_000;

/// The lists and outputs that a plan is made from.
#[derive(Debug, Default)]
pub(super) struct PlanInputs {
    /// The tasks, if the job lists them.
    pub listed: Option<Vec<TaskLine>>,
    /// The dependencies between files, if a program of the job finds them.
    pub edges: Option<ExternalGraph>,
    /// The outputs of programs by name, to be pinned with the run.
    pub printed: Vec<(String, Vec<u8>)>,
}

/// Reads the lists and runs the programs of a plan.
pub(super) fn collect(repo: &Repo, job: &job_file::LoadedJob, base: &Oid) -> Result<PlanInputs> {
    let plan = &job.job.plan;
    let mut inputs = PlanInputs::default();
    match plan.group {
        TaskSource::List => {
            inputs.listed = Some(match &plan.list {
                Some(file) => list(repo, job, base, file)?,
                None => plan.tasks.iter().map(listed).collect::<Result<_>>()?,
            });
        }
        TaskSource::File | TaskSource::Directory | TaskSource::Dependency | TaskSource::Command => {
        }
    }
    if plan.command.is_none() && plan.edges.is_none() {
        return Ok(inputs);
    }
    let scratch = ScratchWorktree::open(repo, job, base)?;
    let collected = (|| {
        if let Some(argv) = &plan.command {
            let output = scratch.output_of("[plan] command", argv)?;
            let tasks =
                planning::parse_task_list(&output).context("`[plan] command` printed no tasks")?;
            inputs.listed = Some(tasks);
            inputs.printed.push(("tasks.jsonl".to_owned(), output.into_bytes()));
        }
        if let Some(argv) = &plan.edges {
            let output = scratch.output_of("[plan] edges", argv)?;
            let folders = argv.get(1..).unwrap_or_default().to_vec();
            inputs.edges = Some(ExternalGraph { edges: planning::parse_edges(&output)?, folders });
            inputs.printed.push(("edges.json".to_owned(), output.into_bytes()));
        }
        Ok(())
    })();
    // If both fail, return the error of the programs, since it explains the other error.
    let closed = scratch.close();
    collected.and(closed)?;
    Ok(inputs)
}

/// Returns the tasks of the file that `[plan] list` names.
fn list(repo: &Repo, job: &job_file::LoadedJob, base: &Oid, file: &str) -> Result<Vec<TaskLine>> {
    let plain = file.strip_prefix("./").unwrap_or(file);
    let pinned = job_file::pinned_files(repo, job, base)?;
    let Some((_, bytes)) = pinned.into_iter().find(|(path, _)| path == plain) else {
        return Err(Advice::new(
            format!("{}: no list of tasks: {file}", job.file),
            "`[plan] list` is relative to the job file or to the repository's top, and is not ignored by git",
        )
        .into());
    };
    let text = String::from_utf8(bytes).with_context(|| format!("not UTF-8: {file}"))?;
    planning::parse_task_list(&text).with_context(|| format!("the list of tasks is wrong: {file}"))
}

/// Converts a task of the job file into the planner's form.
fn listed(task: &ListedTask) -> Result<TaskLine> {
    let serde_json::Value::Object(vars) = serde_json::to_value(&task.vars)? else {
        bail!("the variables of a [[plan.task]] are not a table");
    };
    Ok(TaskLine {
        id: task.id.clone(),
        files: task.files.clone(),
        after: task.after.clone(),
        priority: i64::from(task.priority),
        vars,
    })
}

/// A checkout of the base in which the job's programs run.
struct ScratchWorktree<'a> {
    repo: &'a Repo,
    base: &'a Oid,
    worktree: repo::Worktree,
    /// The folder of the programs' outputs.
    folder: PathBuf,
    /// Only one process at a time runs programs here: the checkout has a fixed path.
    _lock: Lock,
}

impl<'a> ScratchWorktree<'a> {
    fn open(repo: &'a Repo, job: &job_file::LoadedJob, base: &'a Oid) -> Result<Self> {
        let folder = Local::new(repo.common_dir()).planning();
        std::fs::create_dir_all(folder.join("tmp"))
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let lock =
            Lock::try_take(&folder.join("lock"), &process::Holder::this_process().to_string())?
                .map_err(|holder| {
                    Advice::new(
                        format!("another process is running the programs of a plan: {holder}"),
                        "wait until it has ended",
                    )
                })?;
        let path = workspace::worktrees_root(repo, &job.job).join(".planning");
        let index = folder.join("place");
        // A process that was killed may have left its checkout.
        repo::remove_worktree(repo, &path, &index)?;
        let worktree = repo::create_worktree(repo, &path, base, &index)
            .with_context(|| format!("cannot make the worktree {}", path.display()))?;
        let scratch = Self { repo, base, worktree, folder, _lock: lock };
        if let Err(problem) = scratch.prepare(job) {
            drop(scratch.close());
            return Err(problem);
        }
        Ok(scratch)
    }

    /// Writes the files that the job names, and runs the job's setup.
    fn prepare(&self, job: &job_file::LoadedJob) -> Result<()> {
        for (path, bytes) in job_file::pinned_files(self.repo, job, self.base)? {
            let to = self.worktree.path.join(path);
            if std::fs::read(&to).is_ok_and(|old| old == bytes) {
                continue;
            }
            workspace::write_pinned(&to, &bytes)?;
        }
        for argv in &job.job.worktree.setup {
            self.output_of("[worktree] setup", argv)?;
        }
        Ok(())
    }

    /// Runs a program and returns its output.
    fn output_of(&self, key: &str, argv: &[String]) -> Result<String> {
        let worktree = self.worktree.path.to_string_lossy().into_owned();
        let values = PlaceholderValues {
            worktree: &worktree,
            base: self.base.as_str(),
            ..PlaceholderValues::default()
        };
        let (stdout, stderr) = (self.folder.join("stdout"), self.folder.join("stderr"));
        let tmp = self.folder.join("tmp");
        let env = Environ::for_command(&ambient::environment(), &tmp, &self.repo.identity(), &[]);
        let expanded = placeholders::expand(argv, &values);
        let (cwd, marker) = (&self.worktree.path, ambient::nonce());
        let command = Command::new(expanded, cwd, &marker, stdout.clone(), stderr.clone())
            .env(env)
            .cap(CAP)
            .timeout(TIMEOUT);
        let ended = process::run(&command, &StopFlag::new()?)?;
        let shown = argv.join(" ");
        if ended.termination != Termination::Exited(0) {
            let termination = ended.termination;
            let output = tail(&stderr).or_else(|| tail(&stdout)).unwrap_or_default();
            bail!("`{key}` did not succeed ({termination}): {shown}{output}");
        }
        if ended.stdout_kept < ended.stdout_bytes {
            bail!("`{key}` printed more than {} MB: {shown}", CAP >> 20);
        }
        let bytes = std::fs::read(&stdout)?;
        String::from_utf8(bytes).with_context(|| format!("`{key}` printed no UTF-8: {shown}"))
    }

    fn close(self) -> Result<()> {
        self.worktree.remove(self.repo)
    }
}

/// Returns the end of a program's output, on a new line.
fn tail(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(SHOWN)..]).into_owned();
    (!text.trim().is_empty()).then(|| format!("\n{}", text.trim_end()))
}
