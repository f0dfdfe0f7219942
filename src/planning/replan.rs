//! Replanning: merges a new plan with the tasks of a run.
//!
//! Finished tasks stay finished: the new plan does not contain their files. Any other task keeps
//! its history if it is unchanged. New tasks are added. A task that is not in the new plan stays in
//! the run's plan as removed, so that a later plan can restore it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::domain::id::TaskId;
use crate::domain::plan::{Plan, Task};

/// The status of a run's task, as far as replanning distinguishes statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PriorStatus {
    /// The task is done.
    Done,
    /// The task is waiting, under way or failed.
    Open,
    /// An earlier replan removed the task.
    Removed,
    /// A person skipped the task, or the task was split into parts.
    Skipped,
}

/// A task of the run.
#[derive(Debug, Clone)]
pub(crate) struct PriorTask<'a> {
    /// The task.
    pub task: &'a Task,
    /// The status of the task.
    pub status: PriorStatus,
    /// True if the new base has a change of the task's files that is not the task's own.
    pub stale: bool,
    /// The parts into which the task was split.
    pub parts: &'a [TaskId],
}

/// The plan of a run after replanning, and the changes to the tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MergedPlan {
    /// All tasks: the tasks of the new plan, finished tasks, and removed tasks.
    pub plan: Plan,
    /// Finished tasks that stay finished.
    pub done: Vec<TaskId>,
    /// Tasks that stay as they are.
    pub unchanged: Vec<TaskId>,
    /// Tasks that start again because their list of files changed or because they are stale.
    pub updated: Vec<TaskId>,
    /// Tasks that are new in the run.
    pub added: Vec<TaskId>,
    /// Tasks that an earlier replan removed and that are in the plan again.
    pub restored: Vec<TaskId>,
    /// Tasks that are not in the plan any more.
    pub removed: Vec<TaskId>,
}

impl MergedPlan {
    /// Returns true if replanning changes no task.
    pub(crate) fn is_unchanged(&self) -> bool {
        [&self.updated, &self.added, &self.restored, &self.removed]
            .iter()
            .all(|list| list.is_empty())
    }
}

