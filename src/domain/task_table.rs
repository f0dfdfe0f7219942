//! The tasks of a run: the plan and the states, with an index that every change keeps up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Index;

use super::event::TaskEvent;
use super::id::{Oid, TaskId, Timestamp};
use super::phase::Phase;
use super::plan::{Plan, Task};
use super::session::Spend;
use super::task_index::{IndexedFacts, PlanPosition, Readiness, TaskIndex};
use super::task_state::TaskState;

/// A task of the plan with its state.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    task: Task,
    state: TaskState,
    position: PlanPosition,
    /// The number of dependencies that are not done.
    undone: usize,
    /// The number of dependencies that have not ended.
    open: usize,
    /// The slots of the tasks that name this task as a dependency, in order.
    dependents: Vec<usize>,
}

impl Slot {
    fn facts(&self) -> IndexedFacts {
        let readiness = match (self.undone, self.open) {
            (0, _) => Readiness::AllDone,
            (_, 0) => Readiness::AllEnded,
            (_, _) => Readiness::Waiting,
        };
        IndexedFacts::of(&self.state, readiness)
    }
}

/// The tasks of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskTable {
    slots: Vec<Slot>,
    /// The slots by id.
    ids: BTreeMap<TaskId, usize>,
    /// The slots in plan order.
    order: BTreeSet<PlanPosition>,
    index: TaskIndex,
}

impl TaskTable {
    /// Creates the table of a plan whose tasks have no events.
    pub fn new(plan: Plan) -> Self {
        let slot = |(index, task): (usize, Task)| Slot {
            task,
            state: TaskState::default(),
            position: PlanPosition::new(index),
            undone: 0,
            open: 0,
            dependents: Vec::new(),
        };
        let slots: Vec<Slot> = plan.tasks.into_iter().enumerate().map(slot).collect();
        let ids = slots.iter().map(|slot| (slot.task.id.clone(), slot.position.slot)).collect();
        let order = slots.iter().map(|slot| slot.position.clone()).collect();
        let mut table = Self { slots, ids, order, index: TaskIndex::default() };
        table.link();
        table.rebuild();
        table
    }

    /// Returns the table with its links, counts and index computed from plan and states. For tests:
    /// the table must be equal to the one that the fold kept up to date.
    #[must_use]
    pub fn recomputed(&self) -> Self {
        let mut table = self.clone();
        table.link();
        table.rebuild();
        table
    }

