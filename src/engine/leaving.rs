//! Landings on their way: what proves them is written down, then the journal, then the disk is waited for, then the target moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use anyhow::Result;

use super::RunReport;
use super::dispatcher::Engine;
use super::hooks::{self, HookRunner};
use super::landings::{self, LandingError, entry, task};
use super::work::verification;
use crate::ambient;
use crate::domain::id::Oid;
use crate::domain::machine::Observation;
use crate::domain::queue::{EntryId, QueueInput, TrainId};
use crate::domain::state::Phase;
use crate::failpoint;
use crate::repo;
use crate::store::RefMove;
use crate::store::journal::{LandingRecord, Moved, TargetProof};

/// Landings on their way: their journal's entries are written and become durable.
#[derive(Debug)]
pub(super) struct Leaving {
    queue: TargetProof,
    /// Each is built on the one before.
    landings: Vec<LandingRecord>,
    intent: RefMove,
    /// The number of the barrier that makes them durable.
    after: u64,
}

impl Engine<'_> {
    /// Writes down what proves landings, then the journal's entries for them, and asks for the barrier before they happen.
    pub(super) fn send_off(
        &mut self,
        train: TrainId,
        entries: &[(EntryId, Oid)],
        tree: &Oid,
    ) -> std::result::Result<(), LandingError> {
        let each = self.ctx.job.queue.each;
        let shares = |of: &Oid| {
            let shares = self.line.green.get(of).map(|(case, judged)| {
                verification::results_by_task(&self.ctx, case, &judged.report.results)
            });
            shares.transpose().map(Option::unwrap_or_default).map_err(LandingError::State)
        };
        let together = shares(tree)?;
        let mut landings = Vec::with_capacity(entries.len());
        for (entry, _) in entries {
            let task = task(entry).map_err(LandingError::State)?;
            let Some(car) = self.line.car(train, entry) else {
                let lost = anyhow::anyhow!("the train of `{task}` is not there");
                return Err(LandingError::State(lost));
            };
            let own = if each { shares(&car.tree)? } else { BTreeMap::new() };
            let results = if each { own.get(&task) } else { together.get(&task) };
            landings.push(car.landing(&self.ctx, results.cloned().unwrap_or_default()));
        }
        for landing in &landings {
            // The verdict is noted once, vouched for by the chain of the task whose commit it is about.
            let Some((_, judged)) = self.line.green.get_mut(&landing.tree) else { continue };
            let lines = std::mem::take(&mut judged.lines);
            if lines.is_empty() {
                continue;
            }
            let checks = judged.report.clone();
            self.note_verdict(&landing.tree, lines);
            let (task, candidate) = (landing.task.clone(), landing.candidate.clone());
            let tree = landing.tree.clone();
            self.observe(Observation::LandingVerified { task, candidate, tree, checks });
            self.record().map_err(LandingError::State)?;
        }
        if landings.iter().all(|landing| self.is_wanted(landing)) {
            self.depart(landings)?;
        }
        Ok(())
    }

    /// Whether somebody asked meanwhile that it does not land, or that it is tried again: then it has another candidate.
    fn is_wanted(&self, landing: &LandingRecord) -> bool {
        self.ledger.state.tasks.get(&landing.task).is_some_and(|s| {
            s.phase == Phase::Queued
                && s.candidate.as_ref().is_some_and(|c| c.commit == landing.candidate)
        })
    }

    fn depart(&mut self, landings: Vec<LandingRecord>) -> std::result::Result<(), LandingError> {
        let ctx = Arc::clone(&self.ctx);
        let queue = ctx.store.hold_target(&ctx.manifest.target).map_err(LandingError::State)?;
        if let Some(why) = landings::held(&ctx, &landings).map_err(LandingError::State)? {
            self.hold_landing(why);
            return Ok(());
        }
        if let Some(why) = self.hook(ctx.job.queue.pre_land.as_deref(), &landings) {
            self.hold_landing(format!("landing waits: {why}"));
            return Ok(());
        }
        let intent = ctx.store.intend(&queue, &landings).map_err(LandingError::Landing)?;
        failpoint::hit("land.before-barrier");
        // It serves everything that was journaled, too.
        self.acknowledge();
        let after = self.barriers.request();
        self.leaving = Some(Leaving { queue, landings, intent, after });
        Ok(())
    }

    /// Tells a hook of landings. What it says if it does not succeed, or why it could not be run.
    pub(super) fn hook(
        &self,
        argv: Option<&[String]>,
        landings: &[LandingRecord],
    ) -> Option<String> {
        let (Some(argv), Some(first), Some(last)) = (argv, landings.first(), landings.last())
        else {
            return None;
        };
        let ctx = &self.ctx;
        let entries = landings.iter().map(|l| format!("{}/{}", l.run, l.task)).collect();
        let landing = hooks::HookLanding {
            target: &ctx.manifest.target,
            old: &first.old,
            new: &last.new,
            entries,
        };
        let hooks = HookRunner {
            store: &ctx.store,
            who: &ctx.identity,
            environment: &ctx.environment,
            pinned: &ctx.overlay,
        };
        hooks.run(argv, &landing).unwrap_or_else(|error| Some(format!("{error:#}")))
    }

    /// Moves the target, if what waits for it is durable, and writes everything that follows from it.
    pub(super) fn arrive(&mut self, number: u64) -> Result<()> {
        let Some(leaving) = self.leaving.take_if(|leaving| leaving.after <= number) else {
            return Ok(());
        };
        failpoint::hit("land.durable");
        self.apply_requests()?;
        let ctx = Arc::clone(&self.ctx);
        if !leaving.landings.iter().all(|landing| self.is_wanted(landing)) {
            return Ok(());
        }
        // Looked at again: the disk took its time.
        if let Some(why) = landings::held(&ctx, &leaving.landings)? {
            self.hold_landing(why);
            return Ok(());
        }
        match ctx.store.advance(&leaving.queue, &leaving.landings, Some(leaving.intent)) {
            Ok(Moved::Landed) => {
                self.held = None;
                self.landed(&leaving.queue, &leaving.landings)?;
                self.landed_from_line(&leaving.landings)
            }
            // QueueInput at the next look at it.
            Ok(Moved::TargetMoved) => Ok(()),
            Err(error) => {
                self.hold_landing(format!("landing does not work: {error:#}"));
                Ok(())
            }
        }
    }

    fn landed_from_line(&mut self, landings: &[LandingRecord]) -> Result<()> {
        let mut entries = Vec::with_capacity(landings.len());
        for landing in landings {
            self.line.inside.remove(&landing.task);
            entries.push((entry(&landing.task)?, landing.candidate.clone()));
        }
        if let (Some(first), Some(last)) = (landings.first(), landings.last()) {
            let (tip, tree) = (last.new.clone(), last.tree.clone());
            self.line.tell(QueueInput::Landed { tip, tree, entries });
            self.find_conflicts(&first.old, &last.new)?;
        }
        self.clear_folders();
        Ok(())
    }

    /// Merges what waits and touches what has landed with the target's tip, in memory: who conflicts hears of it at once. What is
    /// not seen by the paths alone, as where something was renamed, is found when its train is built.
    fn find_conflicts(&mut self, old: &Oid, tip: &Oid) -> Result<()> {
        let ctx = Arc::clone(&self.ctx);
        let repo = ctx.store.repo();
        let paths = |a: &Oid, b: &Oid| -> Result<BTreeSet<String>> {
            let changes = repo::changed_paths(repo, &repo.tree_of(a)?, &repo.tree_of(b)?)?;
            Ok(changes.into_iter().map(|change| change.path).collect())
        };
        let landed = paths(old, tip)?;
        for id in self.line.waiting() {
            let state = self.ledger.state.tasks.get(&task(&id)?);
            let Some(candidate) = state.and_then(|s| s.candidate.clone()) else { continue };
            if paths(&candidate.base, &candidate.commit)?.is_disjoint(&landed) {
                continue;
            }
            let attempt = state.map_or(0, |s| s.attempt);
            let task = task(&id)?;
            let request = landings::request(&ctx, &id, (&task, attempt), &candidate.commit)?;
            let history = ctx.history.lock().unwrap_or_else(PoisonError::into_inner);
            let paths = landings::builder(&ctx).conflict(tip, &request, &history)?;
            drop(history);
            if let Some(paths) = paths {
                let (candidate, tip) = (candidate.commit, tip.clone());
                self.line.tell(QueueInput::ConflictFound { entry: id, candidate, tip, paths });
            }
        }
        Ok(())
    }

    pub(super) fn hold_landing(&mut self, why: String) {
        let news = self.held.as_ref().is_none_or(|(old, _)| *old != why);
        self.held = Some((why.clone(), ambient::instant()));
        if news {
            (self.report)(RunReport::Note(why));
        }
    }
}
