//! The origin of a commit: from its note, or from its trailers, tree or patch after a rebase, an
//! amendment, a cherry-pick or a squash.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use serde_json::Value;

use crate::domain::id::Oid;
use crate::repo;
use crate::store::codec::{self, Trailers};
use crate::store::{Store, layout};
use crate::wire;

/// The evidence by which an origin was found, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundBy {
    /// The note on the commit itself.
    Note,
    /// The trailers of the commit's message.
    Trailers,
    /// The same tree as a commit with a note.
    Tree,
    /// The same change as a commit with a note.
    Patch,
}

impl FoundBy {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Trailers => "trailers",
            Self::Tree => "tree",
            Self::Patch => "patch",
        }
    }
}

/// A piece of work that a commit contains.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Origin {
    pub(super) by: FoundBy,
    /// The commit that landed, if it is known.
    pub(super) landed: Option<Oid>,
    /// The content of the note; made from the trailers if there is no note.
    pub(super) note: Value,
}

impl Origin {
    fn text(&self, key: &str) -> Option<&str> {
        self.note.get(key).and_then(Value::as_str)
    }

    /// Returns the name of the work: `RUN/TASK#ATTEMPT`, or the branch.
    pub(super) fn who(&self) -> String {
        match (self.text("run"), self.text("task"), self.text("branch")) {
            (Some(run), Some(task), _) => match self.note.get("attempt").and_then(Value::as_u64) {
                Some(attempt) => format!("{run}/{task}#{attempt}"),
                None => format!("{run}/{task}"),
            },
            (_, _, Some(branch)) => branch.to_owned(),
            (_, _, None) => "unknown".to_owned(),
        }
    }
}

/// The origins of all landed commits.
pub(super) struct Origins<'a> {
    store: &'a Store,
    /// The notes of each commit, one for each piece of work.
    notes: BTreeMap<Oid, Vec<Value>>,
    /// Landed commits by the work that their notes name, keyed by `work_key`.
    named: HashMap<String, Oid>,
    /// Trees and patches of landed commits, once they are needed.
    index: Option<LandedIndex>,
}

/// Landed commits, by patch and by tree.
#[derive(Default)]
struct LandedIndex {
    patches: HashMap<String, Oid>,
    trees: HashMap<Oid, Oid>,
}

impl<'a> Origins<'a> {
    pub(super) fn of(store: &'a Store) -> Result<Self> {
        let mut notes = BTreeMap::new();
        let mut named = HashMap::new();
        for (commit, text) in store.all_notes(layout::NOTES)? {
            // Damaged lines and lines of another version are skipped.
            let values =
                text.lines().filter_map(|line| wire::decode(layout::NOTES, line.as_bytes()).ok());
            let values: Vec<Value> = values.collect();
            notes.insert(commit.clone(), values.clone());
            // A note about several pieces of work was written for a rewritten commit, which is not
            // a landed commit.
            let [note] = values.as_slice() else { continue };
            let text = |key: &str| note.get(key).and_then(Value::as_str).unwrap_or_default();
            named.insert(
                work_key(text("run"), text("task"), text("branch"), text("candidate")),
                commit.clone(),
            );
            named.insert(work_key(text("run"), text("task"), text("branch"), ""), commit.clone());
        }
        Ok(Self { store, notes, named, index: None })
    }

