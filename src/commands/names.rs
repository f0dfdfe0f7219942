//! The names of runs and tasks, as a person writes them. Every command resolves names here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use super::workspace::Workspace;
use crate::domain::id::{RunId, TaskId, Timestamp};
use crate::domain::plan::Task;
use crate::domain::state::{RunPhase, RunState};
use crate::error::Advice;
use crate::store::{Store, layout};

/// Similarity (Jaro-Winkler, from 0 to 1) above which a task is suggested for a mistyped name.
const SUGGESTED_SIMILARITY: f64 = 0.75;
/// The largest number of tasks that an error lists.
const LISTED: usize = 10;

/// A predicate that is true for a task that is only history.
type IsReplaced<'f> = dyn Fn(&Task) -> bool + 'f;

/// The use that a command makes of a run that the command line does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunUse {
    /// The command only reads.
    Read,
    /// The command changes the run.
    Change,
}

/// The error for a run that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoRun(pub String);

/// Returns true if the run is not over.
pub(super) fn is_active(state: &RunState) -> bool {
    !state.ended() && state.phase != RunPhase::Cancelled
}

/// Returns the run called `name`. Without a name, returns the only active run, else the newest run.
/// A command that changes a run needs a name if several runs are active.
pub(super) fn find_run(store: &Store, name: Option<&str>, usage: RunUse) -> Result<RunId> {
    let runs = store.runs()?;
    if let Some(name) = name {
        let run = runs.iter().find(|run| run.as_str() == name).cloned();
        let message = || format!("no run is called `{name}`; there is: {}", list(&runs));
        return run.ok_or_else(|| NoRun(message()).into());
    }
    match runs.as_slice() {
        [] => return Err(NoRun("there is no run yet: `git harness start` makes one".into()).into()),
        [only] => return Ok(only.clone()),
        [_, ..] => {}
    }
    let mut active = Vec::new();
    for run in &runs {
        if store.load_cached(run)?.is_some_and(|loaded| is_active(&loaded.ledger.state)) {
            active.push(run.clone());
        }
    }
    match (active.as_slice(), usage) {
        ([only], _) => Ok(only.clone()),
        ([], _) | ([_, ..], RunUse::Read) => newest(store, runs),
        ([_, ..], RunUse::Change) => {
            let message = format!("{} runs are active: {}", active.len(), list(&active));
            Err(Advice::new(message, "name one of them; `git harness runs` lists all").into())
        }
    }
}

/// Returns the run that was created last.
fn newest(store: &Store, runs: Vec<RunId>) -> Result<RunId> {
    let mut newest: Option<(Timestamp, RunId)> = None;
    for run in runs {
        let at = store.run_created(&run)?;
        if newest.as_ref().is_none_or(|(latest, _)| at >= *latest) {
            newest = Some((at, run));
        }
    }
    let (_, run) = newest.ok_or_else(|| NoRun("there is no run".into()))?;
    Ok(run)
}

fn list(runs: &[RunId]) -> String {
    if runs.is_empty() {
        return "none".into();
    }
    runs.iter().map(RunId::as_str).collect::<Vec<_>>().join(", ")
}

/// Opens the run of a task that a person has named: see [`TaskResolver`].
pub(super) fn open_task(
    store: &Store,
    here: &Path,
    name: &str,
    run: Option<&str>,
    usage: RunUse,
) -> Result<(Workspace, TaskId)> {
    let mut resolver = TaskResolver::new(store, here, run, usage);
    let (run, task) = resolver.resolve(name)?;
    Ok((resolver.take(&run)?, task))
}

/// Resolves the names of tasks: an id, a path (seen from the current folder or from the top), a
/// part of either that no other task has, or `RUN/` and one of these. Loads each run once.
#[derive(Debug)]
pub(super) struct TaskResolver<'a> {
    store: &'a Store,
    here: &'a Path,
    /// The run that the command line names.
    run: Option<&'a str>,
    usage: RunUse,
    opened: BTreeMap<RunId, Workspace>,
}

impl<'a> TaskResolver<'a> {
    /// Creates a resolver. `run` is the run that the command line names apart from the tasks.
    pub(super) fn new(
        store: &'a Store,
        here: &'a Path,
        run: Option<&'a str>,
        usage: RunUse,
    ) -> Self {
        Self { store, here, run, usage, opened: BTreeMap::new() }
    }

