//! The user's stash while agents of a run work: it is watched and put back.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Context;
use super::in_flight::WorkId;
use super::work::attempt::AttemptOutcome;
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::Observation;
use crate::domain::verdict::{Candidate, Finding};
use crate::repo;
use crate::store::chain::Payload;
use crate::store::stash::{StashEntry, StashGuard, StashRepair};
use crate::store::{Store, layout};

/// The file with the notes on an attempt, in the attempt's folder of the task's chain.
const NOTES: &str = "notes";

/// The line with which git ends a conflict between a file and an entry of the stash.
const CONFLICT_MARKER: &[u8] = b">>>>>>> Stashed changes";

/// The user's stash while agents of a run work. The methods return notes for people.
#[derive(Debug, Default)]
pub(super) struct StashWatch {
    guard: Option<StashGuard>,
    /// The findings about attempts that took changes out of the user's stash.
    takers: BTreeMap<(TaskId, u32), Finding>,
}

impl StashWatch {
    /// Takes over the record of an earlier supervisor, whose agents may have ended meanwhile.
    pub(super) fn resume(&mut self, ctx: &Context) -> Vec<String> {
        match StashGuard::resume(&ctx.store, &ctx.run) {
            Ok(guard) => {
                self.guard = guard;
                Vec::new()
            }
            Err(error) => vec![unguarded(&error)],
        }
    }

    /// Records the user's stash before an agent starts. `beside_agents` is true if agents of this
    /// run work already.
    pub(super) fn begin(&mut self, ctx: &Context, beside_agents: bool) -> Vec<String> {
        if self.guard.is_some() && beside_agents {
            return self.learn(ctx);
        }
        match StashGuard::begin(&ctx.store, &ctx.run) {
            Ok(guard) => {
                self.guard = Some(guard);
                Vec::new()
            }
            Err(error) => vec![unguarded(&error)],
        }
    }

    /// Records the entries that the user has made since the last call.
    pub(super) fn learn(&mut self, ctx: &Context) -> Vec<String> {
        let Some(guard) = &mut self.guard else { return Vec::new() };
        let Err(error) = guard.learn(&ctx.store) else { return Vec::new() };
        self.guard = None;
        vec![unguarded(&error)]
    }

    /// Puts the user's stash back after an agent has ended.
    pub(super) fn restore(&mut self, ctx: &Context, work: &WorkId) -> Vec<String> {
        self.repair_after(ctx, work).1
    }

    /// Puts the user's stash back after an attempt. The attempt's record gets the notes and the
    /// entries that the agent left behind. A candidate with changes of the user's entries is marked
    /// for rejection.
    pub(super) fn restore_after_attempt(
        &mut self,
        ctx: &Context,
        (task, attempt): (&TaskId, u32),
        outcome: &mut AttemptOutcome,
    ) -> Result<Vec<String>> {
        let (repair, notes) = self.repair_after(ctx, &WorkId::Attempt(task.clone(), attempt));
        if self.guard.as_ref().is_none_or(StashGuard::is_empty) && repair.is_empty() {
            return Ok(notes);
        }
        let store = &ctx.store;
        if let Some(Observation::AttemptEnded { candidate: Some(candidate), .. }) =
            &outcome.observation
        {
            let entries = repair.restored.iter().map(|(_, entry)| entry);
            let finding = match taken_entry(store, attempt, candidate, entries)? {
                Some(finding) => Some(finding),
                None => conflict_with_stash(store, attempt, candidate)?,
            };
            if let Some(finding) = finding {
                self.takers.insert((task.clone(), attempt), finding);
            }
        }
        if let Some(payload) = outcome.payload.as_mut().filter(|_| !repair.is_empty()) {
            *payload = recorded(store, payload, &format!("attempt {attempt}"), &repair)?;
        }
        Ok(notes)
    }

    /// Returns the finding about an attempt that took changes out of the user's stash.
    pub(super) fn taken_by(&self, task: &TaskId, attempt: u32) -> Option<Finding> {
        self.takers.get(&(task.clone(), attempt)).cloned()
    }

    /// Puts the user's stash back for the last time, and ends the watch. No agent of the run may
    /// work any more.
    pub(super) fn end(&mut self, ctx: &Context) -> Vec<String> {
        if self.guard.is_none() {
            return Vec::new();
        }
        let (_, mut notes) = self.repair(ctx, ctx.run.as_str(), None);
        if let Some(guard) = self.guard.take()
            && let Err(error) = guard.end(&ctx.store)
        {
            notes.push(format!("{error:#}"));
        }
        notes
    }

    fn repair_after(&mut self, ctx: &Context, work: &WorkId) -> (StashRepair, Vec<String>) {
        match work {
            WorkId::Attempt(task, attempt) => {
                let branch = layout::branch(&ctx.run, task);
                self.repair(ctx, &format!("{}: attempt {attempt}", ctx.label(task)), Some(&branch))
            }
            WorkId::Evaluation(task, attempt) => {
                let subject = format!("{}: the evaluation of attempt {attempt}", ctx.label(task));
                self.repair(ctx, &subject, None)
            }
            WorkId::Base | WorkId::TargetTip(_) | WorkId::Verification(..) => Default::default(),
        }
    }

    fn repair(
        &mut self,
        ctx: &Context,
        subject: &str,
        ended_branch: Option<&str>,
    ) -> (StashRepair, Vec<String>) {
        let Some(guard) = &mut self.guard else { return Default::default() };
        match guard.restore(&ctx.store, ended_branch) {
            Ok(repair) => {
                let notes = notes(subject, &repair);
                (repair, notes)
            }
            Err(error) => (StashRepair::default(), vec![format!("{error:#}")]),
        }
    }
}

fn unguarded(error: &anyhow::Error) -> String {
    format!("the stash is not guarded against agents: {error:#}")
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
        let parts = repo::stash_parts(repo, &entry.commit, &format!("stash-{n}"))?;
        grafts.extend(parts.into_iter().map(|(name, tree)| (name, Some((tree, true)))));
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