    /// Returns the origins of a commit: none for a commit that this program did not make, several
    /// for a squash.
    pub(super) fn find(&mut self, commit: &Oid) -> Result<Vec<Origin>> {
        let found = self.origins_in_notes(FoundBy::Note, commit);
        if !found.is_empty() {
            return Ok(found);
        }
        let info = repo::commit_info(self.store.repo(), commit)?;
        let mut found = Vec::new();
        for trailers in quoted_trailers(&info.message) {
            let get = |key: &str| trailers.get(key).copied().unwrap_or_default();
            let (run, task, branch) =
                (get("Harness-Run"), get("Harness-Task"), get("Harness-Branch"));
            let exact = work_key(run, task, branch, get("Harness-Work"));
            let landed =
                self.named.get(&exact).or_else(|| self.named.get(&work_key(run, task, branch, "")));
            match landed {
                Some(landed) => found.extend(self.origins_in_notes(FoundBy::Trailers, landed)),
                None => found.push(Origin {
                    by: FoundBy::Trailers,
                    landed: None,
                    note: note_from_trailers(&trailers),
                }),
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
        let change = patch(self.store, &info.tree, info.parents.first())?;
        let LandedIndex { patches, trees } = self.index()?;
        let same = trees.get(&info.tree).map(|landed| (FoundBy::Tree, landed.clone()));
        let same =
            same.or_else(|| patches.get(&change?).map(|landed| (FoundBy::Patch, landed.clone())));
        Ok(same.map_or_else(Vec::new, |(by, landed)| self.origins_in_notes(by, &landed)))
    }

    /// Returns the origins in the notes of a commit.
    fn origins_in_notes(&self, by: FoundBy, landed: &Oid) -> Vec<Origin> {
        let notes = self.notes.get(landed).map_or(&[][..], Vec::as_slice);
        let origin = |note: &Value| Origin { by, landed: Some(landed.clone()), note: note.clone() };
        notes.iter().map(origin).collect()
    }

    fn index(&mut self) -> Result<&LandedIndex> {
        if self.index.is_none() {
            let mut index = LandedIndex::default();
            for commit in self.notes.keys() {
                // A note can outlive its commit.
                let Ok(info) = repo::commit_info(self.store.repo(), commit) else { continue };
                index.trees.insert(info.tree.clone(), commit.clone());
                if let Some(change) = patch(self.store, &info.tree, info.parents.first())? {
                    index.patches.insert(change, commit.clone());
                }
            }
            self.index = Some(index);
        }
        Ok(self.index.get_or_insert_default())
    }
}

fn work_key(run: &str, task: &str, branch: &str, candidate: &str) -> String {
    // Names contain no line break.
    [run, task, branch, candidate].join("\n")
}

/// Returns the trailers of a message and of every message that it quotes: `git merge --squash`
/// quotes the squashed messages, indented.
fn quoted_trailers(message: &str) -> Vec<Trailers<'_>> {
    let ours = |map: &Trailers<'_>| {
        (map.has("Harness-Run") && map.has("Harness-Task")) || map.has("Harness-Branch")
    };
    let own = codec::trailers(message);
    if ours(&own) {
        return vec![own];
    }
    let mut found = Vec::new();
    let mut block = Trailers::default();
    for line in message.lines().chain([""]) {
        match line.trim().split_once(": ").filter(|(key, _)| key.starts_with("Harness-")) {
            Some((key, value)) => block.push(key, value),
            None if ours(&block) => found.push(std::mem::take(&mut block)),
            None => block = Trailers::default(),
        }
    }
    found
}

fn note_from_trailers(trailers: &Trailers<'_>) -> Value {
    let pairs = [
        ("run", "Harness-Run"),
        ("task", "Harness-Task"),
        ("branch", "Harness-Branch"),
        ("candidate", "Harness-Work"),
    ];
    let mut note = serde_json::Map::new();
    for (key, trailer) in pairs {
        if let Some(value) = trailers.get(trailer) {
            note.insert(key.into(), Value::from(*value));
        }
    }
    if let Some(attempt) = trailers.get("Harness-Attempt").and_then(|n| n.parse::<u64>().ok()) {
        note.insert("attempt".into(), attempt.into());
    }
    Value::Object(note)
}

/// Returns the change of a commit without line numbers, like `git patch-id`. Returns `None` for an
/// empty change and for a commit without a parent.
fn patch(store: &Store, tree: &Oid, parent: Option<&Oid>) -> Result<Option<String>> {
    let Some(parent) = parent else { return Ok(None) };
    let diff = repo::unified_diff(store.repo(), &store.repo().tree_of(parent)?, tree)?;
    let lines = diff.lines().filter(|line| !line.starts_with("@@") && !line.starts_with("index "));
    // Context lines are left out: they differ when the surroundings of the change differ.
    let change: String = lines
        .filter(|line| !line.starts_with(' '))
        .flat_map(|line| line.chars().filter(|c| !c.is_whitespace()).chain(['\n']))
        .collect();
    Ok((!change.is_empty()).then_some(change))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_of_squashed_commits_are_found() {
        let message = "Squashed commit of the following:\n\ncommit 1234\nAuthor: a\n\n    one\n\n    \
                       Harness-Run: r-1\n    Harness-Task: a\n    Harness-Attempt: 2\n\ncommit 5678\n\n    two\n\n    \
                       Harness-Branch: fix\n    Harness-Work: 9\n";
        let found = quoted_trailers(message);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0]["Harness-Task"], found[1]["Harness-Branch"]), ("a", "fix"));
        assert_eq!(note_from_trailers(&found[0])["attempt"], 2);
        assert!(quoted_trailers("a title\n\nHarness-Run: r-1\n").is_empty());
        assert_eq!(quoted_trailers("a title\n\nHarness-Run: r-1\nHarness-Task: t\n").len(), 1);
    }
}