    /// Returns the run, loaded.
    pub(super) fn open(&mut self, run: &RunId) -> Result<&Workspace> {
        if !self.opened.contains_key(run) {
            self.opened.insert(run.clone(), Workspace::load(self.store, run)?);
        }
        Ok(&self.opened[run])
    }

    /// Removes a loaded run from the resolver.
    pub(super) fn take(&mut self, run: &RunId) -> Result<Workspace> {
        match self.opened.remove(run) {
            Some(workspace) => Ok(workspace),
            None => Workspace::load(self.store, run),
        }
    }

    /// Returns the task that a name means, and its run.
    pub(super) fn resolve(&mut self, name: &str) -> Result<(RunId, TaskId)> {
        let name = layout::short(name);
        let Some((run, rest)) = self.split(name)? else {
            let run = find_run(self.store, self.run, self.usage)?;
            let task = self.pick(&run, name)?;
            return Ok((run, task));
        };
        // The part before the slash may be a folder that has the same name as a run.
        if self.run.is_some_and(|named| named != run.as_str()) {
            let named = find_run(self.store, self.run, self.usage)?;
            let task = self.pick(&named, name)?;
            return Ok((named, task));
        }
        match self.pick(&run, rest) {
            Ok(task) => Ok((run, task)),
            Err(unknown) => {
                let other = find_run(self.store, self.run, self.usage);
                let task = other.and_then(|other| Ok((other.clone(), self.pick(&other, name)?)));
                task.map_err(|_| unknown)
            }
        }
    }

    /// Splits `RUN/TASK`, also as the name of the task's branch. Returns `None` if no run has this
    /// name.
    fn split<'n>(&self, name: &'n str) -> Result<Option<(RunId, &'n str)>> {
        let runs = self.store.runs()?;
        let run = |name: &'n str| {
            let (first, rest) = name.split_once('/')?;
            let run = runs.iter().find(|run| run.as_str() == first)?;
            (!rest.is_empty()).then(|| (run.clone(), rest))
        };
        Ok(run(name).or_else(|| run(name.strip_prefix("harness/")?)))
    }

    fn pick(&mut self, run: &RunId, name: &str) -> Result<TaskId> {
        let path = path_in_repository(self.store, self.here, name).ok();
        let state = self.open(run)?.state();
        let tasks: Vec<&Task> = state.tasks.planned().collect();
        let is_replaced = |task: &Task| state.is_replaced(&task.id);
        let task = pick(&tasks, &is_replaced, &TaskName { name, path: path.as_deref() });
        task.map(|task| task.id.clone()).map_err(|problem| problem.error(run).into())
    }
}

/// Returns the tasks of a loaded run that a person has named.
pub(super) fn tasks_of(
    workspace: &Workspace,
    here: &Path,
    names: &[String],
) -> Result<BTreeSet<TaskId>> {
    let state = workspace.state();
    let tasks: Vec<&Task> = state.tasks.planned().collect();
    let is_replaced = |task: &Task| state.is_replaced(&task.id);
    chosen_tasks(&workspace.store, here, workspace.run(), (&tasks, &is_replaced), names)
}

/// Returns the tasks of a plan that a person has named for a run that does not exist yet.
pub(super) fn planned_tasks(
    store: &Store,
    here: &Path,
    run: &RunId,
    tasks: &[Task],
    names: &[String],
) -> Result<BTreeSet<TaskId>> {
    let tasks: Vec<&Task> = tasks.iter().collect();
    chosen_tasks(store, here, run, (&tasks, &|_: &Task| false), names)
}

