//! The paths of a commit's tree, to which imports resolve.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result};
use gix::ObjectId;
use gix::objs::FindExt as _;
use gix::objs::tree::EntryKind;

/// The files and folders of a tree. Symbolic links and submodules are left out, because imports are
/// not followed there.
#[derive(Debug, Default)]
pub(super) struct TreePaths {
    files: HashMap<String, ObjectId>,
    folders: HashSet<String>,
}

impl TreePaths {
    /// Reads the tree of a commit. Paths that are not UTF-8 are left out, because no import names
    /// them.
    pub(super) fn of(repo: &gix::Repository, base: ObjectId) -> Result<Self> {
        let root = repo.find_object(base)?.peel_to_tree()?.id;
        let mut paths = Self::default();
        paths.folders.insert(String::new());
        let mut pending = vec![(String::new(), root)];
        let mut buf = Vec::new();
        while let Some((dir, id)) = pending.pop() {
            let tree = repo.objects.find_tree(&id, &mut buf).map_err(|err| {
                anyhow::anyhow!(err)
                    .context(format!("cannot read a directory of the base: `{dir}`"))
            })?;
            for entry in &tree.entries {
                let Ok(name) = std::str::from_utf8(entry.filename) else { continue };
                let path = if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
                match entry.mode.kind() {
                    EntryKind::Tree => {
                        paths.folders.insert(path.clone());
                        pending.push((path, entry.oid.to_owned()));
                    }
                    EntryKind::Blob | EntryKind::BlobExecutable => {
                        paths.files.insert(path, entry.oid.to_owned());
                    }
                    EntryKind::Link | EntryKind::Commit => {}
                }
            }
        }
        Ok(paths)
    }

    /// Returns the blob of a file.
    pub(super) fn blob(&self, path: &str) -> Option<ObjectId> {
        self.files.get(path).copied()
    }

    /// Returns true if the tree has this file.
    pub(super) fn has_file(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Returns true if the tree has this folder. The top folder has an empty path.
    pub(super) fn has_folder(&self, path: &str) -> bool {
        self.folders.contains(path)
    }

    /// Returns true if the tree has a folder with this name at any depth.
    pub(super) fn has_folder_named(&self, name: &str) -> bool {
        self.folders.iter().any(|path| split(path).1 == name)
    }

    /// Returns the files whose paths have this suffix, sorted by path.
    pub(super) fn files_ending_in(&self, suffix: &str) -> Vec<&str> {
        let mut paths: Vec<_> =
            self.files.keys().map(String::as_str).filter(|p| p.ends_with(suffix)).collect();
        paths.sort_unstable();
        paths
    }

    /// Returns the files with this name in any folder, sorted by path.
    pub(super) fn files_named(&self, name: &str) -> Vec<&str> {
        let mut paths = self.files_ending_in(name);
        paths.retain(|p| split(p).1 == name);
        paths
    }
}

/// Splits a path into its folder and its name.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Returns the path of a name in a folder. The top folder is empty.
pub(super) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// Returns a path without `.` and `..`, or `None` if the path leaves the top folder.
pub(super) fn normalize(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Returns the text of a blob. Bytes that are not UTF-8 are replaced.
pub(super) fn text(repo: &gix::Repository, id: ObjectId) -> Result<String> {
    let mut buf = Vec::new();
    let blob = repo.objects.find_blob(&id, &mut buf).map_err(|err| anyhow::anyhow!(err));
    let blob = blob.with_context(|| format!("cannot read a file of the base: {id}"))?;
    Ok(String::from_utf8_lossy(blob.data).into_owned())
}
