//! Planning again: a new plan put together with what a run has done already.
//!
//! What is done stays done, whoever planned it: its files are not in the new plan at all. Of the rest, a task that is the
//! same keeps its history, one that is new is added, and one that nobody wants any more stays in the plan as one that
//! was left out, so that it can come back.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::domain::id::TaskId;
use crate::domain::plan::{Plan, Task};

/// How a task of the run stands, as far as this is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PriorStatus {
    /// It is done.
    Done,
    /// It is to be done, or under way, or has failed.
    Open,
    /// It had left the plan.
    Removed,
    /// It was skipped for another reason, or replaced by parts of it.
    Skipped,
}

/// A task of the run.
#[derive(Debug, Clone)]
pub(crate) struct PriorTask<'a> {
    /// The task.
    pub task: &'a Task,
    /// How it stands.
    pub standing: PriorStatus,
    /// Whether its files are others than they were, for whoever plans now.
    pub stale: bool,
    /// What has replaced it.
    pub parts: &'a [TaskId],
}

/// What becomes of a run's tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MergedPlan {
    /// All tasks: those of the new plan, those that are done, and those that were left out.
    pub plan: Plan,
    /// Done, and not done again.
    pub done: Vec<TaskId>,
    /// As they were.
    pub unchanged: Vec<TaskId>,
    /// With other files than before, or files with another content: begun anew.
    pub updated: Vec<TaskId>,
    /// Not there before.
    pub added: Vec<TaskId>,
    /// Left out before, wanted again.
    pub restored: Vec<TaskId>,
    /// Not wanted any more.
    pub removed: Vec<TaskId>,
}

impl MergedPlan {
    /// Whether the run is as it was.
    pub(crate) fn is_unchanged(&self) -> bool {
        [&self.updated, &self.added, &self.restored, &self.removed]
            .iter()
            .all(|list| list.is_empty())
    }
}

/// Puts a new plan together with a run's tasks, which are in the run's order. `fresh` is the plan of the files that no
/// task has done, `whole` the plan of all files, which says in which order people and programs see the tasks.
pub(crate) fn merge_plans(
    known: &[PriorTask<'_>],
    fresh: Plan,
    whole: &Plan,
) -> Result<MergedPlan> {
    let of: BTreeMap<&TaskId, &PriorTask> = known.iter().map(|k| (&k.task.id, k)).collect();
    let mut result = MergedPlan::default();
    let mut taken: BTreeSet<TaskId> = of.keys().map(|id| (*id).clone()).collect();
    taken.extend(fresh.tasks.iter().map(|t| t.id.clone()));
    let mut renamed: BTreeMap<TaskId, Vec<TaskId>> = BTreeMap::new();
    let mut wanted: BTreeSet<TaskId> = BTreeSet::new();
    let mut tasks: Vec<Task> = Vec::new();
    for mut task in fresh.tasks {
        let Some(old) = of.get(&task.id) else {
            result.added.push(task.id.clone());
            wanted.insert(task.id.clone());
            tasks.push(task);
            continue;
        };
        let alike = old.task.files == task.files && !old.stale;
        match old.standing {
            // What replaced it is what is wanted.
            PriorStatus::Skipped if alike && !old.parts.is_empty() => {
                let parts = all_parts(&of, old.parts);
                renamed.insert(task.id.clone(), parts.iter().map(|p| p.task.id.clone()).collect());
                for part in parts {
                    result.unchanged.push(part.task.id.clone());
                    wanted.insert(part.task.id.clone());
                    tasks.push(part.task.clone());
                }
                continue;
            }
            // The name stands for what was done, or for what was replaced.
            PriorStatus::Done if !old.stale => rename(&mut task, &mut taken, &mut renamed)?,
            PriorStatus::Skipped if !old.parts.is_empty() => {
                rename(&mut task, &mut taken, &mut renamed)?;
            }
            PriorStatus::Done | PriorStatus::Open | PriorStatus::Removed | PriorStatus::Skipped => {
            }
        }
        let id = task.id.clone();
        match old.standing {
            _ if id != old.task.id => result.added.push(id.clone()),
            PriorStatus::Removed => result.restored.push(id.clone()),
            // A person's word stands.
            PriorStatus::Skipped => result.unchanged.push(id.clone()),
            PriorStatus::Open if alike => result.unchanged.push(id.clone()),
            PriorStatus::Open | PriorStatus::Done => result.updated.push(id.clone()),
        }
        wanted.insert(id);
        tasks.push(task);
    }
    for task in &mut tasks {
        let after = task
            .after
            .iter()
            .flat_map(|id| renamed.get(id).cloned().unwrap_or_else(|| vec![id.clone()]));
        task.after = after.collect();
        task.after.sort_unstable();
    }
    for old in known.iter().filter(|k| !wanted.contains(&k.task.id)) {
        let id = old.task.id.clone();
        match old.standing {
            PriorStatus::Done => result.done.push(id),
            PriorStatus::Open => result.removed.push(id),
            PriorStatus::Removed | PriorStatus::Skipped => {}
        }
        tasks.push(old.task.clone());
    }
    in_order(&mut tasks, whole);
    result.plan = Plan { tasks };
    Ok(result)
}

/// What a task was replaced by, down to those that were not replaced themselves.
fn all_parts<'a>(
    of: &BTreeMap<&TaskId, &'a PriorTask<'a>>,
    parts: &[TaskId],
) -> Vec<&'a PriorTask<'a>> {
    let known = parts.iter().filter_map(|id| of.get(id).copied());
    known
        .flat_map(|part| if part.parts.is_empty() { vec![part] } else { all_parts(of, part.parts) })
        .collect()
}

