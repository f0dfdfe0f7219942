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
use crate::failpoint;
use crate::store::Move;
use crate::store::journal::{Landing, Moved, QueueProof};
use crate::verify::Stage;
use std::time::Duration;

/// How long a landing that cannot happen now is left alone.
const HELD: Duration = Duration::from_secs(2);

/// Landings on their way: their journal's entries are written and become durable.
#[derive(Debug)]
pub(super) struct Leaving {
    queue: QueueProof,
    /// Each is built on the one before.
    landings: Vec<Landing>,
    intent: Move,
    /// The number of the barrier that makes them durable.
    after: u64,
}

impl Engine<'_> {
    /// Couples a candidate to the train, if there is room, and has it judged. Says whether anything was begun.
    pub(super) fn couple(&mut self, task: &TaskId, effect: &Effect) -> Result<bool> {
        let leaving = self.leaving.as_ref().map_or(&[][..], |leaving| &leaving.landings);
        let coupled = self.train.iter().any(|car| car.task == *task)
            || leaving.iter().any(|landing| landing.task == *task);
        let waits = self.held.as_ref().is_some_and(|(_, since)| since.elapsed() < HELD);
        if coupled || waits || self.train.len() >= self.policy.verifications {
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
        let first = self.train.is_empty() && self.leaving.is_none();
        self.held = None;
        let Some(state) = self.ledger.state.tasks.get(task) else { return Ok(false) };
        let (Some(candidate), attempt) = (state.candidate.clone(), state.attempt) else {
            return Ok(false);
        };
        let left = self.leaving.as_ref().and_then(|leaving| leaving.landings.last());
        let behind = self.train.back().map(|car| &car.new).or(left.map(|landing| &landing.new));
        let onto = behind.cloned().unwrap_or(tip);
        match landings::couple(&ctx, task, attempt, &candidate, &onto) {
            Ok(Coupled::Conflict(paths)) if first => {
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
            let key = format!("l.{}.{}", car.task, &car.tree.as_str()[..12]);
            let place = self.check_place(&key, Stage::Landing);
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

    /// Sends off what has been judged, from the front, as far as it goes. Says whether anything happened.
    pub(super) fn pull(&mut self) -> Result<bool> {
        if self.leaving.is_some() || self.train.front().is_none_or(|car| car.judged.is_none()) {
            return Ok(false);
        }
        let mut onto = self.ctx.tip()?;
        let mut landings: Vec<Landing> = Vec::new();
        while let Some(car) = self.train.front() {
            let Some(judged) = &car.judged else { break };
            let accepted = judged.verdict.judgement == Judgement::Accepted;
            if !accepted && !landings.is_empty() {
                // Held against it only when those before it have landed.
                break;
            }
            let Some(mut car) = self.train.pop_front() else { break };
            let Some(judged) = car.judged.take() else { break };
            if onto != car.onto {
                // Somebody else moved the target.
                self.derail();
                break;
            }
            let results = judged.verdict.results.clone();
            if !(accepted && judged.lines.is_empty()) {
                self.note_verdict(&car.tree, judged.lines);
                let candidate = car.candidate.commit.clone();
                let (task, tree, verdict) = (car.task.clone(), car.tree.clone(), judged.verdict);
                self.observe(Observation::LandingJudged { task, candidate, tree, verdict });
                self.record()?;
            }
            self.litter.push(verifications::folder(&self.ctx, &car.case()));
            let landing = car.landing(&self.ctx, results);
            if !(accepted && self.is_wanted(&landing)) {
                self.derail();
                break;
            }
            onto = car.new;
            landings.push(landing);
        }
        if !landings.is_empty() {
            self.depart(landings)?;
        }
        Ok(true)
    }

    /// Whether somebody asked meanwhile that it does not land, or that it is tried again: then it has another candidate.
    fn is_wanted(&self, landing: &Landing) -> bool {
        self.ledger.state.tasks.get(&landing.task).is_some_and(|s| {
            s.phase == Phase::Queued
                && s.candidate.as_ref().is_some_and(|c| c.commit == landing.candidate)
        })
    }

    /// Writes the journal's entries for landings and asks for the barrier before they happen.
    fn depart(&mut self, landings: Vec<Landing>) -> Result<()> {
        let ctx = std::sync::Arc::clone(&self.ctx);
        let queue = ctx.store.hold_queue(&ctx.manifest.target)?;
        if let Some(why) = landings::held(&ctx, &landings)? {
            self.hold_landing(why);
            return Ok(());
        }
        match ctx.store.intend(&queue, &landings) {
            Ok(intent) => {
                failpoint::hit("land.before-barrier");
                // It serves everything that was journaled, too.
                self.acknowledge();
                let after = self.barriers.ask();
                self.leaving = Some(Leaving { queue, landings, intent, after });
            }
            Err(error) => self.hold_landing(format!("landing does not work: {error:#}")),
        }
        Ok(())
    }

    /// Moves the target, if what waits for it is durable, and writes everything that follows from it.
    pub(super) fn arrive(&mut self, number: u64) -> Result<()> {
        let Some(leaving) = self.leaving.take_if(|leaving| leaving.after <= number) else {
            return Ok(());
        };
        failpoint::hit("land.durable");
        self.apply_requests()?;
        let ctx = std::sync::Arc::clone(&self.ctx);
        if !leaving.landings.iter().all(|landing| self.is_wanted(landing)) {
            self.derail();
            return Ok(());
        }
        // Looked at again: the disk took its time.
        if let Some(why) = landings::held(&ctx, &leaving.landings)? {
            self.hold_landing(why);
            return Ok(());
        }
        match ctx.store.advance(&leaving.queue, &leaving.landings, Some(leaving.intent)) {
            Ok(Moved::Landed) => self.landed(&leaving.queue, &leaving.landings),
            Ok(Moved::TargetMoved) => {
                self.derail();
                Ok(())
            }
            Err(error) => {
                self.hold_landing(format!("landing does not work: {error:#}"));
                Ok(())
            }
        }
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
}
