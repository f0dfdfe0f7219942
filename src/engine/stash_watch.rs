//! The user's stash while agents of this run work: watched, put back, and reported.

use anyhow::Result;

use super::RunReport;
use super::dispatcher::Engine;
use super::in_flight::WorkId;
use super::work::attempt::AttemptOutcome;
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::Observation;
use crate::domain::state::Phase;
use crate::domain::verdict::{Candidate, Finding};
use crate::repo;
use crate::store::chain::Payload;
use crate::store::stash::{StashEntry, StashGuard, StashRepair};
use crate::store::{Store, layout};

/// The file with the notes on an attempt, in the attempt's folder of the task's chain.
const NOTES: &str = "notes";

/// The line with which git ends a conflict between a file and an entry of the stash.
const CONFLICT_MARKER: &[u8] = b">>>>>>> Stashed changes";

impl Engine<'_> {
    /// Records the user's stash before an agent starts.
    pub(super) fn guard_stash(&mut self) {
        let agent = |work: &WorkId| matches!(work, WorkId::Attempt(..) | WorkId::Evaluation(..));
        if self.stash.is_some() && self.in_flight.count(agent) > 0 {
            self.watch_stash();
            return;
        }
        match StashGuard::begin(&self.ctx.store, &self.ctx.run) {
            Ok(guard) => self.stash = Some(guard),
            Err(error) => self.report_unguarded(&error),
        }
    }

    /// Takes over the record of an earlier supervisor, whose agents may have ended meanwhile.
    pub(super) fn resume_stash_guard(&mut self) {
        match StashGuard::resume(&self.ctx.store, &self.ctx.run) {
            Ok(guard) => self.stash = guard,
            Err(error) => self.report_unguarded(&error),
        }
    }

    /// Records the entries that the user has made since the last call.
    pub(super) fn watch_stash(&mut self) {
        let Some(guard) = &mut self.stash else { return };
        if let Err(error) = guard.learn(&self.ctx.store) {
            self.stash = None;
            self.report_unguarded(&error);
        }
    }

    /// Puts the user's stash back after an agent has ended, and reports that.
    pub(super) fn restore_stash(&mut self, work: &WorkId) -> StashRepair {
        let (text, branch) = match work {
            WorkId::Attempt(task, attempt) => {
                (format!("{task}: attempt {attempt}"), Some(layout::branch(&self.ctx.run, task)))
            }
            WorkId::Evaluation(task, attempt) => {
                (format!("{task}: the evaluation of attempt {attempt}"), None)
            }
            WorkId::Base | WorkId::TargetTip(_) | WorkId::Verification(..) => {
                return StashRepair::default();
            }
        };
        let repair = self.repair_stash(branch.as_deref());
        for note in notes(&text, &repair) {
            (self.report)(RunReport::Note(note));
        }
        repair
    }

    fn repair_stash(&mut self, ended_branch: Option<&str>) -> StashRepair {
        let Some(guard) = &mut self.stash else { return StashRepair::default() };
        match guard.restore(&self.ctx.store, ended_branch) {
            Ok(repair) => repair,
            Err(error) => {
                (self.report)(RunReport::Note(format!("{error:#}")));
                StashRepair::default()
            }
        }
    }

    /// Puts the user's stash back after an attempt. The attempt's record gets the notes and the
    /// entries that the agent left behind. A candidate with changes of the user's entries is marked
    /// for rejection.
    pub(super) fn restore_stash_after(
        &mut self,
        (task, attempt): (&TaskId, u32),
        outcome: &mut AttemptOutcome,
    ) -> Result<()> {
        let repair = self.restore_stash(&WorkId::Attempt(task.clone(), attempt));
        if self.stash.as_ref().is_none_or(StashGuard::is_empty) && repair.is_empty() {
            return Ok(());
        }
        let store = &self.ctx.store;
        if let Some(Observation::AttemptEnded { candidate: Some(candidate), .. }) =
            &outcome.observation
        {
            let entries = repair.restored.iter().map(|(_, entry)| entry);
            let finding = match taken_entry(store, attempt, candidate, entries)? {
                Some(finding) => Some(finding),
                None => conflict_with_stash(store, attempt, candidate)?,
            };
            if let Some(finding) = finding {
                self.stash_takers.insert((task.clone(), attempt), finding);
            }
        }
        if let Some(payload) = outcome.payload.as_mut().filter(|_| !repair.is_empty()) {
            *payload = recorded(store, payload, &format!("attempt {attempt}"), &repair)?;
        }
        Ok(())
    }

    /// Ends the watch if no agent of this run works any more.
    pub(super) fn end_stash_watch(&mut self) {
        let agent = |work: &WorkId| matches!(work, WorkId::Attempt(..) | WorkId::Evaluation(..));
        let running =
            self.in_flight.count(agent) > 0 || self.journal.state().count(&Phase::Running) > 0;
        if running || self.stash.is_none() {
            return;
        }
        let repair = self.repair_stash(None);
        for note in notes(self.ctx.run.as_str(), &repair) {
            (self.report)(RunReport::Note(note));
        }
        if let Some(guard) = self.stash.take()
            && let Err(error) = guard.end(&self.ctx.store)
        {
            (self.report)(RunReport::Note(format!("{error:#}")));
        }
    }

    fn report_unguarded(&mut self, error: &anyhow::Error) {
        let note = format!("the stash is not guarded against agents: {error:#}");
        (self.report)(RunReport::Note(note));
    }
}

