//! A plan as a graph of tasks: levels, the critical path, and a drawing for Graphviz.

use std::collections::HashMap;

use crate::domain::id::TaskId;
use crate::domain::plan::{Plan, Task};

/// The levels and the critical path of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PlanStats {
    /// The number of tasks on each level.
    pub levels: Vec<usize>,
    /// The longest chain of tasks in which each task waits for the previous one. Of chains with the
    /// same length, the chain with the most tokens.
    pub critical_path: Vec<TaskId>,
    /// The tokens of the tasks on the critical path.
    pub critical_tokens: u64,
}

impl PlanStats {
    /// Computes the levels and the critical path of a plan.
    pub(crate) fn of(plan: &Plan) -> Self {
        let mut levels = Vec::new();
        for task in &plan.tasks {
            let level = task.level as usize;
            if levels.len() <= level {
                levels.resize(level + 1, 0);
            }
            levels[level] += 1;
        }
        let numbers: HashMap<&TaskId, usize> =
            plan.tasks.iter().enumerate().map(|(n, t)| (&t.id, n)).collect();
        // By rising level, so that the dependencies of a task come before the task.
        let mut order: Vec<usize> = (0..plan.tasks.len()).collect();
        order.sort_by_key(|n| plan.tasks[*n].level);
        let mut longest: Vec<(usize, u64, Option<usize>)> = vec![(0, 0, None); plan.tasks.len()];
        for number in order {
            let task: &Task = &plan.tasks[number];
            let before = task.after.iter().filter_map(|id| numbers.get(id).copied());
            let best = before.max_by_key(|n| (longest[*n].0, longest[*n].1, std::cmp::Reverse(*n)));
            let (length, tokens) = best.map_or((0, 0), |n| (longest[n].0, longest[n].1));
            longest[number] = (length + 1, tokens + task.tokens, best);
        }
        let ends = 0..plan.tasks.len();
        let end = ends.max_by_key(|n| (longest[*n].0, longest[*n].1, std::cmp::Reverse(*n)));
        let critical_tokens = end.map_or(0, |n| longest[n].1);
        let mut critical_path = Vec::new();
        let mut at = end;
        while let Some(number) = at {
            critical_path.push(plan.tasks[number].id.clone());
            at = longest[number].2;
        }
        critical_path.reverse();
        Self { levels, critical_path, critical_tokens }
    }

    /// Returns the level with the most tasks, and the number of its tasks.
    pub(crate) fn widest(&self) -> Option<(usize, usize)> {
        let levels = self.levels.iter().copied().enumerate();
        levels.max_by_key(|(level, tasks)| (*tasks, std::cmp::Reverse(*level)))
    }
}

/// Returns the plan in the language of Graphviz. An arrow leads from a task to each task that it
/// waits for.
pub(crate) fn dot(plan: &Plan) -> String {
    let mut text = "digraph plan {\n  rankdir = LR;\n  node [shape = box];\n".to_owned();
    for task in &plan.tasks {
        let number =
            |count: u64, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        let (files, lines) = (number(task.files.len() as u64, "file"), number(task.lines, "line"));
        // A task id has no character that needs an escape.
        text.push_str(&format!("  \"{0}\" [label = \"{0}\\n{files}, {lines}\"];\n", task.id));
    }
    for task in &plan.tasks {
        for before in &task.after {
            text.push_str(&format!("  \"{}\" -> \"{before}\";\n", task.id));
        }
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(tasks: &[(&str, &[&str], u32, u64)]) -> Plan {
        let id = |id: &str| TaskId::parse(id).unwrap();
        let task = |&(name, after, level, tokens): &(&str, &[&str], u32, u64)| Task {
            id: id(name),
            files: vec![format!("{name}.js")],
            after: after.iter().map(|a| id(a)).collect(),
            lines: 1,
            tokens,
            level,
            vars: String::new(),
        };
        Plan { tasks: tasks.iter().map(task).collect() }
    }

    #[test]
    fn critical_path_is_the_longest_chain() {
        let plan = plan(&[
            ("a", &[], 0, 5),
            ("b", &[], 0, 90),
            ("c", &[], 0, 900),
            ("d", &["a", "b"], 1, 1),
            ("e", &["d"], 2, 1),
        ]);
        let stats = PlanStats::of(&plan);
        assert_eq!(stats.levels, [3, 1, 1]);
        assert_eq!(stats.widest(), Some((0, 3)));
        let names: Vec<_> = stats.critical_path.iter().map(TaskId::as_str).collect();
        assert_eq!((names, stats.critical_tokens), (vec!["b", "d", "e"], 92));
        assert_eq!(PlanStats::of(&Plan::default()).widest(), None);
    }

    #[test]
    fn dot_has_every_task_and_every_dependency() {
        let text = dot(&plan(&[("a", &[], 0, 1), ("b", &["a"], 1, 1)]));
        assert!(text.contains("\"a\" [label = \"a\\n1 file, 1 line\"];"), "{text}");
        assert!(text.contains("  \"b\" -> \"a\";\n"), "{text}");
    }
}
