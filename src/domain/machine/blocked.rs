//! Tasks that wait for dependencies, and runs that cannot continue without a person.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::id::TaskId;
use crate::domain::retry::Policy;
use crate::domain::state::{Phase, RunState, TaskState};

/// Returns true if no task is under way and no chosen task can start: each chosen task has ended,
/// or waits for a dependency that will not land. Tasks that are not chosen never start.
pub fn at_rest(state: &RunState, policy: &Policy) -> bool {
    state.count(&Phase::Reviewing) == 0 && nothing_proceeds(state, policy)
}

/// Returns true if nothing but reviews is under way and no chosen task can start.
fn nothing_proceeds(state: &RunState, policy: &Policy) -> bool {
    // An evaluator reviews only the candidates of chosen tasks.
    let waits = |(task, s): (&TaskId, &TaskState)| {
        policy.evaluates && s.evaluation.waiting && !policy.chooses(task)
    };
    [Phase::Running, Phase::Queued].iter().all(|phase| state.count(phase) == 0)
        && state.tasks.in_phase(&Phase::Verifying).all(waits)
        && (canary_holds(state)
            || !state.tasks.startable(policy.keep_going).any(|task| policy.chooses(task)))
}

/// Returns true if the run cannot continue without a review: at least one task waits for a review,
/// and every other open task waits for a review or cannot start. Only chosen tasks can start, and
/// none can while the canary task waits for a review.
pub fn awaits_review(state: &RunState, policy: &Policy) -> bool {
    state.count(&Phase::Reviewing) > 0 && nothing_proceeds(state, policy)
}

/// Returns true if all other tasks wait for the canary task, which runs first after a halt on
/// failures.
pub fn canary_holds(state: &RunState) -> bool {
    let under_way = [Phase::Running, Phase::Verifying, Phase::Reviewing, Phase::Queued];
    canary_alone(state) && under_way.iter().any(|phase| state.count(phase) > 0)
}

/// Returns true if, after a halt on failures, one task has to land before the others start.
pub(super) fn canary_alone(state: &RunState) -> bool {
    state.canary && state.count(&Phase::Done) <= state.baseline.done as usize
}

/// Returns the tasks that cannot start, each with the failed or skipped task that it waits for,
/// directly or through other tasks.
pub fn blocked(state: &RunState) -> BTreeMap<TaskId, TaskId> {
    let mut blocked = BTreeMap::new();
    // A task that was split blocks nothing: its dependents wait for its parts.
    let causes = state.tasks.in_either(&Phase::Failed, &Phase::Skipped);
    let mut open: VecDeque<(&TaskId, &TaskId)> = causes.map(|(task, _)| (task, task)).collect();
    while let Some((task, cause)) = open.pop_front() {
        for (next, s) in state.tasks.dependents(task) {
            if s.phase == Phase::Todo && !blocked.contains_key(next) {
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
    !state.ended() && at_rest(state, &Policy::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::RunId;
    use crate::domain::plan::{Plan, Task};
    use crate::domain::state::TaskState;

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
            let task = TaskState { phase: phase.clone(), ..TaskState::default() };
            state.tasks.set(&id(name), task);
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
            at_rest(&run(tasks, phases), &policy)
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
        let policy = Policy { only: [id("b")].into(), ..Policy::default() };
        assert!(at_rest(&run(tasks, &[]), &policy), "the dependency of b is not chosen");
        assert!(!at_rest(&run(tasks, &[("a", Phase::Running)]), &policy));
    }
}
