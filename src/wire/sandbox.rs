//! The sandbox in the assignment of a keeper.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The sandbox of an assignment's commands, as far as it is the same for all assignments on this
/// machine. All paths are absolute and without links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxSpec {
    /// The program `bwrap`.
    pub program: PathBuf,
    /// The user's home. Inside, another folder is there.
    pub home: Option<PathBuf>,
    /// Folders that are empty inside.
    pub hidden: Vec<PathBuf>,
    /// Folders and files in hidden folders that can be read inside.
    pub visible: Vec<PathBuf>,
    /// Symbolic links in hidden folders that are inside as well, with their targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Folders of downloaded packages. A command's changes to them are its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<PathBuf>,
    /// The programs that mount overlays over the caches. Without overlays, the caches can only be
    /// read, and commands with a network do not see them: most programs cannot use such a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<OverlayPrograms>,
    /// Files that are empty inside.
    pub masked: Vec<PathBuf>,
    /// The folder of the user's work tree, which is empty inside but for `.git`.
    pub work_tree: Option<PathBuf>,
    /// True if the commands have the machine's network.
    pub network: bool,
    /// The hosts that a session without the machine's network reaches through the proxy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Files of the home of which the session gets copies, as paths in the home.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub home_files: Vec<String>,
    /// True if the session continues one in the same worktree, with the home that it left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_home: bool,
}

/// The programs that mount an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OverlayPrograms {
    /// The program `unshare`.
    pub unshare: PathBuf,
    /// The program `mount`.
    pub mount: PathBuf,
}
