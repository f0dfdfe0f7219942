//! Planning: which tasks a job is at one commit.
//!
//! A plan is made from a commit's tree alone. The work tree, the index, attributes and the machine have no say in it, so
//! the same job and commit give the same bytes everywhere: nothing here depends on the order in which threads end, on
//! a hash map's order or on the locale.
//!
//! `discover` walks the tree and measures the files, `imports` says which of them need which, `group` and `cluster` make
//! tasks of them, `order` knows about circles and levels, `names` gives the tasks their ids, and `wire` is the one
//! written form. `shape` tells what a plan looks like, `schedule` how long it takes, `again` puts a plan together with what a run has done already.

mod again;
mod cache;
mod cluster;
mod discover;
mod group;
mod imports;
mod listed;
mod names;
mod order;
mod schedule;
mod shape;
mod snapshot;
mod tokens;
mod wire;

use std::collections::BTreeMap;

use anyhow::Result;
use gix::ObjectId;

use crate::domain::plan::{Plan, Task};
use crate::job::TaskOrder;

pub(crate) use again::{MergedPlan, PriorStatus, PriorTask, merge_plans};
pub(crate) use cache::PlanCache;
pub(crate) use discover::line_counts;
pub(crate) use imports::{ExternalGraph, parse as parse_edges};
pub(crate) use listed::{TaskLine, parse as parse_task_list};
pub(crate) use schedule::makespan;
pub(crate) use shape::{PlanStats, dot};
pub(crate) use tokens::{TokenLimit, count as count_tokens};
pub(crate) use wire::{from_json, glance, plan_id, to_json};

/// What is one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// Each file; files that need each other in a circle together.
    File,
    /// A directory with all below it, if that fits; else split along its sub-directories.
    Directory,
    /// Files that have to do with each other.
    Dependency,
}

/// What to plan. The globs are the caller's: paths are repository-relative and `/`-separated.
pub(crate) struct PlanSpec<'a> {
    /// Whether the job wants this path (its `include` without its `exclude`).
    pub include: &'a dyn Fn(&str) -> bool,
    /// What is one task.
    pub group: Grouping,
    /// What waits for what.
    pub order: TaskOrder,
    /// The most files in one task; 0 counts as 1.
    pub max_files: usize,
    /// The most lines in one task. A single file with more is a task by itself.
    pub max_lines: u64,
    /// The most tokens in one task, which are then counted and not estimated. A single file with more is a task by itself.
    pub budget: Option<TokenLimit>,
    /// Only what is under this directory; empty or `.` for the whole tree. A trailing `/` and a leading `./` are fine.
    pub scope_dir: &'a str,
    /// Whether a wanted path is also in the part on which the job is tried.
    pub scope_files: &'a dyn Fn(&str) -> bool,
    /// What needs what, as another tool sees it; else it is read from the files.
    pub edges: Option<&'a ExternalGraph>,
    /// The tasks, where somebody else has made them; `group` then means nothing.
    pub listed: Option<&'a [TaskLine]>,
    /// Whether a file is done already: it is then in no task, and nothing waits for it.
    pub is_done: &'a dyn Fn(&str) -> bool,
}

/// What is in the tree (below the scope's directory), but not in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct UnplannedFiles {
    /// How many files, links and submodules no glob asked for.
    pub excluded: usize,
    /// How many submodules there are that a glob did ask for.
    pub submodules: usize,
    /// Symbolic links that a glob asked for, sorted: what they point to is planned under its own path, if at all.
    pub links: Vec<String>,
    /// Wanted files that hold no text (a NUL among their first 8,000 bytes, as git decides it), sorted.
    pub binary: Vec<String>,
    /// Wanted files whose path is not UTF-8, with `\u{FFFD}` for what could not be read, sorted.
    pub not_utf8: Vec<String>,
}

/// A plan, and what was not taken into it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PlanningResult {
    /// The tasks, in the order in which they are dispatched: by level, then by their first paths.
    pub plan: Plan,
    /// What a person may have expected to find in it.
    pub unplanned: UnplannedFiles,
    /// What is not as one would wish, in sentences.
    pub warnings: Vec<String>,
}

