//! Landing: what was accepted goes through the merge queue of the target.
//!
//! Which candidates are verified together, on what, and which of them is to blame, is decided by [`crate::domain::queue`], as it
//! is for branches. It is kept in memory only: what waits to land is told by the tasks' chains, and what was said of a
//! tree is found again in its keeper's folder, so a new supervisor asks the same questions and gets the same answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::dispatcher::Engine;
use super::landings::{self, LandingError, TaskCar, entry, task};
use super::work::verification::{self, TrainMember, VerificationAssignment, VerificationResult};
use super::{RunReport, gate};
use crate::domain::id::{Oid, TaskId};
use crate::domain::machine::{Effect, Observation};
use crate::domain::queue::{
    Car, EjectReason, Entry, EntryId, EntryStatus, Queue, QueueEffect, QueueInput, QueueSettings,
    StopReason, TrainId, TrainKind,
};
use crate::domain::state::TaskState;
use crate::domain::verdict::{CheckReport, Finding, Verdict};
use crate::landing::sides;
use crate::store::layout;
use crate::verify::{self, CheckStage};

/// How long a landing that cannot happen now is left alone.
const HELD: Duration = Duration::from_secs(2);

/// How many tasks of a train are named.
const NAMED: usize = 3;

/// A train, how many of its steps are asked about, and how often they were.
type Question = (TrainId, usize, u32);

/// Candidates on their way to the target.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Nothing before the first candidate.
    pub(super) queue: Option<Queue>,
    /// The candidates that it was told of and that have not landed or left.
    pub(super) inside: BTreeMap<TaskId, Oid>,
    /// The commits of its trains, by their ids: a train can pass its commits on to another.
    cars: BTreeMap<Oid, TaskCar>,
    /// What was said of trees that pass.
    pub(super) green: BTreeMap<Oid, (VerificationAssignment, VerificationResult)>,
    /// What was said last of a task's work alone on the tip, and the tree of that.
    red: BTreeMap<TaskId, (Oid, VerificationResult)>,
    /// The questions that keepers are at, by the task in whose name they were asked.
    asked: BTreeMap<TaskId, Question>,
    /// What an earlier supervisor had verified together.
    before: Vec<Vec<TaskId>>,
    /// Folders of keepers, of use until something has landed or left.
    pub(super) folders: Vec<PathBuf>,
}

impl Line {
    /// Tells the queue what was seen.
    pub(super) fn tell(&mut self, seen: QueueInput) {
        if let Some(queue) = &mut self.queue {
            queue.apply(seen);
        }
    }

    /// An earlier supervisor had the work of these verified together.
    pub(super) fn remember(&mut self, together: Vec<TaskId>) {
        self.before.push(together);
    }

    /// Whether the target itself fails, so that nothing lands until a person has mended it.
    pub(super) fn is_stopped(&self) -> bool {
        self.queue.as_ref().and_then(Queue::stopped) == Some(StopReason::TipFails)
    }

    /// Whether that is so of this tip.
    pub(super) fn is_stopped_at(&self, tip: &Oid) -> bool {
        self.is_stopped() && self.queue.as_ref().is_some_and(|queue| queue.tip() == tip)
    }

    /// What is in no train.
    pub(super) fn waiting(&self) -> Vec<EntryId> {
        let Some(queue) = &self.queue else { return Vec::new() };
        let waits = queue.waiting().filter(|item| item.status == EntryStatus::Waiting);
        waits.map(|item| item.entry.id.clone()).collect()
    }

    /// The commits of the first steps of a train that are not on the target yet, in order.
    fn prefix(&self, train: TrainId, prefix: usize) -> Result<Vec<&TaskCar>> {
        let Some(queue) = &self.queue else { return Ok(Vec::new()) };
        let mut cars = Vec::with_capacity(prefix);
        for step in self.steps(train).iter().take(prefix) {
            let landed = queue.item(&step.entry).is_some_and(|i| i.status == EntryStatus::Landed);
            if !landed {
                let lost = || format!("the commit of `{}` is not known", step.entry);
                cars.push(self.cars.get(&step.commit).with_context(lost)?);
            }
        }
        Ok(cars)
    }

