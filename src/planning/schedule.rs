//! How long a plan takes, if one knew how long each task takes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::domain::id::TaskId;
use crate::domain::plan::{Plan, Task};

/// The time until the last task is done, when `jobs` of them are worked on at a time, each as soon as those that it waits
/// for are done, in the plan's order. `length` is the time of a task; the result is in its unit.
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

    /// `a=3 b>a=2`: tasks, what they wait for, and how long they take.
    fn takes(text: &str, jobs: usize) -> u64 {
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
    fn agents_work_side_by_side_and_wait_for_each_other() {
        assert_eq!((takes("", 2), takes("a=3", 2), takes("a=3 b=4 c=5", 1)), (0, 3, 12));
        assert_eq!((takes("a=3 b=4 c=5", 2), takes("a=3 b=4 c=5", 3)), (8, 5));
        // However many there are, what waits takes its time.
        assert_eq!(takes("a=3 b>a=2 c>b=4 d=1", 9), 9);
        assert_eq!(takes("a=3 b=9 c>a,b=1", 2), 10);
        assert_eq!(takes("a=1 b=2", 0), 3);
    }
}