    /// Computes the dependents of all tasks.
    fn link(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.dependents.clear());
        for number in 0..self.slots.len() {
            for other in self.dependencies(number) {
                self.slots[other].dependents.push(number);
            }
        }
    }

    /// Computes the counts of dependencies and the index.
    fn rebuild(&mut self) {
        for number in 0..self.slots.len() {
            self.count_dependencies(number);
        }
        self.index = self.index.emptied();
        for slot in &self.slots {
            self.index.advance(slot.state.at);
        }
        for slot in &self.slots {
            self.index.insert(&slot.position, &slot.facts());
        }
    }

    /// Returns the slots of the dependencies that are in the plan.
    fn dependencies(&self, number: usize) -> Vec<usize> {
        let after = &self.slots[number].task.after;
        after.iter().filter_map(|id| self.ids.get(id).copied()).collect()
    }

    /// Counts the open dependencies of a task. A dependency that is not in the plan never ends.
    fn count_dependencies(&mut self, number: usize) {
        let total = self.slots[number].task.after.len();
        let phases = self.dependencies(number).into_iter().map(|n| &self.slots[n].state.phase);
        let (mut done, mut ended) = (0, 0);
        for phase in phases {
            done += usize::from(*phase == Phase::Done);
            ended += usize::from(phase.ended());
        }
        let slot = &mut self.slots[number];
        (slot.undone, slot.open) = (total - done, total - ended);
    }

    /// Changes the state of a task, the index, and the counts of the task's dependents.
    fn change(&mut self, number: usize, change: impl FnOnce(&mut TaskState)) {
        let slot = &mut self.slots[number];
        let before = slot.facts();
        change(&mut slot.state);
        let after = slot.facts();
        self.index.update(&slot.position, &before, &after);
        let ends = |facts: &IndexedFacts| {
            (usize::from(facts.phase == Phase::Done), usize::from(facts.phase.ended()))
        };
        let ((was_done, had_ended), (is_done, has_ended)) = (ends(&before), ends(&after));
        if (was_done, had_ended) == (is_done, has_ended) {
            return;
        }
        let dependents = std::mem::take(&mut self.slots[number].dependents);
        for dependent in &dependents {
            let slot = &mut self.slots[*dependent];
            let before = slot.facts();
            slot.undone = slot.undone + was_done - is_done;
            slot.open = slot.open + had_ended - has_ended;
            self.index.update(&slot.position, &before, &slot.facts());
        }
        self.slots[number].dependents = dependents;
    }

    /// Folds an event of a task's chain. Ignores a task that is not in the plan.
    pub(super) fn apply(&mut self, task: &TaskId, event: &TaskEvent) {
        self.index.advance(event.at);
        if let Some(number) = self.ids.get(task) {
            self.change(*number, |state| state.apply(event));
        }
    }

    /// Advances the clock to the time of an event of the run.
    pub(super) fn advance(&mut self, at: Timestamp) {
        self.index.advance(at);
    }

    /// Sets the state of a task. Ignores a task that is not in the plan.
    pub fn set(&mut self, task: &TaskId, state: TaskState) {
        self.index.advance(state.at);
        if let Some(number) = self.ids.get(task) {
            self.change(*number, |old| *old = state);
        }
    }

    /// Sets the states of many tasks, as [`set`](Self::set) does.
    pub fn restore(&mut self, states: impl IntoIterator<Item = (TaskId, TaskState)>) {
        for (task, state) in states {
            if let Some(number) = self.ids.get(&task) {
                self.slots[*number].state = state;
            }
        }
        self.rebuild();
    }

    /// Inserts the parts of a task after the task. The task stays in the plan, so that its history
    /// stays visible, and its dependents wait for the parts. Returns false if the task is not in
    /// the plan.
    pub(super) fn split(
        &mut self,
        task: &TaskId,
        parts: &[(TaskId, Vec<String>)],
        at: Timestamp,
    ) -> bool {
        let Some(&number) = self.ids.get(task) else { return false };
        self.index.advance(at);
        for (part, task) in self.parts(task, parts).into_iter().enumerate() {
            self.insert_part(self.slots[number].position.part(part, self.slots.len()), task, at);
        }
        let ids: Vec<TaskId> = parts.iter().map(|(id, _)| id.clone()).collect();
        let mut dependents = std::mem::take(&mut self.slots[number].dependents);
        dependents.dedup();
        for dependent in dependents {
            let before = self.slots[dependent].facts();
            let after = &mut self.slots[dependent].task.after;
            after.retain(|id| id != task);
            after.extend(ids.iter().cloned());
            for part in ids.iter().filter_map(|id| self.ids.get(id)) {
                self.slots[*part].dependents.push(dependent);
            }
            self.count_dependencies(dependent);
            let slot = &self.slots[dependent];
            self.index.update(&slot.position, &before, &slot.facts());
        }
        true
    }

    fn insert_part(&mut self, position: PlanPosition, task: Task, at: Timestamp) {
        let number = position.slot;
        let state = TaskState { seq: 1, at, ..TaskState::default() };
        self.ids.insert(task.id.clone(), number);
        self.order.insert(position.clone());
        self.slots.push(Slot { task, state, position, undone: 0, open: 0, dependents: Vec::new() });
        for other in self.dependencies(number) {
            self.slots[other].dependents.push(number);
        }
        self.count_dependencies(number);
        let slot = &self.slots[number];
        self.index.insert(&slot.position, &slot.facts());
    }
}

