//! Planning: from the tree of a commit to the tasks of a job.
//!
//! A plan depends on the commit's tree alone. The work tree, the index, attributes and the machine
//! have no influence, so the same job and commit give the same bytes everywhere. No result may
//! depend on the order in which threads end, on the order of a hash map or on the locale.
//!
//! - `files` selects the files of the tree; `tree_paths` holds all paths of the tree; `cache` keeps
//!   facts that were read from blobs.
//! - `imports` reads the graph of imports between files; `graph` has the algorithms for this graph.
//! - `drafts` and `cluster` group files into tasks; `task_list` takes tasks that the job lists;
//!   `names` makes the ids.
//! - `plan_graph` describes a plan as a graph; `schedule` computes how long a plan takes; `tokens`
//!   counts tokens.
//! - `replan` merges a new plan with the tasks of a run.
//!
//! The JSON form of a plan is in the module `wire`.

mod cache;
mod cluster;
mod drafts;
mod files;
mod graph;
mod imports;
mod names;
mod plan_graph;
mod replan;
mod schedule;
mod task_list;
mod tokens;
mod tree_paths;

use std::collections::BTreeMap;

use anyhow::Result;
use gix::ObjectId;

use crate::domain::plan::{Plan, Task};
use crate::job::TaskOrder;

pub(crate) use cache::PlanCache;
pub(crate) use files::line_counts;
pub(crate) use imports::{ExternalGraph, parse_edges};
pub(crate) use plan_graph::{PlanStats, dot};
pub(crate) use replan::{MergedPlan, PriorStatus, PriorTask, merge_plans};
pub(crate) use schedule::makespan;
pub(crate) use task_list::{TaskLine, parse_task_list};
pub(crate) use tokens::{TokenLimit, count_tokens};

/// The way in which files are grouped into tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// A task for each file. Files that need each other in a cycle share a task.
    File,
    /// A task for a folder with all files below it, if they fit. Larger folders are split along
    /// their subfolders.
    Directory,
    /// A task for files that import each other or the same files.
    Dependency,
}

/// The input of a plan. Paths are relative to the top of the repository and `/`-separated.
pub(crate) struct PlanSpec<'a> {
    /// Returns true for a path that the job includes and does not exclude.
    pub include: &'a dyn Fn(&str) -> bool,
    /// The grouping of files into tasks.
    pub group: Grouping,
    /// The order of tasks.
    pub order: TaskOrder,
    /// The largest number of files in a task. 0 counts as 1.
    pub max_files: usize,
    /// The largest number of lines in a task. A larger file has a task of its own.
    pub max_lines: u64,
    /// The largest number of tokens in a task. With a limit, tokens are counted; without a limit,
    /// they are estimated. A larger file has a task of its own.
    pub token_limit: Option<TokenLimit>,
    /// The folder to which the plan is limited, or empty or `.` for the whole tree. A trailing `/`
    /// and a leading `./` are allowed.
    pub scope_dir: &'a str,
    /// Returns true for a path that `[plan.scope] files` selects.
    pub scope_files: &'a dyn Fn(&str) -> bool,
    /// The import graph that `[plan] edges` printed. `None` if imports are read from the files.
    pub edges: Option<&'a ExternalGraph>,
    /// The tasks that the job lists. If present, `group` is not used.
    pub listed: Option<&'a [TaskLine]>,
    /// Returns true for a file whose task is done. Such a file is in no task, and no task waits for
    /// it.
    pub is_done: &'a dyn Fn(&str) -> bool,
}

/// The files of the tree (below the scope's folder) that are not in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct UnplannedFiles {
    /// The number of files, links and submodules that no glob selects.
    pub excluded: usize,
    /// The number of submodules that a glob selects.
    pub submodules: usize,
    /// The selected symbolic links, sorted. Their targets are planned under their own paths.
    pub links: Vec<String>,
    /// The selected binary files, sorted. As in git, a binary file has a NUL among its first 8,000
    /// bytes.
    pub binary: Vec<String>,
    /// The selected files whose path is not UTF-8, sorted, with `\u{FFFD}` for invalid bytes.
    pub not_utf8: Vec<String>,
}

/// A plan, the files that are not in the plan, and warnings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PlanningResult {
    /// The tasks in the order of dispatch: by level, then by first path.
    pub plan: Plan,
    /// The files that are not in the plan.
    pub unplanned: UnplannedFiles,
    /// Warnings about the plan.
    pub warnings: Vec<String>,
}

/// Plans a job over `base`, which is a commit or a tree. A plan without tasks is not an error.
pub(crate) fn plan(
    repo: &gix::Repository,
    base: ObjectId,
    spec: &PlanSpec<'_>,
    cache: &mut PlanCache,
) -> Result<PlanningResult> {
    let (files, mut unplanned) = files::plan_files(repo, base, spec, cache)?;
    // A list names its files. The plan needs no warning about the others.
    let listed = spec.listed.map(task_list::listed_paths);
    let is_planned = |path: &str| listed.as_ref().is_none_or(|listed| listed.contains(path));
    for paths in [&mut unplanned.binary, &mut unplanned.links, &mut unplanned.not_utf8] {
        paths.retain(|path| is_planned(path));
    }
    let planned = files.iter().filter(|file| is_planned(&file.path));
    let mut warnings = match spec.token_limit {
        Some(limit) => token_limit_warnings(planned, limit),
        None => window_warning(planned).into_iter().collect(),
    };
    let is_ordered = spec.order == TaskOrder::Dependency;
    let by_dependency = spec.group == Grouping::Dependency && spec.listed.is_none();
    let needs = if is_ordered || by_dependency {
        needs(repo, base, spec, &files, cache, &mut warnings)?
    } else {
        vec![Vec::new(); files.len()]
    };
    if let Some(listed) = spec.listed {
        let tree = tree_paths::TreePaths::of(repo, base)?;
        let ordering = task_list::ListOrdering {
            needs: &needs,
            by_priority: spec.order == TaskOrder::Priority,
        };
        let (tasks, notes) = task_list::tasks(listed, &files, &tree, ordering)?;
        warnings.extend(notes);
        return Ok(PlanningResult { plan: Plan { tasks }, unplanned, warnings });
    }
    let limits = drafts::TaskLimits {
        files: &files,
        max_files: spec.max_files.max(1),
        max_lines: spec.max_lines,
        max_tokens: spec.token_limit.map_or(u64::MAX, |limit| limit.max_tokens),
    };
    let clusters = cluster::cluster(spec.group, &limits, needs);
    warnings.extend(clusters.warnings);
    let drafts = drafts::number_parts(clusters.drafts);
    let needs = if is_ordered { clusters.needs } else { vec![Vec::new(); files.len()] };
    let tasks = tasks(&files, &drafts, &needs)?;
    Ok(PlanningResult { plan: Plan { tasks }, unplanned, warnings })
}