    fn steps(&self, train: TrainId) -> &[Car] {
        let mut trains = self.queue.iter().flat_map(Queue::trains);
        trains.find(|(id, _)| *id == train).map_or(&[], |(_, train)| train.cars())
    }

    /// The commit of an entry in a train.
    pub(super) fn car(&self, train: TrainId, entry: &EntryId) -> Option<&TaskCar> {
        let step = self.steps(train).iter().find(|step| step.entry == *entry)?;
        self.cars.get(&step.commit)
    }
}

impl Engine<'_> {
    /// Does what the queue owes, given the tasks that may land. Says whether anything was begun.
    pub(super) fn land(&mut self, due: &[TaskId]) -> Result<bool> {
        let waits = self.held.as_ref().is_some_and(|(_, since)| since.elapsed() < HELD);
        let idle = due.is_empty() && self.line.inside.is_empty() && !self.line.is_stopped();
        if idle || waits || self.leaving.is_some() {
            return Ok(false);
        }
        match self.carry_on(due) {
            Err(LandingError::State(error)) => Err(error),
            Err(LandingError::Landing(error)) => {
                self.hold_landing(format!("landing does not work: {error:#}"));
                Ok(false)
            }
            Ok(begun) => Ok(begun),
        }
    }

    fn carry_on(&mut self, due: &[TaskId]) -> std::result::Result<bool, LandingError> {
        let ctx = Arc::clone(&self.ctx);
        let tip = ctx.tip().map_err(LandingError::State)?;
        let mut begun = false;
        let mut open = Vec::with_capacity(due.len());
        for task in due {
            match landings::contained(&ctx, task, &tip).map_err(LandingError::State)? {
                None => open.push(task.clone()),
                Some(commit) => {
                    self.found_landed(task.clone(), commit).map_err(LandingError::State)?;
                    self.record().map_err(LandingError::State)?;
                    begun = true;
                }
            }
        }
        self.meet(&tip, &open).map_err(LandingError::State)?;
        loop {
            let owed = self.line.queue.as_ref().map_or_else(Vec::new, Queue::owed);
            let mut more = false;
            for one in owed {
                more = match one {
                    QueueEffect::Build { train, onto, entries } => {
                        self.build(train, &onto, &entries).map_err(LandingError::Landing)?;
                        true
                    }
                    QueueEffect::Verify { train, prefix, attempt, kind, .. } => {
                        let question = (train, prefix, attempt);
                        let asked = self.ask_of(question, kind).map_err(LandingError::Landing)?;
                        begun |= asked == Asked::Begun;
                        asked == Asked::Known
                    }
                    QueueEffect::Land { train, entries, tree, .. } => {
                        self.send_off(train, &entries, &tree)?;
                        return Ok(true);
                    }
                    QueueEffect::Eject { entry, candidate, reason: why } => {
                        self.eject(&entry, candidate, why).map_err(LandingError::State)?;
                        begun = true;
                        true
                    }
                };
                if more {
                    break;
                }
            }
            if !more {
                self.stop_at_tip(&tip);
                return Ok(begun);
            }
        }
    }

    /// Where the target itself fails, nothing can be said of what is put on it: nothing lands, and nobody is to blame.
    fn stop_at_tip(&mut self, tip: &Oid) {
        if self.line.is_stopped() {
            let (target, tip) = (layout::short(&self.ctx.manifest.target), tip.short());
            self.hold_landing(format!(
                "landing waits: `{target}` fails at {tip} with nothing of this run on it; commit what mends it there, and it goes on"
            ));
            // Whoever starts it again wants it looked at again.
            self.clear_folders();
        }
    }

    /// Tells the queue where the target is, who wants to land now and who does not any more.
    fn meet(&mut self, tip: &Oid, due: &[TaskId]) -> Result<()> {
        let ctx = Arc::clone(&self.ctx);
        let line = &mut self.line;
        if line.queue.as_ref().is_none_or(|queue| queue.tip() != tip) {
            let tree = ctx.store.repo().tree_of(tip)?;
            let rules = &ctx.job.queue;
            let (batch, concurrency, verify_each) = (rules.batch, rules.ahead, rules.each);
            let queue = line.queue.get_or_insert_with(|| {
                let settings =
                    QueueSettings { batch, concurrency, verify_each, ..QueueSettings::default() };
                Queue::new(settings, tip.clone(), tree.clone())
            });
            queue.fold(QueueInput::TargetMoved { tip: tip.clone(), tree: tree.clone() });
            // The run's base has passed, or the job says that it need not, and what has landed from here was proven. Where others have
            // moved the target, it is asked about before somebody is to blame.
            let ours = |tip: &Oid| {
                let mut landed = self.ledger.state.tasks.values().filter_map(|s| s.landed.as_ref());
                *tip == ctx.base || landed.any(|commit| commit == tip)
            };
            if !self.policy.base_must_pass || ours(tip) {
                queue.fold(QueueInput::TreePassed(tree));
            }
        }
        let Some(queue) = &mut line.queue else { return Ok(()) };
        let mut now = BTreeMap::new();
        let mut new = Vec::new();
        for task in due {
            let Some(state) = self.ledger.state.tasks.get(task) else { continue };
            let Some(candidate) = state.candidate.as_ref().map(|c| c.commit.clone()) else {
                continue;
            };
            if line.inside.get(task) != Some(&candidate) {
                let (id, since) = (entry(task)?, state.at);
                let (priority, after, held) = (0, Vec::new(), false);
                let candidate = candidate.clone();
                new.push(Entry { id, priority, after, since, candidate, held });
            }
            now.insert(task.clone(), candidate);
        }
        for (task, candidate) in &line.inside {
            if now.get(task) != Some(candidate) {
                queue.fold(QueueInput::Removed(entry(task)?));
                line.red.remove(task);
            }
        }
        line.inside = now;
        // The same train again, if all of it still waits: then its questions are those that were asked, and their answers are there.
        // The longest is the whole of what was bisected.
        let still = |together: &Vec<TaskId>| together.iter().all(|t| line.inside.contains_key(t));
        let before = std::mem::take(&mut line.before).into_iter().filter(still);
        let before = before.max_by_key(Vec::len).unwrap_or_default();
        let first = |new: &mut Entry| before.iter().any(|t| t.as_str() == new.id.as_str());
        let first: Vec<Entry> = new.extract_if(.., first).collect();
        // Each time together, so that they can share a train.
        for together in [first, new] {
            if !together.is_empty() {
                queue.fold(QueueInput::Added(together));
                queue.settle();
            }
        }
        queue.settle();
        let steps = queue.trains().flat_map(|(_, train)| train.cars());
        let used: BTreeSet<&Oid> = steps.map(|step| &step.commit).collect();
        line.cars.retain(|commit, _| used.contains(commit));
        if line.inside.is_empty() {
            line.green.clear();
        }
        Ok(())
    }

    /// Merges the candidates of a train one after the other, in memory.
    fn build(&mut self, train: TrainId, onto: &Oid, entries: &[(EntryId, Oid)]) -> Result<()> {
        let ctx = Arc::clone(&self.ctx);
        let mut members = Vec::with_capacity(entries.len());
        for (entry, commit) in entries {
            let task = task(entry)?;
            let Some(state) = self.ledger.state.tasks.get(&task) else { continue };
            let Some(candidate) = state.candidate.clone().filter(|c| c.commit == *commit) else {
                continue;
            };
            members.push((entry, task, state.attempt, candidate));
        }
        let requests = members.iter().map(|(entry, task, attempt, candidate)| {
            landings::request(&ctx, entry, (task, *attempt), &candidate.commit)
        });
        let requests = requests.collect::<Result<Vec<_>>>()?;
        let history = ctx.history.lock().unwrap_or_else(PoisonError::into_inner);
        let built = landings::builder(&ctx).build(onto, &requests, &history)?;
        drop(history);
        let mut onto = onto.clone();
        for Car { entry, commit, tree } in &built.cars {
            let member = members.iter().find(|(name, ..)| *name == entry);
            let Some((_, task, attempt, candidate)) = member.cloned() else { continue };
            let (new, tree) = (commit.clone(), tree.clone());
            let car = TaskCar { task, attempt, candidate, onto, new: new.clone(), tree };
            self.line.cars.insert(new.clone(), car);
            onto = new;
        }
        let (cars, conflicts) = (built.cars, built.conflicts);
        self.line.tell(QueueInput::Built { train, cars, conflicts });
        Ok(())
    }

    /// Has the first steps of a train judged, unless it is known what would be said.
    fn ask_of(&mut self, question: Question, kind: TrainKind) -> Result<Asked> {
        let (train, prefix, attempt) = question;
        let (task, case) = {
            // Before a single one is to blame, the tip itself is asked about: in its name, and with nothing of it.
            let cars = self.line.prefix(train, prefix.max(1))?;
            let Some((last, before)) = cars.split_last() else { return Ok(Asked::Later) };
            let other_tasks: Vec<TrainMember> = before.iter().map(|car| car.member()).collect();
            let queue = self.line.queue.as_ref().context("no queue")?;
            let tip = queue.tip();
            let case = if prefix == 0 {
                let tree = self.ctx.store.repo().tree_of(tip)?;
                let case = VerificationAssignment::new(
                    CheckStage::Landing,
                    None,
                    (tip.clone(), tree, tip.clone()),
                );
                VerificationAssignment { again: attempt > 1, ..case }
            } else {
                last.case(other_tasks, kind == TrainKind::Confirm)
            };
            (
                last.task.clone(),
                VerificationAssignment { rules: gate::rules(&self.ctx, tip)?, ..case },
            )
        };
        let effect = Effect::Land(task.clone());
        if self.in_flight.contains_key(&effect) || self.not_awaited.contains(&effect) {
            return Ok(Asked::Later);
        }
        let steps = verification::steps(&self.ctx, &case, "")?;
        let known = verify::known_verdict(&steps);
        if let Some(report) = known.filter(|v| v.verdict == Verdict::Passed) {
            self.ruled(&task, question, &case, VerificationResult { report, lines: Vec::new() })?;
            return Ok(Asked::Known);
        }
        let worktree = self.check_worktree(&case.key(), CheckStage::Landing);
        self.line.asked.insert(task, question);
        self.spawn_verification(effect, worktree, case);
        Ok(Asked::Begun)
    }

    /// What a keeper has said of a tree.
    pub(super) fn car_judged(
        &mut self,
        task: &TaskId,
        case: &VerificationAssignment,
        judged: VerificationResult,
    ) -> Result<()> {
        self.line.folders.push(verification::folder(&self.ctx, case));
        match self.line.asked.remove(task) {
            Some(question) => self.ruled(task, question, case, judged),
            None => Ok(()),
        }
    }

    /// What was said of what was asked in the name of a task.
    fn ruled(
        &mut self,
        task: &TaskId,
        (train, prefix, attempt): Question,
        case: &VerificationAssignment,
        judged: VerificationResult,
    ) -> Result<()> {
        let ruling = match &judged.report.verdict {
            Verdict::Passed => Verdict::Passed,
            Verdict::Errored(fault) => Verdict::Errored(fault.clone()),
            Verdict::Failed(_) => {
                if case.task.is_none() && case.again {
                    let target = layout::short(&self.ctx.manifest.target);
                    let tip = format!("`{target}` at {}", case.commit.short());
                    self.tell_findings(&tip, &judged.report);
                } else if !case.other_tasks.is_empty() {
                    self.tell_red(case);
                }
                Verdict::Failed(String::new())
            }
        };
        let green = ruling == Verdict::Passed;
        if let (Verdict::Errored(why), false) = (&ruling, case.other_tasks.is_empty()) {
            // By which of them, if by any, is found out first.
            (self.report)(RunReport::Note(format!(
                "what would land together could not be judged: {why}"
            )));
        } else if let Verdict::Errored(_) = ruling {
            // Held against nobody, but counted, and waited for: by the task in whose name it was asked.
            let state = self.ledger.state.tasks.get(task);
            let same = |s: &&TaskState| case.task.as_ref().is_none_or(|(_, of)| s.attempt == *of);
            if let Some(candidate) = state.filter(same).and_then(|s| s.candidate.clone()) {
                let (candidate, tree, checks) =
                    (candidate.commit, case.tree.clone(), judged.report.clone());
                let task = task.clone();
                self.observe(Observation::LandingVerified { task, candidate, tree, checks });
                self.record()?;
            }
        } else if case.task.is_none() {
            // What is said of the tip is about nobody's work.
        } else if green {
            self.line.green.insert(case.tree.clone(), (case.clone(), judged));
        } else if case.other_tasks.is_empty() {
            self.line.red.insert(task.clone(), (case.tree.clone(), judged));
        }
        self.line.tell(QueueInput::Verified { train, prefix, attempt, verdict: ruling });
        if green {
            // Also if that train is no more: another may come to the same tree.
            self.line.tell(QueueInput::TreePassed(case.tree.clone()));
        }
        Ok(())
    }

    fn tell_red(&mut self, case: &VerificationAssignment) {
        let members = case.other_tasks.iter().map(|m| m.task.as_str());
        let all: Vec<&str> = members.chain(case.task.as_ref().map(|(t, _)| t.as_str())).collect();
        let named = all.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = all.len().saturating_sub(NAMED);
        let named = if more > 0 { format!("{named} and {more} more") } else { named };
        (self.report)(RunReport::Note(format!(
            "{named} do not pass together: looking for the one that fails"
        )));
    }

    /// A task whose work does not land as it is.
    fn eject(&mut self, id: &EntryId, candidate: Oid, why: EjectReason) -> Result<()> {
        let task = task(id)?;
        let (seen, was) =
            (QueueInput::Ejected { entry: id.clone(), candidate: candidate.clone() }, &task);
        self.line.inside.remove(was);
        match why {
            EjectReason::Conflict { paths } => {
                let onto = self.line.queue.as_ref().context("no queue")?.tip().clone();
                let description =
                    self.told_of(&task, &candidate, &onto, &paths).unwrap_or_default();
                self.observe(Observation::LandingConflict {
                    task,
                    candidate,
                    onto,
                    paths,
                    description,
                });
            }
            EjectReason::Rejected { finding } => {
                let (tree, judged) = match self.line.red.remove(&task) {
                    Some(red) => red,
                    None => (candidate.clone(), rejected(finding)),
                };
                self.note_verdict(&tree, judged.lines);
                let checks = judged.report;
                self.observe(Observation::LandingVerified { task, candidate, tree, checks });
            }
            // Tasks wait for what they come after before they begin.
            EjectReason::Blocked { .. } => {}
        }
        self.record()?;
        self.line.tell(seen);
        self.clear_folders();
        Ok(())
    }

    /// What both sides have at paths in conflict. Where that cannot be found out, the paths alone are told.
    fn told_of(&self, task: &TaskId, commit: &Oid, onto: &Oid, paths: &[String]) -> Result<String> {
        let ctx = &self.ctx;
        let state = self.ledger.state.tasks.get(task);
        let candidate = state.and_then(|s| s.candidate.as_ref()).context("no candidate")?;
        let entry = entry(task)?;
        let attempt = state.map_or(0, |s| s.attempt);
        let request = landings::request(ctx, &entry, (task, attempt), &candidate.commit)?;
        let history = ctx.history.lock().unwrap_or_else(PoisonError::into_inner);
        let base = landings::builder(ctx).base(onto, &request, &history).ok();
        drop(history);
        let repo = ctx.store.repo();
        let versions = sides::conflict_versions(repo, base.as_ref(), onto, commit, paths)?;
        Ok(sides::describe(&versions))
    }

    /// What keepers have left of questions that nobody will ask again. A keeper that is at work keeps its folder: it has not told yet.
    pub(super) fn clear_folders(&mut self) {
        for folder in std::mem::take(&mut self.line.folders) {
            self.discard_folder(folder);
        }
    }
}

/// What became of a question.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// The answer was known.
    Known,
    /// A keeper is at it.
    Begun,
    /// It cannot be asked now.
    Later,
}

/// A verdict of which only the words are known.
fn rejected(text: String) -> VerificationResult {
    let finding = Finding { attempt: 0, check: "landing".into(), text };
    let verdict = Verdict::Failed(vec![finding]);
    VerificationResult { report: CheckReport { verdict, results: Vec::new() }, lines: Vec::new() }
}