fn chosen_tasks(
    store: &Store,
    here: &Path,
    run: &RunId,
    (tasks, is_replaced): (&[&Task], &IsReplaced<'_>),
    names: &[String],
) -> Result<BTreeSet<TaskId>> {
    let mut chosen = BTreeSet::new();
    for name in names {
        let path = path_in_repository(store, here, name).ok();
        let rest = name.strip_prefix(run.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let within = rest.map(|rest| TaskName { name: rest, path: None });
        let whole = TaskName { name, path: path.as_deref() };
        let in_run = within.and_then(|name| pick(tasks, is_replaced, &name).ok());
        let task = in_run.map_or_else(|| pick(tasks, is_replaced, &whole), Ok);
        chosen.insert(task.map_err(|problem| problem.error(run))?.id.clone());
    }
    Ok(chosen)
}

/// A task's name, as a person wrote it.
struct TaskName<'n> {
    name: &'n str,
    /// The name as a path from the top of the repository, if it is a path seen from the current
    /// folder.
    path: Option<&'n str>,
}

/// The reason why a name means no task.
#[derive(Debug, PartialEq, Eq)]
enum UnresolvedTask {
    /// No task has this name. The nearest task, if one is near.
    Unknown { name: String, nearest: Option<String> },
    /// Several tasks have this part in their name.
    Ambiguous { name: String, tasks: Vec<String> },
}

impl UnresolvedTask {
    fn error(self, run: &RunId) -> Advice {
        match self {
            Self::Unknown { name, nearest } => {
                let hint = match nearest {
                    Some(task) => format!("did you mean `{task}`?"),
                    None => format!("`git harness status --porcelain {run}` lists them"),
                };
                Advice::new(format!("no task `{name}` in the run `{run}`"), hint)
            }
            Self::Ambiguous { name, tasks } => {
                let shown = tasks.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>();
                let more = match tasks.len().saturating_sub(LISTED) {
                    0 => String::new(),
                    n => format!(" and {n} more"),
                };
                let message = format!(
                    "`{name}` could be {} tasks of the run `{run}`: {}{more}",
                    tasks.len(),
                    shown.join(", ")
                );
                Advice::new(message, "name a task by its whole path, or by its id")
            }
        }
    }
}

/// Returns the task that a name means: the task with this id, else the only task with this file,
/// else the only task with this folder, else the only task with this part in its id or in the path
/// of a file. A task that is only history is named by its id.
fn pick<'t>(
    tasks: &[&'t Task],
    is_replaced: &IsReplaced<'_>,
    name: &TaskName<'_>,
) -> std::result::Result<&'t Task, UnresolvedTask> {
    let plain = name.name.strip_prefix("./").unwrap_or(name.name).trim_end_matches('/');
    if let Some(task) = tasks.iter().find(|task| task.id.as_str() == plain) {
        return Ok(task);
    }
    let whole: Vec<&'t Task> = tasks.iter().copied().filter(|task| !is_replaced(task)).collect();
    let paths: Vec<&str> = name.path.into_iter().chain([plain]).collect();
    let lower = plain.to_lowercase();
    let in_files = |task: &Task| task.files.iter().any(|file| paths.contains(&file.as_str()));
    let is_folder = |task: &Task| task.folder().is_some_and(|folder| paths.contains(&folder));
    let has_part = |task: &Task| {
        let in_path = task.files.iter().any(|file| file.contains(plain));
        !plain.is_empty() && (in_path || task.id.as_str().contains(&lower))
    };
    let rules: [&dyn Fn(&Task) -> bool; 3] = [&in_files, &is_folder, &has_part];
    for rule in rules {
        let matching: Vec<&'t Task> = whole.iter().copied().filter(|task| rule(task)).collect();
        match matching.as_slice() {
            [] => {}
            [only] => return Ok(only),
            [_, ..] => {
                let tasks = matching.iter().map(|task| task.label()).collect();
                return Err(UnresolvedTask::Ambiguous { name: name.name.to_owned(), tasks });
            }
        }
    }
    let similarity = |task: &Task| {
        let [id, label] =
            [task.id.as_str(), &task.label()].map(|known| strsim::jaro_winkler(known, plain));
        id.max(label)
    };
    let near = whole.iter().map(|task| (similarity(task), task));
    let nearest = near.max_by(|a, b| a.0.total_cmp(&b.0));
    let nearest = nearest.filter(|(similarity, _)| *similarity >= SUGGESTED_SIMILARITY);
    let nearest = nearest.map(|(_, task)| task.label());
    Err(UnresolvedTask::Unknown { name: name.name.to_owned(), nearest })
}