/// Merges a new plan with the tasks of a run, which are in the run's order.
///
/// `fresh` is the plan of all files whose tasks are not done. `whole` is the plan of all files and
/// gives the order of the merged tasks.
pub(crate) fn merge_plans(
    prior_tasks: &[PriorTask<'_>],
    fresh: Plan,
    whole: &Plan,
) -> Result<MergedPlan> {
    let by_id: BTreeMap<&TaskId, &PriorTask> =
        prior_tasks.iter().map(|prior| (&prior.task.id, prior)).collect();
    let mut merged = MergedPlan::default();
    let mut used_ids: BTreeSet<TaskId> = by_id.keys().map(|id| (*id).clone()).collect();
    used_ids.extend(fresh.tasks.iter().map(|t| t.id.clone()));
    // For an id of the new plan, the ids that replace the id in the `after` of other tasks.
    let mut replacements: BTreeMap<TaskId, Vec<TaskId>> = BTreeMap::new();
    let mut planned: BTreeSet<TaskId> = BTreeSet::new();
    let mut tasks: Vec<Task> = Vec::new();
    for mut task in fresh.tasks {
        let Some(prior) = by_id.get(&task.id) else {
            merged.added.push(task.id.clone());
            planned.insert(task.id.clone());
            tasks.push(task);
            continue;
        };
        let is_same = prior.task.files == task.files && !prior.stale;
        let was_split = !prior.parts.is_empty();
        let needs_new_id = match prior.status {
            PriorStatus::Skipped if is_same && was_split => {
                let parts = final_parts(&by_id, prior.parts);
                let ids = parts.iter().map(|part| part.task.id.clone()).collect();
                replacements.insert(task.id.clone(), ids);
                for part in parts {
                    merged.unchanged.push(part.task.id.clone());
                    planned.insert(part.task.id.clone());
                    tasks.push(part.task.clone());
                }
                continue;
            }
            // The id already names the finished work or the split task.
            PriorStatus::Done => !prior.stale,
            PriorStatus::Skipped => was_split,
            PriorStatus::Open | PriorStatus::Removed => false,
        };
        if needs_new_id {
            let id = unused_id(&task.id, &mut used_ids)?;
            replacements.insert(task.id, vec![id.clone()]);
            task.id = id;
            merged.added.push(task.id.clone());
        } else {
            let list = match prior.status {
                PriorStatus::Removed => &mut merged.restored,
                // Planning does not overrule the person who skipped the task.
                PriorStatus::Skipped => &mut merged.unchanged,
                PriorStatus::Open if is_same => &mut merged.unchanged,
                PriorStatus::Open | PriorStatus::Done => &mut merged.updated,
            };
            list.push(task.id.clone());
        }
        planned.insert(task.id.clone());
        tasks.push(task);
    }
    for task in &mut tasks {
        let after = task
            .after
            .iter()
            .flat_map(|id| replacements.get(id).cloned().unwrap_or_else(|| vec![id.clone()]));
        task.after = after.collect();
        task.after.sort_unstable();
    }
    for prior in prior_tasks.iter().filter(|prior| !planned.contains(&prior.task.id)) {
        let id = prior.task.id.clone();
        match prior.status {
            PriorStatus::Done => merged.done.push(id),
            PriorStatus::Open => merged.removed.push(id),
            PriorStatus::Removed | PriorStatus::Skipped => {}
        }
        tasks.push(prior.task.clone());
    }
    sort_by_plan(&mut tasks, whole);
    merged.plan = Plan { tasks };
    Ok(merged)
}

/// Returns the parts of a split task. A part that was split in turn is replaced by its own parts.
fn final_parts<'a>(
    by_id: &BTreeMap<&TaskId, &'a PriorTask<'a>>,
    parts: &[TaskId],
) -> Vec<&'a PriorTask<'a>> {
    let parts = parts.iter().filter_map(|id| by_id.get(id).copied());
    parts
        .flat_map(
            |part| {
                if part.parts.is_empty() { vec![part] } else { final_parts(by_id, part.parts) }
            },
        )
        .collect()
}

/// Returns an id that no task has, made from `id`, and marks it as used.
fn unused_id(id: &TaskId, used_ids: &mut BTreeSet<TaskId>) -> Result<TaskId> {
    let mut number = 2;
    loop {
        let new = TaskId::parse(&format!("{id}_part_{number}"))?;
        if used_ids.insert(new.clone()) {
            return Ok(new);
        }
        number += 1;
    }
}