/// The plan.
impl TaskTable {
    /// Returns the tasks of the plan, in plan order.
    pub fn planned(&self) -> impl Iterator<Item = &Task> {
        self.order.iter().map(|position| &self.slots[position.slot].task)
    }

    /// Returns a task of the plan.
    pub fn planned_task(&self, task: &TaskId) -> Option<&Task> {
        self.ids.get(task).map(|number| &self.slots[*number].task)
    }

    /// Returns the name of a task for people.
    pub fn label(&self, task: &TaskId) -> String {
        self.planned_task(task).map_or_else(|| task.to_string(), Task::label)
    }

    /// Returns a copy of the plan.
    pub fn plan(&self) -> Plan {
        Plan { tasks: self.planned().cloned().collect() }
    }

    /// Returns the tasks that a split of a task adds to the plan. Each part has the task's
    /// dependencies, and a share of its size.
    pub fn parts(&self, task: &TaskId, parts: &[(TaskId, Vec<String>)]) -> Vec<Task> {
        let Some(whole) = self.planned_task(task) else { return Vec::new() };
        let share =
            |n: u64, files: &[String]| n * files.len() as u64 / whole.files.len().max(1) as u64;
        let new = parts.iter().filter(|(id, _)| !self.ids.contains_key(id));
        let part = |(id, files): &(TaskId, Vec<String>)| Task {
            id: id.clone(),
            files: files.clone(),
            after: whole.after.clone(),
            lines: share(whole.lines, files),
            tokens: share(whole.tokens, files),
            level: whole.level,
            vars: whole.vars.clone(),
        };
        new.map(part).collect()
    }

    /// Returns the tasks that name a task as a dependency, in plan order.
    pub(super) fn dependents(&self, task: &TaskId) -> impl Iterator<Item = (&TaskId, &TaskState)> {
        let numbers = self.ids.get(task).map(|number| &self.slots[*number].dependents);
        let mut slots: Vec<&Slot> =
            numbers.into_iter().flatten().map(|n| &self.slots[*n]).collect();
        slots.sort_unstable_by_key(|slot| &slot.position);
        slots.into_iter().map(|slot| (&slot.task.id, &slot.state))
    }
}

/// The states.
impl TaskTable {
    /// Returns the number of tasks.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns true if there are no tasks.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns true if the task is in the plan.
    pub fn contains_key(&self, task: &TaskId) -> bool {
        self.ids.contains_key(task)
    }

    /// Returns the state of a task.
    pub fn get(&self, task: &TaskId) -> Option<&TaskState> {
        self.ids.get(task).map(|number| &self.slots[*number].state)
    }

