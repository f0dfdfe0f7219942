//! The time that a plan takes, given the time of each task.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::domain::id::TaskId;
use crate::domain::plan::{Plan, Task};

/// Returns the time until the last task is done. `length` returns the time that a task takes, in
/// the same unit.
///
/// At most `jobs` tasks run at a time. A task starts when its dependencies are done. Of the ready
/// tasks, the first in the plan starts first.
pub(crate) fn makespan(plan: &Plan, jobs: usize, length: &dyn Fn(&Task) -> u64) -> u64 {
    let number: BTreeMap<&TaskId, usize> =
        plan.tasks.iter().enumerate().map(|(n, t)| (&t.id, n)).collect();
    let mut waits: Vec<usize> = Vec::with_capacity(plan.tasks.len());
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); plan.tasks.len()];
    for (n, task) in plan.tasks.iter().enumerate() {
        let before: Vec<_> = task.after.iter().filter_map(|id| number.get(id)).collect();
        waits.push(before.len());
        before.into_iter().for_each(|b| next[*b].push(n));
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        waits.iter().enumerate().filter(|(_, w)| **w == 0).map(|(n, _)| Reverse(n)).collect();
    let mut running: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut now = 0;
    loop {
        while running.len() < jobs.max(1)
            && let Some(Reverse(n)) = ready.pop()
        {
            running.push(Reverse((now + length(&plan.tasks[n]), n)));
        }
        let Some(Reverse((end, n))) = running.pop() else { return now };
        now = end;
        for other in &next[n] {
            waits[*other] -= 1;
            if waits[*other] == 0 {
                ready.push(Reverse(*other));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the makespan of a plan such as `a=3 b>a=2`: tasks, their dependencies and their
    /// times.
    fn makespan_of(text: &str, jobs: usize) -> u64 {
        let task = |word: &str| {
            let (name, lines) = word.split_once('=').unwrap();
            let (name, after) = name.split_once('>').unwrap_or((name, ""));
            let id = |name: &str| TaskId::parse(name).unwrap();
            Task {
                id: id(name),
                files: vec!["f".into()],
                after: after.split(',').filter(|a| !a.is_empty()).map(id).collect(),
                lines: lines.parse().unwrap(),
                tokens: 0,
                level: 0,
                vars: String::new(),
            }
        };
        let plan = Plan { tasks: text.split_whitespace().map(task).collect() };
        makespan(&plan, jobs, &|task| task.lines)
    }

    #[test]
    fn makespan_depends_on_jobs_and_dependencies() {
        assert_eq!(
            (makespan_of("", 2), makespan_of("a=3", 2), makespan_of("a=3 b=4 c=5", 1)),
            (0, 3, 12)
        );
        assert_eq!((makespan_of("a=3 b=4 c=5", 2), makespan_of("a=3 b=4 c=5", 3)), (8, 5));
        // More jobs than tasks: the longest chain decides.
        assert_eq!(makespan_of("a=3 b>a=2 c>b=4 d=1", 9), 9);
        assert_eq!(makespan_of("a=3 b=9 c>a,b=1", 2), 10);
        assert_eq!(makespan_of("a=1 b=2", 0), 3);
    }
}
