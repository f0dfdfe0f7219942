//! The split of a task that exceeds the model's context window.

use super::decider::Decider;
use crate::domain::event::{RunEventKind, TaskEventKind};
use crate::domain::id::TaskId;
use crate::domain::session::Class;

fn split_message(parts: &[TaskId]) -> String {
    let names: Vec<_> = parts.iter().map(TaskId::as_str).collect();
    format!("split into {}: the task exceeds the model's context window", names.join(" and "))
}

impl Decider<'_> {
    /// Replaces a task that exceeds the context window with two halves. Fails a task that cannot be
    /// split.
    pub(super) fn split_or_fail(&mut self, task: &TaskId, detail: &str) {
        let planned = self.state.tasks.planned_task(task);
        let files = planned.map(|t| t.files.clone()).unwrap_or_default();
        let parts = self.part_names(task).filter(|_| files.len() > 1);
        let Some((first, second)) = parts else {
            let reason = format!(
                "the task exceeds the model's context window and cannot be split further ({} in {}): {detail}",
                if files.len() == 1 { "one file" } else { "its files" },
                files.join(", "),
            );
            self.fail_task(task, reason, Class::ContextExceeded.to_string());
            return;
        };
        let (left, right) = files.split_at(files.len().div_ceil(2));
        let message = split_message(&[first.clone(), second.clone()]);
        let parts = vec![(first, left.to_vec()), (second, right.to_vec())];
        self.emit_run(RunEventKind::Split { task: task.clone(), parts });
        self.emit_task(task, TaskEventKind::Skipped { message });
    }

    pub(super) fn was_split(&self, task: &TaskId) -> bool {
        self.state.split.contains_key(task)
    }

    /// Skips a task whose split is already on the run's chain.
    pub(super) fn skip_split(&mut self, task: &TaskId) {
        let parts = self.state.split.get(task).cloned().unwrap_or_default();
        self.emit_task(task, TaskEventKind::Skipped { message: split_message(&parts) });
    }

    /// Returns two unused names for the halves of a task.
    fn part_names(&self, task: &TaskId) -> Option<(TaskId, TaskId)> {
        let name = |n: usize| TaskId::parse(&format!("{task}_part_{n}")).ok();
        let free = (1..).map_while(name).filter(|id| !self.state.tasks.contains_key(id));
        let mut free = free.take(2);
        Some((free.next()?, free.next()?))
    }
}
