//! The JSON of `sweep`.

use serde::Serialize;

use super::Version;

/// `sweep --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Swept<'a> {
    pub v: Version,
    pub run: &'a str,
    pub worktrees: usize,
    pub branches: usize,
    pub chains: usize,
    pub dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_free: Option<SpaceToFree<'a>>,
}

/// The `would_free` of `sweep --dry-run --json`.
#[derive(Debug, Serialize)]
pub(crate) struct SpaceToFree<'a> {
    pub bytes: u64,
    pub worktrees: Vec<SweepableWorktree<'a>>,
    pub refs: Vec<&'a str>,
}

/// A worktree of `would_free`.
#[derive(Debug, Serialize)]
pub(crate) struct SweepableWorktree<'a> {
    pub path: &'a str,
    pub bytes: u64,
}
