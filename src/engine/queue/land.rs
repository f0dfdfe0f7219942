//! The landing of a train: everything it names is on the disk, every work tree of the target can follow, and then one ref moves.

use anyhow::Result;

use super::push::Pushed;
use super::{HELD, Worker};
use crate::ambient;
use crate::domain::id::Oid;
use crate::domain::queue::{EntryId, TrainId};
use crate::engine::hooks::{self, HookRunner};
use crate::failpoint;
use crate::store::checkouts::Behind;
use crate::store::journal::Moved;
use crate::store::notes::NoteLines;
use crate::wire;
use crate::wire::notes::{BranchNote, note_line};
use crate::wire::queue::{EntryCommit, QueueEvent};

impl Worker<'_> {
    pub(super) fn land(
        &mut self,
        train: TrainId,
        onto: &Oid,
        commit: &Oid,
        tree: &Oid,
        entries: &[(EntryId, Oid)],
    ) -> Result<bool> {
        if self.held.as_ref().is_some_and(|(_, since)| since.elapsed() < HELD) {
            return Ok(false);
        }
        // A person may have committed on a branch since: then it is not what was verified.
        let names: Vec<EntryId> = entries.iter().map(|(entry, _)| entry.clone()).collect();
        if !self.meet_branches(&names)? {
            return Ok(true);
        }
        let target = self.desk.target.clone();
        let store = self.desk.store.clone();
        let proof = store.hold_target(&target)?;
        if let Some(why) = store.holds_landing(&target, onto, commit)? {
            self.hold(why);
            return Ok(false);
        }
        if let Some(why) = self.hook(false, onto, commit, entries) {
            self.hold(why);
            return Ok(false);
        }
        let (steps, notes) = self.provenance(train, commit, tree, entries)?;
        // The gate, once more: this and nothing else is what was judged.
        anyhow::ensure!(
            store.repo().tree_of(commit)? == *tree && steps.last() == Some(commit),
            "the train is not what was verified: {}",
            commit.short()
        );
        failpoint::hit("land.before-barrier");
        store.barrier()?;
        // It serves the landing before this one, too.
        self.tell_untold();
        failpoint::hit("land.durable");
        if let Some(remote) = self.options.push.clone() {
            if let Some(there) = self.remote_has.clone()
                && !store.repo().is_ancestor(&there, commit).unwrap_or(false)
            {
                // It would take back what others have there already, or what was pushed and could not land here.
                drop(proof);
                self.person = self.pull()?;
                self.meet_target()?;
                return Ok(true);
            }
            match self.push(&remote, commit)? {
                Pushed::Done => {}
                Pushed::Moved => {
                    drop(proof);
                    self.person = self.pull()?;
                    return Ok(true);
                }
                Pushed::Failed(why) => {
                    self.hold(format!("`{remote}` does not take it: {why}"));
                    return Ok(false);
                }
            }
            failpoint::hit("land.pushed");
        }
        let landed = |(entry, commit): &(EntryId, Oid)| EntryCommit {
            entry: entry.to_string(),
            commit: commit.clone(),
        };
        let event = QueueEvent::Landed {
            old: onto.clone(),
            new: commit.clone(),
            entries: entries.iter().map(landed).collect(),
        };
        let book = self.book.clone();
        let moved =
            store.advance_over_branches(&proof, (onto, commit), book.as_ref(), &event, &notes)?;
        match moved {
            Moved::TargetMoved => {
                drop(proof);
                if self.options.push.is_some() {
                    // What was pushed has landed there, whatever was asked here meanwhile.
                    self.person = self.pull()?;
                }
                self.read_book(true)?;
                self.meet_target()?;
            }
            Moved::Landed => {
                let behind = store.follow(&target, onto, commit)?;
                failpoint::hit("land.followed");
                drop(proof);
                self.history.update(store.repo(), commit, None)?;
                self.read_book(true)?;
                self.take_rules(commit)?;
                self.tell_behind(&behind, commit);
                if let Some(why) = self.hook(true, onto, commit, entries) {
                    self.note(format!("after the landing: {why}"));
                }
                self.find_conflicts(onto)?;
            }
        }
        Ok(true)
    }

    /// Tells a hook of the target's tip of a landing, before it or `after`. What it says if it does not succeed, or why it could not be run.
    fn hook(
        &self,
        after: bool,
        old: &Oid,
        new: &Oid,
        entries: &[(EntryId, Oid)],
    ) -> Option<String> {
        let rules = &self.rules;
        let queue = &rules.job.queue;
        let argv = if after { queue.post_land.as_ref() } else { queue.pre_land.as_ref() };
        let desk = &self.desk;
        let entries = entries.iter().map(|(entry, _)| entry.to_string()).collect();
        let landing = hooks::HookLanding { target: &desk.target, old, new, entries };
        let hooks = HookRunner {
            store: &desk.store,
            who: &desk.identity,
            environment: &desk.environment,
            pinned: &rules.overlay,
        };
        hooks.run(argv?, &landing).unwrap_or_else(|error| Some(format!("{error:#}")))
    }

    /// The commits that land, and a note for each: whose work it is and what has proved it.
    fn provenance(
        &self,
        train: TrainId,
        commit: &Oid,
        tree: &Oid,
        entries: &[(EntryId, Oid)],
    ) -> Result<(Vec<Oid>, NoteLines)> {
        let mut steps = Vec::with_capacity(entries.len());
        let mut next = commit.clone();
        for _ in entries {
            let parents = crate::repo::commit_info(self.desk.store.repo(), &next)?.parents;
            steps.push(next);
            match parents.into_iter().next() {
                Some(parent) => next = parent,
                None => break,
            }
        }
        steps.reverse();
        let mut notes = NoteLines::new();
        for (step, (entry, candidate)) in steps.iter().zip(entries) {
            let note = BranchNote {
                v: wire::VERSION,
                branch: entry.to_string(),
                candidate: candidate.to_string(),
                target: self.desk.target.clone(),
                train: train.0,
                verified: commit.to_string(),
                tree: tree.to_string(),
            };
            notes.insert(step.clone(), vec![note_line(&note)?]);
        }
        Ok((steps, notes))
    }

    fn hold(&mut self, why: String) {
        if self.held.as_ref().is_none_or(|(old, _)| *old != why) {
            self.note(format!("landing waits: {why}"));
        }
        self.held = Some((why, ambient::instant()));
    }

    pub(super) fn tell_behind(&mut self, behind: &[Behind], tip: &Oid) {
        for one in behind {
            self.note(one.message(tip));
        }
    }
}