/// Sorts tasks by the position of their first files in the whole plan. Tasks without such a file
/// keep their order and come last.
fn sort_by_plan(tasks: &mut [Task], whole: &Plan) {
    let mut positions: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, path) in whole.tasks.iter().flat_map(|t| &t.files).enumerate() {
        positions.insert(path, number);
    }
    tasks.sort_by_key(|task| {
        let position = task.files.iter().find_map(|path| positions.get(path.as_str()).copied());
        position.unwrap_or(usize::MAX)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> TaskId {
        TaskId::parse(name).unwrap()
    }

    /// Parses a plan such as `a=x,y b>a=z`: tasks, their dependencies and their files.
    fn plan(text: &str) -> Plan {
        let task = |word: &str| {
            let (name, files) = word.split_once('=').unwrap();
            let (name, after) = name.split_once('>').unwrap_or((name, ""));
            Task {
                id: id(name),
                files: files.split(',').map(str::to_owned).collect(),
                after: after.split(',').filter(|a| !a.is_empty()).map(id).collect(),
                lines: 1,
                tokens: 1,
                level: 0,
                vars: String::new(),
            }
        };
        Plan { tasks: text.split_whitespace().map(task).collect() }
    }

    /// Merges plans and returns the result as text. `states` has a letter for each task of the run:
    /// done, open, removed (`l`), skipped. A capital letter stands for a stale task.
    fn merge(old: &str, states: &str, fresh: &str, whole: &str) -> String {
        let old = plan(old);
        let prior_tasks: Vec<_> = old
            .tasks
            .iter()
            .zip(states.chars())
            .map(|(task, state)| PriorTask {
                task,
                status: match state.to_ascii_lowercase() {
                    'd' => PriorStatus::Done,
                    'o' => PriorStatus::Open,
                    'l' => PriorStatus::Removed,
                    _ => PriorStatus::Skipped,
                },
                stale: state.is_ascii_uppercase(),
                parts: &[],
            })
            .collect();
        describe(&merge_plans(&prior_tasks, plan(fresh), &plan(whole)).unwrap())
    }

    fn describe(merged: &MergedPlan) -> String {
        let list = |word: &str, ids: &[TaskId]| {
            let names: Vec<_> = ids.iter().map(TaskId::as_str).collect();
            if ids.is_empty() { String::new() } else { format!("{word} {}; ", names.join(",")) }
        };
        let ids: Vec<_> = merged.plan.tasks.iter().map(|t| t.id.as_str()).collect();
        format!(
            "{}{}{}{}{}{}{}",
            list("done", &merged.done),
            list("unchanged", &merged.unchanged),
            list("updated", &merged.updated),
            list("added", &merged.added),
            list("restored", &merged.restored),
            list("removed", &merged.removed),
            ids.join(" ")
        )
    }

    #[test]
    fn done_tasks_stay_and_other_tasks_are_classified() {
        let whole = "a=a b=b c=c d=d";
        assert_eq!(merge("b=b", "d", "a=a c=c d=d", whole), "done b; added a,c,d; a b c d");
        assert_eq!(merge("a=a b=b", "do", "b=b", whole), "done a; unchanged b; a b");
        assert_eq!(merge("a=a b=b", "Do", "a=a b=b", whole), "unchanged b; updated a; a b");
        // Removed, restored, skipped, and with other files.
        assert_eq!(merge("a=a b=b", "oo", "a=a", "a=a"), "unchanged a; removed b; a b");
        assert_eq!(merge("a=a b=b", "ol", "a=a b=b", whole), "unchanged a; restored b; a b");
        assert_eq!(merge("a=a b=b", "lo", "b=b", "b=b"), "unchanged b; b a");
        assert_eq!(merge("a=a", "s", "a=a", whole), "unchanged a; a");
        assert_eq!(merge("a=a b=b", "oO", "a=a,c b=b", whole), "updated a,b; a b");
    }

    #[test]
    fn id_of_a_done_task_is_not_used_again() {
        let text = merge("src=src/a,src/b", "d", "src=src/c", "src=src/a,src/b,src/c");
        assert_eq!(text, "done src; added src_part_2; src src_part_2");
        let old = plan("src=a");
        let prior_tasks = [PriorTask {
            task: &old.tasks[0],
            status: PriorStatus::Done,
            stale: false,
            parts: &[],
        }];
        let fresh = plan("src=b top>src=c");
        let merged = merge_plans(&prior_tasks, fresh, &plan("src=a,b top>src=c")).unwrap();
        assert_eq!(merged.plan.tasks[2].after, [id("src_part_2")]);
    }

    #[test]
    fn parts_replace_a_split_task() {
        let old = plan("src=a,b,c src_part_1=a,b src_part_2=c top>src_part_1,src_part_2=d");
        let parts = [id("src_part_1"), id("src_part_2")];
        let prior = |status, n: usize, parts| PriorTask {
            task: &old.tasks[n],
            status,
            stale: false,
            parts,
        };
        let prior_tasks = [
            prior(PriorStatus::Skipped, 0, &parts[..]),
            prior(PriorStatus::Open, 1, &[]),
            prior(PriorStatus::Open, 2, &[]),
            prior(PriorStatus::Open, 3, &[]),
        ];
        let fresh = plan("src=a,b,c top>src=d");
        let merged = merge_plans(&prior_tasks, fresh.clone(), &fresh).unwrap();
        assert_eq!(
            describe(&merged),
            "unchanged src_part_1,src_part_2,top; src_part_1 src src_part_2 top"
        );
        let top = merged.plan.tasks.iter().find(|t| t.id == id("top")).unwrap();
        assert_eq!(top.after, parts);
    }
}
