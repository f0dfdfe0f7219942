//! The landing of a train in git: holds, hooks, provenance, and the one transaction.

use std::path::PathBuf;

use anyhow::Result;

use super::checks::RuledEntry;
use super::git_host::GitHost;
use super::hooks::{HookLanding, HookRunner};
use super::host::{CommitOutcome, LandingCar, TrainLanding};
use super::provenance;
use super::push::PushOutcome;
use crate::domain::id::Oid;
use crate::failpoint;
use crate::job::QueueSection;
use crate::landing::finding_outcomes::fixed_ids;
use crate::store::LandingObstacle;
use crate::store::journal::{LandingMove, Moved};
use crate::store::notes::NoteLines;
use crate::wire;
use crate::wire::notes::{BranchNote, note_line};
use crate::wire::queue::QueueEvent;

/// A hook, with the entries whose job has it.
struct LandingHook {
    argv: Vec<String>,
    /// The pinned files of the job.
    pinned: Vec<(String, PathBuf)>,
    entries: Vec<String>,
}

impl GitHost<'_> {
    /// Takes the target's lock and looks for a reason to hold the landing.
    pub(super) fn prepare_landing(
        &mut self,
        landing: &TrainLanding,
    ) -> Result<Option<LandingObstacle>> {
        let (store, target) = (&self.context.store, &self.context.target);
        let proof = store.hold_target(target)?;
        if let Some(why) = store.holds_landing(target, &landing.old, &landing.new)? {
            return Ok(Some(why));
        }
        if let Some(why) = self.run_hooks(landing, true)? {
            return Ok(Some(why.into()));
        }
        self.proof = Some(proof);
        Ok(None)
    }

    /// Runs the hooks of all entries before (`pre`) or after a landing. Each hook runs once, for
    /// all entries whose job has it. Returns the messages of hooks that fail. No other pre-land
    /// hook runs after a failed one.
    pub(super) fn run_hooks(
        &mut self,
        landing: &TrainLanding,
        pre: bool,
    ) -> Result<Option<String>> {
        let hook = |queue: &QueueSection| {
            if pre { queue.pre_land.clone() } else { queue.post_land.clone() }
        };
        let mut hooks: Vec<LandingHook> = Vec::new();
        for car in &landing.cars {
            let ruled = self.runs.ruled(&car.entry)?;
            let (argv, pinned) = match (ruled.run(), &self.rules) {
                (Some(run), _) => (hook(&run.job.queue), run.overlay.clone()),
                (None, Some(rules)) => (hook(&rules.job.queue), rules.hook_files.clone()),
                (None, None) => (None, Vec::new()),
            };
            let Some(argv) = argv else { continue };
            let name = landing_name(&ruled)?;
            match hooks.iter_mut().find(|hook| hook.argv == argv && hook.pinned == pinned) {
                Some(hook) => hook.entries.push(name),
                None => hooks.push(LandingHook { argv, pinned, entries: vec![name] }),
            }
        }
        let mut failures = Vec::new();
        for LandingHook { argv, pinned, entries } in hooks {
            let context = &self.context;
            let (target, old, new) = (context.target.as_str(), &landing.old, &landing.new);
            let runner = HookRunner {
                store: &context.store,
                who: &context.identity,
                environment: &context.environment,
                pinned: &pinned,
                interrupt: self.interrupt.for_hook(pre),
            };
            let landing = HookLanding { target, old, new, entries };
            let failure = runner.run(&argv, &landing);
            failures.extend(failure.unwrap_or_else(|error| Some(format!("{error:#}"))));
            if pre && !failures.is_empty() {
                break;
            }
        }
        Ok((!failures.is_empty()).then(|| failures.join("; ")))
    }

    /// Pushes a prepared landing to the remote, if there is one, and moves the refs.
    pub(super) fn commit_landing(
        &mut self,
        landing: &TrainLanding,
        log_tip: Option<&Oid>,
        event: &QueueEvent,
    ) -> Result<CommitOutcome> {
        let notes = self.provenance(landing)?;
        if let Some(remote) = self.remote.clone() {
            match self.push(&remote, &landing.new)? {
                PushOutcome::Pushed => failpoint::hit("land.pushed"),
                PushOutcome::Moved(why) => {
                    // The pull takes the target's lock.
                    self.proof = None;
                    let expected = self.remote_tip.clone();
                    return Ok(match self.pull_remote()? {
                        Some(why) => CommitOutcome::NeedsPerson(why),
                        // Another push would fail like this push.
                        None if self.remote_tip == expected => CommitOutcome::Held(format!(
                            "`{remote}` rejects the push as if it had moved, but it has not: {why}"
                        )),
                        None => CommitOutcome::Superseded,
                    });
                }
                PushOutcome::Failed(why) => {
                    return Ok(CommitOutcome::Held(format!("`{remote}` rejects the push: {why}")));
                }
            }
        }
        let Some(proof) = &self.proof else { return Ok(CommitOutcome::Superseded) };
        let (old, new) = (&landing.old, &landing.new);
        let moved = LandingMove { old, new, log_tip, event, notes: &notes };
        match self.context.store.land(proof, &moved)? {
            Moved::Landed => Ok(CommitOutcome::Landed),
            Moved::TargetMoved => {
                self.proof = None;
                // The landing was pushed, whatever was requested here meanwhile.
                let pulled = if self.remote.is_some() { self.pull_remote()? } else { None };
                Ok(pulled.map_or(CommitOutcome::Superseded, CommitOutcome::NeedsPerson))
            }
        }
    }

    /// Returns a note for each landing commit: the author of the work, and what proves it.
    fn provenance(&mut self, landing: &TrainLanding) -> Result<NoteLines> {
        let mut notes = NoteLines::new();
        for car in &landing.cars {
            let ruled = self.runs.ruled(&car.entry)?;
            let line = match ruled.run() {
                Some(run) => provenance::task_note(run, car, landing)?,
                None => note_line(&self.branch_note(car, landing))?,
            };
            notes.insert(car.commit.clone(), vec![line]);
        }
        Ok(notes)
    }

    fn branch_note(&self, car: &LandingCar, landing: &TrainLanding) -> BranchNote {
        BranchNote {
            v: wire::VERSION,
            branch: car.entry.id.to_string(),
            candidate: car.entry.candidate.to_string(),
            target: self.context.target.clone(),
            train: landing.train.0,
            verified: landing.new.to_string(),
            tree: landing.tree.to_string(),
        }
    }
}

/// Returns the name of an entry for hooks: the branch, or `RUN/TASK`, with the ids of the findings
/// that the task has fixed.
fn landing_name(ruled: &RuledEntry) -> Result<String> {
    let name = ruled.entry.id.to_string();
    let Some((run, id)) = &ruled.task else { return Ok(name) };
    let state = run.store.task_tip(&run.run, id)?.map(|(_, state)| state);
    let candidate = state.and_then(|state| state.candidate);
    let Some(candidate) = candidate.filter(|c| c.commit == ruled.entry.candidate) else {
        return Ok(name);
    };
    let task = run.task(id)?;
    let fixed = fixed_ids(&run.store, &task, &candidate)?;
    Ok(if fixed.is_empty() { name } else { format!("{name}:{}", fixed.join(",")) })
}
