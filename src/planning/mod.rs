//! Planning: which tasks a job is at one commit.
//!
//! A plan is made from a commit's tree alone. The work tree, the index, attributes and the machine have no say in it, so
//! the same job and commit give the same bytes everywhere: nothing here depends on the order in which threads end, on
//! a hash map's order or on the locale.
//!
//! `discover` walks the tree and measures the files, `group` makes tasks of them, `names` gives the tasks their
//! ids, and `wire` is the one written form.

mod discover;
mod group;
mod names;
mod wire;

use anyhow::Result;
use gix::ObjectId;

use crate::domain::plan::{Plan, Task};

pub use discover::line_counts;
pub use wire::{from_json, plan_id, to_json};

/// What is one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Each file.
    File,
    /// The files of one directory, without those of the directories in it; split where a limit is exceeded.
    Directory,
}

/// What to plan. The globs are the caller's: paths are repository-relative and `/`-separated.
pub struct Spec<'a> {
    /// Whether the job wants this path (its `include` without its `exclude`).
    pub include: &'a dyn Fn(&str) -> bool,
    /// What is one task.
    pub group: Group,
    /// The most files in one task of a directory; 0 counts as 1.
    pub max_files: usize,
    /// The most lines in one task of a directory. A single file with more is a task by itself.
    pub max_lines: u64,
    /// Only what is under this directory; empty or `.` for the whole tree. A trailing `/` and a leading `./` are fine.
    pub scope_dir: &'a str,
    /// Whether a wanted path is also in the part on which the job is tried.
    pub scope_files: &'a dyn Fn(&str) -> bool,
}

/// What is in the tree (below the scope's directory), but not in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeftOut {
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
pub struct Planned {
    /// The tasks, in the order of their first paths.
    pub plan: Plan,
    /// What a person may have expected to find in it.
    pub left_out: LeftOut,
}

/// Plans a job over `base`, a commit or a tree.
///
/// A plan without tasks is not an error here: the caller knows which globs to name.
///
/// # Errors
/// If an object cannot be read (the plan would then differ from machine to machine), or `scope_dir` is no directory
/// of the tree.
pub fn plan(repo: &gix::Repository, base: ObjectId, spec: &Spec<'_>) -> Result<Planned> {
    let (files, left_out) = discover::discover(repo, base, spec)?;
    let drafts = match spec.group {
        Group::File => group::by_file(files),
        Group::Directory => group::by_directory(files, spec.max_files, spec.max_lines),
    };
    let ids =
        names::task_ids(&drafts.iter().map(|d| (d.path.as_str(), d.part)).collect::<Vec<_>>())?;
    let tasks = drafts.into_iter().zip(ids).map(|(draft, id)| Task {
        id,
        after: Vec::new(),
        lines: draft.files.iter().map(|f| f.lines).sum(),
        tokens: draft.files.iter().map(|f| estimate_tokens(f.bytes)).sum(),
        level: 0,
        files: draft.files.into_iter().map(|f| f.path).collect(),
    });
    Ok(Planned { plan: Plan { tasks: tasks.collect() }, left_out })
}

/// The tokens that a file of so many bytes is taken to be: one for every 3.5 bytes, rounded up.
///
/// This is an estimate, made without a tokenizer: over large sources it is some percent low in sum, for a single file
/// it may be a third off.
#[must_use]
pub fn estimate_tokens(bytes: u64) -> u64 {
    bytes.saturating_mul(2).div_ceil(7)
}

#[cfg(test)]
mod tests;
