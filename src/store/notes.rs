//! Notes: provenance on landed commits, verdicts on trees. Each line is one JSON object, so that
//! the strategy `cat_sort_uniq` of git merges notes.
//!
//! `git notes add` loses updates when two processes run it at once (measured: after 40 successful
//! calls, 9 notes were left). This module writes a batch as one commit, by compare-and-swap.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{Expected, RefConflict, RefMove, Store};
use crate::domain::id::Oid;
use crate::repo;

/// The largest number of repetitions of a batch when another process writes notes at the same time.
const TRIES: u32 = 20;

/// The lines to add to the notes of each object.
pub type NoteLines = BTreeMap<Oid, Vec<String>>;

impl Store {
    /// Adds lines to the notes of objects. A line that is present is not added again.
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
                Err(error) if error.is::<RefConflict>() && tries < TRIES => tries += 1,
                other => return other.with_context(|| format!("cannot write notes to `{name}`")),
            }
        }
    }

    /// Returns the move that adds lines, for a transaction with other refs. Returns `None` if all
    /// lines are present. If the transaction is refused, call again, or add the lines with
    /// [`Store::add_notes`].
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
            let old_note = self.note_in(&tree, object)?;
            let (path, mut text) = match old_note {
                Some((path, text)) => (path, text),
                None => (fanned_out(object), String::new()),
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
        // One edit for the batch: the time for a batch must not grow with the number of notes.
        let tree = repo::edit_tree_entries(self.repo(), &tree, &grafts)?;
        let parents: Vec<Oid> = old.into_iter().cloned().collect();
        super::chain::state_commit(self, &tree, &parents, "notes of git-harness\n").map(Some)
    }

    /// Returns all notes: the object and the text.
    pub fn all_notes(&self, name: &str) -> Result<Vec<(Oid, String)>> {
        let Some(commit) = self.read(name)? else { return Ok(Vec::new()) };
        let tree = self.repo().tree_of(&commit)?;
        let local = self.repo().local();
        let tree = local.find_tree(gix::ObjectId::from_hex(tree.as_str().as_bytes())?)?;
        let mut notes = Vec::new();
        for entry in tree.traverse().breadthfirst.files()? {
            // The path without slashes is the object's id.
            let hex = entry.filepath.to_string().replace('/', "");
            if let Ok(object) = Oid::parse(&hex) {
                let text = local.find_blob(entry.oid)?.data.clone();
                notes.push((object, String::from_utf8_lossy(&text).into_owned()));
            }
        }
        Ok(notes)
    }

    /// Reads the note of an object, at any fan-out of the tree.
    pub fn note(&self, name: &str, object: &Oid) -> Result<Option<String>> {
        let Some(commit) = self.read(name)? else { return Ok(None) };
        let tree = self.repo().tree_of(&commit)?;
        Ok(self.note_in(&tree, object)?.map(|(_, text)| text))
    }

    fn note_in(&self, tree: &Oid, object: &Oid) -> Result<Option<(String, String)>> {
        let hex = object.as_str();
        let deeper = format!("{}/{}/{}", &hex[..2], &hex[2..4], &hex[4..]);
        for path in [fanned_out(object), hex.to_owned(), deeper] {
            if let Some(bytes) = self.repo().read_blob_at(tree, &path)? {
                return Ok(Some((path, String::from_utf8_lossy(&bytes).into_owned())));
            }
        }
        Ok(None)
    }
}

/// Returns the path of a note with one level of fan-out, which keeps each tree small for ten
/// thousand notes. Git reads notes at any fan-out.
fn fanned_out(object: &Oid) -> String {
    let hex = object.as_str();
    format!("{}/{}", &hex[..2], &hex[2..])
}