/// Returns the repository-relative path of `file`, which is absolute or relative to the folder
/// `here`, as git resolves it.
pub(super) fn path_in_repository(store: &Store, here: &Path, file: &str) -> Result<String> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let path = match (Path::new(file).parent(), Path::new(file).file_name()) {
        (Some(folder), Some(name)) if folder.is_absolute() => real(folder).join(name),
        (Some(_) | None, Some(_) | None) => real(here).join(file),
    };
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    let Some(top) = store.repo().top() else { return Ok(file.to_owned()) };
    let below = plain.strip_prefix(top).map_err(|_| {
        let hint = "name a file of this repository, relative to the current folder";
        Advice::new(format!("'{file}' is outside the repository at '{}'", top.display()), hint)
    })?;
    Ok(below.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds tasks from words such as `id=src/a.js,src/b.js`.
    fn tasks(text: &str) -> Vec<Task> {
        let task = |word: &str| {
            let (id, files) = word.split_once('=').unwrap();
            Task {
                id: TaskId::parse(id).unwrap(),
                files: files.split(',').map(str::to_owned).collect(),
                after: Vec::new(),
                lines: 1,
                tokens: 1,
                level: 0,
                vars: String::new(),
            }
        };
        text.split(' ').map(task).collect()
    }

    /// Resolves a name as seen from `folder`, in a plan in which `split` was split.
    fn resolved(text: &str, name: &str, folder: &str) -> String {
        let tasks = tasks(text);
        let seen = format!("{folder}{name}");
        let path = (!folder.is_empty()).then_some(seen.as_str());
        let references: Vec<&Task> = tasks.iter().collect();
        let is_split = |task: &Task| task.id.as_str() == "split";
        match pick(&references, &is_split, &TaskName { name, path }) {
            Ok(task) => task.id.to_string(),
            Err(UnresolvedTask::Unknown { nearest, .. }) => format!("none, near {nearest:?}"),
            Err(UnresolvedTask::Ambiguous { tasks, .. }) => format!("several: {}", tasks.join(" ")),
        }
    }

    const PLAN: &str = "src__a_dot_js=src/a.js src__ab_dot_js=src/ab.js lib=lib/c.js,lib/d.js \
                        lib__x=lib/x/e.js,lib/x/f.js";

    #[test]
    fn task_is_named_by_id_path_folder_or_unique_part() {
        let named = |name| resolved(PLAN, name, "");
        assert_eq!(named("src__a_dot_js"), "src__a_dot_js");
        assert_eq!(named("src/a.js"), "src__a_dot_js", "a path is no part of another path");
        assert_eq!(named("./src/a.js"), "src__a_dot_js");
        assert_eq!(named("lib/d.js"), "lib", "a file of a task with several files");
        assert_eq!(named("lib/"), "lib", "a folder wins over a part");
        assert_eq!(named("lib/x"), "lib__x");
        assert_eq!(named("AB"), "src__ab_dot_js", "ids have only lower-case letters");
        assert_eq!(named("c.j"), "lib");
    }

    #[test]
    fn path_is_resolved_from_the_current_folder_first() {
        assert_eq!(resolved("a=src/a.js b=a.js", "a.js", "src/"), "several: a b");
        assert_eq!(resolved(PLAN, "a.js", "src/"), "src__a_dot_js");
        assert_eq!(resolved(PLAN, "src/a.js", "src/"), "src__a_dot_js", "also from the top");
    }

    #[test]
    fn several_matches_are_listed_and_a_near_name_is_suggested() {
        assert_eq!(resolved(PLAN, "src/", ""), "several: src/a.js src/ab.js");
        assert_eq!(resolved(PLAN, "src/aa.js", ""), "none, near Some(\"src/a.js\")");
        assert_eq!(resolved(PLAN, "zzz", ""), "none, near None");
        assert_eq!(resolved("x=f y=f", "f", ""), "several: x y", "two tasks with one file");
    }

    #[test]
    fn split_task_is_only_named_by_its_id() {
        let plan = "split=a.js,b.js split_part_1=a.js split_part_2=b.js";
        assert_eq!(resolved(plan, "a.js", ""), "split_part_1");
        assert_eq!(resolved(plan, "split", ""), "split");
    }
}
