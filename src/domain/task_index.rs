//! The index over the states of a run's tasks.
//!
//! The machine asks at every step how many tasks run, which may start and what was spent. The fold
//! keeps the answers up to date, so that a step visits only the tasks that it changes.

use std::collections::{BTreeMap, BTreeSet};

use super::id::{Oid, Timestamp};
use super::phase::Phase;
use super::session::{Cost, Spend, Tokens};
use super::task_state::TaskState;

/// The position of a task in plan order. The parts of a split task follow the task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlanPosition {
    /// The position in the pinned plan of the task, or of the task that it is a part of.
    index: usize,
    /// The number of the part at each split on the way to this task.
    parts: Vec<usize>,
    /// The number of the task's slot.
    pub(super) slot: usize,
}

impl PlanPosition {
    /// Creates the position of a task of the pinned plan.
    pub(super) fn new(index: usize) -> Self {
        Self { index, parts: Vec::new(), slot: index }
    }

    /// Returns the position of a part of this task.
    pub(super) fn part(&self, part: usize, slot: usize) -> Self {
        let mut parts = self.parts.clone();
        parts.push(part);
        Self { index: self.index, parts, slot }
    }
}

/// The state of a task's dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Some dependency has not ended.
    Waiting,
    /// All dependencies have ended. Some failed or were skipped.
    AllEnded,
    /// All dependencies are done.
    AllDone,
}

/// The part of a task's state that the index depends on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IndexedFacts {
    pub(super) phase: Phase,
    readiness: Readiness,
    has_session: bool,
    not_before: Timestamp,
    rejected: bool,
    answered: bool,
    evaluator_answered: bool,
    silent_ending: Option<String>,
    spend: Spend,
    evaluation_spend: Spend,
    /// The cause, if the task has failed.
    cause: Option<String>,
    landed: Option<Oid>,
}

impl IndexedFacts {
    pub(super) fn of(state: &TaskState, readiness: Readiness) -> Self {
        Self {
            phase: state.phase.clone(),
            readiness,
            has_session: state.session.is_some(),
            not_before: state.not_before,
            rejected: state.rejections > 0,
            answered: state.answered,
            evaluator_answered: state.evaluation.answered,
            silent_ending: state.silent_ending.clone(),
            spend: state.spend,
            evaluation_spend: state.evaluation.spend,
            cause: state.cause.as_ref().filter(|_| state.phase == Phase::Failed).cloned(),
            landed: state.landed.clone(),
        }
    }

    /// Returns the end of the task's pause. Returns `None` if the task has ended or never had a
    /// pause.
    fn wake(&self) -> Option<Timestamp> {
        (!self.phase.ended() && self.not_before > Timestamp(0)).then_some(self.not_before)
    }

    /// Returns true if the task waits for an attempt and has a session to resume.
    fn keeps_session(&self) -> bool {
        self.phase == Phase::Todo && self.has_session
    }

    /// Returns true if the task's phase and dependencies allow a start. The pause is not
    /// considered.
    fn is_startable(&self) -> bool {
        self.phase == Phase::Todo && self.readiness != Readiness::Waiting
    }
}

/// A startable task whose pause is not over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct DelayedStart {
    not_before: Timestamp,
    position: PlanPosition,
    has_session: bool,
}

/// Startable tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct StartQueue {
    /// Tasks without a session whose pause was over at the last event.
    fresh: BTreeSet<PlanPosition>,
    /// Tasks with a session whose pause was over at the last event.
    resumable: BTreeSet<PlanPosition>,
    /// Tasks whose pause was not over at the last event, by its end.
    delayed: BTreeSet<DelayedStart>,
}

impl StartQueue {
    fn ready(&mut self, has_session: bool) -> &mut BTreeSet<PlanPosition> {
        if has_session { &mut self.resumable } else { &mut self.fresh }
    }