/// Returns the sentences about a repair, for people.
fn notes(subject: &str, repair: &StashRepair) -> Vec<String> {
    let restored = repair.restored.iter().map(|(index, entry)| {
        format!(
            "{subject}: an entry of your stash disappeared meanwhile and is back as stash@{{{index}}}: `{}`; if you \
             dropped it yourself, run `git stash drop stash@{{{index}}}`",
            entry.message()
        )
    });
    let removed = repair.removed.iter().map(|entry| {
        format!(
            "{subject}: the agent left an entry in the stash, which was removed: `{}`; \
             `git stash apply {}` applies it",
            entry.message(),
            entry.commit
        )
    });
    restored.chain(removed).collect()
}

/// Returns the record of an attempt with the notes on the stash, and with the files of the entries
/// that the agent left behind.
fn recorded(
    store: &Store,
    payload: &Payload,
    subject: &str,
    repair: &StashRepair,
) -> Result<Payload> {
    let repo = store.repo();
    let text = notes(subject, repair).join("\n") + "\n";
    let mut grafts =
        vec![(NOTES.to_owned(), Some((repo::write_blob(repo, text.as_bytes())?, false)))];
    for (n, entry) in repair.removed.iter().enumerate() {
        let tree = repo.tree_of(&entry.commit)?;
        grafts.push((format!("stash-{n}"), Some((tree, true))));
    }
    let id = repo::edit_tree_entries(repo, &payload.id, &grafts)?;
    Ok(Payload { path: payload.path.clone(), id, is_tree: payload.is_tree })
}

/// Returns a finding if a candidate has changes of the user's entries that disappeared while its
/// attempt ran: the agent has applied them.
fn taken_entry<'a>(
    store: &Store,
    attempt: u32,
    candidate: &Candidate,
    entries: impl Iterator<Item = &'a StashEntry>,
) -> Result<Option<Finding>> {
    let repo = store.repo();
    let base = repo.tree_of(&candidate.base)?;
    for entry in entries {
        let info = repo::commit_info(repo, &entry.commit)?;
        // The parents are the commit below, the index and, with `-u`, the untracked files.
        let empty = repo::write_tree(repo, &[])?;
        let mut sources: Vec<(&Oid, &Oid)> =
            info.parents.first().map(|p| (p, &info.tree)).into_iter().collect();
        sources.extend(info.parents.get(2).map(|untracked| (&empty, untracked)));
        for (before, after) in sources {
            let after = repo.tree_of(after)?;
            for change in repo::changed_paths(repo, &repo.tree_of(before)?, &after)? {
                let path = change.path.as_str();
                let stashed = repo.entry_id(&after, path)?;
                let is_taken = stashed.is_some()
                    && repo.entry_id(&candidate.tree, path)? == stashed
                    && repo.entry_id(&base, path)? != stashed;
                if is_taken {
                    let what =
                        format!("`{path}` is as in the stash of the user (`{}`)", entry.message());
                    return Ok(Some(applied_entry(attempt, &what)));
                }
            }
        }
    }
    Ok(None)
}

/// Returns a finding if a candidate has a conflict with an entry of the stash. Git keeps an entry
/// that it could not apply cleanly, so nothing disappears.
fn conflict_with_stash(
    store: &Store,
    attempt: u32,
    candidate: &Candidate,
) -> Result<Option<Finding>> {
    let repo = store.repo();
    let base = repo.tree_of(&candidate.base)?;
    let has_marker = |tree: &Oid, path: &str| -> Result<bool> {
        let bytes = repo.read_blob_at(tree, path)?.unwrap_or_default();
        Ok(bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(CONFLICT_MARKER)))
    };
    for change in repo::changed_paths(repo, &base, &candidate.tree)? {
        let path = change.path.as_str();
        if has_marker(&candidate.tree, path)? && !has_marker(&base, path)? {
            let what = format!("`{path}` has a conflict with an entry of the stash");
            return Ok(Some(applied_entry(attempt, &what)));
        }
    }
    Ok(None)
}

fn applied_entry(attempt: u32, what: &str) -> Finding {
    let text = format!(
        "{what}: the attempt has applied an entry of the stash. The stash is not part of the task. Do not run \
         `git stash`: to set work aside, commit it on the current branch."
    );
    Finding { attempt, check: "agent".into(), text }
}
