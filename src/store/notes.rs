//! Notes: provenance on landed commits, verdicts on trees. One JSON object a line, so that `cat_sort_uniq` merges them.
//!
//! `git notes add` loses updates when two run at once (measured: 40 calls, all successful, 9 notes); these go through
//! compare-and-swap, one commit for a batch.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{Expected, Lost, RefMove, Store};
use crate::domain::id::Oid;
use crate::repo;

/// How often a batch is tried again when another process wrote notes at the same moment.
const TRIES: u32 = 20;

/// NoteLines to add: which object, which line.
pub type NoteLines = BTreeMap<Oid, Vec<String>>;

impl Store {
    /// Adds lines to the notes of objects. A line that is there already is not added again.
    pub fn add_notes(&self, name: &str, lines: &NoteLines) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            let old = self.read(name)?;
            let Some(commit) = self.notes_commit(old.as_ref(), lines)? else { return Ok(()) };
            let expected = Expected::from_read(old);
            match self.transact_in_bulk(&[RefMove::to(name.to_owned(), commit, expected)]) {
                Err(error) if error.is::<Lost>() && tries < TRIES => tries += 1,
                other => return other.with_context(|| format!("cannot write notes to `{name}`")),
            }
        }
    }

    /// The move that adds lines, if any of them is new: for a transaction with other refs. When that is refused,
    /// [`Store::add_notes`] does it.
    pub fn notes_move(&self, name: &str, lines: &NoteLines) -> Result<Option<RefMove>> {
        if lines.is_empty() {
            return Ok(None);
        }
        let old = self.read(name)?;
        let commit = self.notes_commit(old.as_ref(), lines)?;
        Ok(commit.map(|commit| RefMove::to(name.to_owned(), commit, Expected::from_read(old))))
    }

    fn notes_commit(&self, old: Option<&Oid>, lines: &NoteLines) -> Result<Option<Oid>> {
        let tree = match old {
            Some(commit) => self.repo().tree_of(commit)?,
            None => repo::write_tree(self.repo(), &[])?,
        };
        let mut grafts: Vec<repo::Graft> = Vec::with_capacity(lines.len());
        let mut changed = false;
        for (object, new) in lines {
            let found = self.note_in(&tree, object)?;
            let (path, mut text) = match found {
                Some((path, text)) => (path, text),
                None => (fanned(object), String::new()),
            };
            for line in new {
                if !text.lines().any(|l| l == line) {
                    text.push_str(line);
                    text.push('\n');
                    changed = true;
                }
            }
            let blob = repo::write_blob(self.repo(), text.as_bytes())?;
            grafts.push((path, Some((blob, false))));
        }
        if !changed {
            return Ok(None);
        }
        // Notes become many: a look at each of them for each that is added would take over in the end.
        let tree = repo::edit_tree_entries(self.repo(), &tree, &grafts)?;
        let parents: Vec<Oid> = old.into_iter().cloned().collect();
        super::chain::state_commit(self, &tree, &parents, "notes of git-harness\n").map(Some)
    }

    /// All notes: which object, and what is noted on it.
    pub fn all_notes(&self, name: &str) -> Result<Vec<(Oid, String)>> {
        let Some(commit) = self.read(name)? else { return Ok(Vec::new()) };
        let tree = self.repo().tree_of(&commit)?;
        let local = self.repo().local();
        let tree = local.find_tree(gix::ObjectId::from_hex(tree.as_str().as_bytes())?)?;
        let mut found = Vec::new();
        for entry in tree.traverse().breadthfirst.files()? {
            // The path without its fan-out is the object.
            let hex = entry.filepath.to_string().replace('/', "");
            if let Ok(object) = Oid::parse(&hex) {
                let text = local.find_blob(entry.oid)?.data.clone();
                found.push((object, String::from_utf8_lossy(&text).into_owned()));
            }
        }
        Ok(found)
    }

    /// The note on an object, whatever fan-out its tree has.
    pub fn note(&self, name: &str, object: &Oid) -> Result<Option<String>> {
        let Some(commit) = self.read(name)? else { return Ok(None) };
        let tree = self.repo().tree_of(&commit)?;
        Ok(self.note_in(&tree, object)?.map(|(_, text)| text))
    }

    fn note_in(&self, tree: &Oid, object: &Oid) -> Result<Option<(String, String)>> {
        let hex = object.as_str();
        let deeper = format!("{}/{}/{}", &hex[..2], &hex[2..4], &hex[4..]);
        for path in [fanned(object), hex.to_owned(), deeper] {
            if let Some(bytes) = self.repo().read_blob_at(tree, &path)? {
                return Ok(Some((path, String::from_utf8_lossy(&bytes).into_owned())));
            }
        }
        Ok(None)
    }
}

/// Git reads notes at any fan-out; one level keeps every tree small for some ten thousand notes.
fn fanned(object: &Oid) -> String {
    let hex = object.as_str();
    format!("{}/{}", &hex[..2], &hex[2..])
}
