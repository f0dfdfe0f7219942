//! Tasks that wait for others, and those that wait for what will not come by itself.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::id::TaskId;
use crate::domain::retry::Policy;
use crate::domain::state::{Phase, RunState};

/// Whether a task may begin as far as those are concerned that it waits for: all are on the target, or, for those who
/// want to try all the same, nothing more will come of them by itself.
pub(super) fn free(state: &RunState, policy: &Policy, after: &[TaskId]) -> bool {
    let given_up = |t: &TaskId| state.tasks.get(t).is_some_and(|s| s.phase.ended());
    state.unblocked(after) || (policy.keep_going && after.iter().all(given_up))
}

/// Whether nothing more will happen to these tasks by itself: each has ended, or waits for one that will not land.
pub fn at_rest(state: &RunState, policy: &Policy, chosen: &dyn Fn(&TaskId) -> bool) -> bool {
    state.plan.tasks.iter().all(|task| match state.tasks.get(&task.id).map(|s| &s.phase) {
        Some(Phase::Running | Phase::Verifying | Phase::Reviewing | Phase::Queued) => false,
        Some(Phase::Todo) => !chosen(&task.id) || !free(state, policy, &task.after),
        Some(Phase::Done | Phase::Failed | Phase::Skipped) | None => true,
    })
}

/// Whether nothing more will happen before a person has read something: what has not ended waits for that, or cannot begin.
pub fn awaits_review(state: &RunState, policy: &Policy, chosen: &dyn Fn(&TaskId) -> bool) -> bool {
    let reviewing = |t: &TaskId| state.tasks.get(t).is_some_and(|s| s.phase == Phase::Reviewing);
    state.plan.tasks.iter().any(|task| reviewing(&task.id))
        && state.plan.tasks.iter().all(|task| match state.tasks.get(&task.id).map(|s| &s.phase) {
            Some(Phase::Running | Phase::Verifying | Phase::Queued) => false,
            Some(Phase::Todo) => !chosen(&task.id) || !free(state, policy, &task.after),
            Some(Phase::Reviewing | Phase::Done | Phase::Failed | Phase::Skipped) | None => true,
        })
}

/// The tasks that cannot begin, each with the failed or skipped one that it waits for, be it through others.
pub fn blocked(state: &RunState) -> BTreeMap<TaskId, TaskId> {
    if state.count(&Phase::Failed) + state.count(&Phase::Skipped) == 0 {
        return BTreeMap::new();
    }
    let phase = |t: &TaskId| state.tasks.get(t).map(|s| &s.phase);
    let gave_up = |t: &TaskId| matches!(phase(t), Some(Phase::Failed | Phase::Skipped));
    let mut found = BTreeMap::new();
    // A task that was split waits for nobody any more, and nobody for it.
    let mut open: VecDeque<(&TaskId, &TaskId)> =
        state.plan.tasks.iter().filter(|t| gave_up(&t.id)).map(|t| (&t.id, &t.id)).collect();
    let mut waiting: BTreeMap<&TaskId, Vec<&TaskId>> = BTreeMap::new();
    for task in state.plan.tasks.iter().filter(|t| phase(&t.id) == Some(&Phase::Todo)) {
        for before in &task.after {
            waiting.entry(before).or_default().push(&task.id);
        }
    }
    while let Some((task, cause)) = open.pop_front() {
        for next in waiting.remove(task).into_iter().flatten() {
            if !found.contains_key(next) {
                found.insert(next.clone(), cause.clone());
                open.push_back((next, cause));
            }
        }
    }
    found
}

/// Whether a run has come to rest although not every task has ended: those that are left wait for failed or skipped
/// ones.
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

    /// `a b>a c>a,b`: tasks, and what each waits for.
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

    fn shown(state: &RunState) -> String {
        let each: Vec<_> = blocked(state).iter().map(|(t, by)| format!("{t}<{by}")).collect();
        each.join(" ")
    }

    #[test]
    fn a_failure_blocks_what_waits_for_it_through_others_too() {
        let tasks = "a b>a c>b d e>d,c";
        assert_eq!(shown(&run(tasks, &[])), "");
        assert_eq!(shown(&run(tasks, &[("a", Phase::Failed)])), "b<a c<a e<a");
        assert_eq!(shown(&run(tasks, &[("d", Phase::Skipped)])), "e<d");
        let done = [("a", Phase::Failed), ("b", Phase::Done), ("c", Phase::Running)];
        assert_eq!(shown(&run(tasks, &done)), "", "what has begun is not blocked");
        // Against the order of the plan, and in a circle, which no plan has.
        assert_eq!(shown(&run("c>b b>a a", &[("a", Phase::Failed)])), "b<a c<a");
        assert_eq!(shown(&run("x>y y>x,a a", &[("a", Phase::Failed)])), "x<a y<a");
    }

    #[test]
    fn a_run_is_at_rest_when_nothing_can_begin() {
        let tasks = "a b>a c";
        let rest = |phases: &[(&str, Phase)], keep_going| {
            let policy = Policy { keep_going, ..Policy::default() };
            at_rest(&run(tasks, phases), &policy, &|_| true)
        };
        assert!(!rest(&[], false));
        assert!(!rest(&[("a", Phase::Failed)], false), "c can begin");
        let failed = [("a", Phase::Failed), ("c", Phase::Done)];
        assert!(rest(&failed, false) && stalled(&run(tasks, &failed)));
        assert!(!rest(&failed, true), "b is tried all the same");
        let running = [("a", Phase::Failed), ("c", Phase::Running)];
        assert!(!rest(&running, false));
        let over = [("a", Phase::Done), ("b", Phase::Failed), ("c", Phase::Skipped)];
        assert!(rest(&over, false) && !stalled(&run(tasks, &over)));
        let only_b = |t: &TaskId| *t == id("b");
        let policy = Policy::default();
        assert!(at_rest(&run(tasks, &[]), &policy, &only_b), "nobody begins what it waits for");
        assert!(!at_rest(&run(tasks, &[("a", Phase::Running)]), &policy, &only_b));
    }
}