    /// Returns the tasks and their states, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&TaskId, &TaskState)> + Clone {
        self.ids.iter().map(|(id, number)| (id, &self.slots[*number].state))
    }

    /// Returns the ids of the tasks, in order.
    pub fn keys(&self) -> impl Iterator<Item = &TaskId> {
        self.ids.keys()
    }

    /// Returns the states of the tasks, by id.
    pub fn values(&self) -> impl Iterator<Item = &TaskState> + Clone {
        self.iter().map(|(_, state)| state)
    }

    fn tasks_at<'a>(
        &'a self,
        positions: impl Iterator<Item = &'a PlanPosition>,
    ) -> impl Iterator<Item = (&'a TaskId, &'a TaskState)> {
        positions
            .map(|position| &self.slots[position.slot])
            .map(|slot| (&slot.task.id, &slot.state))
    }

    /// Returns the tasks in a phase, in plan order.
    pub fn in_phase(&self, phase: &Phase) -> impl Iterator<Item = (&TaskId, &TaskState)> {
        self.tasks_at(self.index.phase(phase).iter())
    }

    /// Returns the tasks in either of two phases, in plan order.
    pub fn in_either(
        &self,
        one: &Phase,
        other: &Phase,
    ) -> impl Iterator<Item = (&TaskId, &TaskState)> {
        self.tasks_at(self.index.phase(one).union(self.index.phase(other)))
    }

    /// Returns the number of tasks in a phase.
    pub fn count(&self, phase: &Phase) -> usize {
        self.index.phase(phase).len()
    }

    /// Returns the number of tasks that have ended.
    pub fn count_ended(&self) -> usize {
        Phase::ALL.iter().filter(|phase| phase.ended()).map(|phase| self.count(phase)).sum()
    }

    /// Returns the tasks that wait for no dependency, in no order. Tasks whose pause is not over
    /// are included. With `keep_going`, dependencies need only have ended.
    pub fn startable(&self, keep_going: bool) -> impl Iterator<Item = &TaskId> {
        self.tasks_at(self.index.startable(keep_going)).map(|(task, _)| task)
    }

    /// Returns the tasks that wait for an attempt and have a session to resume, in plan order.
    pub fn with_sessions(&self) -> impl Iterator<Item = (&TaskId, &TaskState)> {
        self.tasks_at(self.index.with_sessions().iter())
    }

    /// Returns true if a task landed as this commit.
    pub fn has_landed(&self, commit: &Oid) -> bool {
        self.index.has_landed(commit)
    }

    /// Returns the first chosen tasks to start, at most `limit`: in plan order, or, with
    /// `sessions_first`, those with a session before the others. `options` are `keep_going` and
    /// `sessions_first`.
    pub(super) fn next_starts(
        &self,
        options: (bool, bool),
        now: Timestamp,
        chosen: impl Fn(&TaskId) -> bool,
        limit: usize,
    ) -> impl Iterator<Item = (&TaskId, &TaskState)> {
        let due = |position: &PlanPosition| {
            let slot = &self.slots[position.slot];
            slot.state.not_before <= now && chosen(&slot.task.id)
        };
        self.tasks_at(self.index.next_starts(options, now, due, limit).into_iter())
    }

    /// Returns the first end of an open task's pause after `now`.
    pub(super) fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        self.index.next_wake(now)
    }

    /// Returns the spend of all attempts.
    pub(super) fn spend(&self) -> Spend {
        self.index.spend().total()
    }

    /// Returns the spend of all evaluators.
    pub(super) fn evaluation_spend(&self) -> Spend {
        self.index.evaluation_spend().total()
    }

    /// Returns the spend that all attempts and evaluators would have if `task` had this state.
    pub(super) fn spend_with(&self, task: &TaskId, state: &TaskState) -> Spend {
        let (mut attempts, mut evaluations) = (*self.index.spend(), *self.index.evaluation_spend());
        if let Some(before) = self.get(task) {
            attempts.subtract(&before.spend);
            evaluations.subtract(&before.evaluation.spend);
        }
        attempts.add(&state.spend);
        evaluations.add(&state.evaluation.spend);
        attempts.total().plus(evaluations.total())
    }

    /// Returns true if the checks of some task failed since its budgets were last reset.
    pub(super) fn any_rejected(&self) -> bool {
        self.index.rejected() > 0
    }

    /// Returns true if the service has answered a session of some task.
    pub(super) fn any_answered(&self) -> bool {
        self.index.answered() > 0
    }

    /// Returns true if the service has answered an evaluator of some task.
    pub(super) fn any_evaluator_answered(&self) -> bool {
        self.index.evaluator_answered() > 0
    }

    /// Returns true if the last attempt of some task was silent and ended in this way.
    pub(super) fn has_silent_ending(&self, ending: &str) -> bool {
        self.index.has_silent_ending(ending)
    }

    /// Returns the number of failed tasks with this cause.
    pub(super) fn failed_by(&self, cause: &str) -> usize {
        self.index.failed_by(cause)
    }
}

impl Index<&TaskId> for TaskTable {
    type Output = TaskState;

    fn index(&self, task: &TaskId) -> &TaskState {
        &self.slots[self.ids[task]].state
    }
}

#[cfg(test)]
mod tests;
