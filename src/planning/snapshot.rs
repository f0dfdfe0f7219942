//! All paths of a commit's tree: what an import may mean.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result};
use gix::ObjectId;
use gix::objs::FindExt as _;
use gix::objs::tree::EntryKind;

/// The files of a tree and the folders that they make. Symbolic links and submodules are not in it: nobody follows them.
#[derive(Debug, Default)]
pub(super) struct TreePaths {
    files: HashMap<String, ObjectId>,
    folders: HashSet<String>,
}

impl TreePaths {
    /// Reads all folders of a commit's or a tree's tree. Paths that are not UTF-8 are left out: no import names them.
    pub(super) fn of(repo: &gix::Repository, base: ObjectId) -> Result<Self> {
        let root = repo.find_object(base)?.peel_to_tree()?.id;
        let mut all = Self::default();
        all.folders.insert(String::new());
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
                        all.folders.insert(path.clone());
                        pending.push((path, entry.oid.to_owned()));
                    }
                    EntryKind::Blob | EntryKind::BlobExecutable => {
                        all.files.insert(path, entry.oid.to_owned());
                    }
                    EntryKind::Link | EntryKind::Commit => {}
                }
            }
        }
        Ok(all)
    }

    /// The blob of a file.
    pub(super) fn file(&self, path: &str) -> Option<ObjectId> {
        self.files.get(path).copied()
    }

    /// Whether there is such a file.
    pub(super) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Whether there is such a folder; the top is the empty path.
    pub(super) fn has_folder(&self, path: &str) -> bool {
        self.folders.contains(path)
    }

    /// Whether there is a folder of this name anywhere.
    pub(super) fn has_folder_named(&self, name: &str) -> bool {
        self.folders.iter().any(|path| split(path).1 == name)
    }

    /// The files whose paths end so, sorted by path.
    pub(super) fn ending(&self, end: &str) -> Vec<&str> {
        let mut found: Vec<_> =
            self.files.keys().map(String::as_str).filter(|p| p.ends_with(end)).collect();
        found.sort_unstable();
        found
    }

    /// The files of this name in any folder, sorted by path.
    pub(super) fn named(&self, name: &str) -> Vec<&str> {
        let mut found = self.ending(name);
        found.retain(|p| split(p).1 == name);
        found
    }
}

/// A path as its folder and its name.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// A path below a folder, which is empty for the top.
pub(super) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// A path without `.` and `..`, or nothing where it leaves the top.
pub(super) fn normal(path: &str) -> Option<String> {
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

/// The text of a blob; what is not UTF-8 in it is replaced.
pub(super) fn text(repo: &gix::Repository, id: ObjectId) -> Result<String> {
    let mut buf = Vec::new();
    let blob = repo.objects.find_blob(&id, &mut buf).map_err(|err| anyhow::anyhow!(err));
    let blob = blob.with_context(|| format!("cannot read a file of the base: {id}"))?;
    Ok(String::from_utf8_lossy(blob.data).into_owned())
}