    fn insert(&mut self, position: &PlanPosition, facts: &IndexedFacts, clock: Timestamp) {
        let &IndexedFacts { has_session, not_before, .. } = facts;
        if not_before <= clock {
            self.ready(has_session).insert(position.clone());
        } else {
            let position = position.clone();
            self.delayed.insert(DelayedStart { not_before, position, has_session });
        }
    }

    fn remove(&mut self, position: &PlanPosition, facts: &IndexedFacts, clock: Timestamp) {
        let &IndexedFacts { has_session, not_before, .. } = facts;
        if not_before <= clock {
            self.ready(has_session).remove(position);
        } else {
            let position = position.clone();
            self.delayed.remove(&DelayedStart { not_before, position, has_session });
        }
    }

    /// Moves the tasks whose pause is over to the ready ones.
    fn end_pauses(&mut self, clock: Timestamp) {
        while self.delayed.first().is_some_and(|first| first.not_before <= clock) {
            let Some(first) = self.delayed.pop_first() else { return };
            self.ready(first.has_session).insert(first.position);
        }
    }

    fn positions(&self) -> impl Iterator<Item = &PlanPosition> {
        let delayed = self.delayed.iter().map(|start| &start.position);
        self.fresh.iter().chain(&self.resumable).chain(delayed)
    }
}

/// A sum of spends. Its numbers are wider than those of a [`Spend`]: they never saturate, so each
/// spend can be subtracted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SpendSum([u128; 9]);

impl SpendSum {
    fn numbers(spend: &Spend) -> [u128; 9] {
        let Tokens { input, output, cache_read, cache_write } = spend.tokens;
        [
            input.into(),
            output.into(),
            cache_read.into(),
            cache_write.into(),
            spend.cost.0.into(),
            spend.sessions_with_tokens.into(),
            spend.sessions_without_tokens.into(),
            spend.sessions_with_cost.into(),
            spend.sessions_without_cost.into(),
        ]
    }

    pub(super) fn add(&mut self, spend: &Spend) {
        self.0.iter_mut().zip(Self::numbers(spend)).for_each(|(sum, number)| *sum += number);
    }

    pub(super) fn subtract(&mut self, spend: &Spend) {
        self.0.iter_mut().zip(Self::numbers(spend)).for_each(|(sum, number)| *sum -= number);
    }

    /// Returns the sum. Numbers that are too large saturate.
    pub(super) fn total(&self) -> Spend {
        let long = |n: usize| u64::try_from(self.0[n]).unwrap_or(u64::MAX);
        let short = |n: usize| u32::try_from(self.0[n]).unwrap_or(u32::MAX);
        Spend {
            tokens: Tokens {
                input: long(0),
                output: long(1),
                cache_read: long(2),
                cache_write: long(3),
            },
            cost: Cost(long(4)),
            sessions_with_tokens: short(5),
            sessions_without_tokens: short(6),
            sessions_with_cost: short(7),
            sessions_without_cost: short(8),
        }
    }
}

fn add_one<K: Ord + Clone>(counts: &mut BTreeMap<K, usize>, key: Option<&K>) {
    if let Some(key) = key {
        *counts.entry(key.clone()).or_default() += 1;
    }
}

fn replace_one<K: Ord + Clone>(
    counts: &mut BTreeMap<K, usize>,
    before: Option<&K>,
    after: Option<&K>,
) {
    if before == after {
        return;
    }
    if let Some(key) = before
        && let Some(count) = counts.get_mut(key)
    {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
    add_one(counts, after);
}

/// The index over all tasks of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TaskIndex {
    /// The time of the latest event.
    clock: Timestamp,
    /// The tasks in each phase, in the order of [`Phase::ALL`].
    phases: [BTreeSet<PlanPosition>; Phase::ALL.len()],
    /// Startable tasks whose dependencies are all done.
    after_done: StartQueue,
    /// Startable tasks whose dependencies have all ended and are not all done.
    after_ended: StartQueue,
    /// Tasks that wait for an attempt and have a session to resume.
    with_sessions: BTreeSet<PlanPosition>,
    /// The ends of the pauses of open tasks, also of pauses that are over.
    wakes: BTreeSet<(Timestamp, PlanPosition)>,
    /// The spend of all attempts.
    spend: SpendSum,
    /// The spend of all evaluators.
    evaluation_spend: SpendSum,
    /// The number of tasks whose checks failed since their budgets were last reset.
    rejected: usize,
    /// The number of tasks for which the service has answered an attempt's session.
    answered: usize,
    /// The number of tasks for which the service has answered an evaluator.
    evaluator_answered: usize,
    /// The number of tasks whose last attempt was silent, by its ending.
    silent_endings: BTreeMap<String, usize>,
    /// The number of failed tasks by cause.
    causes: BTreeMap<String, usize>,
    /// The number of tasks that landed as a commit.
    landed: BTreeMap<Oid, usize>,
}

