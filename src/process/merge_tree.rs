//! Merges by `git merge-tree`: git's own result, with the settings that the user's git would read.
//!
//! Attributes are read from a folder of the caller, which stands for the work tree, and never from
//! a checkout. Settings are read from files only: the system's, the user's and the repository's.
//! The environment of this program has no influence, with the exception of the variables that name
//! those files and the search path for merge drivers.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::durable::unique;
use super::git::{Git, GitVersion, isolated};

/// The first version in which `git merge-tree` takes a merge base.
const WITH_MERGE_BASE: GitVersion = GitVersion { major: 2, minor: 40, patch: 0 };

/// Variables of the caller that git and merge drivers see.
pub(super) const PASSED: [&str; 3] = ["PATH", "HOME", "XDG_CONFIG_HOME"];

/// Variables of every merge.
const FIXED: [(&str, &str); 4] = [
    ("LC_ALL", "C.UTF-8"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    // A clone does not get the refs that replace objects, so a merge there would not follow them.
    ("GIT_NO_REPLACE_OBJECTS", "1"),
];

/// A merge of two commits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TreeMerge<'a> {
    /// The merge base. Without it, git finds the merge bases.
    pub base: Option<&'a str>,
    /// The commit that is merged onto.
    pub ours: &'a str,
    /// The commit that is merged.
    pub theirs: &'a str,
    /// A folder with the `.gitattributes` files that count, and nothing else.
    pub attributes: &'a Path,
    /// True if the objects of the result are kept in the repository.
    pub keep: bool,
}

/// The result of a merge by git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TreeMergeOutput {
    /// The merge succeeded. The id of the merged tree.
    Clean(String),
    /// The changes of the two sides conflict in these paths. Bytes that are not UTF-8 are replaced.
    Conflict(BTreeSet<String>),
}

/// A folder for objects that nobody needs after the merge.
struct Quarantine(PathBuf);

impl Quarantine {
    fn new(parent: &Path) -> Result<Self> {
        let path = parent.join(unique("objects"));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create the folder {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

impl Git {
    /// Returns true if this git takes a merge base for a merge.
    pub(crate) fn takes_merge_base(&self) -> bool {
        self.version() >= WITH_MERGE_BASE
    }

    /// Merges two commits.
    pub(crate) fn merge_tree(&self, merge: &TreeMerge<'_>) -> Result<TreeMergeOutput> {
        let mut env = self.user_files().clone();
        for (name, value) in FIXED {
            env.set(name, value);
        }
        env.set("GIT_DIR", self.common_dir()).set("GIT_WORK_TREE", merge.attributes);
        let mut args = vec!["--no-pager", "merge-tree", "--write-tree", "-z", "--name-only"];
        let base = merge.base.map(|base| format!("--merge-base={base}"));
        args.extend(base.as_deref());
        args.extend([merge.ours, merge.theirs]);
        let quarantine = if merge.keep { None } else { Some(Quarantine::new(self.private())?) };
        if let Some(quarantine) = &quarantine {
            env.set("GIT_OBJECT_DIRECTORY", &quarantine.0);
            env.set("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted(&self.common_dir().join("objects")));
        }
        let run =
            isolated(duct::cmd(self.exe(), &args).dir(merge.attributes).full_env(env.pairs()))
                .stdin_null()
                .stdout_capture()
                .stderr_capture()
                .run()
                .with_context(|| format!("cannot start git: {}", self.exe().display()))?;
        drop(quarantine);
        match run.status.code() {
            Some(0) => Ok(TreeMergeOutput::Clean(tree(&run.stdout)?)),
            Some(1) => Ok(TreeMergeOutput::Conflict(conflicted_paths(&run.stdout)?)),
            Some(_) | None => {
                let message = String::from_utf8_lossy(&run.stderr);
                bail!("git cannot merge {} and {}: {}", merge.ours, merge.theirs, message.trim())
            }
        }
    }
}

/// Returns the fields of git's output, each of which a NUL ends.
fn fields(output: &[u8]) -> impl Iterator<Item = &[u8]> {
    output.split(|byte| *byte == 0)
}

fn tree(output: &[u8]) -> Result<String> {
    let tree = fields(output).next().unwrap_or_default();
    String::from_utf8(tree.to_vec()).context("git printed no tree")
}

/// Returns the paths in conflict: the paths with several stages. Without such paths, returns the
/// paths in git's messages, for example if git cannot tell to which folder a file belongs.
fn conflicted_paths(output: &[u8]) -> Result<BTreeSet<String>> {
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let mut fields = fields(output).skip(1);
    let staged: BTreeSet<String> =
        fields.by_ref().take_while(|path| !path.is_empty()).map(text).collect();
    if !staged.is_empty() {
        return Ok(staged);
    }
    let mut named = BTreeSet::new();
    // A message: the number of paths, the paths, the kind, the text.
    while let Some(count) = fields.next().filter(|count| !count.is_empty()) {
        let count: usize = std::str::from_utf8(count)?.parse().context("git printed no number")?;
        let paths: Vec<String> = fields.by_ref().take(count).map(text).collect();
        let kind = fields.next().unwrap_or_default();
        fields.next();
        if kind.starts_with(b"CONFLICT") {
            named.extend(paths);
        }
    }
    Ok(named)
}

/// Quotes a path for a list that `:` separates.
fn quoted(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_bytes();
    if !bytes.contains(&b':') && !bytes.starts_with(b"\"") {
        return path.into();
    }
    let mut text = vec![b'"'];
    for byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text.push(b'"');
    OsString::from_vec(text)
}
