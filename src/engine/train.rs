//! Landing one after the other, judged side by side.
//!
//! Each accepted candidate is merged onto what the target will be when those before it have landed, and is judged there
//! while they are judged. Only the first of the train lands, and only if it passes; then the next is the first. When one
//! does not land, everything behind it was built on something that will not be, and is coupled anew: nothing is held
//! against a candidate but what was said of it on the real tip.

use anyhow::Result;

use super::Report;
use super::dispatcher::{Engine, Seen};
use super::landings::{self, Car, Coupled};
use super::verifications::{self, Case, Judged};
use crate::ambient;
use crate::domain::id::TaskId;
use crate::domain::machine::{Effect, Observation};
use crate::domain::state::Phase;
use crate::domain::verdict::Judgement;
use crate::store::journal::{Landing, Moved};
use std::time::Duration;

/// How long a landing that cannot happen now is left alone.
const HELD: Duration = Duration::from_secs(2);

impl Engine<'_> {
    /// Couples a candidate to the train, if there is room, and has it judged. Says whether anything was begun.
    pub(super) fn couple(&mut self, task: &TaskId, effect: &Effect) -> Result<bool> {
        let coupled = self.train.iter().any(|car| car.task == *task);
        let waits = self.held.as_ref().is_some_and(|(_, since)| since.elapsed() < HELD);
        if coupled || waits || self.train.len() >= self.policy.verifications.div_ceil(2) {
            return Ok(false);
        }
        let ctx = std::sync::Arc::clone(&self.ctx);
        let tip = ctx.tip()?;
        if let Some(commit) = landings::contained(&ctx, task, &tip)? {
            let task = task.clone();
            self.observe(Observation::Landed { task, commit, results: Vec::new() });
            self.record()?;
            return Ok(true);
        }
        if self.train.is_empty()
            && let Some(why) = landings::held(&ctx)?
        {
            self.hold_landing(why);
            return Ok(false);
        }
        self.held = None;
        let Some(state) = self.ledger.state.tasks.get(task) else { return Ok(false) };
        let (Some(candidate), attempt) = (state.candidate.clone(), state.attempt) else {
            return Ok(false);
        };
        let onto = self.train.back().map_or(tip, |car| car.new.clone());
        match landings::couple(&ctx, task, attempt, &candidate, &onto) {
            Ok(Coupled::Conflict(paths)) if self.train.is_empty() => {
                let (task, candidate) = (task.clone(), candidate.commit);
                self.observe(Observation::LandingConflict { task, candidate, onto, paths });
                self.record()?;
                Ok(true)
            }
            // With something that may not land: looked at again when it is the first.
            Ok(Coupled::Conflict(_)) => Ok(false),
            Ok(Coupled::Car(car)) => {
                self.judge_car(*car, effect.clone());
                Ok(true)
            }
            Err(error) => {
                self.hold_landing(format!("landing does not work: {error:#}"));
                Ok(false)
            }
        }
    }

    fn judge_car(&mut self, car: Car, effect: Effect) {
        if car.judged.is_none() {
            let case = car.case();
            let place = self.check_place(&format!("l.{}.{}", car.task, &car.tree.as_str()[..12]));
            let wait = self.options.wait;
            self.spawn(effect, Some(place.clone()), move |ctx| {
                let judged = verifications::judge(ctx, &case, &place, wait)?;
                Ok(Seen::Judged(Box::new(case), judged))
            });
        }
        self.train.push_back(car);
    }

    /// What was said of a car; of one that is no longer in the train it is of no use.
    pub(super) fn car_judged(&mut self, case: &Case, judged: Judged) {
        match self.train.iter_mut().find(|car| car.new == case.commit) {
            Some(car) => car.judged = Some(judged),
            None => self.litter.push(verifications::folder(&self.ctx, case)),
        }
    }

    /// Lands what has been judged, from the front, as far as it goes. Says whether anything happened.
    pub(super) fn pull(&mut self) -> Result<bool> {
        let mut pulled = false;
        while self.train.front().is_some_and(|car| car.judged.is_some()) {
            let Some(mut car) = self.train.pop_front() else { break };
            let Some(judged) = car.judged.take() else { break };
            pulled = true;
            if self.ctx.tip()? != car.onto {
                // Somebody else moved the target.
                self.derail();
                break;
            }
            let accepted = judged.verdict.judgement == Judgement::Accepted;
            let results = judged.verdict.results.clone();
            if !(accepted && judged.lines.is_empty()) {
                self.note_verdict(&car.tree, judged.lines);
                let candidate = car.candidate.commit.clone();
                let (task, tree, verdict) = (car.task.clone(), car.tree.clone(), judged.verdict);
                self.observe(Observation::LandingJudged { task, candidate, tree, verdict });
                self.record()?;
            }
            self.litter.push(verifications::folder(&self.ctx, &car.case()));
            if !(accepted && self.land(&car.landing(&self.ctx, results))?) {
                self.derail();
            }
        }
        Ok(pulled)
    }

    /// Those behind one that does not land are coupled anew. Their keepers finish; nobody listens.
    pub(super) fn derail(&mut self) {
        self.train.clear();
    }

    pub(super) fn hold_landing(&mut self, why: String) {
        let news = self.held.as_ref().is_none_or(|(old, _)| *old != why);
        self.held = Some((why.clone(), ambient::instant()));
        self.derail();
        if news {
            (self.report)(Report::Note(why));
        }
    }

    /// Moves the target and writes everything that follows from it. Says whether it did.
    fn land(&mut self, landing: &Landing) -> Result<bool> {
        // Somebody may have asked meanwhile that it does not land.
        self.apply_requests()?;
        // Or that it is tried again: then it has another candidate by now.
        let wanted = self.ledger.state.tasks.get(&landing.task).is_some_and(|s| {
            s.phase == Phase::Queued
                && s.candidate.as_ref().is_some_and(|c| c.commit == landing.candidate)
        });
        if !wanted {
            return Ok(false);
        }
        let ctx = std::sync::Arc::clone(&self.ctx);
        let queue = ctx.store.hold_queue(&ctx.manifest.target)?;
        if let Some(why) = landings::held(&ctx)? {
            self.hold_landing(why);
            return Ok(false);
        }
        self.record()?;
        let moved = ctx.store.land(&queue, landing);
        if moved.is_ok() {
            // The barrier before the target moved was one for everything that had been journaled.
            self.tell();
        }
        match moved {
            Ok(Moved::TargetMoved) => Ok(false),
            Ok(Moved::Landed) => self.landed(&queue, landing).map(|()| true),
            Err(error) => {
                self.hold_landing(format!("landing does not work: {error:#}"));
                Ok(false)
            }
        }
    }
}