impl TaskIndex {
    /// Returns an index without tasks, with the same time.
    pub(super) fn emptied(&self) -> Self {
        Self { clock: self.clock, ..Self::default() }
    }

    /// Advances the clock to the time of an event.
    pub(super) fn advance(&mut self, at: Timestamp) {
        if at > self.clock {
            self.clock = at;
            self.after_done.end_pauses(at);
            self.after_ended.end_pauses(at);
        }
    }

    /// Adds a task.
    pub(super) fn insert(&mut self, position: &PlanPosition, facts: &IndexedFacts) {
        self.phases[facts.phase.number()].insert(position.clone());
        self.insert_start(position, facts);
        if facts.keeps_session() {
            self.with_sessions.insert(position.clone());
        }
        self.wakes.extend(facts.wake().map(|wake| (wake, position.clone())));
        self.spend.add(&facts.spend);
        self.evaluation_spend.add(&facts.evaluation_spend);
        self.rejected += usize::from(facts.rejected);
        self.answered += usize::from(facts.answered);
        self.evaluator_answered += usize::from(facts.evaluator_answered);
        add_one(&mut self.silent_endings, facts.silent_ending.as_ref());
        add_one(&mut self.causes, facts.cause.as_ref());
        add_one(&mut self.landed, facts.landed.as_ref());
    }

    /// Replaces the facts of a task.
    pub(super) fn update(
        &mut self,
        position: &PlanPosition,
        before: &IndexedFacts,
        after: &IndexedFacts,
    ) {
        if before.phase != after.phase {
            self.phases[before.phase.number()].remove(position);
            self.phases[after.phase.number()].insert(position.clone());
        }
        let start = |facts: &IndexedFacts| {
            facts.is_startable().then_some((facts.readiness, facts.not_before, facts.has_session))
        };
        if start(before) != start(after) {
            self.remove_start(position, before);
            self.insert_start(position, after);
        }
        match (before.keeps_session(), after.keeps_session()) {
            (false, true) => drop(self.with_sessions.insert(position.clone())),
            (true, false) => drop(self.with_sessions.remove(position)),
            (true, true) | (false, false) => {}
        }
        if before.wake() != after.wake() {
            before.wake().map(|wake| self.wakes.remove(&(wake, position.clone())));
            self.wakes.extend(after.wake().map(|wake| (wake, position.clone())));
        }
        if before.spend != after.spend {
            self.spend.subtract(&before.spend);
            self.spend.add(&after.spend);
        }
        if before.evaluation_spend != after.evaluation_spend {
            self.evaluation_spend.subtract(&before.evaluation_spend);
            self.evaluation_spend.add(&after.evaluation_spend);
        }
        for (count, was, is) in [
            (&mut self.rejected, before.rejected, after.rejected),
            (&mut self.answered, before.answered, after.answered),
            (&mut self.evaluator_answered, before.evaluator_answered, after.evaluator_answered),
        ] {
            *count = *count + usize::from(is) - usize::from(was);
        }
        replace_one(
            &mut self.silent_endings,
            before.silent_ending.as_ref(),
            after.silent_ending.as_ref(),
        );
        replace_one(&mut self.causes, before.cause.as_ref(), after.cause.as_ref());
        replace_one(&mut self.landed, before.landed.as_ref(), after.landed.as_ref());
    }

