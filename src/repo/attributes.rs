//! The `.gitattributes` files of trees.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};

use super::encoding::blob_mentions_encoding;
use super::{Repo, object_id, oid, tree};
use crate::domain::id::Oid;

/// The name of a file with attributes.
const NAME: &[u8] = b".gitattributes";

/// The largest number of folders that are remembered.
const MAX_FOLDERS: usize = 200_000;

/// The paths and blobs of the files below one folder.
type FolderFiles = Arc<[(BString, ObjectId)]>;

/// Finds the `.gitattributes` files of trees. Folders that were read before are not read again: two
/// trees of one history share most of their folders.
#[derive(Debug, Default)]
pub(crate) struct AttributeFiles {
    folders: Mutex<HashMap<ObjectId, FolderFiles>>,
    /// True for each blob that was read and names an encoding.
    encodings: Mutex<HashMap<ObjectId, bool>>,
}

impl AttributeFiles {
    /// Returns the files of a commit's tree with their paths, in the order of the tree. Git ignores
    /// links.
    pub(crate) fn of(&self, repo: &Repo, commit: &Oid) -> Result<Vec<(BString, Oid)>> {
        let local = repo.local();
        let root = tree::peel_to_tree(&local, object_id(commit)?)?;
        let files = self.in_tree(&local, root)?;
        // A name that git refuses to check out, such as `..`, has no attributes either.
        let files = files.iter().filter(|(path, _)| tree::check_path(path).is_ok());
        Ok(files.map(|(path, id)| (path.clone(), oid(*id))).collect())
    }

    /// Returns the files of a tree that name an encoding. A blob is read once.
    pub(super) fn with_encoding(
        &self,
        local: &gix::Repository,
        root: ObjectId,
    ) -> Result<Vec<ObjectId>> {
        let files = self.in_tree(local, root)?;
        let mut known = self.encodings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for (_, id) in files.iter() {
            let mentions = match known.get(id) {
                Some(mentions) => *mentions,
                None => *known.entry(*id).or_insert(blob_mentions_encoding(local, *id)?),
            };
            found.extend(mentions.then_some(*id));
        }
        Ok(found)
    }

    /// Returns the files of a tree, with all names.
    fn in_tree(&self, local: &gix::Repository, root: ObjectId) -> Result<FolderFiles> {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if folders.len() > MAX_FOLDERS {
            folders.clear();
        }
        below(local, &mut folders, root)
    }
}

fn below(
    local: &gix::Repository,
    folders: &mut HashMap<ObjectId, FolderFiles>,
    id: ObjectId,
) -> Result<FolderFiles> {
    if let Some(files) = folders.get(&id) {
        return Ok(Arc::clone(files));
    }
    let tree = local.find_tree(id).with_context(|| format!("cannot read a tree: {id}"))?;
    let decoded = tree.decode().with_context(|| format!("cannot read a tree: {id}"))?;
    let mut files = Vec::new();
    for entry in &decoded.entries {
        if entry.mode.is_tree() {
            for (path, blob) in below(local, folders, entry.oid.to_owned())?.iter() {
                files.push((tree::join(entry.filename, path.as_bstr()), *blob));
            }
        } else if entry.filename == BStr::new(NAME) && entry.mode.is_blob() {
            files.push((BString::from(NAME), entry.oid.to_owned()));
        }
    }
    let files: FolderFiles = files.into();
    folders.insert(id, Arc::clone(&files));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::RepoFixture;
    use super::*;

    #[test]
    fn attribute_files_are_found_in_all_folders() {
        let fx = RepoFixture::new();
        let tree = fx.tree(&[
            (".gitattributes", "a"),
            ("d/e/.gitattributes", "b"),
            ("d/f", "c"),
            ("x.gitattributes", "d"),
        ]);
        let attributes = AttributeFiles::default();
        let found = attributes.of(&fx.repo, &tree).unwrap();
        let paths: Vec<String> = found.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(paths, [".gitattributes", "d/e/.gitattributes"]);
        assert_eq!(attributes.of(&fx.repo, &tree).unwrap(), found);
    }
}