/// Returns a warning for each file that exceeds the token limit by itself.
fn token_limit_warnings<'a>(
    files: impl Iterator<Item = &'a files::PlanFile>,
    limit: TokenLimit,
) -> Vec<String> {
    let large = files.filter(|file| file.tokens > limit.max_tokens);
    let warnings = large.map(|file| {
        format!(
            "{} has about {} tokens, more than the {} that a task may have: split it, leave it out, or raise \
             `context-window` or `fill` in [plan]",
            file.path, file.tokens, limit.max_tokens
        )
    });
    warnings.collect()
}

/// The context window of common models, in tokens, for jobs that name none.
const COMMON_WINDOW: u64 = 200_000;

/// Returns a warning about the files whose estimated tokens exceed a common context window.
fn window_warning<'a>(files: impl Iterator<Item = &'a files::PlanFile>) -> Option<String> {
    let mut large = files.filter(|file| file.tokens > COMMON_WINDOW);
    let first = large.next()?;
    let more = match large.count() {
        0 => String::new(),
        count => format!(" (and {count} more such files)"),
    };
    Some(format!(
        "{} has about {} tokens, more than a context window of {COMMON_WINDOW}{more}: leave it out, or set `context-window` in \
         [plan]",
        first.path, first.tokens
    ))
}

/// Returns the files that each file of a plan needs.
fn needs(
    repo: &gix::Repository,
    base: ObjectId,
    spec: &PlanSpec<'_>,
    files: &[files::PlanFile],
    cache: &mut PlanCache,
    warnings: &mut Vec<String>,
) -> Result<Vec<Vec<usize>>> {
    let graph = match spec.edges {
        Some(external) => {
            let (graph, notes) = imports::external_graph(repo, base, external, files)?;
            warnings.extend(notes);
            graph
        }
        None => imports::import_graph(repo, base, files, cache)?,
    };
    if let Some(first) = graph.unparsed.first() {
        let more = graph.unparsed.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        warnings.push(format!("unknown imports: these files cannot be parsed: {first}{more}"));
    }
    Ok(graph.needs)
}

/// The paths that each file imports.
pub(crate) type ImportEdges = BTreeMap<String, Vec<String>>;

/// Returns the import graph of the files that `spec` selects, and warnings about it.
pub(crate) fn import_edges(
    repo: &gix::Repository,
    base: ObjectId,
    spec: &PlanSpec<'_>,
    cache: &mut PlanCache,
) -> Result<(ImportEdges, Vec<String>)> {
    let (files, _) = files::plan_files(repo, base, spec, cache)?;
    let mut warnings = Vec::new();
    let needs = needs(repo, base, spec, &files, cache, &mut warnings)?;
    let path = |number: &usize| files[*number].path.clone();
    let numbered = needs.iter().enumerate();
    let edges = numbered.map(|(from, to)| (path(&from), to.iter().map(path).collect())).collect();
    Ok((edges, warnings))
}

/// Makes tasks from drafts: gives them ids, dependencies and levels, and sorts them by level.
fn tasks(
    files: &[files::PlanFile],
    drafts: &[drafts::Draft],
    needs: &[Vec<usize>],
) -> Result<Vec<Task>> {
    let ids =
        names::task_ids(&drafts.iter().map(|d| (d.path.as_str(), d.part)).collect::<Vec<_>>())?;
    let mut home = vec![0; files.len()];
    for (number, draft) in drafts.iter().enumerate() {
        for file in &draft.files {
            home[*file] = number;
        }
    }
    let after = graph::group_graph(needs, &home, drafts.len());
    let levels = graph::levels(&after);
    let mut order: Vec<usize> = (0..drafts.len()).collect();
    order.sort_by_key(|number| (levels[*number], *number));
    let task = |number: usize| {
        let task_files = || drafts[number].files.iter().map(|f| &files[*f]);
        let mut after: Vec<_> = after[number].iter().map(|to| ids[*to].clone()).collect();
        after.sort_unstable();
        Task {
            id: ids[number].clone(),
            after,
            lines: task_files().map(|f| f.lines).sum(),
            tokens: task_files().map(|f| f.tokens).sum(),
            level: levels[number],
            vars: String::new(),
            files: task_files().map(|f| f.path.clone()).collect(),
        }
    };
    Ok(order.into_iter().map(task).collect())
}

/// Estimates the number of tokens in a file of this size: one for every 3.5 bytes, rounded up.
///
/// The sum over many files is a few percent too low. The number for a single file may be off by a
/// third.
pub(crate) fn estimate_tokens(bytes: u64) -> u64 {
    bytes.saturating_mul(2).div_ceil(7)
}

#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod tests;