/// Gives a task a name that nothing has.
fn rename(
    task: &mut Task,
    taken: &mut BTreeSet<TaskId>,
    renamed: &mut BTreeMap<TaskId, Vec<TaskId>>,
) -> Result<()> {
    let old = task.id.clone();
    let mut number = 2;
    loop {
        let id = TaskId::parse(&format!("{old}_part_{number}"))?;
        if taken.insert(id.clone()) {
            task.id = id.clone();
            renamed.insert(old, vec![id]);
            return Ok(());
        }
        number += 1;
    }
}

/// By the place of their first files in the whole plan; what has no place there comes last, as it was.
fn in_order(tasks: &mut [Task], whole: &Plan) {
    let mut place: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, path) in whole.tasks.iter().flat_map(|t| &t.files).enumerate() {
        place.insert(path, number);
    }
    tasks.sort_by_key(|task| {
        task.files.iter().find_map(|path| place.get(path.as_str()).copied()).unwrap_or(usize::MAX)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> TaskId {
        TaskId::parse(name).unwrap()
    }

    /// `a=x,y b>a=z`: tasks, what they wait for, and their files.
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

    /// The result in one line; `states` has a letter a task: done, open, left out, set aside; large where it is stale.
    fn told(old: &str, states: &str, fresh: &str, whole: &str) -> String {
        let old = plan(old);
        let known: Vec<_> = old
            .tasks
            .iter()
            .zip(states.chars())
            .map(|(task, state)| PriorTask {
                task,
                standing: match state.to_ascii_lowercase() {
                    'd' => PriorStatus::Done,
                    'o' => PriorStatus::Open,
                    'l' => PriorStatus::Removed,
                    _ => PriorStatus::Skipped,
                },
                stale: state.is_ascii_uppercase(),
                parts: &[],
            })
            .collect();
        tell(&merge_plans(&known, plan(fresh), &plan(whole)).unwrap())
    }

    fn tell(again: &MergedPlan) -> String {
        let list = |word: &str, ids: &[TaskId]| {
            let names: Vec<_> = ids.iter().map(TaskId::as_str).collect();
            if ids.is_empty() { String::new() } else { format!("{word} {}; ", names.join(",")) }
        };
        let all: Vec<_> = again.plan.tasks.iter().map(|t| t.id.as_str()).collect();
        format!(
            "{}{}{}{}{}{}{}",
            list("kept", &again.done),
            list("same", &again.unchanged),
            list("updated", &again.updated),
            list("new", &again.added),
            list("back", &again.restored),
            list("left", &again.removed),
            all.join(" ")
        )
    }

    #[test]
    fn what_is_done_stays_and_the_rest_is_put_in_its_place() {
        let whole = "a=a b=b c=c d=d";
        assert_eq!(told("b=b", "d", "a=a c=c d=d", whole), "kept b; new a,c,d; a b c d");
        assert_eq!(told("a=a b=b", "do", "b=b", whole), "kept a; same b; a b");
        assert_eq!(told("a=a b=b", "Do", "a=a b=b", whole), "same b; updated a; a b");
        // What left, came back, was set aside, and has other files.
        assert_eq!(told("a=a b=b", "oo", "a=a", "a=a"), "same a; left b; a b");
        assert_eq!(told("a=a b=b", "ol", "a=a b=b", whole), "same a; back b; a b");
        assert_eq!(told("a=a b=b", "lo", "b=b", "b=b"), "same b; b a");
        assert_eq!(told("a=a", "s", "a=a", whole), "same a; a");
        assert_eq!(told("a=a b=b", "oO", "a=a,c b=b", whole), "updated a,b; a b");
    }

    #[test]
    fn a_name_that_stands_for_what_was_done_is_not_used_again() {
        let told = told("src=src/a,src/b", "d", "src=src/c", "src=src/a,src/b,src/c");
        assert_eq!(told, "kept src; new src_part_2; src src_part_2");
        let known = plan("src=a");
        let known = [PriorTask {
            task: &known.tasks[0],
            standing: PriorStatus::Done,
            stale: false,
            parts: &[],
        }];
        let fresh = plan("src=b top>src=c");
        let merged = merge_plans(&known, fresh, &plan("src=a,b top>src=c")).unwrap();
        assert_eq!(merged.plan.tasks[2].after, [id("src_part_2")]);
    }

    #[test]
    fn parts_stand_for_what_they_replaced() {
        let old = plan("src=a,b,c src_part_1=a,b src_part_2=c top>src_part_1,src_part_2=d");
        let parts = [id("src_part_1"), id("src_part_2")];
        let known = |standing, n: usize, parts| PriorTask {
            task: &old.tasks[n],
            standing,
            stale: false,
            parts,
        };
        let all = [
            known(PriorStatus::Skipped, 0, &parts[..]),
            known(PriorStatus::Open, 1, &[]),
            known(PriorStatus::Open, 2, &[]),
            known(PriorStatus::Open, 3, &[]),
        ];
        let fresh = plan("src=a,b,c top>src=d");
        let merged = merge_plans(&all, fresh.clone(), &fresh).unwrap();
        assert_eq!(tell(&merged), "same src_part_1,src_part_2,top; src_part_1 src src_part_2 top");
        let top = merged.plan.tasks.iter().find(|t| t.id == id("top")).unwrap();
        assert_eq!(top.after, parts);
    }
}
