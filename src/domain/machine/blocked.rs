//! Tasks that wait for dependencies, and runs that cannot continue without a person.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::id::TaskId;
use crate::domain::retry::Policy;
use crate::domain::state::{Phase, RunState};

/// Returns true if a task with the dependencies `after` may start: all dependencies are done or,
/// with `keep_going`, have at least ended.
pub(super) fn may_start(state: &RunState, policy: &Policy, after: &[TaskId]) -> bool {
    let ended = |t: &TaskId| state.tasks.get(t).is_some_and(|s| s.phase.ended());
    state.all_done(after) || (policy.keep_going && after.iter().all(ended))
}

/// Returns true if no task is under way and no chosen task can start: each has ended, or waits for
/// a dependency that will not land. Other tasks do not start.
pub fn at_rest(state: &RunState, policy: &Policy, chosen: &dyn Fn(&TaskId) -> bool) -> bool {
    state.plan.tasks.iter().all(|task| match state.tasks.get(&task.id).map(|s| &s.phase) {
        Some(Phase::Running | Phase::Verifying | Phase::Reviewing | Phase::Queued) => false,
        Some(Phase::Todo) => !chosen(&task.id) || !may_start(state, policy, &task.after),
        Some(Phase::Done | Phase::Failed | Phase::Skipped) | None => true,
    })
}

/// Returns true if the run cannot continue without a review: at least one task waits for a review,
/// and every other open task waits for a review or cannot start. Only chosen tasks can start.
pub fn awaits_review(state: &RunState, policy: &Policy, chosen: &dyn Fn(&TaskId) -> bool) -> bool {
    let reviewing = |t: &TaskId| state.tasks.get(t).is_some_and(|s| s.phase == Phase::Reviewing);
    state.plan.tasks.iter().any(|task| reviewing(&task.id))
        && state.plan.tasks.iter().all(|task| match state.tasks.get(&task.id).map(|s| &s.phase) {
            Some(Phase::Running | Phase::Verifying | Phase::Queued) => false,
            Some(Phase::Todo) => !chosen(&task.id) || !may_start(state, policy, &task.after),
            Some(Phase::Reviewing | Phase::Done | Phase::Failed | Phase::Skipped) | None => true,
        })
}

/// Returns the tasks that cannot start, each with the failed or skipped task that it waits for,
/// directly or through other tasks.
pub fn blocked(state: &RunState) -> BTreeMap<TaskId, TaskId> {
    if state.count(&Phase::Failed) + state.count(&Phase::Skipped) == 0 {
        return BTreeMap::new();
    }
    let phase = |t: &TaskId| state.tasks.get(t).map(|s| &s.phase);
    let failed = |t: &TaskId| matches!(phase(t), Some(Phase::Failed | Phase::Skipped));
    let mut blocked = BTreeMap::new();
    // A task that was split blocks nothing: its dependents wait for its parts.
    let mut open: VecDeque<(&TaskId, &TaskId)> =
        state.plan.tasks.iter().filter(|t| failed(&t.id)).map(|t| (&t.id, &t.id)).collect();
    let mut waiting: BTreeMap<&TaskId, Vec<&TaskId>> = BTreeMap::new();
    for task in state.plan.tasks.iter().filter(|t| phase(&t.id) == Some(&Phase::Todo)) {
        for before in &task.after {
            waiting.entry(before).or_default().push(&task.id);
        }
    }
    while let Some((task, cause)) = open.pop_front() {
        for next in waiting.remove(task).into_iter().flatten() {
            if !blocked.contains_key(next) {
                blocked.insert(next.clone(), cause.clone());
                open.push_back((next, cause));
            }
        }
    }
    blocked
}

/// Returns true if a run cannot continue although not every task has ended: the open tasks wait for
/// failed or skipped ones.
pub fn stalled(state: &RunState) -> bool {
    let policy = Policy { keep_going: false, ..Policy::default() };
    !state.ended() && at_rest(state, &policy, &|_| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::RunId;
    use crate::domain::plan::{Plan, Task};

    fn id(name: &str) -> TaskId {
        TaskId::parse(name).unwrap()
    }

    /// Builds a run from tasks and their dependencies, as in `a b>a c>a,b`.
    fn run(text: &str, phases: &[(&str, Phase)]) -> RunState {
        let task = |word: &str| {
            let (name, after) = word.split_once('>').unwrap_or((word, ""));
            let after = after.split(',').filter(|a| !a.is_empty()).map(id).collect();
            Task {
                id: id(name),
                files: vec!["f".into()],
                after,
                lines: 1,
                tokens: 1,
                level: 0,
                vars: String::new(),
            }
        };
        let plan = Plan { tasks: text.split(' ').map(task).collect() };
        let mut state = RunState::new(RunId::parse("r").unwrap(), plan);
        for (name, phase) in phases {
            state.tasks.get_mut(&id(name)).unwrap().phase = phase.clone();
        }
        state
    }

    fn blocked_text(state: &RunState) -> String {
        let each: Vec<_> = blocked(state).iter().map(|(t, by)| format!("{t}<{by}")).collect();
        each.join(" ")
    }

    #[test]
    fn failed_or_skipped_task_blocks_its_direct_and_indirect_dependents() {
        let tasks = "a b>a c>b d e>d,c";
        assert_eq!(blocked_text(&run(tasks, &[])), "");
        assert_eq!(blocked_text(&run(tasks, &[("a", Phase::Failed)])), "b<a c<a e<a");
        assert_eq!(blocked_text(&run(tasks, &[("d", Phase::Skipped)])), "e<d");
        let done = [("a", Phase::Failed), ("b", Phase::Done), ("c", Phase::Running)];
        assert_eq!(blocked_text(&run(tasks, &done)), "", "a running task is not blocked");
        // Dependencies against the plan's order, and a cycle, which no plan has.
        assert_eq!(blocked_text(&run("c>b b>a a", &[("a", Phase::Failed)])), "b<a c<a");
        assert_eq!(blocked_text(&run("x>y y>x,a a", &[("a", Phase::Failed)])), "x<a y<a");
    }

    #[test]
    fn run_is_at_rest_when_no_task_can_start() {
        let tasks = "a b>a c";
        let rest = |phases: &[(&str, Phase)], keep_going| {
            let policy = Policy { keep_going, ..Policy::default() };
            at_rest(&run(tasks, phases), &policy, &|_| true)
        };
        assert!(!rest(&[], false));
        assert!(!rest(&[("a", Phase::Failed)], false), "c can start");
        let failed = [("a", Phase::Failed), ("c", Phase::Done)];
        assert!(rest(&failed, false) && stalled(&run(tasks, &failed)));
        assert!(!rest(&failed, true), "b starts in spite of the failure");
        let running = [("a", Phase::Failed), ("c", Phase::Running)];
        assert!(!rest(&running, false));
        let over = [("a", Phase::Done), ("b", Phase::Failed), ("c", Phase::Skipped)];
        assert!(rest(&over, false) && !stalled(&run(tasks, &over)));
        let only_b = |t: &TaskId| *t == id("b");
        let policy = Policy::default();
        assert!(at_rest(&run(tasks, &[]), &policy, &only_b), "the dependency of b is not chosen");
        assert!(!at_rest(&run(tasks, &[("a", Phase::Running)]), &policy, &only_b));
    }
}