/// Plans a job over `base`, a commit or a tree.
///
/// A plan without tasks is not an error here: the caller knows which globs to name.
pub(crate) fn plan(
    repo: &gix::Repository,
    base: ObjectId,
    spec: &PlanSpec<'_>,
    cache: &mut PlanCache,
) -> Result<PlanningResult> {
    let (files, unplanned) = discover::discover(repo, base, spec, cache)?;
    let mut warnings = spec.budget.map_or_else(Vec::new, |budget| too_large(&files, budget));
    let ordered = spec.order == TaskOrder::Dependency;
    let clustered = spec.group == Grouping::Dependency && spec.listed.is_none();
    let needs = if ordered || clustered {
        needs(repo, base, spec, &files, cache, &mut warnings)?
    } else {
        vec![Vec::new(); files.len()]
    };
    if let Some(listed) = spec.listed {
        let snapshot = snapshot::TreePaths::of(repo, base)?;
        let rules =
            listed::ListOrdering { needs: &needs, by_priority: spec.order == TaskOrder::Priority };
        let (tasks, notes) = listed::tasks(listed, &files, &snapshot, rules)?;
        warnings.extend(notes);
        return Ok(PlanningResult { plan: Plan { tasks }, unplanned, warnings });
    }
    let limits = group::TaskLimits {
        files: &files,
        max_files: spec.max_files.max(1),
        max_lines: spec.max_lines,
        max_tokens: spec.budget.map_or(u64::MAX, |budget| budget.most),
    };
    let clusters = cluster::clusters(spec.group, &limits, needs);
    warnings.extend(clusters.warnings);
    let drafts = group::finish(clusters.drafts);
    let needs = if ordered { clusters.needs } else { vec![Vec::new(); files.len()] };
    let tasks = tasks(&files, &drafts, &needs)?;
    Ok(PlanningResult { plan: Plan { tasks }, unplanned, warnings })
}

/// The files that are too large for a task, each with what to do.
fn too_large(files: &[discover::PlanFile], budget: TokenLimit) -> Vec<String> {
    let large = files.iter().filter(|file| file.tokens > budget.most);
    let said = large.map(|file| {
        format!(
            "{} has about {} tokens, more than the {} that a task may have: split it, leave it out, or raise \
             `context-window` or `fill` in [plan]",
            file.path, file.tokens, budget.most
        )
    });
    said.collect()
}

/// What each file of a plan needs.
fn needs(
    repo: &gix::Repository,
    base: ObjectId,
    spec: &PlanSpec<'_>,
    files: &[discover::PlanFile],
    cache: &mut PlanCache,
    warnings: &mut Vec<String>,
) -> Result<Vec<Vec<usize>>> {
    let graph = match spec.edges {
        Some(given) => {
            let (graph, notes) = imports::given_graph(repo, base, given, files)?;
            warnings.extend(notes);
            graph
        }
        None => imports::graph(repo, base, files, cache)?,
    };
    if let Some(first) = graph.unread.first() {
        let more = graph.unread.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        warnings.push(format!(
            "what these files need is not known, since they cannot be parsed: {first}{more}"
        ));
    }
    Ok(graph.needs)
}

/// What each file needs, by paths.
pub(crate) type ImportEdges = BTreeMap<String, Vec<String>>;

/// Which file of a plan needs which, by their paths, whatever is made of that, and what a person should know of it.
pub(crate) fn import_edges(
    repo: &gix::Repository,
    base: ObjectId,
    spec: &PlanSpec<'_>,
    cache: &mut PlanCache,
) -> Result<(ImportEdges, Vec<String>)> {
    let (files, _) = discover::discover(repo, base, spec, cache)?;
    let mut warnings = Vec::new();
    let needs = needs(repo, base, spec, &files, cache, &mut warnings)?;
    let path = |number: &usize| files[*number].path.clone();
    let each = needs.iter().enumerate();
    let edges = each.map(|(from, to)| (path(&from), to.iter().map(path).collect())).collect();
    Ok((edges, warnings))
}

/// Tasks with their names, from drafts and what their files need.
fn tasks(
    files: &[discover::PlanFile],
    drafts: &[group::Draft],
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
    let after = order::between(needs, &home, drafts.len());
    let levels = order::levels(&after);
    let mut order: Vec<usize> = (0..drafts.len()).collect();
    order.sort_by_key(|number| (levels[*number], *number));
    let task = |number: usize| {
        let own = || drafts[number].files.iter().map(|f| &files[*f]);
        let mut after: Vec<_> = after[number].iter().map(|to| ids[*to].clone()).collect();
        after.sort_unstable();
        Task {
            id: ids[number].clone(),
            after,
            lines: own().map(|f| f.lines).sum(),
            tokens: own().map(|f| f.tokens).sum(),
            level: levels[number],
            vars: String::new(),
            files: own().map(|f| f.path.clone()).collect(),
        }
    };
    Ok(order.into_iter().map(task).collect())
}

/// The tokens that a file of so many bytes is taken to be: one for every 3.5 bytes, rounded up.
///
/// This is an estimate, made without a tokenizer: over large sources it is some percent low in sum, for a single file
/// it may be a third off.
pub(crate) fn estimate_tokens(bytes: u64) -> u64 {
    bytes.saturating_mul(2).div_ceil(7)
}

#[cfg(test)]
mod ordered;
#[cfg(test)]
mod tests;