    fn start_queue(&mut self, facts: &IndexedFacts) -> Option<&mut StartQueue> {
        match facts.readiness {
            Readiness::AllDone if facts.is_startable() => Some(&mut self.after_done),
            Readiness::AllEnded if facts.is_startable() => Some(&mut self.after_ended),
            Readiness::Waiting | Readiness::AllDone | Readiness::AllEnded => None,
        }
    }

    fn insert_start(&mut self, position: &PlanPosition, facts: &IndexedFacts) {
        let clock = self.clock;
        if let Some(queue) = self.start_queue(facts) {
            queue.insert(position, facts, clock);
        }
    }

    fn remove_start(&mut self, position: &PlanPosition, facts: &IndexedFacts) {
        let clock = self.clock;
        if let Some(queue) = self.start_queue(facts) {
            queue.remove(position, facts, clock);
        }
    }

    pub(super) fn with_sessions(&self) -> &BTreeSet<PlanPosition> {
        &self.with_sessions
    }

    pub(super) fn has_landed(&self, commit: &Oid) -> bool {
        self.landed.contains_key(commit)
    }

    /// Returns the tasks in a phase, in plan order.
    pub(super) fn phase(&self, phase: &Phase) -> &BTreeSet<PlanPosition> {
        &self.phases[phase.number()]
    }

    fn start_queues(&self, keep_going: bool) -> impl Iterator<Item = &StartQueue> {
        std::iter::once(&self.after_done).chain(keep_going.then_some(&self.after_ended))
    }

    /// Returns all startable tasks, also those whose pause is not over, in no order. With
    /// `keep_going`, dependencies need only have ended.
    pub(super) fn startable(&self, keep_going: bool) -> impl Iterator<Item = &PlanPosition> {
        self.start_queues(keep_going).flat_map(StartQueue::positions)
    }

    /// Returns the first tasks to start, at most `limit`: in plan order, or, with `sessions_first`,
    /// those with a session before the others. `due` returns true if a task's pause is over at
    /// `now`. It is also called for ready tasks, since `now` may be before the latest event.
    pub(super) fn next_starts(
        &self,
        (keep_going, sessions_first): (bool, bool),
        now: Timestamp,
        due: impl Fn(&PlanPosition) -> bool,
        limit: usize,
    ) -> Vec<&PlanPosition> {
        let mut starts = Vec::new();
        for queue in self.start_queues(keep_going) {
            for (has_session, ready) in [(true, &queue.resumable), (false, &queue.fresh)] {
                let first = ready.iter().filter(|position| due(position)).take(limit);
                starts.extend(first.map(|position| (sessions_first && !has_session, position)));
            }
            let over = queue.delayed.iter().take_while(|start| start.not_before <= now);
            let over = over.filter(|start| due(&start.position));
            starts.extend(over.map(|s| (sessions_first && !s.has_session, &s.position)));
        }
        starts.sort_unstable();
        starts.into_iter().take(limit).map(|(_, position)| position).collect()
    }

    /// Returns the first end of a pause after `now`.
    pub(super) fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        let later = (now.after_ms(1), PlanPosition::new(0))..;
        self.wakes.range(later).map(|(wake, _)| *wake).find(|wake| *wake > now)
    }

    pub(super) fn spend(&self) -> &SpendSum {
        &self.spend
    }

    pub(super) fn evaluation_spend(&self) -> &SpendSum {
        &self.evaluation_spend
    }

    pub(super) fn rejected(&self) -> usize {
        self.rejected
    }

    pub(super) fn answered(&self) -> usize {
        self.answered
    }

    pub(super) fn evaluator_answered(&self) -> usize {
        self.evaluator_answered
    }

    pub(super) fn has_silent_ending(&self, ending: &str) -> bool {
        self.silent_endings.contains_key(ending)
    }

    /// Returns the number of failed tasks with this cause.
    pub(super) fn failed_by(&self, cause: &str) -> usize {
        self.causes.get(cause).copied().unwrap_or(0)
    }
}
